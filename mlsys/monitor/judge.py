"""Read the log, judge every window, decide, and store the judgement: JSON values that the report draws."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import cluster, errors
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
    report,
)
from mlsys.monitor.label_match import LabelCounts
from mlsys.monitor.labels import Labels, LabelSource, WrittenLabels
from mlsys.monitor.log_rows import LogRows
from mlsys.monitor.log_scan import LogScan
from mlsys.monitor.log_state import LogState
from mlsys.monitor.performance import Performance, PerformanceLimits
from mlsys.monitor.reference import ReferenceRows
from mlsys.monitor.relevance import ModelResponse
from mlsys.monitor.windows import Calendar, Window, mark_partial
from mlsys.readers import registry
from mlsys.recipe import Recipe
from mlsys.reports import formats
from mlsys.schema import Role
from mlsys.store import Store, digest_json, write_json


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
    """

    value: dict[str, Any]
    digest: str
    folder: Path
    seen: RowSpans

    @property
    def decision(self) -> str:
        """``keep``, ``watch`` or ``retrain``."""
        return str(self.value["decision"]["word"])

    @property
    def exit_code(self) -> int:
        return int(self.value["decision"]["exit_code"])

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
    return cluster.call(_judge, store, name, bundle, Path(log).absolute(), sources, recipe, baseline, is_stored)


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


def _judge(  # noqa: PLR0917
    store: Store,
    name: str,
    bundle: Bundle,
    log: Path,
    sources: LabelSources,
    recipe: Recipe,
    baseline: Mapping[str, Any] | None,
    is_stored: bool,  # noqa: FBT001
) -> Judgement:
    section, task = recipe.monitor, bundle.task
    if not log.is_dir():
        raise errors.SourceError.build(
            f"monitor: prediction log '{log}'", got="nothing there", expected="the folder of a log",
            hint="the endpoint writes to <store>/predictions/<name>; send it a request first",
        )  # fmt: skip
    # 1. Read what is new in the log, and the labels
    reference = ReferenceRows.of(bundle)
    calendar = Calendar(section.granularity, recipe.data.timezone)
    labels = sources.read(store, name, bundle, recipe)
    folder = _state_folder(store, name, bundle, calendar, section.slices) if is_stored else None
    with log_state.opened(folder, len(section.slices), has_groups=task.is_ranking) as state:
        state.take(LogRows(log, bundle.schema, task, bundle.digest), LogScan(reference, calendar, section.slices))
        scanned = _labelled(state, labels, bundle, section.slices)
    mark_partial(scanned.windows, calendar, section.min_rows)
    # 2. Judge every window and decide
    metric = metric_of(bundle, recipe)
    limits = PerformanceLimits(
        metric, section.max_metric_loss, section.max_calibration_gap, recipe.evaluate.confidence, bundle.threshold
    )
    base = Performance.of(baseline, task)
    estimation = estimate.Estimation.of(baseline, task, reference.bins)
    observed_at = None if sources.as_of is None else sources.as_of.timestamp()
    delays = label_delay.learn(scanned.windows, task, calendar.block_s, observed_at)
    judged, dispersion = decision.judge_windows(
        scanned.windows, reference, base, section, limits, ModelResponse.of(baseline),
        estimation=estimation, delays=delays,
    )  # fmt: skip
    decided = decision.decide(judged, section.retrain_after, metric.title, section.watch_after)
    # 3. Store JSON, tables and report
    rules = {"metric": metric.name, "timezone": calendar.timezone, "confidence": limits.confidence}
    value = {
        "name": name,
        "bundle": bundle.digest,
        "task": task.model_dump(mode="json"),
        "rules": {**section.model_dump(mode="json"), **rules},
        "decision": decided.to_json(),
        "log": judgement_json.log_json(state),
        "labels": judgement_json.labels_json(scanned.counts, scanned.delays, delays),
        "messages": judgement_json.messages(state, scanned.counts),
        "baseline": judgement_json.baseline_json(base, limits),
        "estimates": estimation.to_json(),
        "counts": judgement_json.counts_json(judged),
        "windows": [judgement_json.window_json(each, limits) for each in judged],
        "columns": judgement_json.columns_json(judged, reference, dispersion),
    }
    stored = _store(store, value, [*scanned.windows, *scanned.slices], reference, bundle.threshold)
    return Judgement(value, stored, store.path("monitor", stored), state.seen)


def _state_folder(store: Store, name: str, bundle: Bundle, calendar: Calendar, slices: Sequence[str]) -> Path:
    """Folder of what was read of the log, under the digest of all that it depends on."""
    code = code_digest(store, f"{LogState.__module__}:{LogState.__name__}")
    key = digest_json([bundle.digest, calendar.granularity, calendar.timezone, list(slices), code])
    return store.root / "monitor" / name / "log" / key[:32]


@dataclass(frozen=True)
class Scanned:
    """Windows and slices in order of time, what became of the labels, and seconds from event to label."""

    windows: list[Window]
    slices: list[Window]
    counts: LabelCounts | None
    delays: NDArray[np.float64]


def _labelled(state: LogState, labels: Sequence[Labels], bundle: Bundle, slices: Sequence[str]) -> Scanned:
    """Give the windows their labels, and put them in order."""
    counts, delays = None, np.empty(0)
    if labels:
        id_column = bundle.schema.name_of(Role.ID)
        is_whole = id_column is not None and bundle.schema[id_column].type == "int64"
        match = label_match.join(labels, state, is_whole_number=is_whole)
        rows = label_match.with_whole_groups(match.rows, state) if bundle.task.is_ranking else match.rows
        delays = label_match.fill(state.windows, rows, bundle.task, slices)
        counts = match.counts
    ordered = sorted(state.windows.values(), key=lambda w: (w.start, w.slice_key or "", w.slice_value or ""))
    whole = [window for window in ordered if window.slice_key is None]
    return Scanned(whole, [window for window in ordered if window.slice_key is not None], counts, delays)


def _store(
    store: Store,
    value: dict[str, Any],
    windows: Sequence[Window],
    reference: ReferenceRows,
    threshold: float | Sequence[float] | None,
) -> str:
    """Write a judgement with its tables and its report; returns its digest."""
    granularity = value["rules"]["granularity"]

    def fill(folder: Path) -> dict[str, Any]:
        write_json(folder / "judgement.json", value)
        profile = metric_tables.profile_table(windows, reference, granularity, threshold)
        pq.write_table(profile, folder / "profile.parquet")
        pq.write_table(metric_tables.drift_table(windows, reference, granularity), folder / "drift.parquet")
        (folder / "report.html").write_text(report.page(value), encoding="utf-8")
        return {"name": value["name"], "bundle": value["bundle"], "decision": value["decision"]["word"]}

    return store.put("monitor", fill)
