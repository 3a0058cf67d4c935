"""The loss of the default recipe on twelve tables beside FLAML and AutoGluon, with the same seconds and threads.

Claim: with the same budget ours loses no more than the peers. Each contender learns from the
same training file and predicts the same test file (`quality_sets.py` says how they are made),
one after another, each in a process of its own. They are told the target, the task, the metric
and the budget, nothing else. The loss is 1 - ROC AUC for two classes, log loss for more, and
RMSE for numbers; normalised it is ``(loss - best) / (dummy - best)``, where the best is that of
all contenders on the set, and the dummy says the share of each class, or the mean, of the
training rows. So 0 is the best and 1 no better than the dummy; a contender that fails has the
loss of the dummy, and the table says why. Imports, and the start of our cluster, are before the
clock. Our recipe must have test rows of its own: they are a hundredth of the training file.

``--data`` names a folder with the sets, each a folder of Parquet files. The peers are no part of
the project's environment; two commands make theirs, and without it they are left out::

    python -m venv .peers
    .peers/bin/pip install "flaml[automl,catboost]==2.8.*" "autogluon.tabular[lightgbm,catboost,fastai]==1.6.3"

AutoGluon takes the xgboost that FLAML asks for: its own extra would write another release over it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from measured import fresh, median, options, say, spread
from quality_scores import against, check, dummy, loss, normalised
from quality_sets import CASES, Prepared, prepare

CLAIM = "loss of the default recipe on test rows, beside AutoML libraries with the same budget"
OURS = "mlsys"
PEERS = ("flaml", "autogluon")
HERE = Path(__file__).parent

SPLIT = {"train": 0.84, "validation": 0.15, "test": 0.01}
"""Parts of the training file for ours; the recipe asks for each of the three."""

IMPORTS = "import sklearn.ensemble, sklearn.linear_model, xgboost"
"""What our workers load at their first model."""


@dataclass(frozen=True)
class Outcome:
    """A contender on a set, the median of its repeats.

    Attributes
    ----------
    losses
        Of each repeat; the dummy's where it failed.
    note
        The model that it made, or why there is none.
    """

    losses: tuple[float, ...]
    seconds: float
    predict_us: float
    note: str

    @property
    def loss(self) -> float:
        return median(self.losses)


Outcomes = Mapping[str, Mapping[str, Outcome]]
"""Outcomes by set and contender."""


def main() -> None:
    parser = _parser()
    wanted = parser.parse_args()
    unknown = {*wanted.only} - {*CASES} | {*wanted.peers} - {*PEERS}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: the sets are {', '.join(CASES)}; the peers {', '.join(PEERS)}")
    if wanted.peers and not wanted.peer_python.is_file():
        print(f"no {wanted.peer_python}: the peers are left out")
        wanted.peers = []
    outcomes: dict[str, dict[str, Outcome]] = {}
    dummies: dict[str, float] = {}
    rows = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted.only or CASES:
            case = prepare(name, wanted.data, Path(folder))
            dummies[name] = loss(case, dummy(case))
            rows += len(case.truth)
            print(f"{name}: {len(case.known):,} rows to learn from, dummy's loss {dummies[name]:.4f}", flush=True)
            outcomes[name] = {each: contend(each, case, dummies[name], wanted) for each in (OURS, *wanted.peers)}
    report(outcomes, dummies, rows, as_json=wanted.json)


def _parser() -> ArgumentParser:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--data", required=True, type=Path, help="folder of the sets")
    parser.add_argument("--budget", type=float, default=60, help="seconds that a contender may learn for (60)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender (2)")
    parser.add_argument("--only", type=_names, default=[], help="sets, or beginnings of their names: adult,bank")
    parser.add_argument("--peers", type=_names, default=[*PEERS], help="flaml,autogluon; '' for none")
    presets = ("medium_quality", "good_quality", "best_quality")
    parser.add_argument("--preset", choices=presets, default=presets[0], help="of AutoGluon (medium_quality)")
    environment = HERE.parent / ".peers" / "bin" / "python"
    parser.add_argument("--peer-python", type=Path, default=environment, help="Python of the peers' environment")
    return parser


def _names(text: str) -> list[str]:
    """The names in a list with commas; the beginning of a set's name stands for it."""
    given = [name.strip() for name in text.split(",") if name.strip()]
    return [next((case for case in CASES if case.startswith(name)), name) for name in given]


def contend(contender: str, case: Prepared, dummy_loss: float, wanted: Namespace) -> Outcome:
    """Run a contender on a set as often as it is asked for, and say how it did."""
    losses, answers = [], []
    for seed in range(wanted.repeats):
        predicted, answer = _answer(contender, case, wanted, seed)
        losses.append(dummy_loss if predicted is None else loss(case, predicted))
        answers.append(answer)
    seconds, predict_us = (median(answer[key] for answer in answers) for key in ("seconds", "predict_us"))
    outcome = Outcome(tuple(losses), seconds, predict_us, answers[-1]["model"])
    print(f"  {contender:<10} {outcome.loss:.4f}  {seconds:.0f} s  {outcome.note}", flush=True)
    return outcome


