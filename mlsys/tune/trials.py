"""Trials on Ray Tune: Optuna proposes parameters, ASHA stops boosting that is behind.

The rows are prepared once, by a task, and lie in Ray's object store; trials read them
there. Each trial has one CPU, in a worker process that is used again for the next one.

Given the seed, the proposals depend on the order in which trials end, so with several
trials at a time a search is not repeatable to the last digit; the journal is the record of
what was done. One trial at a time is repeatable. A killed search leaves whole lines in the
journal and at most one torn last line, which is cut off; the next run replays the lines into
the searcher and goes on from there.

References
----------
Akiba et al.: Optuna, KDD 2019, doi:10.1145/3292500.3330701 (tree-structured Parzen estimator).
Li et al.: A System for Massively Parallel Hyperparameter Tuning, MLSys 2020 (ASHA).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from mlsys import cluster, errors, models, train
from mlsys.evaluate import metrics
from mlsys.models.interface import Choice, Domain, Integer, Progress
from mlsys.models.target_transform import Transform
from mlsys.schema import Task
from mlsys.store import storage_error, write_atomic
from mlsys.train import FoldResult


@dataclass(frozen=True)
class Trial:
    """A trial that has ended; number 0 is the default, searched ones count from 1 in the order in which they ended.

    Attributes
    ----------
    params
        The searched parameters only; empty for the default.
    score, rounds
        The metric on validation, and boosting rounds kept (None for families without rounds); of a
        trial that was stopped as hopeless (not `finished`), those of its last report.
    elapsed_s
        Seconds that the search had run, over all its runs, when the trial ended.
    """

    number: int
    params: dict[str, Any]
    score: float
    rounds: int | None
    finished: bool
    fit_s: float
    elapsed_s: float


class Journal:
    """The file of finished trials of a search, one JSON line each, synced as they end."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.trials = self._read()

    @property
    def elapsed_s(self) -> float:
        """Seconds that earlier runs of the search took."""
        return max((trial.elapsed_s for trial in self.trials), default=0.0)

    def append(self, trial: Trial) -> None:
        """Add a trial; it is on disk when this returns.

        Raises
        ------
        StoreError
            The disk is full or the folder cannot be written.
        """
        line = json.dumps(dataclasses.asdict(trial), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(self.file, error) from error
        self.trials.append(trial)

    def _read(self) -> list[Trial]:
        if not self.file.is_file():
            return []
        data = self.file.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_atomic(self.file, whole)
        return [Trial(**json.loads(line)) for line in whole.splitlines()]


@dataclass(frozen=True)
class Search:
    """The rows, in Ray's object store, and the parameters and space that all trials share."""

    rows: cluster.Shared[train.Prepared]
    task: Task
    family: str
    metric: str
    target: Transform
    seed: int
    defaults: Mapping[str, Any]
    space: Mapping[str, Domain]

    @property
    def mode(self) -> str:
        return "max" if metrics.METRICS[self.metric].greater_is_better else "min"

    @property
    def rounds(self) -> int | None:
        """Most rounds of a fit; None for families without rounds."""
        return models.family(self.family).max_rounds(models.params_of(self.family, self.defaults))


def judge(search: Search, params: Mapping[str, Any], threads: int, progress: Progress | None = None) -> FoldResult:
    """Fit with `params` over the defaults and judge on the validation rows, in this process."""
    prepared = search.rows.get()
    family, checked = search.family, models.params_of(search.family, {**search.defaults, **params})
    how: dict[str, Any] = {"seed": search.seed, "threads": threads, "progress": progress, "target": search.target}
    return train.fit_prepared(prepared, search.task, family, checked, search.metric, **how)


def run(
    search: Search,
    journal: Journal,
    *,
    folder: Path,
    num_trials: int,
    seconds: float | None,
    progress: Callable[[str], None],
) -> list[str]:
    """Run trials until `num_trials` more have ended or `seconds` are over, and journal them.

    `folder` is an empty one that every node sees, for Tune's state meanwhile. A line for each trial that failed
    is returned.
    """
    with _quiet():
        results = _tuner(search, _Record(journal, num_trials, progress), folder, num_trials, seconds).fit()
    ended = (results[i] for i in range(len(results)))
    return [f"trial {result.config}: {_reason(result.error)}" for result in ended if result.error]


def _tuner(search: Search, record: _Record, folder: Path, num_trials: int, seconds: float | None) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(_trainable, search=[search]), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=_searcher(search, record.journal),
            scheduler=_scheduler(search),
            num_samples=num_trials,
            time_budget_s=seconds,
            max_concurrent_trials=cluster.num_cpus(),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0, callbacks=[record]),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Print errors alone: the journal takes the place of the files that Tune says it misses."""
    from optuna import logging as optuna_logging

    ray_logger = logging.getLogger("ray.tune")
    level, verbosity = ray_logger.level, optuna_logging.get_verbosity()
    try:
        ray_logger.setLevel(logging.ERROR)
        optuna_logging.set_verbosity(logging.ERROR)
        yield
    finally:
        ray_logger.setLevel(level)
        optuna_logging.set_verbosity(verbosity)


def _trainable(config: dict[str, Any], search: list[Search]) -> None:
    """Run a trial: report the score every few rounds, and once at the end."""
    shared = search[0]
    ended = judge(shared, config, threads=1)
    last = {"score": ended.score, "round": shared.rounds or 1, "kept": ended.best_rounds}
    tune.report({**last, "finished": True, "fit_s": ended.fit_s})


def _searcher(search: Search, journal: Journal) -> OptunaSearch:
    """Make a TPE that knows the trials of the journal; its seed moves on, or it would propose them again."""
    space = search.space
    seen = [trial for trial in journal.trials if set(trial.params) == set(space)]
    seen = [trial for trial in seen if all(value in space[name] for name, value in trial.params.items())]
    return OptunaSearch(
        space={name: _distribution(domain) for name, domain in space.items()},
        metric="score",
        mode=search.mode,
        seed=search.seed + len(journal.trials),
        points_to_evaluate=[trial.params for trial in seen] or None,
        evaluated_rewards=[trial.score for trial in seen] or None,
    )


def _distribution(domain: Domain) -> Any:
    from optuna import distributions

    if isinstance(domain, Choice):
        return distributions.CategoricalDistribution(domain.values)
    if isinstance(domain, Integer):
        return distributions.IntDistribution(domain.low, domain.high, log=domain.log)
    return distributions.FloatDistribution(domain.low, domain.high, log=domain.log)


def _scheduler(search: Search) -> ASHAScheduler | None:
    """Stop hopeless boosting from a quarter of the rounds on; families without rounds are not stopped."""
    if search.rounds is None:
        return None
    return ASHAScheduler(
        time_attr="round",
        metric="score",
        mode=search.mode,
        max_t=search.rounds + 1,  # the last report, made after all rounds
        grace_period=max(1, search.rounds // 4),
        reduction_factor=2,  # of the trials that reach a rung, every second goes on
    )


class _Record(tune.Callback):
    """A callback in the driver that writes each trial that ends into the journal, and reports it."""

    def __init__(self, journal: Journal, num_trials: int, progress: Callable[[str], None]) -> None:
        self.journal = journal
        self.last = max((trial.number for trial in journal.trials), default=0) + num_trials
        self.progress = progress
        self.before = journal.elapsed_s
        self.began = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks with its own state, which is never restored: nothing to keep."""
        return {}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        result = trial.last_result
        if not math.isfinite(result.get("score", math.nan)):
            return
        number = max((done.number for done in self.journal.trials), default=0) + 1
        done = Trial(
            number=number,
            params=dict(trial.config),
            score=float(result["score"]),
            rounds=result["kept"],
            finished=bool(result["finished"]),
            fit_s=float(result["fit_s"]),
            elapsed_s=self.before + time.monotonic() - self.began,
        )
        self.journal.append(done)
        self.progress(f"trial {number}/{self.last}  {done.score:.4f}{'' if done.finished else '  stopped early'}")


def _reason(error: Any) -> str:
    cause = getattr(error, "cause", None)
    return " ".join(str(cause if isinstance(cause, errors.MlsysError) else error).split())[-300:]
