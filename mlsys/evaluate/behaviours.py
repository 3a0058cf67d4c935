"""Behavioural tests: sentences of a recipe about what a model has to do, put to its predictions.

The three kinds are those of Ribeiro, Wu, Guestrin & Singh (2020), Beyond accuracy: behavioral testing of NLP models
with CheckList, ACL, 4902-4912.

============================  ==========================================================================
kind                          as the recipe says it
============================  ==========================================================================
invariance                    ``change: {origin: "'JFK'"}, expect: same``
direction                     ``change: {delay: delay + 30}, expect: increase``
minimum functionality         ``rows: [{delay: 200, …}], expect: probability > 0.9``, or ``where: delay > 180``
============================  ==========================================================================

Rows are test rows, evenly spaced, for which ``where`` is true, or those that the recipe gives. What is compared of a
changed row is the predicted number, the probability of the positive class or of the class that ``of`` names; for
``same`` of several classes or labels without ``of``, the probability that moves most. A model passes where no larger
part of the rows than ``max_fraction`` breaks the sentence, and fails where there is no row to put it to.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys import errors, expressions
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import explained, gate, utility
from mlsys.evaluate.utility import PREDICTION, PROBABILITY
from mlsys.predict import Predictor
from mlsys.predict.predictions import Predictions
from mlsys.predict.validation import RequestValidator
from mlsys.recipe import Behaviour
from mlsys.schema import TaskKind
from mlsys.statistics.arrays import Floats, numbers_of

MAX_SEEN, MAX_ROWS = 20_000, 1_000
"""Test rows that ``where`` chooses from, and rows that a sentence is put to."""

MAX_EXAMPLES = 5

WORDS = {"same": 0, "increase": 1, "decrease": -1}
"""What a change may do to the output, by its sign; anything else is a condition in SQL."""


def check(behaviours: Mapping[str, Behaviour], bundle: Bundle, timezone: str = "UTC") -> None:
    """Refuse sentences that cannot be put to a model, before any row is opened.

    Raises
    ------
    RecipeError
        A column is not there, a class is none of the task's, an expression is wrong, a given row is none that the
        model can predict, or nothing is asked.
    """
    validator = RequestValidator(bundle.schema, bundle.needed, timezone)
    known = [column.name for column in bundle.schema]
    for name, behaviour in behaviours.items():
        where = f"recipe: evaluate.behaviours.{name}"
        _check_words(behaviour, bundle, where)
        for column, sql in behaviour.change.items():
            if column not in known:
                raise errors.RecipeError.unknown_column(f"{where}.change", column, known)
            expressions.compile(column, sql, known, f"{where}.change")
        if behaviour.where is not None:
            _check_condition(bundle, "where", behaviour.where, known, f"{where}.where")
        if behaviour.rows:
            _conformed(validator.records, list(behaviour.rows), f"{where}.rows")
        if behaviour.expect not in WORDS:
            beside = [PREDICTION, *([PROBABILITY] if _class_of(behaviour, bundle) is not None else [])]
            _check_condition(bundle, "expect", behaviour.expect, [*known, *beside], f"{where}.expect")


def _check_words(behaviour: Behaviour, bundle: Bundle, where: str) -> None:
    task = bundle.task
    if behaviour.expect in WORDS and not behaviour.change:
        got, hint = f"expect: {behaviour.expect} without change", "change: {column: SQL}"
        raise errors.RecipeError.build(where, got=got, expected="what is changed", hint=hint)
    if behaviour.rows and behaviour.where is not None:
        raise errors.RecipeError.build(where, got="rows and where", expected="one of them")
    if behaviour.of is not None and behaviour.of not in (task.labels or task.class_names):
        expected = f"one of {', '.join(task.labels or task.class_names) or 'no classes: a number is predicted'}"
        raise errors.RecipeError.build(f"{where}.of", got=behaviour.of, expected=expected)
    has_several = task.kind in (TaskKind.MULTICLASS, TaskKind.MULTILABEL)
    if WORDS.get(behaviour.expect, 0) and behaviour.of is None and has_several:
        expected = f"of: one of {', '.join(task.labels or task.class_names)}"
        raise errors.RecipeError.build(where, got=f"expect: {behaviour.expect} of {task.kind.value}", expected=expected)


def _check_condition(bundle: Bundle, name: str, sql: str, known: list[str], where: str) -> None:
    """Refuse an expression that is no condition on the columns of a request and of its prediction."""
    expressions.compile(name, sql, known, where)
    beside = [pa.field(PREDICTION, _type_of_prediction(bundle)), pa.field(PROBABILITY, pa.float64())]
    fields = [field for field in bundle.schema.arrow() if field.name not in (PREDICTION, PROBABILITY)]
    kind = expressions.types(pa.schema([*fields, *beside]), {name: sql}, where)[name]
    if not pa.types.is_boolean(kind):
        hint = f"words are {', '.join(WORDS)}" if name == "expect" else None
        raise errors.RecipeError.build(where, got=f"{sql}, of type {kind}", expected="a condition", hint=hint)


def _type_of_prediction(bundle: Bundle) -> pa.DataType:
    task = bundle.task
    if task.labels or not task.is_classification:
        return pa.string() if task.labels else pa.float64()
    return pa.array(list(task.classes)).type


def judge(
    behaviours: Mapping[str, Behaviour], bundle: Bundle, split: Split, timezone: str, groups: NDArray[Any] | None = None
) -> list[dict[str, Any]]:
    """Put each sentence to the model.

    Returns
    -------
    list
        For each its ``name``, what it says, ``num_rows``, ``num_broken``, ``fraction``, whether it ``passed``, and
        ``examples`` of rows that break it: their values in the columns concerned, and the outputs.

    Raises
    ------
    RecipeError
        A given or a changed row is none that the model can predict.
    """
    predictor = Predictor(bundle, timezone)
    seen = None
    if any(not behaviour.rows for behaviour in behaviours.values()):
        seen = explained.sampled(predictor, split, MAX_SEEN, groups).table
    return [_judged(name, behaviour, predictor, seen) for name, behaviour in behaviours.items()]


def _judged(name: str, behaviour: Behaviour, predictor: Predictor, seen: pa.Table | None) -> dict[str, Any]:
    where = f"recipe: evaluate.behaviours.{name}"
    rows = _rows(behaviour, predictor, seen, where)
    facts = {"name": name, "kind": _kind(behaviour), **behaviour.model_dump(mode="json", exclude={"rows"})}
    if not rows.num_rows:
        return {**facts, "num_rows": 0, "num_broken": 0, "fraction": None, "passed": False, "examples": []}
    changed = _changed(rows, behaviour, predictor, where)
    before, after = predictor.conformed_table(rows), predictor.conformed_table(changed)
    if behaviour.expect in WORDS:
        broken = _moved_wrongly(behaviour, predictor, before, after)
    else:
        broken = ~_holds(changed, after, behaviour, predictor, where)
    count, fraction = int(broken.sum()), float(broken.mean())
    examples = [
        _example(int(row), rows, changed, before, after, behaviour, predictor)
        for row in np.flatnonzero(broken)[:MAX_EXAMPLES]
    ]
    passed = fraction <= behaviour.max_fraction
    outcome = {"num_rows": rows.num_rows, "num_broken": count, "fraction": fraction, "passed": passed}
    return {**facts, **outcome, "examples": examples}


def _kind(behaviour: Behaviour) -> str:
    if behaviour.expect not in WORDS:
        return "minimum functionality"
    return "direction" if WORDS[behaviour.expect] else "invariance"


def _rows(behaviour: Behaviour, predictor: Predictor, seen: pa.Table | None, where: str) -> pa.Table:
    """The conformed rows that a sentence is put to."""
    if behaviour.rows:
        given = _conformed(predictor.conform, list(behaviour.rows), f"{where}.rows")
        return predictor.contract.arrow(given)
    rows = seen
    if rows is None:
        raise TypeError(behaviour)  # `judge` reads rows for every sentence without its own
    if behaviour.where is not None:
        holds = expressions.add(rows, {"where": behaviour.where}, f"{where}.where")["where"]
        rows = rows.filter(pc.fill_null(holds, fill_value=False))
    places = np.unique(np.linspace(0, rows.num_rows - 1, min(MAX_ROWS, rows.num_rows)).astype(np.intp))
    return rows.take(pa.array(places)) if rows.num_rows else rows


def _changed(rows: pa.Table, behaviour: Behaviour, predictor: Predictor, where: str) -> pa.Table:
    """The rows with the changes made, in the columns' own types; a change reads what those before it made."""
    if not behaviour.change:
        return rows
    changed = expressions.add(rows, behaviour.change, f"{where}.change")
    for name in behaviour.change:
        kind, place = rows.schema.field(name).type, changed.column_names.index(name)
        if pa.types.is_integer(kind) and pa.types.is_floating(changed.schema.field(name).type):
            changed = changed.set_column(place, name, pc.cast(pc.round(changed[name]), kind))
    conformed: pa.Table = _conformed(predictor.conform, changed, f"{where}.change")
    return conformed


