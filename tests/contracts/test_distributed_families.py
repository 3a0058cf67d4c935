"""The promises of `models.interface.DistributedFamily`: a fit goes on from a checkpoint as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from mlsys import models
from mlsys.models.boosting import BoostingFamily
from mlsys.models.interface import Checkpoint, DistributedFamily
from mlsys.models.matrix import Matrix
from mlsys.schema import TargetLoss, Task, TaskKind

TASKS = {
    "binary": Task(kind=TaskKind.BINARY, target="y", classes=(False, True)),
    "multiclass": Task(kind=TaskKind.MULTICLASS, target="y", classes=("a", "b", "c")),
    "regression": Task(kind=TaskKind.REGRESSION, target="y"),
}
SPREAD = sorted(name for name, family in models.FAMILIES.items() if isinstance(family, DistributedFamily))
BOOSTED = [name for name in SPREAD if isinstance(models.family(name), BoostingFamily)]
EVERY = 5


@dataclass
class Memory:
    """Checkpoints in memory: all that were left, and the one to go on from."""

    latest: Checkpoint | None = None
    every: int = EVERY
    left: list[Checkpoint] = field(default_factory=list)

    def save(self, checkpoint):
        self.left.append(checkpoint)


def blocks(kind, num_rows=1_300):
    """Quantities, a category and missing values, in three blocks to fit on and one that says when to stop."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(num_rows, 7)).astype(np.float32)
    X[:, 6] = rng.integers(0, 6, num_rows)
    signal = 2 * X[:, 0] - X[:, 1] + X[:, 6] % 3 + 0.5 * rng.normal(size=num_rows)
    X[rng.random(X.shape) < 0.05] = np.nan
    y = {"binary": signal > 1, "multiclass": np.digitize(signal, [0, 2]), "regression": signal}[kind]
    rows = Matrix(X, y.astype(np.float64), tuple("abcdefg"), ("q",) * 6 + ("c",))
    return [rows.take(np.arange(start, start + 350)) for start in (0, 350, 700)], rows.take(np.arange(1_050, num_rows))


def above_zero(rows):
    return replace(rows, y=np.exp(rows.y / 4))


@pytest.fixture(scope="module", params=BOOSTED)
def family(request):
    return models.family(request.param).connected({})


LOSSES = {
    "quantile": TargetLoss.of({"quantile": 0.9}),
    "poisson": TargetLoss.of("poisson"),
    "tweedie": TargetLoss.of({"tweedie": 1.5}),
    "gamma": TargetLoss.of("gamma"),
}


@pytest.fixture(scope="module", params=[*sorted(TASKS), "absolute", *LOSSES])
def fit(family, request):
    kind = request.param if request.param in TASKS else "regression"
    task = TASKS[kind].model_copy(update={"loss": LOSSES.get(request.param)})
    extra = {"loss": "absolute"} if request.param == "absolute" else {}
    train, held_out = blocks(kind)
    if request.param in LOSSES:  # which are of amounts above zero
        train, held_out = [above_zero(rows) for rows in train], above_zero(held_out)

    def made(memory, **params):
        settings = models.params_of(family.name, {"rounds": 23, "learning_rate": 0.2, **extra, **params})
        how = {"seed": 3, "threads": 2, "checkpoints": memory}
        return family.to_bytes(family.fit_blocks(train, held_out, task, settings, **how))

    return made


def test_two_boosted_families_and_the_network_can_be_spread():
    assert SPREAD == ["lightgbm", "network", "xgboost"]
    assert BOOSTED == ["lightgbm", "xgboost"]


def test_there_is_a_checkpoint_every_some_rounds_and_at_the_end(fit):
    memory = Memory()
    fit(memory, early_stopping=0)
    assert [checkpoint.rounds for checkpoint in memory.left] == [5, 10, 15, 20, 23]


ROWS = {"lightgbm": "bagging_fraction", "xgboost": "subsample"}


@pytest.mark.parametrize("rows", [0.4, 0.7, 1.0])
@pytest.mark.parametrize("params", [{"early_stopping": 0}, {"early_stopping": 4, "learning_rate": 0.9}], ids=str)
def test_a_fit_that_goes_on_from_any_checkpoint_ends_in_the_same_bytes(family, fit, params, rows):
    params = {**params, ROWS[family.name]: rows}
    undisturbed = Memory()
    model = fit(undisturbed, **params)
    for number, checkpoint in enumerate(undisturbed.left):
        again = Memory(latest=checkpoint)
        assert fit(again, **params) == model
        assert again.left == undisturbed.left[number + 1 :]


def test_rows_and_features_are_drawn_anew_after_a_checkpoint(fit):
    memory = Memory()
    whole = fit(memory, early_stopping=0)
    assert whole != fit(None, early_stopping=0)
    assert memory.left[0].model != memory.left[1].model


def test_a_fit_that_has_ended_is_not_grown_further(fit):
    memory = Memory()
    params = {"early_stopping": 2, "learning_rate": 1.0, "rounds": 200}
    model = fit(memory, **params)
    assert memory.left[-1].stopping["ended"]
    ended = Memory(latest=memory.left[-1])
    assert fit(ended, **params) == model
    assert ended.left == []


EPOCHS = {"epochs": 23, "width": 16, "batch_rows": 64}


def trained(kind, memory, **params):
    """The bytes of a network."""
    family, (train, held_out) = models.family("network").connected({}), blocks(kind)
    settings = models.params_of("network", {**EPOCHS, **params})
    how = {"seed": 3, "threads": 2, "checkpoints": memory}
    return family.to_bytes(family.fit_blocks(train, held_out, TASKS[kind], settings, **how))


@pytest.mark.parametrize("kind", sorted(TASKS))
@pytest.mark.parametrize("params", [{}, {"learning_rate": 0.5}, {"last_epoch": 12}], ids=str)
def test_a_network_that_goes_on_from_any_checkpoint_ends_in_the_same_bytes(kind, params):
    undisturbed = Memory()
    model = trained(kind, undisturbed, **params)
    last = params.get("last_epoch", 23)
    assert [checkpoint.rounds for checkpoint in undisturbed.left] == [*range(5, last, 5), last]
    assert trained(kind, None, **params) == model
    for number, checkpoint in enumerate(undisturbed.left):
        again = Memory(latest=checkpoint)
        assert trained(kind, again, **params) == model
        assert again.left == undisturbed.left[number + 1 :]


def test_a_network_from_its_bytes_predicts_the_same_and_other_bytes_are_refused():
    family, rows = models.family("network"), blocks("multiclass")[1]
    data = trained("multiclass", None)
    model = family.from_bytes(data)
    assert family.to_bytes(model) == data
    assert family.predict(model, rows.X).shape == (250, 3)
    for other in (b"", b"mlsys network ", data[: len(data) // 2], data.replace(b"mlsys network", b"mlsys nothing")):
        with pytest.raises(ValueError, match=r"."):
            family.from_bytes(other)
