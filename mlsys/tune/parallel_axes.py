"""Trials of a family as lines across their parameters: one scale a parameter, by its logarithm where its space is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import charts, formats
from mlsys.reports.page import Html

Json = Mapping[str, Any]

MOST_AXES = 9
"""Parameters in a drawing, the first ones; the table of the trials has all."""

MOST_NAMES = 6
"""Values of a choice that are named at its axis."""

ZERO_GAP = 0.15
"""Fraction of a logarithmic axis below its smallest value where 0 is among the values."""

PADDING = 0.04
"""Space at both ends of an axis, as a fraction of it."""


SPREAD = 1.6
"""Distance from the best up to which scores are to scale, as a multiple of that of three quarters of the trials."""


def drawn_range(scores: Sequence[float], sign: int) -> tuple[float, float]:
    """Ends of a scale for scores: from the best so far down that three quarters of them are well inside.

    >>> low, high = drawn_range([0.80, 0.81, 0.79, 0.2], sign=1)
    >>> round(low, 3), high
    (0.778, 0.81)
    """
    best = max(scores, key=lambda score: sign * score)
    gaps = sorted(abs(best - score) for score in scores)
    most = min(gaps[-1], SPREAD * gaps[(3 * (len(gaps) - 1)) // 4]) or gaps[-1]
    return (min(best, best - sign * most), max(best, best - sign * most))


def drawing(family: str, tuned: Json) -> Html | None:
    """Draw the trials of a family; None where there are not two that differ in two parameters."""
    facts, trials = tuned["search"], [trial for trial in tuned["trials"] if trial["family"] == family]
    values, domains = _values(facts["families"][family], trials), facts["families"][family]["space"]
    order = list(facts["importance"].get(family, {}).get("shares", {}))
    names = [*order, *(name for name in values if name not in order)]
    varied = [name for name in names if len({repr(value) for value in values[name]}) > 1][:MOST_AXES]
    if len(trials) < 2 or len(varied) < 2:
        return None
    scales = [_scale(name, values[name], is_log=bool(domains.get(name, {}).get("log"))) for name in varied]
    sign = 1 if facts["greater_is_better"] else -1
    scores = [trial["score"] for trial in trials]
    scales.append(_scores(tuned["metric"], scores, drawn_range(scores, sign)))
    ranked = sorted(range(len(trials)), key=lambda at: sign * scores[at])
    chosen = set(facts.get("chosen", ()))
    threads = [
        charts.Thread(
            [places[at] for _, places in scales],
            rank=ranked.index(at) / (len(trials) - 1),
            hint=f"trial {trial['number']}: {formats.number(trial['score'])}",
            is_chosen=trial["number"] in chosen,
        )
        for at, trial in enumerate(trials)
    ]
    title = f"{family}, {formats.count(len(trials), 'trial')}"
    return charts.parallel([axis for axis, _ in scales], threads, title=title)


def _values(family: Json, trials: Sequence[Json]) -> dict[str, list[Any]]:
    """The values of all parameters that some trial has of its own, or that are searched, trial by trial."""
    names = dict.fromkeys([*family["space"], *(name for trial in trials for name in trial["params"])])
    defaults = family["defaults"]
    return {name: [trial["params"].get(name, defaults.get(name)) for trial in trials] for name in names}


Scale = tuple[charts.Axis, list[float | None]]
"""An axis, and the places of the trials on it."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scale(name: str, values: Sequence[Any], *, is_log: bool) -> Scale:
    known = [value for value in values if value is not None]
    if not all(_is_number(value) for value in known):
        return _choices(name, values)
    positive = [value for value in known if value > 0]
    if is_log and len(set(positive)) > 1:
        return _powers(name, values, positive)
    low, high = min(known), max(known)
    places = [None if value is None else _inside((value - low) / ((high - low) or 1.0)) for value in values]
    ticks = [(_inside(place), _tick(value)) for place, value in ((0, low), (0.5, (low + high) / 2), (1, high))]
    return charts.Axis(name, ticks), places


def _powers(name: str, values: Sequence[Any], positive: Sequence[float]) -> Scale:
    """Values by their logarithm; what has none, such as no penalty at all, lies at the lower end, apart from them."""
    low, high = math.log(min(positive)), math.log(max(positive))
    foot = ZERO_GAP if any(value is not None and value <= 0 for value in values) else 0.0

    def place(value: float) -> float:
        return _inside(foot + (1 - foot) * (math.log(value) - low) / (high - low) if value > 0 else 0.0)

    marks = [min(positive), math.exp((low + high) / 2), max(positive)]
    ticks = [(place(mark), _tick(mark)) for mark in marks] + ([(_inside(0.0), "0")] if foot else [])
    return charts.Axis(name, ticks), [None if value is None else place(value) for value in values]


def _tick(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1_000 else formats.compact(value)


def _choices(name: str, values: Sequence[Any]) -> Scale:
    words = sorted({formats.label(value) for value in values})
    at = {word: _inside(number / max(1, len(words) - 1)) for number, word in enumerate(words)}
    shown = words if len(words) <= MOST_NAMES else [words[0], words[-1]]
    return charts.Axis(name, [(at[word], word[:12]) for word in shown]), [at[formats.label(value)] for value in values]


def _scores(metric: str, scores: Sequence[float], ends: tuple[float, float]) -> Scale:
    """The axis of the scores, as they are; what is worse than its end lies at the end."""
    low, high = ends
    places: list[float | None] = [
        _inside(min(max((score - low) / ((high - low) or 1.0), 0.0), 1.0)) for score in scores
    ]
    return charts.Axis(metric, [(_inside(0.0), _tick_of_score(low)), (_inside(1.0), _tick_of_score(high))]), places


def _tick_of_score(value: float) -> str:
    return formats.number(value, 5)


def _inside(place: float) -> float:
    return PADDING + (1 - 2 * PADDING) * place