def _answer(contender: str, case: Prepared, wanted: Namespace, seed: int) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Predictions and what the contender says of itself; no predictions where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "contender": contender,
            **{key: getattr(case, key) for key in ("name", "target", "task", "classes")},
            "train": str(case.train),
            "test": str(case.test),
            "predictions": str(Path(folder, "predictions.npy")),
            "budget_s": wanted.budget,
            "threads": wanted.threads,
            "preset": wanted.preset,
            "seed": seed,
        }
        began = time.perf_counter()
        try:
            answer = fresh(ours, job) if contender == OURS else theirs(job, wanted.peer_python, Path(folder))
            predicted = np.load(job["predictions"])
            check(case, predicted)
        except Exception as error:  # noqa: BLE001  (whatever it is: the others go on, and the table says it)
            said = f"failed: {error}".strip().splitlines()
            return None, {"seconds": time.perf_counter() - began, "predict_us": math.nan, "model": said[0]}
    return predicted, answer


def theirs(job: dict[str, Any], python: Path, folder: Path) -> dict[str, Any]:
    """The answer of a peer, from a process of its own environment in a folder of its own."""
    threads = str(job["threads"])
    done = subprocess.run(
        [python.absolute(), "-c", "from quality_peers import main; main()"],
        input=json.dumps(job),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE.absolute()), "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """Our answer, on a cluster of its own that is started before the clock."""
    import mlsys
    from mlsys import cluster
    from mlsys.store import Store

    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        try:
            began = time.perf_counter()
            cluster.up(store, job["threads"])
            cluster.connect(store)
            cluster.map(exec, [IMPORTS] * job["threads"])
            started = time.perf_counter()
            done = mlsys.run(recipe(job), until="train", store=store.root, quiet=True)
            seconds = time.perf_counter() - started
            with _threads(job["threads"]):
                predict_us = _predict(done.predictor(), job)
        finally:
            cluster.down(store)
    model = f"{done.family} (cluster {started - began:.0f} s)"
    return {"seconds": seconds, "predict_us": predict_us, "model": model}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let this process predict in so many threads, as peers do; workers of a later cluster do not inherit it."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        os.environ.update({} if before is None else {"OMP_NUM_THREADS": before})


def recipe(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a user would write, and the budget where recipes have one."""
    from mlsys import Recipe

    tree = {key: job[key] for key in ("name", "target", "task", "seed")}
    budget = {"budget": f"{job['budget_s']:g}s"} if "budget" in Recipe.model_fields else {}
    return {**tree, "data": {"source": job["train"]}, "split": {"fractions": SPLIT}, **budget}


def _predict(model: Any, job: Mapping[str, Any]) -> float:
    """Write our predictions; microseconds a row of the second of two calls."""
    rows = pq.read_table(job["test"])
    model.predict(rows, extra="ignore")
    began = time.perf_counter()
    made = model.predict(rows, extra="ignore")
    predict_us = (time.perf_counter() - began) / rows.num_rows * 1e6
    names = [f"probability_{name}" for name in job["classes"]]
    empty = np.zeros(rows.num_rows)
    columns = [made[name].to_numpy() if name in made.column_names else empty for name in names]
    np.save(job["predictions"], np.column_stack(columns) if names else made["prediction"].to_numpy())
    return float(predict_us)


def report(outcomes: Outcomes, dummies: Mapping[str, float], rows: int, *, as_json: bool) -> None:
    """Print a line for each contender on each set, one for each over all sets, and the line of JSON."""
    contenders = list(next(iter(outcomes.values())))
    parts = {
        name: normalised({who: each.loss for who, each in found.items()}, dummies[name])
        for name, found in outcomes.items()
    }
    means = {who: fmean(part[who] for part in parts.values()) for who in contenders}
    losses = {who: {name: found[who].loss for name, found in outcomes.items()} for who in contenders}
    versus = {peer: against(losses[OURS], losses[peer]) for peer in contenders if peer != OURS}
    lines = [_line(name, who, each, parts) for name, found in outcomes.items() for who, each in found.items()]
    _print([["set", "contender", "loss", "normalised", "seconds", "µs a row"], *lines])
    print()
    _print([["", "normalised", "we win, draw, lose", "our excess at most"], *_summary(means, versus)])
    if as_json:
        ratios = {peer: each["ratio"] for peer, each in versus.items()}
        widest = max(spread(found[OURS].losses) for found in outcomes.values())
        facts = {"mean_normalised": means, "against": versus, "table": _facts(outcomes, parts, dummies)}
        say(CLAIM, ratios, widest, rows, facts)


def _line(name: str, who: str, each: Outcome, parts: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [name, who, f"{each.loss:.4f}", f"{parts[name][who]:.3f}", f"{each.seconds:.0f}", f"{each.predict_us:.1f}"]


def _summary(means: Mapping[str, float], versus: Mapping[str, Mapping[str, Any]]) -> Iterable[list[str]]:
    for who, mean in means.items():
        found = versus.get(who)
        wins = "" if found is None else f"{found['wins']}, {found['draws']}, {found['losses']}"
        excess = "" if found is None else f"{found['largest_excess']:+.1%} on {found['largest_excess_on']}"
        yield [who, f"{mean:.3f}", wins, excess]


def _facts(
    outcomes: Outcomes, parts: Mapping[str, Mapping[str, float]], dummies: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The table of the JSON; a number that there is not is null."""
    return [
        {
            "set": name,
            "contender": who,
            "loss": each.loss,
            "normalised": parts[name][who],
            "dummy": dummies[name],
            "seconds": each.seconds,
            "predict_us": each.predict_us if math.isfinite(each.predict_us) else None,
            "note": each.note,
        }
        for name, found in outcomes.items()
        for who, each in found.items()
    ]


def _print(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
    sys.exit(0)
