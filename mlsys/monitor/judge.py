"""Read the log, judge every window, decide, and store the judgement: JSON values that the report draws."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import cluster
from mlsys.bundle import Bundle
from mlsys.evaluate.baseline import metric_of
from mlsys.monitor import decision, log_scan, metric_tables, report
from mlsys.monitor.decision import JudgedWindow
from mlsys.monitor.labels import Labels, LabelSource
from mlsys.monitor.log_scan import LoggedFiles, LogScan, files_of
from mlsys.monitor.performance import Performance, PerformanceLimits
from mlsys.monitor.reference import SCORE, ReferenceBins, ReferenceRows
from mlsys.monitor.significance import INDEPENDENT, Dispersion
from mlsys.monitor.windows import Calendar, Window
from mlsys.readers import registry
from mlsys.recipe import Recipe
from mlsys.reports import formats
from mlsys.store import Store, write_json

LogSource: TypeAlias = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Judgement:
    """The result of monitoring: the content of judgement.json as `value`, and the folder of tables and report."""

    value: dict[str, Any]
    digest: str
    folder: Path

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
    log: LogSource,
    labels: LabelSource | None,
    recipe: Recipe,
    *,
    baseline: Mapping[str, Any] | None = None,
    as_of: dt.datetime | None = None,
) -> Judgement:
    """Judge the predictions of a bundle in one task of the cluster.

    Parameters
    ----------
    log
        Parquet files of the prediction log, or folders of them. Rows that other bundles
        answered are counted and left out; a repeated prediction_id counts once.
    labels
        Table or file with an id, a label and optionally ``known_at``; None if there are none.
        A null label means that none will come.
    baseline
        JSON of the evaluation on the test rows, or a mapping from metric to value. Without
        it performance is shown but not judged.
    as_of
        Labels that became known later are left out, as if they had not come yet.

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
    return cluster.call(_judge, store, name, bundle, _absolute(log), _absolute(labels), recipe, baseline, as_of)


def _absolute(source: Any) -> Any:
    """Make paths absolute, because the task does not run in the caller's folder."""
    if isinstance(source, str | Path):
        return registry.absolute(source)
    return [registry.absolute(path) for path in source] if isinstance(source, list | tuple) else source


def _judge(  # noqa: PLR0917
    store: Store,
    name: str,
    bundle: Bundle,
    log: LogSource,
    labels: LabelSource | None,
    recipe: Recipe,
    baseline: Mapping[str, Any] | None,
    as_of: dt.datetime | None,
) -> Judgement:
    section, task = recipe.monitor, bundle.task
    # 1. Read the log and the labels
    reference = ReferenceRows.of(bundle)
    calendar = Calendar(section.granularity, recipe.data.timezone)
    files = LoggedFiles(files_of(log), bundle.schema, bundle.digest)
    truth = None if labels is None else Labels.read(labels, task, recipe.data.id, as_of, bundle.read_options)
    scan = log_scan.read(files, reference, calendar, truth, section.slices)
    # 2. Judge every window and decide
    metric = metric_of(bundle, recipe)
    limits = PerformanceLimits(
        metric, section.max_metric_loss, section.max_calibration_gap, recipe.evaluate.confidence, bundle.threshold
    )
    base = Performance.of(baseline, task)
    judged, dispersion = decision.judge_windows(scan.windows, reference, base, section, limits)
    decided = decision.decide(judged, section.retrain_after, metric.title)
    # 3. Store JSON, tables and report
    rows = {name: getattr(files, name) for name in ("num_rows", "num_duplicates", "num_other", "num_without_time")}
    rules = {"metric": metric.name, "timezone": calendar.timezone, "confidence": limits.confidence}
    value = {
        "name": name,
        "bundle": bundle.digest,
        "task": task.model_dump(mode="json"),
        "rules": {**section.model_dump(mode="json"), **rules},
        "decision": decided.to_json(),
        "log": {"num_files": len(files.files), **rows},
        "labels": _labels_json(truth, scan.delays),
        "baseline": _baseline_json(base, limits),
        "counts": _counts_json(judged),
        "windows": [_window_json(each) for each in judged],
        "columns": _columns_json(judged, reference, dispersion),
    }
    return _store(store, value, scan, reference, bundle.threshold)


def _store(
    store: Store, value: dict[str, Any], scan: LogScan, reference: ReferenceRows, threshold: float | None
) -> Judgement:
    windows, granularity = [*scan.windows, *scan.slices], value["rules"]["granularity"]

    def fill(folder: Path) -> dict[str, Any]:
        write_json(folder / "judgement.json", value)
        profile = metric_tables.profile_table(windows, reference, granularity, threshold)
        pq.write_table(profile, folder / "profile.parquet")
        pq.write_table(metric_tables.drift_table(windows, reference, granularity), folder / "drift.parquet")
        (folder / "report.html").write_text(report.page(value), encoding="utf-8")
        return {"name": value["name"], "bundle": value["bundle"], "decision": value["decision"]["word"]}

    digest = store.put("monitor", fill)
    return Judgement(value, digest, store.path("monitor", digest))


def _labels_json(truth: Labels | None, delays: NDArray[np.float64]) -> dict[str, Any] | None:
    """Number of labels, and the median and 95 % quantile of their delays in seconds after the event."""
    if truth is None:
        return None
    quantiles = np.quantile(delays, [0.5, 0.95]).tolist() if len(delays) else None
    delay = quantiles and {"median": quantiles[0], "p95": quantiles[1]}
    return {"num_rows": truth.frame.height, "num_repeated": truth.num_repeated, "delay_s": delay}


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
    """Count windows by result; ``moved`` and ``degraded`` overlap by ``both``."""
    verdicts = [each.verdict for each in judged]
    moved = [each.verdict for each in judged if each.alarms]
    return {
        "windows": len(judged),
        "judged": len(judged) - verdicts.count("too_few"),
        "measured": sum(each.performance is not None for each in judged),
        "ok": verdicts.count("ok"),
        "moved": len(moved),
        "degraded": verdicts.count("degraded"),
        "both": moved.count("degraded"),
        "too_few": verdicts.count("too_few"),
    }


def _counts_in_words(counts: Mapping[str, int]) -> str:
    """Those counts that are not zero, in words.

    >>> _counts_in_words({"ok": 1, "moved": 9, "degraded": 3, "both": 2, "too_few": 0})
    '1 ok, 9 with drift alarms, 3 degraded, 2 both'
    >>> _counts_in_words({"ok": 0, "moved": 0, "degraded": 0, "both": 0, "too_few": 0})
    'none'
    """
    words = {
        "ok": "ok", "moved": "with drift alarms", "degraded": "degraded", "both": "both", "too_few": "too few rows",
    }  # fmt: skip
    return ", ".join(f"{counts[key]} {text}" for key, text in words.items() if counts[key]) or "none"


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
