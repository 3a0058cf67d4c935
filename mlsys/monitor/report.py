"""The monitor's report: the decision, then performance and drift window by window, then the method.

It is drawn from the JSON of a judgement alone.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.evaluate.metrics import UTILITY
from mlsys.monitor import drift, drift_alarms, drift_charts, report_months
from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Html

Json = Mapping[str, Any]

_LEVEL: dict[str, html.Level] = {"keep": "good", "watch": "warn", "retrain": "bad"}
_BADGE: dict[str, html.Level] = {"ok": "good", "drift": "warn", "degraded": "bad", "too_few": "info"}
_FORMS = {"1 hour": "%d %b %H:%M", "1 day": "%d %b", "1 week": "%d %b", "1 month": "%b %Y"}

_WINDOWS_NOTE = (
    "Windows of fewer than {min_rows:,} rows are reported but not judged. Partial windows count for the decision only "
    "if there are no complete ones. Performance is measured where at least {min_label_coverage:.0%} of the predictions "
    "that can have a label have it, or, where labels say when they were known, where half of the rows are so old that "
    "half of the labels of every class have come."
)

MAX_COLUMNS, MAX_DRAWN, MAX_DOUBTS = 30, 6, 6
"""Columns in the heat map and the table; distributions that are drawn; doubts that are shown at once."""


def page(value: Json) -> str:
    """The report of a judgement, given as its JSON values, as one HTML document."""
    rules, decision = value["rules"], value["decision"]
    predictions = formats.count(value["log"]["num_rows"], "prediction")
    windows = formats.count(len(value["windows"]), "window")
    report = html.Page(
        f"Monitor: {value['name']}",
        f"{predictions} of bundle {value['bundle'][:12]} in {windows} of {rules['granularity']}, {rules['timezone']}",
        mark=html.badge(_LEVEL[decision["word"]], decision["word"]),
    )
    alert = html.alert(_LEVEL[decision["word"]], html.bullets(decision["reasons"]), decision["headline"])
    notes = html.alert("info", html.bullets(value["messages"]), "Left out") if value["messages"] else ""
    report.section("Decision", alert, notes, _facts(value))
    if value["windows"]:
        times, latest = _window_names(value), {**value, "windows": value["windows"][-report_months.MAX_SHOWN :]}
        folds = report_months.note(len(value["windows"]))
        _performance(report, value, latest, times)
        _drift(report, value, latest, times)
        earlier = report_months.table(value["windows"], rules["timezone"])
        report.section("Windows", _windows_table(latest), earlier, note=f"{_WINDOWS_NOTE.format(**rules)}{folds}")
    report.section("How it is judged", *_method(value))
    return report.html()


def _facts(value: Json) -> Html:
    log, counts = value["log"], value["counts"]
    rows: list[tuple[str, object, object]] = [
        ("Judged windows", counts["judged"], f"of {counts['windows']}; {counts['measured']} with mature labels"),
        ("Degraded", counts["degraded"], "worse than the test rows, beyond noise"),
        ("With drift alarms", counts["moved"], "large and certain"),
        ("With drift that matters", counts["matter"], f"it moves the predictions; {counts['both']} of them degraded"),
        ("Repeats left out", log["num_duplicates"], "rows that were sent before, such as a client's retries"),
    ]
    if log["num_other"]:
        rows.append(("Other bundles left out", log["num_other"], "predictions of other models"))
    if log["num_rejected"]:
        rows.append(("Rows left out", log["num_rejected"], "; ".join(log["rejected"])))
    delay = (value["labels"] or {}).get("delay_s")
    if delay:
        rows.append(("Label delay", formats.seconds(delay["median"]), f"95% within {formats.seconds(delay['p95'])}"))
    return html.facts(rows)


def _windows_table(value: Json) -> Html:
    title, metric = value["baseline"]["title"], value["baseline"]["metric"]
    with_utility = _has_utility(value)
    rows = [
        [
            _window_cell(window),
            window["num_rows"],
            html.badge(_BADGE[window["verdict"]], window["verdict"].replace("_", " ")),
            " ".join(window["reasons"]) or "No drift.",
            _with_interval(window["metrics"].get(metric)),
            _with_interval(((window["estimate"] or {}).get("metrics") or {}).get(metric)),
            *([_with_interval(window["metrics"].get(UTILITY))] if with_utility else []),
            f"{window['labels']['coverage']:.0%}" if value["labels"] else None,
            window["num_unseen"],
            window["num_rare"],
        ]
        for window in value["windows"]
    ]
    worth = ["utility"] if with_utility else []
    head = ["window", "rows", "verdict", "why", title, "estimated", *worth, "labels", "unseen values", "rare values"]
    return html.table(rows, head, align="lrlw" + "r" * (len(head) - 4))


def _has_utility(value: Json) -> bool:
    """Tell whether labels have said of some window what its predictions were worth."""
    return any(UTILITY in window["metrics"] for window in value["windows"])


def _window_cell(window: Json) -> Html:
    label = html.escape(window["label"]).replace(" ", "\u00a0")
    return Html(f"{label} (partial)" if window["partial"] else label)


def _with_interval(estimate: Json | None) -> str | None:
    if not estimate or estimate["value"] is None:
        return None
    return f"{formats.number(estimate['value'])} ({formats.interval(estimate['low'], estimate['high'])})"


def _window_names(value: Json) -> list[str]:
    zone, form = zoneinfo.ZoneInfo(value["rules"]["timezone"]), _FORMS[value["rules"]["granularity"]]
    return [dt.datetime.fromisoformat(window["start"]).astimezone(zone).strftime(form) for window in value["windows"]]


def _method(value: Json) -> list[object]:
    rules, metric = value["rules"], value["baseline"]["title"]
    k, m = rules["retrain_after"]
    rate = rules["false_alarm_rate"]
    alarm = (
        f"A column raises an alarm when its Jensen-Shannon distance, less the mean that noise gives, reaches "
        f"{rules['min_js_distance']:g}, and a test of equal distributions is significant at {rate:g} after the "
        f"Benjamini-Hochberg adjustment for all columns of the window. A window without drift raises any alarm with a "
        f"probability of at most {rate:.0%}."
    )
    matters = (
        f"An alarm matters when it is of the predictions, or of a column whose shift moves them by at least "
        f"{rules['min_effect']:g} of their standard deviations: the Wasserstein distance between the model's mean "
        "predictions for the column's values in training and in the window (partial dependence on test rows). Where "
        "that is not known, every alarm matters. Drift of the labels moves no prediction; performance is judged by it. "
        "Alarms are told in this order: those of windows in which the metric fell, by labels or as estimated, before "
        "the others, and in a window those first that move the predictions most."
    )
    noise = (
        "The tests are divided by the design effect, the number of rows that are worth one independent row, estimated "
        "from the blocks of time inside the windows. What stays alike for longer than a window, such as a season, is "
        "not noise to them: it is reported as drift."
    )
    joint = (
        f"Columns without an alarm of their own are looked at together, in the last {drift_alarms.MAX_JOINT} windows: "
        "a classifier is fitted to tell some rows of the window from training rows, on every other block of time, and "
        "tried on the rest. They raise an alarm when it tells them apart certainly, by a test in the same family, and "
        f"with a ROC AUC of at least {drift_alarms.least_auc(rules['min_js_distance']):.3f}."
    )
    degraded = (
        f"A window is degraded when {metric} is worse than on the test rows by more than {rules['max_metric_loss']:g}, "
        f"or mean predicted and observed rate differ by more than {rules['max_calibration_gap']:g} (or than on the "
        f"test rows, if that is more), and the {rules['confidence']:.0%} interval of the change since the test rows "
        "excludes zero."
    )
    worth = (
        f"The utility of the predictions, where the recipe says it, is judged likewise: a window is degraded where its "
        f"mean has lost more than {rules['max_metric_loss']:g} of that of the test rows. It is not estimated without "
        "labels: what a row is worth depends on more than its score."
    )
    estimated = (
        "Without labels, metrics are estimated from the scores: a score is taken for the rate that the test rows had "
        "at it, with the noise of labels and of these rates. That holds if the same scores still mean the same, which "
        "only labels can show."
    )
    decision = f"Retrain when {k} of the last {m} measured windows are degraded. Drift alone never asks for it."
    rows = [[c["column"], c["kind"], c["largest"], c["design_effect"]] for c in value["columns"][:MAX_COLUMNS]]
    columns = html.table(rows, ["column", "kind", "largest distance", "design effect"], sortable=True)
    entries = [[html.code(each.name), each.title, each.columns, each.source] for each in drift.STATISTICS]
    statistics = html.table(entries, ["column of drift.parquet", "statistic", "columns", "source"])
    return [
        html.bullets(
            [alarm, joint, matters, noise, degraded, *([worth] if _has_utility(value) else []), estimated, decision]
        ),
        html.details("Columns", columns) if rows else "",
        html.details("Statistics of drift", statistics),
    ]


_CAPTIONS = {
    "binary": "The distance between the lines is the calibration gap. The predicted rate may lie in the band: within "
    "the limit of the observed one, or with a gap that differs from that of the test rows by no more than noise. "
    "Windows outside the band are flagged.",
    "regression": "The band is the difference that noise allows. It raises no alarm: the metric is what is judged.",
}
"""Kind of task → caption of its chart of observed and predicted."""


def _performance(report: html.Page, value: Json, latest: Json, times: Sequence[str]) -> None:
    """Add the metric with the test rows' band, its estimate, the rates and the label coverage of each window.

    `latest` is the judgement with those windows alone that are shown one by one.
    """
    windows = value["windows"]
    if value["labels"] is None:
        text = html.paragraph("No labels were given, so performance is not known.")
        drawn = [_metric_chart(windows, times, value["baseline"])] if _estimates(windows, value["baseline"]) else []
        report.section("Performance", text, *drawn, _estimate_notes(latest))
        return
    report.section(
        "Performance",
        _metric_chart(windows, times, value["baseline"]),
        _estimate_notes(latest),
        *([_metric_chart(windows, times, _of_utility(value["baseline"]))] if _has_utility(value) else []),
        *_rate_charts(value, times),
        _coverage_chart(value, times),
        _delays(latest),
        _regions(latest),
        note="Bands are intervals from leaving out one block of time after another: rows that are alike count as few.",
    )


def _of_utility(base: Json) -> Json:
    """The facts of the test rows with the utility in place of the chosen metric."""
    return {**base, "metric": UTILITY, "title": "Utility", "greater_is_better": True}


def _metric_chart(windows: Sequence[Json], times: Sequence[str], base: Json) -> Html:
    estimates = [window["metrics"].get(base["metric"]) or {} for window in windows]
    series = {"production": charts.Series(*([each.get(key) for each in estimates] for key in ("value", "low", "high")))}
    expected = _estimates(windows, base)
    if expected:
        ends = ([each.get(key) for each in expected] for key in ("value", "low", "high"))
        series["estimated without labels"] = charts.Series(*ends)
    test = base["metrics"].get(base["metric"])
    if test:
        count = len(windows)
        low, high = test["low"], test["high"]
        band = ([low] * count, [high] * count) if low is not None and high is not None else (None, None)
        series["test rows"] = charts.Series([test["value"]] * count, *band)
    better = "higher" if base["greater_is_better"] else "lower"
    chart = charts.lines(
        list(times),
        series,
        title=f"{base['title']} by window",
        y_label=f"{base['title']}, {better} is better",
        alarms=[i for i, window in enumerate(windows) if _loss(window, base["metric"]).get("degraded")],
    )
    caption = (
        "Flags mark windows where it is worse than on the test rows by more than the limit, and by more than noise."
    )
    return html.figure(chart, caption)


def _estimates(windows: Sequence[Json], base: Json) -> list[Json]:
    """Estimate of the metric in each window, empty where there is none; no entry if no window has one."""
    estimates = [((window["estimate"] or {}).get("metrics") or {}).get(base["metric"]) or {} for window in windows]
    return estimates if any(estimates) else []


def _estimate_notes(value: Json) -> Html:
    """Say how the estimates compare with labels, which of them are doubted, or why there are none."""
    facts, title = value["estimates"], value["baseline"]["title"]
    if facts["reason"]:
        return html.paragraph(f"Performance is not estimated without labels: {facts['reason']}.")
    if not _estimates(value["windows"], value["baseline"]):
        return html.paragraph(f"{title} is not estimated without labels.")
    lines = ["No window has labels yet to check the estimates by."]
    if facts["num_compared"]:
        windows = formats.count(facts["num_compared"], "window")
        mean, absolute = (formats.number(facts[key], 2) for key in ("mean_error", "mean_absolute_error"))
        lines = [
            (
                f"Of {windows} with labels, {facts['num_held']} had {title} within the interval of the estimate. "
                f"It differed by {absolute} on average; realised less estimated was {mean}."
            )
        ]
    lines += [
        f"{window['label']}: the estimate is not to be trusted: {'; '.join(window['estimate']['doubts'])}."
        for window in value["windows"]
        if window["estimate"] and window["estimate"]["doubts"]
    ]
    return html.details("Estimates without labels", html.bullets(lines), is_open=len(lines) <= MAX_DOUBTS)


def _loss(window: Json, what: str) -> Json:
    return next((loss for loss in window["losses"] if loss["what"] == what), {})


def _rate_charts(value: Json, times: Sequence[str]) -> list[Html]:
    """Observed and predicted rate (or mean) of each window; none for several classes or labels, nor for a ranking."""
    kind = value["task"]["kind"]
    if kind in ("multiclass", "multilabel", "ranking"):
        return []
    windows, base = value["windows"], value["baseline"]
    what = "rate" if kind == "binary" else "mean"
    bands = [_allowed_band(window) if kind == "binary" else _noise_band(window) for window in windows]
    chart = charts.lines(
        list(times),
        {
            f"observed {what}": charts.Series([w["observed"] for w in windows], *zip(*bands, strict=True)),
            f"predicted {what}": [w["predicted"] for w in windows],
        },
        title=f"{'Rate' if kind == 'binary' else 'Mean'} of {value['task']['target']}: observed and predicted",
        limits={} if base["observed"] is None else {f"observed {what} of the test rows": base["observed"]},
        alarms=[i for i, window in enumerate(windows) if _loss(window, "calibration").get("degraded")],
    )
    return [html.figure(chart, _CAPTIONS[kind])]


def _allowed_band(window: Json) -> tuple[float | None, float | None]:
    """Interval of the predicted rates that raise no flag."""
    allowed = _loss(window, "calibration").get("allowed")
    if allowed is None or window["observed"] is None:
        return None, None
    return window["observed"] + allowed[0], window["observed"] + allowed[1]


def _noise_band(window: Json) -> tuple[float | None, float | None]:
    """Interval of the observed mean around the predicted one."""
    gap = window["gap"]
    if window["predicted"] is None or not gap or gap["low"] is None:
        return None, None
    return window["predicted"] - gap["high"], window["predicted"] - gap["low"]


def _coverage_chart(value: Json, times: Sequence[str]) -> Html:
    windows = value["windows"]
    series = {"labelled": [window["labels"]["coverage"] for window in windows]}
    title, y_label = "Label coverage", "fraction of predictions with a label"
    if value["labels"]["delays"]:
        chart = charts.lines(list(times), series, title=title, y_label=y_label, y_range=(0, 1))
        return html.figure(chart, "Labels that have come are weighted for those that have not, by their delays.")
    limits = {"mature from": value["rules"]["min_label_coverage"]}
    chart = charts.lines(list(times), series, title=title, y_label=y_label, limits=limits, y_range=(0, 1))
    caption = "Below the line a window's metrics are not shown, because early labels are seldom like later ones."
    return html.figure(chart, caption)


def _delays(value: Json) -> Html:
    """The delay of each class, and what early labels would say alone; nothing where delays are not known."""
    if not value["labels"]["delays"]:
        return Html("")
    by_class = [
        [each["class"], each["num_labels"], round(each["num_waiting"])]
        + ["later" if each[key] is None else formats.seconds(each[key]) for key in ("median_s", "p90_s")]
        for each in value["labels"]["delays"]
    ]
    metric, title = value["baseline"]["metric"], value["baseline"]["title"]
    early = [
        [
            window["label"], f"{window['labels']['coverage']:.0%}", f"{window['labels']['ready']:.0%}",
            window["labels"]["early"]["value"], (window["metrics"].get(metric) or {}).get("value"),
            window["labels"]["early"]["bias"],
        ]
        for window in value["windows"]
        if window["labels"]["early"]
    ]  # fmt: skip
    head = ["window", "labels", "old enough", f"{title} of labels so far", "weighted", "bias of labels so far"]
    classes = html.table(by_class, ["class", "labels", "expected to come", "half within", "90% within"])
    return html.details("Delay of labels", classes, html.table(early, head) if early else "")


def _regions(value: Json) -> Html:
    """The metric of each slice that the evaluation has as well, the worst windows first; nothing without one."""
    title = value["baseline"]["title"]
    rows = [
        [
            window["label"], f"{region['column']} = {region['slice']}", region["num_rows"], _with_interval(region),
            region["test"], region["loss"], "worse" if region["worse"] else "",
        ]
        for window in value["windows"]
        for region in window["regions"]
    ]  # fmt: skip
    if not rows:
        return Html("")
    rows.sort(key=lambda row: (row[-1] == "", -row[-2]))
    head = ["window", "rows with", "labelled", title, "on the test rows", "worse by", ""]
    num_worse = sum(row[-1] != "" for row in rows)
    return html.details(f"Loss by region: {num_worse} of {len(rows)} worse", html.table(rows, head, sortable=True))


def _drift(report: html.Page, value: Json, latest: Json, times: Sequence[str]) -> None:
    """Add the distances of all columns, by month before the latest windows, their alarms, and the largest shifts."""
    windows, columns = value["windows"], value["columns"][:MAX_COLUMNS]
    if not columns:
        return
    shifts = [{shift["column"]: shift for shift in window["shifts"]} for window in windows]
    floor = value["rules"]["min_js_distance"]
    folded = report_months.folded(windows, times, shifts, value["rules"]["timezone"])
    report.section(
        "Drift",
        html.figure(
            drift_charts.heat_map([column["column"] for column in columns], *folded, floor),
            f"Jensen-Shannon distance beyond the mean that noise gives. A dot is an alarm: at least {floor:g}, and "
            "certain. Dark without a dot: far, but no farther than blocks of time in one window are from each other."
            f"{report_months.note(len(windows))}",
        ),
        _alarm_table(latest["windows"]),
        note="Inputs and labels are compared with the training rows, predictions with those on the validation rows.",
    )
    drawn = [drift_charts.largest_shift(column, windows, shifts) for column in columns if column["windows"]]
    shown = [block for block in drawn if block][:MAX_DRAWN]
    if shown:
        note = "The reference's deciles or categories, in the window in which the column moved most."
        report.section("Largest shifts", html.grid(*shown), note=note)


_OUTCOMES = ("fell", "unknown", "holds")
"""What became of the metric in a window (`mlsys.monitor.impact`), in the order in which alarms are told."""


def _alarm_table(windows: Sequence[Json]) -> Html:
    """The alarms of all windows with what they do: those first in whose window the metric fell, then by their order."""
    ranked = sorted(
        ((_OUTCOMES.index(alarm["outcome"]), not alarm["matters"], place, -number, window, alarm)
         for number, window in enumerate(windows) for place, alarm in enumerate(window["alarms"])),
        key=lambda each: each[:4],
    )  # fmt: skip
    rows = [_alarm_row(window, alarm) for *_, window, alarm in ranked]
    if not rows:
        return html.paragraph("No drift alarm.")
    head = ["window", "column", "what it does", "change", "distance", "noise stays below", "adjusted p",
            "moves predictions by", ""]  # fmt: skip
    table = html.table(rows, head, align="llwwrrrrl", sortable=True)
    num_matter = sum(row[-1] != "" for row in rows)
    title = f"{len(rows)} drift alarms, {num_matter} that matter, with what they do"
    return html.details(title, table, is_open=len(rows) <= 20)


def _alarm_row(window: Json, alarm: Json) -> list[object]:
    shift = next((each for each in window["shifts"] if alarm["columns"] == [each["column"]]), None)
    if shift is None:
        return _joint_row(window["label"], window["joint"], alarm)
    return [
        window["label"],
        shift["column"],
        f"{alarm['words']}.",
        shift["detail"],
        shift["js_distance"],
        shift["noise"],
        _adjusted(shift),
        "the predictions themselves" if shift["column"] in {"score", "prediction"} else shift["effect"],
        "matters" if shift["matters"] else "",
    ]


def _joint_row(label: str, joint: Json, alarm: Json) -> list[object]:
    auc = formats.number(joint["auc"], 3)
    detail = f"a classifier tells these rows from training rows with a ROC AUC of {auc}"
    return [label, ", ".join(joint["columns"]), f"{alarm['words']}.", detail, None, None, _adjusted(joint), None, ""]


def _adjusted(shift: Json) -> str:
    return f"{shift['adjusted']:.2g}" if shift["adjusted"] >= 1e-4 else "< 0.0001"
