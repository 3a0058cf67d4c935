"""The claim: a window in which nothing moves raises an alarm no more often than stated, and what moves is found.

Windows of a week are drawn from a world whose truth is known: 2,000 rows, of which those of one day share a part of
their weather. Two numbers and a category decide; weather, a pair of winds that go together, and a number that is
often missing do not. Of each case many logs of five weeks are judged as `mlsys monitor` judges them:

any alarm   windows with an alarm of any column, of the predictions, of the labels or of columns together
certain     the same if a shift of any size counted (`monitor.min_js_distance` 0): here the stated rate is what holds
named       windows in which the alarm is the one of what moved

Each with its 95 % interval (Clopper & Pearson 1934, Biometrika 26:404).

    python benchmarks/false_alarms.py --case still             # 2,000 windows
    python benchmarks/false_alarms.py --shifted 40             # all cases that move, 200 windows each

Seeded: the same command prints the same numbers.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import special

from mlsys.evaluate.metrics import METRICS
from mlsys.monitor import decision
from mlsys.monitor.decision import JudgedWindow
from mlsys.monitor.estimate import Estimation
from mlsys.monitor.performance import Performance, PerformanceLimits
from mlsys.monitor.reference import SCORE, ReferenceBins, ReferenceRows
from mlsys.monitor.relevance import ModelResponse
from mlsys.monitor.row_sample import Codes, RowSample, encode
from mlsys.monitor.window_facts import FactSource, shown_metrics
from mlsys.monitor.windows import Calendar, Window
from mlsys.recipe import MonitorSection
from mlsys.statistics import TableStatistics
from monitor_alarms import CARRIERS, MONDAY, ROWS, TASK, TRAINING, WEEKS, schema_of

WEATHER = ("rain", "dew", "pressure")
NUMBERS = ("delay", "load", "wind", "gust", "notice", *WEATHER)
SCHEMA = schema_of(NUMBERS)
TRAINED = 2_000
TOGETHER = "columns together"


@dataclass(frozen=True)
class TrueWorld:
    """Truth that rows are drawn from; each attribute but the last two is one that a case may move.

    Attributes
    ----------
    load
        Mean of a number that decides, in its standard deviations.
    correlation
        Of wind and gust, which the model does not read.
    share
        Of the second carrier, which decides.
    missing
        Share of rows without notice.
    bias, odds
        What is added to the logit of the model's scores, and to that of the truth.
    labelled
        Labels of all rows are there.
    moved
        Names of what moves.
    """

    load: float = 0.0
    correlation: float = 0.7
    share: float = 0.3
    missing: float = 0.1
    bias: float = 0.0
    odds: float = 0.0
    labelled: bool = False
    moved: tuple[str, ...] = ()

    def draw(self, rng: np.random.Generator, num_rows: int, days: int) -> tuple[pa.Table, np.ndarray]:
        """Rows and their truth; a tenth of the weather's variance is shared by the rows of a day."""
        normal = {name: rng.normal(0, 1, num_rows) for name in NUMBERS}
        day = np.arange(num_rows) * days // num_rows
        for name in WEATHER:
            normal[name] = np.sqrt(0.1) * rng.normal(0, 1, days)[day] + np.sqrt(0.9) * normal[name]
        normal["load"] += self.load
        normal["gust"] = self.correlation * normal["wind"] + np.sqrt(1 - self.correlation**2) * normal["gust"]
        rest = (1 - self.share) / 0.7
        carrier = CARRIERS[rng.choice(4, num_rows, p=[0.4 * rest, self.share, 0.2 * rest, 0.1 * rest])]
        logit = 1.2 * normal["delay"] + 0.8 * normal["load"] + (carrier == "B6") - 0.5
        late = rng.random(num_rows) < special.expit(logit + self.odds)
        missing = rng.random(num_rows) < self.missing
        columns: dict[str, Any] = {**normal, "notice": pa.array(normal["notice"], mask=missing), "carrier": carrier}
        columns |= {SCORE: special.expit(logit + self.bias), "model_version": ["1"] * num_rows}
        return pa.table(columns), late


STILL = TrueWorld()
CASES: Mapping[str, TrueWorld] = {
    "still": STILL,
    "still, labelled": replace(STILL, labelled=True),
    "load +0.25 sd": replace(STILL, load=0.25, moved=("load",)),
    "load +0.5 sd": replace(STILL, load=0.5, moved=("load",)),
    "correlation 0.7 to 0.35": replace(STILL, correlation=0.35, moved=(TOGETHER,)),
    "correlation 0.7 to 0": replace(STILL, correlation=0.0, moved=(TOGETHER,)),
    "carrier 30 to 40 %": replace(STILL, share=0.4, moved=("carrier",)),
    "carrier 30 to 50 %": replace(STILL, share=0.5, moved=("carrier",)),
    "missing 10 to 15 %": replace(STILL, missing=0.15, moved=("notice",)),
    "missing 10 to 25 %": replace(STILL, missing=0.25, moved=("notice",)),
    "scores' logit +0.3": replace(STILL, bias=0.3, moved=(SCORE,)),
    "scores' logit +0.6": replace(STILL, bias=0.6, moved=(SCORE,)),
    "labels' logit +0.3": replace(STILL, odds=0.3, labelled=True, moved=("late",)),
    "labels' logit +1": replace(STILL, odds=1.0, labelled=True, moved=("late",)),
}


