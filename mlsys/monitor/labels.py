"""Delayed labels: how they are read, and which predictions they belong to.

A label belongs to the prediction whose id it names. Where it names an entity (``data.id``) that was scored several
times, its time decides: the latest prediction that is not later than the label's own time (the column ``data.time``),
or than ``known_at``; without either it counts for each of them.

The rows that are labelled first are seldom like the others (a fraud is reported before a
good payment is known to be one), so a metric of a half-labelled window is not a noisy version
of the final one but a biased one. A window is *mature* when the stated fraction of its
predictions has a label; a null label means that there will be none.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys import errors, label_sets
from mlsys.predict.class_labels import UNKNOWN, class_codes
from mlsys.readers import registry
from mlsys.readers.base import BadRecord
from mlsys.readers.conversion import PLAIN, TIME, NumberFormat, as_type, misfits, without_nan
from mlsys.recipe import ReadOptions
from mlsys.schema import ROW, Task

LabelSource: TypeAlias = str | Path | pa.Table | Sequence[str | Path]
DEFAULT_OPTIONS = ReadOptions()


@dataclass(frozen=True)
class WrittenLabels:
    """Labels as a source writes them, in its order.

    Attributes
    ----------
    key
        Name of the column of ids.
    frame
        Columns ``key`` text, ``label`` text or for regression a number, ``at`` the time of the labelled row and
        ``known_at`` that of the label, both null where the source does not say.
    """

    key: str
    frame: pl.DataFrame

    @classmethod
    def read(
        cls,
        source: LabelSource,
        task: Task,
        id_column: str | None = None,
        time_column: str | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Self:
        """Read a table, or a source as in ``data.source`` of a recipe.

        The key is the column ``prediction_id``, the recipe's id column, ``id`` or the number of
        the row in its snapshot; the label the column ``label`` or the target's name; ``known_at`` is optional. Of
        several labels it is a set of them as a JSON text, or a list; or there is a column for each label, and a row
        that lacks one of them has no label.

        Raises
        ------
        SourceError
            A file is missing or cannot be read, or has a line that is no row.
        RecipeError
            The key or the label is missing.
        """
        try:
            tables = _tables(source, options)
            columns = (id_column, time_column)
            parts = [_columns(table, task, columns, options, numbers) for table, numbers in tables]
        except errors.SourceError as error:
            raise error.reworded((r"^collect: source", "monitor: labels"), (r"\bdata\.(?=reading\b)", "")) from None
        if not parts:
            raise errors.SourceError.build("monitor: labels", got="no table", expected="a table of labels")
        return cls(parts[0][0], pl.concat([part for _, part in parts], how="vertical_relaxed"))


@dataclass(frozen=True)
class Labels:
    """Labels of a task by id, in the order in which they came.

    Attributes
    ----------
    frame
        Columns ``key`` text, ``y`` class index or value, ``void`` true where there will be no label, ``at`` the time
        of the labelled row and ``known_at`` that of the label, null where the source does not say.
    join_on
        Column of the log that the key is looked for in first.
    """

    frame: pl.DataFrame
    join_on: str

    @classmethod
    def of(
        cls, written: WrittenLabels, task: Task, id_column: str | None = None, as_of: dt.datetime | None = None
    ) -> Self:
        """Encode written labels; those known after `as_of` are left out, as if they had not come yet.

        Raises
        ------
        ContractError
            No label is a class of the task.
        """
        frame = written.frame
        if as_of is not None:
            frame = frame.filter(pl.col("known_at").is_null() | (pl.col("known_at") <= as_of))
        y, void = _encode(frame["label"], task)
        coded = frame.select("key", "at", "known_at").with_columns(pl.Series("y", y), pl.Series("void", void))
        return cls(coded, written.key if written.key == id_column else "prediction_id")


def _encode(label: pl.Series, task: Task) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Labels as class indices or values, and where there are none."""
    if not task.is_classification:
        y = label.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
        return y, np.isnan(y)
    y, void = class_codes(label, task), label.is_null().to_numpy()
    if not void.all() and (y[~void] == UNKNOWN).all():
        got, known = (
            f"values such as {label.drop_nulls()[0]!r}",
            ", ".join(map(repr, (task.labels or task.classes)[:8])),
        )
        expected = f"lists of {known}" if task.labels else f"one of {known}"
        raise errors.ContractError.build("monitor: labels", got=got, expected=expected, field=task.target)
    return y, void | np.isnan(y)


def _first_present(names: Sequence[str], *candidates: str | None) -> str:
    for name in candidates:
        if name in names:
            return str(name)
    raise errors.RecipeError.unknown_column("monitor: labels", str(candidates[0]), names)


