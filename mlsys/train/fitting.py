"""The training step: plan, fit, what validation says, bundle.

What the validation rows say of a fitted model: threshold, score, what predictions look like.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import bundle, cluster, models
from mlsys.dataset import Split
from mlsys.evaluate import metrics, threshold
from mlsys.features.online.views import FeatureView
from mlsys.models.matrix import Matrix
from mlsys.predict import HALF, class_names, decide, image_measures
from mlsys.predict.coercion import to_json
from mlsys.recipe import Recipe
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics, TrainStatistics
from mlsys.store import Store
from mlsys.train import rows, training_job
from mlsys.train.training_job import TrainingJob

__all__ = ["LABEL", "Validated", "fit", "fit_in_one_task", "plan", "validate"]

LABEL = "label"
"""Name of the target among the statistics of predictions."""


@dataclass(frozen=True)
class Validated:
    """What the validation rows say of a fitted model.

    Attributes
    ----------
    threshold
        Decision threshold of a binary model, by the recipe's rule; None otherwise.
    metric, score
        The recipe's metric and its value; the value is None without validation rows.
    predictions
        Statistics of ``prediction``, ``score`` and ``label``; None without validation rows.
    """

    threshold: float | None
    metric: str
    score: float | None
    predictions: TableStatistics | None


def validate(job: TrainingJob, model: Any, validation: Matrix | None = None) -> Validated:
    """Predict the validation rows, which are read here unless they are given."""
    matrix = job.read("validation") if validation is None else validation
    output = models.family(job.family).predict(model, matrix.X)
    cut = _threshold(job, matrix.y, output)
    metric = metrics.find(job.recipe.selection.metric, job.task.kind).name
    if not matrix.num_rows:
        return Validated(cut, metric, None, None)
    score = metrics.measure(metric, matrix.y, output, HALF if cut is None else cut)
    return Validated(cut, metric, float(score), _statistics(job.task, matrix.y, output, cut))


def _threshold(job: TrainingJob, y: NDArray[np.float64], output: NDArray[np.float64]) -> float | None:
    if job.task.kind is not TaskKind.BINARY:
        return None
    return threshold.choose(y, output[:, 1], job.recipe.evaluate.threshold, job.recipe.evaluate.cost)


def _statistics(task: Task, y: NDArray[np.float64], output: NDArray[np.float64], cut: float | None) -> TableStatistics:
    """Statistics of what the model says, decided as `Predictor` decides, and of the labels."""
    said = decide(task, output, cut)
    if task.is_classification:
        names = dict(zip(task.classes, class_names(task), strict=True))
        prediction = pa.array([names[value] for value in said.prediction.tolist()])
        label = pa.array([names[task.classes[int(index)]] for index in y])
        named = Task(kind=task.kind, target=LABEL, classes=tuple(names.values()))
        kind = Kind.CATEGORICAL
    else:
        prediction, label = pa.array(said.prediction), pa.array(y)
        named = Task(kind=task.kind, target=LABEL)
        kind = Kind.NUMERIC
    schema = Schema(
        columns=(
            Column(name="prediction", type=str(prediction.type), kind=kind),
            Column(name="score", type="double", kind=Kind.NUMERIC),
            Column(name=LABEL, type=str(label.type), kind=kind, role=Role.TARGET),
        )
    )
    statistics = TableStatistics.empty(schema, named)
    statistics.update(pa.table({"prediction": prediction, "score": said.score, LABEL: label}))
    return statistics


Tell = Callable[[str], None]

MAX_LOOKED_AT, LOOKED_AT_ONCE = 5_000, 64
"""Training pictures whose looks are kept, and rows in memory at a time: a shift of 0.1 needs some hundred."""

LIBRARIES = {"linear": ("scikit-learn",), "forest": ("scikit-learn",), "kernel": ("scipy",), "xgboost": ("xgboost",)}
"""Distributions that fit a family, beside NumPy; their versions are kept with the model."""


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
    progress: Tell = lambda _: None,
) -> bundle.Bundle:
    """Fit a family on all training rows and store what a prediction needs.

    Features are fitted on the statistics of the training rows; validation rows say when
    boosting stops, where the decision threshold lies, and what predictions look like.
    `views` are the feature tables that rows were joined with.

    Raises
    ------
    RecipeError
        The family or one of its parameters is not known.
    StoreError
        The bundle cannot be written.
    """
    whole = statistics.whole()
    chosen = training_job.params_of(recipe, family, params)
    job = TrainingJob(split, rows.fit_program(split.schema, statistics, recipe, family), recipe, task, family, chosen)
    how = plan(split, recipe, family)
    progress(f"{family}: {how.kind} plan, {how.reason}")
    model, validated = _fit(store, job, how, progress)
    if validated.score is not None:
        count = split.num_rows["validation"]
        progress(f"{family}: {validated.metric} {validated.score:.4f} on {count:,} validation rows")
    return bundle.write(
        store,
        task=task,
        schema=split.schema,
        program=job.features.program,
        family=family,
        model=model,
        params=chosen.model_dump(mode="json"),
        threshold=validated.threshold,
        reference=bundle.Reference(whole.without_rows(), validated.predictions, _looks(split, task)),
        provenance=_provenance(job, how, model, validated),
        example=cluster.call(example, split, bundle.request_columns(split.schema, views), threads=1),
        views=views,
    )


def plan(split: Split, recipe: Recipe, family: str) -> cluster.ExecutionPlan:
    """One task or the cluster; only XGBoost can be spread."""
    num_rows = split.num_rows["train"]
    if family != "xgboost":
        return cluster.ExecutionPlan("task", f"{num_rows:,} rows: {family} is fitted by one task, whatever the size")
    num_bytes = sum(_bytes_in_memory(pq.read_metadata(path)) for path in split.paths("train"))
    return cluster.plan(num_rows, num_bytes, recipe.train.plan)


def _bytes_in_memory(metadata: Any) -> int:
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def _fit(store: Store, job: TrainingJob, how: cluster.ExecutionPlan, progress: Tell) -> tuple[Any, Validated]:
    if how.kind == "task":
        threads = cluster.node_cpus()
        return cluster.call(fit_in_one_task, job, threads, threads=threads)
    from mlsys.train import distributed

    with store.staging() as folder:
        model = distributed.fit(folder, job, progress=progress)
    return model, cluster.call(validate, job, model)


def fit_in_one_task(job: TrainingJob, threads: int) -> tuple[Any, Validated]:
    """Read, transform, fit and validate in this process."""
    validation = job.read("validation")
    model = job.fit(job.read("train"), validation, threads)
    return model, validate(job, model, validation)


def example(split: Split, names: Sequence[str]) -> dict[str, Any]:
    """A row that can be sent as a request: the fullest of the first hundred training rows."""
    records: list[dict[str, Any]] = []
    for path in split.paths("train"):
        batches = pq.ParquetFile(path).iter_batches(batch_size=100, columns=list(names))
        records += next((batch.to_pylist() for batch in batches), [])
        if records:
            break
    fullest = min(records, key=lambda record: sum(value is None for value in record.values()))
    return {name: to_json(value) for name, value in fullest.items()}


def _looks(split: Split, task: Task) -> TableStatistics | None:
    """What the pictures of training rows look like; None where there are none."""
    names = image_measures.pictures(split.schema)
    return cluster.call(_looks_of, split, names, task) if names else None


def _looks_of(split: Split, names: Sequence[str], task: Task) -> TableStatistics:
    """Of every k-th row, so that `MAX_LOOKED_AT` pictures are decoded however many there are."""
    step = math.ceil(split.num_rows["train"] / MAX_LOOKED_AT)

    def sampled() -> Iterator[pa.Table]:
        first = 0
        for path in split.paths("train"):
            for batch in pq.ParquetFile(path).iter_batches(batch_size=LOOKED_AT_ONCE, columns=list(names)):
                rows = np.arange(-first % step, batch.num_rows, step)
                first += batch.num_rows
                yield pa.table(batch).take(pa.array(rows))

    return image_measures.statistics(sampled(), names, task)


def _provenance(job: TrainingJob, how: cluster.ExecutionPlan, model: Any, validated: Validated) -> dict[str, Any]:
    libraries = ("mlsys", "numpy", *LIBRARIES.get(job.family, ()))
    return {
        "split": job.split.digest,
        "num_rows": dict(sorted(job.split.num_rows.items())),
        "seed": job.recipe.seed,
        "plan": f"{how.kind}: {how.reason}",
        "rounds": getattr(model, "rounds", None),
        "validation": {"metric": validated.metric, "score": validated.score},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in libraries},
        },
    }
