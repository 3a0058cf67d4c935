"""Read the log, judge every window, decide, and store the judgement: JSON values that the report draws."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import cluster, errors, plugins
from mlsys.bundle import Bundle
from mlsys.code_graph import code_digest
from mlsys.deploy.prediction_log import RowSpans
from mlsys.evaluate.baseline import metric_of
from mlsys.monitor import (
    decision,
    estimate,
    judgement_json,
    label_delay,
    label_match,
    label_store,
    log_state,
    metric_tables,
    regions,
    report,
    roll_up,
    trained_rows,
    window_comparison,
    window_facts,
)
from mlsys.monitor.drift_alarms import AlarmRule
from mlsys.monitor.label_match import LabelCounts
from mlsys.monitor.labels import Labels, LabelSource, WrittenLabels
from mlsys.monitor.log_rows import LogRows
from mlsys.monitor.log_scan import IndexedColumns, LogScan
from mlsys.monitor.log_state import LogState
from mlsys.monitor.performance import Performance, PerformanceLimits
from mlsys.monitor.realised_utility import RealisedUtility
from mlsys.monitor.reference import ReferenceRows
from mlsys.monitor.relevance import ModelResponse
from mlsys.monitor.stored_tables import DRIFT, PROFILE, StoredTables
from mlsys.monitor.window_facts import FactSource
from mlsys.monitor.window_results import WindowResults
from mlsys.monitor.windows import Calendar, Window, mark_partial
from mlsys.readers import registry
from mlsys.recipe import Recipe
from mlsys.reports import formats
from mlsys.schema import Role
from mlsys.statistics.arrays import jsonable
from mlsys.store import Store, digest_json, write_json

TABLES_CODE = metric_tables.__name__
"""The code that makes rows of tables, for those that are kept."""

RESULTS_CODE = (window_facts.__name__, regions.__name__, label_delay.__name__)
"""The code that makes results of windows, likewise."""


@dataclass(frozen=True)
class Judgement:
    """The result of monitoring.

    Attributes
    ----------
    value
        The content of judgement.json.
    folder
        Where it lies, beside the tables and the report.
    seen
        Rows of the log that it knows.
    comparison
        Two windows beside each other, if that was asked for (`window_comparison.compare`).
    damage
        Sentences about what earlier runs had kept and could not be read: it was made again.
    """

    value: dict[str, Any]
    digest: str
    folder: Path
    seen: RowSpans
    comparison: dict[str, Any] | None = None
    damage: tuple[str, ...] = ()

    @property
    def decision(self) -> str:
        """``keep``, ``watch`` or ``retrain``."""
        return str(self.value["decision"]["word"])

    @property
    def exit_code(self) -> int:
        return int(self.value["decision"]["exit_code"])

    @property
    def alarms(self) -> list[str]:
        """Lines for the console on the alarms of the last window, those first that do most."""
        return judgement_json.alarms_in_words(self.value["windows"], self.value["baseline"]["title"])

    @property
    def summary(self) -> str:
        """One line for the console: windows by their verdicts, and the decision."""
        counts = self.value["counts"]
        predictions = formats.count(self.value["log"]["num_rows"], "prediction")
        windows = formats.count(counts["windows"], "window")
        words, headline = judgement_json.counts_in_words(counts), self.value["decision"]["headline"]
        estimated = judgement_json.estimate_in_words(self.value)
        return " ".join([f"{predictions} in {windows} ({words}); {headline}", *estimated])


def compare(
    store: Store,
    name: str,
    bundle: Bundle,
    log: Path,
    labels: LabelSource | None,
    recipe: Recipe,
    *,
    baseline: Mapping[str, Any] | None = None,
    replayed: LabelSource | None = None,
    as_of: dt.datetime | None = None,
    is_stored: bool = False,
    compared: tuple[str, str] | None = None,
) -> Judgement:
    """Judge the predictions of a bundle in one task of the cluster.

    Parameters
    ----------
    log
        Folder of the prediction log. Rows that other bundles answered are counted and left out; a prediction that
        was sent again counts once; a row that cannot be judged is left out with its reason.
    labels
        Table or file with an id, a label and optionally ``known_at``, beside those that the store keeps; None if
        there are none. A null label means that none will come.
    baseline
        JSON of the evaluation on the test rows, or a mapping from metric to value. Without
        it performance is shown but not judged.
    replayed
        Labels of rows that were replayed, used where `labels` are not given.
    as_of
        Labels that became known later are left out, as if they had not come yet.
    is_stored
        What was read of the log is kept in the store, so that the next call reads only what is new.
    compared
        Two windows that are compared with each other besides, by label, date or time.

    Returns
    -------
    The judgement; its JSON, tables and report are in ``objects/monitor/<digest>/``.

    Raises
    ------
    SourceError
        The log or the labels are missing or cannot be read.
    RecipeError
        The labels have no column for the key or the label; a slice names no column.
    ContractError
        No label is a class of the task.
    """
    given = _absolute(replayed if labels is None else labels)
    sources = LabelSources(given, is_first=labels is None, as_of=as_of)
    source = LogSource(store, name, Path(log).absolute(), is_stored=is_stored)
    return cluster.call(_judge, source, bundle, sources, recipe, baseline, compared)


@dataclass(frozen=True)
class LogSource:
    """The log of a model, and whether what was read of it is kept in the store."""

    store: Store
    name: str
    folder: Path
    is_stored: bool


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


def _absolute(source: Any) -> Any:
    """Make paths absolute, because the task does not run in the caller's folder."""
    if isinstance(source, str | Path):
        return registry.absolute(source)
    return [registry.absolute(path) for path in source] if isinstance(source, list | tuple) else source


