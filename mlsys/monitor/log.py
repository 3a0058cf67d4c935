"""The prediction log as it is on disk: Parquet files read one after another, each prediction once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import errors
from mlsys.deploy.log import OWN
from mlsys.schema import Schema

__all__ = ["Log", "files_of", "logged_name"]

BATCH_ROWS, BATCH_BYTES = 100_000, 1 << 28
"""Small files are read together up to so much: the statistics cost a fixed time an update, and pictures are large."""

_OWN = {
    "prediction_id": pa.string(),
    "logged_at": pa.timestamp("us", "UTC"),
    "event_at": pa.timestamp("us", "UTC"),
    "model_version": pa.string(),
    "bundle": pa.string(),
    "score": pa.float64(),
    "probabilities": pa.list_(pa.float64()),
    "latency_ms": pa.float64(),
    "unseen": pa.int32(),
    "rare": pa.int32(),
}


def files_of(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Parquet files of a folder with everything below it, of one path or of a list; sorted.

    Raises
    ------
    SourceError
        A path does not exist.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise errors.SourceError.build(
                f"monitor: prediction log '{path}'", got="nothing there", expected="Parquet files or a folder of them",
                hint="the endpoint writes to <store>/predictions/<name>; send it a request first",
            )  # fmt: skip
        found.update(path.rglob("*.parquet") if path.is_dir() else [path])
    return sorted(found)


class _Seen:
    """Hashes of the ids met so far, in sorted runs that are merged when they have grown alike."""

    def __init__(self) -> None:
        self.runs: list[NDArray[np.uint64]] = []

    def first(self, ids: pl.Series) -> pl.Series:
        """Which of these ids were not there before; an id that is null always counts."""
        hashes = ids.hash(seed=0).to_numpy()
        fresh = ids.is_first_distinct().to_numpy().copy()
        for run in self.runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            fresh &= run[at] != hashes
        null = ids.is_null().to_numpy()
        self._add(np.sort(hashes[fresh & ~null]))
        return pl.Series(fresh | null)

    def _add(self, run: NDArray[np.uint64]) -> None:
        if not len(run):
            return
        self.runs.append(run)
        while len(self.runs) > 1 and len(self.runs[-2]) <= 2 * len(self.runs[-1]):
            last, before = self.runs.pop(), self.runs.pop()
            self.runs.append(np.sort(np.concatenate([before, last])))


@dataclass
class Log:
    """Rows that one bundle answered, read in batches.

    Attributes
    ----------
    num_rows, num_duplicates, num_other
        Rows read so far that count, that repeat a prediction_id (a client's retry) and that
        another bundle answered.
    """

    files: Sequence[Path]
    schema: Schema
    bundle: str
    num_rows: int = 0
    num_duplicates: int = 0
    num_other: int = 0
    num_without_time: int = 0
    _seen: _Seen = field(default_factory=_Seen)

    def batches(self) -> Iterator[pl.DataFrame]:
        """The rows, in the order of the files; ``event_at`` falls back to ``logged_at``.

        Raises
        ------
        StoreError
            A file is damaged or no prediction log.
        """
        held: list[pl.DataFrame] = []
        for file in self.files:
            held.append(self._own(self._read(file)))
            rows, size = (sum(found) for found in zip(*((f.height, f.estimated_size()) for f in held), strict=True))
            if rows >= BATCH_ROWS or size >= BATCH_BYTES:
                yield pl.concat(held, how="vertical_relaxed")
                held = []
        if any(frame.height for frame in held):
            yield pl.concat(held, how="vertical_relaxed")

    def _read(self, file: Path) -> pl.DataFrame:
        try:
            table = pq.ParquetFile(file).read()
        except (OSError, pa.ArrowException) as error:
            raise errors.StoreError.build(
                f"monitor: prediction log '{file}'", got=str(error).splitlines()[0], expected="a Parquet file",
                hint="move the file away and run again; its rows are lost to the monitor",
            ) from error  # fmt: skip
        missing = sorted({"prediction_id", "logged_at", "bundle", "prediction", "score"} - set(table.column_names))
        if missing:
            raise errors.StoreError.build(
                f"monitor: prediction log '{file}'", got=f"no column {', '.join(missing)}",
                expected="the columns that the endpoint logs", hint="give the folder of the endpoint's own log",
            )  # fmt: skip
        return _completed(table, self.schema)

    def _own(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of this bundle, each prediction_id once, each with a time."""
        own = frame.filter(pl.col("bundle") == self.bundle)
        self.num_other += frame.height - own.height
        first = own.filter(self._seen.first(own["prediction_id"]))
        self.num_duplicates += own.height - first.height
        timed = first.with_columns(pl.coalesce("event_at", "logged_at").alias("event_at"))
        kept = timed.filter(pl.col("event_at").is_not_null())
        self.num_without_time += timed.height - kept.height
        self.num_rows += kept.height
        return kept


def logged_name(feature: str) -> str:
    """Name of a feature's column in the log, which keeps some names for itself."""
    return f"input.{feature}" if feature in OWN else feature


def _completed(table: pa.Table, schema: Schema) -> pl.DataFrame:
    """The log's own columns and the features in their types; a column that is missing is null."""
    types = {**_OWN, **{logged_name(field.name): field.type for field in schema.arrow()}}
    arrays = {"prediction": table["prediction"]}
    for name, kind in types.items():
        present = name in table.column_names
        arrays[name] = table[name].cast(kind, safe=False) if present else pa.nulls(table.num_rows, kind)
    return cast("pl.DataFrame", pl.from_arrow(pa.table(arrays)))
