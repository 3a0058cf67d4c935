"""Trials a minute of a search, beside Ray Tune as its documentation shows it: a matrix a trial.

Claim: 40 trials of XGBoost on adult_census take at most a fifth of the peer's time. Both fit the same parameters,
those that our search proposed, so that they grow as many trees of the same size; both grow at most as many rounds
with as much patience, one thread and a CPU a trial, on the same training rows, and are judged on the same validation
rows. (Points drawn at random would grow fewer rounds than proposals around the best ones, whose learning rates are
small.) The peer's trainable reads the rows, makes a ``DMatrix``, trains and reports, as Ray's examples do; it is
given pandas categories and no features. A cluster has been started before, with our settings for both.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import xgboost
from ray import tune as ray_tune
from sklearn.metrics import roc_auc_score

import mlsys
from measured import Measured, local_cluster, options, report
from mlsys import models, tune
from mlsys.dataset import Split
from mlsys.recipe import Recipe
from mlsys.schema import Role
from mlsys.statistics import TrainStatistics
from mlsys.store import Store, read_json
from mlsys.tune.journal import Trial

CLAIM = "trials of XGBoost on adult_census"
ROUNDS, PATIENCE = 300, 30


def main() -> None:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder of the data sets")
    parser.add_argument("--trials", type=int, default=40)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, local_cluster():
        store = Store.open(Path(folder, "store"))
        search = prepared(store, wanted.data / "adult_census" / "train.parquet", wanted.trials)
        mine, theirs = [], []
        for number in range(wanted.repeats):
            seconds, trials = ours(store, search, Path(folder, f"run-{number}"))
            mine.append((seconds, max(trial.score for trial in trials)))
            theirs.append(peer(search, Path(folder, f"peer-{number}"), trials))
        rows = search["split"].num_rows["train"]
    facts = {
        "trials_a_minute": {"mlsys": 60 * wanted.trials / mine[0][0], "ray": 60 * wanted.trials / theirs[0][0]},
        "best": {"mlsys": mine[0][1], "ray": theirs[0][1]},
    }
    peers = [_measured("Ray Tune, a matrix a trial", theirs, wanted.trials)]
    report(CLAIM, _measured("mlsys", mine, wanted.trials), peers, rows=rows, as_json=wanted.json, facts=facts)


def _measured(name: str, runs: list[tuple[float, float]], trials: int) -> Measured:
    notes = {"trials a minute": f"{60 * trials / runs[0][0]:.0f}", "best ROC AUC": f"{runs[0][1]:.4f}"}
    return Measured(name, tuple(seconds for seconds, _ in runs), notes)


def prepared(store: Store, table: Path, trials: int) -> dict[str, Any]:
    """Collect and profile the table, and return what a search needs."""
    recipe = Recipe.model_validate({
        "name": "adult",
        "target": "income",
        "data": {"source": str(table)},
        "train": {"family": "xgboost", "rounds": ROUNDS, "early_stopping": PATIENCE},
        "tune": {"trials": trials, "max_members": 1},
    })  # fmt: skip
    done = mlsys.run(recipe, "explore", store=store.root, quiet=True)
    records = read_json(done.folder / "result.json")
    split = Split.open(store, records["collect"]["split"])
    statistics = TrainStatistics.from_json(store.get_json("profile", records["explore"]["statistics"]))
    return {"split": split, "statistics": statistics, "recipe": done.recipe, "task": statistics.whole().task}


def ours(store: Store, search: dict[str, Any], folder: Path) -> tuple[float, list[Trial]]:
    """Seconds of the search, and its trials."""
    began = perf_counter()
    rows = search["split"].only("train", "validation")
    made = tune.search(
        store, rows, search["statistics"], search["recipe"], search["task"], "xgboost", folder=folder, seconds=math.inf
    )
    return perf_counter() - began, list(made.trials)


def peer(search: dict[str, Any], folder: Path, trials: Sequence[Trial]) -> tuple[float, float]:
    """Seconds of a plain trainable for the points of `trials`, and its best score."""
    split, target = search["split"], search["task"].target
    columns = [column.name for column in split.schema.with_role(Role.FEATURE)]
    paths = {part: [str(path) for path in split.paths(part)] for part in ("train", "validation")}
    classes = list(search["task"].classes)

    def trainable(config: dict[str, Any]) -> None:
        frames = {part: pd.concat(map(pd.read_parquet, files)) for part, files in paths.items()}
        levels = {name: sorted(frames["train"][name].dropna().unique()) for name in columns if _is_text(frames, name)}
        made = {}
        for part, frame in frames.items():
            X = frame[columns].assign(**{name: pd.Categorical(frame[name], known) for name, known in levels.items()})
            made[part] = xgboost.DMatrix(X, frame[target].map(classes.index), enable_categorical=True, nthread=1)
        settings = {**config["point"], "objective": "binary:logistic", "tree_method": "hist", "nthread": 1}
        how: dict[str, Any] = {"evals": [(made["validation"], "v")], "early_stopping_rounds": PATIENCE}
        booster = xgboost.train(settings, made["train"], ROUNDS, verbose_eval=False, **how)
        output = booster.predict(made["validation"], iteration_range=(0, booster.best_iteration + 1))
        ray_tune.report({"auc": roc_auc_score(made["validation"].get_label(), output)})

    began = perf_counter()
    results = ray_tune.Tuner(
        ray_tune.with_resources(trainable, {"cpu": 1}),
        param_space={"point": ray_tune.grid_search([_settings(trial) for trial in trials])},
        tune_config=ray_tune.TuneConfig(metric="auc", mode="max"),
        run_config=ray_tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0),
    ).fit()
    return perf_counter() - began, float((results.get_best_result().metrics or {})["auc"])


def _is_text(frames: dict[str, pd.DataFrame], name: str) -> bool:
    return not pd.api.types.is_numeric_dtype(frames["train"][name])


def _settings(trial: Trial) -> dict[str, Any]:
    """The parameters of a trial under XGBoost's names."""
    return models.params_of("xgboost", trial.params).model_dump(exclude={"rounds", "early_stopping", "loss"})


if __name__ == "__main__":
    main()
