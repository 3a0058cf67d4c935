"""Windows of time: calendar intervals, and what accumulates in each while the log is read.

A window is an hour, a day, a week from Monday or a month in the recipe's time zone. Its rows
are counted by *block* (five minutes of an hour, hours of a day, days of a week or month),
because rows close in time are often alike, and a test that took them as independent would
raise an alarm for every cold spell.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from mlsys.evaluate.recalibration import NUM_CELLS
from mlsys.monitor.reference import PREDICTION, SCORE, ReferenceBins
from mlsys.monitor.row_sample import RowSample
from mlsys.statistics import TableStatistics

Counts = NDArray[np.int64]

GRANULARITIES: dict[str, tuple[str, str, dt.timedelta, int]] = {
    "1 hour": ("1h", "5m", dt.timedelta(minutes=5), 12),
    "1 day": ("1d", "1h", dt.timedelta(hours=1), 25),
    "1 week": ("1w", "1d", dt.timedelta(days=1), 7),
    "1 month": ("1mo", "1d", dt.timedelta(days=1), 31),
}
"""Name in the recipe → window and block in Polars' notation, length of a block, largest number of blocks."""


@dataclass(frozen=True)
class Calendar:
    """Division of time into windows and blocks."""

    granularity: str
    timezone: str = "UTC"

    def place(self, times: pl.Series) -> tuple[pl.Series, Counts]:
        """The start (UTC) of the window of each time, and the number of its block in the window.

        >>> times = pl.Series([dt.datetime(2013, 11, 1, 3, tzinfo=dt.UTC)]).dt.cast_time_unit("us")
        >>> start, block = Calendar("1 week", "America/New_York").place(times)
        >>> start[0].isoformat(), block.tolist()
        ('2013-10-28T04:00:00+00:00', [3])
        """
        every, part, length, _ = GRANULARITIES[self.granularity]
        local = times.dt.convert_time_zone(self.timezone)
        start = local.dt.truncate(every).dt.convert_time_zone("UTC")
        since = local.dt.truncate(part).dt.convert_time_zone("UTC") - start
        microseconds = since.dt.total_microseconds().to_numpy()
        block = np.rint(microseconds / (length / dt.timedelta(microseconds=1))).astype(np.int64)
        return start, block

    def label(self, start: dt.datetime) -> str:
        """Name the window with this start by its hour, its day, the Monday of its week, or its month."""
        forms = {"1 hour": "%Y-%m-%d %H:%M", "1 day": "%Y-%m-%d", "1 week": "week of %Y-%m-%d", "1 month": "%B %Y"}
        return start.astimezone(zoneinfo.ZoneInfo(self.timezone)).strftime(forms[self.granularity])

    def end(self, start: dt.datetime) -> dt.datetime:
        """The exclusive end of the window with this start."""
        every = GRANULARITIES[self.granularity][0]
        local = pl.Series([start]).dt.convert_time_zone(self.timezone)
        end: dt.datetime = local.dt.offset_by(every).dt.convert_time_zone("UTC")[0]
        return end

    @property
    def block_s(self) -> float:
        """Seconds of a block."""
        return GRANULARITIES[self.granularity][2] / dt.timedelta(seconds=1)

    @property
    def max_blocks(self) -> int:
        return GRANULARITIES[self.granularity][3]

    def num_blocks(self, start: dt.datetime) -> int:
        """Number of blocks of the window with this start."""
        return round((self.end(start) - start) / GRANULARITIES[self.granularity][2])


WindowKey: TypeAlias = tuple[dt.datetime, str | None, str | None]
"""Start of a window in UTC, and key and value of its slice."""