def _judge(
    source: LogSource,
    bundle: Bundle,
    sources: LabelSources,
    recipe: Recipe,
    baseline: Mapping[str, Any] | None,
    compared: tuple[str, str] | None,
) -> Judgement:
    section, task, store, name = recipe.monitor, bundle.task, source.store, source.name
    if not source.folder.is_dir():
        raise errors.SourceError.build(
            f"monitor: prediction log '{source.folder}'", got="nothing there", expected="the folder of a log",
            hint="the endpoint writes to <store>/predictions/<name>; send it a request first",
        )  # fmt: skip
    # 1. Read what is new in the log, and the labels
    reference = ReferenceRows.of(bundle)
    calendars = [Calendar(each, recipe.data.timezone) for each in section.granularities]
    labels = sources.read(store, name, bundle, recipe)
    utility = RealisedUtility.of(baseline, bundle)
    with contextlib.ExitStack() as held:  # the state is ours until the last of its windows was read
        state, tables, every = _scan(
            source, bundle, reference, labels, calendars, section.slices, utility=utility, held=held
        )
        for calendar, each in zip(calendars, every, strict=True):
            mark_partial(each.windows, calendar, section.min_rows)
        scanned, calendar = every[0], calendars[0]
        # 2. Judge every window and decide
        metric = metric_of(bundle, recipe)
        limits = PerformanceLimits(
            metric, section.max_metric_loss, section.max_calibration_gap, recipe.evaluate.confidence, bundle.threshold
        )
        base = Performance.of(baseline, task)
        observed_at = None if sources.as_of is None else sources.as_of.timestamp()
        facts = _facts(source, bundle, reference, baseline, limits, tables.folder)
        delays = label_delay.learn(scanned.windows, task, calendar.block_s, observed_at, facts.results)
        judged, dispersion = decision.judge_windows(scanned.windows, facts, base, section, delays)
        decided = decision.decide(judged, section.retrain_after, metric.title, section.watch_after)
        # 3. Store JSON, tables and report
        coverage, results = section.min_label_coverage, facts.results
        by_region = regions.losses(scanned.slices, baseline, task, limits, coverage, results)
        results.save()
        rules = {"metric": metric.name, "timezone": calendar.timezone, "confidence": limits.confidence}
        rules |= {"granularity": calendar.granularity, "granularities": list(section.granularities)}
        value = {
            "name": name,
            "bundle": bundle.digest,
            "task": task.model_dump(mode="json"),
            "rules": {**section.model_dump(mode="json"), **rules},
            "decision": decided.to_json(),
            "log": judgement_json.log_json(state),
            "labels": judgement_json.labels_json(scanned.counts, scanned.delays, delays),
            "messages": [
                *judgement_json.messages(state, scanned.counts),
                *([] if utility is None else utility.messages(judged)),
            ],
            "baseline": judgement_json.baseline_json(base, limits),
            "estimates": facts.estimation.to_json(),
            "counts": judgement_json.counts_json(judged),
            "windows": [judgement_json.window_json(each, limits, task, by_region) for each in judged],
            "columns": judgement_json.columns_json(judged, reference, dispersion),
        }
        stored = _store(store, value, every, reference, bundle.threshold, tables)
        comparison = None
        if compared is not None:
            first, second = (window_comparison.find(scanned.windows, each) for each in compared)
            rule = AlarmRule(section.false_alarm_rate, section.min_js_distance)
            comparison = window_comparison.compare(first, second, reference, rule, limits.confidence)
    damage = (results.damage,) if results.damage else ()
    return Judgement(value, stored, store.path("monitor", stored), state.seen, comparison, damage)


