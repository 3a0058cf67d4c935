"""The training step: choose a plan, fit, judge on the validation rows, and store the bundle."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import bundle, cluster, models
from mlsys.dataset import Split
from mlsys.evaluate import utility
from mlsys.features.online.views import FeatureView
from mlsys.models.calibration import Calibrated, LabelTemperatures, Temperature
from mlsys.models.families import ensemble
from mlsys.models.families.ensemble import EnsembleParams, Member
from mlsys.models.interface import BlockwiseFamily, DistributedFamily
from mlsys.models.matrix import Matrix, joined
from mlsys.models.target_transform import TargetTransform, Transformed
from mlsys.predict import image_measures
from mlsys.predict.coercion import to_json
from mlsys.recipe import ReadOptions, Recipe
from mlsys.schema import Task
from mlsys.statistics import TableStatistics, TrainStatistics
from mlsys.store import Store
from mlsys.train import devices, judging, model_facts, placement, plans, samples, training_job
from mlsys.train.shares import StreamedBlocks
from mlsys.train.training_job import BOTH, TrainingJob

VALUES_A_THREAD = 5_000_000
"""Values to fit on from which on another thread pays: of 2 million, LightGBM takes three times as long with two."""

MAX_PICTURES, PICTURES_AT_ONCE = 5_000, 64
"""Training pictures that are measured, and rows in memory at a time: a shift of 0.1 needs some hundred."""


def fit(
    store: Store,
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    params: Mapping[str, Any],
    *,
    views: Sequence[FeatureView] = (),
    judged: judging.JudgedRows | None = None,
    max_rows: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> bundle.Bundle:
    """Fit a family on all training rows and store what a prediction needs.

    Features are fitted on the statistics of the training rows; validation rows say when
    boosting stops, where the decision threshold lies, and what predictions look like.
    `views` are the feature tables that rows were joined with. Where a search has `judged` these parameters, its
    predictions say all that, and there is one fit, of the rounds that the parameters name, on at most `max_rows` rows.

    Raises
    ------
    RecipeError
        The family or one of its parameters is not known, the family cannot do such a task, or the utility that chooses
        the threshold cannot be computed.
    StoreError
        The bundle cannot be written.
    """
    models.for_task(family, task, **training_job.demands(recipe))
    utility.check_rule(recipe.evaluate, split.schema, task)
    job, execution = _planned(split, statistics, recipe, task, family, params, progress)
    model, validated, facts = _fitted(store, job, execution, judged, max_rows, progress)
    for line in _findings(model, validated):
        progress(f"{family}: {line}")
    provenance = {
        **model_facts.of_fit(job, execution, model, validated), **facts,
        **_thread_facts(job, execution), **devices.facts(job.device),
    }  # fmt: skip
    names = image_measures.pictures(split.schema)
    pictures = cluster.call(_measure_pictures, split, names, task) if names else None
    stored = bundle.write(
        store,
        task=task,
        schema=split.schema,
        program=job.features.program,
        family=family,
        model=model if validated.temperature is None else Calibrated(model, validated.temperature),
        params=job.params.model_dump(mode="json"),
        threshold=validated.threshold,
        reference=bundle.Reference(statistics.whole().without_rows(), validated.predictions, pictures),
        provenance=provenance,
        example=cluster.call(example, split, bundle.request_columns(split.schema, views, task), threads=1),
        views=views,
        read_options=ReadOptions.of(recipe.data, split.schema),
    )
    if execution.kind == "cluster":
        shutil.rmtree(checkpoints_of(store, job), ignore_errors=True)
    return stored


def _planned(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    params: Mapping[str, Any],
    progress: Callable[[str], None],
) -> tuple[TrainingJob, cluster.ExecutionPlan]:
    """The model to fit, on which device and on how much of the cluster, which is told."""
    checked = training_job.params_of(recipe, family, params)
    features = training_job.fit_program(split.schema, statistics, recipe, family)
    place = training_job.naive_place(features.program.names, task, family)
    target = cluster.call(training_job.fit_target, split, recipe, task, place)
    execution = plans.plan(split, recipe, family, features.program.width, task)
    device = devices.choose(recipe, family, task, checked, features.signs, execution.kind)
    progress(f"{family}: {execution.kind} plan, {execution.reason}")
    note = devices.note(recipe, device, family, task, features.signs, execution.kind)
    if note:
        progress(f"{family}: {note}")
    return TrainingJob(split, features, recipe, task, family, checked, target, device=device), execution


def _fitted(
    store: Store,
    job: TrainingJob,
    execution: cluster.ExecutionPlan,
    judged: judging.JudgedRows | None,
    max_rows: int | None,
    progress: Callable[[str], None],
) -> tuple[Any, judging.ValidationResult, dict[str, Any]]:
    """The model, what the rows say of it that a search has judged or the validation rows, and facts of its rows."""
    by_blocks = execution.kind == "stream" and isinstance(job.learner, BlockwiseFamily)
    if judged is None or (execution.kind != "task" and not by_blocks):
        return *_fit(store, job, execution, progress), {}
    model = _fit_once(job, max_rows, by_blocks=by_blocks)
    validated = cluster.call(judging.judge, job, judged, threads=1)
    is_sampled = max_rows is not None and max_rows < _num_fitted(job)
    return model, validated, {"sampled_rows": max_rows} if is_sampled else {}


def _findings(model: Any, validated: judging.ValidationResult) -> Iterator[str]:
    """Lines about the score, the calibration and labels that could not be learnt."""
    if validated.score is not None:
        yield f"{validated.metric} {validated.score:.4f} on rows that were not fitted on"
    if validated.temperature is not None:
        yield f"probabilities at temperature {_shown(validated.temperature)} lower the log loss"
    of_labels = models.label_models(model)
    if of_labels is not None and of_labels.constant:
        yield f"too few rows have or lack a label, whose rate is its answer: {', '.join(of_labels.constant)}"


def _shown(temperature: Temperature | LabelTemperatures) -> str:
    own = temperature.temperatures if isinstance(temperature, LabelTemperatures) else (temperature.temperature,)
    return ", ".join(f"{number:.3f}" for number in own)


def _fit(
    store: Store, job: TrainingJob, execution: cluster.ExecutionPlan, progress: Callable[[str], None]
) -> tuple[Any, judging.ValidationResult]:
    """Fit, judge on the validation rows, and fit again with them where the recipe wants that."""
    if execution.kind == "task":
        threads = _threads(job)
        placed = {"memory": _memory(job), "gpus": devices.gpus(job.device)}
        return cluster.call(fit_in_task, job, threads, threads=threads, **placed)
    if execution.kind == "stream" and isinstance(job.learner, BlockwiseFamily):
        return cast("tuple[Any, judging.ValidationResult]", _called_by_blocks(job, fit_by_blocks, job))
    if execution.kind == "stream":
        threads = cluster.node_cpus()
        placed = {"memory": _memory(job, streamed=True), "gpus": devices.gpus(job.device)}
        return cluster.call(fit_streamed, job, threads, threads=threads, **placed)
    stored = checkpoints_of(store, job)
    model, validated = cluster.call(_validate_distributed, job, _fit_distributed(store, job, stored, progress))
    params = job.params_of_refit(model)
    if params is None:
        return model, validated
    progress(f"{job.family}: fitting again with the validation rows")
    again = _fit_distributed(store, replace(job, params=params, parts=BOTH), stored, progress)
    return training_job.scaled_as_before(model, again, job.target), validated


def _called_by_blocks(job: TrainingJob, function: Callable[..., Any], *args: Any) -> Any:
    """Call a fit by blocks as a task, in the memory of a block."""
    memory = placement.blocks_bytes(sum(job.split.num_rows.values()), job.features.program.width)
    return cluster.call(function, *args, threads=cluster.node_cpus(), memory=memory)


def checkpoints_of(store: Store, job: TrainingJob) -> Path:
    """The folder in which the fits of a job leave their checkpoints until its bundle is stored."""
    from mlsys.train import distributed

    return store.root / "checkpoints" / distributed.key(job)


def _fit_distributed(store: Store, job: TrainingJob, stored: Path, progress: Callable[[str], None]) -> Any:
    from mlsys.train import distributed

    with store.staging() as folder:
        return distributed.fit(folder, job, stored, progress=progress)


def _fit_once(job: TrainingJob, max_rows: int | None, *, by_blocks: bool = False) -> Any:
    """Fit on training rows, and on validation rows where the recipe wants that: an ensemble's members side by side."""
    if by_blocks:
        return _called_by_blocks(job, _fit_blocks_once, job, max_rows)
    rows, params = cluster.share(_read, job, max_rows), job.params
    if job.is_refitted:
        params = models.family(job.family).grown(job.params, job.growth)
    model: Any
    if isinstance(params, EnsembleParams):
        members = [_of_member(job, member) for member in params.members]
        gpus = max(devices.gpus(member.device) for member in members)
        fitted = cluster.map(_fit_rows, [(rows, member) for member in members], gpus_each=gpus)
        model = ensemble.FAMILY.of(params, fitted)
    else:
        threads = _threads(job)
        given, gpus = (rows, replace(job, params=params)), devices.gpus(job.device)
        model = cluster.call(_fit_rows, given, threads, threads=threads, memory=_memory(job), gpus=gpus)
    return _on_scale_of_search(job, model)


