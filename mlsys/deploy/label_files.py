"""Files of the labels of a model, which commands and endpoints append to.

::

    <store>/labels/<name>/000001-<id>.parquet    what came at a time, in the order of the numbers

A file appears whole or not at all and never changes. Columns: ``key_name`` (``prediction_id``, or the name of the
id column), ``key``, ``label`` as text, ``at``, ``known_at`` and ``received_at``. Of several labels with the same ids
and times the last one counts, so a label that is sent twice counts once.

Many files are merged into one, with the number of the last of them: killed before the others are removed, the labels
are there twice in the same order, which says the same.
"""

from __future__ import annotations

import contextlib
import io
import uuid
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import locks
from mlsys.store import Store, write_atomic

TIME = pl.Datetime("us", "UTC")
TYPES: dict[str, Any] = {
    "key_name": pl.String, "key": pl.String, "label": pl.String, "at": TIME, "known_at": TIME, "received_at": TIME,
}  # fmt: skip
SAME = ["key_name", "key", "at", "known_at"]
"""Columns that say of which prediction a label is, and in which state of knowledge."""

MERGE_FILES = 64
"""Files from which on they are merged."""


def folder_of(store: Store, name: str) -> Path:
    """Folder of the labels of a model."""
    return store.root / "labels" / name


def writing(store: Store, name: str) -> contextlib.AbstractContextManager[None]:
    """Exclude other writers of a model's labels."""
    return locks.hold(folder_of(store, name) / ".lock", f"adding labels of '{name}'")


def append(store: Store, name: str, labels: pl.DataFrame) -> None:
    """Write labels with the columns of `TYPES` as a file after the others; none for no labels.

    Raises
    ------
    StoreError
        The store cannot be written; then nothing was added.
    """
    folder = folder_of(store, name)
    with writing(store, name):
        before = _files(folder)
        if labels.height:
            number = max(map(_number, before), default=0) + 1
            _write(folder / f"{number:06d}-{uuid.uuid4().hex}.parquet", labels)
        if len(before) >= MERGE_FILES:
            _merge(folder)


def read(store: Store, name: str) -> pl.DataFrame:
    """All labels of a model in the order in which they came; damaged files are passed over."""
    folder = folder_of(store, name)
    if not folder.is_dir():
        return pl.DataFrame(schema=TYPES)
    with writing(store, name):
        parts = [_read(path) for path in _files(folder)]
    return pl.concat([pl.DataFrame(schema=TYPES), *(part for part in parts if part is not None)])


def newer(store: Store, name: str, last: int) -> list[tuple[int, Path]]:
    """Files after the one with a number, with theirs, in order; a merged one may repeat what others before it said."""
    return [(_number(path), path) for path in _files(folder_of(store, name)) if _number(path) > last]


def received_since(path: Path, second: float) -> pl.DataFrame:
    """Labels of a file that came after a time, in seconds since 1970; none of one that is damaged.

    Raises
    ------
    FileNotFoundError
        It was merged into another one meanwhile.
    """
    since = pl.lit(int(second * 1e6)).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    try:
        read = pl.scan_parquet(path).filter(pl.col("received_at") >= since, pl.col("label").is_not_null()).collect()
        return read.select(pl.col(column).cast(kind) for column, kind in TYPES.items())
    except (OSError, pl.exceptions.PolarsError):
        if not path.exists():
            raise FileNotFoundError(path) from None
        return pl.DataFrame(schema=TYPES)


def _merge(folder: Path) -> None:
    """Put the readable files into one; the damaged ones stay where they are."""
    parts = {path: part for path in _files(folder) if (part := _read(path)) is not None}
    if not parts:
        return
    last = max(map(_number, parts))
    labels = pl.concat(parts.values()).unique(SAME, keep="last", maintain_order=True)
    _write(folder / f"{last:06d}-merged-{uuid.uuid4().hex}.parquet", labels)
    for path in parts:
        path.unlink()


def _write(path: Path, labels: pl.DataFrame) -> None:
    sink = io.BytesIO()
    labels.select(list(TYPES)).write_parquet(sink)
    write_atomic(path, sink.getvalue())


def _read(path: Path) -> pl.DataFrame | None:
    try:
        frame = cast("pl.DataFrame", pl.from_arrow(pq.ParquetFile(path).read()))
        return frame.select(pl.col(column).cast(kind) for column, kind in TYPES.items())
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError):
        return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*.parquet") if path.name[:6].isdigit())


def _number(path: Path) -> int:
    return int(path.name[:6])
