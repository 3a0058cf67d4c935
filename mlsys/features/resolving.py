"""What each row gets of a table: the core of every join, in one task or in many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlsys import errors
from mlsys.features import sweeps
from mlsys.features.joining import Joining
from mlsys.features.matching import Moments, latest, numbered
from mlsys.features.terms import Terms
from mlsys.features.values import domain_of, in_utc
from mlsys.features.windows import Window

__all__ = ["Counts", "append", "count_repeats", "report", "resolve"]

Ints = npt.NDArray[np.int64]

Counts = Counter[tuple[str, ...]]
"""Rows by what became of them: ``("matched",)``, ``("empty", name of the aggregate)``, ``("table", "rows")`` …"""

FOREVER = (1 << 63) - 1


def resolve(asked: pl.DataFrame, index: pl.DataFrame, values: pa.Table, joining: Joining) -> tuple[pa.Table, Counts]:
    """What each of the rows asked for gets.

    Parameters
    ----------
    asked, index
        Rows and table as `Terms.rows` and `Terms.table` give them; ``__at`` of the index
        counts the rows of `values`, in the order of the table.

    Returns
    -------
    table, counts
        One row for each row of `asked`, and what became of them.
    """
    ours, theirs = numbered(asked, index, joining.terms.by)
    events = index.with_columns(pl.Series("__key", theirs)).sort("__key", "__time", "__known", "__at")
    codes, times, known, at = (events[name].to_numpy() for name in ("__key", "__time", "__known", "__at"))
    has_key, asked_times = ours >= 0, asked["__time"].to_numpy()
    moments = Moments.of(ours[has_key], asked_times[has_key])
    since = moments.since(codes, np.maximum(times, known))
    # Rows of an unknown key ask at one more moment, at which nothing is known.
    moment = np.full(asked.height, len(moments))
    moment[has_key] = moments.of_row
    found = np.append(latest(moments, codes, since), -1)[moment]
    is_old = np.zeros(asked.height, bool)
    if joining.lookback is not None and len(codes):
        is_old = (found >= 0) & (asked_times > _later(times, joining.lookback)[found])
    is_match = (found >= 0) & ~is_old
    counts: Counts = Counter(
        {("matched",): int(is_match.sum()), ("missing",): int((found < 0).sum()), ("too_old",): int(is_old.sum())}
    )
    places = pa.array(at[found] if len(at) else found, mask=~is_match)
    columns = {joining.prefix + name: _taken(values[name], places) for name in joining.taken}
    ends = {one.length: moments.since(codes, _later(times, one.length)) for one in joining.windows}
    read = {name: series.gather(at) for name, series in _read(values, joining.windows).items()}
    for name, series in sweeps.sweep(joining.windows, since, ends, read, len(moments)).items():
        nothing = None if series.dtype.is_float() else 0
        column = series.append(pl.Series([nothing], dtype=series.dtype)).gather(moment)
        counts[("empty", name)] = int((column.fill_null(0) == 0).sum()) if nothing == 0 else column.null_count()
        columns[name] = column.to_arrow()
    return pa.table(columns, schema=joining.schema(values.schema)), counts


def count_repeats(index: pl.DataFrame, terms: Terms, name: str) -> int:
    """How many rows have the keys and the times of another before them.

    Raises
    ------
    FeatureError
        There are some in a table without time: which of them is meant cannot be told.
    """
    repeated = index.height - index.select(*terms.by, "__time", "__known").n_unique() if index.height else 0
    if repeated and terms.table_times is None:
        twice = index.filter(pl.struct(terms.by).is_duplicated()).sort("__at")
        first = twice.select(terms.by).row(0)
        count = twice.join(twice.head(1), on=terms.by, how="semi").height
        shown = ", ".join(f"{key} = {value!r}" for key, value in zip(terms.keys.values(), first, strict=True))
        raise errors.FeatureError.build(
            f"features: join '{name}'",
            got=f"{count} rows with {shown}",
            expected="one row a key in a table without time",
            hint="time: column takes the last one known by then; or make the keys unique in the source",
            field=next(iter(terms.keys.values())),
        )
    return repeated


def append(rows: pa.Table, added: pa.Schema, found: pa.Table | None, at: Ints) -> pa.Table:
    """Rows with the columns of what was found for them; `at` is its row for each, -1 for none.

    A row for which nothing was found gets nulls, and 0 in columns that are not nullable.
    """
    if found is not None and len(found) == rows.num_rows and np.array_equal(at, np.arange(len(at))):
        return pa.table(
            [*rows.columns, *(found[name] for name in added.names)], names=[*rows.column_names, *added.names]
        )
    places = pa.array(at, mask=at < 0)
    for field in added:
        taken = _taken(pa.chunked_array([], field.type) if found is None else found[field.name], places)
        rows = rows.append_column(field.with_nullable(True), taken if field.nullable else taken.fill_null(0))
    return rows


def report(counts: Counts, joining: Joining) -> dict[str, Any]:
    """Counts as JSON; see :func:`join`."""
    told: dict[str, Any] = {kind: counts[(kind,)] for kind in ("matched", "missing", "too_old", "without_key")}
    if joining.windows:
        lost = counts[("without_key",)]
        told["empty"] = {window.name: counts[("empty", window.name)] + lost for window in joining.windows}
    return told | {"table": {kind: counts[("table", kind)] for kind in ("rows", "without_key", "repeated")}}


def _later(times: Ints, span: int) -> Ints:
    """Times a span later, at most the last that 64 bits hold."""
    span = min(span, FOREVER)
    return np.minimum(times, FOREVER - span) + span


def _taken(column: pa.ChunkedArray, places: pa.Array) -> pa.Array:
    """Values at places in the type of the column, also of one without values; null for null."""
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which would copy one chunk
    return (whole if len(whole) else pa.nulls(1, column.type)).take(places)


def _read(values: pa.Table, windows: Sequence[Window]) -> dict[str, pl.Series]:
    """Columns that windows read, with the meaning that every feature gives them."""
    names = list(dict.fromkeys(window.column for window in windows if window.column))
    if not names:
        return {}
    frame = pl.DataFrame(pl.from_arrow(in_utc(values.select(names))))
    domains: Mapping[str, Any] = {name: domain_of(values.schema.field(name).type) for name in names}
    return {name: frame.select(domains[name].expr(name)).to_series() for name in names}
