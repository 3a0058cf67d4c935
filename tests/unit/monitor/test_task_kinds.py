"""The step on several classes and on a number, with bundles that the package fitted and Predictor's own log."""

from __future__ import annotations

import datetime as dt
import re

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from bundles import fit, rows
from mlsys.deploy.log_writer import LoggedRequest
from mlsys.monitor import judge
from mlsys.predict import Predictor
from mlsys.recipe import Recipe
from mlsys.registry import LedgerEntry
from mlsys.schema import TaskKind
from mlsys.store import Store

UTC = dt.UTC
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
