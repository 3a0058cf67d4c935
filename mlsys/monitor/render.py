"""The monitor's report: the decision first, then the plots that it can be checked by."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping
from typing import Any

from mlsys.monitor import drift_section, performance_section
from mlsys.reports import formats
from mlsys.reports import page as html

__all__ = ["page"]

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
        performance_section.section(report, value, times)
        drift_section.section(report, value, times)
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
    rows = [
        [c["column"], c["kind"], c["largest"], c["design_effect"]]
        for c in value["columns"][: drift_section.MAX_COLUMNS]
    ]
    columns = html.table(rows, ["column", "kind", "largest distance", "design effect"], sortable=True)
    return [html.bullets([named, noise, degraded, decision]), html.details("Columns", columns) if rows else ""]
