"""The report of a comparison: who is ahead by how much, what noise allows, what each costs, and who left and why."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import yaml

from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Cell, Html, Page, tag

Json = Mapping[str, Any]

MOST_DRAWN = 8
"""Candidates whose folds are drawn, the best ones: as many as there are colours."""

ERRORS_NOTE = (
    "Differences are paired with the best, fold by fold. Folds share training rows, so their standard error is that of "
    "Nadeau and Bengio (2003). Tied: behind by at most one such error. A tie is information on noise; what decides is "
    "the mean."
)
COST_NOTE = (
    "Microseconds are those of features and prediction, a row of many at a time, on one thread; seconds are those of a "
    "fit on the rows of a fold."
)


def page(document: Json) -> str:
    """Draw a comparison, given as the JSON of its `Ranking` below ``ranking``, as one self-contained HTML file."""
    ranking = document["ranking"]
    entries = ranking["entries"]
    sizes = f"{formats.count(len(entries), 'candidate')} × {formats.count(len(ranking['rounds']), 'fold')}"
    better = "greater is better" if ranking["greater_is_better"] else "smaller is better"
    mark = html.badge("good" if _dummy(ranking) is None or _gain(ranking) > 0 else "bad", ranking["preferred"])
    report = Page(f"Selection: {document['name']}", f"{sizes} · {ranking['metric']}, {better}", mark=mark)
    report.section("Choice", *_choice(document))
    report.section("Leaderboard", *_leaderboard(ranking), note=ERRORS_NOTE)
    report.section("Folds", *_folds(ranking))
    report.section("Cost", *_cost(ranking), note=COST_NOTE)
    if ranking["refused"]:
        rows = [[html.code(name), reason] for name, reason in ranking["refused"].items()]
        note = "They are judged, but not chosen: the recipe sets limits (selection.max_latency_us, max_bytes)."
        report.section("Refused", html.table(rows, ["candidate", "limit"], align="lw"), note=note)
    if ranking["left"]:
        rows = [[html.code(name), reason] for name, reason in ranking["left"].items()]
        report.section("Who left, and why", html.table(rows, ["candidate", "why"], align="lw"))
    if ranking["decided"]:
        report.section("As lines of the recipe", *_decided(ranking["decided"]))
    if ranking["notes"]:
        report.section("Notes", html.bullets(ranking["notes"]))
    return report.html()


def name_of(entry: Json) -> str:
    """The name of a candidate: its family, and its form where that is not the usual one."""
    return f"{entry['family']}, {entry['form']}" if entry["form"] else str(entry["family"])


def _entry(ranking: Json, name: str) -> Json:
    return next(entry for entry in ranking["entries"] if name_of(entry) == name)


def _dummy(ranking: Json) -> Json | None:
    """The entry of the dummy, if something else was compared with it."""
    if len(ranking["entries"]) == 1:
        return None
    return next((entry for entry in ranking["entries"] if entry["family"] == "dummy"), None)


def _gain(ranking: Json) -> float:
    """The gain of the preferred candidate over the dummy, in the metric's own unit."""
    dummy = _dummy(ranking)
    if dummy is None:
        return 0.0
    sign = 1 if ranking["greater_is_better"] else -1
    return float(sign * (_entry(ranking, ranking["preferred"])["mean"] - dummy["mean"]))


def _choice(document: Json) -> list[Html]:
    """The preferred candidate in numbers, and a sentence on why it is that one."""
    ranking = document["ranking"]
    preferred, dummy = _entry(ranking, ranking["preferred"]), _dummy(ranking)
    tiles: list[tuple[str, object, object]] = [
        ("Preferred", ranking["preferred"], f"{ranking['metric']} {_with_error(preferred)}"),
        ("Best mean", ranking["best"], _behind_words(preferred)),
    ]
    if dummy is not None:
        tiles.append(("Gain over the dummy", _gain(ranking), f"its {ranking['metric']} is {_number(dummy['mean'])}"))
    tiles += [
        ("A fit", formats.seconds(preferred["fit_s"]), "of a fold, on one thread"),
        ("A prediction", f"{_number(preferred['predict_us_per_row'])} µs", "a row of many"),
    ]
    if document.get("seconds") is not None:
        tiles.append(("Comparison", formats.seconds(document["seconds"]), "all fits together"))
    return [html.facts(tiles), _verdict(document)]


