"""Compare the windows of a table with a baseline table or with each other, by the monitor's rule of an alarm."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from mlsys import errors, expressions
from mlsys.monitor import drift_alarms
from mlsys.monitor.drift_alarms import AlarmRule, Shift
from mlsys.monitor.metric_tables import PROFILE
from mlsys.monitor.reference import ReferenceBins, ReferenceRows
from mlsys.monitor.significance import Dispersion
from mlsys.monitor.table_scan import CustomMetrics, TableScan, TypedTable, reference_of
from mlsys.monitor.windows import GRANULARITIES, Calendar, Window, WindowKey, mark_partial
from mlsys.recipe import MonitorSection, ReadOptions, override
from mlsys.reports import formats
from mlsys.schema import Schema
from mlsys.statistics import TableStatistics

MetricValues: TypeAlias = dict[str, float | None]
"""Custom metric → its value; None where it is not finite or has no rows."""

RULES = ("false_alarm_rate", "min_js_distance", "min_rows")
"""Keys of the section ``monitor`` of a recipe that hold for a table, too."""


@dataclass(frozen=True)
class ProfileRequest:
    """A profile that is asked for.

    Attributes
    ----------
    source, baseline
        The table, and the one that it is compared with: sources as ``data.source`` of a recipe.
    time, granularity
        Column of the time and length of a window; without a column, all rows are one window.
    slices
        Columns, each frequent value of which is profiled by itself, or conditions in SQL.
    metrics
        Name → SQL over the rows of a window that gives a number.
    against
        Windows that a window is compared with where there is no baseline: the one before it that has enough rows, or
        the first such.
    """

    source: str
    baseline: str | None = None
    time: str | None = None
    granularity: str | None = None
    slices: tuple[str, ...] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    against: Literal["previous", "first"] = "previous"
    options: ReadOptions = field(default_factory=ReadOptions)
    rules: MonitorSection = field(default_factory=MonitorSection)

    @classmethod
    def of(cls, source: str, *, settings: Iterable[str] = (), **asked: Any) -> ProfileRequest:
        """Check what is asked, with settings such as ``reading.delimiter=;`` and ``monitor.false_alarm_rate=0.01``.

        Raises
        ------
        RecipeError
            A setting is unknown, or does not go with the others.
        """
        chosen = list(settings)
        rules = [each for each in chosen if each.startswith("monitor.")]
        for each in rules:
            key = each.removeprefix("monitor.").partition("=")[0]
            if key not in RULES:
                expected = ", ".join(f"monitor.{name}" for name in RULES)
                hint = "the others are about predictions, labels and models"
                raise errors.RecipeError.build(f"profile: --set {each}", got=key, expected=expected, hint=hint)
        section = override(MonitorSection(), [each.removeprefix("monitor.") for each in rules])
        options = override(ReadOptions(), [each for each in chosen if each not in rules])
        request = cls(source, options=options, rules=section, **asked)
        request.check()
        return request

    def check(self) -> None:
        """Raise a `RecipeError` for options that do not go together."""
        if self.granularity is not None and self.time is None:
            hint = "name the column of the time, or leave the granularity out"
            raise errors.RecipeError.build("profile: granularity", got="no time", expected="both", hint=hint)
        if self.granularity is not None and self.granularity not in GRANULARITIES:
            expected, hint = ", ".join(GRANULARITIES), errors.did_you_mean(self.granularity, GRANULARITIES)
            raise errors.RecipeError.build("profile: granularity", got=self.granularity, expected=expected, hint=hint)
        if self.against not in ("previous", "first"):
            expected = "previous, or first"
            raise errors.RecipeError.build("profile: against", got=self.against, expected=expected)
        for name in self.metrics:
            if not re.fullmatch(r"[A-Za-z_]\w*", name) or name in PROFILE.names:
                expected = "letters, digits and underscores, and no column of the profile table"
                raise errors.RecipeError.build("profile: metric", got=name, expected=expected)

    @property
    def calendar(self) -> Calendar | None:
        """Windows of time; None for a snapshot."""
        if self.time is None:
            return None
        return Calendar(self.granularity or self.rules.granularities[0], self.options.timezone)


@dataclass
class ProfiledWindow:
    """A window with its shifts and what it was compared with; None where it was not judged.

    Alarms count if the window is complete, or none is.
    """

    window: Window
    compared: Window | None = None
    shifts: list[Shift] = field(default_factory=list)
    counts: bool = False

    @property
    def alarms(self) -> list[Shift]:
        return [shift for shift in self.shifts if shift.alarmed]


@dataclass(frozen=True)
class Counted:
    """Windows and slices of a table, its statistics, and what they were compared with.

    Attributes
    ----------
    reference
        Bins; with a baseline or with windows against the first, their statistics and counts.
    baseline
        All rows of the baseline table as one window.
    metrics
        Values of custom metrics by window, and by None of the baseline.
    """

    table: TypedTable
    statistics: TableStatistics
    reference: ReferenceRows
    windows: list[Window]
    slices: list[Window]
    baseline: Window | None
    metrics: dict[WindowKey | None, MetricValues]
    messages: list[str]
    changes: list[dict[str, Any]]


@dataclass(frozen=True)
class ComparedTable:
    """All windows, the dispersion of each column, and the reference that the tables of metrics have."""

    windows: list[ProfiledWindow]
    dispersion: Mapping[str, Dispersion]
    reference: ReferenceRows


def count(request: ProfileRequest, scratch: Path, now: dt.datetime) -> Counted:
    """Read the table and the baseline, and count their rows in the same bins."""
    # 1. Typed rows, and the statistics from which bins are cut
    table = TypedTable.read(request.source, request.options, scratch / "table", request.time)
    base: TypedTable | None = None
    if request.baseline is not None:
        base = TypedTable.read(request.baseline, request.options, scratch / "baseline", None)
        table = table.alike(base)
    statistics = table.statistics()
    changes = [] if base is None else changed_columns(base.schema, table.schema)
    cut = reference_of(statistics if base is None else base.statistics(), request.time)
    reference = _shared(cut, table.schema, changes)
    # 2. Windows and slices
    metrics = CustomMetrics(request.metrics, table.schema, scratch / "metrics")
    scan = TableScan(table.schema, reference, request.calendar, request.time, request.slices, now)
    for rows in table.batches():
        metrics.add(*scan.add(rows))
    windows = [window for window in scan.ordered() if window.slice_key is None]
    slices = [window for window in scan.ordered() if window.slice_key is not None]
    if request.calendar is not None:
        mark_partial(windows, request.calendar, request.rules.min_rows)
    # 3. The baseline, and sentences about all
    values: dict[WindowKey | None, MetricValues] = dict(metrics.values(request.slices).items())
    baseline = None
    if base is not None:
        baseline, values[None] = _baseline(request, base, reference, scratch, now)
    messages = [*table.messages, *(f"baseline: {each}" for each in (base.messages if base else ()))]
    messages += _left_out(scan, reference)
    return Counted(table, statistics, reference, windows, slices, baseline, values, messages, changes)


def _baseline(
    request: ProfileRequest, base: TypedTable, reference: ReferenceRows, scratch: Path, now: dt.datetime
) -> tuple[Window, MetricValues]:
    """All rows of the baseline as one window, and those custom metrics whose columns it has."""
    of_table = {name: sql for name, sql in request.metrics.items() if _reads(sql, base.schema)}
    metrics = CustomMetrics(of_table, base.schema, scratch / "metrics-baseline")
    scan = TableScan(base.schema, reference, None, None, (), now)
    for rows in base.batches():
        metrics.add(*scan.add(rows))
    values = metrics.values(())
    (window,) = scan.ordered()
    return window, values.get(window.key, {})


def _reads(sql: str, schema: Schema) -> bool:
    """Tell whether a table has all columns that an expression reads."""
    try:
        expressions.aggregate("metric", sql, schema.arrow(), "profile: metric")
    except errors.RecipeError:
        return False
    return True


def _left_out(scan: TableScan, reference: ReferenceRows) -> list[str]:
    messages = []
    if scan.num_untimed:
        messages.append(f"{formats.count(scan.num_untimed, 'row')} without a time: in no window.")
    unwatched = [name for name in reference.bins if name not in reference.watched]
    if unwatched:
        messages.append(f"Profiled and not watched, for they name rows: {', '.join(unwatched)}.")
    return messages


def changed_columns(base: Schema, table: Schema) -> list[dict[str, Any]]:
    """Columns of a baseline that a table does not have, or has with values of another kind."""
    gone = [{"column": c.name, "detail": "not in the table"} for c in base if c.name not in table]
    other = [
        {"column": c.name, "detail": f"{c.kind.value} in the baseline, {table[c.name].kind.value} in the table"}
        for c in base
        if c.name in table and table[c.name].kind is not c.kind
    ]
    return gone + other


def _shared(reference: ReferenceRows, schema: Schema, changes: Sequence[Mapping[str, Any]]) -> ReferenceRows:
    """The reference with bins for those columns alone that a table has as well, of the same kind."""
    changed = {each["column"] for each in changes}
    bins = {name: each for name, each in reference.bins.items() if name in schema and name not in changed}
    watched = tuple(name for name in reference.watched if name in bins)
    others = (column for column in reference.schema if column.name not in schema)
    return replace(reference, schema=Schema(columns=(*schema, *others)), bins=bins, watched=watched)


def judge(request: ProfileRequest, counted: Counted) -> ComparedTable:
    """Compare the windows that have enough rows, each with the baseline, the first or the one before."""
    rules, windows = request.rules, [ProfiledWindow(window) for window in counted.windows]
    large = [each for each in windows if each.window.num_rows >= rules.min_rows]
    complete = [each for each in large if not each.window.partial] or large
    first = counted.baseline
    if first is None and request.against == "first" and complete:
        first = complete[0].window
    watched = {name: counted.reference.bins[name] for name in counted.reference.watched}
    dispersion = drift_alarms.dispersions([each.window for each in large], watched)
    rule = AlarmRule(rules.false_alarm_rate, rules.min_js_distance)
    before: Window | None = None
    for each in large:
        compared = before if first is None else first
        if compared is not None and compared is not each.window:
            each.compared, each.shifts = compared, shifts(each.window, compared, watched, dispersion, rule)
        before = each.window if each in complete else before
    for each in complete:
        each.counts = True
    reference = counted.reference if first is None else _against(counted.reference, first)
    return ComparedTable(windows, dispersion, reference)


def shifts(
    window: Window,
    other: Window,
    bins: Mapping[str, ReferenceBins],
    dispersion: Mapping[str, Dispersion],
    rule: AlarmRule,
) -> list[Shift]:
    """Compare the columns of a window with those of another one, or of a baseline, both counted in the same bins."""
    columns = {
        name: (counted_in(each, other), window.total(name))
        for name, each in bins.items()
        if name in window.counts and name in other.counts
    }
    details = {
        name: drift_alarms.describe(*pair, other.statistics.columns[name], window.statistics.columns[name])
        for name, pair in columns.items()
    }
    return drift_alarms.find(columns, dispersion, rule, {}, details)


def counted_in(bins: ReferenceBins, window: Window) -> ReferenceBins:
    """The bins with the rows of a window as their reference, whose counts are exact."""
    return replace(bins, reference=window.total(bins.name), sketch_rows=np.inf)


def _against(reference: ReferenceRows, window: Window) -> ReferenceRows:
    """The reference with the rows of one window."""
    columns = {name: column for name, column in window.statistics.columns.items() if column.num_rows}
    bins = {name: counted_in(each, window) for name, each in reference.bins.items() if name in window.counts}
    return replace(reference, columns=columns, bins={**reference.bins, **bins})
