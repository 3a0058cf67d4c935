"""Report of step 2: the profile's JSON as one HTML page. It draws what is there and computes nothing about the data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlsys.explore import report_columns
from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Cell, Html, Page, join, tag

Json = Mapping[str, Any]

MOST_BARS, MOST_DRAWN, MOST_PAIRS, MOST_ALERTS, MOST_NAMED = 30, 30, 20, 30, 12
"""Columns with a bar, columns of a heat map, pairs in a table, alerts in one table, columns named with a bound."""

LEAST_STRENGTH = 0.3
"""Strength from which a pair is listed."""

TIME_UNITS = ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))

ALL = "all training rows"

INFORMATION_NOTE = (
    "mutual information with the target divided by its entropy (Theil's U), less the (cells - rows - columns + 1) / 2n"
    " that chance adds (Miller 1955; Roulston 1999); missing is a value; a number in 16 bins, a category by its 48 most"
    " frequent values and the rest as one"
)

PAIRS_NOTE = (
    "Over all training rows in which both columns have a value. V and η are corrected for what chance adds (Bergsma"
    " 2013; Kelley 1935). A dependence that does not rise or fall throughout does not show in r."
)

SKETCHED_COUNT = re.compile(r"(at most )([\d,]+)")
"""Matches the count in the note about a sketch."""

REPAIRS = {
    "twins": "Where chance divides, equal rows share part and fold; explore.max_duplicate_fraction stops the run over a"
    " bound.",
    "group": "split.by: group keeps the rows of a group in one part.",
    "time": "split.by: time predicts the future from the past.",
}

ROLES = {
    "id": "Identifier of the row",
    "time": "Time of the row",
    "group": "Group of the row",
    "split": "Part of the row",
    "weight": "Weight of the row",
    "exposure": "Exposure of the row",
    "known_after": "Known only after the event",
    "ignore": "Ignored",
}
"""Roles of the columns that are neither features nor the target, in words."""

FINDINGS = {
    "twins": "copies in two parts",
    "identical": "equals the target",
    "proxy": "stands in for the target",
    "group": "group in two parts",
    "time": "order of time",
}


def page(profile: Json) -> str:
    """Write the report as HTML from what `mlsys.explore.document.describe` returned."""
    overview = profile["overview"]
    rows = formats.count(overview["num_rows"], "training row")
    features = formats.count(overview["num_features"], "feature")
    subtitle = f"{rows} × {features}; target {profile['target']['name']}"
    report = Page(f"Exploration: {profile['title']}", subtitle, mark=_mark(profile))
    leaks = any(finding["blocking"] or finding["suspected"] for finding in profile["findings"])
    if leaks:
        report.section("Leakage", *_findings(profile["findings"]))
    report.section("Overview", *_overview(profile))
    report.section("Alerts", *_alerts(profile["alerts"]))
    if not leaks:
        report.section("Leakage", *_findings(profile["findings"]))
    report.section("Target", *_target(profile))
    report.section("Columns", *report_columns.column_cards(profile), note=_columns_note(profile))
    report.section("Missing values", *_missing(profile), note="Null, NaN and infinite values.")
    if profile["associations"] and len(profile["associations"]["names"]) > 1:
        report.section("Pairs of columns", *_associations(profile["associations"]), note=PAIRS_NOTE)
    if profile["timeline"]:
        report.section("Time", *_timeline(profile["timeline"], profile["task"]))
    report.section("What is exact", *_exactness(profile))
    return report.html()


def _mark(profile: Json) -> Html:
    blocking = sum(finding["blocking"] for finding in profile["findings"])
    if blocking:
        return html.badge("bad", f"{blocking} blocking")
    suspected = sum(finding["suspected"] for finding in profile["findings"])
    if suspected:
        return html.badge("bad", f"{suspected} suspected of knowing the answer")
    others = len(profile["findings"])
    return html.badge("warn", f"{others} to be looked at") if others else html.badge("good", "no leak found")


def _findings(findings: list[Json]) -> list[Html]:
    if not findings:
        clean = "No copies between the parts, no column that knows the answer, and parts in the order of time."
        return [html.alert("good", clean)]
    blocks = []
    for finding in findings:
        effect = "to be looked at"
        if finding["blocking"] or finding["suspected"]:
            effect = "stops the run" if finding["blocking"] else "may know the answer, and is kept"
        title = f"{FINDINGS.get(finding['kind'], finding['kind'])}: {effect}"
        level: html.Level = "warn" if effect == "to be looked at" else "bad"
        blocks.append(html.alert(level, join(finding["detail"], tag("small", _repair(finding))), title=title))
    return blocks


def _repair(finding: Json) -> str:
    """Sentence about what to change in the recipe."""
    if finding["column"] is not None and finding["kind"] in {"identical", "proxy"}:
        name = finding["column"]
        return f"If it is known only with the answer: data.known_after: [{name}]. If not: explore.allow: [{name}]."
    return REPAIRS.get(finding["kind"], "")


def _alerts(alerts: list[Json]) -> list[Html]:
    """Put all alerts in one table, or very many of them in a folded table a kind."""
    if not alerts:
        return [html.paragraph("No alerts.")]
    if len(alerts) <= MOST_ALERTS:
        return [_alert_table(alerts)]
    kinds: dict[str, list[Json]] = {}
    for alert in alerts:
        kinds.setdefault(alert["kind"], []).append(alert)
    most_first = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return [html.details(f"{kind.replace('_', ' ')}: {len(same)}", _alert_table(same)) for kind, same in most_first]


def _alert_table(alerts: list[Json]) -> Html:
    rows = []
    for alert in alerts:
        name = html.code(alert["column"]) if alert["column"] else "table"
        rows.append([name, html.badge("warn", _words(alert["kind"])), alert["detail"], alert["action"]])
    return html.table(rows, ["column", "alert", "detail", "action"], align="llww", sortable=True)


def _words(name: str) -> str:
    return name.replace("_", " ")


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
        drawing = report_columns.histogram(target["summary"], target["name"], {})
        return [html.grid(drawing, report_columns.numbers(target["summary"]))]
    labels = [formats.value(value) for value, _ in target["classes"]]
    rows = [count for _, count in target["classes"]]
    total = sum(rows) or 1
    table = [[label, count, formats.percent(count / total)] for label, count in zip(labels, rows, strict=True)]
    shown = html.figure(charts.bars(labels[:20], rows[:20], title=f"Classes of {target['name']}"))
    return [html.grid(shown, html.table(table, ["class", "rows", "share"], align="lrr"))]


def _columns_note(profile: Json) -> str:
    measure, ends = "AUC", "0.5 (nothing) to 1 (everything), averaged over the classes"
    if profile["task"]["kind"] in ("regression", "ranking"):
        measure, ends = "R²", "0 (nothing) to 1 (everything)"
    return (
        f"{measure}: how well the column alone predicts the target, {ends}; no row is judged by its own target."
        f" Information: the share of the target's entropy that the column's bins or categories explain. The last"
        f" section says how both are computed. ≈ marks an estimate from a sketch; its bound is in the tooltip."
    )


def _missing(profile: Json) -> list[Html]:
    """Draw a bar a column, the patterns of rows, and the pairs that are missing together."""
    fractions = [(column["name"], report_columns.missing_fraction(column["summary"])) for column in profile["columns"]]
    shown = sorted((item for item in fractions if item[1] > 0), key=lambda item: -item[1])
    if not shown:
        return [html.paragraph("No feature has missing values.")]
    shares = [float(f"{100 * fraction:.3g}") for _, fraction in shown[:MOST_BARS]]
    names = [name for name, _ in shown[:MOST_BARS]]
    blocks = [html.figure(charts.bars(names, shares, title="Missing by column", value_label="% of rows"))]
    if profile["gaps"] and len(profile["gaps"]["columns"]) > 1:
        blocks += [_patterns(profile["gaps"]), _together(profile["gaps"])]
    return [html.paragraph(f"{len(shown)} of {len(fractions)} features have missing values."), *blocks]


def _patterns(gaps: Json) -> Html:
    rows = [(item["columns"], item["rows"]) for item in gaps["patterns"]]
    title = "Columns that are missing in the same row"
    drawing = charts.patterns(gaps["columns"], rows, total=gaps["num_rows"], title=title)
    more = gaps["num_patterns"] - len(rows)
    words = f"The {len(rows)} most frequent of {gaps['num_patterns']:,} patterns." if more > 0 else "All patterns."
    error = f" Each count is at most {gaps['error']:,} too low." if gaps["error"] else ""
    return html.figure(drawing, words + error)


def _together(gaps: Json) -> Html:
    """List pairs of columns with the fraction of the rows of one in which the other is missing too."""
    names, counts = gaps["columns"], gaps["together"]
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    pairs = sorted((p for p in pairs if counts[p[0]][p[1]]), key=lambda p: -_overlap(counts, *p))[:MOST_PAIRS]
    rows = []
    for i, j in pairs:
        shares = [counts[i][j] / counts[k][k] for k in (j, i)]
        cells = [Cell(formats.percent(share), share) for share in shares]
        rows.append([html.code(names[j]), html.code(names[i]), counts[i][j], *cells])
    if not rows:
        return html.paragraph("No two columns are missing in the same row.")
    heads = ["column", "other column", "both missing", "of the column's", "of the other's"]
    return html.details("Missing together", html.table(rows, heads, align="llrrr", sortable=True))


def _overlap(counts: list[list[int]], i: int, j: int) -> float:
    return counts[i][j] / (counts[i][i] + counts[j][j] - counts[i][j])


def _associations(matrix: Json) -> list[Html]:
    """Draw the heat map and list the strongest pairs."""
    names, values = matrix["names"], matrix["values"]
    pairs = [(j, i, values[i][j]) for i in range(len(names)) for j in range(i) if values[i][j] is not None]
    pairs = sorted(pairs, key=lambda pair: -abs(pair[2]))
    if not pairs:
        return [html.paragraph("There are no two columns that vary.")]
    drawn = _drawn(matrix)
    cells = [[None if i == j else _cell(matrix, i, j) for j in drawn] for i in drawn]
    title = "Strength of pairs" if len(drawn) == len(names) else f"The {len(drawn)} columns with the strongest pairs"
    caption = (
        "Blue: two numbers that rise together, orange: one falls as the other rises (Pearson's r). Green: a number and"
        " a category (correlation ratio η), or two categories (Cramér's V), 0 to 1."
    )
    figure = html.figure(charts.heat([names[i] for i in drawn], cells, title=title), caption)
    listed = [pair for pair in pairs if abs(pair[2]) >= LEAST_STRENGTH]
    rows = []
    for i, j, value in listed[:MOST_PAIRS]:
        measure = _pair_measure(matrix, i, j)[1]
        rows.append([html.code(names[i]), html.code(names[j]), measure, Cell(f"{value:.3f}", abs(value))])
    table = html.table(rows, ["column", "other column", "measure", "strength"], align="lllr", sortable=True)
    more = f" The strongest {MOST_PAIRS} of them:" if len(listed) > MOST_PAIRS else ""
    count = f"{len(listed):,} of {len(pairs):,} pairs have a strength of {LEAST_STRENGTH} or more.{more}"
    return [figure, html.paragraph(count), table if rows else Html(""), *_bounded_columns(matrix)]


def _drawn(matrix: Json) -> list[int]:
    """Columns of the heat map, similar ones as neighbours; of too many, those with the strongest pairs."""
    strongest = [
        max((abs(v) for j, v in enumerate(row) if v is not None and j != i), default=-1.0)
        for i, row in enumerate(matrix["values"])
    ]
    best = sorted((i for i, v in enumerate(strongest) if v >= 0), key=lambda i: -strongest[i])[:MOST_DRAWN]
    return [i for i in matrix["order"] if i in set(best)]


def _pair_measure(matrix: Json, i: int, j: int) -> tuple[int, str]:
    """Colour and name of the measure of a pair."""
    numbers = int(i < matrix["num_numbers"]) + int(j < matrix["num_numbers"])
    if numbers == 2:
        return (1 if (matrix["values"][i][j] or 0.0) > 0 else 2), "Pearson's r"
    return 3, "correlation ratio η" if numbers else "Cramér's V"


def _cell(matrix: Json, i: int, j: int) -> charts.Pair | None:
    value = matrix["values"][i][j]
    if value is None:
        return None
    colour, measure = _pair_measure(matrix, i, j)
    return charts.Pair(value, colour, f"{matrix['names'][i]} and {matrix['names'][j]}: {value:.3f} ({measure})")


def _bounded_columns(matrix: Json) -> list[Html]:
    words = [
        f"{item['name']}: the {item['levels']} most frequent categories and all others as one"
        f" ({formats.percent(item['others'])} of its rows)"
        for item in matrix["bounded"]
    ]
    if matrix["left_out"]:
        limits = matrix["limits"]
        shown = ", ".join(matrix["left_out"][:12]) + (" …" if len(matrix["left_out"]) > 12 else "")
        words.append(
            f"not compared: {shown} (categories that identify rows, and columns beyond the first"
            f" {limits['numbers']} numbers and {limits['categories']} categories)"
        )
    return [html.bullets(words)] if words else []


def _timeline(line: Json, task: Json) -> list[Html]:
    """Draw the rows over time, and the target over time with its interval."""
    x: list[Any] = [report_columns.point_in_time(start, "datetime") for start in line["starts"]]
    span = _span(line["width_s"])
    rows = charts.lines(x, {"rows": line["rows"]}, title=f"Rows by {span}", y_range=(0, max(line["rows"])))
    shown = dict(sorted(line["target"].items(), key=lambda item: -sum(v or 0 for v in item[1]["mean"]))[:6])
    series = {name: charts.Series(part["mean"], part["low"], part["high"]) for name, part in shown.items()}
    label = next(iter(shown)) if not task["classes"] else f"share of {task['target']}"
    label += f" = {formats.value(task['classes'][1])}" if len(task["classes"]) == 2 else ""
    target = charts.lines(x, series, title=f"{label} by {span}", y_label="")
    empty = sum(count == 0 for count in line["rows"])
    words = f"By {line['column']}, {span}s from {formats.label(x[0])} to {formats.label(x[-1])} (UTC)."
    words += f" {empty} of {len(x)} {span}s have no row." if empty else ""
    words += f" {line['num_missing']:,} rows have no time." if line["num_missing"] else ""
    band = "With 95 % intervals; a bin of fewer than 10 rows is left out."
    return [html.paragraph(words), html.figure(rows), html.figure(target, band)]


def _span(width_s: float) -> str:
    """Write the width of a bin in words.

    >>> _span(604800), _span(21600), _span(0.001)
    ('week', '6 hour', '0.001 second')
    """
    for size, word in TIME_UNITS:
        if width_s >= size:
            count = width_s / size
            return word if count == 1 else f"{count:g} {word}"
    return f"{width_s:g} second"


def _exactness(profile: Json) -> list[Html]:
    """List each kind of number: from which rows it is, and how it was obtained."""
    sampled = profile["overview"]["num_sampled"]
    is_all = sampled >= profile["overview"]["num_rows"]
    rows = f"a fixed random sample of {sampled:,} rows" if not is_all else "all training rows, which are few"
    how = "categories or twentieths whose rates no row's own target has influenced, or the order of the values"
    measure = f"area under the ROC curve, one class against the rest, averaged; by {how}, whichever is better"
    if profile["task"]["kind"] in ("regression", "ranking"):
        measure = f"R² of means in {how}, whichever is better"
    facts = [
        ["counts, missing, minimum, maximum, mean, deviation, skewness, kurtosis", ALL, "exact"],
        ["target within categories and bins, over time", ALL, "exact, with 95 % intervals (Wilson; normal for means)"],
        ["pairs of columns, missing together", ALL, "exact for the categories named below the picture"],
        ["information: share of the target's entropy", ALL, INFORMATION_NOTE],
        ["quantiles, histograms, distinct, frequent values", ALL, "exact unless listed below"],
        ["histograms by class", ALL, "KLL sketch, rank error 2.05 % (99 % confidence)"],
        ["AUC and R² of a column alone", rows, measure],
    ]
    blocks = [html.table(facts, ["number", "from", "how"], align="wlw")]
    notes = _notes(profile)
    if notes:
        blocks.append(html.table(notes, ["sketched", "how, and how far it can be off", "columns"], align="lww"))
    return blocks


def _notes(profile: Json) -> list[list[object]]:
    """Bounds of the numbers that came from sketches; of those that differ by a count alone, the largest."""
    by_form: dict[str, dict[str, list[str]]] = {}
    largest: dict[str, int] = {}
    for column in profile["columns"]:
        for name, how in column["summary"]["notes"].items():
            form = SKETCHED_COUNT.sub(r"\1{}", how)
            counts = [int(rows.replace(",", "")) for _, rows in SKETCHED_COUNT.findall(how)]
            largest[form] = max(largest.get(form, 0), *counts) if counts else 0
            by_form.setdefault(form, {}).setdefault(name, []).append(column["name"])
    return [line for form, named in by_form.items() for line in _lines(form.format(f"{largest[form]:,}"), named)]


def _lines(how: str, named: Mapping[str, list[str]]) -> list[list[object]]:
    """Lines of a bound, one for the numbers that were sketched in the same columns."""
    together: dict[tuple[str, ...], list[str]] = {}
    for name, columns in named.items():
        together.setdefault(tuple(columns), []).append(_words(name))
    lines: list[list[object]] = []
    for same, names in together.items():
        others = len(same) - MOST_NAMED
        more = f" and {formats.count(others, 'other')}, marked ≈" if others > 0 else ""
        lines.append([", ".join(names), how, join(Html(", ".join(map(html.code, same[:MOST_NAMED]))), more)])
    return lines
