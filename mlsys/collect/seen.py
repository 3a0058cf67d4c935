"""Rows that are in the increments of earlier collections, known by their content.

A row is known by its values: what is missing does not count, for JSON lines have the keys of
their batch. Rows of one content are told apart by how often they come.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import feather

from mlsys.collect import stored
from mlsys.collect.batch import as_python
from mlsys.schema import ROW
from mlsys.statistics.hashing import mix
from mlsys.store import MANIFEST, digest_json, read_json

__all__ = ["Seen", "contents"]

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
    for file in stored.files(folder):
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
