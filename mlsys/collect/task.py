"""Decide the prediction task from the target's values.

========================================================  ==================================================
target                                                    task
========================================================  ==================================================
true and false, or two distinct values                    binary
text, or integers with at most 20 distinct values of      multiclass
which each has ten rows on average
anything else                                             regression
========================================================  ==================================================

``task`` in the recipe overrides it, and so does ``loss``, which is one of numbers. A ranking is never assumed: the
recipe asks for it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import cluster, errors, expressions
from mlsys.collect import grades, row_values
from mlsys.dataset import Snapshot
from mlsys.recipe import Recipe
from mlsys.schema import TargetLoss, Task, TaskKind

Label = bool | int | str

MAX_INTEGER_CLASSES = 20
MIN_ROWS_PER_CLASS = 10
MAX_CLASSES = 1000
"""More are an id or free text; a model of one probability each would not fit in memory either."""

ENDS, JOINTS = re.compile(r"^[\s'\"`]+|[\s'\"`.,;:!]+$"), re.compile(r"(?<=\w)[\s_-]+(?=\w)")
"""Signs around a class, and between its words, that two spellings of it may differ by."""

POSITIVE = ("true", "1", "yes", "y", "t", "positive", "pos")
NEGATIVE = ("false", "no", "n", "f", "0")


def decide(snapshot: Snapshot, recipe: Recipe, without: Collection[Label] = ()) -> Task:
    """The task of a snapshot, with no class of those that were set aside.

    Classes come sorted; in a binary task the positive one, ``recipe.positive`` or else true,
    1, yes or the rarer, comes last.

    Raises
    ------
    TargetError
        The target cannot be learned from as that task: one class, numbers needed, too many classes, or values that
        the recipe's loss does not take.
    RecipeError
        ``positive`` is no class of the target, or ``loss`` is named for a task of classes.
    """
    target, loss = recipe.target_column, _loss(recipe)
    grades.check_recipe(recipe)
    if target not in snapshot.schema:
        raise errors.RecipeError.unknown_column("recipe: 'target'", target, snapshot.schema.names)
    counts, is_numeric, is_integer = cluster.call(_labels, snapshot, target, threads=1)
    counts = Counter({label: rows for label, rows in counts.items() if label not in without})
    if not counts:
        raise errors.TargetError.all_null(target, snapshot.num_rows)
    if len(counts) == 1:
        raise errors.TargetError.single_class(target, next(iter(counts)), sum(counts.values()))
    kind = kind_of(counts, is_numeric=is_numeric, is_integer=is_integer) if recipe.task == "auto" else recipe.task
    if kind is TaskKind.RANKING:
        grades.check_values(target, counts, is_numeric=is_numeric)
        return with_rows(Task(kind=kind, target=target, group=recipe.data.group), None, snapshot, recipe)
    if kind is TaskKind.REGRESSION or loss is not None:
        return with_rows(_regression(target, counts, is_numeric=is_numeric), loss, snapshot, recipe)
    classes = _classes(target, counts, kind)
    if kind is TaskKind.BINARY:
        positive = _positive(classes, counts, recipe.positive, target)
        classes = [label for label in classes if label != positive] + [positive]
    return with_rows(Task(kind=kind, target=target, classes=tuple(classes)), None, snapshot, recipe)


def with_rows(task: Task, loss: TargetLoss | None, snapshot: Snapshot, recipe: Recipe) -> Task:
    """The task with its loss and with what the recipe says of how rows count, once their values are checked."""
    beside = {"weight": recipe.train.weight, "exposure": recipe.train.exposure}
    decided = task.model_copy(update={"loss": loss, **beside})
    row_values.check(snapshot, decided)
    if decided.is_ranking:
        grades.check_groups(snapshot, decided)
    return decided


def _loss(recipe: Recipe) -> TargetLoss | None:
    """The loss that the recipe names, which is one of numbers."""
    loss = TargetLoss.of(recipe.loss)
    if loss is not None and recipe.task not in ("auto", TaskKind.REGRESSION):
        where, got = f"recipe: loss: {loss}", f"task: {TaskKind(recipe.task).value}"
        hint = "leave one of them out: a loss is one of numbers, classes are compared by selection.metric"
        raise errors.RecipeError.build(where, got=got, expected="task: regression, or auto", hint=hint, field="loss")
    return loss


def messages(snapshot: Snapshot, recipe: Recipe, task: Task) -> list[str]:
    """Lines about the target that a person should read: spellings of one class, and numbers taken for classes."""
    if task.is_ranking:
        return [grades.message(cluster.call(grades.count, snapshot, task, threads=1), task)]
    counts, is_numeric, _ = cluster.call(_labels, snapshot, task.target, threads=1)
    if not task.is_classification or task.labels:
        return []
    if is_numeric and recipe.task == "auto" and len(task.classes) > 2:
        text = f"target '{task.target}': {len(task.classes)} different whole numbers are taken for classes"
        return [f"{text}; task: regression predicts them as amounts"]
    alike = _alike({label: rows for label, rows in counts.items() if isinstance(label, str)})
    return [_about_spellings(task.target, alike)] if alike else []


def _alike(counts: Mapping[str, int]) -> list[list[str]]:
    """Classes that differ by blanks, case or a sign at an end only, the most frequent spelling of each first."""
    spellings: dict[str, list[str]] = {}
    for label in counts:
        spellings.setdefault(_plain(label), []).append(label)
    ordered = (sorted(alike, key=lambda label: (-counts[label], label)) for alike in spellings.values())
    return [alike for alike in ordered if len(alike) > 1]


def _plain(label: str) -> str:
    """A class without what people write differently; `<=50K` and `>50K`, or `A+` and `A-`, stay two.

    >>> {_plain(label) for label in ("State-gov", " state gov.", "'State_Gov'")}
    {'state gov'}
    """
    bare = ENDS.sub("", unicodedata.normalize("NFKC", label))
    return JOINTS.sub(" ", bare).casefold() or label


def _about_spellings(target: str, alike: list[list[str]]) -> str:
    shown = "; ".join(", ".join(map(repr, spellings)) for spellings in alike[:3])
    more = f" and {len(alike) - 3} more" if len(alike) > 3 else ""
    column, text = expressions.quoted_name(target), expressions.quoted_text
    cases = " ".join(
        f"WHEN {column} IN ({', '.join(map(text, spellings[1:]))}) THEN {text(spellings[0])}" for spellings in alike
    )
    derive = json.dumps({target: f"CASE {cases} ELSE {column} END"}, ensure_ascii=False)
    message = f"target '{target}': classes that differ by blanks, case or punctuation only: {shown}{more}"
    return f"{message}; if each is one class, data.derive: {derive}"


def _labels(snapshot: Snapshot, target: str) -> tuple[Counter[object], bool, bool]:
    """Rows by label (labels beyond `MAX_CLASSES` + 1 are dropped), and whether they are numbers, integers."""
    counts: Counter[object] = Counter()
    kind: pa.DataType = pa.null()
    for path in snapshot.paths:
        values = pq.read_table(path, columns=[target])[target]
        kind = values.type
        for entry in pc.value_counts(values.combine_chunks().drop_null())[: MAX_CLASSES + 1].to_pylist():
            if entry["values"] in counts or len(counts) <= MAX_CLASSES:
                counts[entry["values"]] += entry["counts"]
    is_integer = pa.types.is_integer(kind)
    return counts, is_integer or pa.types.is_floating(kind), is_integer


def kind_of(counts: Mapping[Any, int], *, is_numeric: bool, is_integer: bool) -> TaskKind:
    """The kind of task that the rows by value make, unless the recipe says otherwise."""
    if len(counts) == 2:
        return TaskKind.BINARY
    few = len(counts) <= MAX_INTEGER_CLASSES and sum(counts.values()) >= MIN_ROWS_PER_CLASS * len(counts)
    return TaskKind.MULTICLASS if not is_numeric or (is_integer and few) else TaskKind.REGRESSION


def _regression(target: str, counts: Counter[object], *, is_numeric: bool) -> Task:
    if not is_numeric:
        where = f"collect: target '{target}'"
        got = f"values such as {next(iter(counts))!r}"
        expected = "numbers, for regression"
        raise errors.TargetError.build(where, got=got, expected=expected, hint="leave out task, or derive a number")
    return Task(kind=TaskKind.REGRESSION, target=target)


def _classes(target: str, counts: Counter[object], kind: TaskKind) -> list[Label]:
    labels = [label for label in counts if isinstance(label, bool | int | str)]
    if len(labels) < len(counts):
        where = f"collect: target '{target}'"
        got = f"values such as {next(x for x in counts if x not in labels)!r} as classes"
        hint = f"derive it: CAST({target} AS BIGINT), or CAST({target} AS VARCHAR)"
        raise errors.TargetError.build(where, got=got, expected="text, integers, or true and false", hint=hint)
    most = 2 if kind is TaskKind.BINARY else MAX_CLASSES
    if len(labels) > most:
        shown = ", ".join(repr(label) for label in sorted(labels, key=str)[:5])
        got = f"more than {most} classes: {shown}, …"
        hint = "task: multiclass" if most == 2 else "group the classes in data.derive, or name another target"
        raise errors.TargetError.build(f"collect: target '{target}'", got=got, expected=f"at most {most}", hint=hint)
    return sorted(labels)  # of one type: they come from one column


def _positive(classes: list[Label], counts: Counter[object], positive: Label | None, target: str) -> Label:
    if positive is not None:
        return _class_meant(classes, positive, target)
    by_name = [label for label in classes if str(label).strip().lower() in POSITIVE]
    if len(by_name) == 1:
        return by_name[0]
    return min(reversed(classes), key=lambda label: counts[label])  # of equals the last


def _class_meant(classes: list[Label], positive: Label, target: str) -> Label:
    """The class that the recipe means; YAML reads an unquoted yes as true and 1 as a number."""
    for label in classes:
        if label == positive and isinstance(label, bool) == isinstance(positive, bool):
            return label
    words: tuple[str, ...] = (str(positive).lower(),)
    if isinstance(positive, bool):
        words = POSITIVE if positive else NEGATIVE
    meant = [label for label in classes if str(label).lower() in words]
    if len(meant) == 1:
        return meant[0]
    where = f"recipe: 'positive' for target '{target}'"
    got = repr(positive)
    hint = errors.did_you_mean(str(positive), map(str, classes))
    raise errors.RecipeError.build(where, got=got, expected=" or ".join(repr(label) for label in classes), hint=hint)
