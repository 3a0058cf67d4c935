"""The profile's JSON as one HTML page. Draws what is there; computes nothing about the data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.explore import cards, panels
from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.markup import join, tag
from mlsys.reports.page import Html, Page

__all__ = ["page"]

Json = Mapping[str, Any]

ALL = "all training rows"

TELLS = (
    "mutual information with the target divided by its entropy (Theil's U), less the (cells - rows - columns + 1) / 2n"
    " that chance adds (Miller 1955; Roulston 1999); missing is a value; a number in 16 bins, a category by its 48 most"
    " frequent values and the rest as one"
)

PAIRS = (
    "Over all training rows in which both columns have a value. V and η are corrected for what chance adds (Bergsma"
    " 2013; Kelley 1935). A dependence that does not rise or fall throughout does not show in r."
)

COUNTED = re.compile(r"(at most )([\d,]+)")
"""A count within a bound of a sketch."""

REPAIRS = {
    "twins": "Remove the copies, or keep them in one part with split.by: group; explore.max_duplicate_fraction is the"
    " bound.",
    "group": "split.by: group keeps the rows of a group in one part.",
    "time": "split.by: time predicts the future from the past.",
}

ROLES = {
    "id": "Names the row",
    "time": "Time of the row",
    "group": "Group of the row",
    "split": "Part of the row",
    "known_after": "Known only after the event",
    "ignore": "Ignored",
}
"""What the columns are for that are neither features nor the target."""

MOST_ALERTS = 30
"""Alerts in one table; more are put together by their kind."""

MOST_NAMED = 12
"""Columns named with the bound of a sketch."""

FINDINGS = {
    "twins": "copies in two parts",
    "identical": "equals the target",
    "proxy": "stands in for the target",
    "after_event": "known after the event",
    "group": "group in two parts",
    "time": "order of time",
}


def page(profile: Json) -> str:
    """The report as HTML.

    Parameters
    ----------
    profile
        What `mlsys.explore.describe` returned.
    """
    overview = profile["overview"]
    size = (
        f"{formats.count(overview['num_rows'], 'training row')} × {formats.count(overview['num_features'], 'feature')}"
    )
    subtitle = f"{size}; target {profile['target']['name']}"
    report = Page(f"Exploration: {profile['title']}", subtitle, mark=_mark(profile))
    leaks = any(finding["blocking"] for finding in profile["findings"])
    if leaks:
        report.section("Leakage", *_findings(profile["findings"]))
    report.section("Overview", *_overview(profile))
    report.section("Alerts", *_alerts(profile["alerts"]))
    if not leaks:
        report.section("Leakage", *_findings(profile["findings"]))
    report.section("Target", *_target(profile))
    report.section("Columns", *cards.columns(profile), note=_columns_note(profile))
    report.section("Missing values", *panels.missing(profile), note="Null, NaN and infinite values.")
    if profile["associations"] and len(profile["associations"]["names"]) > 1:
        report.section("Pairs of columns", *panels.associations(profile["associations"]), note=PAIRS)
    if profile["timeline"]:
        report.section("Time", *panels.times(profile["timeline"], profile["task"]))
    report.section("What is exact", *_exactness(profile))
    return report.html()


def _mark(profile: Json) -> Html:
    blocking = sum(finding["blocking"] for finding in profile["findings"])
    if blocking:
        return html.badge("bad", f"{blocking} blocking")
    others = len(profile["findings"])
    return html.badge("warn", f"{others} to be looked at") if others else html.badge("good", "no leak found")


def _findings(findings: list[Json]) -> list[Html]:
    if not findings:
        return [html.alert("good", "No copies between the parts, no column that knows the answer, order of time kept.")]
    return [
        html.alert(
            "bad" if finding["blocking"] else "warn",
            join(finding["detail"], tag("small", _repair(finding))),
            title=_finding_title(finding),
        )
        for finding in findings
    ]


def _repair(finding: Json) -> str:
    """What to change in the recipe."""
    if finding["column"] is not None and finding["kind"] in {"identical", "proxy", "after_event"}:
        name = finding["column"]
        return f"If it is known only with the answer: data.known_after: [{name}]. If not: explore.allow: [{name}]."
    return REPAIRS.get(finding["kind"], "")


def _finding_title(finding: Json) -> str:
    stops = "stops the run" if finding["blocking"] else "to be looked at"
    return f"{FINDINGS.get(finding['kind'], finding['kind'])}: {stops}"


def _alerts(alerts: list[Json]) -> list[Html]:
    """All in one table; of a wide table with very many, a table a kind, folded."""
    if not alerts:
        return [html.paragraph("Nothing odd about any column.")]
    if len(alerts) <= MOST_ALERTS:
        return [_alert_table(alerts)]
    kinds: dict[str, list[Json]] = {}
    for alert in alerts:
        kinds.setdefault(alert["kind"], []).append(alert)
    most_first = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return [html.details(f"{_words(kind)}: {len(found)}", _alert_table(found)) for kind, found in most_first]


def _alert_table(alerts: list[Json]) -> Html:
    rows = [
        [
            html.code(alert["column"]) if alert["column"] else "table",
            html.badge("warn", _words(alert["kind"])),
            alert["detail"],
            alert["action"],
        ]
        for alert in alerts
    ]
    return html.table(rows, ["column", "alert", "what", "what is done"], align="llww", sortable=True)


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _overview(profile: Json) -> list[Html]:
    overview = profile["overview"]
    kinds = ", ".join(f"{number} {kind}" for kind, number in overview["kinds"].items())
    tiles: list[tuple[str, object] | tuple[str, object, object]] = [
        ("training rows", overview["num_rows"]),
        ("features", overview["num_features"], kinds),
        ("missing", formats.percent(overview["null_fraction"]), "of all cells of the features"),
        ("repeated rows", overview["num_duplicates"], "equal to an earlier one, target included"),
        ("folds", len(profile["folds"])),
    ]
    parts = ", ".join(f"{part} {rows:,}" for part, rows in profile["parts"].items() if rows)
    others = "".join(f" {ROLES[role]}: {', '.join(names)}." for role, names in profile["others"].items())
    return [html.facts(tiles), html.paragraph(f"Rows by part: {parts}.{others}")]


def _target(profile: Json) -> list[Html]:
    target = profile["target"]
    if not target["classes"]:
        return [html.grid(cards.histogram(target["summary"], target["name"], {}), cards.numbers(target["summary"]))]
    labels = [formats.value(value) for value, _ in target["classes"]]
    rows = [count for _, count in target["classes"]]
    total = sum(rows) or 1
    table = [[label, count, formats.percent(count / total)] for label, count in zip(labels, rows, strict=True)]
    shown = html.figure(charts.bars(labels[:20], rows[:20], title=f"Classes of {target['name']}"))
    return [html.grid(shown, html.table(table, ["class", "rows", "share"], align="lrr"))]


def _columns_note(profile: Json) -> str:
    is_number = profile["task"]["kind"] == "regression"
    measure = "R²" if is_number else "AUC"
    ends = (
        "0 (nothing) to 1 (everything)" if is_number else "0.5 (nothing) to 1 (everything), averaged over the classes"
    )
    return (
        f"{measure}: how well the column alone predicts the target, {ends}; no row is judged by its own target."
        f" Tells: the share of the target's entropy that the column's bins or categories take away. How both are"
        f" computed stands at the end. ≈ marks what a sketch gave; its bound is in the hint and at the end."
    )


def _exactness(profile: Json) -> list[Html]:
    """Each kind of number: from which rows, and how it was obtained."""
    sampled = profile["overview"]["num_sampled"]
    is_all = sampled >= profile["overview"]["num_rows"]
    rows = f"a fixed random sample of {sampled:,} rows" if not is_all else "all training rows, which are few"
    facts = [
        ["counts, missing, minimum, maximum, mean, deviation, skewness, kurtosis", ALL, "exact"],
        ["target within categories and bins, over time", ALL, "exact, with 95 % intervals (Wilson; normal for means)"],
        ["pairs of columns, missing together", ALL, "exact for the categories named below the picture"],
        ["tells: share of the target's entropy", ALL, TELLS],
        ["quantiles, histograms, distinct, frequent values", ALL, "exact unless listed below"],
        ["histograms by class", ALL, "KLL sketch, rank error 2.05 % (99 % confidence)"],
        ["AUC and R² of a column alone", rows, _measure(profile)],
    ]
    blocks = [html.table(facts, ["number", "from", "how"], align="wlw")]
    notes = _notes(profile)
    if notes:
        blocks.append(html.table(notes, ["sketched", "how, and how far it can be off", "columns"], align="lww"))
    return blocks


def _measure(profile: Json) -> str:
    how = "categories or twentieths whose rates no row's own target has influenced, or the order of the values"
    if profile["task"]["kind"] == "regression":
        return f"R² of means in {how}, whichever is better"
    return f"area under the ROC curve, one class against the rest, averaged; by {how}, whichever is better"


def _notes(profile: Json) -> list[list[object]]:
    """What came from a sketch, one line a bound, with the columns that it holds for.

    Bounds that differ by a count alone (``at most 18 too low``) are told as the largest of them.
    """
    found: dict[str, dict[str, list[str]]] = {}
    largest: dict[str, int] = {}
    for column in profile["columns"]:
        for name, how in column["summary"]["notes"].items():
            form, counts = COUNTED.sub(r"\1{}", how), [int(rows.replace(",", "")) for _, rows in COUNTED.findall(how)]
            largest[form] = max(largest.get(form, 0), *counts) if counts else 0
            found.setdefault(form, {}).setdefault(name, []).append(column["name"])
    return [line for form, named in found.items() for line in _lines(form.format(f"{largest[form]:,}"), named)]


def _lines(how: str, named: Mapping[str, list[str]]) -> list[list[object]]:
    """One line for the numbers that were sketched in the same columns."""
    together: dict[tuple[str, ...], list[str]] = {}
    for name, columns in named.items():
        together.setdefault(tuple(columns), []).append(name.replace("_", " "))
    return [[", ".join(names), how, _some(columns)] for columns, names in together.items()]


def _some(columns: Sequence[str]) -> Html:
    """The first columns by name, the others by number."""
    named = [join(", " if at else "", html.code(name)) for at, name in enumerate(columns[:MOST_NAMED])]
    others = len(columns) - MOST_NAMED
    return join(*named, f" and {formats.count(others, 'other')}, marked ≈" if others > 0 else "")