def _facts(
    source: LogSource,
    bundle: Bundle,
    reference: ReferenceRows,
    baseline: Mapping[str, Any] | None,
    limits: PerformanceLimits,
    folder: Path | None,
) -> FactSource:
    """Facts of windows, with the results that a folder keeps, under all that these depend on beside a window."""
    trained = trained_rows.codes(source.store, source.name, bundle, reference)
    shown = window_facts.shown_metrics(reference.task, limits.metric)
    measured = [[each.name for each in shown], limits.confidence, limits.threshold]
    code = [*(code_digest(source.store, each) for each in RESULTS_CODE), plugins.outside_code()]
    key = digest_json([jsonable(baseline), measured, None if trained is None else trained.tolist(), code])
    estimation = estimate.Estimation.of(baseline, reference.task, reference.bins)
    response, results = ModelResponse.of(baseline), WindowResults(folder, key)
    return FactSource(reference, response, estimation, shown, limits, trained, results)


def _scan(
    source: LogSource,
    bundle: Bundle,
    reference: ReferenceRows,
    labels: Sequence[Labels],
    calendars: Sequence[Calendar],
    slices: Sequence[str],
    *,
    utility: RealisedUtility | None,
    held: contextlib.ExitStack,
) -> tuple[LogState, StoredTables, list[Scanned]]:
    """Read what is new in the log, and put the windows of each calendar together, with their labels.

    Where a state of shorter windows is there, it goes on, and the longer ones are made of it. The state stays open with
    the stack that it is `held` by.
    """
    indexed: IndexedColumns = {} if utility is None else utility.indexed
    states = _states(source, bundle, calendars, slices, indexed)
    while True:
        folder, calendar = states.pop(0)
        with contextlib.ExitStack() as opened:
            has_groups = bundle.task.is_ranking
            state = opened.enter_context(log_state.opened(folder, len(slices), has_groups=has_groups, indexed=indexed))
            rows = LogRows(source.folder, bundle.schema, bundle.task, bundle.digest)
            state.take(rows, LogScan(reference, calendar, slices, indexed))
            if states and calendar not in calendars and not roll_up.is_whole(state):
                continue
            held.enter_context(opened.pop_all())
        placed = [state if each == calendar else roll_up.of_state(state, each) for each in calendars]
        code = code_digest(source.store, TABLES_CODE)
        tables = StoredTables(folder if calendar == calendars[0] else None, state.window_files, code)
        return state, tables, [_labelled(each, labels, bundle, slices, utility) for each in placed]