@dataclass
class LabelledRows:
    """Labelled predictions of a window, row by row, because metrics of their order cannot be merged.

    Of a ranking these are the rows of whole groups, and `group` tells the groups apart.

    Attributes
    ----------
    time, delay
        Seconds since 1970 of the row, and from then until its label was known, NaN where that is not said.
    utility
        What the prediction of each row was worth, NaN where that is not known; none where nobody said it.
    divided
        Labels of rows of a ranking that are not measured, since their group is not whole.
    void_block
        Blocks of rows that will never have a label of the task.
    weight
        Rows that each row stands for; None where each is one.
    """

    y: list[NDArray[np.float64]] = field(default_factory=list)
    output: list[NDArray[np.float64]] = field(default_factory=list)
    block: list[Counts] = field(default_factory=list)
    group: list[NDArray[np.uint64]] = field(default_factory=list)
    time: list[NDArray[np.float64]] = field(default_factory=list)
    delay: list[NDArray[np.float64]] = field(default_factory=list)
    utility: list[NDArray[np.float64]] = field(default_factory=list)
    divided: list[NDArray[np.float64]] = field(default_factory=list)
    void_block: list[Counts] = field(default_factory=list)
    weight: NDArray[np.float64] | None = None

    @property
    def groups(self) -> NDArray[np.uint64] | None:
        """Hash of the group of each row; None for other tasks than rankings."""
        return np.concatenate(self.group) if self.group else None

    @property
    def utilities(self) -> NDArray[np.float64] | None:
        """The utility of each row; None where nobody said what predictions are worth."""
        return np.concatenate(self.utility) if self.utility else None

    @property
    def num_rows(self) -> int:
        return sum(map(len, self.y))

    def digest(self) -> str:
        """Digest of all that is known of the labels, with the weights of the rows."""
        content = hashlib.blake2b(digest_size=16)
        for part in vars(self).values():
            arrays = part if isinstance(part, list) else [] if part is None else [part]
            content.update(f"{[array.shape for array in arrays]}".encode())
            for array in arrays:
                content.update(np.ascontiguousarray(array).view(np.uint8).data)
        return content.hexdigest()

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], Counts]:
        """Truth (class index or value), model output and block of each row."""
        if not self.y:
            return np.empty(0), np.empty(0), np.empty(0, np.int64)
        return np.concatenate(self.y), np.concatenate(self.output), np.concatenate(self.block)


