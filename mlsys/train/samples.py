"""Samples of rows, and rows held out to say when boosting stops: drawn by hashes, so that they depend on rows alone.

The rows of a group of a ranking are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys.dataset import Split
from mlsys.periods import Period
from mlsys.schema import FOLD, ROW, Role, Schema
from mlsys.statistics.hashing import GOLDEN, hash_exactly, mix

HELD_OUT = 0.1
"""Fraction of the rows to fit on that decides when boosting stops, where no validation part may be used."""


def sampled(table: pa.Table, max_rows: int | None, seed: int) -> pa.Table:
    """Sample at most `max_rows` rows, in their order: those whose number has the smallest hash.

    The same rows are drawn however the table is divided into files, and a larger sample
    holds the smaller one.
    """
    if max_rows is None or table.num_rows <= max_rows:
        return table
    order = np.argsort(_hash(np.asarray(table[ROW]), seed), kind="stable")
    return table.take(pa.array(np.sort(order[:max_rows])))


def read_sample(
    split: Split,
    part: str,
    columns: Sequence[str],
    max_rows: int | None,
    seed: int,
    folds: Sequence[int] | None = None,
    group: str | None = None,
) -> pa.Table:
    """Read what `sampled` would draw of a part, or of some of its folds: of the other rows only their numbers.

    With a column of groups, whole groups are drawn, at least one of them. No more than a row group is in memory beside
    the sample.
    """
    keys = _keys(split.table(part, [group or ROW], folds), group)
    if max_rows is None or len(keys) <= max_rows:
        return split.table(part, columns, folds)
    last = _last_hash(_hash(keys, seed), max_rows)
    names, pieces = list(dict.fromkeys([*columns, group or ROW, ROW, FOLD])), []
    for path in split.paths(part):
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number, columns=names).select(names)
                chosen = _hash(_keys(rows, group), seed) <= last
                if folds is not None:
                    chosen &= np.isin(np.asarray(rows[FOLD]), folds)
                pieces.append(rows.filter(pa.array(chosen)))
    return pa.concat_tables(pieces).select(list(dict.fromkeys(columns)))


def _keys(rows: pa.Table, group: str | None) -> NDArray[Any]:
    """The numbers by which rows are drawn: their own, or that of their group."""
    return np.asarray(rows[ROW]) if group is None else hash_exactly(rows[group])


def _last_hash(hashes: NDArray[np.uint64], max_rows: int) -> np.uint64:
    """The largest hash of a sample of at most so many rows; rows of one hash stay together, the first ones at least."""
    smallest = np.partition(hashes, max_rows)[: max_rows + 1]
    beyond = smallest[max_rows]  # the hash of the first row that is too many, and of its group
    within = smallest[smallest < beyond]
    return np.uint64(within.max() if len(within) else beyond)


def drawn_groups(groups: NDArray[np.uint64], max_rows: int, seed: int) -> NDArray[np.bool_]:
    """Mark the rows of whole groups of at most so many rows, as `read_sample` draws them."""
    hashes = _hash(groups, seed)
    return np.asarray(hashes <= _last_hash(hashes, max_rows))


def held_out(
    table: pa.Table, schema: Schema, *, forward: bool, seed: int, are_ranked: bool = False
) -> NDArray[np.bool_]:
    """Mark the tenth of the rows that decides when boosting stops.

    It is drawn as the parts of the split were: the latest rows where time divides them
    (`forward`), whole groups where there are groups, rows otherwise. Of rows that `are_ranked` in their groups, the
    groups with the latest first rows, whole.
    """
    time, group = schema.name_of(Role.TIME), schema.name_of(Role.GROUP)
    if forward and time:
        order = np.asarray(pc.rank(table[time].combine_chunks(), tiebreaker="first")).astype(np.int64)
        order = _least_of_group(order, table[group]) if are_ranked and group else order
        return np.asarray(order > table.num_rows * (1 - HELD_OUT))
    keys = np.asarray(table[ROW])
    if group:
        keys = _least_of_group(keys, table[group])
    return np.asarray(_hash(keys, seed + 1) < HELD_OUT * 2.0**64)


def embargoed(table: pa.Table, split: Split, out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the rows of a forecast that were not known a horizon before the first of those that are held `out`.

    None where that would be all that is left to fit on.
    """
    time = split.schema.name_of(Role.TIME)
    if split.horizon is None or time is None or not out.any():
        return np.zeros(len(out), bool)
    times = np.asarray(table[time].cast(pa.timestamp("us", getattr(table[time].type, "tz", None))).cast(pa.int64()))
    between = ~out & (Period.parse(split.horizon).later_us(times) > times[out].min())
    return between if (~out & ~between).any() else np.zeros(len(out), bool)


def _least_of_group(keys: NDArray[np.int64], groups: pa.ChunkedArray) -> NDArray[np.int64]:
    """The least key of the rows of each row's group."""
    codes = np.asarray(groups.combine_chunks().dictionary_encode("encode").indices)
    first = np.full(int(codes.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, keys)
    return np.asarray(first[codes])


def _hash(keys: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """SplitMix64 of each key, from twice as many steps of the generator on as the seed says."""
    return mix(keys.astype(np.uint64) + np.array([2 * seed & (2**64 - 1)], np.uint64) * GOLDEN)
