"""A family fitted by Ray Train, for tables that one task should not hold.

Ray Data streams the training files through the feature program into float32 blocks; each
worker keeps its blocks and fits on them in step with the others (boosters sum histograms over
the workers). The arithmetic is that of one task: the family's `fit_blocks`.

Pitfalls of Ray that this file avoids: workers must leave CPUs to Ray Data, or both wait for ever; Ray Train
divides a dataset into equal shares and drops the last few rows that do not fit, so the
validation rows are not given to it: each worker reads its share of the files; a run of a
name that was used before would resume that run, so names are new; results are written below
the store and nowhere else.
"""

from __future__ import annotations

import functools
import importlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, errors, models
from mlsys.models.interface import DistributedFamily
from mlsys.models.matrix import Matrix
from mlsys.train.training_job import TrainingJob

DATA_CPUS = 1.0
"""CPUs of each node that stay with Ray Data, or half of what there is on a node with fewer than two."""

RESTARTS = 1
"""Lost workers that a run survives; it starts anew, for a booster is made in one go."""


def fit(folder: Path, job: TrainingJob, *, progress: Callable[[str], None] = lambda _: None) -> Any:
    """Fit a distributed family on the workers of the cluster and return the model.

    `folder` is an empty one of a new name that every node sees, for Ray Train's state meanwhile.

    Raises
    ------
    ClusterError
        The workers cannot be started, or were lost too often.
    """
    workers, cpus = shape(job.recipe.train.workers)
    progress(f"{job.family}: {workers} workers with {cpus:g} CPUs each")
    note = folder / "progress.json"
    with _Watch(note, lambda number: progress(f"{job.family}: round {number}")):
        return _distributed(job.family).from_bytes(_run(job, folder, note, workers, cpus))


def _distributed(name: str) -> DistributedFamily[Any, Any]:
    family = models.family(name)
    if not isinstance(family, DistributedFamily):
        raise TypeError(f"{name} is fitted by one task")  # `fitting.plan` spreads no other family
    return family


def shape(workers: int | None) -> tuple[int, float]:
    """Choose the number of workers, one a node by default, and the CPUs of each; some are left to Ray Data."""
    total = cluster.num_cpus()
    nodes = max(1, total // cluster.node_cpus())
    count = workers or nodes
    each = max(total - DATA_CPUS * nodes, total / 2) / count
    return count, float(int(each)) if each >= 1 else round(each, 2)


def _dataset(job: TrainingJob) -> Any:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    files = [str(path) for part in job.parts for path in job.split.paths(part)]
    table = ray.data.read_parquet(files).select_columns(job.columns)

    def arrays(rows: pa.Table) -> dict[str, np.ndarray]:
        matrix = job.matrix(rows)
        return {"X": matrix.X, "y": matrix.y}

    return table.map_batches(arrays, batch_format="pyarrow", batch_size=None)


def _run(job: TrainingJob, folder: Path, note: Path, workers: int, cpus: float) -> bytes:
    import ray.train
    from ray.train.v2.api.config import FailureConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    module, name = _distributed(job.family).trainer.split(":")
    trainer = getattr(importlib.import_module(module), name)(
        _worker,
        train_loop_config={"job": job, "threads": max(1, int(cpus)), "note": note},
        scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": cpus}),
        run_config=ray.train.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=RESTARTS, controller_failure_limit=1),
        ),
        datasets={"train": _dataset(job)},
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise _failure(error, workers, cpus) from error
    return bytes(result.return_value)


def _failure(error: Exception, workers: int, cpus: float) -> errors.ClusterError:
    """Turn Ray's error into ours, with the cause that stands last in the worker's traceback."""
    failures = getattr(error, "worker_failures", {})
    text = str(next(iter(failures.values()), error))
    lines = [line for line in text.splitlines() if line and not line[0].isspace()]
    own = text.rfind("mlsys.errors.")
    cause = text[own:] if own >= 0 else lines[-1]
    where = f"train: {workers} workers with {cpus:g} CPUs each"
    got = " ".join(cause.split())[:400]
    hint = "set train.workers to what the cluster holds, or train.plan: task"
    return errors.ClusterError.build(where, got=got, expected="workers that start and finish", hint=hint)


def _worker(loop: dict[str, Any]) -> bytes | None:
    """Fit on a worker's share of the rows, in step with the others; the first worker returns the model."""
    import ray.train

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    job: TrainingJob = loop["job"]
    family = _distributed(job.family)
    model = family.fit_blocks(
        _blocks(job, ray.train.get_dataset_shard("train")),
        validation_share(job, rank, world),
        job.task,
        job.params,
        seed=job.recipe.seed,
        threads=loop["threads"],
        progress=functools.partial(_note, loop["note"] if rank == 0 else None),
    )
    return family.to_bytes(model) if rank == 0 else None


def _blocks(job: TrainingJob, shard: Any) -> list[Matrix]:
    """Collect the worker's training rows: boosters pass over them several times."""
    names, types = tuple(job.features.program.names), tuple(job.features.program.types)
    arrays = shard.iter_batches(batch_size=None, batch_format="numpy")
    blocks = (Matrix(np.ascontiguousarray(a["X"], dtype=np.float32), a["y"], names, types) for a in arrays)
    return [job.as_fitted(block) for block in blocks if block.num_rows]


def validation_share(job: TrainingJob, rank: int, world: int) -> Matrix | None:
    """Read every world-th validation row for each worker; all of them where there are too few to share.

    There are none where they are fitted on.
    """
    total = 0 if "validation" in job.parts else job.split.num_rows.get("validation", 0)
    if total == 0:
        return None
    step, first = (world, rank) if total >= world else (1, 0)
    tables, before = [], 0
    for path in job.split.paths("validation"):
        table = pq.read_table(path, columns=job.columns)
        tables.append(table.take(pa.array(range((first - before) % step, table.num_rows, step), pa.int64())))
        before += table.num_rows
    return job.as_fitted(job.matrix(pa.concat_tables(tables)))


def _note(file: Path | None, number: int) -> None:
    """Write the number of the round where the driver looks for it."""
    if file is None:
        return
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"round": number}), encoding="utf-8")
    beside.replace(file)


class _Watch:
    """A thread of the driver that calls `progress` with each new round of the workers, while they run."""

    def __init__(self, file: Path, progress: Callable[[int], None]) -> None:
        self.file = file
        self.progress = progress
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _follow(self) -> None:
        latest = 0
        while not self.ended.wait(1.0):
            if self.file.is_file():
                number = json.loads(self.file.read_text(encoding="utf-8"))["round"]
                if number != latest:
                    latest = number
                    self.progress(number)
