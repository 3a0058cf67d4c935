"""Read the log, judge every window, decide, and store the judgement: JSON values that the report draws."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, plugins
from mlsys.bundle import Bundle
from mlsys.code_graph import code_digest
from mlsys.deploy.prediction_log import RowSpans
from mlsys.evaluate.baseline import metric_of
from mlsys.monitor import (
    decision,
    estimate,
    judgement_json,
    label_delay,
    metric_tables,
    regions,
    report,
    trained_rows,
    window_comparison,
    window_facts,
)
from mlsys.monitor.decision import Decision, JudgedWindow
from mlsys.monitor.drift_alarms import AlarmRule
from mlsys.monitor.label_delay import LabelDelays
from mlsys.monitor.labelled_log import LabelledLog, LabelSources, LogReader, LogSource, Scanned
from mlsys.monitor.labels import Labels, LabelSource
from mlsys.monitor.performance import Performance, PerformanceLimits
from mlsys.monitor.realised_utility import RealisedUtility
from mlsys.monitor.reference import ReferenceRows
from mlsys.monitor.regions import RegionLoss
from mlsys.monitor.relevance import ModelResponse
from mlsys.monitor.significance import Dispersion
from mlsys.monitor.stored_tables import DRIFT, PROFILE, StoredTables
from mlsys.monitor.window_facts import FactSource
from mlsys.monitor.window_results import WindowResults
from mlsys.monitor.windows import Calendar, Window, mark_partial
from mlsys.readers import registry
from mlsys.recipe import MonitorSection, Recipe
from mlsys.reports import formats
from mlsys.statistics.arrays import jsonable
from mlsys.store import Store, digest_json, write_json

RESULTS_CODE = (window_facts.__name__, regions.__name__, label_delay.__name__)
"""The code that makes results of windows, for those that are kept."""


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


def _absolute(source: Any) -> Any:
    """Make paths absolute, because the task does not run in the caller's folder."""
    if isinstance(source, str | Path):
        return registry.absolute(source)
    return [registry.absolute(path) for path in source] if isinstance(source, list | tuple) else source


@dataclass(frozen=True)
class Monitored:
    """A model, and all that its windows are judged by; `base` is its performance on the test rows."""

    bundle: Bundle
    recipe: Recipe
    baseline: Mapping[str, Any] | None
    reference: ReferenceRows
    base: Performance
    limits: PerformanceLimits
    utility: RealisedUtility | None

    @classmethod
    def of(cls, bundle: Bundle, recipe: Recipe, baseline: Mapping[str, Any] | None) -> Monitored:
        """Put together what a bundle, its recipe and its evaluation say."""
        section = recipe.monitor
        metric, loss, gap = metric_of(bundle, recipe), section.max_metric_loss, section.max_calibration_gap
        limits = PerformanceLimits(metric, loss, gap, recipe.evaluate.confidence, bundle.threshold)
        base, utility = Performance.of(baseline, bundle.task), RealisedUtility.of(baseline, bundle)
        return cls(bundle, recipe, baseline, ReferenceRows.of(bundle), base, limits, utility)

    @property
    def section(self) -> MonitorSection:
        return self.recipe.monitor

    @property
    def calendars(self) -> list[Calendar]:
        """One for each granularity; windows of the first are judged."""
        return [Calendar(each, self.recipe.data.timezone) for each in self.section.granularities]

    @property
    def rules(self) -> dict[str, Any]:
        """Everything that decides about a window and is not a fact of it, as JSON."""
        names, timezone = list(self.section.granularities), self.recipe.data.timezone
        rules = {"metric": self.limits.metric.name, "timezone": timezone, "confidence": self.limits.confidence}
        return {**self.section.model_dump(mode="json"), **rules, "granularity": names[0], "granularities": names}


@dataclass(frozen=True)
class WindowVerdicts:
    """Windows as they were judged, the decision, and what both were made of."""

    windows: list[JudgedWindow]
    decided: Decision
    delays: LabelDelays | None
    dispersion: Mapping[str, Dispersion]
    by_region: Mapping[dt.datetime, Sequence[RegionLoss]]
    facts: FactSource


def _judge(
    source: LogSource,
    bundle: Bundle,
    sources: LabelSources,
    recipe: Recipe,
    baseline: Mapping[str, Any] | None,
    compared: tuple[str, str] | None,
) -> Judgement:
    source.check()
    model = Monitored.of(bundle, recipe, baseline)
    with contextlib.ExitStack() as held:  # the state is ours until the last of its windows was read
        # 1. Read what is new in the log, and the labels
        labels = sources.read(source.store, source.name, bundle, recipe)
        log = _read(model, source, labels, held)
        # 2. Judge every window and decide
        verdict = _verdict(model, source, log, sources.as_of)
        # 3. Store JSON, tables and report
        value = _content(model, source.name, log, verdict)
        digest = _store(source.store, value, log, model.reference, bundle.threshold)
        comparison = None if compared is None else _comparison(model, log.scans[0].windows, compared)
    damage = verdict.facts.results.damage
    folder = source.store.path("monitor", digest)
    return Judgement(value, digest, folder, log.state.seen, comparison, (damage,) if damage else ())


