"""The prediction log: a folder of Parquet files for each model, its columns, and the ways to read and compact it.

`mlsys.deploy.log_writer` writes it, once a second; `compact` merges small files into large ones. A file appears whole
or not at all, and never changes afterwards::

    <store>/predictions/<name>/<yyyy-mm-dd>/<writer>-<first row>.parquet    as written
    <store>/predictions/<name>/<yyyy-mm-dd>/merged-<uuid>.parquet           by `compact`, from several
    <store>/predictions/<name>/losses/<writer>.json                         rows that were answered and are not here

A writer is one process of the endpoint. It numbers its rows from 0 in the order in which they are written, and a
row keeps its number for ever: each file carries the *spans* (writer, first row, number of rows) of which its own rows
consist, in order, in its metadata under ``mlsys.spans``. So a merged file and those that it was made from cannot be
taken for different rows: a file whose rows all stand in larger ones is *superseded*. `compact` writes the merged file
first and removes the superseded ones then; killed between the two it loses and doubles nothing. Who reads by `read`
and keeps the `RowSpans` that were read gets each row once, whatever was merged meanwhile. Files without spans, of
earlier versions, are their own writer.

==============  =======================  ==================================================
column          type                     meaning
==============  =======================  ==================================================
prediction_id   string                   id in the answer; labels are joined by it
logged_at       timestamp[us, tz=UTC]    when the request was answered
event_at        timestamp[us, tz=UTC]    the row's own time if it was sent, otherwise logged_at
model_version   string                   version in the registry
bundle          string                   digest
prediction      string or double         class as JSON scalar text, or the value
score           double                   positive or highest probability, or the value
probabilities   list<double>             in the order of the classes; null for regression
latency_ms      double                   of the whole request
unseen          int32                    values of this row that training never saw
rare            int32                    values that training saw too seldom to keep apart
unknown         int32                    joins for which the look-up of this row found nothing usable
<feature>       as in the bundle         one column for each feature, null where absent
<id>            as in the bundle         the column ``data.id``, null where absent
==============  =======================  ==================================================

A feature with the name of a column above is logged as ``input.<feature>``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.store import Store, storage_error, write_json

UTC = pa.timestamp("us", "UTC")
OWN: dict[str, pa.DataType | None] = {
    "prediction_id": pa.string(),
    "logged_at": UTC,
    "event_at": UTC,
    "model_version": pa.string(),
    "bundle": pa.string(),
    "prediction": None,
    "score": pa.float64(),
    "probabilities": pa.list_(pa.float64()),
    "latency_ms": pa.float64(),
    "unseen": pa.int32(),
    "rare": pa.int32(),
    "unknown": pa.int32(),
}
"""Columns of the log that are not features, in order, with their types; that of a prediction depends on the task."""

SPANS = b"mlsys.spans"
"""Key of a file's metadata: JSON of the spans of its rows."""

MERGED = "merged-"
"""Begin of the names of merged files."""

LARGE_BYTES = 64 << 20
"""Files of this size are not merged any more: a merge reads and writes at most this much again."""

FEW_FILES = 16
"""Files of the current day that are left as they are: merging fewer would write the same rows again and again."""

ABANDONED_S = 3600.0
"""Age of a half-written file from which on its writer is taken for dead."""


def logged_name(feature: str) -> str:
    """Column of the log that holds a feature.

    >>> logged_name("seats"), logged_name("score")
    ('seats', 'input.score')
    """
    return f"input.{feature}" if feature in OWN else feature


def folder_of(store: Store, name: str) -> Path:
    """Folder of the prediction log of a model."""
    return store.root / "predictions" / name


@dataclass(frozen=True)
class Span:
    """Rows of one writer: `count` of them, from number `first` on."""

    writer: str
    first: int
    count: int

    @property
    def end(self) -> int:
        return self.first + self.count


