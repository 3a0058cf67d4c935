"""The monitor's report: the decision first, then the plots that it can be checked by.

Two drawings that only the monitor needs: a heat map of drift, and a distribution beside its reference.

The report's section on drift: what moved, when, how far and by what.

The report's section on performance: the metric, the rates and the labels, window by window.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import charts, formats, svg
from mlsys.reports import page as html
from mlsys.reports.markup import Html

__all__ = ["distribution_beside", "drift_section", "heat_map", "page", "performance_section"]


def heat_map(
    columns: Sequence[str],
    windows: Sequence[str],
    values: Sequence[Sequence[float | None]],
    alarms: Sequence[Sequence[bool]],
    *,
    title: str,
    floor: float,
) -> Html:
    """Columns down, windows across; the darker, the farther from the reference. Alarms carry a dot.

    Parameters
    ----------
    values
        ``values[i][j]`` of column i in window j, 0 to 1; None where not judged.
    floor
        The value that an alarm needs; five times as much has the full colour.
    """
    width = max(26.0, min(60.0, 720 / max(len(windows), 1)))
    left, top, row = 150, 62, 22
    total = left + width * len(windows) + 16
    parts = [svg.title(title)]
    every = max(1, round(52 / width))
    parts += [
        svg.text(left + width * (j + 0.5), top - 8, name, "m ink") for j, name in enumerate(windows) if j % every == 0
    ]
    for i, name in enumerate(columns):
        y = top + row * i
        parts.append(svg.text(left - 8, y + 15, svg.shorten(name, 22), "e ink"))
        for j, value in enumerate(values[i]):
            x = left + width * j
            parts.append(svg.rect(x, y, width, row, "empty cell"))
            if value is None:
                parts.append(svg.text(x + width / 2, y + 15, formats.MISSING, "m"))
                continue
            hint = f"{name}, {windows[j]}: {formats.number(value)}"
            parts.append(svg.rect(x, y, width, row, "f1 cell", hint, min(value / (5 * floor), 1.0) if floor else value))
            if alarms[i][j]:
                parts.append(svg.circle(x + width / 2, y + row / 2, 4, "alarm", f"alarm: {hint}"))
    told = f"{len(columns)} columns in {len(windows)} windows, {sum(sum(row) for row in alarms)} alarms"
    kind = "wide" if total > 560 else "normal"
    return svg.picture(max(total, 400), top + row * len(columns) + 8, *parts, name=title, description=told, kind=kind)


def distribution_beside(
    labels: Sequence[str], reference: Sequence[float], window: Sequence[float], *, title: str, name: str
) -> Html:
    """Fractions of a window in the reference's bins, each above that of the reference."""
    left, row, width = 150, 30, 400
    most = max([*reference, *window, 1e-9])
    reach = width - left - 50
    parts = [svg.title(title), svg.legend([name, "reference"], 12, 32, width)]
    for i, label in enumerate(labels):
        y = 46 + row * i
        parts.append(svg.text(left - 8, y + 14, svg.shorten(label, 22), "e ink"))
        for k, share in enumerate((window[i], reference[i])):
            who = name if k == 0 else "reference"
            length = share / most * reach
            parts.append(
                svg.rect(
                    left, y + 11 * k, max(length, 0.8), 10, f"f{k + 1}", f"{label}, {who}: {formats.percent(share)}"
                )
            )
            parts.append(svg.text(left + length + 4, y + 11 * k + 9, formats.percent(share)))
    told = "; ".join(
        f"{label}: {formats.percent(w)} after {formats.percent(r)}"
        for label, r, w in zip(labels, reference, window, strict=True)
    )
    return svg.picture(width, 50 + row * len(labels), *parts, name=title, description=told)


MAX_COLUMNS, MAX_DRAWN, MAX_BARS = 30, 6, 14


