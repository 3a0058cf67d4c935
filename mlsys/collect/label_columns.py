"""The labels of rows: several columns of two values each, or a column of lists, as one target column of sets.

The set of a row is a text (`mlsys.label_sets`), so that the target is one column wherever rows are divided, described
and matched with later labels. Rows in which a label is null have no set: they are in the part ``unlabelled`` with all
others whose target is not known, for a row is fitted, or judged, for all of its labels or for none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import cluster, errors, expressions
from mlsys import label_sets as labels
from mlsys.collect import task as tasks
from mlsys.dataset import Snapshot
from mlsys.readers.conversion import without_nan
from mlsys.recipe import Recipe, targets
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.store import Store

MOST_VALUES = 1_000
"""Different values of a column that are counted; of a label more than two are too many."""

MOST_SETS = 20
"""Sets of labels, the most frequent ones, that are a class of their own in statistics and reports."""

FEW = 10
"""Rows that have, or lack, a label below which it is told; in a list, a value of fewer rows is no label."""


@dataclass(frozen=True)
class LabelSets:
    """A snapshot whose `target` holds the sets of the `names`, counted in `sets`, and messages about them."""

    snapshot: Snapshot
    target: str
    names: tuple[str, ...]
    sets: Counter[str]
    messages: tuple[str, ...]


@dataclass
class _Column:
    """Rows by value of a column of labels, or of lists of them; of the values `MOST_VALUES` at most."""

    values: Counter[Any] = field(default_factory=Counter)
    num_nulls: int = 0

    def add(self, values: pa.Array) -> None:
        """Count the values of an array."""
        known = without_nan(values).drop_null()
        self.num_nulls += len(values) - len(known)
        if pa.types.is_list(known.type):
            known = known.flatten().drop_null()
        for entry in pc.value_counts(known).to_pylist():
            if entry["values"] in self.values or len(self.values) < MOST_VALUES:
                self.values[entry["values"]] += entry["counts"]


def is_asked_for(recipe: Recipe) -> bool:
    """True if the recipe's target are labels: a list of columns, or a column of lists with ``task: multilabel``."""
    return not isinstance(recipe.target, str) or recipe.task is TaskKind.MULTILABEL


def check(recipe: Recipe) -> None:
    """Refuse what a recipe says of labels that does not fit, before anything is read.

    Raises
    ------
    RecipeError
        The task, the loss, the positive class, or a label that is also something else.
    """
    if recipe.task not in ("auto", TaskKind.MULTILABEL):
        raise _unfit("task", str(TaskKind(recipe.task).value), "task: multilabel, or auto")
    balance = None if recipe.train.balance in ("auto", "none") else str(recipe.train.balance)
    if balance is not None:
        raise _unfit("train.balance", balance, "none: a row is of a rare label and of frequent ones at once")
    if recipe.forecast is not None:
        raise _unfit("forecast", "a forecast", "no 'forecast': only numbers are forecast")
    given = {"positive": recipe.positive, "loss": recipe.loss if recipe.loss != "auto" else None}
    for key, value in {**given, "train.exposure": recipe.train.exposure}.items():
        if value is not None:
            raise _unfit(key, str(value), f"no '{key}': each label is true or false")
    data, own = recipe.data, recipe.train
    derived = (name for each in recipe.features.derive.items() for name in _inputs(*each))
    used = {
        "data.id": [data.id], "data.time": [data.time], "data.group": [data.group], "data.ignore": data.ignore,
        "split.column": [recipe.split.column], "train.weight": [own.weight], "train.monotone": own.monotone,
        "features.columns": recipe.features.columns, "features.derive": derived, "explore.allow": recipe.explore.allow,
    }  # fmt: skip
    columns = [recipe.target] if isinstance(recipe.target, str) else recipe.target
    for key, names in used.items():
        for name in names:
            if name in columns:
                where, got = f"recipe: {key}", f"'{name}', which is a label"
                hint = "take it out of one of them: what is predicted is not known when a prediction is made"
                raise errors.RecipeError.build(where, got=got, expected="another column", hint=hint, field=str(name))


def _inputs(name: str, sql: str) -> Sequence[str]:
    return sorted(expressions.parse(name, sql, "recipe: features.derive").inputs)


def _unfit(key: str, got: str, expected: str) -> errors.RecipeError:
    where = f"recipe: {key} with several labels"
    return errors.RecipeError.build(where, got=got, expected=expected, hint=f"take {key} out", field=key)


