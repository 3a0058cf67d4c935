"""The report of a search: what was taken and why, what was tried and in what time, which parameters mattered."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Cell, Html, Page
from mlsys.tune import parallel_axes

Json = Mapping[str, Any]

TAKEN = {"default": "the defaults", "tuned": "the best trial", "mean": "a mean of trials"}

TIME_NOTE = (
    "Steps 4, 7 and 5 share the budget. Comparing may take 35 % of it, comparing and searching together 75 %, and the "
    "rest is reserved for the final fit, which has no clock."
)
IMPORTANCE_NOTE = (
    "The share of the variance of the scores that a parameter explains alone, by functional analysis of variance on a "
    "forest of 64 trees over the trials (Hutter, Hoos and Leyton-Brown, ICML 2014; Optuna). What is missing to 1 is "
    "explained by parameters together. Trials lie closest where scores are good: a share says what moved the score in "
    "this search, not what would move it elsewhere."
)
PARALLEL_NOTE = (
    "One line a trial across its parameters to its score at the right: the better, the stronger; what was taken is in "
    "colour. Parameters that never changed are left out."
)


def page(document: Json) -> str:
    """Draw a search as one self-contained HTML file.

    Parameters
    ----------
    document
        ``name``; ``tuned``, the JSON of a `Tuned`; and ``phases``, the seconds of each step, with ``budget``.
    """
    tuned, trials = document["tuned"], document["tuned"]["trials"]
    subtitle = f"{formats.count(len(trials), 'trial')} · {tuned['metric']} on rows that no trial was fitted on"
    mark = html.badge("info", tuned["family"])
    report = Page(f"Tuning: {document['name']}", subtitle if trials else "; ".join(tuned["notes"]), mark=mark)
    report.section("Choice", *_choice(document))
    if trials:
        report.section("History", *_history(tuned))
        report.section("Families", _families(tuned))
        _parameters(report, tuned)
    report.section("Time", *_time(document["phases"]), note=TIME_NOTE)
    if trials:
        report.section("Portfolio", *_portfolio(tuned))
        report.section("Trials", *_trials(tuned))
    if trials and tuned["notes"]:
        report.section("Notes", html.bullets(tuned["notes"]))
    return report.html()


def _sign(tuned: Json) -> int:
    return 1 if tuned["search"]["greater_is_better"] else -1


def _choice(document: Json) -> list[Html]:
    tuned = document["tuned"]
    if not tuned["trials"]:
        alert = html.alert("info", "; ".join(tuned["notes"]), "Nothing was searched")
        return [alert, _params(tuned)]
    facts, sign = tuned["search"], _sign(tuned)
    best = max((trial["score"] for trial in tuned["trials"]), key=lambda score: sign * score)
    score = tuned["score_tuned"] if tuned["kept"] == "mean" else best
    if tuned["kept"] == "default":
        score = tuned["score_default"]
    tiles: list[tuple[str, object, object]] = [
        ("Taken", TAKEN[tuned["kept"]], _models(tuned)),
        (tuned["metric"], _number(score), f"on {_judged_on(facts['judges'])}"),
        ("The defaults", _number(tuned["score_default"]), "the first trial" if facts["default"] is not None else None),
        (
            "The dummy",
            _number(facts["dummy"]),
            f"on the {'validation' if 'validation' in facts['judges'] else 'same'} rows",
        ),
        ("Trials", len(tuned["trials"]), f"the search ended {facts['ended']}"),
    ]
    return [html.facts(tiles), _evidence(tuned), _params(tuned)]


def _models(tuned: Json) -> str:
    members = tuned["params"].get("members", ()) if tuned["kept"] == "mean" else ()
    return f"of {len(members)} models" if members else f"of {tuned['family']}"


def _judged_on(judges: Sequence[str]) -> str:
    if "validation" not in judges:
        return f"stretches of time, each later than the rows fitted on: {'; '.join(judges)}"
    folds = len(judges) - 1
    return f"validation rows and {folds} folds" if folds else "the validation rows"


def _evidence(tuned: Json) -> Html:
    """The sentence that says why a mean, a trial or the defaults were taken."""
    mean, metric = tuned["search"].get("mean"), tuned["metric"]
    if mean is None:
        return html.alert("warn", "No trial beat the dummy on the validation rows: the defaults are kept.")
    gain = ""
    if mean.get("members"):
        error = "" if mean["error"] is None else f" ± {_number(mean['error'])}"
        names = ", ".join(f"{each['weight']:.2f} × trial {each['trial']}" for each in mean["members"])
        gain = (
            f"The best mean is {names}: {metric} {_number(mean['score'])}, {_number(mean['gain'])}{error} better than "
            "the best trial. The error is one standard error of the paired difference, by the jackknife over 20 parts "
            "of the judged rows. The members were chosen on these same rows (Caruana et al., ICML 2004)."
        )
    if tuned["kept"] == "mean":
        return html.alert("good", gain, "A mean of trials is better beyond its error")
    title = "One model is taken" if tuned["kept"] == "tuned" else "The defaults are taken"
    return html.alert("info", f"{mean['reason'][:1].upper()}{mean['reason'][1:]}. {gain}".strip(), title)


def _params(tuned: Json) -> Html:
    """The parameters of what is taken, a column a model."""
    members = tuned["params"].get("members")
    models = members or [{"family": tuned["family"], "params": tuned["params"], "weight": None}]
    heads = [each["family"] if each["weight"] is None else f"{each['weight']:.2f} {each['family']}" for each in models]
    names = dict.fromkeys(name for each in models for name in each["params"])
    rows = [[html.code(name), *(_value(each["params"].get(name, "")) for each in models)] for name in names]
    return html.table(rows, ["parameter", *heads], align="l" + "r" * len(heads), caption="Parameters of the final fit")


def _number(value: float | None) -> str:
    return formats.number(value)


def _value(value: object) -> str:
    return formats.label(value)


def _history(tuned: Json) -> list[Html]:
    """Scores over time and over their number, with the best so far."""
    trials, sign = tuned["trials"], _sign(tuned)
    ends = parallel_axes.drawn_range([trial["score"] for trial in trials], sign)
    level = ("defaults", tuned["score_default"]) if tuned["score_default"] is not None else None
    drawn = []
    for title, label, place in (("Over time", "seconds", "elapsed_s"), ("One by one", "trial", "number")):
        dots = [charts.Dot(trial[place], trial["score"], trial["family"], _hint(trial)) for trial in trials]
        steps = _best_so_far([(trial[place], trial["score"]) for trial in trials], sign)
        words: Any = {"title": title, "x_label": label, "y_label": tuned["metric"]}
        drawn.append(charts.scatter(dots, **words, reached=steps, level=level, y_range=ends))
    beyond = sum(not ends[0] <= trial["score"] <= ends[1] for trial in trials)
    edge = f" {formats.count(beyond, 'trial')} off the scale: rings at its edge." if beyond else ""
    caption = f"One dot a trial in the order in which they ended; the line is the best so far.{edge}"
    return [html.grid(*(html.figure(each, caption) for each in drawn))]


def _best_so_far(points: Sequence[tuple[float, float]], sign: int) -> list[tuple[float, float]]:
    corners: list[tuple[float, float]] = []
    for x, score in points:
        if not corners or sign * score > sign * corners[-1][1]:
            corners.append((x, score))
    return corners


def _hint(trial: Json) -> str:
    params = ", ".join(f"{name} {_value(value)}" for name, value in trial["params"].items()) or "defaults"
    late = "" if trial["finished"] else ", ended by its time"
    return (
        f"trial {trial['number']}, {trial['family']}: {_number(trial['score'])}, {trial['fit_s']:.1f} s{late}; {params}"
    )


def _families(tuned: Json) -> Html:
    total = sum(trial["fit_s"] for trial in tuned["trials"]) or 1.0
    rows = []
    for family in dict.fromkeys(trial["family"] for trial in tuned["trials"]):
        own = [trial for trial in tuned["trials"] if trial["family"] == family]
        seconds = [trial["fit_s"] for trial in own]
        rows.append([
            html.code(family),
            len(own),
            max((trial["score"] for trial in own), key=lambda score: _sign(tuned) * score),
            Cell(formats.seconds(statistics.median(seconds)), statistics.median(seconds)),
            Cell(formats.percent(sum(seconds) / total, 0), sum(seconds)),
            sum(not trial["finished"] for trial in own),
        ])  # fmt: skip
    head = ["family", "trials", f"best {tuned['metric']}", "a trial, median", "share of the time", "ended by time"]
    return html.table(rows, head, align="lrrrrr", sortable=True, caption="Seconds are those of the fits of a trial")


def _parameters(report: Page, tuned: Json) -> None:
    """Two sections: what moved the score, and all trials across their parameters."""
    importance = tuned["search"]["importance"]
    drawn = [html.figure(_shares(name, facts)) for name, facts in importance.items() if "shares" in facts]
    missing = [f"{name}: {facts['reason']}." for name, facts in importance.items() if "reason" in facts]
    blocks = [html.grid(*drawn)] if drawn else []
    blocks += [html.bullets(missing)] if missing else []
    report.section("Importance of parameters", *blocks, note=IMPORTANCE_NOTE)
    lines = [each for name in importance if (each := parallel_axes.drawing(name, tuned)) is not None]
    if lines:
        report.section("Parameters of the trials", *(html.figure(each) for each in lines), note=PARALLEL_NOTE)


def _shares(name: str, facts: Json) -> Html:
    title = f"{name}, {formats.count(facts['trials'], 'trial')}"
    return charts.bars(list(facts["shares"]), list(facts["shares"].values()), title=title, value_label="share")


PHASES = {"reading": "reading", "selection": "comparing", "tune": "searching", "train": "final fit"}


def _time(phases: Json) -> list[Html]:
    """The steps on one scale beside their limits."""
    budget, began, parts = phases["budget"], 0.0, []
    for step, name in PHASES.items():
        seconds = phases.get(step)
        if seconds:
            parts.append(charts.Stretch(name, began, began + seconds, formats.seconds(seconds)))
            began += seconds
    limits = {}
    if budget is not None:
        shares = phases["shares"]
        limits = {f"{share:.0%}": share * budget for share in shares} | {f"budget {formats.seconds(budget)}": budget}
    total = f"{formats.seconds(began)} together"
    beside = "" if budget is None else f", {formats.percent(began / budget, 0)} of the budget"
    later = "" if phases.get("train") is not None else " The final fit is not made yet: it is that of the step train."
    drawn = charts.stretches(parts, title="Time of the steps, in seconds", limits=limits)
    clock = " The recipe has no clock (budget: none)." if budget is None else ""
    return [html.figure(drawn, f"{total}{beside}.{clock}{later}")]


def _portfolio(tuned: Json) -> list[Html]:
    """Points of the portfolios that were not tried, and why."""
    facts = tuned["search"]
    total = sum(family["portfolio"] for family in facts["families"].values())
    text = f"The portfolios of the families in the search have {formats.count(total, 'point')}."
    if not facts["untried"]:
        return [html.paragraph(f"{text} All of them were tried.")]
    rows = [[html.code(row["family"]), row["points"], _point(row["params"]), row["reason"]] for row in facts["untried"]]
    head = ["family", "points", "parameters", "why it was not tried"]
    return [html.paragraph(text), html.table(rows, head, align="lrww", caption="Skipped")]


def _point(params: Json) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in params.items()) or "all of them"


def _trials(tuned: Json) -> list[Html]:
    chosen = set(tuned["search"].get("chosen", ()))
    rows = []
    for trial in tuned["trials"]:
        params = ", ".join(f"{name} {_value(value)}" for name, value in trial["params"].items())
        number = html.join(trial["number"], " ", html.badge("good", "taken")) if trial["number"] in chosen else None
        rows.append([
            Cell(number or trial["number"], trial["number"]),
            html.code(trial["family"]),
            trial["score"],
            Cell(f"{trial['fit_s']:.1f}", trial["fit_s"]),
            Cell(f"{trial['elapsed_s']:.0f}", trial["elapsed_s"]),
            trial["rounds"],
            "itself" if trial["finished"] else "its time",
            params or "defaults",
        ])  # fmt: skip
    head = ["trial", "family", tuned["metric"], "seconds", "ended at", "rounds", "ended by", "parameters"]
    listed = html.table(rows, head, align="llrrrrlw", sortable=True, anchor="trial-list")
    return [html.search("Find a trial by its words", "#trial-list tbody tr"), listed]
