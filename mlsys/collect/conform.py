"""A batch as it was written → the rows that a snapshot stores, what does not fit set aside, and counts of them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlsys import expressions
from mlsys.collect import convert, keeping, parsing, pictures
from mlsys.collect.aside import Quarantine
from mlsys.collect.inference import Wording
from mlsys.collect.layout import Layout, Written
from mlsys.schema import ROW

__all__ = ["count", "rows"]


def rows(table: pa.Table, layout: Layout, location: str, bad: Quarantine) -> pa.Table:
    """Converted, derived and checked; `location` is where paths of pictures begin."""
    return _checked(_derived(_converted(table, layout, location, bad), layout, bad), layout, bad)


def count(table: pa.Table, layout: Layout, written: Written) -> None:
    """Add rows to the counts of their piece."""
    written.num_rows += table.num_rows
    for name in layout.stored.names:
        written.nulls[name] += table[name].null_count
        if pa.types.is_string(table[name].type) or pa.types.is_binary(table[name].type):
            written.wording.setdefault(name, Wording()).add(table[name])
    if layout.time is not None and (newest := pc.max(table[layout.time]).cast(pa.int64()).as_py()) is not None:
        written.newest = newest if written.newest is None else max(newest, written.newest)
    if layout.target is not None and len(written.classes) < 2:
        _count_classes(table[layout.target], written.classes)


def _count_classes(values: pa.ChunkedArray, classes: dict[Any, int]) -> None:
    """Distinct labels until there are two: whether there is anything to learn."""
    for entry in pc.value_counts(values.combine_chunks().drop_null()).to_pylist()[:2]:
        value = entry["values"]
        label = value if isinstance(value, bool | int | float | str) else str(value)
        classes[label] = classes.get(label, 0) + entry["counts"]


def _converted(table: pa.Table, layout: Layout, location: str, bad: Quarantine) -> pa.Table:
    """The columns of the layout in their types, without the rows in which a value does not fit."""
    arrays, broken, there = {}, list[Any](), set(table.column_names)
    for name, kind in layout.columns.items():
        if name not in there:
            arrays[name] = pa.nulls(table.num_rows, kind)
            continue
        values = table[name].combine_chunks()
        if name in layout.images:
            arrays[name], faults = pictures.taken(values, location)
            broken += [([name], f"column '{name}': {fault}", mask) for fault, mask in faults.items()]
            continue
        arrays[name] = _read(values, kind, layout, name)
        mask = convert.misfits(values, arrays[name])
        if mask.true_count:
            broken.append(([name], f"column '{name}': not {kind}", mask))
    converted = pa.table(arrays | {ROW: table[ROW]})
    return converted.filter(bad.rows(table, broken)) if broken else converted


def _read(values: pa.Array, kind: pa.DataType, layout: Layout, name: str) -> pa.Array:
    if not pa.types.is_string(values.type):
        return convert.stored(values, kind, layout.zone)
    read = parsing.read_text(values, kind, layout.zone)
    if name == layout.target and pa.types.is_integer(kind):  # labels written as 0.0 and 1.0
        decimals = parsing.read_text(values, pa.float64())
        read = pc.coalesce(read, convert.stored(decimals, kind))
    return read


def _derived(table: pa.Table, layout: Layout, bad: Quarantine) -> pa.Table:
    """With the derived columns, all in the types of the snapshot; NaN in the target is no value."""
    added = expressions.add(table.drop_columns([ROW]), layout.derive, "recipe: data.derive")
    columns, broken = [], list[Any]()
    for column in layout.stored:
        made = added[column.name].combine_chunks()
        values = convert.stored(made, column.type, layout.zone)
        mask = convert.misfits(made, values)
        if mask.true_count:
            broken.append(([column.name], f"column '{column.name}': not {column.type}", mask))
        columns.append(convert.without_nan(values) if column.name == layout.target else values)
    derived = pa.table([*columns, table[ROW]], names=[*layout.stored.names, ROW])
    return derived.filter(bad.rows(added.append_column(ROW, table[ROW]), broken)) if broken else derived


def _checked(table: pa.Table, layout: Layout, bad: Quarantine) -> pa.Table:
    broken = [] if layout.contract is None else list(keeping.broken(table, layout.contract))
    return table.filter(bad.rows(table, broken)) if broken else table
