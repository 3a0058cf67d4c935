"""Sentences about results: the line of each finished step, and the last lines of a run."""

from __future__ import annotations

from typing import Any, cast

from mlsys.reports import formats
from mlsys.reports.formats import count
from mlsys.workflow import modelling
from mlsys.workflow.results import (
    CollectResult,
    DeployResult,
    EvaluateResult,
    ExploreResult,
    FeaturesResult,
    MonitorResult,
    SelectionResult,
    ServedAt,
    TrainResult,
    TuneResult,
)
from mlsys.workflow.run import Run

MAX_WINDOWS = 8
"""Windows of the monitor among the last lines of a run, the newest ones."""


def own(result: SelectionResult | TuneResult | EvaluateResult | MonitorResult) -> str:
    """The line that the step itself made."""
    return result.summary


def collected(result: CollectResult) -> str:
    """Rows, columns, quarantine and parts, and for what part of the rows each feature table had a value."""
    shares = ", ".join(f"{part} {rows:,}" for part, rows in result.num_rows.items() if rows)
    joins = result.joined.get("joins", {})
    return (
        f"{sum(result.num_rows.values()):,} rows × {result.num_columns} columns, "
        f"{result.taken['num_quarantined']:,} in quarantine: {shares}"
        + "".join(f"; {name} known for {_known_fraction(counts):.1%}" for name, counts in joins.items())
    )


def _known_fraction(counts: dict[str, int]) -> float:
    return counts["matched"] / max(1, counts["matched"] + counts["missing"] + counts["too_old"])


def explored(result: ExploreResult) -> str:
    """Rows and columns, alerts and leakage findings, with the columns that they name."""
    suspects = f" ({', '.join(result.suspects)})" if result.suspects else ""
    return (
        f"{count(result.num_rows, 'training row')}, {count(result.num_columns, 'column')}: "
        f"{count(result.num_alerts, 'alert')}, {count(result.num_findings, 'leakage finding')}{suspects}"
    )


def planned(result: FeaturesResult) -> str:
    """Columns in use and dropped, and features by encoding."""
    return (
        f"{count(len(result.used), 'column')} in use, {len(result.dropped)} dropped → "
        f"{count(result.num_features['codes'], 'feature')} for trees, {result.num_features['dense']} for linear "
        f"models; fitted on {result.num_rows:,} training rows"
    )


def trained(result: TrainResult) -> str:
    """Family, features, bundle, and where it was fitted."""
    return f"{result.family}, {result.num_features} features, bundle {result.bundle[:12]}; plan {result.plan}"


def deployed(result: DeployResult) -> str:
    """Version, alias and address, tables that are looked up, and rows that were sent."""
    endpoint, sent = result.endpoint, result.replayed
    line = f"{result.name} version {result.version} is {result.alias}"
    if result.served not in (None, result.version):
        line = f"{result.name} version {result.version} is registered, {result.alias} stays version {result.served}"
    line += f" at {endpoint.url} ({endpoint.proxy})" if endpoint else ", served by no endpoint"
    if result.reason:
        line += f": {result.reason}"
    elif result.comparison:
        line += f"; {result.comparison['reason']}"
    if result.views:
        line += f"; {', '.join(result.views)} looked up"
    if sent:
        rows = f"{sent['num_rows']:,} production rows answered in {sent['num_requests']} requests"
        line += f"; {rows}, {sent['seconds']:.1f} s"
    return line


def text(run: Run) -> str:
    """Leaderboard, test metrics, gate verdict, windows of the monitor, reports, endpoint and a request to paste."""
    results = run.results
    evaluated = cast("EvaluateResult", results["evaluate"])
    served = cast("DeployResult", results["deploy"]).endpoint
    blocks = [
        _leaderboard(cast("SelectionResult", results["selection"]).leaderboard),
        _metrics(evaluated),
        [f"gate {'passed' if evaluated.passed else 'FAILED'}", *_verdict(run, evaluated)],
        *([lines] if (lines := _monitored(cast("MonitorResult", results["monitor"]), evaluated)) else []),
        ["reports", *(f"  {name:<9} {record['report']}" for name, record in run.records.items() if "report" in record)],
        *([_endpoint(served)] if served else []),
    ]
    return "\n" + "\n\n".join("\n".join(lines) for lines in blocks)


