"""Feature tables joined on keys: as of the row's time where the table has one.

Point in time means: a row gets the last value that was known at its own time, never a
later one. The rows keep their number and their order; a row without a match gets nulls,
and how many there are of which kind is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, errors, recipe
from mlsys.dataset import Snapshot
from mlsys.features.matching import as_of, comparable, keyed
from mlsys.features.spans import span_us
from mlsys.schema import FOLD, ROW, Column, Role, Schema
from mlsys.store import Store

__all__ = ["Lookup", "assemble", "columns_of", "join", "match", "prepare"]


@dataclass(frozen=True)
class Lookup:
    """A feature table made ready to be looked up in: the whole of it is held in memory.

    Attributes
    ----------
    keys
        Column of the rows → column of the table.
    index
        Key columns ``__key0`` …, ``__time`` where there is one, and ``__match``, the row of
        `table`; without null keys, sorted by time.
    values
        The columns to take, under the names that they will have.
    """

    name: str
    keys: Mapping[str, str]
    time: str | None
    lookback_us: int | None
    index: pl.DataFrame
    values: pa.Table


def join(
    rows: pa.Table, table: pa.Table, spec: recipe.Join, time_column: str | None, name: str = "table"
) -> tuple[pa.Table, dict[str, int]]:
    """Rows with the columns of a table appended.

    With ``spec.time``, a row gets the table's last value of its keys at or before the
    row's time (of several at one time, the last in the table's order), unless that is more
    than ``spec.lookback`` older. Without, the table must hold a key once. Null keys, NaN
    keys and null times match nothing.

    Returns
    -------
    table, counts
        All rows in their order, and the numbers of rows ``matched``, ``missing`` (no value
        known by then) and ``too_old``; the three add up to the rows.

    Raises
    ------
    FeatureError
        A key is twice in a table without time, a name is there already, types do not fit.
    RecipeError
        A column that the recipe names is not in the table.
    """
    return match(rows, prepare(table, spec, name), time_column)


def prepare(table: pa.Table, spec: recipe.Join, name: str = "table") -> Lookup:
    """Check a feature table against its spec and sort it."""
    where = f"features: join '{name}'"
    keys = dict(spec.keys) if isinstance(spec.keys, dict) else {key: key for key in spec.keys}
    taken = columns_of(table.column_names, spec, name)
    times = [spec.time] if spec.time else []
    if not keys:
        raise errors.FeatureError.build(where, got="no keys", expected="at least one", hint="keys: [column]")
    if spec.lookback is not None and not times:
        raise errors.FeatureError.build(
            where, got="lookback without time", expected="the table's time column", hint="time: column"
        )
    index = keyed(table, list(keys.values()), spec.time, where).rename({"__at": "__match"})
    if not times:
        _refuse_duplicates(index, keys, name)
    else:  # of several at one time the last one stays
        index = index.unique([c for c in index.columns if c != "__match"], keep="last", maintain_order=True)
        index = index.sort("__time", maintain_order=True)
    values = table.select(taken).rename_columns([spec.prefix + column for column in taken])
    lookback = None if spec.lookback is None else span_us(spec.lookback, f"{where}: lookback")
    return Lookup(name, keys, spec.time, lookback, index, values)


def match(rows: pa.Table, lookup: Lookup, time_column: str | None) -> tuple[pa.Table, dict[str, int]]:
    """Rows with the values of a prepared table; see :func:`join`."""
    where = f"features: join '{lookup.name}'"
    _refuse_collisions(rows.column_names, lookup)
    if lookup.time is not None and time_column is None:
        expected = "the time of each row, to look up what was known then"
        raise errors.FeatureError.build(where, got="rows without time", expected=expected, hint="data.time: column")
    asked = keyed(rows, list(lookup.keys), time_column if lookup.time else None, where)
    titles = {f"__key{at}": pair for at, pair in enumerate(lookup.keys.items())}
    by = list(titles)
    if lookup.time is not None:
        titles["__time"] = ("the row's time", lookup.time)
    asked, index = comparable(asked, lookup.index, titles, where)
    if lookup.time is None:
        found, too_old = asked.join(index, on=by, how="inner"), 0
    else:
        found, too_old = as_of(asked, index, by, lookup.lookback_us)
    counts = {"matched": found.height, "missing": rows.num_rows - found.height - too_old, "too_old": too_old}
    return _append(rows, lookup.values, found), counts


def columns_of(names: Sequence[str], spec: recipe.Join, name: str = "table") -> list[str]:
    """Columns of a feature table that a join takes: the named ones, or all but keys and times."""
    where = f"features: join '{name}'"
    keys = list(spec.keys.values()) if isinstance(spec.keys, dict) else list(spec.keys)
    times = [time for time in (spec.time, spec.known_at) if time]
    read = [one.column for one in spec.aggregates.values() if one.column]
    for column in [*keys, *times, *(spec.columns or ()), *read]:
        if column not in names:
            raise errors.RecipeError.unknown_column(where, column, names)
    if spec.columns is not None:
        return list(spec.columns)
    return [column for column in names if column not in {*keys, *times, ROW, FOLD}]


def assemble(
    store: Store,
    snapshot: Snapshot,
    tables: Mapping[str, tuple[recipe.Join, Snapshot]],
    progress: Callable[[str], None] = lambda _: None,
) -> Snapshot:
    """A new snapshot with the columns of all tables joined on, in the order of `tables`.

    The rows go file by file; each feature table is held in memory as a whole, on the one
    node that does the work. The counts of each join are the fact ``joins`` of the new
    snapshot: ``store.facts("snapshot", digest)["joins"]``.
    """
    progress(f"joining {', '.join(tables)} to {snapshot.num_rows:,} rows")
    digest = cluster.call(_assemble, store, snapshot, dict(tables))
    return Snapshot.open(store, digest)


def _assemble(store: Store, snapshot: Snapshot, tables: dict[str, tuple[recipe.Join, Snapshot]]) -> str:
    time_column = snapshot.schema.one(Role.TIME)
    lookups = [prepare(table.table(), spec, name) for name, (spec, table) in tables.items()]
    schema = Schema(
        columns=(*snapshot.schema, *(c for n, (spec, table) in tables.items() for c in _joined(n, spec, table)))
    )

    def write(folder: Path) -> dict[str, Any]:
        counts: dict[str, Counter[str]] = {name: Counter() for name in tables}
        (folder / "data").mkdir()
        for path in snapshot.paths:
            rows = pq.read_table(path)
            for lookup in lookups:
                rows, found = match(rows, lookup, time_column)
                counts[lookup.name].update(found)
            pq.write_table(rows, folder / "data" / path.name, compression="zstd")
        joins = {
            name: {kind: count[kind] for kind in ("matched", "missing", "too_old")} for name, count in counts.items()
        }
        return {"schema": schema.model_dump(mode="json"), "num_rows": snapshot.num_rows, "joins": joins}

    return store.put("snapshot", write)


def _joined(name: str, spec: recipe.Join, table: Snapshot) -> list[Column]:
    """Columns that a join adds: features, null where there is no match."""
    return [
        table.schema[column].model_copy(update={"name": spec.prefix + column, "role": Role.FEATURE, "nullable": True})
        for column in columns_of(table.schema.names, spec, name)
    ]


def _append(rows: pa.Table, values: pa.Table, found: pl.DataFrame) -> pa.Table:
    """Rows with the values of their matches, in the types of the table; null without a match."""
    at = np.full(rows.num_rows, -1, np.int64)
    at[found["__at"].to_numpy()] = found["__match"].to_numpy()
    matches = pa.array(at, mask=at < 0)
    for field in values.schema:
        column = values[field.name].combine_chunks() if values.num_rows else pa.nulls(1, field.type)
        rows = rows.append_column(
            pa.field(field.name, field.type), pa.chunked_array([column.take(matches)], field.type)
        )
    return rows


def _refuse_duplicates(index: pl.DataFrame, keys: Mapping[str, str], name: str) -> None:
    columns = [column for column in index.columns if column.startswith("__key")]
    twice = index.filter(pl.struct(columns).is_duplicated())
    if twice.height:
        first = twice.sort("__match").row(0, named=True)
        shown = ", ".join(f"{key} = {first[column]!r}" for column, key in zip(columns, keys.values(), strict=True))
        count = twice.filter(pl.all_horizontal(pl.col(column) == first[column] for column in columns)).height
        raise errors.FeatureError.build(
            f"features: join '{name}'",
            got=f"{count} rows with {shown}",
            expected="one row a key in a table without time",
            hint="time: column takes the last one known by then; or make the keys unique in the source",
            field=next(iter(keys.values())),
        )


def _refuse_collisions(names: Sequence[str], lookup: Lookup) -> None:
    for column in lookup.values.column_names:
        if column in names:
            raise errors.FeatureError.build(
                f"features: join '{lookup.name}'",
                got=f"column '{column}' is there already",
                expected="new names",
                hint=f"prefix: {lookup.name}_ before the table's names, or columns: [the ones to take]",
                field=column,
            )
