"""Whatever process of a batch prediction is killed, its rows are those of a call that nobody disturbed."""

import pyarrow.parquet as pq
import pytest

import batch_kills
from bundles import fit, rows
from mlsys import cluster, registry

FILES, KILLS = 40, 20


@pytest.fixture(scope="module")
def source(store, tmp_path_factory):
    """Small files, so that many fragments are finished within a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry.register(store, "killed", fit(store, seed=5))
    folder = tmp_path_factory.mktemp("in")
    for number in range(FILES):
        pq.write_table(rows(25, seed=100 + number).drop_columns(["y"]), folder / f"{number:02d}.parquet")
    return folder


@pytest.mark.parametrize("append", [False, True], ids=["replaced", "appended"])
def test_rows_are_the_same_after_kills_at_random_moments(store, source, tmp_path, append):
    prediction = batch_kills.Prediction(str(store.root), "killed@1", str(source), str(tmp_path / "out"), append)
    head = cluster.status(store)["pid"]
    facts = batch_kills.measure(prediction, KILLS // 2, head, seed=2013 + append)
    assert facts["same_rows"]
    assert (facts["kills"], facts["rows"]) == (KILLS // 2, 25 * FILES)
    assert facts["reused"] > 0