def _fit_blocks_once(job: TrainingJob, max_rows: int | None) -> Any:
    """Fit on the rows of the final fit, or a sample of each block, of which one is in memory at a time."""
    family = cast("BlockwiseFamily[Any, Any]", job.learner)
    share = 1.0 if max_rows is None else min(1.0, max_rows / max(1, _num_fitted(job)))
    blocks = job.streamed(BOTH if job.is_refitted else BOTH[:1], share)
    return _on_scale_of_search(job, family.fit_by_blocks(blocks, job.task, job.params))


def _on_scale_of_search(job: TrainingJob, model: Any) -> Any:
    """A model of the final fit whose rows were judged before: none are held out for the scale of its target."""
    if isinstance(job.target, TargetTransform):
        return Transformed(model, job.target)
    return training_job.scaled_as_before(model, model, job.target)


def _of_member(job: TrainingJob, member: Member) -> TrainingJob:
    """The job of a member of a mean, on the device of the mean where it can be fitted there."""
    device = job.device
    if device != "cpu" and devices.why_not(member.family, job.task, job.features.signs) is not None:
        device = "cpu"
    return replace(job, family=member.family, params=member.fitted, device=device)


def _num_fitted(job: TrainingJob) -> int:
    """Rows that the final fit may have."""
    return sum(job.split.num_rows.get(part, 0) for part in (BOTH if job.is_refitted else BOTH[:1]))