def _tables(source: LabelSource, options: ReadOptions) -> Iterator[tuple[pa.Table, NumberFormat]]:
    """Tables of labels, with the marks of the numbers in their texts."""
    if isinstance(source, pa.Table):
        yield source, PLAIN
        return
    reading = options.reading.model_copy(update={"format": "auto"})  # the rows may be a folder, labels are a table
    for fragment in registry.find(source, reading):
        bad_records: list[BadRecord] = []
        tables = [batch.table for batch in registry.batches(fragment, reading, bad_records)]
        if bad_records:
            where, reason = f"monitor: labels '{fragment.name}', record {bad_records[0].row}", bad_records[0].reason
            raise errors.SourceError.build(where, got=reason, expected="a row of the table", hint="mend the line")
        if tables:
            yield pa.concat_tables(tables, promote_options="default"), registry.numbers(fragment, reading)


def _columns(
    table: pa.Table, task: Task, columns: tuple[str | None, str | None], options: ReadOptions, numbers: NumberFormat
) -> tuple[str, pl.DataFrame]:
    """The name of the key; and the key, the label, the time of the row and when the label was known."""
    names, (id_column, time_column), zone = table.column_names, columns, options.timezone
    key = _first_present(names, "prediction_id", id_column, "id", ROW)
    if task.labels and not {"label", task.target} & {*names}:
        label = _of_columns(table, task)
    elif task.labels:
        label = _as_sets(table[_first_present(names, "label", task.target)])
    elif task.is_classification:
        name = _first_present(names, "label", task.target)
        label = without_nan(table[name].combine_chunks()).cast(pa.string())
    else:
        name = _first_present(names, "label", task.target)
        notation = options.reading.notations.get(task.target)
        label = _read(table, name, pa.float64(), "numbers", zone, numbers, notation)
    at = known_at = pa.nulls(table.num_rows, TIME)
    if time_column in names:
        notation = options.reading.notations.get(str(time_column))
        # one that cannot be read does not help to find the prediction
        at = as_type(table[time_column], TIME, zone, notation=notation)
    if "known_at" in names:
        known_at = _read(table, "known_at", TIME, "ISO 8601 times", zone)
    read = {"at": at, "known_at": known_at}
    return key, cast("pl.DataFrame", pl.from_arrow(pa.table({"key": _texts(table[key]), "label": label, **read})))


def _as_sets(values: pa.ChunkedArray) -> pa.Array:
    """Sets of labels as texts, from texts or lists."""
    whole = values.combine_chunks()
    if not pa.types.is_list(whole.type):
        return without_nan(whole).cast(pa.string())
    return pa.array([None if each is None else json.dumps(each) for each in whole.to_pylist()], pa.string())


def _of_columns(table: pa.Table, task: Task) -> pa.Array:
    """Sets of labels as texts, from a column of two values for each label; null where one of them is null.

    Raises
    ------
    ContractError
        A value says neither yes nor no.
    """
    columns = []
    for name in task.labels:
        if name not in table.column_names:
            raise errors.RecipeError.unknown_column("monitor: labels", name, table.column_names)
        values = without_nan(table[name].combine_chunks())
        columns.append(label_sets.by_value(values, label_sets.meaning))
        if (columns[-1] == UNKNOWN).any():
            got = repr(values[int((columns[-1] == UNKNOWN).argmax())].as_py())
            expected = "true and false, 1 and 0, or yes and no"
            raise errors.ContractError.build(
                f"monitor: labels, column '{name}'", got=got, expected=expected, field=name
            )
    each = np.stack(columns, axis=1)
    return label_sets.texts(np.where(np.isnan(each).any(axis=1), -1.0, label_sets.number(each == 1)), task.labels)


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as texts, whole numbers without a decimal point."""
    if pa.types.is_floating(values.type) and pc.all(pc.equal(pc.floor(values), values)).as_py():
        return values.cast(pa.int64(), safe=False).cast(pa.string())
    return values.cast(pa.string())


def _read(
    table: pa.Table,
    name: str,
    kind: pa.DataType,
    expected: str,
    zone: str,
    numbers: NumberFormat = PLAIN,
    notation: str | None = None,
) -> pa.Array:
    """A column in its type; a value that cannot be read is refused, for null means that there will be no label."""
    values = as_type(table[name], kind, zone, numbers, notation)
    unread = misfits(table[name].combine_chunks(), values)
    if unread.true_count:
        got = str(table[name].filter(unread)[0])
        raise errors.SourceError.build(f"monitor: labels, column '{name}'", got=got, expected=expected)
    return values
