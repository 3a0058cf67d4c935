"""Feature tables joined on keys: as of the row's time where the table has one.

Point in time means: a row gets what was known at its own time, never anything later. Of
the table's rows of its keys whose ``time`` and ``known_at`` lie at or before the row's time
it takes the one with the latest ``time``; of several, the one known last; of several known
at once, the last in the table. A row written late therefore changes nothing for rows from
before it was written, and a correction counts from when it was known. Aggregates over the
latest events follow `mlsys.features.joins.window_aggregates`.

The rows keep their number and their order; a row without a match gets nulls, and how many
there are of which kind is counted. :func:`join` works in memory;
`mlsys.features.joins.assembly` joins stored tables of any size with the same parts.

Which row of a table goes with which row of another: the last one known at a time.

Keys and times are those of `mlsys.features.joins.spec`.

What each row gets of a table: the core of every join, in one task or in many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlsys import errors, recipe
from mlsys.features.domains import domain_of, in_utc
from mlsys.features.joins import window_aggregates
from mlsys.features.joins.spec import JoinKeys, JoinSpec, columns_of, keys_of, resolve_keys
from mlsys.features.joins.window_aggregates import WindowAggregate

__all__ = [
    "Counts",
    "PreparedJoin",
    "QueryTimes",
    "append_columns",
    "columns_of",
    "count_repeats",
    "join",
    "key_numbers",
    "keys_of",
    "latest_known",
    "match",
    "match_report",
    "prepare",
    "resolve",
]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class QueryTimes:
    """The distinct pairs of key and time that rows ask for, sorted.

    Attributes
    ----------
    places
        Of each moment: a number that grows with key and time.
    of_row
        The moment of each row.
    axis
        The distinct times; None if the times themselves, from `first` to `last`, leave room for the keys.
    """

    places: Ints
    of_row: Ints
    axis: Ints | None
    first: int
    last: int

    @classmethod
    def of(cls, codes: Ints, times: Ints) -> QueryTimes:
        """Moments of rows with key numbers `codes`."""
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        room = (int(codes.max(initial=0)) + 2) * (last - first + 2)
        axis = None if room < 1 << 62 else _distinct(times)[0]
        unplaced = cls(np.empty(0, np.int64), np.empty(0, np.int64), axis, first, last)
        return cls(*_distinct(unplaced._place(codes, times)), axis, first, last)

    def __len__(self) -> int:
        return len(self.places)

    def keys(self) -> Ints:
        """Key number of each moment."""
        return self.places // self._length()

    def since(self, codes: Ints, times: Ints) -> Ints:
        """For each event the first moment of its key at or after its time; where there is none, of the next key."""
        return np.searchsorted(self.places, self._place(codes, times))

    def _place(self, codes: Ints, times: Ints) -> Ints:
        if self.axis is None:
            return codes * self._length() + (np.clip(times, self.first, self.last + 1) - self.first)
        return codes * self._length() + np.searchsorted(self.axis, times)

    def _length(self) -> int:
        return self.last - self.first + 2 if self.axis is None else len(self.axis) + 1


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """Distinct values in order, and for each value which of them it is."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_new = np.ones(len(values), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    which = np.empty(len(values), np.int64)
    which[order] = np.cumsum(is_new) - 1
    return ordered[is_new], which


def key_numbers(asked: pl.DataFrame, index: pl.DataFrame, by: Sequence[str]) -> tuple[Ints, Ints]:
    """Keys of both sides as numbers; -1 for a key that the table does not have."""
    keys = index.select(by).unique().with_row_index("__code")
    ours, theirs = (
        side.select(by).join(keys, on=list(by), how="left", maintain_order="left")["__code"] for side in (asked, index)
    )
    return ours.cast(pl.Int64).fill_null(-1).to_numpy(), theirs.cast(pl.Int64).to_numpy()


def latest_known(moments: QueryTimes, codes: Ints, since: Ints) -> Ints:
    """For each moment the last event of its key that is seen by then; -1 where there is none.

    Events come in the order in which they prevail: by key, time, when they were known, place
    in the table. So the largest number seen so far is the answer, and if that is of another
    key there is none.
    """
    best = np.full(len(moments) + 1, -1)
    np.maximum.at(best, since, np.arange(len(codes)))
    found = np.maximum.accumulate(best[:-1])
    is_own = (found >= 0) & (codes[found] == moments.keys()) if len(codes) else np.zeros(len(moments), bool)
    return np.where(is_own, found, -1)


Counts = Counter[tuple[str, ...]]
"""Rows by what became of them: ``("matched",)``, ``("empty", name of the aggregate)``, ``("table", "rows")`` …"""

FOREVER = (1 << 63) - 1