def _thread_facts(job: TrainingJob, execution: cluster.ExecutionPlan) -> dict[str, int]:
    """The threads of a fit by one task, where they are several: sums over rows depend on them."""
    is_mean = isinstance(job.params, EnsembleParams)
    threads = 1 if execution.kind != "task" or is_mean else _threads(job)
    return {} if threads == 1 else {"threads": threads}


def _memory(job: TrainingJob, *, streamed: bool = False) -> int:
    """Memory that a fit by one task needs: of all rows, for those of the validation part are judged beside it."""
    return placement.fit_bytes(sum(job.split.num_rows.values()), job.features.program.width, streamed=streamed)


def _read(job: TrainingJob, max_rows: int | None) -> Matrix:
    """Rows of the final fit; a random sample where they are more than it has time for."""
    rows = joined([job.read(part) for part in (BOTH if job.is_refitted else BOTH[:1])])
    if max_rows is None or rows.num_rows <= max_rows:
        return rows
    if rows.groups is not None:
        return rows.take(samples.drawn_groups(rows.groups, max_rows, job.recipe.seed))
    return rows.take(np.sort(np.random.default_rng(job.recipe.seed).choice(rows.num_rows, max_rows, replace=False)))


def _threads(job: TrainingJob) -> int:
    return useful_threads(sum(job.split.num_rows.values()) * len(job.features.program.names))


