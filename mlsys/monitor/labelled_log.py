"""Read what is new in the log of a model, and put its windows together, each with the labels that have come."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlsys import errors
from mlsys.bundle import Bundle
from mlsys.code_graph import code_digest
from mlsys.monitor import label_match, label_store, log_state, metric_tables, roll_up
from mlsys.monitor.label_match import LabelCounts
from mlsys.monitor.labels import Labels, LabelSource, WrittenLabels
from mlsys.monitor.log_rows import LogRows
from mlsys.monitor.log_scan import IndexedColumns, LogScan
from mlsys.monitor.log_state import LogState
from mlsys.monitor.realised_utility import RealisedUtility
from mlsys.monitor.reference import ReferenceRows
from mlsys.monitor.stored_tables import StoredTables
from mlsys.monitor.windows import Calendar, Window
from mlsys.recipe import Recipe
from mlsys.schema import Role
from mlsys.store import Store, digest_json

TABLES_CODE = metric_tables.__name__
"""The code that makes rows of tables, for those that are kept."""


@dataclass(frozen=True)
class LogSource:
    """The log of a model, and whether what was read of it is kept in the store."""

    store: Store
    name: str
    folder: Path
    is_stored: bool

    def check(self) -> None:
        """Refuse a folder that is not there.

        Raises
        ------
        SourceError
            The message says how a log comes to be.
        """
        if not self.folder.is_dir():
            raise errors.SourceError.build(
                f"monitor: prediction log '{self.folder}'", got="nothing there", expected="the folder of a log",
                hint="the endpoint writes to <store>/predictions/<name>; send it a request first",
            )  # fmt: skip


@dataclass(frozen=True)
class LabelSources:
    """Labels beside those that the store keeps; with `is_first` the latter replace them where both have one."""

    given: LabelSource | None
    is_first: bool
    as_of: dt.datetime | None

    def read(self, store: Store, name: str, bundle: Bundle, recipe: Recipe) -> list[Labels]:
        """All labels, those that count where there are several last."""
        task, id_column = bundle.task, recipe.data.id
        written = label_store.written(store, name, task)
        labels = [Labels.of(each, task, id_column, self.as_of) for each in written if each.frame.height]
        if self.given is None:
            return labels
        options, time_column = bundle.read_options, bundle.schema.name_of(Role.TIME)
        read = WrittenLabels.read(self.given, task, id_column, time_column, options)
        given = Labels.of(read, task, id_column, self.as_of)
        return [given, *labels] if self.is_first else [*labels, given]


@dataclass(frozen=True)
class Scanned:
    """Windows and slices in order of time, what became of the labels, and seconds from event to label."""

    windows: list[Window]
    slices: list[Window]
    counts: LabelCounts | None
    delays: NDArray[np.float64]


@dataclass(frozen=True)
class LabelledLog:
    """A log as it is by now: its state, the tables that are kept of it, and the windows of each calendar."""

    state: LogState
    tables: StoredTables
    scans: list[Scanned]


@dataclass(frozen=True)
class LogReader:
    """Reads the log of a bundle by its calendars and slices, with the columns that its utility is computed of."""

    source: LogSource
    bundle: Bundle
    reference: ReferenceRows
    calendars: Sequence[Calendar]
    slices: Sequence[str]
    utility: RealisedUtility | None

    def read(self, labels: Sequence[Labels], held: contextlib.ExitStack) -> LabelledLog:
        """Read what is new, and put the windows of each calendar together, with their labels.

        Where a state of shorter windows is there, it goes on, and the longer ones are made of it. The state stays open
        with the stack that it is `held` by.
        """
        states = self._states()
        while True:
            folder, calendar = states.pop(0)
            with contextlib.ExitStack() as opened:
                state = opened.enter_context(self._opened(folder, calendar))
                if states and calendar not in self.calendars and not roll_up.is_whole(state):
                    continue
                held.enter_context(opened.pop_all())
            placed = [state if each == calendar else roll_up.of_state(state, each) for each in self.calendars]
            code = code_digest(self.source.store, TABLES_CODE)
            tables = StoredTables(folder if calendar == self.calendars[0] else None, state.window_files, code)
            return LabelledLog(state, tables, [self._labelled(each, labels) for each in placed])

    @property
    def _indexed(self) -> IndexedColumns:
        return {} if self.utility is None else self.utility.indexed

    @contextlib.contextmanager
    def _opened(self, folder: Path | None, calendar: Calendar) -> Iterator[LogState]:
        """The state in a folder, or an empty one, with what is new in the log."""
        bundle, slices, indexed = self.bundle, self.slices, self._indexed
        has_groups = bundle.task.is_ranking
        with log_state.opened(folder, len(slices), has_groups=has_groups, indexed=indexed) as state:
            rows = LogRows(self.source.folder, bundle.schema, bundle.task, bundle.digest)
            state.take(rows, LogScan(self.reference, calendar, slices, indexed))
            yield state

    def _states(self) -> list[tuple[Path | None, Calendar]]:
        """States that windows can be made of: those that are there, the longest windows first, then a new one."""
        names = roll_up.bases([each.granularity for each in self.calendars])
        bases = [replace(self.calendars[0], granularity=each) for each in names]
        if not self.source.is_stored:
            return [(None, bases[0])]
        folders = [(self._state_folder(each), each) for each in bases]
        there = [(folder, each) for folder, each in folders if (folder / "state.json").is_file()]
        return [*there, *(folders[:1] if folders[0] not in there else [])]

    def _state_folder(self, calendar: Calendar) -> Path:
        """Folder of what was read of the log, under the digest of all that it depends on."""
        source = self.source
        code = code_digest(source.store, f"{LogState.__module__}:{LogState.__name__}")
        columns = [column for column, _ in self._indexed.values()]
        by = [calendar.granularity, calendar.timezone, list(self.slices), columns]
        key = digest_json([self.bundle.digest, *by, code])
        return source.store.root / "monitor" / source.name / "log" / key[:32]

    def _labelled(self, state: LogState, labels: Sequence[Labels]) -> Scanned:
        """Give the windows their labels, and put them in order."""
        bundle, utility, counts, delays = self.bundle, self.utility, None, np.empty(0)
        if labels:
            id_column = bundle.schema.name_of(Role.ID)
            is_whole = id_column is not None and bundle.schema[id_column].type == "int64"
            match = label_match.join(labels, state, is_whole_number=is_whole)
            rows = label_match.with_whole_groups(match.rows, state) if bundle.task.is_ranking else match.rows
            rows = rows if utility is None else utility.added(rows)
            delays = label_match.fill(state.windows, rows, bundle.task, self.slices)
            counts = match.counts
        ordered = sorted(state.windows.values(), key=lambda w: (w.start, w.slice_key or "", w.slice_value or ""))
        whole = [window for window in ordered if window.slice_key is None]
        return Scanned(whole, [window for window in ordered if window.slice_key is not None], counts, delays)
