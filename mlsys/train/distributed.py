"""A family fitted by Ray Train, for tables that one task should not hold.

Each worker reads its share of the training files, makes their features, and fits on them in step with the others
(boosters sum histograms over the workers). The arithmetic is that of one task: the family's `fit_blocks`.

A worker, the driver or a machine may die at any moment. The first worker leaves a checkpoint in the store every
some rounds; workers that take the place of others (`replacement`), and a driver that runs again, go on from there, and
end with the bytes of a fit that nothing disturbed.

Pitfalls of Ray that this file avoids: its division of a dataset drops rows (`shares`); a run of a name that was used
before would resume that run, so names are new; a cluster without room is asked once, or some times when workers had
room there before, and not for ever; results are written below the store and nowhere else.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from mlsys import cluster, errors, models
from mlsys.models.interface import DistributedFamily, Group
from mlsys.models.matrix import Matrix
from mlsys.store import digest_json, read_json
from mlsys.train import checkpoints, devices, placement
from mlsys.train.checkpoints import StoredCheckpoints
from mlsys.train.placement import Placement
from mlsys.train.training_job import TrainingJob

T = TypeVar("T")

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""Variable of the seconds for which Ray waits for room for all workers (`mlsys.cluster.settings`)."""

TRIES = 3
"""Groups of workers that may be lost one after another without a new checkpoint in between."""

LOST = "a worker was lost"


@dataclass(frozen=True)
class _Work:
    """The work of each worker: it fits a job, leaves checkpoints in a folder, and notes its round in a file."""

    job: TrainingJob
    placement: Placement
    checkpoints: Path
    note: Path

    @property
    def replacement(self) -> Path:
        """The file of the round after which a worker that died was replaced."""
        return self.note.with_name("replaced.json")


def fit(folder: Path, job: TrainingJob, stored: Path, *, progress: Callable[[str], None] = lambda _: None) -> Any:
    """Fit a distributed family on the workers of the cluster and return the model.

    `folder` is an empty one that every node sees, for Ray Train's state meanwhile; checkpoints are in a folder of
    `stored`, and stay there.

    Raises
    ------
    ClusterError
        The workers cannot be started, or were lost too often.
    MlsysError
        Of any other kind: a worker raised it.
    """
    left = stored / key(job)
    shape = _shape(job, left)
    progress(f"{job.family}: {shape}")
    reached = checkpoints.newest(left)
    if reached:
        progress(f"{job.family}: going on after round {reached}, of which there is a checkpoint")
    work = _Work(job, shape, left, folder / "progress.json")
    with _Watch(work, progress):
        return distributed_family(job.family).from_bytes(_survive(work, folder, progress))


def _shape(job: TrainingJob, left: Path) -> Placement:
    """The shape of the workers that left checkpoints, on which the model depends, or a new one.

    CPUs of workers whose driver was just killed are not free yet; a cluster that has shrunk begins anew.
    """
    before = Placement.read(left)
    if before is not None and before.fits(cluster.nodes()):
        return before
    shutil.rmtree(left, ignore_errors=True)
    fitted, judged = sum(job.split.num_rows[part] for part in job.parts), _num_judged(job)
    rows = (fitted + judged, 0) if distributed_family(job.family).shares_validation else (fitted, judged)
    width, workers = job.features.program.width, job.recipe.train.workers
    wish = {"rows_of_all": rows[1], "gpus": devices.gpus(job.device)}
    shape = placement.place(cluster.free_nodes(), rows[0], width, workers, **wish)
    shape.write(left)
    return shape


def distributed_family(name: str) -> DistributedFamily[Any, Any]:
    """The family of that name, which Ray Train can spread."""
    family = models.family(name)
    if not isinstance(family, DistributedFamily):
        raise TypeError(f"{name} is fitted by one task")  # `plans.plan` spreads no other family
    return family


def key(job: TrainingJob) -> str:
    """Digest of all that the bytes of the model depend on, but for the shape of the workers."""
    libraries = models.family(job.family).libraries
    facts: Mapping[str, Any] = {
        "split": job.split.digest,
        "parts": job.parts,
        **({"signs": job.features.signs} if job.features.signs else {}),
        "program": job.features.program.to_json(),
        "task": job.task.model_dump(mode="json"),
        "family": job.family,
        "params": job.params.model_dump(mode="json"),
        "target": None if job.target is None else job.target.to_json(),
        "seed": job.recipe.seed,
        "workers": job.recipe.train.workers,
        **devices.facts(job.device),
        "every": checkpoints.EVERY,
        "versions": {name: importlib.metadata.version(name) for name in ("mlsys", "numpy", *libraries)},
    }
    return digest_json(facts)


def _survive(work: _Work, folder: Path, progress: Callable[[str], None]) -> bytes:
    """Start workers again whenever some are lost, as long as they get on from one time to the next.

    Room that workers had may stay taken for a while, as Ray notices the death of a machine by silence: it is asked for
    again. A fit that never had room is an error at once.
    """
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import TrainingFailedError

    number, tries, before = 0, 0, checkpoints.newest(work.checkpoints)
    while True:
        number += 1
        try:
            return _run(work, folder, f"try-{number}")
        except (TrainingFailedError, RayActorError) as error:  # a worker, or the process that looks after them
            reached, is_full = checkpoints.newest(work.checkpoints), _is_without_room(error)
            tries = 1 if reached > before else tries + 1
            had_room = number > 1 or reached > 0 or work.note.exists()
            if tries >= TRIES or _own(error) or (is_full and not had_room):
                if not reached:  # another time, there may be room for another shape
                    shutil.rmtree(work.checkpoints, ignore_errors=True)
                raise _failure(error, work.placement) from error
            before = reached
            progress(_others(work, "there is no room for its workers yet" if is_full else LOST, reached))