def _states(
    source: LogSource, bundle: Bundle, calendars: Sequence[Calendar], slices: Sequence[str], indexed: IndexedColumns
) -> list[tuple[Path | None, Calendar]]:
    """States that windows can be made of: those that are there, the longest windows first, then a new one."""
    names = roll_up.bases([each.granularity for each in calendars])
    bases = [replace(calendars[0], granularity=each) for each in names]
    if not source.is_stored:
        return [(None, bases[0])]
    folders = [(_state_folder(source, bundle, each, slices, indexed), each) for each in bases]
    there = [(folder, each) for folder, each in folders if (folder / "state.json").is_file()]
    return [*there, *(folders[:1] if folders[0] not in there else [])]


def _state_folder(
    source: LogSource, bundle: Bundle, calendar: Calendar, slices: Sequence[str], indexed: IndexedColumns
) -> Path:
    """Folder of what was read of the log, under the digest of all that it depends on."""
    code = code_digest(source.store, f"{LogState.__module__}:{LogState.__name__}")
    columns = [column for column, _ in indexed.values()]
    key = digest_json([bundle.digest, calendar.granularity, calendar.timezone, list(slices), columns, code])
    return source.store.root / "monitor" / source.name / "log" / key[:32]


@dataclass(frozen=True)
class Scanned:
    """Windows and slices in order of time, what became of the labels, and seconds from event to label."""

    windows: list[Window]
    slices: list[Window]
    counts: LabelCounts | None
    delays: NDArray[np.float64]


def _labelled(
    state: LogState, labels: Sequence[Labels], bundle: Bundle, slices: Sequence[str], utility: RealisedUtility | None
) -> Scanned:
    """Give the windows their labels, and put them in order."""
    counts, delays = None, np.empty(0)
    if labels:
        id_column = bundle.schema.name_of(Role.ID)
        is_whole = id_column is not None and bundle.schema[id_column].type == "int64"
        match = label_match.join(labels, state, is_whole_number=is_whole)
        rows = label_match.with_whole_groups(match.rows, state) if bundle.task.is_ranking else match.rows
        rows = rows if utility is None else utility.added(rows)
        delays = label_match.fill(state.windows, rows, bundle.task, slices)
        counts = match.counts
    ordered = sorted(state.windows.values(), key=lambda w: (w.start, w.slice_key or "", w.slice_value or ""))
    whole = [window for window in ordered if window.slice_key is None]
    return Scanned(whole, [window for window in ordered if window.slice_key is not None], counts, delays)


def _store(
    store: Store,
    value: dict[str, Any],
    scans: Sequence[Scanned],
    reference: ReferenceRows,
    threshold: float | Sequence[float] | None,
    tables: StoredTables,
) -> str:
    """Write a judgement with its tables, of all granularities, and its report; returns its digest."""

    def fill(folder: Path) -> dict[str, Any]:
        write_json(folder / "judgement.json", value, indent=None)  # it grows with the windows
        parts = [
            _tables(each, reference, granularity, threshold, tables if number == 0 else tables.of_no_state())
            for number, (granularity, each) in enumerate(zip(value["rules"]["granularities"], scans, strict=True))
        ]
        for name in parts[0]:
            pq.write_table(pa.concat_tables(part[name] for part in parts), folder / name)
        (folder / "report.html").write_text(report.page(value), encoding="utf-8")
        return {"name": value["name"], "bundle": value["bundle"], "decision": value["decision"]["word"]}

    return store.put("monitor", fill)


def _tables(
    scanned: Scanned,
    reference: ReferenceRows,
    granularity: str,
    threshold: float | Sequence[float] | None,
    stored: StoredTables,
) -> dict[str, pa.Table]:
    """Profile and drift table of the windows of one granularity, by file; windows that did not change keep rows."""
    windows = [*scanned.windows, *scanned.slices]
    stored = stored.with_labels(windows)
    schemas = {PROFILE: metric_tables.PROFILE, DRIFT: metric_tables.DRIFT}
    earlier = {name: stored.earlier(name, schema) for name, schema in schemas.items()}
    tables = {
        PROFILE: metric_tables.profile_table(windows, reference, granularity, threshold, earlier[PROFILE]),
        DRIFT: metric_tables.drift_table(windows, reference, granularity, earlier=earlier[DRIFT]),
    }
    for name, table in tables.items():
        stored.save(name, table, earlier[name])
    return tables
