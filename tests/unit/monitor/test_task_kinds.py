"""The step on several classes and on a number, with bundles that the package fitted and Predictor's own log."""

from __future__ import annotations

import datetime as dt
import re

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundles import fit, rows, schema
from mlsys import label_sets
from mlsys.bundle import Reference
from mlsys.deploy.log_writer import LoggedRequest
from mlsys.evaluate import loss_model, recalibration
from mlsys.monitor import judge
from mlsys.predict import Predictor
from mlsys.recipe import Recipe
from mlsys.registry import LedgerEntry
from mlsys.schema import Column, Kind, Schema, TaskKind
from mlsys.statistics import TableStatistics, encode_target
from mlsys.store import Store

UTC = dt.UTC
PREDICTED = Schema(columns=(Column(name="score", type="double", kind=Kind.NUMERIC),))
RECIPE = {"name": "kinds", "target": "y", "data": {"source": "-", "id": "flight", "time": "scheduled"}}


def log(bundle, table, folder):
    """As the endpoint logs it."""
    predictor = Predictor(bundle)
    inputs = predictor.conform(table.drop_columns(["y"]))
    said = predictor.table(inputs)
    entry = LedgerEntry(name="kinds", version=1, digest=bundle.digest)
    ids = table["flight"].to_pylist()
    (folder / "2014-01-01").mkdir(parents=True)
    logged = LoggedRequest(predictor, entry, inputs, said, ids, dt.datetime(2014, 1, 1, tzinfo=UTC), 1.0)
    pq.write_table(logged.arrow(), folder / "2014-01-01" / "log.parquet")
    return said


@pytest.mark.parametrize("kind", list(TaskKind))
def test_every_kind_of_task_is_judged_and_drawn(kind, tmp_path):
    store = Store.open(tmp_path / "store")
    bundle = fit(store, kind, num_rows=3_000)
    table = rows(2_000, 1, kind)
    said = log(bundle, table, tmp_path / "log")
    recipe = Recipe.model_validate({**RECIPE, "monitor": {"granularity": "1 month", "min_rows": 50}})
    base = {"roc_auc": 0.9, "log_loss": 0.5, "rmse": 1.0, "mean_log_loss": 0.5, "ndcg@10": 0.9}
    judgement = judge.compare(
        store, "kinds", bundle, tmp_path / "log", table.select(["flight", "y"]), recipe, baseline=base
    )
    windows = judgement.value["windows"]
    assert sum(window["num_rows"] for window in windows) == 2_000
    assert all(window["labels"]["mature"] for window in windows)
    names = {"binary": "roc_auc", "multiclass": "log_loss", "multilabel": "mean_log_loss", "regression": "rmse"}
    names["ranking"] = "ndcg@10"
    given = store, "kinds", bundle, tmp_path / "log", table.select(["flight", "y"]), recipe
    kept = [judge.compare(*given, baseline=base, is_stored=True).digest for _ in range(2)]
    assert kept == [judgement.digest] * 2
    name = names[kind.value]
    assert all(window["metrics"][name]["value"] is not None for window in windows)
    if kind is TaskKind.REGRESSION:
        whole = windows[1]
        start, end = (dt.datetime.fromisoformat(whole[key]) for key in ("start", "end"))
        times = pl.from_arrow(table["scheduled"])
        inside = ((times >= start) & (times < end)).to_numpy()
        error = said.prediction[inside] - table["y"].to_numpy()[inside]
        assert whole["metrics"]["rmse"]["value"] == pytest.approx(np.sqrt((error**2).mean()))
    page = (judgement.folder / "report.html").read_text()
    assert judgement.value["decision"]["headline"] in page
    assert "nan" not in re.sub(r"<style.*?</style>|<script.*?</script>", "", page.lower(), flags=re.DOTALL).split()


def facts_of(bundle, table, said):
    """The facts of an evaluation on the rows of a table."""
    task = bundle.task
    if task.kind is TaskKind.REGRESSION:
        distance = np.array(table["distance"].drop_null())
        points = [*np.quantile(distance, np.linspace(0, 1, 8)).tolist(), None]
        response = {"columns": {"distance": {"values": points, "output": [[float(k)] for k in range(9)]}}}
        y, numeric = table["y"].to_numpy(), {"distance"}
        return loss_model.facts(y, said.score, ["rmse"], table, response, None, numeric=numeric)
    y = label_sets.numbers(table["y"], task.labels) if task.labels else encode_target(table["y"], task)
    return recalibration.facts(y.astype(float), said.probabilities, task, None)


@pytest.mark.parametrize("kind", [kind for kind in TaskKind if kind is not TaskKind.RANKING])
def test_every_kind_of_task_but_rankings_is_estimated_without_labels(kind, tmp_path):
    """Of 12 months at least 9 hold what the labels give."""
    store, trained, test, table = Store.open(tmp_path / "store"), *(rows(3_000, seed, kind) for seed in range(3))
    task = fit(store, kind).task
    inputs, predictions = TableStatistics.empty(schema(kind), task), TableStatistics.empty(PREDICTED, task)
    inputs.update(trained)
    numbers = np.random.default_rng(0).random(3_000) if task.is_classification else trained["y"].to_numpy()
    predictions.update(pa.table({"score": numbers, "y": trained["y"]}))
    bundle = fit(store, kind, num_rows=3_000, reference=Reference(inputs, predictions))
    said = Predictor(bundle).table(Predictor(bundle).conform(test.drop_columns(["y"])))
    name = {"binary": "roc_auc", "multiclass": "log_loss", "multilabel": "mean_log_loss", "regression": "rmse"}[kind]
    evaluation = {"metrics": {name: 1.0}, "estimation": facts_of(bundle, test, said), "num_rows": 3_000}
    log(bundle, table, tmp_path / "log")
    recipe = Recipe.model_validate({**RECIPE, "monitor": {"granularity": "1 month", "min_rows": 150}})
    labels = table.select(["flight", "y"])
    judgement = judge.compare(store, "kinds", bundle, tmp_path / "log", labels, recipe, baseline=evaluation)
    given = store, "kinds", bundle, tmp_path / "log", labels, recipe
    kept = [judge.compare(*given, baseline=evaluation, is_stored=True).digest for _ in range(2)]
    assert kept == [judgement.digest] * 2
    estimates = judgement.value["estimates"]
    assert estimates["num_compared"] >= 11
    assert estimates["num_held"] >= 0.75 * estimates["num_compared"]
    assert "within the interval of the estimate" in (judgement.folder / "report.html").read_text()
