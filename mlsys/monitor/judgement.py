"""Step 9 as one function: read the log, judge every window, decide, store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.bundle import Bundle
from mlsys.evaluate import metrics
from mlsys.monitor import drift_table, facts, maintain, profile_table, render, scan, verdicts
from mlsys.monitor.delayed import Labels
from mlsys.monitor.health import Limits
from mlsys.monitor.log import Log, files_of
from mlsys.monitor.performance import Baseline
from mlsys.monitor.scan import Reference, Scan
from mlsys.monitor.windows import Calendar
from mlsys.recipe import Recipe
from mlsys.store import Store, write_json

__all__ = ["Judgement", "LabelSource", "LogSource", "judge"]

LogSource: TypeAlias = str | Path | Sequence[str | Path]
LabelSource: TypeAlias = str | Path | pa.Table | None


@dataclass(frozen=True)
class Judgement:
    """What the monitor says, as plain JSON values, and where its tables are.

    Attributes
    ----------
    value
        Everything that a report needs.
    folder
        ``objects/monitor/<digest>/``: judgement.json, profile.parquet, drift.parquet, report.html.
    """

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
    def headline(self) -> str:
        return str(self.value["decision"]["headline"])

    @property
    def summary(self) -> str:
        """One line: windows by what was found in them, and the decision."""
        found = self.value["counts"]
        many = f"{found['windows']} window{'' if found['windows'] == 1 else 's'}"
        return f"{self.value['log']['num_rows']:,} predictions in {many} ({facts.counted(found)}); {self.headline}"

    def to_json(self) -> dict[str, Any]:
        return self.value


def judge(
    store: Store,
    name: str,
    bundle: Bundle,
    log: LogSource,
    labels: LabelSource,
    *,
    recipe: Recipe,
    baseline: Mapping[str, Any] | None = None,
    as_of: dt.datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Judgement:
    """Judge the traffic of a bundle, in this process; see `mlsys.monitor.compare`."""
    section, task = recipe.monitor, bundle.task
    reference = Reference.of(bundle)
    calendar = Calendar(section.granularity, recipe.data.timezone)
    reading = Log(files_of(log), bundle.schema, bundle.digest)
    truth = None if labels is None else Labels.read(labels, task, recipe.data.id, as_of)
    found = scan.read(reading, reference, calendar, truth, slices=section.slices, progress=progress)
    progress(f"judging {len(found.windows)} windows")
    metric = metrics.find(recipe.selection.metric, task.kind)
    limits = Limits(
        metric, section.max_metric_loss, section.max_calibration_gap, recipe.evaluate.confidence, bundle.threshold
    )
    base = Baseline.of(baseline, task)
    judged, spread = verdicts.judge_windows(found.windows, reference, base, section, limits)
    named = [verdicts.verdict_of(one, facts.name(one.window, calendar)) for one in judged]
    decision = maintain.decide(named, section.retrain_after, metric.title)
    rules = {"metric": metric.name, "timezone": calendar.timezone, "confidence": limits.confidence}
    value = {
        "name": name,
        "bundle": bundle.digest,
        "task": task.model_dump(mode="json"),
        "rules": {**section.model_dump(mode="json"), **rules},
        "decision": decision.to_json(),
        "log": facts.log(reading),
        "labels": facts.labels(truth, found.delays),
        "baseline": facts.baseline(base, limits),
        "counts": facts.counts(judged),
        "windows": [facts.window(one, calendar) for one in judged],
        "columns": facts.columns(judged, reference, spread),
    }
    return _store(store, value, found, reference, bundle.threshold)


def _store(
    store: Store, value: dict[str, Any], found: Scan, reference: Reference, threshold: float | None
) -> Judgement:
    windows, granularity = [*found.windows, *found.slices], value["rules"]["granularity"]

    def fill(folder: Path) -> dict[str, Any]:
        write_json(folder / "judgement.json", value)
        profile = profile_table.profile_table(windows, reference, granularity, threshold)
        pq.write_table(profile, folder / "profile.parquet")
        pq.write_table(drift_table.drift_table(windows, reference, granularity), folder / "drift.parquet")
        (folder / "report.html").write_text(render.page(value), encoding="utf-8")
        return {"name": value["name"], "bundle": value["bundle"], "decision": value["decision"]["word"]}

    digest = store.put("monitor", fill)
    return Judgement(value, digest, store.path("monitor", digest))
