"""Batch prediction as one task and in many workers."""

import pyarrow.parquet as pq
import pytest

from bundles import fit, rows
from mlsys import errors, registry
from mlsys.deploy import batch
from mlsys.predict import Predictor


@pytest.fixture(scope="module")
def model(store):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        fitted = fit(store, seed=3)
        registry.set_alias(store, "batch", "champion", registry.register(store, "batch", fitted), "test")
    return fitted


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        pq.write_table(rows(200, seed=50 + number).drop_columns(["y"]), folder / f"{number}.parquet")
    return folder


@pytest.mark.parametrize("plan", ["task", "cluster"])
def test_both_plans_write_the_bits_of_the_process_in_the_order_of_the_rows(store, model, source, tmp_path, plan):
    result = batch.predict(store, "batch", source, tmp_path / "out", plan=plan)
    assert result.plan.startswith(plan)
    assert result.num_rows == 600
    table = pq.read_table(source)
    truth = Predictor(model).table(table)
    found = pq.read_table(tmp_path / "out")
    assert found["flight"].to_pylist() == table["flight"].to_pylist()
    assert found["probability_true"].to_pylist() == truth.probabilities[:, 1].tolist()


@pytest.mark.parametrize("plan", ["task", "cluster"])
def test_an_error_of_a_task_is_raised_here_as_itself(store, model, source, tmp_path, plan):
    pq.write_table(rows(5).drop_columns(["y", "seats"]), source / "9.parquet")
    with pytest.raises(errors.RequestError, match=r"row all of 9.parquet, field 'seats'"):
        batch.predict(store, "batch", source, tmp_path / "out", plan=plan)
    assert not (tmp_path / "out").exists()
