"""Profile any table without a model: a snapshot, or a time series, beside a baseline table or its own windows.

Windows, tables of metrics and the rule of a drift alarm are those of the monitor: a column raises an alarm when its
shift is large and certain (`mlsys.monitor.drift_alarms`). There are no predictions that a shift could move, so every
alarm counts. Columns that name rows are profiled and not watched: their values are new in every table.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.collect.recipe_template import name_of
from mlsys.monitor import table_comparison, table_profile_json, table_report
from mlsys.monitor.metric_tables import TABLE, drift_table, profile_table
from mlsys.monitor.reference import ReferenceRows
from mlsys.monitor.table_comparison import Counted, ProfileRequest
from mlsys.monitor.windows import WindowKey
from mlsys.recipe import set_values
from mlsys.store import write_json


@dataclass(frozen=True)
class TableProfile:
    """The profile of a table.

    Attributes
    ----------
    value
        The content of ``profile.json``.
    folder
        Where it lies, beside tables and report; None if it was not written.
    """

    value: dict[str, Any]
    folder: Path | None = None

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """Drift alarms, and columns that are gone or of another kind than in the baseline."""
        return list(self.value["alarms"])

    @property
    def exit_code(self) -> int:
        """0 without an alarm, 3 with any."""
        return int(self.value["exit_code"])

    @property
    def summary(self) -> str:
        """One line for people."""
        return str(self.value["summary"])

    def to_json(self) -> dict[str, Any]:
        """The profile without distributions and summaries, which are in its files."""
        left_out = ("columns", "summaries")
        value = {name: each for name, each in self.value.items() if name not in left_out}
        return {**value, "folder": None if self.folder is None else str(self.folder)}


def of(
    table: str | Path,
    *,
    baseline: str | Path | None = None,
    time: str | None = None,
    granularity: str | None = None,
    slices: Sequence[str] = (),
    metrics: Mapping[str, str] | None = None,
    against: str = "previous",
    output: Path | str | None = None,
    set: Mapping[str, Any] | Iterable[str] = (),  # noqa: A002  (as --set on the command line)
) -> TableProfile:
    """Profile a table: `profile`, with plain arguments.

    Parameters
    ----------
    table, baseline
        Sources as ``data.source`` of a recipe; columns are compared with those of the baseline.
    time, granularity
        Column of a time, and the length of the windows that are profiled; without it, all rows are one window.
    slices
        Columns or SQL conditions, whose rows are profiled by themselves, too.
    metrics
        Name → SQL over the rows of a window, such as ``{"margin": "avg(price) / avg(cost)"}``.
    against
        Without a baseline, compare a window with the ``previous`` or the ``first`` one that has enough rows.
    output
        Folder for report and tables, which appears whole; nothing is written without.
    set
        How both tables are read, and ``monitor.false_alarm_rate``, ``monitor.min_js_distance``, ``monitor.min_rows``.

    Returns
    -------
    The profile: ``alarms``, ``exit_code`` (3 with alarms), ``summary``, and all numbers in ``value``.
    """
    how: dict[str, Any] = {"time": time, "granularity": granularity, "slices": tuple(slices), "against": against}
    other = None if baseline is None else str(baseline)
    settings = set_values(set)
    request = ProfileRequest.of(str(table), settings=settings, baseline=other, metrics=dict(metrics or {}), **how)
    return profile(request, None if output is None else Path(output))


def profile(request: ProfileRequest, output: Path | None = None, *, now: dt.datetime | None = None) -> TableProfile:
    """Profile a table, in this process: it is streamed, so memory depends on columns and windows, not on rows.

    Parameters
    ----------
    output
        Folder for ``profile.json``, ``profile.parquet``, ``drift.parquet`` and ``report.html``. It appears whole, and
        takes the place of an earlier profile. Typed rows are kept beside it meanwhile, or where temporary files are.
    now
        The time at which a snapshot is taken.

    Raises
    ------
    SourceError, ContractError
        A source is missing, empty or damaged, or more than a hundredth of its rows do not fit.
    RecipeError
        There is no such column, a slice is no condition, a metric gives no number; or another folder is there.
    """
    target = None if output is None else _checked(output)
    beside = None if target is None else target.parent
    if beside is not None:
        beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlsys-profile-", dir=beside) as folder:
        scratch = Path(folder)
        counted = table_comparison.count(request, scratch, now or dt.datetime.now(dt.UTC))
        judged = table_comparison.judge(request, counted)
        value = table_profile_json.value_of(request, counted, judged)
        if target is None:
            return TableProfile(value)
        made = scratch / "made"
        _write(made, request, counted, judged.reference, value)
        _replace(made, target, scratch / "before")
    return TableProfile(value, target)


def default_folder(source: str) -> Path:
    """Folder in which the profile of a source is written where none is named.

    >>> str(default_folder("data/orders.csv"))
    'orders-profile'
    """
    return Path(f"{name_of(source)}-profile")


def _checked(output: Path) -> Path:
    target = Path(output).absolute()
    is_free = not target.exists() or (target.is_dir() and (not any(target.iterdir()) or _is_profile(target)))
    if not is_free:
        expected = "a new folder, or one of an earlier profile"
        raise errors.RecipeError.build("profile: output", got=f"'{output}' is there", expected=expected)
    return target


def _is_profile(folder: Path) -> bool:
    return (folder / "profile.json").is_file()


def _replace(made: Path, target: Path, before: Path) -> None:
    """Move a folder into place; the one that was there goes with the scratch."""
    if target.exists():
        target.rename(before)
    made.rename(target)


def _write(
    folder: Path, request: ProfileRequest, counted: Counted, reference: ReferenceRows, value: dict[str, Any]
) -> None:
    folder.mkdir()
    calendar, windows = request.calendar, [*counted.windows, *counted.slices]
    granularity = None if calendar is None else calendar.granularity
    described = reference if counted.baseline is not None else replace(reference, columns={})
    table = profile_table(windows, described, granularity, None)
    pq.write_table(_with_metrics(table, list(request.metrics), counted.metrics), folder / "profile.parquet")
    has_baseline = counted.baseline is not None or request.against == "first"
    drift = drift_table(windows, reference, granularity, has_baseline=has_baseline)
    pq.write_table(drift, folder / "drift.parquet")
    write_json(folder / "profile.json", value)
    (folder / "report.html").write_text(table_report.page(value), encoding="utf-8")


def _with_metrics(
    table: pa.Table, names: Sequence[str], values: Mapping[WindowKey | None, Mapping[str, float | None]]
) -> pa.Table:
    """The profile table with a column for each custom metric, filled in the rows of the whole table."""
    if not names:
        return table
    starts = pc.struct_field(table["window"], "start").to_pylist()
    keys = (table[name].to_pylist() for name in ("slice_key", "slice_value", "column_name"))
    known: list[Mapping[str, float | None]] = [
        values.get((start, key, value), {}) if column == TABLE else {}
        for start, key, value, column in zip(starts, *keys, strict=True)
    ]
    for name in names:
        table = table.append_column(name, pa.array([each.get(name) for each in known], pa.float64()))
    return table
