"""The state of a store's models as gauges for Prometheus: decisions, windows, alerts, maintenance, canaries, aliases.

Everything is read from the store when it is asked for, so every process that sees the store says the same, and none has
to run between two looks. The text is Prometheus' exposition format 0.0.4. Of windows, the last one counts that was
judged; of metrics, the last window that has one, with the time at which it ended.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlsys import errors, registry
from mlsys.alerts import alert_book
from mlsys.monitor import last
from mlsys.registry import canaries
from mlsys.store import Store, read_json
from mlsys.workflow.maintenance_state import MaintenanceState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MAX_COLUMNS = 50
"""Columns of a window that have a series of their own, those with the largest shift."""

GAUGES = {
    "mlsys_model_version": "version that an alias means",
    "mlsys_monitor_decision": "1 for the monitor's last decision",
    "mlsys_monitor_run_timestamp_seconds": "time of the monitor's last run",
    "mlsys_monitor_backlog_rows": "logged rows that no run of the monitor has read",
    "mlsys_monitor_windows": "windows of the last run, by verdict",
    "mlsys_monitor_window_verdict": "1 for the verdict of the last judged window",
    "mlsys_monitor_window_rows": "rows of the last judged window",
    "mlsys_monitor_window_end_timestamp_seconds": "end of the last judged window",
    "mlsys_monitor_window_label_coverage": "part of the rows of the last judged window that have a label",
    "mlsys_monitor_window_drift_alarms": "columns of the last judged window with a drift alarm, and whether it matters",
    "mlsys_monitor_js_distance": "Jensen-Shannon distance of a column in the last judged window, noise taken off",
    "mlsys_monitor_metric": "chosen metric in the last window with labels: value, and the ends of its interval",
    "mlsys_monitor_metric_end_timestamp_seconds": "end of the last window whose metric is known from labels",
    "mlsys_monitor_estimated_metric": "chosen metric as estimated without labels, in the last window that has it",
    "mlsys_monitor_estimate_trusted": "1 if that estimate is to be trusted",
    "mlsys_monitor_test_metric": "chosen metric on the test rows",
    "mlsys_alert": "1 for each alert that lasts",
    "mlsys_alert_undelivered": "places that have not got a lasting alert",
    "mlsys_maintenance_outcome": "1 for the outcome of the last maintenance",
    "mlsys_maintenance_timestamp_seconds": "time of the last maintenance",
    "mlsys_canary_percent": "share of the requests that a running canary gets",
    "mlsys_unreadable": "1 for a model whose state in the store cannot be read",
}
"""Gauges and their meanings; each has the label ``model``."""


@dataclass(frozen=True)
class Sample:
    """The value of a gauge for its labels."""

    gauge: str
    labels: Mapping[str, str]
    value: float

    def line(self) -> str:
        r"""The line of the exposition format.

        >>> Sample("up", {"model": 'a "b"'}, 2.0).line()
        'up{model="a \\"b\\""} 2'
        """
        labels = ",".join(f'{name}="{_escaped(text)}"' for name, text in self.labels.items())
        return f"{self.gauge}{{{labels}}} {_number(self.value)}"


def text(store: Store) -> str:
    """The gauges of all models of a store, each with its meaning, sorted by gauge and model."""
    samples = [sample for name in registry.model_names(store) for sample in of_model(store, name)]
    lines = []
    for gauge, meaning in GAUGES.items():
        lines += [f"# HELP {gauge} {meaning}", f"# TYPE {gauge} gauge"]
        lines += [sample.line() for sample in samples if sample.gauge == gauge]
    return "\n".join([*lines, ""])


def of_model(store: Store, name: str) -> list[Sample]:
    """The samples of a model; a part of its state that is damaged costs that part alone."""
    parts: tuple[Callable[[Store, str], Iterator[Sample]], ...]
    parts = (_of_aliases, _of_monitor, _of_alerts, _of_maintenance, _of_canary)
    samples, is_damaged = [], False
    for part in parts:
        try:
            samples += list(part(store, name))
        except (errors.MlsysError, KeyError, TypeError, ValueError, AttributeError):
            is_damaged = True
    return [*samples, Sample("mlsys_unreadable", {"model": name}, float(is_damaged))]


def _of_aliases(store: Store, name: str) -> Iterator[Sample]:
    moves = (move for move in registry.history(store, name) if move.kind in ("move", "rollback") and move.alias)
    for alias, version in {str(move.alias): move.version for move in moves}.items():
        yield Sample("mlsys_model_version", {"model": name, "alias": alias}, version)


def _of_monitor(store: Store, name: str) -> Iterator[Sample]:
    noted = last.status(store, name)
    yield Sample("mlsys_monitor_backlog_rows", {"model": name}, noted["backlog_rows"])
    if "decision" not in noted:
        return
    for decision in ("keep", "watch", "retrain"):
        labels = {"model": name, "decision": decision}
        yield Sample("mlsys_monitor_decision", labels, float(decision == noted["decision"]))
    yield Sample("mlsys_monitor_run_timestamp_seconds", {"model": name}, _seconds(noted["at"]))
    if store.has("monitor", noted["judgement"]):
        value = read_json(store.path("monitor", noted["judgement"]) / "judgement.json")
        yield from _of_windows(name, value["windows"])
        yield from _of_metric(name, value)


def _of_windows(name: str, windows: list[dict[str, Any]]) -> Iterator[Sample]:
    verdicts = ("ok", "drift", "degraded", "too_few")
    for verdict in verdicts:
        number = sum(window["verdict"] == verdict for window in windows)
        yield Sample("mlsys_monitor_windows", {"model": name, "verdict": verdict}, number)
    judged = [window for window in windows if window["verdict"] != "too_few"]
    if not judged:
        return
    window, own = judged[-1], {"model": name}
    for verdict in verdicts[:-1]:
        yield Sample("mlsys_monitor_window_verdict", {**own, "verdict": verdict}, float(verdict == window["verdict"]))
    yield Sample("mlsys_monitor_window_rows", own, window["num_rows"])
    yield Sample("mlsys_monitor_window_end_timestamp_seconds", own, _seconds(window["end"]))
    yield Sample("mlsys_monitor_window_label_coverage", own, window["labels"]["coverage"])
    alarms = [shift for shift in window["shifts"] if shift["alarmed"]]
    for matters in (True, False):
        number = sum(shift["matters"] is matters for shift in alarms)
        labels = {**own, "matters": "yes" if matters else "no"}
        yield Sample("mlsys_monitor_window_drift_alarms", labels, number)
    for shift in sorted(window["shifts"], key=lambda shift: -shift["excess"])[:MAX_COLUMNS]:
        yield Sample("mlsys_monitor_js_distance", {**own, "column": shift["column"]}, shift["excess"])


def _of_metric(name: str, value: Mapping[str, Any]) -> Iterator[Sample]:
    """The chosen metric where it is known, where it is estimated, and on the test rows."""
    metric, own = value["baseline"]["metric"], {"model": name}
    yield from _interval("mlsys_monitor_test_metric", name, metric, value["baseline"].get("metrics", {}))
    known = [window for window in value["windows"] if metric in window["metrics"]]
    if known:
        yield from _interval("mlsys_monitor_metric", name, metric, known[-1]["metrics"])
        yield Sample("mlsys_monitor_metric_end_timestamp_seconds", own, _seconds(known[-1]["end"]))
    estimates = [window["estimate"] for window in value["windows"] if window.get("estimate")]
    estimated = [estimate for estimate in estimates if metric in estimate["metrics"]]
    if estimated:
        yield from _interval("mlsys_monitor_estimated_metric", name, metric, estimated[-1]["metrics"])
        yield Sample("mlsys_monitor_estimate_trusted", own, float(estimated[-1]["trusted"]))


def _interval(gauge: str, name: str, metric: str, metrics: Mapping[str, Any]) -> Iterator[Sample]:
    """The value of a metric and the ends of its interval, as far as they are known."""
    for end in ("value", "low", "high"):
        number = metrics.get(metric, {}).get(end)
        if number is not None:
            yield Sample(gauge, {"model": name, "metric": metric, "is": end}, number)


def _of_alerts(store: Store, name: str) -> Iterator[Sample]:
    for alert in alert_book.read(store, name).open():
        labels = {"model": name, "alias": alert.alias, "kind": alert.kind}
        known = "yes" if alert.acknowledged_at else "no"
        yield Sample("mlsys_alert", {**labels, "severity": alert.severity, "acknowledged": known}, 1)
        missed = sum(each.error is not None for each in alert.deliveries.values())
        yield Sample("mlsys_alert_undelivered", labels, missed)


def _of_maintenance(store: Store, name: str) -> Iterator[Sample]:
    result = MaintenanceState.read(store, name).last
    if result is not None:
        yield Sample("mlsys_maintenance_outcome", {"model": name, "outcome": result["outcome"]}, 1)
        yield Sample("mlsys_maintenance_timestamp_seconds", {"model": name}, _seconds(result["at"]))


def _of_canary(store: Store, name: str) -> Iterator[Sample]:
    trial = canaries.running(store, name)
    if trial is not None:
        percent = 0.0 if trial.is_shadow else trial.plan.percent(trial.step)
        yield Sample("mlsys_canary_percent", {"model": name, "version": str(trial.entry.version)}, percent)


def _seconds(moment: str) -> float:
    """Seconds of the Unix epoch of a time in ISO 8601."""
    return dt.datetime.fromisoformat(moment).timestamp()


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else f"{value:.17g}" if value != int(value) else str(int(value))


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