def resolve(asked: pl.DataFrame, index: pl.DataFrame, values: pa.Table, joining: JoinSpec) -> tuple[pa.Table, Counts]:
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
    ours, theirs = key_numbers(asked, index, joining.terms.by)
    events = index.with_columns(pl.Series("__key", theirs)).sort("__key", "__time", "__known", "__at")
    codes, times, known, at = (events[name].to_numpy() for name in ("__key", "__time", "__known", "__at"))
    has_key, asked_times = ours >= 0, asked["__time"].to_numpy()
    moments = QueryTimes.of(ours[has_key], asked_times[has_key])
    since = moments.since(codes, np.maximum(times, known))
    # Rows of an unknown key ask at one more moment, at which nothing is known.
    moment = np.full(asked.height, len(moments))
    moment[has_key] = moments.of_row
    found = np.append(latest_known(moments, codes, since), -1)[moment]
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
    for name, series in window_aggregates.aggregate_all(joining.windows, since, ends, read, len(moments)).items():
        nothing = None if series.dtype.is_float() else 0
        column = series.append(pl.Series([nothing], dtype=series.dtype)).gather(moment)
        counts[("empty", name)] = int((column.fill_null(0) == 0).sum()) if nothing == 0 else column.null_count()
        columns[name] = column.to_arrow()
    return pa.table(columns, schema=joining.schema(values.schema)), counts


def count_repeats(index: pl.DataFrame, terms: JoinKeys, name: str) -> int:
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


def append_columns(rows: pa.Table, added: pa.Schema, found: pa.Table | None, at: Ints) -> pa.Table:
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


def match_report(counts: Counts, joining: JoinSpec) -> dict[str, Any]:
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


def _read(values: pa.Table, windows: Sequence[WindowAggregate]) -> dict[str, pl.Series]:
    """Columns that windows read, with the meaning that every feature gives them."""
    names = list(dict.fromkeys(window.column for window in windows if window.column))
    if not names:
        return {}
    frame = pl.DataFrame(pl.from_arrow(in_utc(values.select(names))))
    domains: Mapping[str, Any] = {name: domain_of(values.schema.field(name).type) for name in names}
    return {name: frame.select(domains[name].expr(name)).to_series() for name in names}


@dataclass(frozen=True)
class PreparedJoin:
    """A feature table made ready to be looked up in; it is held in memory."""

    table: pa.Table
    spec: recipe.Join
    name: str


def join(
    rows: pa.Table, table: pa.Table, spec: recipe.Join, time_column: str | None, name: str = "table"
) -> tuple[pa.Table, dict[str, Any]]:
    """Rows with the columns of a table appended, in memory.

    With ``spec.time``, a row gets the table's last value known at its time (see the module),
    unless that is more than ``spec.lookback`` older, and the aggregates over the windows
    that end at its time. Without, the table must hold a key once. Null and NaN keys and null
    times match nothing; a row of which nothing is known has nulls, and the aggregates of no
    events.

    Returns
    -------
    table, counts
        All rows in their order, and the numbers of rows ``matched``, ``missing`` (no value
        known by then) and ``too_old``, which add up to the rows; how many of the missing are
        ``without_key`` (or time); for each aggregate the rows that are ``empty`` (no value in
        the window); of the ``table``, its ``rows``, those ``without_key`` or time, and those
        ``repeated`` (keys and times are those of an earlier row).

    Raises
    ------
    FeatureError
        A key is twice in a table without time, a name is there already, types do not fit.
    RecipeError
        A column that the recipe names is not in the table.
    """
    joined, counts, joining = _match(rows, PreparedJoin(table, spec, name), time_column)
    return joined, match_report(counts, joining)


def prepare(table: pa.Table, spec: recipe.Join, name: str = "table") -> PreparedJoin:
    """Check a feature table against its spec: its columns, and that a key is there once if it has no time."""
    columns_of(table.column_names, spec, name)
    if spec.time is None:
        keys = {key: key for key in keys_of(spec).values()}
        terms = resolve_keys(table.schema, table.schema, keys, None, None, f"features: join '{name}'")
        count_repeats(terms.table(table), terms, name)
    return PreparedJoin(table, spec, name)


def match(rows: pa.Table, lookup: PreparedJoin, time_column: str | None) -> tuple[pa.Table, dict[str, int]]:
    """As `join`, with a prepared table; the counts are those that add up to the rows."""
    joined, counts, _ = _match(rows, lookup, time_column)
    return joined, {status: counts[(status,)] for status in ("matched", "missing", "too_old")}


def _match(rows: pa.Table, lookup: PreparedJoin, time_column: str | None) -> tuple[pa.Table, Counts, JoinSpec]:
    table = lookup.table
    joining = JoinSpec.of(rows.schema, table.schema, lookup.spec, time_column, lookup.name)
    asked, index = joining.terms.rows(rows), joining.terms.table(table)
    lost = rows.num_rows - asked.height
    counts: Counts = Counter({("without_key",): lost, ("missing",): lost})
    counts.update({("table", "rows"): table.num_rows, ("table", "without_key"): table.num_rows - index.height})
    counts[("table", "repeated")] = count_repeats(index, joining.terms, lookup.name)
    joined, found = resolve(asked, index, table.select(joining.reads), joining)
    counts.update(found)
    at = np.full(rows.num_rows, -1)
    at[asked["__at"].to_numpy()] = np.arange(asked.height)
    return append_columns(rows, joined.schema, joined, at), counts, joining