def useful_threads(num_values: int) -> int:
    """Threads of a fit on so many values, rows × features: below `VALUES_A_THREAD` each they wait for one another."""
    return max(1, min(cluster.node_cpus(), num_values // VALUES_A_THREAD))


def _fit_rows(given: tuple[cluster.Shared[Matrix], TrainingJob], threads: int = 1) -> Any:
    rows, job = given
    how: dict[str, Any] = {"seed": job.recipe.seed, "threads": threads}
    return job.learner.fit(job.as_fitted(rows.get()), None, job.task, job.params, **how)


def fit_in_task(job: TrainingJob, threads: int) -> tuple[Any, judging.ValidationResult]:
    """Read, transform, fit, validate and fit again in this process."""
    train, validation = job.read("train"), job.read("validation")
    model = job.fit(train, validation, threads)
    return job.refit(model, train, validation, threads), judging.validate(job, model, validation)


def fit_streamed(job: TrainingJob, threads: int) -> tuple[Any, judging.ValidationResult]:
    """Fit, validate and fit again in this process, on rows that are read whenever the family asks for them."""
    how: dict[str, Any] = {"seed": job.recipe.seed, "threads": threads}
    family = cast("DistributedFamily[Any, Any]", job.learner)
    validation = job.read("validation")
    stopping = job.counted(validation) if validation.num_rows else None
    model = family.fit_blocks(job.streamed(BOTH[:1]), stopping, job.task, job.params, **how)
    model = job.on_scale(model, validation if validation.num_rows else job.first_block())
    params, validated = job.params_of_refit(model), judging.validate(job, model, validation)
    if params is None:
        return model, validated
    again = family.fit_blocks(job.streamed(BOTH), None, job.task, params, **how)
    return training_job.scaled_as_before(model, again, job.target), validated


def fit_by_blocks(job: TrainingJob) -> tuple[Any, judging.ValidationResult]:
    """Fit, validate and fit again in this process; one block of the rows is in memory, of those that are judged, too.

    Where the scale of the target needs rows that were not fitted on, they are those of the first such block.
    """
    family = cast("BlockwiseFamily[Any, Any]", job.learner)
    validation = job.as_stored("validation")
    model = family.fit_by_blocks(job.streamed(BOTH[:1]), job.task, job.params)
    model = job.on_scale(model, validation[0] if len(validation) else job.first_block())
    validated = judging.judge(job, _judged_by_blocks(job, model, validation))
    params = job.params_of_refit(model)
    if params is None:
        return model, validated
    again = family.fit_by_blocks(job.streamed(BOTH), job.task, params)
    return training_job.scaled_as_before(model, again, job.target), validated


def _judged_by_blocks(job: TrainingJob, model: Any, blocks: StreamedBlocks) -> judging.JudgedRows:
    """Predict blocks of rows one after another, and keep what they are judged by."""
    parts = [judging.predicted(job, model, blocks[number]) for number in range(len(blocks))]
    parts = parts or [judging.predicted(job, model, job.read("validation"))]
    columns = [[getattr(part, name) for part in parts] for name in ("y", "output", "weight", "groups")]
    return judging.JudgedRows(*(None if values[0] is None else np.concatenate(values) for values in columns))  # type: ignore[arg-type]


def _validate_distributed(job: TrainingJob, model: Any) -> tuple[Any, judging.ValidationResult]:
    matrix = job.read("validation")
    model = job.on_scale(model, matrix)
    return model, judging.validate(job, model, matrix)


def example(split: Split, names: Sequence[str]) -> dict[str, Any]:
    """Choose a row that can be sent as a request: the fullest of the first hundred training rows."""
    records: list[dict[str, Any]] = []
    for path in split.paths("train"):
        batches = pq.ParquetFile(path).iter_batches(batch_size=100, columns=list(names))
        records += next((batch.to_pylist() for batch in batches), [])
        if records:
            break
    fullest = min(records, key=lambda record: sum(value is None for value in record.values()))
    return {name: to_json(value) for name, value in fullest.items()}


def _measure_pictures(split: Split, names: Sequence[str], task: Task) -> TableStatistics:
    """Measure the pictures of every k-th row: at most `MAX_PICTURES` are decoded, however many there are."""
    step = math.ceil(split.num_rows["train"] / MAX_PICTURES)

    def sampled() -> Iterator[pa.Table]:
        first = 0
        for path in split.paths("train"):
            for batch in pq.ParquetFile(path).iter_batches(batch_size=PICTURES_AT_ONCE, columns=list(names)):
                rows = np.arange(-first % step, batch.num_rows, step)
                first += batch.num_rows
                yield pa.table(batch).take(pa.array(rows))

    return image_measures.statistics(sampled(), names, task)
