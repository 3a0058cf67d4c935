"""Compaction of a prediction log: small files become large ones, without a lost or doubled row.

It goes on while others write and read the log (`mlsys.deploy.prediction_log` says why that is safe). Rows that cannot
be read any more hold up no others: the rows beside them are merged, the file goes to ``damaged/``, and what is lost is
noted among the losses with the reason.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import errors, locks
from mlsys.deploy import prediction_log
from mlsys.deploy.prediction_log import MERGED, SPANS, LogFile, Loss, Span, row_groups
from mlsys.store import storage_error, sync

LARGE_BYTES = 64 << 20
"""Files of this size are not merged any more: a merge reads and writes at most this much again."""

FEW_FILES = 16
"""Files of the current day that are left as they are: merging fewer would write the same rows again and again."""

ABANDONED_S = 3600.0
"""Age of a half-written file from which on its writer is taken for dead."""


@dataclass(frozen=True)
class Compacted:
    """Numbers of files that were merged, that they became, that were set aside as damaged, and of removed remains."""

    num_merged: int = 0
    num_written: int = 0
    num_damaged: int = 0
    num_removed: int = 0


def compact(folder: Path, now: dt.datetime | None = None) -> Compacted:
    """Merge the small files of a log by day, while others write and read it; nothing if another process does.

    Raises
    ------
    StoreError
        The disk is full or the folder cannot be written; nothing is lost.
    """
    if not folder.is_dir():
        return Compacted()
    today = (now or dt.datetime.now(dt.UTC)).date().isoformat()
    merged = written = damaged = removed = 0
    with locks.hold_if_free(folder / ".compact.lock", "compacting the prediction log") as is_ours:
        for day in prediction_log.days(folder) if is_ours else ():
            live, superseded = prediction_log.live(prediction_log.listed(day))
            removed += _remove([log_file.path for log_file in superseded] + _abandoned(day))
            for group in _groups(live, is_over=day.name < today):
                merge = _Merge(day)
                merge.write(group)
                merged += len(group)
                written += merge.num_rows > 0
                damaged += len(merge.damages)
    return Compacted(merged, written, damaged, removed)


def _groups(live: Sequence[LogFile], *, is_over: bool) -> list[list[LogFile]]:
    """Files to merge: small ones of the same columns; of a day that goes on, many of like size."""
    alike: dict[str, list[LogFile]] = {}
    for log_file in live:
        if log_file.fault is None and log_file.num_bytes < LARGE_BYTES:
            alike.setdefault(str(log_file.schema), []).append(log_file)
    groups = []
    for same in alike.values():
        same.sort(key=lambda log_file: log_file.num_bytes)
        taken, size = 0, 0
        for log_file in same:
            if not is_over and taken >= FEW_FILES and log_file.num_bytes > 2 * size:
                break  # ten thousand small files beside a large one do not write the large one ten thousand times
            taken, size = taken + 1, size + log_file.num_bytes
            if size >= LARGE_BYTES:
                break
        if taken >= (2 if is_over else FEW_FILES):
            groups.append(same[:taken])
    return groups


@dataclass
class _Merge:
    """One merged file in the making: the spans of its rows, and by file what could not be read of the others."""

    day: Path
    spans: list[Span] = field(default_factory=list)
    damages: dict[Path, Loss] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return sum(span.count for span in self.spans)

    def write(self, group: Sequence[LogFile]) -> None:
        """Write the rows of some files into one, sync it, move it into place, and only then remove them."""
        ordered = sorted(group, key=lambda log_file: [(span.writer, span.first) for span in log_file.spans])
        name = f"{MERGED}{uuid.uuid4().hex}.parquet"
        half, columns = self.day / f".{name}", ordered[0].schema
        try:
            with half.open("wb") as file, pq.ParquetWriter(file, columns, write_page_checksum=True) as writer:
                for table in self._batches(ordered):
                    writer.write_table(table.cast(columns))
                writer.add_key_value_metadata({SPANS: prediction_log.packed(_joined(self.spans))})
            sync(half)
            if self.spans:
                half.rename(self.day / name)
                sync(self.day)
            for path, loss in self.damages.items():
                prediction_log.note_damage(path, loss)
        except OSError as error:
            raise error if isinstance(error, errors.StoreError) else storage_error(half, error) from error
        finally:
            half.unlink(missing_ok=True)
        _remove([log_file.path for log_file in ordered])

    def _batches(self, ordered: Sequence[LogFile]) -> Iterator[pa.Table]:
        """Readable rows of the files in order, small files together: a row group each."""
        waiting: list[pa.Table] = []
        for log_file in ordered:
            for spans, rows in row_groups(log_file):
                if isinstance(rows, str):
                    self._lose(log_file.path, sum(span.count for span in spans), rows)
                    continue
                self.spans += spans
                waiting.append(rows)
            if sum(table.nbytes for table in waiting) >= LARGE_BYTES // 2:
                yield pa.concat_tables(waiting)
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting)

    def _lose(self, path: Path, num_rows: int, reason: str) -> None:
        before = self.damages[path].num_rows if path in self.damages else 0
        self.damages[path] = Loss(before + num_rows, reason, dt.datetime.now(dt.UTC).isoformat())


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in the same order, neighbours as one."""
    joined: list[Span] = []
    for span in spans:
        if joined and (joined[-1].writer, joined[-1].end) == (span.writer, span.first):
            joined[-1] = Span(span.writer, joined[-1].first, joined[-1].count + span.count)
        else:
            joined.append(span)
    return joined


def _abandoned(day: Path) -> list[Path]:
    """Half-written files whose writer died."""
    oldest = time.time() - ABANDONED_S
    hidden = []
    for path in day.glob(".*.parquet*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                hidden.append(path)
    return hidden


def _remove(paths: Sequence[Path]) -> int:
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)
