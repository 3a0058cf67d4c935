"""The monitor's report: the decision first, then the plots that it can be checked by."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.monitor import drawings
from mlsys.reports import charts, formats
from mlsys.reports import page as html

__all__ = ["page"]

Json = Mapping[str, Any]

_LEVEL: dict[str, html.Level] = {"keep": "good", "watch": "warn", "retrain": "bad"}
_BADGE: dict[str, html.Level] = {"ok": "good", "drift": "warn", "degraded": "bad", "too_few": "info"}
_FORMS = {"1 hour": "%d %b %H:%M", "1 day": "%d %b", "1 week": "%d %b", "1 month": "%b %Y"}

MAX_COLUMNS, MAX_DRAWN, MAX_BARS = 30, 6, 14


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
        _performance(report, value)
        _drift(report, value)
        report.section("Windows", _windows(value), note=_windows_note(rules))
    report.section("How it is judged", *_method(value))
    return report.html()


def _facts(value: Json) -> html.Html:
    log, windows = value["log"], value["windows"]
    judged = [w for w in windows if w["verdict"] != "too_few"]
    rows: list[tuple[str, object, object]] = [
        (
            "Judged windows",
            len(judged),
            f"of {len(windows)}; {sum(w['labels']['mature'] for w in windows)} with mature labels",
        ),
        ("Degraded", sum(w["verdict"] == "degraded" for w in windows), "worse than the test rows, beyond noise"),
        ("With drift alarms", sum(any(s["alarmed"] for s in w["shifts"]) for w in windows), "large and certain"),
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


def _performance(report: html.Page, value: Json) -> None:
    """Metric with the test rows' band, rates, and label coverage; nothing where there are no labels."""
    if value["labels"] is None:
        report.section("Performance", "No labels were given, so performance is not known.")
        return
    windows, times, base = value["windows"], _times(value), value["baseline"]
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
    windows, base = value["windows"], value["baseline"]
    if value["task"]["kind"] == "multiclass":
        return []
    is_binary = value["task"]["kind"] == "binary"
    what = "rate" if is_binary else "mean"
    observed, predicted = ([window[key] for window in windows] for key in ("observed", "predicted"))
    gaps = [window["gap"] or {} for window in windows]
    low = [None if g.get("low") is None or p is None else p - g["high"] for g, p in zip(gaps, predicted, strict=True)]
    high = [None if g.get("high") is None or p is None else p - g["low"] for g, p in zip(gaps, predicted, strict=True)]
    limits = {} if base["observed"] is None else {f"observed {what} of the test rows": base["observed"]}
    alarms = [
        i for i, w in enumerate(windows) if any(x["degraded"] and x["what"] == "calibration" for x in w["losses"])
    ]
    chart = charts.lines(
        list(times),
        {f"observed {what}": charts.Series(observed, low, high), f"predicted {what}": predicted},
        title=f"{'Rate' if is_binary else 'Mean'} of {value['task']['target']}: observed and predicted",
        limits=limits,
        alarms=alarms,
    )
    caption = (
        "The gap between the lines is calibration; the band is its interval. Flags mark windows where it is wider than "
        "allowed and has changed since the test rows by more than noise."
    )
    return [html.figure(chart, caption)]


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


def _drift(report: html.Page, value: Json) -> None:
    windows, times = value["windows"], _times(value)
    columns = value["columns"][:MAX_COLUMNS]
    if not columns:
        return
    by = [{shift["column"]: shift for shift in window["shifts"]} for window in windows]
    names = [column["column"] for column in columns]
    excess = [[found[name]["excess"] if name in found else None for found in by] for name in names]
    alarms = [[name in found and found[name]["alarmed"] for found in by] for name in names]
    floor = value["rules"]["min_js_distance"]
    chart = drawings.heat(
        names, times, excess, alarms, title="Distance from the reference, noise taken off", floor=floor
    )
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
    chart = drawings.beside(
        [labels[i] for i in kept],
        [reference[i] for i in kept],
        [window[i] for i in kept],
        title=name,
        name=windows[at]["label"],
    )
    return html.figure(chart, by[at][name]["detail"])


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
