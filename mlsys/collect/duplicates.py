"""Find rows that come again: those of earlier collections, and those that repeat others in one collection.

`CollectedRows` knows the rows of the increments by their values. What is missing does not count, for
JSON lines have the keys of their batch. Rows of one content are told apart by how often they come.

`find_duplicates` looks through all fragments of a collection:

``data.dedupe``
    Of the rows of a key the last in order stays: the largest value of ``order``, of equal ones
    the later row; without ``order`` the later row. A row whose order is missing loses against
    any that has one. The others are superseded: left out, counted, and no fault.
unique columns of a contract
    The first row of a value stays; later ones break the contract and are quarantined. Superseded
    rows do not count.

A missing key (null or NaN) equals no other: such rows all stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import feather

from mlsys.readers import increments
from mlsys.readers.base import as_python
from mlsys.recipe import Dedupe
from mlsys.schema import ROW
from mlsys.statistics.hashing import mix
from mlsys.store import MANIFEST, digest_json, read_json

SEEDS = (1, 2)
"""Two hashes of 64 bits: two rows of a billion share both with a chance below 1e-20."""

ReadCursor = Callable[[pa.Array], pa.Array]
"""Reads values of the cursor as numbers."""


class CollectedRows:
    """Counts of the rows of earlier collections, by their content."""

    def __init__(self) -> None:
        self._counts = _count(pa.table({}))

    @classmethod
    def of(cls, increments: Iterable[Path], cursor: str, floor: float, read_cursor: ReadCursor) -> CollectedRows:
        """Count the rows whose cursor is at or beyond `floor`."""
        rows = cls()
        parts = [_count(table) for folder in increments for table in _beyond(folder, cursor, floor, read_cursor)]
        if parts:
            rows._counts = pl.concat(parts).group_by("a", "b").agg(pl.col("times").sum())
        return rows

    def subtract(self, table: pa.Table) -> NDArray[np.bool_]:
        """The mask of the rows that are new; each of the others is taken off the counts."""
        came = _hashed(table).with_columns(pl.col("a").cum_count().over("a", "b").alias("nth"))
        known = came.join(self._counts, on=["a", "b"], how="left", maintain_order="left")["times"].fill_null(0)
        again = came.group_by("a", "b").agg(pl.len().cast(pl.Int64).alias("came"))
        rest = self._counts.join(again, on=["a", "b"], how="left")
        self._counts = rest.select("a", "b", (pl.col("times") - pl.col("came").fill_null(0)).clip(0).alias("times"))
        return np.asarray(came["nth"].to_numpy() > known.to_numpy())


def contents(table: pa.Table) -> list[str]:
    """Each row as JSON, without what is missing."""
    rows = ({name: value for name, value in row.items() if value is not None} for row in as_python(table))
    return [json.dumps(row, ensure_ascii=False, sort_keys=True, default=str) for row in rows]


def _beyond(folder: Path, cursor: str, floor: float, read_cursor: ReadCursor) -> Iterable[pa.Table]:
    """The rows of an increment at or beyond the floor; an increment that lies below it as a whole is not read."""
    latest = read_json(folder / MANIFEST)["facts"].get("latest")
    if latest is not None and latest < floor:
        return
    for file in increments.batch_files(folder):
        values = read_cursor(feather.read_table(str(file), columns=[cursor])[cursor].combine_chunks())
        near = pc.greater_equal(values, pa.scalar(floor, values.type)).fill_null(False)
        if near.true_count:
            yield feather.read_table(str(file)).drop_columns([ROW]).filter(near)


def _count(table: pa.Table) -> pl.DataFrame:
    return _hashed(table).group_by("a", "b").agg(pl.len().cast(pl.Int64).alias("times"))


def _hashed(table: pa.Table) -> pl.DataFrame:
    """Two hashes of each row: sums over its values, each hashed by the name of its column and mixed."""
    hashes = {seed: np.zeros(table.num_rows, np.uint64) for seed in SEEDS}
    for name in table.column_names:
        values = _comparable(table[name])
        present = values.is_not_null().to_numpy()
        for seed in SEEDS:
            key = int(digest_json([name, seed])[:16], 16)
            hashes[seed] += np.where(present, mix(values.hash(seed=key).to_numpy()), np.uint64(0))
    return pl.DataFrame(dict(zip(("a", "b"), hashes.values(), strict=True)))


def _comparable(values: pa.ChunkedArray) -> pl.Series:
    """Equal values in one form, however wide their type; nested ones as text."""
    kind = values.type
    if pa.types.is_nested(kind):
        texts = [None if value is None else json.dumps(value, default=str) for value in values.to_pylist()]
        return pl.Series(texts, dtype=pl.String)
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    series = pl.Series(values)
    if series.dtype.is_integer() and series.dtype != pl.UInt64:
        return series.cast(pl.Int64)
    if series.dtype.is_float():
        return series.cast(pl.Float64)
    return series.dt.cast_time_unit("us") if isinstance(series.dtype, pl.Datetime) else series


RowNumbers = NDArray[np.int64]


@dataclass(frozen=True)
class Duplicates:
    """Numbers of rows, ascending: superseded ones, and by unique column those that repeat an earlier value.

    `ids` counts repeated values of columns that name rows and need not be unique.
    """

    superseded: RowNumbers
    unique: dict[str, RowNumbers] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    def within(self, first: int, end: int) -> Duplicates:
        """The duplicates among the rows `first` … `end` - 1."""
        unique = {name: _between(rows, first, end) for name, rows in self.unique.items()}
        unique = {name: rows for name, rows in unique.items() if len(rows)}
        return Duplicates(_between(self.superseded, first, end), unique)

    def __bool__(self) -> bool:
        return bool(len(self.superseded)) or any(map(len, self.unique.values()))


def find_duplicates(
    files: Sequence[Path], dedupe: Dedupe | None, unique: Sequence[str], ids: Sequence[str]
) -> Duplicates:
    """Find rows that repeat others in all files; in memory are the columns that are asked for."""
    superseded = np.empty(0, np.int64)
    if dedupe is not None:
        superseded = _superseded(_read(files, [*dedupe.keys, *([dedupe.order] if dedupe.order else [])]), dedupe)
    repeats = {}
    for name in dict.fromkeys([*unique, *ids]):
        frame = _read(files, [name]).drop_nulls(name)
        if len(superseded):
            frame = frame.filter(~pl.col(ROW).is_in(pl.Series(superseded).implode()))
        repeats[name] = frame.filter(~pl.col(name).is_first_distinct())[ROW].to_numpy()
    counts = {name: len(rows) for name, rows in repeats.items() if name not in unique}
    return Duplicates(superseded, {name: repeats[name] for name in unique}, counts)


def _superseded(frame: pl.DataFrame, dedupe: Dedupe) -> RowNumbers:
    order = [*([dedupe.order] if dedupe.order else []), ROW]
    ordered = frame.drop_nulls(list(dedupe.keys)).sort(order, nulls_last=False)
    last = ordered.unique(list(dedupe.keys), keep="last", maintain_order=False)[ROW]
    return np.setdiff1d(ordered[ROW].to_numpy(), last.to_numpy())


def _read(files: Sequence[Path], names: Sequence[str]) -> pl.DataFrame:
    columns = list(dict.fromkeys([*names, ROW]))
    frame = pl.concat([pl.read_parquet(file, columns=columns) for file in files])
    return frame.with_columns(cs.float().fill_nan(None))


def _between(rows: RowNumbers, first: int, end: int) -> RowNumbers:
    return rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)]
