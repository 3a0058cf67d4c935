"""Drawings of what a model goes by: importance of columns, dependence on the first ones, pairs that act together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlsys.reports import charts, formats
from mlsys.reports.page import Html, badge, details, figure, grid, paragraph, table

MOST_COLUMNS = 14
"""Columns in a drawing; the table has all."""

MOST_DEPENDENCES = 6
"""Columns whose dependence is drawn."""

MOST_OUTPUTS = 5
"""Classes or labels in the drawing of a dependence: those that move most."""

MOST_PAIRS = 10


def blocks(evaluation: Mapping[str, Any]) -> list[Html]:
    """Draw the parts of an evaluation that say which columns matter, and how."""
    explained = evaluation["explained"]
    parts = [
        paragraph(_text(explained, evaluation["metrics"][evaluation["metric"]]["title"])),
        grid(*_importances(evaluation)),
        details("All columns, with intervals", _table(explained)),
    ]
    drawn = _dependences(evaluation)
    note = (
        "Dependence: the mean prediction over test rows where every row has the same value of the column (Friedman "
        "2001); the order of the columns is that of permutation importance."
    )
    if drawn:
        parts += [paragraph(note), grid(*drawn)]
    return [*parts, *_pairs(explained["interactions"], evaluation["task"])]


def _text(explained: Mapping[str, Any], title: str) -> str:
    own = explained["contributions"]
    rows = formats.count(explained["num_rows"], "test row")
    what = f"what {title} loses where a column's values go to other rows"
    lines = [f"Permutation importance on {rows}: {what}."]
    if own["columns"]:
        lines.append(
            f"Contributions of {formats.count(own['num_rows'], 'row')}: the mean absolute Shapley value (scale: "
            f"{own['scale'].replace('_', ' ')})."
        )
    else:
        lines.append(f"No contributions: {own['reason']}.")
    if explained["left_out"]:
        lines.append(f"Left out, with the least response: {formats.count(len(explained['left_out']), 'column')}.")
    return " ".join(lines)


def _importances(evaluation: Mapping[str, Any]) -> list[Html]:
    explained = evaluation["explained"]
    title = evaluation["metrics"][evaluation["metric"]]["title"]
    text = "Whiskers are intervals; at 0 the model does without it. Columns that say the same stand in for each other."
    drawn = [(f"Loss in {title} without the column", explained["permutation"], text)]
    if explained["contributions"]["columns"]:
        text = "How far the column moves outputs, be it right or wrong. Derived features have a place of their own."
        drawn.append(("Mean absolute contribution", explained["contributions"]["columns"], text))
    return [figure(_bars(entries, name), text) for name, entries, text in drawn if entries]


def _bars(entries: Sequence[Mapping[str, Any]], title: str) -> Html:
    dots = [
        charts.Interval(entry["column"], entry["value"], entry["low"], entry["high"], _mark(entry))
        for entry in entries[:MOST_COLUMNS]
    ]
    return charts.intervals(dots, title=title, reference=0.0)


def _mark(entry: Mapping[str, Any]) -> Any:
    return "accent" if entry["low"] is not None and entry["low"] > 0 else "plain"


def _table(explained: Mapping[str, Any]) -> Html:
    own = {entry["column"]: entry for entry in explained["contributions"]["columns"]}
    permuted = {entry["column"]: entry for entry in explained["permutation"]}
    rows = [
        [name, *_cells(permuted.get(name)), *(_cells(own.get(name)) if own else [])]
        for name in dict.fromkeys([*permuted, *own])
    ]
    columns = ["column", f"loss in {explained['metric']}", "interval"]
    columns += ["mean absolute contribution", "interval"] if own else []
    return table(rows, columns, align="l" + "r" * (len(columns) - 1), sortable=True)


def _cells(entry: Mapping[str, Any] | None) -> list[object]:
    return [None, formats.MISSING] if entry is None else [entry["value"], formats.interval(entry["low"], entry["high"])]


def _dependences(evaluation: Mapping[str, Any]) -> list[Html]:
    """The response to the first columns that have one."""
    responses = evaluation["response"]["columns"]
    names = [entry["column"] for entry in evaluation["explained"]["permutation"]]
    shown = [name for name in names if len(responses.get(name, {}).get("values", ())) > 1][:MOST_DEPENDENCES]
    outputs = _output_names(evaluation["task"])
    return [figure(_dependence(name, responses[name], outputs)) for name in shown]


def _output_names(task: Mapping[str, Any]) -> list[str]:
    classes = [str(each) for each in task.get("labels") or task.get("classes") or ()]
    if task["kind"] == "binary":
        return [f"probability of {classes[1]}"]
    return [f"probability of {name}" for name in classes] or [f"mean predicted {task['target']}"]


def _dependence(name: str, answered: Mapping[str, Any], outputs: Sequence[str]) -> Html:
    """A curve of a number, dots of categories; of many outputs those that move most."""
    values, means = answered["values"], np.asarray(answered["output"], np.float64)
    moved = np.argsort(-np.ptp(means, axis=0), kind="stable")
    known = [place for place, value in enumerate(values) if value is not None and value != "\x00other"]
    numbers = [values[place] for place in known]
    if len(known) > 2 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        series = {outputs[k]: (numbers, means[known, k].tolist()) for k in moved[:MOST_OUTPUTS]}
        ends = (float(means[known].min()), float(means[known].max()))
        y = outputs[0] if len(outputs) == 1 else "probability"
        how: Any = {"x_label": name, "y_label": y, "x_range": (min(numbers), max(numbers)), "y_range": ends}
        return charts.curve(series, title=f"Dependence on {name}", dots=True, **how)
    first = int(moved[0])
    places = [*known, *(place for place, value in enumerate(values) if value is None)]
    dots = [charts.Interval(formats.label(values[place]), float(means[place, first])) for place in places]
    return charts.intervals(dots[:MOST_COLUMNS], title=f"Dependence on {name}: {outputs[first]}")


SCALES = {"binary": "in log-odds", "multilabel": "in log-odds", "multiclass": "in logarithms of probabilities"}
"""Scale on which pairs are measured, by kind of task; that of the predicted number for others."""


def _pairs(interactions: Mapping[str, Any], task: Mapping[str, Any]) -> list[Html]:
    marked = [pair for pair in interactions["pairs"] if pair["matters"]]
    rows, spread = formats.count(interactions["num_rows"], "row"), formats.number(interactions["spread"])
    unit = SCALES.get(task["kind"], "in the unit of the prediction")
    how = (
        f"Pairs of the first columns on {rows}: effect is the size of what their joint dependence has beyond the sum "
        f"of both, {unit}; H is its share of the joint dependence (Friedman & Popescu 2008). Outputs "
        f"spread by {spread}; a pair is marked from a twentieth of that."
    )
    if not interactions["pairs"]:
        return [paragraph("No pairs: fewer than two columns lose anything when they are permuted.")]
    verdict = f"{formats.count(len(marked), 'pair')} of columns act together." if marked else "No pair acts together."
    mark = badge("info", "acts together")
    cells = [
        [" × ".join(pair["columns"]), pair["effect"], pair["h"], mark if pair["matters"] else ""]
        for pair in interactions["pairs"][:MOST_PAIRS]
    ]
    return [paragraph(verdict, " ", how), table(cells, ["pair", "effect", "H", ""], align="lrrl")]
