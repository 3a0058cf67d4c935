"""Look-ups in a prediction log: the row of a prediction id, and the rows of each bundle by day.

Neither reads the whole log. Ids that an endpoint draws hold the time at which they were drawn (`mlsys.deploy.row_ids`),
so the day of the row is known; and the least and greatest id of each row group stand in the footer of its file, which
tells row groups apart whose ids were drawn one after another. Of what is left the column of ids alone is read.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys.deploy import prediction_log
from mlsys.deploy.prediction_log import LogFile

SHOWN = ("logged_at", "event_at", "model_version", "bundle", "prediction", "score")
"""Columns of a row that a look-up returns; features stay in the log."""

ATTEMPTS = 5
"""Readings of a day in which files may go into merged ones meanwhile."""

T = TypeVar("T")


@dataclass(frozen=True)
class LoggedRow:
    """A row of a log: its file and place in it, its writer and the number that the row keeps, and its own columns."""

    file: str
    row: int
    writer: str
    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class LogSearch:
    """The rows of an id on one day, the newest last, and what was read for them.

    Attributes
    ----------
    num_files, num_row_groups
        Files whose footer was read, and row groups whose ids were.
    days
        Days that were looked at, in this order.
    faults
        Files with row groups that cannot be read.
    """

    rows: tuple[LoggedRow, ...]
    num_files: int
    num_row_groups: int
    days: tuple[str, ...]
    faults: tuple[str, ...]


def find(folder: Path, prediction_id: str, near: dt.datetime | None = None) -> LogSearch:
    """Find the rows of a prediction id, day by day until there are some.

    Parameters
    ----------
    folder
        Of the log of one model.
    near
        A time near which it was logged: days are looked at in the order of their distance. Else the newest comes first.
    """
    rows: list[LoggedRow] = []
    faults: list[str] = []
    days: list[str] = []
    num_files = num_groups = 0
    for day in _in_order(prediction_log.days(folder), near):
        matches, searched, read, unread = _again(_of_day, folder, day, prediction_id)
        rows, days, faults = matches, [*days, day.name], [*faults, *unread]
        num_files, num_groups = num_files + searched, num_groups + read
        if rows:
            break
    ordered = sorted(rows, key=lambda row: str(row.values.get("logged_at")))
    return LogSearch(tuple(ordered), num_files, num_groups, tuple(days), tuple(faults))


def _in_order(days: Sequence[Path], near: dt.datetime | None) -> list[Path]:
    if near is None:
        return sorted(days, reverse=True)
    date = near.astimezone(dt.UTC).date()
    return sorted(days, key=lambda day: (abs((dt.date.fromisoformat(day.name) - date).days), day.name))


def _again(read: Callable[..., T], *args: Any) -> T:
    """Read once more where files were merged since they were listed."""
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(FileNotFoundError):
            return read(*args)
    return read(*args)


def _of_day(folder: Path, day: Path, prediction_id: str) -> tuple[list[LoggedRow], int, int, list[str]]:
    """Rows of an id on a day, with the numbers of files and row groups that were read, and unreadable files."""
    rows: list[LoggedRow] = []
    faults: list[str] = []
    files = prediction_log.live(prediction_log.listed(day))[0]
    num_groups = 0
    for log_file in files:
        name = log_file.path.relative_to(folder).as_posix()
        if log_file.fault is not None:
            faults.append(name)
            continue
        try:
            matches, read = _of_file(log_file, name, prediction_id)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException):
            faults.append(name)
            continue
        rows += matches
        num_groups += read
    return rows, len(files), num_groups, faults


def _of_file(log_file: LogFile, name: str, prediction_id: str) -> tuple[list[LoggedRow], int]:
    rows: list[LoggedRow] = []
    first = num_read = 0
    with pq.ParquetFile(log_file.path) as opened:
        columns = [column for column in SHOWN if column in opened.schema_arrow.names]
        for group, statistics in _row_groups(opened, "prediction_id"):
            count = opened.metadata.row_group(group).num_rows
            if _may_hold(statistics, prediction_id):
                num_read += 1
                ids = opened.read_row_group(group, columns=["prediction_id"])["prediction_id"]
                places = np.flatnonzero(pc.equal(ids, prediction_id).fill_null(False).to_numpy(zero_copy_only=False))
                if len(places):
                    values = opened.read_row_group(group, columns=columns).take(pa.array(places)).to_pylist()
                    for place, own in zip((first + places).tolist(), values, strict=True):
                        rows.append(LoggedRow(name, place, *_numbered(log_file, place), own))
            first += count
    return rows, num_read


def _row_groups(opened: pq.ParquetFile, column: str) -> Iterator[tuple[int, Any]]:
    """Numbers of row groups with the statistics of a column; None where the file has none."""
    metadata = opened.metadata
    names = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(names.index(column)) if column in names else None
        statistics = chunk.statistics if chunk is not None else None
        yield group, statistics if statistics is not None and statistics.has_min_max else None


def _may_hold(statistics: Any, value: str) -> bool:
    return statistics is None or bool(statistics.min <= value <= statistics.max)


def _numbered(log_file: LogFile, place: int) -> tuple[str, int]:
    """Writer of a row of a file, and the number that the row keeps."""
    start = 0
    for span in log_file.spans:
        if place < start + span.count:
            return span.writer, span.first + place - start
        start += span.count
    return log_file.path.stem, place


def rows_by_bundle(folder: Path) -> dict[str, dict[str, int]]:
    """Count the rows of a log by bundle and day; of most row groups the footer tells that they are of one bundle."""
    counts: dict[str, dict[str, int]] = {}
    for day in prediction_log.days(folder):
        for bundle, rows in sorted(_again(_bundles_of_day, day).items()):
            counts.setdefault(bundle, {})[day.name] = rows
    return counts


def _bundles_of_day(day: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for log_file in prediction_log.live(prediction_log.listed(day))[0]:
        if log_file.fault is not None:
            continue
        with pq.ParquetFile(log_file.path) as opened:
            for group, statistics in _row_groups(opened, "bundle"):
                num_rows = opened.metadata.row_group(group).num_rows
                if statistics is not None and statistics.min == statistics.max and not statistics.null_count:
                    counts[statistics.min] += num_rows
                elif "bundle" in opened.schema_arrow.names:
                    values = opened.read_row_group(group, columns=["bundle"])["bundle"]
                    counts.update(value for value in values.to_pylist() if value is not None)
    return counts
