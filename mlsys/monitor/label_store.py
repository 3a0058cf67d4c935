"""Labels that came in late, kept for every later run of the monitor.

::

    <store>/labels/<name>/000001-<id>.parquet    what one `add` brought that was new, in the order of the numbers

A file appears whole or not at all and never changes. Columns: ``key_name`` (``prediction_id``, or the name of the
id column), ``key``, ``label`` as text, ``at``, ``known_at`` and ``received_at``.
"""

from __future__ import annotations

import datetime as dt
import io
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import locks
from mlsys.monitor.labels import WrittenLabels
from mlsys.schema import Task
from mlsys.store import Store, write_atomic

_TIME = pl.Datetime("us", "UTC")
TYPES: dict[str, Any] = {
    "key_name": pl.String, "key": pl.String, "label": pl.String, "at": _TIME, "known_at": _TIME, "received_at": _TIME,
}  # fmt: skip
SAME = ["key_name", "key", "at", "known_at"]
"""Columns that say of which prediction a label is, and in which state of knowledge."""


@dataclass(frozen=True)
class Added:
    """Labels that were new, those that were there already, and those that replaced another one of the same id."""

    num_new: int
    num_known: int
    num_replaced: int


def folder_of(store: Store, name: str) -> Path:
    """Folder of the labels of a model."""
    return store.root / "labels" / name


def add(store: Store, name: str, labels: WrittenLabels) -> Added:
    """Append the labels that are not there yet; of several for the same id and times the last one counts.

    Raises
    ------
    StoreError
        The store cannot be written; then nothing was added.
    """
    folder = folder_of(store, name)
    columns = labels.frame.with_columns(
        pl.lit(labels.key).alias("key_name"),
        pl.col("label").cast(pl.String),
        pl.lit(dt.datetime.now(dt.UTC), _TIME).alias("received_at"),
    )
    last = columns.select(list(TYPES)).unique(SAME, keep="last", maintain_order=True)
    with locks.hold(folder / ".lock", f"adding labels of '{name}'"):
        before = _latest(read(store, name))
        new = last.join(before, on=[*SAME, "label"], how="anti", nulls_equal=True)
        num_replaced = new.join(before, on=SAME, how="semi", nulls_equal=True).height
        if new.height:
            number = max((int(path.name[:6]) for path in _files(folder)), default=0) + 1
            sink = io.BytesIO()
            new.write_parquet(sink)
            write_atomic(folder / f"{number:06d}-{uuid.uuid4().hex}.parquet", sink.getvalue())
    return Added(new.height, columns.height - new.height, num_replaced)


def read(store: Store, name: str) -> pl.DataFrame:
    """All labels of a model in the order in which they came; damaged files are passed over."""
    parts = [pl.DataFrame(schema=TYPES)]
    for path in _files(folder_of(store, name)):
        try:
            frame = cast("pl.DataFrame", pl.from_arrow(pq.ParquetFile(path).read()))
            parts.append(frame.select(pl.col(column).cast(kind) for column, kind in TYPES.items()))
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError):
            continue
    return pl.concat(parts)


def written(store: Store, name: str, task: Task) -> list[WrittenLabels]:
    """The labels of a model by the column that their ids are of, as a task takes them."""
    every = _latest(read(store, name))
    if not task.is_classification:
        every = every.with_columns(pl.col("label").cast(pl.Float64, strict=False))
    return [
        WrittenLabels(str(key), part.select("key", "label", "at", "known_at"))
        for (key,), part in every.group_by("key_name", maintain_order=True)
    ]


def _latest(labels: pl.DataFrame) -> pl.DataFrame:
    return labels.unique(SAME, keep="last", maintain_order=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*.parquet") if path.name[:6].isdigit())