def _conformed(conform: Callable[[Any], Any], rows: Any, where: str) -> Any:
    """Rows as the model takes them; a row that it does not take is a fault of the recipe."""
    try:
        return conform(rows)
    except errors.RequestError as error:
        got = "; ".join(" ".join(line.split()) for line in str(error).splitlines()[:3])
        raise errors.RecipeError.build(where, got=got, expected="rows that the model can predict") from error


def _class_of(behaviour: Behaviour, bundle: Bundle) -> int | None:
    """Place of the class or label whose probability is looked at; None for a number, and for all of several."""
    task = bundle.task
    if behaviour.of is not None:
        return list(task.labels or task.class_names).index(behaviour.of)
    return 1 if task.kind is TaskKind.BINARY else None


def _outputs(behaviour: Behaviour, predictor: Predictor, predictions: Predictions) -> Floats:
    """The outputs that are compared, (n, outputs): one of a number and of one class, else all probabilities."""
    if predictions.probabilities is None:
        return np.asarray(predictions.score, np.float64)[:, None]
    place = _class_of(behaviour, predictor.bundle)
    outputs = np.asarray(predictions.probabilities, np.float64)
    return outputs if place is None else outputs[:, [place]]


def _moved_wrongly(behaviour: Behaviour, predictor: Predictor, before: Predictions, after: Predictions) -> NDArray[Any]:
    """Tell of each row whether its output moved by more than the tolerance, in a wrong direction where one is said."""
    old, new = (_outputs(behaviour, predictor, each) for each in (before, after))
    sign = WORDS[behaviour.expect]
    wrong = np.abs(new - old).max(axis=1) if sign == 0 else sign * (old - new)[:, 0]
    return np.asarray(wrong > behaviour.tolerance)


