"""The claim: the monitor's alarms are as rare as stated where nothing moves, and matter where the predictions move.

Windows of a week are drawn from a world whose truth is known: two numbers and a category decide, six columns of weather
do not, and the rows of one day share their weather. Four cases, each in many logs of five weeks:

still       nothing moves: windows with any alarm, at most `monitor.false_alarm_rate` (5 %)
season      all weather moves by a standard deviation: alarms, of which none matters, so every log is kept
important   a number that decides moves by 0.6 standard deviations: every log is watched
slight      the same number moves by 0.05: too little to matter

    python benchmarks/monitor_alarms.py --logs 80

400 windows a case with the default. Seeded: the same command prints the same numbers.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from mlsys.evaluate.metrics import METRICS
from mlsys.evaluate.response import LEVELS
from mlsys.monitor import decision
from mlsys.monitor.estimate import Estimation
from mlsys.monitor.performance import Performance, PerformanceLimits
from mlsys.monitor.reference import SCORE, ReferenceBins, ReferenceRows
from mlsys.monitor.relevance import ModelResponse
from mlsys.monitor.window_facts import FactSource, shown_metrics
from mlsys.monitor.windows import Calendar, Window
from mlsys.recipe import MonitorSection
from mlsys.schema import Column, Kind, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics

WEATHER = tuple(f"weather{k}" for k in range(6))
NUMBERS = ("delay", "load", *WEATHER)
CARRIERS = np.array(["AA", "B6", "UA", "WN"])
TASK = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))
MONDAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
ROWS, WEEKS, TRAINING = 2_000, 5, 50_000
CASES: Mapping[str, Mapping[str, float]] = {
    "still": {},
    "season": dict.fromkeys(WEATHER, 1.0),
    "important": {"delay": 0.6},
    "slight": {"delay": 0.05},
}


def schema_of(numbers: Iterable[str]) -> Schema:
    """The columns of a log whose rows have these numbers."""
    return Schema(
        columns=(
            *(Column(name=name, type="double", kind=Kind.NUMERIC) for name in numbers),
            Column(name="carrier", type="string", kind=Kind.CATEGORICAL),
            Column(name=SCORE, type="double", kind=Kind.NUMERIC),
            Column(name="model_version", type="string", kind=Kind.CATEGORICAL),
        )
    )


SCHEMA = schema_of(NUMBERS)


def score(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    logit = 1.2 * columns["delay"] + 0.8 * columns["load"] + (columns["carrier"] == "B6") - 0.5
    return np.asarray(1 / (1 + np.exp(-logit)))


def draw(rng: np.random.Generator, num_rows: int, shifts: Mapping[str, float], *, days: int = 0) -> pa.Table:
    """Rows of the world; with `days`, a tenth of the weather's variance is shared by the rows of a day."""
    columns = {name: rng.normal(0, 1, num_rows) for name in ("delay", "load")}
    day = np.arange(num_rows) * days // num_rows if days else np.arange(num_rows)
    for name in WEATHER:
        shared = rng.normal(0, 1, int(day.max()) + 1)[day]
        columns[name] = np.sqrt(0.1) * shared + np.sqrt(0.9) * rng.normal(0, 1, num_rows)
    for name, shift in shifts.items():
        columns[name] = columns[name] + shift
    columns["carrier"] = rng.choice(CARRIERS, num_rows, p=[0.4, 0.3, 0.2, 0.1])
    return pa.table({**columns, SCORE: score(columns), "model_version": ["1"] * num_rows})


def reference_of(rows: pa.Table) -> ReferenceRows:
    statistics = TableStatistics.empty(SCHEMA, TASK)
    statistics.update(rows.append_column("late", pa.array(np.asarray(rows[SCORE]) > 0.5)))
    columns = statistics.columns
    bins = {name: ReferenceBins.of(name, column) for name, column in columns.items()}
    return ReferenceRows(TASK, SCHEMA, columns, bins, (*NUMBERS, "carrier", SCORE))


def response_of(rows: pa.Table) -> ModelResponse:
    """Mean scores over 200 rows with each value in place of the rows' own, as `mlsys.evaluate.response`."""
    some = {name: np.asarray(rows[name])[:200] for name in (*NUMBERS, "carrier")}
    columns = {}
    for name, own in some.items():
        points = np.unique(own) if name == "carrier" else np.quantile(np.asarray(rows[name]), LEVELS)
        output = [[float(score({**some, name: np.full(200, point)}).mean())] for point in points]
        columns[name] = {"values": [*points.tolist(), None], "output": [*output, [float(score(some).mean())]]}
    return ModelResponse.of({"response": {"spread": [float(np.asarray(rows[SCORE]).std())], "columns": columns}})


def weeks(rng: np.random.Generator, reference: ReferenceRows, shifts: Mapping[str, float]) -> Iterator[Window]:
    calendar, bins = Calendar("1 week"), {name: reference.bins[name] for name in reference.watched}
    for number in range(WEEKS):
        start = MONDAY + dt.timedelta(weeks=number)
        statistics = TableStatistics.empty(SCHEMA, TASK)
        window = Window(start, calendar.end(start), calendar.label(start), statistics)
        block = np.arange(ROWS) * calendar.max_blocks // ROWS
        window.update(draw(rng, ROWS, shifts, days=calendar.max_blocks), bins, block, calendar.max_blocks)
        yield window


def simulate(num_logs: int, seed: int) -> list[dict[str, object]]:
    training = draw(np.random.default_rng(seed), TRAINING, {})
    reference, response, section = reference_of(training), response_of(training), MonitorSection()
    limits = PerformanceLimits(METRICS["roc_auc"], section.max_metric_loss, section.max_calibration_gap, 0.95)
    source = FactSource(reference, response, Estimation(), shown_metrics(TASK, limits.metric), limits)
    rows: list[dict[str, object]] = []
    for case, shifts in CASES.items():
        rng = np.random.default_rng([seed, len(rows)])
        alarmed = matter = 0
        words: list[str] = []
        for _ in range(num_logs):
            windows = list(weeks(rng, reference, shifts))
            judged, _ = decision.judge_windows(windows, source, Performance(), section)
            alarmed += sum(bool(window.alarms) for window in judged)
            matter += sum(bool(window.moved) for window in judged)
            words.append(decision.decide(judged, section.retrain_after, "ROC AUC").word)
        count = num_logs * WEEKS
        rows.append({
            "case": case, "windows": count, "alarm": alarmed / count, "matter": matter / count,
            "keep": words.count("keep") / num_logs, "watch": words.count("watch") / num_logs,
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=80, help="logs of five weeks a case (80)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    asked = parser.parse_args()
    found = simulate(asked.logs, asked.seed)
    line = "{case:<10} {windows:>8} {alarm:>10.1%} {matter:>8.1%} {keep:>6.0%} {watch:>6.0%}"
    print(f"{'case':<10} {'windows':>8} {'any alarm':>10} {'matters':>8} {'keep':>6} {'watch':>6}")
    for row in found:
        print(line.format_map(row))
    if asked.json:
        print(json.dumps({"claim": "alarms are as rare as stated, and matter where predictions move", "rows": found}))