@dataclass
class Window:
    """Accumulated rows of one window, or of one slice of it, which merge with others of the same window.

    What is known of labels is filled in anew by each run of the monitor and never stored.

    Attributes
    ----------
    counts
        Column → counts of shape (blocks, bins) in the reference's bins.
    scores
        Rows by class and cell of their score (`mlsys.evaluate.recalibration.score_counts`); none in slices.
    sample
        Some of its rows, column beside column; None in slices.
    num_unseen, num_rare
        Values in these rows that training never saw, or too seldom to keep apart.
    num_resolved, num_void
        Rows whose label is known, and rows that will never get one (a cancelled flight).
    num_divided
        Rows of a ranking with a label whose group has none for another of its rows, or was not sent.
    ready_fraction
        Share of the rows that are old enough for their labels to stand for all; None where delays are not known.
    matured
        The rows that performance is measured on, weighted for labels that are still to come; None takes all.
    stamp
        Name of its rows: another one as soon as a row comes into it; empty where they are not kept.
    """

    start: dt.datetime
    end: dt.datetime
    label: str
    statistics: TableStatistics
    slice_key: str | None = None
    slice_value: str | None = None
    partial: bool = False
    num_rows: int = 0
    num_unseen: int = 0
    num_rare: int = 0
    num_resolved: int = 0
    num_void: int = 0
    unknown_labels: int = 0
    num_divided: int = 0
    blocks_seen: set[int] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    counts: dict[str, Counts] = field(default_factory=dict)
    scores: Counts = field(default_factory=lambda: np.zeros((0, NUM_CELLS), np.int64))
    sample: RowSample | None = field(default_factory=lambda: None)  # so that an instance may lack it
    labelled: LabelledRows = field(default_factory=LabelledRows)
    ready_fraction: float | None = None
    matured: LabelledRows | None = None
    stamp: str = ""

    def update(self, rows: pa.Table, bins: Mapping[str, ReferenceBins], block: Counts, max_blocks: int) -> None:
        """Add rows of this window."""
        self.num_rows += rows.num_rows
        self.blocks_seen.update(np.unique(block).tolist())
        if "model_version" in rows.column_names:
            self.versions.update(v for v in rows["model_version"].unique().to_pylist() if v is not None)
        self.statistics.update(rows)
        for name, column in bins.items():
            index, size = column.index(rows[name]), column.size
            counted = np.bincount(block * size + index, minlength=max_blocks * size).reshape(max_blocks, size)
            if column.present_only:
                counted[:, -1] = 0
            self.counts[name] = self.counts.get(name, 0) + counted

    def add_scores(self, scores: Counts) -> None:
        """Add counts of the scores of rows of this window."""
        self.scores = self.scores + scores if len(self.scores) else scores

    def add_sample(self, sample: RowSample | None) -> None:
        """Add a sample of rows of this window."""
        if sample is not None:
            self.sample = sample if self.sample is None else self.sample.merge(sample)

    def merge(self, other: Window) -> None:
        """Add the rows of another part of the same window."""
        self.num_rows += other.num_rows
        self.num_unseen += other.num_unseen
        self.num_rare += other.num_rare
        self.blocks_seen |= other.blocks_seen
        self.versions |= other.versions
        self.statistics = self.statistics.merge(other.statistics)
        for name, counts in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + counts
        if len(other.scores):
            self.add_scores(other.scores)
        self.add_sample(other.sample)

    def take_labels(self, target: str, values: pa.Array) -> None:
        """Add labels of its rows to the statistics of the target."""
        self.statistics.columns[target].update(values)

    def head(self) -> dict[str, Any]:
        """JSON of what is small of it: its place in time, and how many rows it has."""
        return {
            "start": self.start.isoformat(), "end": self.end.isoformat(), "label": self.label,
            "slice_key": self.slice_key, "slice_value": self.slice_value,
            "num_rows": self.num_rows, "num_unseen": self.num_unseen, "num_rare": self.num_rare,
            "blocks_seen": sorted(self.blocks_seen), "versions": sorted(self.versions),
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """All but what is known of labels."""
        return {
            **self.head(),
            "counts": {name: counts.tolist() for name, counts in self.counts.items()},
            "scores": [_sparse(counts) for counts in self.scores],
            "sample": self.sample and self.sample.to_json(),
            "statistics": self.statistics.without_rows().to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**head_of(value), **sketch_of(value))

    @functools.cached_property
    def labels_stamp(self) -> str:
        """Digest of all that is known of its labels; empty where nothing is."""
        counts = self.num_resolved, self.num_void, self.unknown_labels, self.num_divided
        return f"{self.labelled.digest()}-{counts}" if any(counts) else ""

    @property
    def measured_rows(self) -> LabelledRows:
        """The labelled rows that performance is measured on."""
        return self.labelled if self.matured is None else self.matured

    @property
    def key(self) -> WindowKey:
        return self.start, self.slice_key, self.slice_value

    def total(self, column: str) -> Counts:
        """Rows in each bin of a column, over all blocks."""
        total: Counts = self.counts[column].sum(axis=0)
        return total

    @property
    def num_pending(self) -> int:
        """Rows whose label may still come."""
        return self.num_rows - self.num_resolved - self.num_void

    @property
    def coverage(self) -> float:
        """Fraction of the rows that have their label, among those that can have one."""
        num_possible = self.num_rows - self.num_void
        return self.num_resolved / num_possible if num_possible else 0.0


def head_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a window that `Window.head` wrote."""
    return {
        "start": dt.datetime.fromisoformat(value["start"]),
        "end": dt.datetime.fromisoformat(value["end"]),
        "blocks_seen": set(value["blocks_seen"]),
        "versions": set(value["versions"]),
        **{name: value[name] for name in ("label", "slice_key", "slice_value", "num_rows", "num_unseen", "num_rare")},
    }


def sketch_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a window that `Window.to_json` wrote and `Window.head` did not."""
    return {
        "statistics": TableStatistics.from_json(value["statistics"]),
        "counts": {name: np.array(counts, np.int64) for name, counts in value["counts"].items()},
        "scores": np.array([_dense(*entry) for entry in value["scores"]], np.int64).reshape(-1, NUM_CELLS),
        "sample": value["sample"] and RowSample.from_json(value["sample"]),
    }


def rows_beside(window: Window) -> float:
    """Rows of the day of a row of a window, itself among them, in the mean over its rows."""
    counts = window.counts.get(SCORE, window.counts.get(PREDICTION))
    has_days = (window.end - window.start).days > 1
    sizes = counts.sum(axis=1) if has_days and counts is not None else np.array([window.num_rows])
    return float((sizes**2).sum() / max(sizes.sum(), 1))


def _sparse(counts: Counts) -> list[list[int]]:
    """Places of the counts that are not 0, and these."""
    at = np.flatnonzero(counts)
    return [at.tolist(), counts[at].tolist()]


def _dense(at: list[int], counts: list[int]) -> Counts:
    dense = np.zeros(NUM_CELLS, np.int64)
    dense[at] = counts
    return dense


def mark_partial(windows: Sequence[Window], calendar: Calendar, min_rows: int) -> None:
    """Mark the first and the last window as partial unless the log reaches their ends, whatever a stray row says."""
    large = [window for window in windows if window.num_rows >= min_rows]
    for some in filter(None, (windows, large)):
        some[0].partial |= min(some[0].blocks_seen) > 0
        some[-1].partial |= max(some[-1].blocks_seen) < calendar.num_blocks(some[-1].start) - 1