def _verdict(document: Json) -> Html:
    ranking, family = document["ranking"], document["family"]
    margin = f"{100 * ranking['margin']:g}% of the way from the dummy to the best"
    if _dummy(ranking) is not None and _gain(ranking) <= 0:
        text = "The features say nothing of the target by this metric; the run goes on with the dummy."
        return html.alert("bad", text, "Nothing beats the dummy")
    if family not in (ranking["preferred"], _entry(ranking, ranking["preferred"])["family"]):
        return html.alert("info", f"The recipe names {family}; the comparison stands beside it for information.")
    if ranking["prefer"] != "accurate":
        word = {"simple": "simplest", "fast": "fastest"}[ranking["prefer"]]
        text = f"It is the {word} of those that are behind the best by at most one standard error."
        return html.alert("info", text, f"The recipe prefers what is {ranking['prefer']}")
    if ranking["preferred"] != ranking["best"]:
        return html.alert("info", f"It is simpler than {ranking['best']} and behind by less than {margin}.")
    return html.alert("good", f"It has the best mean; nothing simpler is within {margin}.")


def _number(value: float | None) -> str:
    return formats.number(value)


def _with_error(entry: Json) -> str:
    spread = "" if entry["std_error"] is None else f" ± {_number(entry['std_error'])}"
    return f"{_number(entry['mean'])}{spread}"


def _behind_words(entry: Json) -> str:
    if not entry["behind"]:
        return "the preferred one itself"
    error = "" if entry["behind_error"] is None else f" ± {_number(entry['behind_error'])}"
    return f"ahead by {_number(entry['behind'])}{error}"


def _leaderboard(ranking: Json) -> list[Html]:
    """The drawing of the differences, and the table of all numbers."""
    rows = [
        [
            Cell(_named(ranking, entry), name_of(entry)),
            entry["mean"],
            entry["std_error"],
            None if name_of(entry) == ranking["best"] else entry["behind"],
            entry["behind_error"],
            len(entry["scores"]),
        ]
        for entry in ranking["entries"]
    ]
    head = ["candidate", ranking["metric"], "± error", "behind the best", "± error of that", "folds"]
    blocks = [html.table(rows, head, align="lrrrrr", sortable=True, caption="Best first; means over the folds")]
    others = [entry for entry in ranking["entries"] if entry["family"] != "dummy" and name_of(entry) != ranking["best"]]
    if others:
        blocks.insert(0, _differences(others, ranking))
    return blocks


def _named(ranking: Json, entry: Json) -> Html:
    name = name_of(entry)
    badges = [html.badge("good", "best")] if name == ranking["best"] else []
    badges += [html.badge("info", "preferred")] if name == ranking["preferred"] else []
    badges += [html.badge("warn", "tied")] if entry["tie"] and name != ranking["best"] else []
    badges += [html.badge("bad", "refused")] if name in ranking["refused"] else []
    badges += [html.badge("bad", "left")] if name in ranking["left"] else []
    return html.join(html.code(name), *(html.join(" ", badge) for badge in badges))


def _differences(entries: list[Json], ranking: Json) -> Html:
    dots = []
    for entry in entries:
        error = entry["behind_error"] or 0.0
        ends = (entry["behind"] - error, entry["behind"] + error)
        mark: Any = "accent" if entry["tie"] else "plain"
        dots.append(charts.Interval(name_of(entry), entry["behind"], *ends, mark=mark))
    drawn = charts.intervals(
        dots, title=f"Behind {ranking['best']}, {ranking['metric']}", reference=0.0, reference_label="the best"
    )
    return html.figure(drawn, "Mean difference and one standard error; ties in colour. The dummy is not drawn.")


def _folds(ranking: Json) -> list[Html]:
    """Scores of each fold: drawn for the best candidates, in numbers for all."""
    number = len(ranking["rounds"])
    entries = [entry for entry in ranking["entries"] if entry["family"] != "dummy"] or ranking["entries"]
    series = {name_of(entry): _aligned(entry, number) for entry in entries[:MOST_DRAWN]}
    title = f"{ranking['metric']} on each fold"
    names = [f"fold {fold}" for fold in range(1, number + 1)]
    drawn = charts.lines(names, series, title=title, wide=False)
    rows = [[html.code(name_of(entry)), *_aligned(entry, number)] for entry in ranking["entries"]]
    caption = "Who left early was judged on the last folds alone"
    blocks = [html.table(rows, ["candidate", *names], caption=caption, align="l" + "r" * number, sortable=True)]
    figures = [html.figure(drawn, f"The best {len(series)}, without the dummy." if len(entries) > 1 else "")]
    curve = _learning_curve(ranking, series)
    figures += [html.figure(curve, LEARNING_NOTE)] if curve else []
    return [html.grid(*figures), *blocks, _rounds(ranking)]


