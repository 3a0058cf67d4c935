"""Join feature tables on keys, as of the row's time if the table has a time.

Point in time means: a row gets what was known at its own time, never anything later. Of the table's rows of its keys
whose ``time`` and ``known_at`` lie at or before the row's time it takes the one with the latest ``time``; of several,
the one known last; of several known at once, the last in the table. A row written late therefore changes nothing for
rows from before it was written, and a correction counts from when it was known. Aggregates over the latest events
follow `mlsys.features.joins.window_aggregates`.

The rows keep their number and their order; a row without a match gets nulls. :func:`join` works in memory;
`mlsys.features.joins.assembly` joins stored tables of any size with the same core, :func:`resolve`.
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

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class QueryTimes:
    """The distinct pairs of key and time at which rows look up a table, sorted.

    Attributes
    ----------
    places
        A number for each query time that grows with key and time; `of_row` is the query time of each row.
    axis
        The distinct times; None if the times themselves, from `first` to `last`, leave room for the keys.
    """

    places: Ints
    of_row: Ints
    axis: Ints | None
    first: int
    last: int

    @classmethod
    def of(cls, keys: Ints, times: Ints) -> QueryTimes:
        """The query times of rows, from the numbers of their keys and their times."""
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        room = (int(keys.max(initial=0)) + 2) * (last - first + 2)
        axis = None if room < 1 << 62 else _distinct(times)[0]
        unplaced = cls(np.empty(0, np.int64), np.empty(0, np.int64), axis, first, last)
        return cls(*_distinct(unplaced._place(keys, times)), axis, first, last)

    def __len__(self) -> int:
        return len(self.places)

    def keys(self) -> Ints:
        """Number of the key of each query time."""
        return self.places // self._length()

    def since(self, keys: Ints, times: Ints) -> Ints:
        """For each event the first query time of its key at or after its time; without any, the next key's first."""
        return np.searchsorted(self.places, self._place(keys, times))

    def _place(self, keys: Ints, times: Ints) -> Ints:
        if self.axis is None:
            return keys * self._length() + (np.clip(times, self.first, self.last + 1) - self.first)
        return keys * self._length() + np.searchsorted(self.axis, times)

    def _length(self) -> int:
        return self.last - self.first + 2 if self.axis is None else len(self.axis) + 1


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """The distinct values in order, and for each value its place among them."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_new = np.ones(len(values), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    places = np.empty(len(values), np.int64)
    places[order] = np.cumsum(is_new) - 1
    return ordered[is_new], places


def _key_numbers(asked: pl.DataFrame, index: pl.DataFrame, by: Sequence[str]) -> tuple[Ints, Ints]:
    """Keys of both sides as numbers; -1 for a key that the table does not have."""
    keys = index.select(by).unique().with_row_index("__number")
    ours, theirs = (
        side.select(by).join(keys, on=list(by), how="left", maintain_order="left")["__number"]
        for side in (asked, index)
    )
    return ours.cast(pl.Int64).fill_null(-1).to_numpy(), theirs.cast(pl.Int64).to_numpy()


def _latest_known(queries: QueryTimes, keys: Ints, since: Ints) -> Ints:
    """For each query time the last event of its key that is seen by then; -1 where there is none."""
    # Events come in the order in which they prevail: the largest number seen so far is the answer, if of the same key.
    best = np.full(len(queries) + 1, -1)
    np.maximum.at(best, since, np.arange(len(keys)))
    latest = np.maximum.accumulate(best[:-1])
    is_own = (latest >= 0) & (keys[latest] == queries.keys()) if len(keys) else np.zeros(len(queries), bool)
    return np.where(is_own, latest, -1)


Counts = Counter[tuple[str, ...]]
"""Number of rows by outcome: ``("matched",)``, ``("empty", name of the aggregate)``, ``("table", "rows")`` …"""

FOREVER = (1 << 63) - 1


def resolve(asked: pl.DataFrame, index: pl.DataFrame, values: pa.Table, spec: JoinSpec) -> tuple[pa.Table, Counts]:
    """Find the columns that a join adds to some rows; the core of every join, in one task or in many.

    Parameters
    ----------
    asked, index
        Rows and table as `JoinKeys.rows` and `JoinKeys.table` give them; ``__at`` of the index
        counts the rows of `values`, in the order of the table.

    Returns
    -------
    table, counts
        One row for each row of `asked`, and the numbers of rows by outcome.
    """
    # 1. Number the keys, and find the query time at which each event is seen first.
    asked_keys, index_keys = _key_numbers(asked, index, spec.join_keys.by)
    events = index.with_columns(pl.Series("__key", index_keys)).sort("__key", "__time", "__known", "__at")
    keys, times, known, rows = (events[name].to_numpy() for name in ("__key", "__time", "__known", "__at"))
    has_key, asked_times = asked_keys >= 0, asked["__time"].to_numpy()
    queries = QueryTimes.of(asked_keys[has_key], asked_times[has_key])
    since = queries.since(keys, np.maximum(times, known))
    # 2. Find the last event known at each row's query time. Rows of an unknown key ask at one more, which sees none.
    query = np.full(asked.height, len(queries))
    query[has_key] = queries.of_row
    event = np.append(_latest_known(queries, keys, since), -1)[query]
    is_old = np.zeros(asked.height, bool)
    if spec.lookback is not None and len(keys):
        is_old = (event >= 0) & (asked_times > _later(times, spec.lookback)[event])
    is_match = (event >= 0) & ~is_old
    counts: Counts = Counter(
        {("matched",): int(is_match.sum()), ("missing",): int((event < 0).sum()), ("too_old",): int(is_old.sum())}
    )
    # 3. Take its values.
    places = pa.array(rows[event] if len(rows) else event, mask=~is_match)
    columns = {spec.prefix + name: _take(values[name], places) for name in spec.columns}
    # 4. Aggregate the windows that end at the query times.
    ends = {window.length: queries.since(keys, _later(times, window.length)) for window in spec.windows}
    read = {name: series.gather(rows) for name, series in _read(values, spec.windows).items()}
    for name, series in window_aggregates.aggregate_all(spec.windows, since, ends, read, len(queries)).items():
        nothing = None if series.dtype.is_float() else 0
        column = series.append(pl.Series([nothing], dtype=series.dtype)).gather(query)
        counts[("empty", name)] = int((column.fill_null(0) == 0).sum()) if nothing == 0 else column.null_count()
        columns[name] = column.to_arrow()
    return pa.table(columns, schema=spec.schema(values.schema)), counts


def count_repeats(index: pl.DataFrame, join_keys: JoinKeys, name: str) -> int:
    """Count the rows with keys and times of an earlier one; `FeatureError` if the table has no time to choose by."""
    repeated = index.height - index.select(*join_keys.by, "__time", "__known").n_unique() if index.height else 0
    if repeated and join_keys.table_times is None:
        twice = index.filter(pl.struct(join_keys.by).is_duplicated()).sort("__at")
        first = twice.select(join_keys.by).row(0)
        count = twice.join(twice.head(1), on=join_keys.by, how="semi").height
        shown = ", ".join(f"{key} = {value!r}" for key, value in zip(join_keys.keys.values(), first, strict=True))
        got = f"{count} rows with {shown}"
        expected = "one row a key in a table without time"
        hint = "time: column takes the last one known by then; or make the keys unique in the source"
        raise errors.FeatureError.build(
            f"features: join '{name}'", got=got, expected=expected, hint=hint, field=next(iter(join_keys.keys.values()))
        )
    return repeated


def append_columns(rows: pa.Table, added: pa.Schema, matches: pa.Table | None, places: Ints) -> pa.Table:
    """Append the columns of the matches to rows; `places` are the rows of the matches, -1 for a row without any.

    A row without a match gets nulls, and 0 in columns that are not nullable.
    """
    if matches is not None and len(matches) == rows.num_rows and np.array_equal(places, np.arange(len(places))):
        names = [*rows.column_names, *added.names]
        return pa.table([*rows.columns, *(matches[name] for name in added.names)], names=names)
    indices = pa.array(places, mask=places < 0)
    for field in added:
        values = _take(pa.chunked_array([], field.type) if matches is None else matches[field.name], indices)
        rows = rows.append_column(field.with_nullable(True), values if field.nullable else values.fill_null(0))
    return rows


def match_report(counts: Counts, spec: JoinSpec) -> dict[str, Any]:
    """Write the counts of a join as JSON; :func:`join` explains them."""
    report: dict[str, Any] = {kind: counts[(kind,)] for kind in ("matched", "missing", "too_old", "without_key")}
    if spec.windows:
        lost = counts[("without_key",)]
        report["empty"] = {window.name: counts[("empty", window.name)] + lost for window in spec.windows}
    return report | {"table": {kind: counts[("table", kind)] for kind in ("rows", "without_key", "repeated")}}


def _later(times: Ints, span: int) -> Ints:
    """Times a span later, at most the last that 64 bits hold."""
    span = min(span, FOREVER)
    return np.minimum(times, FOREVER - span) + span


def _take(column: pa.ChunkedArray, places: pa.Array) -> pa.Array:
    """Take values at places, also from a column without values; null for null."""
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which would copy one chunk
    return (whole if len(whole) else pa.nulls(1, column.type)).take(places)


def _read(values: pa.Table, windows: Sequence[WindowAggregate]) -> dict[str, pl.Series]:
    """Read the columns of windows with the meaning that every feature gives them."""
    names = list(dict.fromkeys(window.column for window in windows if window.column))
    if not names:
        return {}
    frame = pl.DataFrame(pl.from_arrow(in_utc(values.select(names))))
    domains: Mapping[str, Any] = {name: domain_of(values.schema.field(name).type) for name in names}
    return {name: frame.select(domains[name].expr(name)).to_series() for name in names}


def join(
    rows: pa.Table, table: pa.Table, settings: recipe.Join, time_column: str | None, name: str = "table"
) -> tuple[pa.Table, dict[str, Any]]:
    """Append the columns of a table to rows, in memory.

    With ``settings.time``, a row gets the table's last value known at its time (see the module), unless that is more
    than ``settings.lookback`` older, and the aggregates over the windows that end at its time. Without, the table must
    hold a key once. Null and NaN keys and null times match nothing; a row of which nothing is known has nulls, and the
    aggregates of no events.

    Returns
    -------
    table, counts
        All rows in their order, and the numbers of rows ``matched``, ``missing`` (no value known by then) and
        ``too_old``, which add up to the rows; how many of the missing are ``without_key`` (or time); for each aggregate
        the rows that are ``empty`` (no value in the window); of the ``table``, its ``rows``, those ``without_key`` or
        time, and those ``repeated`` (keys and times are those of an earlier row).

    Raises
    ------
    FeatureError
        A key is twice in a table without time, a name is there already, types do not fit.
    RecipeError
        A column that the recipe names is not in the table.
    """
    spec = JoinSpec.of(rows.schema, table.schema, settings, time_column, name)
    asked, index = spec.join_keys.rows(rows), spec.join_keys.table(table)
    lost = rows.num_rows - asked.height
    counts: Counts = Counter({("without_key",): lost, ("missing",): lost})
    counts.update({("table", "rows"): table.num_rows, ("table", "without_key"): table.num_rows - index.height})
    counts[("table", "repeated")] = count_repeats(index, spec.join_keys, name)
    matches, outcomes = resolve(asked, index, table.select(spec.reads), spec)
    counts.update(outcomes)
    places = np.full(rows.num_rows, -1)
    places[asked["__at"].to_numpy()] = np.arange(asked.height)
    return append_columns(rows, matches.schema, matches, places), match_report(counts, spec)


def check_table(table: pa.Table, settings: recipe.Join, name: str = "table") -> None:
    """Check a feature table for its join: its columns, and that a key is there once if it has no time."""
    columns_of(table.column_names, settings, name)
    if settings.time is None:
        keys = {key: key for key in keys_of(settings).values()}
        join_keys = resolve_keys(table.schema, table.schema, keys, None, None, f"features: join '{name}'")
        count_repeats(join_keys.table(table), join_keys, name)