def _others(work: _Work, happened: str, reached: int) -> str:
    return f"{work.job.family}: {happened}; others go on after round {reached}"


def _run(work: _Work, folder: Path, name: str) -> bytes:
    """Fit with one group of workers, whose members are replaced where `replacement` says so."""
    import ray.train

    from mlsys.cluster import replacement

    shape = work.placement
    policy = replacement.OnProgress(work.checkpoints, work.replacement)
    result = replacement.trainer_of(_named(distributed_family(work.job.family).trainer), policy)(
        functools.partial(_worker, work),  # not as its settings, which Ray's controller would read: it imports less
        scaling_config=ray.train.ScalingConfig(
            num_workers=shape.workers, use_gpu=shape.gpus > 0, resources_per_worker=_resources(shape)
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(folder),
            failure_config=replacement.FAILURES,
        ),
    ).fit()
    return bytes(result.return_value)


def _resources(shape: Placement) -> dict[str, float]:
    """Resources of a worker by Ray's names."""
    return {"CPU": shape.cpus, "memory": shape.memory, **({"GPU": shape.gpus} if shape.gpus else {})}


def _own(error: Exception) -> errors.MlsysError | None:
    """The error of ours with which a worker ended: it would come back whoever fits."""
    failures = getattr(error, "worker_failures", {}).values()
    return next((failure for failure in failures if isinstance(failure, errors.MlsysError)), None)


def _is_without_room(error: Exception) -> bool:
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError)


def _failure(error: Exception, shape: Placement) -> errors.MlsysError:
    """Turn Ray's error into ours: that of a worker, or one of the cluster with the last line of a traceback."""
    own, where = _own(error), f"train: {shape}"
    if own is not None:
        return own
    if _is_without_room(error):
        free = [f"{node.cpus:g} CPUs and {node.memory / 1e9:.1f} GB{_gpus(node)}" for node in cluster.free_nodes()]
        got = f"no room for {os.environ[START_TIMEOUT]} s; free on the nodes: {', '.join(free)}"
        hint = "set train.workers to what the cluster holds, add nodes, or end what holds theirs"
        return errors.ClusterError.build(where, got=got, expected="room for all of them at once", hint=hint)
    text = str(next(iter(getattr(error, "worker_failures", {}).values()), error))
    last = [line for line in text.splitlines() if line and not line[0].isspace()][-1]
    hint = "set train.workers to what the cluster holds, or train.plan: task"
    return errors.ClusterError.build(where, got=last[:400], expected="workers that start and finish", hint=hint)


def _gpus(node: cluster.Resources) -> str:
    return f", {node.gpus:g} GPUs" if node.gpus else ""


def _worker(work: _Work) -> bytes | None:
    """Fit on a worker's share of the rows, in step with the others; the first worker returns the model."""
    import ray.train

    cluster.give_way()
    job, context = work.job, ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    family: Any = distributed_family(job.family).on(job.device)
    group: Group = _named(family.group)() if family.group else _Group()
    blocks = [job.counted(job.share(part, rank, workers)) for part in job.parts]
    validation = validation_rows(job, rank, workers)

    def fit_together() -> Any:
        begin = group.agreed(checkpoints.newest(work.checkpoints) if rank == 0 else None)
        return family.connected(_network(family)).fit_blocks(
            blocks,
            validation,
            job.task,
            job.params,
            seed=job.recipe.seed,
            threads=work.placement.threads,
            progress=functools.partial(_note, work.note if rank == 0 else None),
            checkpoints=StoredCheckpoints(work.checkpoints, begin or 0, writes=rank == 0),
        )

    model = group.run(fit_together)
    return family.to_bytes(model) if rank == 0 else None


class _Group:
    """Workers that all begin again when one of them is lost."""

    def run(self, fit: Callable[[], T]) -> T:
        return fit()

    def agreed(self, value: T) -> T:
        from ray.train.collective import broadcast_from_rank_zero

        return cast("T", broadcast_from_rank_zero(value))


def _named(place: str) -> Any:
    """Import what ``module:name`` says."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def _network(family: DistributedFamily[Any, Any]) -> dict[str, Any]:
    """Ask the trainer's library how this worker reaches the others."""
    return dict(_named(family.network)()) if family.network else {}


def validation_rows(job: TrainingJob, rank: int, workers: int) -> Matrix | None:
    """Read a worker's share of the validation rows, or all of them for a library that sums no loss over workers."""
    total = _num_judged(job)
    if total == 0:
        return None
    shared = distributed_family(job.family).shares_validation and total >= workers
    return job.counted(job.share("validation", rank, workers) if shared else job.read("validation"))


def _num_judged(job: TrainingJob) -> int:
    """Validation rows that say when to stop: none where they are fitted on."""
    return 0 if "validation" in job.parts else job.split.num_rows.get("validation", 0)


def _note(file: Path | None, number: int) -> None:
    """Write the number of the round where the driver looks for it."""
    if file is None:
        return
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"round": number}), encoding="utf-8")
    beside.replace(file)


class _Watch:
    """A thread of the driver that tells of each new round of the workers while they run, and of workers replaced."""

    def __init__(self, work: _Work, progress: Callable[[str], None]) -> None:
        self.work = work
        self.progress = progress
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _follow(self) -> None:
        texts: dict[Path, Callable[[int], str]] = {
            self.work.replacement: functools.partial(_others, self.work, LOST),
            self.work.note: lambda number: f"{self.work.job.family}: round {number}",
        }
        latest = dict.fromkeys(texts, 0)
        while not self.ended.wait(1.0):
            for file, text in texts.items():
                number = read_json(file)["round"] if file.is_file() else 0
                if number != latest[file]:
                    latest[file] = number
                    self.progress(text(number))
