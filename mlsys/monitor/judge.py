"""Read the log, judge every window, decide, and store the judgement: JSON values that the report draws."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from mlsys.monitor import decision, label_match, label_store, log_state, metric_tables, report
from mlsys.monitor.decision import JudgedWindow
from mlsys.monitor.label_match import LabelCounts
from mlsys.monitor.labels import Labels, LabelSource
from mlsys.monitor.log_rows import LogRows
from mlsys.monitor.log_scan import LogScan
from mlsys.monitor.log_state import LogState
from mlsys.monitor.performance import Performance, PerformanceLimits
from mlsys.monitor.reference import SCORE, ReferenceBins, ReferenceRows
from mlsys.monitor.relevance import ModelResponse
from mlsys.monitor.significance import INDEPENDENT, Dispersion
from mlsys.monitor.windows import Calendar, Window
from mlsys.readers import registry
from mlsys.recipe import Recipe
from mlsys.reports import formats
from mlsys.schema import Role
from mlsys.store import Store, digest_json, write_json

MAX_FAULTS = 5
"""Files of the log that cannot be read and are named one by one."""


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
        return f"{predictions} in {windows} ({_counts_in_words(counts)}); {self.value['decision']['headline']}"


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
        given = Labels.read(self.given, task, id_column, self.as_of, options, time_column)
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
    with log_state.opened(folder, len(section.slices)) as state:
        state.take(LogRows(log, bundle.schema, task, bundle.digest), LogScan(reference, calendar, section.slices))
        scanned = _labelled(state, labels, bundle, section.slices)
    _mark_partial(scanned.windows, calendar, section.min_rows)
    # 2. Judge every window and decide
    metric = metric_of(bundle, recipe)
    limits = PerformanceLimits(
        metric, section.max_metric_loss, section.max_calibration_gap, recipe.evaluate.confidence, bundle.threshold
    )
    base = Performance.of(baseline, task)
    judged, dispersion = decision.judge_windows(
        scanned.windows, reference, base, section, limits, ModelResponse.of(baseline)
    )
    decided = decision.decide(judged, section.retrain_after, metric.title)
    # 3. Store JSON, tables and report
    rules = {"metric": metric.name, "timezone": calendar.timezone, "confidence": limits.confidence}
    value = {
        "name": name,
        "bundle": bundle.digest,
        "task": task.model_dump(mode="json"),
        "rules": {**section.model_dump(mode="json"), **rules},
        "decision": decided.to_json(),
        "log": _log_json(state),
        "labels": _labels_json(scanned),
        "messages": _messages(state, scanned.counts),
        "baseline": _baseline_json(base, limits),
        "counts": _counts_json(judged),
        "windows": [_window_json(each) for each in judged],
        "columns": _columns_json(judged, reference, dispersion),
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
        delays = label_match.fill(state.windows, match.rows, bundle.task, slices)
        counts = match.counts
    ordered = sorted(state.windows.values(), key=lambda w: (w.start, w.slice_key or "", w.slice_value or ""))
    whole = [window for window in ordered if window.slice_key is None]
    return Scanned(whole, [window for window in ordered if window.slice_key is not None], counts, delays)


def _mark_partial(windows: Sequence[Window], calendar: Calendar, min_rows: int) -> None:
    """Mark the first and the last window as partial unless the log reaches their ends, whatever a stray row says."""
    large = [window for window in windows if window.num_rows >= min_rows]
    for some in filter(None, (windows, large)):
        some[0].partial |= min(some[0].blocks_seen) > 0
        some[-1].partial |= max(some[-1].blocks_seen) < calendar.num_blocks(some[-1].start) - 1


def _store(
    store: Store, value: dict[str, Any], windows: Sequence[Window], reference: ReferenceRows, threshold: float | None
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


def _log_json(state: LogState) -> dict[str, Any]:
    """Count the rows of the log that were judged and those that were left out, with the reasons."""
    return {
        "num_rows": state.num_rows,
        "num_duplicates": state.num_duplicates,
        "num_other": state.others.total(),
        "others": dict(sorted(state.others.items())),
        "num_rejected": state.rejected.total(),
        "rejected": dict(sorted(state.rejected.items())),
        "examples": state.examples,
        "misread": dict(sorted(state.misread.items())),
        "other_types": dict(sorted(state.other_types.items())),
        "faults": dict(sorted(state.faults.items())),
    }


def _messages(state: LogState, counts: LabelCounts | None) -> list[str]:
    """Sentences about what was left out of the log and of the labels."""
    lines = [] if counts is None else counts.messages
    for reason, number in sorted(state.rejected.items()):
        lines.append(f"{formats.count(number, 'row')} of the log left out: {reason}.")
    for column, number in sorted(state.misread.items()):
        count = formats.count(number, "value")
        lines.append(f"{count} of '{column}' in the log are not of its type and count as null.")
    for file, reason in sorted(state.faults.items())[:MAX_FAULTS]:
        lines.append(f"File '{file}' of the log is passed over: {reason}.")
    if len(state.faults) > MAX_FAULTS:
        lines.append(f"{len(state.faults) - MAX_FAULTS:,} more files of the log are passed over.")
    if state.others:
        versions = ", ".join(f"{count:,} of version {version}" for version, count in sorted(state.others.items()))
        lines.append(f"Predictions of other versions are judged under their own names: {versions}.")
    for column, kind in sorted(state.other_types.items()):
        lines.append(f"Column '{column}' is of type {kind} in another version; it is compared within its own.")
    return lines


def _labels_json(scanned: Scanned) -> dict[str, Any] | None:
    """Counts of the labels by what became of them, and quantiles of their delays in seconds after the event."""
    if scanned.counts is None:
        return None
    delays = scanned.delays
    quantiles = np.quantile(delays, [0.5, 0.95]).tolist() if len(delays) else None
    return {**asdict(scanned.counts), "delay_s": quantiles and {"median": quantiles[0], "p95": quantiles[1]}}


def _baseline_json(base: Performance, limits: PerformanceLimits) -> dict[str, Any]:
    """Performance on the test rows, and the metric that is judged."""
    return {
        "metrics": {metric: estimate.to_json() for metric, estimate in base.metrics.items()},
        "gap": base.gaps[1].value if 1 in base.gaps else None,
        "observed": base.observed,
        "predicted": base.predicted,
        "metric": limits.metric.name,
        "title": limits.metric.title,
        "greater_is_better": limits.metric.greater_is_better,
    }


def _counts_json(judged: Sequence[JudgedWindow]) -> dict[str, int]:
    """Count windows by result; ``moved`` have drift, ``matter`` drift that matters, ``both`` that and are degraded."""
    verdicts = [each.verdict for each in judged]
    matter = [each.verdict for each in judged if each.moved]
    return {
        "windows": len(judged),
        "judged": len(judged) - verdicts.count("too_few"),
        "measured": sum(each.performance is not None for each in judged),
        "ok": verdicts.count("ok"),
        "moved": sum(bool(each.alarms) for each in judged),
        "matter": len(matter),
        "degraded": verdicts.count("degraded"),
        "both": matter.count("degraded"),
        "too_few": verdicts.count("too_few"),
    }


def _counts_in_words(counts: Mapping[str, int]) -> str:
    """Those counts that are not zero, in words.

    >>> _counts_in_words({"ok": 1, "moved": 9, "matter": 2, "degraded": 3, "both": 2, "too_few": 0})
    '1 ok, 9 with drift, 2 that matter, 3 degraded, 2 both'
    >>> _counts_in_words({"ok": 5, "moved": 1, "matter": 0, "degraded": 0, "both": 0, "too_few": 0})
    '5 ok, 1 with drift, 0 that matter'
    """
    words = {
        "ok": "ok", "moved": "with drift", "matter": "that matter", "degraded": "degraded", "both": "both",
        "too_few": "too few rows",
    }  # fmt: skip
    shown = {key for key in words if counts[key]} | ({"matter"} if counts["moved"] else set())
    return ", ".join(f"{counts[key]} {text}" for key, text in words.items() if key in shown) or "none"


def _window_json(judged: JudgedWindow) -> dict[str, Any]:
    window, measured = judged.window, judged.performance
    gap = None if measured is None else measured.gaps.get(1, measured.gaps.get(0))
    return {
        "label": window.label,
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "partial": window.partial,
        "num_rows": window.num_rows,
        "num_unseen": window.num_unseen,
        "num_rare": window.num_rare,
        "model_versions": sorted(window.versions),
        "verdict": judged.verdict,
        "reasons": judged.reasons,
        "labels": {
            "num_resolved": window.num_resolved,
            "num_pending": window.num_pending,
            "num_void": window.num_void,
            "num_unknown": window.unknown_labels,
            "coverage": window.coverage,
            "mature": measured is not None,
        },
        "metrics": {} if measured is None else {metric: e.to_json() for metric, e in measured.metrics.items()},
        "observed": measured and measured.observed,
        "predicted": _mean_score(window) if measured is None else measured.predicted,
        "gap": gap and gap.to_json(),
        "losses": [] if measured is None else [loss.to_json() for loss in measured.losses],
        "shifts": [shift.to_json() for shift in judged.shifts],
    }


def _mean_score(window: Window) -> float | None:
    column = window.statistics.columns[SCORE]
    return column.numbers.moments.mean if column.numbers is not None and column.numbers.moments.n else None


def _columns_json(
    judged: Sequence[JudgedWindow], reference: ReferenceRows, dispersion: Mapping[str, Dispersion]
) -> list[dict[str, Any]]:
    """Judged columns with their distribution in each window; the one with the largest shift comes first."""
    largest: dict[str, float] = {}
    for shift in (shift for each in judged for shift in each.shifts):
        largest[shift.column] = max(largest.get(shift.column, 0.0), shift.excess)
    columns = []
    for column, excess in sorted(largest.items(), key=lambda item: (-item[1], item[0])):
        bins = reference.bins[column]
        windows = [each.window for each in judged] if column != reference.task.target else []
        columns.append(
            {
                "column": column,
                "kind": bins.kind.value,
                "largest": excess,
                "design_effect": dispersion.get(column, INDEPENDENT).effect,
                "labels": list(bins.labels),
                "reference": _fractions(bins, bins.reference),
                "windows": [_fractions(bins, window.total(column)) for window in windows],
            }
        )
    return columns


def _fractions(bins: ReferenceBins, counts: NDArray[np.int64]) -> list[float]:
    fractions: list[float] = (bins.coarse(counts) / max(counts.sum(), 1)).round(6).tolist()
    return fractions
