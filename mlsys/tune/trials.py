"""Trials on Ray Tune: a worker keeps its rows, read and binned, and fits one proposal after another on them.

The rows are prepared once, by tasks, and lie in Ray's object store. A trial has one CPU, in a worker that is used again
for the next one; what boosters bin once serves all trials of the worker. A fit ends at its deadline, so that a search
ends in time.

The proposals depend on the order in which trials end, so with several trials at a time a search is not repeatable to
the last digit; the journal is the record of what was done, and what is made of it depends on nothing else. A killed
search leaves whole lines in the journal and at most one torn last line, which is cut off; the next run goes on from
there, with all that the proposals had learned.

References
----------
Liaw et al.: Tune: A Research Platform for Distributed Model Selection and Training, arXiv:1807.05118.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from mlsys import budget, cluster, errors, models, train
from mlsys.evaluate import metrics
from mlsys.models.class_balance import Balancing
from mlsys.models.interface import FamilyParams
from mlsys.models.matrix import joined_values
from mlsys.models.target_transform import Transform
from mlsys.schema import Task
from mlsys.store import write_atomic
from mlsys.train import training_job
from mlsys.tune import blending, pace
from mlsys.tune.journal import Journal, Trial, key
from mlsys.tune.points import Points, Proposer, Searched

SHARE = 0.5
"""Share of the time that is left which one trial may take."""


@dataclass(frozen=True)
class Search:
    """All that trials share: the rows, in Ray's object store, and what is searched.

    Attributes
    ----------
    rows
        By the encoding of features: rounds of rows to fit and to judge on, the same rows in each encoding. A trial is
        judged on all of its predictions together.
    predictions
        Folder that every node sees, for the predictions of the judged rows.
    until
        Time, as `time.time` counts, at which the search ends.
    measures_bytes
        Whether the bytes of each model are measured.
    longest
        Seconds that a trial may take at most, however much time is left.
    least
        Seconds that a trial gets, however little time is left: those of a part of the final fit.
    """

    rows: Mapping[str, tuple[cluster.Shared[train.Prepared], ...]]
    task: Task
    metric: str
    target: Transform | Balancing
    seed: int
    families: Mapping[str, Searched]
    predictions: Path
    until: float = math.inf
    measures_bytes: bool = False
    longest: float = math.inf
    least: float = 0.0

    @property
    def sign(self) -> int:
        return metrics.METRICS[self.metric].sign

    def wait(self) -> None:
        """Wait for the rows, which trials read: on all CPUs they would keep the tasks waiting that prepare them."""
        for rows in self.rows.values():
            for each in rows:
                each.wait()

    def targets(self) -> np.ndarray:
        """The targets of the judged rows, read from the object store."""
        return np.concatenate([each.get().judged.y for each in next(iter(self.rows.values()))])

    def weights(self) -> np.ndarray | None:
        """The weights of the judged rows; None where all count alike."""
        if self.task.weight is None:
            return None
        return joined_values([each.get().judged.weight for each in next(iter(self.rows.values()))])

    def groups(self) -> np.ndarray | None:
        """The groups in which the judged rows are ranked; None for other tasks."""
        if self.task.group is None:
            return None
        return joined_values([each.get().judged.groups for each in next(iter(self.rows.values()))])

    def numbers(self) -> np.ndarray | None:
        """The numbers of the judged rows in the split."""
        return joined_values([each.get().judged_rows for each in next(iter(self.rows.values()))])


@dataclass(frozen=True)
class Judged:
    """The outcome of a point as its trial in the journal has it."""

    params: dict[str, Any]
    score: float
    rounds: int | None
    fit_s: float
    finished: bool
    cut: dict[str, int]
    fits: tuple[dict[str, int], ...]
    latency_us: float
    num_bytes: int | None


def judge(
    search: Search,
    rows: list[train.Prepared],
    bins: list[dict[Hashable, Any]],
    family: str,
    params: Mapping[str, Any],
    threads: int,
    *,
    haste: float | None = None,
    exactly: Sequence[Mapping[str, int]] = (),
) -> Judged:
    """Fit with `params` over the defaults on each round of rows, and judge all predictions together.

    With some `haste` and a clock, the learning rate is one at which boosting ends in that part of its time. Where it is
    given what a former trial `exactly` reached, a fit each, each fit ends there and nowhere before.
    """
    how: dict[str, Any] = {"seed": search.seed, "threads": threads, "target": search.target}
    checked = models.params_of(family, {**search.families[family].defaults, **params})
    seconds, is_free = _seconds(search, len(rows)), "learning_rate" not in search.families[family].fixed
    if haste is not None and is_free and seconds is not None:
        given = (rows[0], search.task, family, checked, search.metric)
        params = {**params, **pace.in_time(*given, seconds=seconds / haste, bins=bins[0], **how)}
        checked = models.params_of(family, {**search.families[family].defaults, **params})
    how["measures_bytes"] = search.measures_bytes
    results, outputs, finished = [], [], True
    for number, prepared in enumerate(rows):
        seconds = _seconds(search, len(rows) - number)
        how |= {"seconds": seconds, "bins": bins[number], "exactly": exactly[number] if exactly else None}
        result, output = train.judged(prepared, search.task, family, checked, search.metric, **how)
        finished &= seconds is None or (result.fit_s < seconds and not result.cut)
        results.append(result)
        outputs.append(output)
    together = np.concatenate(outputs)
    _write_predictions(search.predictions / f"{key(family, dict(params))}.npy", together)
    y, weight = np.concatenate([each.judged.y for each in rows]), joined_values([each.judged.weight for each in rows])
    groups = joined_values([each.judged.groups for each in rows])
    score = metrics.measure(search.metric, y, together, weight=weight, groups=groups)
    rounds = [each.best_rounds for each in results if each.best_rounds is not None]
    return Judged(
        params=dict(params),
        score=float(score),
        rounds=round(float(np.mean(rounds))) if rounds else None,
        fit_s=sum(each.fit_s for each in results),
        finished=finished,
        cut=_mean_cut(checked, results),
        fits=tuple(each.reached for each in results),
        latency_us=float(np.median([each.predict_us_per_row for each in results])),
        num_bytes=max((each.num_bytes for each in results if each.num_bytes is not None), default=None),
    )


def _mean_cut(params: FamilyParams, results: list[train.FoldResult]) -> dict[str, int]:
    """The mean of each parameter that time has cut in some of the fits."""
    names = dict.fromkeys(name for result in results for name in result.cut)
    return {
        name: round(float(np.mean([result.cut.get(name, getattr(params, name)) for result in results])))
        for name in names
    }


def _seconds(search: Search, rounds_left: int) -> float | None:
    if math.isinf(search.until):
        return None
    seconds = max(search.least, SHARE * (search.until - time.time()))
    return max(budget.FIT_S, min(search.longest, seconds) / rounds_left)


def _write_predictions(file: Path, output: np.ndarray) -> None:
    data = io.BytesIO()
    np.save(data, output.astype(np.float32))
    write_atomic(file, data.getvalue())


def judged(search: Search, chosen: list[tuple[Trial, float]], journal: Journal) -> train.JudgedRows:
    """The judged rows, and the weighted mean of the predictions of trials, whose weights sum to 1."""
    output = sum(share * journal.predictions(trial).astype(np.float64) for trial, share in chosen)
    beside = search.weights(), search.groups(), search.numbers()
    return train.JudgedRows(search.targets().astype(np.float64), np.asarray(output), *beside)


def blend(search: Search, trials: list[Trial], journal: Journal, members: int) -> blending.Blend:
    """Select a mean of trials, whose predictions have to be there."""
    outputs = [journal.predictions(trial) for trial in trials]
    return blending.select(search.metric, search.targets(), outputs, members, search.weights())


def run(
    search: Search,
    points: Points,
    journal: Journal,
    *,
    folder: Path,
    num_trials: int,
    progress: Callable[[str], None],
) -> SearchEnd:
    """Run trials until `num_trials` have ended, the time is over or somebody presses Ctrl-C, and journal them.

    `folder` is an empty one that every node sees, for Tune's state meanwhile.
    """
    search.predictions.mkdir(parents=True, exist_ok=True)
    search.wait()
    record, interruption = _Record(journal, progress), _Interruption()
    with _quiet(), interruption.awaited():
        proposer = Proposer(points, journal, search.until, cluster.num_cpus())
        results = _tuner(search, proposer, record, interruption, folder, num_trials).fit()
    ended = [result for result in (results[i] for i in range(len(results))) if result.error]
    for result in ended:
        journal.note_failure(result.config or {}, str(result.error))
    where = f"its traceback is in tune/{journal.failures.parent.name}/{journal.failures.name} of the run"
    failed = [f"trial {result.config}: {_reason(result.error)} ({where})" for result in ended]
    return SearchEnd(failed, interruption.is_asked_for)


def again(search: Search, trials: Sequence[Trial], journal: Journal, progress: Callable[[str], None]) -> None:
    """Fit trials again, each as far as it came, and journal them with the seconds of the first time.

    Raises
    ------
    StoreError
        A trial was journalled by a version that did not say how far each of its fits came.
    """
    search.predictions.mkdir(parents=True, exist_ok=True)
    num_fits = len(next(iter(search.rows.values())))
    if any(len(trial.fits) != num_fits for trial in trials):
        raise errors.StoreError.build(
            "tune: trials of a former search",
            got="a trial that does not say how far its fits came",
            expected=f"{num_fits} fits of each",
            hint="run the recipe again with this version",
        )

    def report(_: Judged, done: int, total: int) -> None:
        progress(f"{done} of {total} trials fitted again")

    search.wait()
    state = functools.partial(_Prepared.of, search)
    ended = cluster.map(_again, trials, state=state, on_result=report)
    for trial, judged_again in zip(trials, ended, strict=True):
        journal.append(dataclasses.replace(trial, score=judged_again.score, rounds=judged_again.rounds))


@dataclass(frozen=True)
class _Prepared:
    """A search with its rows at hand, and their bins."""

    search: Search
    rows: dict[str, list[train.Prepared]]
    bins: list[dict[Hashable, Any]]

    @classmethod
    def of(cls, search: Search) -> _Prepared:
        rows = {encoding: [each.get() for each in shared] for encoding, shared in search.rows.items()}
        return cls(search, rows, [{} for _ in next(iter(rows.values()))])


def _again(prepared: _Prepared, trial: Trial) -> Judged:
    rows = prepared.rows[training_job.encoding(trial.family)]
    given = (prepared.search, rows, prepared.bins, trial.family, trial.params)
    return judge(*given, threads=1, exactly=trial.fits)


@dataclass(frozen=True)
class SearchEnd:
    """The end of a search: a line for each trial that failed, and whether Ctrl-C ended it."""

    failed: list[str]
    is_interrupted: bool


class _Interruption(tune.Stopper):
    """Ctrl-C as the end of a search: trials that run are given up, those that ended are in the journal.

    Tune's own handler would end the search without a word to its caller, and stay in place after it. A second Ctrl-C
    does what it did before the search.
    """

    def __init__(self) -> None:
        self.is_asked_for = False

    def __deepcopy__(self, memo: dict[int, Any]) -> _Interruption:
        """Itself: Tune copies what it is given, and the copy would not hear of a signal."""
        return self

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        return self.is_asked_for

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Note Ctrl-C during the block; Python tells the main thread alone of it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before, switch = signal.getsignal(signal.SIGINT), "TUNE_DISABLE_SIGINT_HANDLER"
        value = os.environ.get(switch)
        signal.signal(signal.SIGINT, lambda *_: self._note(before))
        os.environ[switch] = "1"
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            os.environ.pop(switch)
            os.environ.update({} if value is None else {switch: value})

    def _note(self, before: Any) -> None:
        signal.signal(signal.SIGINT, before)
        self.is_asked_for = True


def _tuner(
    search: Search, proposer: Proposer, record: _Record, interruption: _Interruption, folder: Path, num_trials: int
) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(_TrialWorker, search=[search]), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max" if search.sign > 0 else "min",
            search_alg=proposer,
            num_samples=num_trials,
            max_concurrent_trials=cluster.num_cpus(),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            verbose=0,
            callbacks=[record],
            stop=interruption,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
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


class _TrialWorker(tune.Trainable):
    """A worker that keeps its rows and fits one point after another."""

    def setup(self, config: dict[str, Any], search: Sequence[Search] = ()) -> None:
        cluster.give_way()
        self.config = config
        self.search = search[0]
        self.rows: dict[str, list[train.Prepared]] = {}
        self.bins = [dict[Hashable, Any]() for _ in next(iter(self.search.rows.values()))]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:  # noqa: ARG002
        """Nothing: a trial is one step, and what it found is in the journal."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to go on from."""

    def step(self) -> dict[str, Any]:
        """One trial: the whole fit."""
        family, params = self.config["family"], self.config["params"]
        encoding = training_job.encoding(family)
        if encoding not in self.rows:
            self.rows[encoding] = [each.get() for each in self.search.rows[encoding]]
        rows, haste = self.rows[encoding], self.config["haste"]
        ended = judge(self.search, rows, self.bins, family, params, 1, haste=haste)
        return {**dataclasses.asdict(ended), tune.result.DONE: True}


class _Record(tune.Callback):
    """A callback in the driver that writes each trial that ends into the journal, and reports it."""

    def __init__(self, journal: Journal, progress: Callable[[str], None]) -> None:
        self.journal = journal
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
        done = Trial(
            number=len(self.journal.trials),
            family=trial.config["family"],
            params=dict(result["params"]),
            score=float(result["score"]),
            rounds=result["rounds"],
            finished=bool(result["finished"]),
            fit_s=float(result["fit_s"]),
            elapsed_s=self.before + time.monotonic() - self.began,
            cut=dict(result["cut"]),
            fits=tuple(map(dict, result["fits"])),
            latency_us=result["latency_us"],
            num_bytes=result["num_bytes"],
        )
        self.journal.append(done)
        late = "" if done.finished else "  ended by its time"
        self.progress(f"trial {done.number} {done.family}  {done.score:.4f}  {done.fit_s:.1f} s{late}")


def _reason(error: Any) -> str:
    cause = getattr(error, "cause", None)
    return " ".join(str(cause if isinstance(cause, errors.MlsysError) else error).split())[-300:]
