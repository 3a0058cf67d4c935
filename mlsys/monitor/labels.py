"""Delayed labels, joined to predictions by id.

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
from typing import Any, TypeAlias, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import errors
from mlsys.readers import registry
from mlsys.readers.base import BadRecord
from mlsys.readers.conversion import PLAIN, TIME, NumberFormat, as_type, misfits
from mlsys.recipe import ReadOptions
from mlsys.schema import ROW, Task

LABEL, VOID, KNOWN_AT = "__label", "__void", "__known_at"
"""Columns that `Labels.join` adds; their names leave ``y`` and ``label`` to features."""

LabelSource: TypeAlias = str | Path | pa.Table | Sequence[str | Path]
DEFAULT_OPTIONS = ReadOptions()

UNKNOWN = -2
"""Class index of a label that is not a class of the task."""


@dataclass(frozen=True)
class Labels:
    """Labels by id, the latest of each.

    Attributes
    ----------
    frame
        One row for each id: ``key`` text, ``y`` class index or value, ``void`` true where
        there will be no label, ``known_at`` null where the source does not say.
    join_on
        Column of the log that the key is matched with.
    num_repeated
        Labels of the source that a later one replaced.
    """

    frame: pl.DataFrame
    join_on: str
    num_repeated: int = 0

    @classmethod
    def read(
        cls,
        source: LabelSource,
        task: Task,
        id_column: str | None = None,
        as_of: dt.datetime | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Labels:
        """Labels of a table, or of a source as in ``data.source`` of a recipe.

        The key is the column ``prediction_id``, the recipe's id column, ``id`` or the number of
        the row in its snapshot; the label the column ``label`` or the target's name; ``known_at`` is optional.

        Parameters
        ----------
        as_of
            Labels known only later are left out, as if they had not come yet.
        options
            How text files are written, and the zone of times without one.

        Raises
        ------
        SourceError
            A file is missing or cannot be read, or has a line that is no row.
        RecipeError
            The key or the label is missing.
        ContractError
            No label is a class of the task.
        """
        try:
            tables = _tables(source, options)
            parts = [_columns(table, task, id_column, options.timezone, numbers) for table, numbers in tables]
        except errors.SourceError as error:
            raise error.reworded((r"^collect: source", "monitor: labels"), (r"\bdata\.(?=reading\b)", "")) from None
        if not parts:
            raise errors.SourceError.build("monitor: labels", got="no table", expected="a table of labels")
        key, frame = parts[0][0], pl.concat([part for _, part in parts], how="vertical_relaxed")
        if as_of is not None:
            frame = frame.filter(pl.col("known_at").is_null() | (pl.col("known_at") <= as_of))
        latest = frame.sort("known_at", maintain_order=True).unique("key", keep="last", maintain_order=True)
        y, void = _encode(latest["label"], task)
        coded = latest.select("key", "known_at").with_columns(pl.Series("y", y), pl.Series("void", void))
        join_on = key if key == id_column else "prediction_id"
        return cls(coded, join_on, frame.height - latest.height)

    def join(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add `LABEL` (null where not known), `VOID` and `KNOWN_AT` to the rows, in the same order."""
        own = pl.col(self.join_on).cast(pl.String) if self.join_on in rows.columns else pl.lit(None, pl.String)
        key = pl.coalesce(own, "prediction_id")  # a client that sends the id gets it back as prediction_id
        labels = rows.select(key.alias("key")).join(self.frame, on="key", how="left", maintain_order="left")
        void = labels["void"].fill_null(value=False)
        return rows.with_columns(labels["y"].alias(LABEL), void.alias(VOID), labels["known_at"].alias(KNOWN_AT))


def class_codes(values: pl.Series, task: Task) -> NDArray[np.float64]:
    """Class index of each value: NaN for null, `UNKNOWN` where it is not a class.

    A class is recognised as itself, as its JSON text and as plain text, so that labels in a
    CSV file fit a model that was trained on booleans.

    >>> task = Task(kind="binary", target="late", classes=(False, True))
    >>> class_codes(pl.Series(["true", "0", None, "maybe"]), task).tolist()
    [1.0, 0.0, nan, -2.0]
    """
    # A spelling of several classes means the first of them.
    spellings = {text: i for i, name in reversed([*enumerate(task.classes)]) for text in _spellings(name)}
    codes = {value: _code(value, spellings) for value in values.unique().to_list()}
    return np.array([codes[value] for value in values.to_list()], dtype=np.float64)


def _spellings(name: str | int) -> list[str]:
    if isinstance(name, bool):
        return [json.dumps(name), str(name), str(name).upper(), str(int(name))]
    return [str(name), json.dumps(name, ensure_ascii=False)]


def _code(value: Any, spellings: dict[str, int]) -> float:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return np.nan
    if isinstance(value, bool):
        return spellings.get(json.dumps(value), spellings.get(str(int(value)), UNKNOWN))
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return spellings.get(text, spellings.get(text.removesuffix(".0"), UNKNOWN))


def _encode(label: pl.Series, task: Task) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Labels as class indices or values, and where there are none."""
    if not task.is_classification:
        y = label.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
        return y, np.isnan(y)
    y, void = class_codes(label, task), label.is_null().to_numpy()
    if not void.all() and (y[~void] == UNKNOWN).all():
        raise errors.ContractError.build(
            "monitor: labels", got=f"values such as {label.drop_nulls()[0]!r}",
            expected="one of " + ", ".join(repr(name) for name in task.classes[:8]), field=task.target,
        )  # fmt: skip
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
    table: pa.Table, task: Task, id_column: str | None, zone: str, numbers: NumberFormat
) -> tuple[str, pl.DataFrame]:
    """The name of the key; and the key as text, the label, and when it was known."""
    names = table.column_names
    key = _first_present(names, "prediction_id", id_column, "id", ROW)
    name = _first_present(names, "label", task.target)
    label = table[name] if task.is_classification else _read(table, name, pa.float64(), "numbers", zone, numbers)
    known_at = pa.nulls(table.num_rows, TIME)
    if "known_at" in names:
        known_at = _read(table, "known_at", TIME, "ISO 8601 times", zone)
    columns = {"key": table[key].cast(pa.string()), "label": label, "known_at": known_at}
    return key, cast("pl.DataFrame", pl.from_arrow(pa.table(columns)))


def _read(
    table: pa.Table, name: str, kind: pa.DataType, expected: str, zone: str, numbers: NumberFormat = PLAIN
) -> pa.Array:
    """A column in its type; a value that cannot be read is refused, for null means that there will be no label."""
    values = as_type(table[name], kind, zone, numbers)
    unread = misfits(table[name].combine_chunks(), values)
    if unread.true_count:
        got = str(table[name].filter(unread)[0])
        raise errors.SourceError.build(f"monitor: labels, column '{name}'", got=got, expected=expected)
    return values