@dataclass(frozen=True)
class Trained:
    """What the monitor knows of training: bins and statistics, and some rows."""

    reference: ReferenceRows
    rows: Codes

    @classmethod
    def of(cls, seed: int) -> Trained:
        """Draw the training rows."""
        rows, late = STILL.draw(np.random.default_rng(seed), TRAINING, TRAINING)
        statistics = TableStatistics.empty(SCHEMA, TASK)
        statistics.update(rows.append_column("late", pa.array(late)))
        columns = statistics.columns
        bins = {name: ReferenceBins.of(name, column) for name, column in columns.items()}
        reference = ReferenceRows(TASK, SCHEMA, columns, bins, (*NUMBERS, "carrier", SCORE))
        return cls(reference, encode(rows.slice(0, TRAINED), [bins[name] for name in reference.sampled]))

    def weeks(self, rng: np.random.Generator, world: TrueWorld) -> Iterator[Window]:
        """One log of five weeks."""
        calendar = Calendar("1 week")
        for number in range(WEEKS):
            start = MONDAY + dt.timedelta(weeks=number)
            window = Window(start, calendar.end(start), calendar.label(start), TableStatistics.empty(SCHEMA, TASK))
            rows, late = world.draw(rng, ROWS, calendar.max_blocks)
            self._fill(window, rows, late if world.labelled else None, rng.permutation(ROWS).astype(np.uint64))
            yield window

    def _fill(self, window: Window, rows: pa.Table, late: np.ndarray | None, hashes: np.ndarray) -> None:
        reference, num_blocks = self.reference, Calendar("1 week").max_blocks
        block = np.arange(rows.num_rows) * num_blocks // rows.num_rows
        window.update(rows, {name: reference.bins[name] for name in reference.watched}, block, num_blocks)
        sampled = [reference.bins[name] for name in reference.sampled]
        window.add_sample(RowSample.of(rows, sampled, hashes, block))
        if late is not None:
            score = np.asarray(rows[SCORE])
            window.num_resolved = rows.num_rows
            window.labelled.y.append(late.astype(np.float64))
            window.labelled.output.append(np.column_stack([1 - score, score]))
            window.labelled.block.append(block)


def simulate(trained: Trained, case: str, num_logs: int, seed: int, first: int = 0) -> dict[str, Any]:
    """Counts of windows with alarms in some logs of a case, from the one with the number `first` on."""
    section, world = MonitorSection(), CASES[case]
    limits = PerformanceLimits(METRICS["roc_auc"], section.max_metric_loss, section.max_calibration_gap, 0.95)
    shown = shown_metrics(TASK, limits.metric)
    source = FactSource(trained.reference, ModelResponse(), Estimation(), shown, limits, trained.rows)
    counts = {"any alarm": 0, "certain": 0, "named": 0}
    for log in range(first, first + num_logs):
        windows = list(trained.weeks(np.random.default_rng([seed, list(CASES).index(case), log]), world))
        judged, _ = decision.judge_windows(windows, source, Performance(), section)
        counts["any alarm"] += sum(window.has_drift for window in judged)
        counts["certain"] += sum(is_certain(window, section.false_alarm_rate) for window in judged)
        counts["named"] += sum(bool(alarmed(window) & {*world.moved}) for window in judged)
    return {"case": case, "windows": num_logs * WEEKS, **counts}


def is_certain(window: JudgedWindow, rate: float) -> bool:
    """Tell whether any test of a window is significant, however small its shift."""
    joint = [] if window.joint is None else [window.joint.adjusted]
    return any(adjusted <= rate for adjusted in [*(shift.adjusted for shift in window.shifts), *joint])


def alarmed(window: JudgedWindow) -> set[str]:
    """Names of what raises an alarm in a window."""
    joint = {TOGETHER} if window.joint is not None and window.joint.alarmed else set()
    return {shift.column for shift in window.alarms} | joint


def interval(count: int, number: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson of a share.

    >>> interval(0, 100), interval(50, 100)
    ((0.0, 0.036), (0.398, 0.602))
    """
    low = special.betaincinv(count, number - count + 1, 0.025) if count else 0.0
    high = special.betaincinv(count + 1, number - count, 0.975) if count < number else 1.0
    return round(float(low), 3), round(float(high), 3)


def _share(count: int, number: int) -> str:
    low, high = interval(count, number)
    return f"{count / number:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES), help="a case; may be given several times")
    parser.add_argument("--still", type=int, default=400, help="logs of five weeks where nothing moves (400)")
    parser.add_argument("--shifted", type=int, default=40, help="logs of five weeks of each shift (40)")
    parser.add_argument("--first", type=int, default=0, help="number of the first log, to run a case in pieces (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    asked = parser.parse_args()
    known = Trained.of(asked.seed)
    print(f"{'case':<24} {'windows':>7}  {'any alarm':<24} {'certain':<24} {'named':<24}  stated {0.05:.0%}")
    lines = []
    for name in asked.case or CASES:
        lines.append(
            simulate(known, name, asked.shifted if CASES[name].moved else asked.still, asked.seed, asked.first)
        )
        shares = [_share(lines[-1][key], lines[-1]["windows"]) for key in ("any alarm", "certain", "named")]
        print(f"{name:<24} {lines[-1]['windows']:>7}  {shares[0]:<24} {shares[1]:<24} {shares[2]:<24}", flush=True)
    if asked.json:
        print(json.dumps({"claim": "alarms are as rare as stated, and what moves is found", "rows": lines}))
