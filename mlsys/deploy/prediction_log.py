"""The prediction log: a folder of Parquet files for each model, its columns, and the way to read it.

`mlsys.deploy.log_writer` writes it, once a second; `mlsys.deploy.log_compaction` merges small files into large ones. A
file appears whole or not at all, and never changes afterwards::

    <store>/predictions/<name>/<yyyy-mm-dd>/<writer>-<first row>.parquet    as written
    <store>/predictions/<name>/<yyyy-mm-dd>/merged-<uuid>.parquet           by compaction, from several
    <store>/predictions/<name>/losses/<writer>.json                         rows that were answered and are not here
    <store>/predictions/<name>/damaged/<yyyy-mm-dd>/<file>.parquet          files whose rows are not all readable

A writer is one process of the endpoint. It numbers its rows from 0 in the order in which they are written, and a
row keeps its number for ever: each file carries the *spans* (writer, first row, number of rows) of which its own rows
consist, in order, in its metadata under ``mlsys.spans``. So a merged file and those that it was made from cannot be
taken for different rows: a file whose rows all stand in larger ones is *superseded*. Compaction writes the merged
file first and removes the superseded ones then; killed between the two it loses and doubles nothing. Who reads by
`read` and keeps the `RowSpans` that were read gets each row once, whatever was merged meanwhile. Files without spans,
of earlier versions, are their own writer.

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
import errno
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.schema import Column, Role, Task
from mlsys.store import Store, write_json

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

DAMAGED = "damaged"
"""Folder of a log for files that hold rows which cannot be read, and begin of the names of their notes."""

MERGED = "merged-"
"""Begin of the names of merged files."""


def logged_name(feature: str) -> str:
    """Column of the log that holds a feature.

    >>> logged_name("seats"), logged_name("score")
    ('seats', 'input.score')
    """
    return f"input.{feature}" if feature in OWN else feature


def is_logged(column: Column, needed: Collection[str], task: Task) -> bool:
    """Tell whether the log has a column of requests: features, what a model needs beside them, the id and the group."""
    return column.role in {Role.FEATURE, Role.ID} or column.name in needed or column.name == task.group


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


def files(folder: Path, known: Collection[str] = ()) -> list[LogFile]:
    """List the files of a log by day and name, without superseded ones; damaged ones have a `fault` and no rows.

    Files that are `known`, by their names below the folder, are neither opened nor listed.
    """
    counted = [log_file for day in days(folder) for log_file in live(listed(day, known))[0]]
    return sorted(counted, key=lambda log_file: (log_file.path.parent.name, log_file.path.name))


def read(
    folder: Path,
    seen: RowSpans | None = None,
    faults: dict[str, str] | None = None,
    columns: Collection[str] = (),
    known: set[str] | None = None,
) -> Iterator[pa.Table]:
    """Read the rows that are not in `seen`, file by file, and add them to it; damaged files are passed over.

    Files may be written, merged and removed meanwhile: a row that is there when `read` is called comes once.

    Parameters
    ----------
    faults
        Is filled: name of a file that was passed over → the reason.
    columns
        A file without one of these is no log of an endpoint, and is passed over.
    known
        Names of files whose rows are all in `seen`, which are not opened again; changes with what is read and gone.
    """
    seen, faults = RowSpans() if seen is None else seen, {} if faults is None else faults
    known = set() if known is None else known
    faults |= quarantined(folder)
    is_complete = False
    while not is_complete:
        is_complete = True
        for log_file in files(folder, known):
            name, fault = log_file.path.relative_to(folder).as_posix(), _fault(log_file, columns)
            if fault is not None:
                faults[name] = fault
            elif any(seen.missing(span) for span in log_file.spans):
                try:
                    yield from _unseen(log_file, name, seen, faults)
                except FileNotFoundError:  # merged since it was listed: its rows stand in another file now
                    is_complete = False
                except (OSError, pa.ArrowInvalid) as error:  # it has been damaged since, or may not be read
                    faults[name] = str(error).splitlines()[0]
            if is_complete and name not in faults:
                known.add(name)
    known &= {f"{day.name}/{name}" for day in days(folder) for name in _names(day)}


def _unseen(log_file: LogFile, name: str, seen: RowSpans, faults: dict[str, str]) -> Iterator[pa.Table]:
    """Read the rows of a file that are not in `seen`, and add them to it."""
    for spans, rows in row_groups(log_file):
        if isinstance(rows, str):
            faults[name] = rows
            continue
        parts = [(span, seen.missing(span)) for span in spans]
        for _, missing in parts:
            for span in missing:
                seen.add(span)
        if any(missing for _, missing in parts):
            yield rows.take(_places(parts))


def row_groups(log_file: LogFile) -> Iterator[tuple[list[Span], pa.Table | str]]:
    """Read a file by row groups: the spans of each, and its rows or the reason why they cannot be read.

    Raises
    ------
    OSError
        The file has gone, or the system does not let it be read now.
    """
    first = 0
    with pq.ParquetFile(log_file.path, page_checksum_verification=True) as opened:
        for number in range(opened.num_row_groups):
            count = opened.metadata.row_group(number).num_rows
            spans = _within(log_file.spans, first, count)
            first += count
            try:
                rows: pa.Table | str = opened.read_row_group(number).replace_schema_metadata(None)
            except (OSError, pa.ArrowException) as error:  # the footer is whole, these rows are not
                if not _is_damage(error):
                    raise
                rows = str(error).splitlines()[0]
            yield spans, rows


def _is_damage(error: Exception) -> bool:
    """Tell an error of the bytes from one of the machine, such as too little memory, which may pass."""
    if isinstance(error, OSError):
        return error.errno in (None, errno.EIO)
    return not isinstance(error, MemoryError)


def _within(spans: Iterable[Span], first: int, count: int) -> list[Span]:
    """Spans of `count` rows of a file, from number `first` in it on."""
    parts, start = [], 0
    for span in spans:
        begin, end = max(first, start), min(first + count, start + span.count)
        if begin < end:
            parts.append(Span(span.writer, span.first + begin - start, end - begin))
        start += span.count
    return parts


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


def days(folder: Path) -> list[Path]:
    """Folders of days; `losses` and hidden ones are none."""
    return sorted(path for path in folder.glob("????-??-??") if path.is_dir()) if folder.is_dir() else []


def listed(day: Path, known: Collection[str] = ()) -> list[LogFile]:
    """Describe the files of a day that are not `known`.

    Again where one went or a merged one came meanwhile: rows could be in neither.
    """
    while True:
        names = _names(day)
        described = [_described(day / name) for name in sorted(names) if f"{day.name}/{name}" not in known]
        new = _names(day) - names
        if not any(name.startswith(MERGED) for name in new) and None not in described:
            return [log_file for log_file in described if log_file is not None]


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
        schema, count, metadata = footer.schema_arrow, footer.metadata.num_rows, footer.metadata.metadata or {}
    packed = metadata.get(SPANS)
    try:
        spans = tuple(Span(*span) for span in json.loads(packed)) if packed else (Span(path.stem, 0, count),)
    except (ValueError, TypeError):
        return LogFile(path, (), fault="spans that cannot be read")
    if sum(span.count for span in spans) != count:
        return LogFile(path, (), fault=f"{count} rows, and spans of another number")
    return LogFile(path, spans, size, schema.remove_metadata())


def live(log_files: Iterable[LogFile]) -> tuple[list[LogFile], list[LogFile]]:
    """Divide files into those that count and those whose rows all stand in larger ones."""
    covered, counted, superseded = RowSpans(), [], []
    for log_file in sorted(log_files, key=lambda log_file: (-log_file.num_rows, log_file.path.name)):
        if log_file.spans and not any(covered.missing(span) for span in log_file.spans):
            superseded.append(log_file)
            continue
        counted.append(log_file)
        for span in log_file.spans:
            covered.add(span)
    return counted, superseded


def packed(spans: Iterable[Span]) -> bytes:
    """JSON of spans, for the metadata of a file."""
    return json.dumps([[span.writer, span.first, span.count] for span in spans]).encode()


@dataclass(frozen=True)
class Loss:
    """Rows that one writer answered and could not log, with the last reason and when it happened."""

    num_rows: int
    reason: str
    until: str


def note_loss(folder: Path, writer: str, loss: Loss) -> None:
    """Write how many rows a writer lost so far; the file is replaced as a whole."""
    write_json(folder / "losses" / f"{writer}.json", vars(loss))


def note_damage(path: Path, loss: Loss) -> None:
    """Move a file whose rows are not all readable out of the log, and note those among the losses."""
    folder, day = path.parent.parent, path.parent.name
    quarantine = folder / DAMAGED / day
    quarantine.mkdir(parents=True, exist_ok=True)
    note_loss(folder, f"{DAMAGED}-{day}-{path.stem}", loss)
    path.rename(quarantine / path.name)


def quarantined(folder: Path) -> dict[str, str]:
    """List the files that were moved out of a log, each with the reason."""
    reasons: dict[str, str] = {}
    for path in sorted((folder / "losses").glob(f"{DAMAGED}-*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):  # a damaged note, which `losses` leaves out too
            loss, name = Loss(**json.loads(path.read_bytes())), path.stem.removeprefix(f"{DAMAGED}-")
            reasons[f"{DAMAGED}/{name[:10]}/{name[11:]}.parquet"] = f"{loss.num_rows:,} rows: {loss.reason}"
    return reasons


def losses(folder: Path) -> list[Loss]:
    """Losses of all writers of a log, the last one last; a damaged note is left out."""
    noted = []
    for path in (folder / "losses").glob("[!.]*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            noted.append(Loss(**json.loads(path.read_bytes())))
    return sorted(noted, key=lambda loss: loss.until)