def _read(model: Monitored, source: LogSource, labels: Sequence[Labels], held: contextlib.ExitStack) -> LabelledLog:
    """The windows of the log by each calendar, those that are not over or have few rows marked."""
    section, calendars = model.section, model.calendars
    log = LogReader(source, model.bundle, model.reference, calendars, section.slices, model.utility).read(labels, held)
    for calendar, each in zip(calendars, log.scans, strict=True):
        mark_partial(each.windows, calendar, section.min_rows)
    return log


def _verdict(model: Monitored, source: LogSource, log: LabelledLog, as_of: dt.datetime | None) -> WindowVerdicts:
    """Judge the windows of the first calendar, decide, and compare the regions in which labels came."""
    section, limits, task, scanned = model.section, model.limits, model.bundle.task, log.scans[0]
    facts = _facts(model, source, log.tables.folder)
    observed_at = None if as_of is None else as_of.timestamp()
    delays = label_delay.learn(scanned.windows, task, model.calendars[0].block_s, observed_at, facts.results)
    judged, dispersion = decision.judge_windows(scanned.windows, facts, model.base, section, delays)
    decided = decision.decide(judged, section.retrain_after, limits.metric.title, section.watch_after)
    coverage = section.min_label_coverage
    by_region = regions.losses(scanned.slices, model.baseline, task, limits, coverage, facts.results)
    facts.results.save()
    return WindowVerdicts(judged, decided, delays, dispersion, by_region, facts)


def _facts(model: Monitored, source: LogSource, folder: Path | None) -> FactSource:
    """Facts of windows, with the results that a folder keeps, under all that these depend on beside a window."""
    reference, baseline, limits = model.reference, model.baseline, model.limits
    trained = trained_rows.codes(source.store, source.name, model.bundle, reference)
    shown = window_facts.shown_metrics(reference.task, limits.metric)
    measured = [[each.name for each in shown], limits.confidence, limits.threshold]
    code = [*(code_digest(source.store, each) for each in RESULTS_CODE), plugins.outside_code()]
    key = digest_json([jsonable(baseline), measured, None if trained is None else trained.tolist(), code])
    estimation = estimate.Estimation.of(baseline, reference.task, reference.bins)
    response, results = ModelResponse.of(baseline), WindowResults(folder, key)
    return FactSource(reference, response, estimation, shown, limits, trained, results)


def _content(model: Monitored, name: str, log: LabelledLog, verdict: WindowVerdicts) -> dict[str, Any]:
    """Content of judgement.json, from which the report is drawn."""
    scanned, judged, limits, task = log.scans[0], verdict.windows, model.limits, model.bundle.task
    of_utility = [] if model.utility is None else model.utility.messages(judged)
    return {
        "name": name,
        "bundle": model.bundle.digest,
        "task": task.model_dump(mode="json"),
        "rules": model.rules,
        "decision": verdict.decided.to_json(),
        "log": judgement_json.log_json(log.state),
        "labels": judgement_json.labels_json(scanned.counts, scanned.delays, verdict.delays),
        "messages": [*judgement_json.messages(log.state, scanned.counts), *of_utility],
        "baseline": judgement_json.baseline_json(model.base, limits),
        "estimates": verdict.facts.estimation.to_json(),
        "counts": judgement_json.counts_json(judged),
        "windows": [judgement_json.window_json(each, limits, task, verdict.by_region) for each in judged],
        "columns": judgement_json.columns_json(judged, model.reference, verdict.dispersion),
    }


def _comparison(model: Monitored, windows: Sequence[Window], compared: tuple[str, str]) -> dict[str, Any]:
    """Two windows beside each other, by the alarm rule of the recipe."""
    first, second = (window_comparison.find(windows, each) for each in compared)
    rule = AlarmRule(model.section.false_alarm_rate, model.section.min_js_distance)
    return window_comparison.compare(first, second, model.reference, rule, model.limits.confidence)


def _store(
    store: Store,
    value: dict[str, Any],
    log: LabelledLog,
    reference: ReferenceRows,
    threshold: float | Sequence[float] | None,
) -> str:
    """Write a judgement with its tables, of all granularities, and its report; returns its digest."""

    def fill(folder: Path) -> dict[str, Any]:
        write_json(folder / "judgement.json", value, indent=None)  # it grows with the windows
        parts = [
            _tables(each, reference, granularity, threshold, log.tables if number == 0 else log.tables.of_no_state())
            for number, (granularity, each) in enumerate(zip(value["rules"]["granularities"], log.scans, strict=True))
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