def drift_section(report: html.Page, value: Json, times: Sequence[str]) -> None:
    """Distances of all columns in all windows, the alarms with their reasons, and what moved most."""
    windows = value["windows"]
    columns = value["columns"][:MAX_COLUMNS]
    if not columns:
        return
    by = [{shift["column"]: shift for shift in window["shifts"]} for window in windows]
    names = [column["column"] for column in columns]
    excess = [[found[name]["excess"] if name in found else None for found in by] for name in names]
    alarms = [[name in found and found[name]["alarmed"] for found in by] for name in names]
    floor = value["rules"]["min_js_distance"]
    chart = heat_map(names, times, excess, alarms, title="Distance from the reference, noise taken off", floor=floor)
    report.section(
        "Drift",
        html.figure(
            chart,
            f"Jensen-Shannon distance beyond the mean that noise gives. A dot is an alarm: at least {floor:g}, and "
            "certain. Dark without a dot: far, but blocks of time inside one window are as far from each other.",
        ),
        _alarm_table(windows),
        note="Inputs and labels against the training rows, predictions against those on the validation rows.",
    )
    drawn = [_beside(column, windows, by) for column in columns if column["windows"]]
    shown = [block for block in drawn if block][:MAX_DRAWN]
    if shown:
        report.section(
            "What moved most",
            html.grid(*shown),
            note="The reference's deciles or categories, in the window where the column moved most.",
        )


def _alarm_table(windows: Sequence[Json]) -> html.Html:
    rows = [
        [
            window["label"],
            shift["column"],
            shift["detail"],
            shift["js_distance"],
            shift["noise"],
            _p(shift["adjusted"]),
            shift["effect"],
        ]
        for window in windows
        for shift in window["shifts"]
        if shift["alarmed"]
    ]
    if not rows:
        return html.paragraph("No drift alarm.")
    table = html.table(
        rows, ["window", "column", "what moved", "distance", "noise below", "p adjusted", "moves the prediction by"],
        align="llwrrrr", sortable=True,
    )  # fmt: skip
    return html.details(f"{len(rows)} drift alarms, with their reasons", table, is_open=len(rows) <= 20)


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


def _beside(column: Json, windows: Sequence[Json], by: Sequence[Mapping[str, Json]]) -> html.Html | None:
    """The column's distribution where it moved most, if that is an alarm."""
    name = column["column"]
    moved = [(found[name]["excess"], i) for i, found in enumerate(by) if name in found and found[name]["alarmed"]]
    if not moved:
        return None
    at = max(moved)[1]
    labels, reference, window = column["labels"], column["reference"], column["windows"][at]
    kept = [i for i in range(len(labels)) if reference[i] or window[i]]
    if len(kept) > MAX_BARS:
        kept = sorted(sorted(kept, key=lambda i: -max(reference[i], window[i]))[:MAX_BARS])
    chart = distribution_beside(
        [labels[i] for i in kept],
        [reference[i] for i in kept],
        [window[i] for i in kept],
        title=name,
        name=windows[at]["label"],
    )
    return html.figure(chart, by[at][name]["detail"])


_CAPTIONS = {
    "binary": "The gap between the lines is calibration. The band is where the prediction may lie: as near as is "
    "allowed, or with a gap that differs from that of the test rows by no more than noise. A window outside of it is "
    "flagged.",
    "regression": "The band is what noise allows between the two. It is no alarm: the metric judges.",
}


def performance_section(report: html.Page, value: Json, times: Sequence[str]) -> None:
    """Metric with the test rows' band, rates, and label coverage; nothing where there are no labels.

    Parameters
    ----------
    times
        The windows as the charts name them.
    """
    if value["labels"] is None:
        report.section("Performance", "No labels were given, so performance is not known.")
        return
    windows, base = value["windows"], value["baseline"]
    blocks = [
        _metric_chart(windows, times, base),
        *_rate_charts(value, times),
        _coverage(windows, times, value["rules"]),
    ]
    report.section(
        "Performance",
        *blocks,
        note="Bands are intervals from leaving out one block of time after another: rows that are alike count as few.",
    )


