"""The peers of `model_quality.py`: they run in an environment of their own and import nothing of ours.

A process reads a job as JSON from standard input, learns, writes its predictions of the
test file as a NumPy array and says ``seconds`` and ``predict_us`` in its last line. The
array holds values, or probabilities with a column for each class of the job, in its order.
Libraries are imported before the clock starts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["PEERS", "main"]

LIBRARIES = ("catboost", "lightgbm", "xgboost", "sklearn.ensemble", "fastai.tabular.all")
"""What the peers load at their first use, as far as it is there."""


def main() -> None:
    job = json.load(sys.stdin)
    with redirect_stdout(sys.stderr):
        for library in LIBRARIES:
            with suppress(ImportError):
                import_module(library)
        answer = PEERS[job["contender"]](job)
    print(json.dumps(answer))


def flaml(job: dict[str, Any]) -> dict[str, Any]:
    """FLAML with its defaults."""
    from flaml import AutoML

    began = time.perf_counter()
    train = pd.read_parquet(job["train"])
    target = train.pop(job["target"])
    model = AutoML()
    model.fit(
        train,
        target,
        task=job["task"],
        metric={"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[job["task"]],
        time_budget=job["budget_s"],
        n_jobs=job["threads"],
        seed=job["seed"],
        verbose=0,
    )
    seconds = time.perf_counter() - began

    def predict(rows: pd.DataFrame) -> np.ndarray:
        if job["task"] == "regression":
            return np.asarray(model.predict(rows))
        return _in_order(np.asarray(model.predict_proba(rows)), model.classes_, job["classes"])

    return _told(job, seconds, predict, str(model.best_estimator))


def autogluon(job: dict[str, Any]) -> dict[str, Any]:
    """AutoGluon with the preset of the job: ``good_quality`` fits each model on folds, then on all rows.

    The models of the folds are kept: without them it has nothing to predict with where a fit on all rows failed.
    """
    from autogluon.tabular import TabularPredictor

    metrics = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "root_mean_squared_error"}
    began = time.perf_counter()
    model = TabularPredictor(
        job["target"], problem_type=job["task"], eval_metric=metrics[job["task"]], path="autogluon", verbosity=0
    ).fit(
        pd.read_parquet(job["train"]),
        time_limit=job["budget_s"],
        presets=job["preset"],
        num_cpus=job["threads"],
        save_bag_folds=True,
    )
    seconds = time.perf_counter() - began

    def predict(rows: pd.DataFrame) -> np.ndarray:
        if job["task"] == "regression":
            return np.asarray(model.predict(rows))
        made = model.predict_proba(rows)
        return _in_order(made.to_numpy(), made.columns, job["classes"])

    return _told(job, seconds, predict, str(model.model_best))


PEERS = {"flaml": flaml, "autogluon": autogluon}


def _in_order(probabilities: np.ndarray, given: Any, classes: list[str]) -> np.ndarray:
    """The columns of the classes asked for; zeros for one that the contender does not know."""
    places = {str(name): place for place, name in enumerate(given)}
    empty = np.zeros(len(probabilities))
    return np.column_stack([probabilities[:, places[name]] if name in places else empty for name in classes])


def _told(
    job: dict[str, Any], seconds: float, predict: Callable[[pd.DataFrame], np.ndarray], model: str
) -> dict[str, Any]:
    """Predict twice, for the first call may load what the second has; write the array of the second."""
    rows = pd.read_parquet(job["test"])
    predict(rows)
    began = time.perf_counter()
    predicted = predict(rows)
    predict_us = (time.perf_counter() - began) / len(rows) * 1e6
    np.save(Path(job["predictions"]), predicted)
    return {"seconds": seconds, "predict_us": predict_us, "model": model}
