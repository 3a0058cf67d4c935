"""Processes that train a network in step, without Ray: the same bytes in each, and the gradients of whole batches."""

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest

from mlsys import models
from mlsys.models.matrix import Matrix, joined
from mlsys.schema import Task, TaskKind

NUMBER = Task(kind=TaskKind.REGRESSION, target="y")
THREE = Task(kind=TaskKind.MULTICLASS, target="y", classes=("a", "b", "c"))
SHARES = {1: [601], 2: [100, 501], 3: [0, 600, 1]}
"""Rows of each worker: unequal ones, few, none."""

WORKER = """
import os, pathlib, pickle, sys, time
import torch.distributed
from mlsys import models

folder, rank, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.distributed.init_process_group("gloo", f"file:{folder}/group", rank=rank, world_size=workers)
train, held_out, task, params = pickle.load(open(f"{folder}/rows-{rank}", "rb"))
family = models.family("network").connected({})
model = family.fit_blocks(train, held_out, task, family.params(**params), seed=0, threads=1)
open(f"{folder}/model-{rank}", "wb").write(family.to_bytes(model))
end = time.monotonic() + 60
while len([*pathlib.Path(folder).glob("model-*")]) < workers and time.monotonic() < end:
    time.sleep(0.01)
os._exit(0)
"""
"""What Ray Train does for a worker, but for finding the others. It leaves when all have their models, and without
taking gloo's threads down, in which gloo aborts at times when another worker goes first."""


def rows(task, n=601, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    y = X[:, 0] * X[:, 1] + 0.05 * rng.normal(size=n)
    y = y if task is NUMBER else np.digitize(y, [-0.3, 0.3])
    return Matrix(X, y.astype(np.float64), tuple("abcd"), ("q",) * 4)


def spread(folder, task, shares, **params):
    """The models of processes, the rows divided among them one after another, the last of them in two blocks."""
    folder.mkdir()
    train, held_out, stops = rows(task), rows(task, 300, seed=1), np.cumsum([0, *shares])
    for rank, (start, stop) in enumerate(itertools.pairwise(stops)):
        middle = (start + stop) // 2
        blocks = [train.take(np.arange(start, middle)), train.take(np.arange(middle, stop))]
        judged = held_out.take(np.arange(rank, 300, len(shares)))
        (folder / f"rows-{rank}").write_bytes(pickle.dumps((blocks, judged, task, params)))
    words = [[sys.executable, "-c", WORKER, str(folder), str(rank), str(len(shares))] for rank in range(len(shares))]
    processes = [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in words]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(shares), errors
    return [(folder / f"model-{rank}").read_bytes() for rank in range(len(shares))]


def alone(task, **params):
    family = models.family("network")
    how = {"seed": 0, "threads": 1}
    return family.fit(rows(task), rows(task, 300, seed=1), task, family.params(**params), **how)


SMALL = {"epochs": 6, "width": 32, "batch_rows": 64}


def test_one_worker_among_no_others_is_a_fit_in_one_task(tmp_path):
    (data,) = spread(tmp_path / "a", THREE, SHARES[1], **SMALL)
    assert data == models.family("network").to_bytes(alone(THREE, **SMALL))


@pytest.mark.parametrize(("task", "workers"), [(NUMBER, 2), (THREE, 3)], ids=["number", "classes"])
def test_all_workers_end_with_the_bytes_that_as_many_workers_give_again(tmp_path, task, workers):
    first, again = (spread(tmp_path / name, task, SHARES[workers], **SMALL) for name in ("a", "b"))
    assert first == again
    assert set(first) == {first[0]}


def test_a_step_of_several_workers_is_that_of_the_whole_batch(tmp_path):
    params = {**SMALL, "epochs": 1}
    family, judged = models.family("network"), rows(NUMBER, 200, seed=2)
    spread_model = family.from_bytes(spread(tmp_path / "a", NUMBER, SHARES[2], **params)[0])
    whole = alone(NUMBER, **params)
    assert (spread_model.centre.tolist(), spread_model.scale.tolist()) == (whole.centre.tolist(), whole.scale.tolist())
    facts = spread_model.facts, whole.facts
    assert facts[0].model_copy(update={"layers": ()}) == facts[1].model_copy(update={"layers": ()})
    expected = family.predict(whole, judged.X)
    np.testing.assert_allclose(family.predict(spread_model, judged.X), expected, atol=1e-4 * judged.y.std())
    assert expected.std() > 0.01 * judged.y.std()  # steps were taken


def test_rows_of_blocks_are_joined():
    train = rows(NUMBER)
    halves = [train.take(np.arange(300)), train.take(np.arange(300, 601))]
    family = models.family("network")
    how = {"seed": 0, "threads": 1}
    params = family.params(**{**SMALL, "epochs": 2})
    made = [family.fit_blocks(each, None, NUMBER, params, **how) for each in (halves, [joined(halves)])]
    assert family.to_bytes(made[0]) == family.to_bytes(made[1])