def _metric_chart(windows: Sequence[Json], times: Sequence[str], base: Json) -> html.Html:
    found = [window["metrics"].get(base["metric"]) or {} for window in windows]
    series = {
        "production": charts.Series(
            [f.get("value") for f in found], [f.get("low") for f in found], [f.get("high") for f in found]
        )
    }
    test = base["metrics"].get(base["metric"])
    if test:
        many = len(windows)
        low, high = test["low"], test["high"]
        ends = ([low] * many, [high] * many) if low is not None and high is not None else (None, None)
        series["test rows"] = charts.Series([test["value"]] * many, *ends)
    alarms = [
        i for i, w in enumerate(windows) if any(x["degraded"] and x["what"] == base["metric"] for x in w["losses"])
    ]
    better = "higher" if base["greater_is_better"] else "lower"
    return html.figure(
        charts.lines(
            list(times),
            series,
            title=f"{base['title']} by window",
            y_label=f"{base['title']}, {better} is better",
            alarms=alarms,
        ),
        "Flags mark windows where it is worse than on the test rows by more than stated and more than noise.",
    )


def _rate_charts(value: Json, times: Sequence[str]) -> list[html.Html]:
    """Observed against predicted rate (or mean), for one number a row; a gap says what calibration lost."""
    kind = value["task"]["kind"]
    if kind == "multiclass":
        return []
    windows, base = value["windows"], value["baseline"]
    what = "rate" if kind == "binary" else "mean"
    found = [next((loss for loss in w["losses"] if loss["what"] == "calibration"), None) for w in windows]
    spans = [_kept(w, loss) if kind == "binary" else _noise(w) for w, loss in zip(windows, found, strict=True)]
    chart = charts.lines(
        list(times),
        {
            f"observed {what}": charts.Series([w["observed"] for w in windows], *zip(*spans, strict=True)),
            f"predicted {what}": [w["predicted"] for w in windows],
        },
        title=f"{'Rate' if kind == 'binary' else 'Mean'} of {value['task']['target']}: observed and predicted",
        limits={} if base["observed"] is None else {f"observed {what} of the test rows": base["observed"]},
        alarms=[i for i, loss in enumerate(found) if loss and loss["degraded"]],
    )
    return [html.figure(chart, _CAPTIONS[kind])]


def _kept(window: Json, loss: Json | None) -> tuple[float | None, float | None]:
    """Predicted rates that raise no flag."""
    if loss is None or loss["allowed"] is None or window["observed"] is None:
        return None, None
    low, high = loss["allowed"]
    return window["observed"] + low, window["observed"] + high


def _noise(window: Json) -> tuple[float | None, float | None]:
    """The interval of the observed mean, given the predicted one."""
    gap = window["gap"]
    if window["predicted"] is None or not gap or gap["low"] is None:
        return None, None
    return window["predicted"] - gap["high"], window["predicted"] - gap["low"]


def _coverage(windows: Sequence[Json], times: Sequence[str], rules: Json) -> html.Html:
    chart = charts.lines(
        list(times),
        {"labelled": [window["labels"]["coverage"] for window in windows]},
        title="Label coverage",
        y_label="fraction of predictions with a label",
        limits={"mature from": rules["min_label_coverage"]},
        y_range=(0, 1),
    )
    return html.figure(
        chart, "Below the line a window's metrics are not shown: early labels are seldom like the later ones."
    )


Json = Mapping[str, Any]

_LEVEL: dict[str, html.Level] = {"keep": "good", "watch": "warn", "retrain": "bad"}
_BADGE: dict[str, html.Level] = {"ok": "good", "drift": "warn", "degraded": "bad", "too_few": "info"}
_FORMS = {"1 hour": "%d %b %H:%M", "1 day": "%d %b", "1 week": "%d %b", "1 month": "%b %Y"}


def page(judgement: Json) -> str:
    """The report of a judgement's JSON as one HTML document."""
    value = judgement
    rules, decision = value["rules"], value["decision"]
    log = value["log"]
    report = html.Page(
        f"Monitor: {value['name']}",
        f"{log['num_rows']:,} predictions of bundle {value['bundle'][:12]} in {len(value['windows'])} windows of "
        f"{rules['granularity']}, {rules['timezone']}",
        mark=html.badge(_LEVEL[decision["word"]], decision["word"]),
    )
    report.section(
        "Decision",
        html.alert(_LEVEL[decision["word"]], html.bullets(decision["reasons"]), decision["headline"]),
        _facts(value),
    )
    if value["windows"]:
        times = _times(value)
        performance_section(report, value, times)
        drift_section(report, value, times)
        report.section("Windows", _windows(value), note=_windows_note(rules))
    report.section("How it is judged", *_method(value))
    return report.html()


