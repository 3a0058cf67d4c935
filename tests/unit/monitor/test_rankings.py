"""NDCG of a log: groups are measured whose rows all have labels, and the others are told."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import ndcg_score

from bundles import GROUP_ROWS, fit, rows
from mlsys.deploy.log_writer import LoggedRequest
from mlsys.monitor import estimate, judge
from mlsys.predict import Predictor
from mlsys.recipe import Recipe
from mlsys.registry import LedgerEntry
from mlsys.schema import TaskKind
from mlsys.store import Store

NOW = dt.datetime(2014, 1, 1, tzinfo=dt.UTC)
RECIPE = {
    "name": "routes",
    "target": "y",
    "task": "ranking",
    "data": {"source": "-", "id": "flight", "time": "scheduled", "group": "route"},
    "monitor": {"granularity": "1 month", "min_rows": 50},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, and rows of one day that it predicted, with its scores."""
    store = Store.open(tmp_path_factory.mktemp("store"))
    made, table = fit(store, TaskKind.RANKING, num_rows=1_000), rows(600, 1, TaskKind.RANKING)
    day = table.schema.get_field_index("scheduled")
    return store, made, table.set_column(day, table.schema.field(day), [[NOW] * table.num_rows])


def judged(world, folder, labels, *, sent=True):
    """The only window of a log of these rows, whose requests name the group or not."""
    store, made, table = world
    predictor, without = Predictor(made), ["y"] if sent else ["y", "route"]
    inputs = predictor.conform(table.drop_columns(without))
    said = predictor.table(inputs)
    entry = LedgerEntry(name="routes", version=1, digest=made.digest)
    logged = LoggedRequest(predictor, entry, inputs, said, table["flight"].to_pylist(), NOW, 1.0)
    (folder / "log" / "2014-01-01").mkdir(parents=True)
    pq.write_table(logged.arrow(), folder / "log" / "2014-01-01" / "log.parquet")
    given = (store, "routes", made, folder / "log", labels.select(["flight", "y"]), Recipe.model_validate(RECIPE))
    (window,) = judge.compare(*given, baseline={"ndcg@10": 0.9}).value["windows"]
    return window, said.score


def mean_ndcg(y, score, group):
    lists = [(y[group == name], score[group == name]) for name in np.unique(group)]
    return np.mean([ndcg_score([2.0**grades - 1], [own], k=10) for grades, own in lists if grades.any()])


def test_groups_with_all_of_their_labels_are_measured(world, tmp_path):
    table = world[2]
    window, score = judged(world, tmp_path, table)
    y, group = table["y"].to_numpy(), table["route"].to_numpy(zero_copy_only=False)
    assert window["metrics"]["ndcg@10"]["value"] == pytest.approx(mean_ndcg(y, score, group), rel=1e-12)
    assert window["metrics"]["ndcg@10"]["low"] < window["metrics"]["ndcg@10"]["value"]
    assert "mrr" in window["metrics"]
    assert window["gap"] is None
    assert not any("left out" in reason for reason in window["reasons"])


def test_groups_of_which_a_label_is_to_come_are_left_out_and_told(world, tmp_path):
    table = world[2]
    window, score = judged(world, tmp_path, table.slice(3))
    y, group = table["y"].to_numpy(), table["route"].to_numpy(zero_copy_only=False)
    whole = np.arange(table.num_rows) >= GROUP_ROWS
    expected = mean_ndcg(y[whole], score[whole], group[whole])
    assert window["metrics"]["ndcg@10"]["value"] == pytest.approx(expected, rel=1e-12)
    assert any(reason.startswith(f"{GROUP_ROWS - 3} labels are left out") for reason in window["reasons"])


def test_a_label_of_a_group_that_is_not_measured_is_described_as_the_last_one_said(world, tmp_path):
    """The first three rows wait for their labels, so the fourth is not measured, and its label is corrected."""
    store, made, table = world
    labels = table.slice(3).select(["flight", "y"])
    judged(world, tmp_path, labels)
    grades = labels["y"].to_numpy().copy()
    grades[0] = 2 - grades[0] if grades[0] != 1 else 0
    corrected = labels.set_column(1, labels.schema.field("y"), pa.array(grades))
    given = store, "routes", made, tmp_path / "log"
    first, second, fresh = (
        judge.compare(*given, each, Recipe.model_validate(RECIPE), baseline={"ndcg@10": 0.9}, is_stored=is_stored)
        for each, is_stored in ((labels, True), (corrected, True), (corrected, False))
    )
    assert first.digest != second.digest
    assert second.digest == fresh.digest


def test_without_groups_there_is_no_order_to_measure(world, tmp_path):
    window, _ = judged(world, tmp_path, world[2], sent=False)
    assert not window["metrics"]
    assert any(reason.startswith("600 labels are left out") for reason in window["reasons"])


def test_a_ranking_has_no_estimate_and_the_reason_is_said(world):
    estimation = estimate.Estimation.of({"ndcg@10": 0.9}, world[1].task)
    assert estimation.estimator is None
    assert estimation.to_json()["reason"] == estimate.NO_SCALE