@dataclass
class RowSpans:
    """A set of rows of the log, as disjoint ranges of numbers for each writer; it goes into JSON and back.

    >>> seen = RowSpans()
    >>> seen.add(Span("a", 0, 10))
    >>> seen.missing(Span("a", 5, 10))
    [Span(writer='a', first=10, count=5)]
    """

    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, span: Span) -> None:
        merged: list[tuple[int, int]] = []
        for first, end in sorted([*self.ranges.get(span.writer, []), (span.first, span.end)]):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((first, end))
        self.ranges[span.writer] = merged

    def missing(self, span: Span) -> list[Span]:
        """Parts of a span that are not in the set, in order."""
        parts, at = [], span.first
        for first, end in self.ranges.get(span.writer, []):
            if first >= span.end:
                break
            if first > at:
                parts.append(Span(span.writer, at, first - at))
            at = max(at, end)
        return [*parts, Span(span.writer, at, span.end - at)] if at < span.end else parts

    def to_json(self) -> dict[str, Any]:
        return {writer: [list(pair) for pair in pairs] for writer, pairs in self.ranges.items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls({writer: [(int(first), int(end)) for first, end in pairs] for writer, pairs in value.items()})


@dataclass(frozen=True)
class LogFile:
    """A file of the log: the spans of its rows, its size, and its columns; `fault` says why it cannot be read."""

    path: Path
    spans: tuple[Span, ...]
    num_bytes: int = 0
    schema: pa.Schema | None = None
    fault: str | None = None

    @property
    def num_rows(self) -> int:
        return sum(span.count for span in self.spans)


def files(folder: Path) -> list[LogFile]:
    """List the files of a log by day and name, without superseded ones; damaged ones have a `fault` and no rows."""
    listed = [log_file for day in _days(folder) for log_file in _live(_listed(day))[0]]
    return sorted(listed, key=lambda log_file: (log_file.path.parent.name, log_file.path.name))


def read(
    folder: Path, seen: RowSpans | None = None, faults: dict[str, str] | None = None, columns: Collection[str] = ()
) -> Iterator[pa.Table]:
    """Read the rows that are not in `seen`, file by file, and add them to it; damaged files are passed over.

    Files may be written, merged and removed meanwhile: a row that is there when `read` is called comes once.

    Parameters
    ----------
    faults
        Is filled: name of a file that was passed over → the reason.
    columns
        A file without one of these is no log of an endpoint, and is passed over.
    """
    seen, faults = RowSpans() if seen is None else seen, {} if faults is None else faults
    is_complete = False
    while not is_complete:
        is_complete = True
        for log_file in files(folder):
            name, fault = log_file.path.relative_to(folder).as_posix(), _fault(log_file, columns)
            if fault is not None:
                faults[name] = fault
                continue
            parts = [(span, seen.missing(span)) for span in log_file.spans]
            if not any(missing for _, missing in parts):
                continue
            try:
                table = pq.ParquetFile(log_file.path).read()
            except FileNotFoundError:  # merged since it was listed: its rows stand in another file now
                is_complete = False
                continue
            except (OSError, pa.ArrowException) as error:  # the footer is whole, the rows are not
                faults[name] = str(error).splitlines()[0]
                continue
            for _, missing in parts:
                for span in missing:
                    seen.add(span)
            yield table.replace_schema_metadata(None).take(_places(parts))


def _fault(log_file: LogFile, columns: Collection[str]) -> str | None:
    """Say why a file is passed over, if it is."""
    absent = [] if log_file.schema is None else sorted(set(columns) - set(log_file.schema.names))
    return f"no column {', '.join(absent)}" if absent else log_file.fault


def _places(parts: Sequence[tuple[Span, Sequence[Span]]]) -> pa.Array:
    """Places in a file of the missing rows of its spans."""
    places: list[range] = []
    start = 0
    for span, missing in parts:
        places += [range(start + part.first - span.first, start + part.end - span.first) for part in missing]
        start += span.count
    return pa.array([place for some in places for place in some], pa.int64())


@dataclass(frozen=True)
class Compacted:
    """Numbers of files that were merged, of files that they became, and of remains that were removed."""

    num_merged: int = 0
    num_written: int = 0
    num_removed: int = 0


def compact(store: Store, name: str, now: dt.datetime | None = None) -> Compacted:
    """Merge the small files of a model's log by day, while others write and read it; nothing if another process does.

    Raises
    ------
    StoreError
        The disk is full or the folder cannot be written; nothing is lost.
    """
    return compact_folder(folder_of(store, name), now)


def compact_folder(folder: Path, now: dt.datetime | None = None) -> Compacted:
    """Merge the small files of a log as `compact` does."""
    if not folder.is_dir():
        return Compacted()
    today = (now or dt.datetime.now(dt.UTC)).date().isoformat()
    merged = written = removed = 0
    with _locked(folder) as is_ours:
        for day in _days(folder) if is_ours else ():
            live, superseded = _live(_listed(day))
            removed += _remove([log_file.path for log_file in superseded] + _abandoned(day))
            for group in _groups(live, is_over=day.name < today):
                _merge(day, group)
                merged, written = merged + len(group), written + 1
    return Compacted(merged, written, removed)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Let one process at a time compact a log; false if another one does."""
    try:
        descriptor = os.open(folder / ".compact.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise storage_error(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _days(folder: Path) -> list[Path]:
    """Folders of days; `losses` and hidden ones are none."""
    return sorted(path for path in folder.glob("????-??-??") if path.is_dir()) if folder.is_dir() else []


def _listed(day: Path) -> list[LogFile]:
    """Describe the files of a day, again where one went or a merged one came meanwhile: rows could be in neither."""
    while True:
        names = _names(day)
        listed = [_described(day / name) for name in sorted(names)]
        new = _names(day) - names
        if not any(name.startswith(MERGED) for name in new) and None not in listed:
            return [log_file for log_file in listed if log_file is not None]


def _names(day: Path) -> set[str]:
    return {path.name for path in day.glob("[!.]*.parquet")}


def _described(path: Path) -> LogFile | None:
    """Spans, size and columns from a file's footer; None if it has gone."""
    try:
        size = path.stat().st_size
        footer = pq.ParquetFile(path)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        return LogFile(path, (), fault=str(error).splitlines()[0])
    with footer:
        schema, count = footer.schema_arrow, footer.metadata.num_rows
    packed = (schema.metadata or {}).get(SPANS)
    try:
        spans = tuple(Span(*span) for span in json.loads(packed)) if packed else (Span(path.stem, 0, count),)
    except (ValueError, TypeError):
        return LogFile(path, (), fault="spans that cannot be read")
    if sum(span.count for span in spans) != count:
        return LogFile(path, (), fault=f"{count} rows, and spans of another number")
    return LogFile(path, spans, size, schema.remove_metadata())


def _live(listed: Iterable[LogFile]) -> tuple[list[LogFile], list[LogFile]]:
    """Divide files into those that count and those whose rows all stand in larger ones."""
    covered, live, superseded = RowSpans(), [], []
    for log_file in sorted(listed, key=lambda log_file: (-log_file.num_rows, log_file.path.name)):
        if log_file.spans and not any(covered.missing(span) for span in log_file.spans):
            superseded.append(log_file)
            continue
        live.append(log_file)
        for span in log_file.spans:
            covered.add(span)
    return live, superseded


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


def _merge(day: Path, group: Sequence[LogFile]) -> None:
    """Write the rows of some files into one, sync it, move it into place, and only then remove them."""
    ordered = sorted(group, key=lambda log_file: [(span.writer, span.first) for span in log_file.spans])
    name = f"{MERGED}{uuid.uuid4().hex}.parquet"
    half, spans = day / f".{name}", _joined(span for log_file in ordered for span in log_file.spans)
    columns = ordered[0].schema
    schema = pa.schema(columns, {SPANS: packed(spans)})
    try:
        with half.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
            for table in _batches(ordered):
                writer.write_table(table.cast(schema))
        _sync(half)
        if pq.read_metadata(half).num_rows != sum(log_file.num_rows for log_file in ordered):
            raise errors.StoreError.build(
                f"prediction log: merging {day.name}", got="another number of rows", expected="all rows of the files"
            )
        half.rename(day / name)
        _sync(day)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise error if isinstance(error, errors.StoreError) else storage_error(half, error) from error
    _remove([log_file.path for log_file in ordered])


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _batches(ordered: Sequence[LogFile]) -> Iterator[pa.Table]:
    """Tables of the files in order, small ones together: a row group each."""
    waiting: list[pa.Table] = []
    for log_file in ordered:
        waiting.append(pq.ParquetFile(log_file.path).read().replace_schema_metadata(None))
        if sum(table.nbytes for table in waiting) >= LARGE_BYTES // 2:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in the same order, neighbours as one."""
    joined: list[Span] = []
    for span in spans:
        if joined and (joined[-1].writer, joined[-1].end) == (span.writer, span.first):
            joined[-1] = Span(span.writer, joined[-1].first, joined[-1].count + span.count)
        else:
            joined.append(span)
    return joined


def packed(spans: Iterable[Span]) -> bytes:
    """JSON of spans, for the metadata of a file."""
    return json.dumps([[span.writer, span.first, span.count] for span in spans]).encode()


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


@dataclass(frozen=True)
class Loss:
    """Rows that one writer answered and could not log, with the last reason and when it happened."""

    num_rows: int
    reason: str
    until: str


def note_loss(folder: Path, writer: str, loss: Loss) -> None:
    """Write how many rows a writer lost so far; the file is replaced as a whole."""
    write_json(folder / "losses" / f"{writer}.json", vars(loss))


def losses(folder: Path) -> list[Loss]:
    """Losses of all writers of a log, the last one last; a damaged note is left out."""
    noted = []
    for path in (folder / "losses").glob("[!.]*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            noted.append(Loss(**json.loads(path.read_bytes())))
    return sorted(noted, key=lambda loss: loss.until)