LEARNING_NOTE = (
    "Folds follow each other in time, so later ones are fitted on more rows: the line holds both the gain of more rows "
    "and what time changes."
)


def _aligned(entry: Json, number: int) -> list[float | None]:
    """Scores by fold; those of the first folds are missing where a candidate left."""
    missing: list[float | None] = [None] * (number - len(entry["scores"]))
    return [*missing, *entry["scores"]]


def _learning_curve(ranking: Json, series: Mapping[str, list[float | None]]) -> Html | None:
    """Scores over the rows that were fitted on, where the folds differ in them."""
    rows = [fold["num_rows"] for fold in ranking["rounds"]]
    if len(rows) < 2 or max(rows) < 1.5 * min(rows):
        return None
    order = sorted(range(len(rows)), key=lambda at: rows[at])
    by_rows = {name: [scores[at] for at in order] for name, scores in series.items()}
    title = f"{ranking['metric']} by rows fitted on"
    return charts.lines([float(rows[at]) for at in order], by_rows, title=title, wide=False)


def _rounds(ranking: Json) -> Html:
    fitted = [fold["num_rows"] for fold in ranking["rounds"]]
    judged = [fold["num_judged"] for fold in ranking["rounds"]]
    return html.paragraph(f"Fitted on {_span(fitted)} rows a fold, judged on {_span(judged)}.")


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _cost(ranking: Json) -> list[Html]:
    """Score beside the cost of a prediction: what is gained for slower ones."""
    sign = 1 if ranking["greater_is_better"] else -1
    entries = [entry for entry in ranking["entries"] if entry["family"] != "dummy"]
    rows = [
        [
            Cell(_frontier_name(entry, ranking["entries"], sign), name_of(entry)),
            entry["mean"],
            entry["predict_us_per_row"],
            entry["fit_s"],
            statistics.mean(entry["best_rounds"]) if entry["best_rounds"] else None,
            entry["num_bytes"],
        ]
        for entry in ranking["entries"]
    ]
    head = ["candidate", ranking["metric"], "µs a row", "seconds a fit", "rounds", "bytes"]
    if all(row[-1] is None for row in rows):  # which are measured where the recipe limits them
        rows, head = [row[:-1] for row in rows], head[:-1]
    caption = "On the frontier: nothing is both faster and better"
    listed = html.table(rows, head, align="l" + "r" * (len(head) - 1), sortable=True, caption=caption)
    if len(entries) < 2:
        return [listed]
    dots = [
        charts.Dot(e["predict_us_per_row"], e["mean"], e["family"], f"{name_of(e)}: {_number(e['mean'])}")
        for e in entries
    ]
    drawn = charts.scatter(
        dots, title="Score and latency", x_label="microseconds a row", y_label=ranking["metric"], log=True
    )
    return [html.figure(drawn, "One dot a candidate, without the dummy; left is faster."), listed]


def _frontier_name(entry: Json, entries: list[Json], sign: int) -> Html:
    """The name, with a badge where no other candidate is at least as good and as fast, and better in one of them."""
    own = (-sign * entry["mean"], entry["predict_us_per_row"])
    pairs = [(-sign * other["mean"], other["predict_us_per_row"]) for other in entries if other is not entry]
    is_beaten = any(pair[0] <= own[0] and pair[1] <= own[1] and pair != own for pair in pairs)
    name = html.code(name_of(entry))
    return name if is_beaten else html.join(name, " ", html.badge("good", "frontier"))


def _decided(decided: Mapping[str, Any]) -> list[Html]:
    tree: dict[str, Any] = {}
    for key, value in decided.items():
        *sections, name = key.split(".")
        section = tree
        for each in sections:
            section = section.setdefault(each, {})
        section[name] = value
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    note = html.paragraph("What the comparison decided where the recipe leaves it open; as lines of it they fix it.")
    return [note, tag("pre", text, tabindex="0")]
