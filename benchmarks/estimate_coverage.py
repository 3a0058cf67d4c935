"""The claim: estimates without labels hold what labels say later as often as stated, where scores keep their meaning.

Simulated: a recalibration from some held-out rows, and the metrics of a window of other rows, estimated and realised.
Of 100 intervals of 95 %, 92 to 98 hold the realised value (of several classes, at least 92: what their errors have in
common is not known and taken for the worst), and the mean error is less than half of a standard error:

as trained      rows of the window are as those held out
easy, hard      scores move to the ends, or to the middle; the same scores mean the same
over-confident  the model's logits are 1.5 times the true ones
rare            1 of 40 rows is positive
alike           held-out rows and windows come in days that share something
three classes   a softmax over three classes
number          its noise grows with a column; the RMSE, and where rows of more noise come (number, hard)

Shown without a claim, for no data without labels can tell: ``changed``, where the same scores mean something else.

    python benchmarks/estimate_coverage.py --replications 400
    python benchmarks/estimate_coverage.py --data FOLDER

`FOLDER` holds the folders nannyml_car_loan and electricity_elec2, with the tables of these two open streams as Parquet.

Seeded: the same command prints the same numbers. With ``--json`` the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mlsys.evaluate import loss_model, recalibration
from mlsys.evaluate.metrics import METRICS, measure
from mlsys.evaluate.response import LEVELS
from mlsys.monitor.estimate import Estimation, ScoreEstimator
from mlsys.monitor.loss_estimate import LossEstimator
from mlsys.monitor.performance import Performance, PerformanceEstimate, PerformanceLimits
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.windows import Window
from mlsys.schema import Column, Kind, Schema, Task, TaskKind
from mlsys.statistics import ColumnStatistics, TableStatistics

BINARY = Task(kind=TaskKind.BINARY, target="y", classes=(0, 1))
THREE = Task(kind=TaskKind.MULTICLASS, target="y", classes=(0, 1, 2))
NAMES = {BINARY: ("roc_auc", "log_loss", "brier", "f1"), THREE: ("log_loss", "accuracy", "f1_macro")}
SCHEMA = Schema(columns=(Column(name="x", type="double", kind=Kind.NUMERIC),))
MONDAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
LOW, HIGH, MAX_BIAS = 0.92, 0.98, 0.5
DAYS = 7

Rows = tuple[np.ndarray, np.ndarray]
"""Truth and probabilities."""


@dataclass(frozen=True)
class World:
    """Rows of a world: logits of a normal distribution, and what window rows have in place of it.

    `day` is the standard deviation of what the rows of a day share, in the logit.
    """

    name: str
    mean: float = -0.5
    sd: float = 1.5
    window_mean: float | None = None
    window_sd: float | None = None
    confidence: float = 1.0
    day: float = 0.0
    odds: float = 0.0
    threshold: float = 0.5
    task: Task = BINARY
    is_claimed: bool = True


WORLDS = (
    World("as trained"),
    World("easy", window_sd=2.5),
    World("hard", window_sd=0.7),
    World("over-confident", confidence=1.5, window_mean=0.5),
    World("rare", mean=-4.5, sd=1.2, threshold=0.05),
    World("alike", day=0.3),
    World("three classes", task=THREE, window_sd=1.0),
    World("changed", odds=0.7, is_claimed=False),
)


def draw(world: World, rng: np.random.Generator, num_rows: int, days: int, *, is_window: bool) -> Rows:
    mean = world.window_mean if is_window and world.window_mean is not None else world.mean
    sd = world.window_sd if is_window and world.window_sd is not None else world.sd
    if world.task is THREE:
        z = rng.normal(0, sd, (num_rows, 3))
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        return (p.cumsum(axis=1) < rng.random(num_rows)[:, None]).sum(axis=1), p
    z = rng.normal(mean, sd, num_rows)
    shared = rng.normal(0, world.day, days)[np.arange(num_rows) * days // num_rows] if world.day else 0.0
    y = rng.random(num_rows) < 1 / (1 + np.exp(-z - shared - (world.odds if is_window else 0.0)))
    p = 1 / (1 + np.exp(-world.confidence * z))
    return y.astype(int), np.column_stack([1 - p, p])


def window_of(p: np.ndarray, task: Task, threshold: float = 0.5, start: dt.datetime = MONDAY) -> Window:
    window = Window(start, start + dt.timedelta(days=DAYS), f"{start:%Y-%m-%d}", TableStatistics.empty(SCHEMA, task))
    window.num_rows = len(p)
    window.counts["score"] = np.bincount(np.arange(len(p)) * DAYS // len(p))[:, np.newaxis]
    window.add_scores(recalibration.score_counts(p, task, threshold))
    return window


def simulate(world: World, replications: int, num_test: int, num_rows: int, seed: int) -> dict[str, Any]:
    """Coverage and bias in standard errors of each metric."""
    rng, names = np.random.default_rng(seed), NAMES[world.task]
    held: dict[str, list[bool]] = {name: [] for name in names}
    errors: dict[str, list[float]] = {name: [] for name in names}
    num_days = max(num_test * DAYS // num_rows, 10)
    units = np.arange(num_test) * num_days // num_test if world.day else None
    for _ in range(replications):
        y, p = draw(world, rng, num_test, num_days, is_window=False)
        facts = recalibration.facts(y.astype(float), p, world.task, units)
        if facts is None:
            continue
        y, p = draw(world, rng, num_rows, DAYS, is_window=True)
        estimator = ScoreEstimator.of(facts, world.task)
        for name, estimate in estimator.estimates(window_of(p, world.task, world.threshold), names, 0.95).items():
            realised = measure(name, y, p, world.threshold)
            if not estimate.error or not np.isfinite(realised):
                continue
            held[name].append(estimate.low <= realised <= estimate.high)
            errors[name].append((realised - estimate.value) / estimate.error)
    return {
        name: {"coverage": float(np.mean(held[name])), "bias": float(np.mean(errors[name]))} for name in names
    }  # fmt: skip


NUMBERS = {"number": 0.0, "number, hard": 1.0}
"""Case → mean of the column in the window."""


def numbers(rng: np.random.Generator, num_rows: int, mean: float = 0.0) -> dict[str, np.ndarray]:
    x = rng.normal(mean, 1, num_rows)
    return {"x": x, "score": 2 * x, "y": 2 * x + rng.normal(0, 0.5 + np.maximum(x, 0))}


def simulate_numbers(mean: float, replications: int, num_test: int, num_rows: int, seed: int) -> dict[str, Any]:
    """Coverage and bias of the RMSE and the MAE, which are estimated from the column and the prediction."""
    rng, names = np.random.default_rng(seed), ("rmse", "mae")
    bins = {}
    training = numbers(rng, 20_000)
    for name in ("x", "score"):
        statistics = ColumnStatistics(Kind.NUMERIC)
        statistics.update(pa.array(training[name]))
        bins[name] = ReferenceBins.of(name, statistics)
    points = [*np.quantile(training["x"], LEVELS).tolist(), None]
    response = {"columns": {"x": {"values": points, "output": [[float(k)] for k in range(len(points))]}}}
    held: dict[str, list[bool]] = {name: [] for name in names}
    errors: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(replications):
        test, rows = numbers(rng, num_test), numbers(rng, num_rows, mean)
        table = pa.table({"x": test["x"]})
        facts = loss_model.facts(test["y"], test["score"], names, table, response, None, numeric={"x"})
        window = window_of(np.full((num_rows, 2), 0.5), BINARY)
        window.counts = {name: np.bincount(bins[name].index(pa.array(rows[name])), minlength=bins[name].size)[None]
                         for name in bins}  # fmt: skip
        estimator = LossEstimator.of(facts or {}, bins)
        for name, estimate in estimator.estimates(window, names, 0.95).items() if estimator else ():
            realised = measure(name, rows["y"], rows["score"])
            held[name].append(estimate.low <= realised <= estimate.high)
            errors[name].append((realised - estimate.value) / estimate.error)
    return {name: {"coverage": float(np.mean(held[name])), "bias": float(np.mean(errors[name]))} for name in names}


def run_simulations(replications: int, seed: int) -> list[str]:
    missed = []
    for world in WORLDS:
        for num_test, num_rows in ((1_000, 500), (4_000, 2_000)):
            shares = simulate(world, replications, num_test, num_rows, seed)
            line = "   ".join(f"{name} {s['coverage']:.3f} ({s['bias']:+.2f})" for name, s in shares.items())
            print(f"{world.name:<15} {num_test:>5} held out, {num_rows:>5} in the window: {line}", flush=True)
            high = 1.0 if world.task is THREE else HIGH
            outside = [n for n, s in shares.items() if not LOW <= s["coverage"] <= high or abs(s["bias"]) > MAX_BIAS]
            missed += [f"{world.name}, {num_rows} rows: {name}" for name in outside if world.is_claimed]
    for name, mean in NUMBERS.items():
        for num_test, num_rows in ((1_000, 500), (4_000, 2_000)):
            shares = simulate_numbers(mean, replications, num_test, num_rows, seed)
            line = "   ".join(f"{metric} {s['coverage']:.3f} ({s['bias']:+.2f})" for metric, s in shares.items())
            print(f"{name:<15} {num_test:>5} held out, {num_rows:>5} in the window: {line}", flush=True)
            outside = [n for n, s in shares.items() if not LOW <= s["coverage"] <= HIGH or abs(s["bias"]) > MAX_BIAS]
            missed += [f"{name}, {num_rows} rows: {metric}" for metric in outside]
    print(f"outside of {LOW} to {HIGH}, or biased by more than {MAX_BIAS} standard errors: {missed or 'none'}")
    return missed


def follow(name: str, facts: Mapping[str, Any], windows: Iterator[Rows]) -> dict[str, Any]:
    """Estimate window after window; every window's labels come before the next one's estimate."""
    metric = METRICS["roc_auc"]
    estimation = Estimation(ScoreEstimator.of(facts, BINARY))
    limits = PerformanceLimits(metric, 0.02, 0.05, 0.95, 0.5)
    doubted = 0
    for number, (y, p) in enumerate(windows):
        window = window_of(p, BINARY, start=MONDAY + dt.timedelta(days=DAYS * number))
        realised = measure("roc_auc", y, p)
        known = Performance({"roc_auc": PerformanceEstimate(realised)})
        own = estimation.of_rows(window, [metric], limits.confidence)
        estimate = estimation.take(window, own, (), known, Performance(), limits)
        if estimate is None or estimate.chosen is None:
            continue
        doubted += not estimate.is_trusted
        print(
            f"{name:<18} window {number:>2}: ROC AUC estimated {estimate.chosen.value:.4f} "
            f"({estimate.chosen.low:.4f} to {estimate.chosen.high:.4f}), realised {realised:.4f} "
            f"{'held  ' if estimate.held else 'missed'} {'; '.join(estimate.doubts)}"
        )
    return {**estimation.to_json(), "num_doubted": doubted}


def car_loan(folder: Path) -> dict[str, Any]:
    """Scores that come with the data: rates from the reference, ten windows of the analysis."""
    reference = pl.read_parquet(folder / "reference.parquet")
    analysis, targets = (pl.read_parquet(folder / f"{name}.parquet") for name in ("analysis", "analysis_targets"))
    y, p = _rows(reference, "repaid")
    facts = recalibration.facts(y.astype(float), p, BINARY, None)
    both = analysis.with_columns(targets["repaid"])
    parts = (_rows(both[start : start + 5_000], "repaid") for start in range(0, both.height, 5_000))
    return follow("nannyml_car_loan", facts or {}, parts)


def _rows(frame: pl.DataFrame, target: str) -> Rows:
    p = frame["y_pred_proba"].to_numpy()
    return frame[target].to_numpy().astype(int), np.column_stack([1 - p, p])


def electricity(folder: Path) -> dict[str, Any]:
    """Boosted trees on the first 14 months, rates from the next 3, and windows of four weeks after these."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    frame = pl.read_parquet(folder / "elec2.parquet")
    names = [name for name, kind in frame.schema.items() if kind.is_numeric() and name not in ("class", "date")]
    X, y = frame.select(names).to_numpy(), (frame["class"].cast(pl.String) == "UP").to_numpy().astype(int)
    trained, tested, length = 20_160, 24_192, 28 * 48
    model = HistGradientBoostingClassifier(random_state=0, max_iter=100, early_stopping=False)
    p = model.fit(X[:trained], y[:trained]).predict_proba(X[trained:])
    y = y[trained:]
    num = tested - trained
    facts = recalibration.facts(y[:num].astype(float), p[:num], BINARY, np.arange(num) // 48)
    starts = range(num, len(y) - length + 1, length)
    return follow("electricity_elec2", facts or {}, ((y[at : at + length], p[at : at + length]) for at in starts))


def run_streams(folder: Path) -> Sequence[dict[str, Any]]:
    found = []
    for name, stream in (("nannyml_car_loan", car_loan), ("electricity_elec2", electricity)):
        found.append({"stream": name, **stream(folder / name)})
        print(found[-1])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of the two streams, which are run in place of simulations")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    asked = parser.parse_args()
    claim = {"claim": "coverage of estimates without labels", "ratios": {}, "spread": 0.0}
    if asked.data is not None:
        result = {**claim, "streams": run_streams(asked.data)}
    else:
        result = {**claim, "missed": len(run_simulations(asked.replications, asked.seed))}
    if asked.json:
        print(json.dumps(result))