def _holds(
    rows: pa.Table, predictions: Predictions, behaviour: Behaviour, predictor: Predictor, where: str
) -> NDArray[Any]:
    """Tell of each row whether the condition holds for it and its prediction; null is no."""
    columns: dict[str, Any] = {PREDICTION: _prediction(predictor, predictions)}
    if _class_of(behaviour, predictor.bundle) is not None:
        columns[PROBABILITY] = pa.array(_outputs(behaviour, predictor, predictions)[:, 0])
    beside = utility.with_columns(rows, columns)
    held = expressions.add(beside, {"expect": behaviour.expect}, f"{where}.expect")["expect"]
    return np.asarray(numbers_of(pc.fill_null(held, fill_value=False)) > 0)


def _prediction(predictor: Predictor, predictions: Predictions) -> pa.Array:
    values = np.asarray(predictions.prediction).tolist()
    return pa.array(values, _type_of_prediction(predictor.bundle))


def _example(
    row: int,
    rows: pa.Table,
    changed: pa.Table,
    before: Predictions,
    after: Predictions,
    behaviour: Behaviour,
    predictor: Predictor,
) -> dict[str, Any]:
    """A row that breaks a sentence: the columns that the sentence names, and its outputs."""
    texts = [*behaviour.change.values(), behaviour.where, None if behaviour.expect in WORDS else behaviour.expect]
    named = {name for text in texts if text for name in expressions.parse("example", text).inputs}
    shown = [name for name in rows.column_names if name in named | set(behaviour.change)]
    values = {name: _json(rows[name][row].as_py()) for name in shown}
    made = {name: _json(changed[name][row].as_py()) for name in behaviour.change}
    old, new = (_outputs(behaviour, predictor, each)[row] for each in (before, after))
    place = int(np.argmax(np.abs(new - old)))
    prediction = _json(np.asarray(after.prediction)[row].item())
    outputs = {"before": float(old[place]), "after": float(new[place]), "prediction": prediction}
    return {"values": values, "changed": made, **outputs}


def _json(value: Any) -> Any:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def checks(judged: list[dict[str, Any]]) -> list[gate.Check]:
    """The conditions of the gate: each sentence is broken by no larger part of its rows than it allows."""
    return [_check(each) for each in judged]


def _check(each: Mapping[str, Any]) -> gate.Check:
    name, limit = f"behaviour {each['name']}", each["max_fraction"]
    bound = f"broken by at most {limit:g} of the rows"
    if not each["num_rows"]:
        reason = f"{name}: there is no row to put it to"
        advice = "give rows of your own under rows, or a where that holds for test rows"
        return gate.Check(name, None, bound, passed=False, reason=reason, advice=advice)
    reason = f"{name}: {each['num_broken']:,} of {each['num_rows']:,} rows break it ({each['kind']})"
    key = f"evaluate.behaviours.{each['name']}.max_fraction"
    advice = f"see the rows in the report; train.monotone holds directions; or {key}: "
    advice += gate.nearest_bound(each["fraction"], "max")
    return gate.Check(name, each["fraction"], bound, each["passed"], reason, "" if each["passed"] else advice)