def combine(store: Store, snapshot: Snapshot, recipe: Recipe) -> LabelSets:
    """Make a snapshot with the column of sets beside the labels, which are known after the prediction alone.

    Raises
    ------
    RecipeError
        A column is not in the rows.
    TargetError
        A label has more than two values, or two that do not say which is yes; or no label can be learned.
    """
    # 1. Count the values of the columns, and say which of them means yes.
    columns = (recipe.target,) if isinstance(recipe.target, str) else recipe.target
    for name in columns:
        if name not in snapshot.schema:
            raise errors.RecipeError.unknown_column("recipe: 'target'", name, snapshot.schema.names)
    counted = cluster.call(_count, snapshot, columns, threads=1)
    target = recipe.target_column
    if isinstance(recipe.target, str):
        yes, messages = _of_lists(target, snapshot.schema[target], counted[target], snapshot.num_rows)
        target = f"labels of {target}"
    else:
        yes = {name: _yes(name, each, snapshot.num_rows) for name, each in counted.items()}
        messages = _messages(yes, counted)
    if target in snapshot.schema:
        got, expected = f"a column '{target}' in the rows", "another name, for the column of sets of labels is named so"
        raise errors.RecipeError.build("collect: target", got=got, expected=expected, hint="rename it in data.derive")
    # 2. Write the rows with their sets.
    digest, sets = cluster.call(_write, store, snapshot, target, columns, yes)
    missing = {name: each.num_nulls for name, each in counted.items() if each.num_nulls}
    if missing:
        shown = ", ".join(f"{name} in {rows:,}" for name, rows in missing.items())
        messages.append(f"rows without a value of some label are set aside as unlabelled: {shown}")
    if not sets:
        raise errors.TargetError.all_null(target, snapshot.num_rows)
    return LabelSets(Snapshot.open(store, digest), target, tuple(yes), sets, tuple(messages))


def decide(rows: LabelSets, recipe: Recipe) -> Task:
    """The task of labelled rows; the most frequent sets, and one class for all others, describe them."""
    order = sorted(rows.sets, key=lambda text: (-rows.sets[text], text))
    classes = (*order[:MOST_SETS], labels.OTHER_SETS)
    task = Task(kind=TaskKind.MULTILABEL, target=rows.target, classes=classes, labels=rows.names)
    return tasks.with_rows(task, None, rows.snapshot, recipe)


def _count(snapshot: Snapshot, columns: Sequence[str]) -> dict[str, _Column]:
    counted = {name: _Column() for name in columns}
    for path in snapshot.paths:
        for batch in pq.ParquetFile(path).iter_batches(columns=list(columns)):
            for name, each in counted.items():
                each.add(batch.column(name))
    return counted


def _yes(name: str, column: _Column, num_rows: int) -> list[Any]:
    """The values of a column that say yes: true, 1, yes and the like beside one that says no."""
    values, where, quoted = list(column.values), f"collect: label '{name}'", expressions.quoted_name(name)
    if not values:
        raise errors.TargetError.all_null(name, num_rows)
    shown = ", ".join(repr(value) for value in sorted(values, key=str)[:4])
    meanings = {value: labels.meaning(value) for value in values}
    if labels.UNKNOWN in meanings.values():
        more = "" if len(values) <= 4 else ", …"
        got = f"{len(values):,} {'or more ' if len(values) == MOST_VALUES else ''}values: {shown}{more}"
        example = next((value for value, number in meanings.items() if number == labels.UNKNOWN), "")
        hint = f"data.derive: {{{name}: {quoted} = {expressions.quoted_text(str(example))}}}"
        expected = "two values that say yes and no: true and false, 1 and 0, yes and no"
        raise errors.TargetError.build(where, got=got, expected=expected, hint=hint, field=name)
    return [value for value, number in meanings.items() if number == 1]


def _messages(yes: Mapping[str, list[Any]], counted: Mapping[str, _Column]) -> list[str]:
    """Lines about labels that few rows have or lack.

    Raises
    ------
    TargetError
        No label is had by some rows and lacked by others.
    """
    lines, is_varied = [], False
    for name, values in yes.items():
        num_with, num_known = sum(counted[name].values[value] for value in values), counted[name].values.total()
        is_varied |= 0 < num_with < num_known
        if min(num_with, num_known - num_with) < FEW:
            reason = "where too few have or lack it to learn from, its rate is its answer"
            lines.append(f"label '{name}': {num_with:,} of {num_known:,} rows have it; {reason}")
    if not is_varied:
        where, got = f"collect: target '{targets.shown(tuple(yes))}'", "one value only in each of them"
        expected, hint = "a label that some rows have and others lack", "check the columns, or name others"
        raise errors.TargetError.build(where, got=got, expected=expected, hint=hint)
    return lines