def _verdict(run: Run, evaluated: EvaluateResult) -> list[str]:
    """Reasons of the gate, and the columns that may have known the answer."""
    return [f"  {line}" for line in (*(check["reason"] for check in evaluated.checks), *modelling.warnings(run))]


def _leaderboard(ranking: dict[str, Any]) -> list[str]:
    """Families best first, in columns that are as wide as their longest cell."""
    entries = ranking["entries"]
    names = [", ".join(filter(None, [entry["family"], entry["form"]])) for entry in entries]
    means = [f"{entry['mean']:.4f}" for entry in entries]
    spreads = ["" if entry["std_error"] is None else f"± {entry['std_error']:.4f}" for entry in entries]
    costs = [f"{entry['fit_s']:6.1f} s a fit {entry['predict_us_per_row']:8.1f} µs a row" for entry in entries]
    widths = [max(least, *map(len, cells)) for least, cells in ((9, names), (8, means), (10, spreads))]
    lines = [f"leaderboard ({ranking['metric']}, mean over the folds ± standard error)"]
    for entry, name, mean, spread, cost in zip(entries, names, means, spreads, costs, strict=True):
        cells = f"{name:<{widths[0]}} {mean:>{widths[1]}} {spread:<{widths[2]}} {cost}"
        lines.append(f"  {cells}   {', '.join(_notes(ranking, entry, name))}".rstrip())
    return lines


def _notes(ranking: dict[str, Any], entry: dict[str, Any], name: str) -> list[str]:
    """Remarks about a family behind its line of the leaderboard."""
    notes = ["tied with the best"] if entry["tie"] else []
    if name == ranking["best"]:
        notes = ["best"]
    if name == ranking["preferred"]:
        notes.append("preferred")
    if len(entry["scores"]) < len(ranking["rounds"]):
        notes.append(f"left after {len(entry['scores'])} folds")
    return notes


def _metrics(evaluated: EvaluateResult) -> list[str]:
    """Metrics of the test rows, in columns that are as wide as their longest cell."""
    rows = [
        (metric["title"], f"{metric['value']:.4f}", metric["low"], metric["high"])
        for metric in evaluated.metrics.values()
        if metric["value"] is not None
    ]
    titles = max([25, *(len(title) for title, *_ in rows)])
    values = max([10, *(len(value) for _, value, *_ in rows)])
    lines = ["test rows (value, interval)"]
    for title, value, low, high in rows:
        ends = "" if low is None else f"[{low:.4f}, {high:.4f}]"
        lines.append(f"  {title:<{titles}} {value:>{values}}  {ends}".rstrip())
    return lines


def _monitored(monitored: MonitorResult, evaluated: EvaluateResult) -> list[str]:
    """The chosen metric as estimated without labels beside what labels gave, and what the alarms do; none unjudged."""
    windows = [window for window in monitored.windows if window["verdict"] != "too_few"][-MAX_WINDOWS:]
    if not windows:
        return []
    metric, title = evaluated.metric, evaluated.metrics[evaluated.metric]["title"]
    rows = [["window", "estimated without labels", "by labels", "verdict"]]
    for window in windows:
        estimated = window["estimate"] or {"metrics": {}, "trusted": True}
        doubt = "" if estimated["trusted"] else ", doubted"
        cells = [_span(metrics.get(metric)) for metrics in (estimated["metrics"], window["metrics"])]
        rows.append([window["label"], cells[0] + doubt, cells[1], window["verdict"]])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [f"monitor ({title})", *(f"  {line.rstrip()}" for line in (*lines, *monitored.alarms))]


def _span(estimate: dict[str, Any] | None) -> str:
    """A value and its interval.

    >>> _span({"value": 0.5, "low": 0.25, "high": 0.75}), _span({"value": 0.68254, "low": None, "high": None})
    ('0.500 [0.250, 0.750]', '0.683')
    """
    if estimate is None or estimate["value"] is None:
        return formats.MISSING
    ends = [estimate["low"], estimate["high"]]
    value, *shown = (formats.number(number, 3) for number in (estimate["value"], *ends))
    return value if None in ends else f"{value} [{', '.join(shown)}]"


def _endpoint(endpoint: ServedAt) -> list[str]:
    return [
        "endpoint",
        f"  {endpoint.url}   ({endpoint.proxy})",
        f"  {endpoint.curl}",
        "",
        "mlsys down   stops the cluster and the endpoint",
    ]