def _facts(value: Json) -> html.Html:
    log, counts = value["log"], value["counts"]
    rows: list[tuple[str, object, object]] = [
        ("Judged windows", counts["judged"], f"of {counts['windows']}; {counts['measured']} with mature labels"),
        ("Degraded", counts["degraded"], "worse than the test rows, beyond noise"),
        ("With drift alarms", counts["moved"], f"large and certain; {counts['both']} of them degraded"),
        ("Retries left out", log["num_duplicates"], "prediction ids that came again"),
    ]
    if log["num_other"]:
        rows.append(("Other bundles", log["num_other"], "predictions left out: another model answered"))
    if log["num_without_time"]:
        rows.append(("Without time", log["num_without_time"], "predictions left out"))
    delay = (value["labels"] or {}).get("delay_s")
    if delay:
        rows.append(("Label delay", formats.seconds(delay["median"]), f"95% within {formats.seconds(delay['p95'])}"))
    return html.facts(rows)


def _windows(value: Json) -> html.Html:
    title = value["baseline"]["title"]
    metric = value["baseline"]["metric"]
    rows = [
        [
            html.Html(
                html.escape(window["label"]).replace(" ", "\u00a0") + (" (partial)" if window["partial"] else "")
            ),
            window["num_rows"],
            window["num_unseen"],
            window["num_rare"],
            html.badge(_BADGE[window["verdict"]], window["verdict"].replace("_", " ")),
            _with_interval(window["metrics"].get(metric)),
            f"{window['labels']['coverage']:.0%}" if value["labels"] else None,
            " ".join(window["reasons"]) or "Nothing moved.",
        ]
        for window in value["windows"]
    ]
    head = ["window", "rows", "unseen values", "rare ones", "verdict", title, "labels", "why"]
    return html.table(rows, head, align="lrrrlrrw")


def _with_interval(estimate: Json | None) -> str | None:
    if not estimate or estimate["value"] is None:
        return None
    return f"{formats.number(estimate['value'])} ({formats.interval(estimate['low'], estimate['high'])})"


def _windows_note(rules: Json) -> str:
    return (
        f"Windows of fewer than {rules['min_rows']:,} rows are reported and not judged. Performance is measured where "
        f"at least {rules['min_label_coverage']:.0%} of the predictions that can have a label have it. Partial windows "
        "count for the decision only if there is no other."
    )


def _times(value: Json) -> list[str]:
    rules = value["rules"]
    zone = zoneinfo.ZoneInfo(rules["timezone"])
    form = _FORMS[rules["granularity"]]
    return [dt.datetime.fromisoformat(window["start"]).astimezone(zone).strftime(form) for window in value["windows"]]


def _method(value: Json) -> list[object]:
    rules, metric = value["rules"], value["baseline"]["title"]
    k, m = rules["retrain_after"]
    rate = rules["false_alarm_rate"]
    named = (
        f"A column is named when its Jensen-Shannon distance, less what noise gives, reaches "
        f"{rules['min_js_distance']:g}, and a test of equal distributions is significant at {rate:g} after "
        f"Benjamini-Hochberg over the columns of the window. A window without drift raises any alarm with a chance of "
        f"at most {rate:.0%}."
    )
    noise = (
        "The tests divide by the design effect, the number of rows that are worth one independent row, measured "
        "between the blocks of time inside the windows. What stays alike longer than a window, as a season does, is "
        "no noise to them: it is named as drift."
    )
    degraded = (
        f"A window is degraded when {metric} is worse than on the test rows by more than {rules['max_metric_loss']:g}, "
        f"or mean predicted and observed rate differ by more than {rules['max_calibration_gap']:g} (or than on the "
        f"test rows, if that is more), and the {rules['confidence']:.0%} interval of the change since the test rows "
        "excludes zero."
    )
    decision = f"Retrain when {k} of the last {m} measured windows are degraded. Drift alone never asks for it."
    rows = [[c["column"], c["kind"], c["largest"], c["design_effect"]] for c in value["columns"][:MAX_COLUMNS]]
    columns = html.table(rows, ["column", "kind", "largest distance", "design effect"], sortable=True)
    return [html.bullets([named, noise, degraded, decision]), html.details("Columns", columns) if rows else ""]
