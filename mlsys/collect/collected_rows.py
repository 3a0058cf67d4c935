"""Rows that are in the increments of earlier collections, known by their content.

A row is known by its values: what is missing does not count, for JSON lines have the keys of
their batch. Rows of one content are told apart by how often they come.

Rows that say again what another row says, over all pieces.

``data.dedupe``
    Of the rows of a key the last in order stays: the largest value of ``order``, of equal ones
    the later row; without ``order`` the later row. A row whose order is missing loses against
    any that has one. The others are superseded: left out, counted, and no fault.
unique columns of a contract
    The first row of a value stays; later ones break the contract and go to quarantine. Looked
    at after the superseded rows are gone.

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

__all__ = ["Duplicates", "Seen", "contents", "find_duplicates"]

SEEDS = (1, 2)
"""Two hashes of 64 bits: two rows of a billion share both with a chance below 1e-20."""


class Seen:
    """How often each row was taken; one that comes again is struck off."""

    def __init__(self) -> None:
        self._counts = _counted(pa.table({}))

    @classmethod
    def of(
        cls, increments: Iterable[Path], cursor: str, floor: float, values_of: Callable[[pa.Array], pa.Array]
    ) -> Seen:
        """Rows at or beyond `floor`; `values_of` reads the cursor as numbers."""
        found = cls()
        parts = [_counted(table) for folder in increments for table in _beyond(folder, cursor, floor, values_of)]
        if parts:
            found._counts = pl.concat(parts).group_by("a", "b").agg(pl.col("times").sum())
        return found

    def strike(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows were not taken; those that were are struck off, each as often as it comes."""
        came = _hashed(table).with_columns(pl.col("a").cum_count().over("a", "b").alias("nth"))
        known = came.join(self._counts, on=["a", "b"], how="left", maintain_order="left")["times"].fill_null(0)
        again = came.group_by("a", "b").agg(pl.len().cast(pl.Int64).alias("came"))
        rest = self._counts.join(again, on=["a", "b"], how="left")
        self._counts = rest.select("a", "b", (pl.col("times") - pl.col("came").fill_null(0)).clip(0).alias("times"))
        return np.asarray(came["nth"].to_numpy() > known.to_numpy())


def contents(table: pa.Table) -> list[str]:
    """Each row as text, without what is missing."""
    return [
        json.dumps(
            {name: value for name, value in row.items() if value is not None},
            ensure_ascii=False,
            sort_keys=True,
            default=str,
        )
        for row in as_python(table)
    ]


def _beyond(folder: Path, cursor: str, floor: float, values_of: Callable[[pa.Array], pa.Array]) -> Iterable[pa.Table]:
    """The rows of an increment at or beyond the floor; the whole is not read where it lies below."""
    latest = read_json(folder / MANIFEST)["facts"].get("latest")
    if latest is not None and latest < floor:
        return
    for file in increments.batch_files(folder):
        values = values_of(feather.read_table(str(file), columns=[cursor])[cursor].combine_chunks())
        near = pc.greater_equal(values, pa.scalar(floor, values.type)).fill_null(False)
        if near.true_count:
            yield feather.read_table(str(file)).drop_columns([ROW]).filter(near)


def _counted(table: pa.Table) -> pl.DataFrame:
    return _hashed(table).group_by("a", "b").agg(pl.len().cast(pl.Int64).alias("times"))


def _hashed(table: pa.Table) -> pl.DataFrame:
    """Two hashes of each row: sums over its values, each hashed by the name of its column and mixed."""
    hashes = {seed: np.zeros(table.num_rows, np.uint64) for seed in SEEDS}
    for name in table.column_names:
        values = _plain(table[name])
        present = values.is_not_null().to_numpy()
        for seed in SEEDS:
            key = int(digest_json([name, seed])[:16], 16)
            hashes[seed] += np.where(present, mix(values.hash(seed=key).to_numpy()), np.uint64(0))
    return pl.DataFrame(dict(zip(("a", "b"), hashes.values(), strict=True)))


def _plain(values: pa.ChunkedArray) -> pl.Series:
    """Equal values alike, however wide their type; nested ones as text."""
    kind = values.type
    if pa.types.is_nested(kind):
        texts = [None if one is None else json.dumps(one, default=str) for one in values.to_pylist()]
        return pl.Series(texts, dtype=pl.String)
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    series = pl.Series(values)
    if series.dtype.is_integer() and series.dtype != pl.UInt64:
        return series.cast(pl.Int64)
    if series.dtype.is_float():
        return series.cast(pl.Float64)
    return series.dt.cast_time_unit("us") if isinstance(series.dtype, pl.Datetime) else series


Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Duplicates:
    """Numbers of rows, ascending: superseded ones, and by unique column those that repeat an earlier value.

    `ids` counts repeated values of columns that name rows and need not be unique.
    """

    superseded: Rows
    unique: dict[str, Rows] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    def within(self, first: int, end: int) -> Duplicates:
        """Those of the rows `first` … `end` - 1."""
        unique = {name: _between(rows, first, end) for name, rows in self.unique.items()}
        return Duplicates(
            _between(self.superseded, first, end), {name: rows for name, rows in unique.items() if len(rows)}
        )

    def __bool__(self) -> bool:
        return bool(len(self.superseded)) or any(map(len, self.unique.values()))


def find_duplicates(
    files: Sequence[Path], dedupe: Dedupe | None, unique: Sequence[str], ids: Sequence[str]
) -> Duplicates:
    """Look for repeats in the rows of all files; in memory are the columns that are asked for."""
    superseded = np.empty(0, np.int64)
    if dedupe is not None:
        superseded = _superseded(_read(files, [*dedupe.keys, *([dedupe.order] if dedupe.order else [])]), dedupe)
    found = {}
    for name in dict.fromkeys([*unique, *ids]):
        frame = _read(files, [name]).drop_nulls(name)
        if len(superseded):
            frame = frame.filter(~pl.col(ROW).is_in(pl.Series(superseded).implode()))
        found[name] = frame.filter(~pl.col(name).is_first_distinct())[ROW].to_numpy()
    counts = {name: len(rows) for name, rows in found.items() if name not in unique}
    return Duplicates(superseded, {name: found[name] for name in unique}, counts)


def _superseded(frame: pl.DataFrame, dedupe: Dedupe) -> Rows:
    ordered = frame.drop_nulls(list(dedupe.keys)).sort(
        [*([dedupe.order] if dedupe.order else []), ROW], nulls_last=False
    )
    stays = ordered.unique(list(dedupe.keys), keep="last", maintain_order=False)[ROW]
    return np.setdiff1d(ordered[ROW].to_numpy(), stays.to_numpy())


def _read(files: Sequence[Path], names: Sequence[str]) -> pl.DataFrame:
    wanted = list(dict.fromkeys([*names, ROW]))
    frame = pl.concat([pl.read_parquet(file, columns=wanted) for file in files])
    return frame.with_columns(cs.float().fill_nan(None))


def _between(rows: Rows, first: int, end: int) -> Rows:
    return rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)]