def _of_lists(name: str, column: Column, counted: _Column, num_rows: int) -> tuple[dict[str, list[Any]], list[str]]:
    """The labels of a column of lists: the values of enough rows, in their order; the others are told."""
    where = f"collect: target '{name}' of a multi-label task"
    if column.type != "list<item: string>":
        hint = "target: [first, second] names columns of two values each; task: multiclass is for one label a row"
        raise errors.TargetError.build(where, got=column.type, expected="a list of texts", hint=hint, field=name)
    if not counted.values:
        raise errors.TargetError.all_null(name, num_rows)
    frequent = [value for value, rows in counted.values.most_common() if rows >= FEW]
    chosen = sorted(frequent[: labels.MAX_LABELS])
    if len(chosen) < 2:
        got = f"{len(chosen)} of {len(counted.values):,} values in {FEW} lists or more"
        raise errors.TargetError.build(
            where, got=got, expected="at least two labels", hint="bring more rows", field=name
        )
    left = [value for value in counted.values if value not in set(chosen)]
    messages = []
    if left:
        more = f" and {len(left) - 5:,} more" if len(left) > 5 else ""
        reason = f"in fewer than {FEW} rows, or beyond the {labels.MAX_LABELS} most frequent"
        messages.append(f"target '{name}': values that are no labels ({reason}): {', '.join(left[:5])}{more}")
    return {value: [value] for value in chosen}, messages


def _write(
    store: Store, snapshot: Snapshot, target: str, columns: Sequence[str], yes: Mapping[str, list[Any]]
) -> tuple[str, Counter[str]]:
    """Write the rows file by file, each with its column of sets."""
    of_labels = {"role": Role.AFTER}
    stored = [c.model_copy(update=of_labels) if c.name in columns else c for c in snapshot.schema]
    schema = Schema(columns=(*stored, Column(name=target, type="string", kind=Kind.CATEGORICAL, role=Role.TARGET)))
    sets = Counter[str]()
    with store.staging() as folder:
        (folder / "data").mkdir()
        for path in snapshot.paths:
            sets.update(_write_file(path, folder / "data" / path.name, target, columns, yes))
        facts = {"schema": schema.model_dump(mode="json"), "num_rows": snapshot.num_rows, "labels": list(yes)}
        return store.commit("snapshot", folder, facts), sets


def _write_file(
    path: Path, into: Path, target: str, columns: Sequence[str], yes: Mapping[str, list[Any]]
) -> Counter[str]:
    file, sets = pq.ParquetFile(path), Counter[str]()
    schema = file.schema_arrow.append(pa.field(target, pa.string()))
    with pq.ParquetWriter(into, schema, compression="zstd") as writer:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            own = sets_of(rows, columns, yes)
            writer.write_table(rows.append_column(schema.field(target), own), row_group_size=max(1, rows.num_rows))
            sets.update({each["values"]: each["counts"] for each in pc.value_counts(own.drop_null()).to_pylist()})
    return sets


def sets_of(rows: pa.Table, columns: Sequence[str], yes: Mapping[str, list[Any]]) -> pa.Array:
    """The set of labels of each row as a text; null where a column is null."""
    names, known = list(yes), np.ones(rows.num_rows, np.bool_)
    for name in columns:
        known &= np.asarray(without_nan(rows[name].combine_chunks()).is_valid())
    if len(columns) == 1:
        has = _in_lists(rows[columns[0]].combine_chunks(), names)
    else:
        each = [pc.is_in(rows[name], pa.array(yes[name], rows[name].type)).combine_chunks() for name in columns]
        has = np.stack([np.asarray(own, np.bool_) for own in each], axis=1)
    return labels.texts(np.where(known, labels.number(has), -1.0), names)


def _in_lists(lists: pa.Array, names: Sequence[str]) -> Any:
    """Tell of each list and name whether the list has it."""
    has = np.zeros((len(lists), len(names)), np.bool_)
    place = np.asarray(pc.fill_null(pc.index_in(lists.flatten(), value_set=pa.array(names)), -1)).astype(np.int64)
    row = np.asarray(pc.list_parent_indices(lists)).astype(np.int64)
    has[row[place >= 0], place[place >= 0]] = True
    return has
