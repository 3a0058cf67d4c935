"""Feature tables joined on keys: as of the row's time where the table has one.

Point in time means: a row gets what was known at its own time, never anything later. Of
the table's rows of its keys whose ``time`` and ``known_at`` lie at or before the row's time
it takes the one with the latest ``time``; of several, the one known last; of several known
at once, the last in the table. A row written late therefore changes nothing for rows from
before it was written, and a correction counts from when it was known. Aggregates over the
latest events follow `mlsys.features.windows`.

The rows keep their number and their order; a row without a match gets nulls, and how many
there are of which kind is counted. :func:`join` works in memory;
`mlsys.features.assembly` joins stored tables of any size with the same parts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys import recipe
from mlsys.features.joining import Joining, columns_of, keys_of
from mlsys.features.resolving import Counts, append, count_repeats, report, resolve
from mlsys.features.terms import agree

__all__ = ["Lookup", "columns_of", "join", "keys_of", "match", "prepare"]


@dataclass(frozen=True)
class Lookup:
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
    joined, counts, joining = _match(rows, Lookup(table, spec, name), time_column)
    return joined, report(counts, joining)


def prepare(table: pa.Table, spec: recipe.Join, name: str = "table") -> Lookup:
    """Check a feature table against its spec: its columns, and that a key is there once if it has no time."""
    columns_of(table.column_names, spec, name)
    if spec.time is None:
        keys = {key: key for key in keys_of(spec).values()}
        terms = agree(table.schema, table.schema, keys, None, None, f"features: join '{name}'")
        count_repeats(terms.table(table), terms, name)
    return Lookup(table, spec, name)


def match(rows: pa.Table, lookup: Lookup, time_column: str | None) -> tuple[pa.Table, dict[str, int]]:
    """As `join`, with a prepared table; the counts are those that add up to the rows."""
    joined, counts, _ = _match(rows, lookup, time_column)
    return joined, {status: counts[(status,)] for status in ("matched", "missing", "too_old")}


def _match(rows: pa.Table, lookup: Lookup, time_column: str | None) -> tuple[pa.Table, Counts, Joining]:
    table = lookup.table
    joining = Joining.of(rows.schema, table.schema, lookup.spec, time_column, lookup.name)
    asked, index = joining.terms.rows(rows), joining.terms.table(table)
    lost = rows.num_rows - asked.height
    counts: Counts = Counter({("without_key",): lost, ("missing",): lost})
    counts.update({("table", "rows"): table.num_rows, ("table", "without_key"): table.num_rows - index.height})
    counts[("table", "repeated")] = count_repeats(index, joining.terms, lookup.name)
    joined, found = resolve(asked, index, table.select(joining.reads), joining)
    counts.update(found)
    at = np.full(rows.num_rows, -1)
    at[asked["__at"].to_numpy()] = np.arange(asked.height)
    return append(rows, joined.schema, joined, at), counts, joining
