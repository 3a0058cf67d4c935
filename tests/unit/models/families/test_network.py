"""The network: its arithmetic against PyTorch's, its time, its epochs, and an environment without its package."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mlsys import models
from mlsys.models import deadline, network_inputs, torch_training
from mlsys.models.deadline import Deadline
from mlsys.models.families import network
from mlsys.models.matrix import Matrix
from mlsys.models.torch_workers import Workers
from mlsys.schema import Task, TaskKind

NUMBER = Task(kind=TaskKind.REGRESSION, target="y")
THREE = Task(kind=TaskKind.MULTICLASS, target="y", classes=("a", "b", "c"))
SMALL = {"epochs": 40, "width": 32, "batch_rows": 64}
WITHOUT = """
import sys
sys.modules["torch"] = None
from mlsys import errors, models
print(*models.FAMILIES)
try:
    models.family("network")
except errors.RecipeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def family():
    return models.family("network")


def rows(n=400, seed=0, kind="regression"):
    """A product of two features, of which no sum of effects knows anything."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    y = X[:, 0] * X[:, 1] + 0.05 * rng.normal(size=n)
    y = y if kind == "regression" else np.digitize(y, [-0.3, 0.3])
    return Matrix(X, y.astype(np.float64), tuple("abcd"), ("q",) * 4)


def fit(family, train, validation=None, task=NUMBER, seconds=None, **params):
    how = {"seed": 0, "threads": 1, "seconds": seconds}
    return family.fit(train, validation, task, family.params(**{**SMALL, **params}), **how)


@pytest.mark.parametrize("is_classification", [True, False])
def test_activations_are_those_of_pytorch(is_classification):
    z = np.linspace(-40, 40, 161)
    theirs = torch.nn.functional.selu if is_classification else torch.nn.functional.mish
    ours = torch_training.activation(z, is_classification=is_classification)
    np.testing.assert_allclose(ours, theirs(torch.from_numpy(z)).numpy(), rtol=1e-12, atol=1e-15)


def test_the_learning_rate_rises_and_falls_four_times():
    tops = [(2 ** (cycle + 0.5) - 1) / 15 for cycle in range(4)]
    ends = [(2**cycle - 1) / 15 for cycle in range(5)]
    np.testing.assert_allclose([torch_training.rate(part) for part in tops], 1, atol=1e-12)
    np.testing.assert_allclose([torch_training.rate(part) for part in ends], 0, atol=1e-12)


@pytest.mark.parametrize(("kind", "task"), [("regression", NUMBER), ("classes", THREE)])
def test_whole_numbers_predict_as_the_floats_that_were_trained(family, monkeypatch, kind, task):
    kept = []

    def trained(*given, **how):
        kept.append(torch_training.train_network(*given, **how))
        return kept[0]

    monkeypatch.setattr(network, "train_network", trained)
    matrix = rows(kind=kind)
    model = fit(family, matrix, task=task)
    x = torch.from_numpy(network.scaled(matrix.X, model.centre, model.scale))
    act = torch.nn.functional.selu if kind == "classes" else torch.nn.functional.mish
    for number, (weight, bias) in enumerate(zip(kept[0].weights, kept[0].biases, strict=True)):
        x = x @ torch.from_numpy(weight) + torch.from_numpy(bias)
        x = act(x) if number < 3 else x
    predicted = family.predict(model, matrix.X)
    if kind == "classes":
        np.testing.assert_allclose(predicted, torch.softmax(x, dim=1).numpy(), atol=2e-5)
    else:
        expected = (x[:, 0].numpy() * matrix.y.std() + matrix.y.mean()).clip(matrix.y.min(), matrix.y.max())
        np.testing.assert_allclose(predicted, expected, atol=2e-5)


def test_features_are_centred_at_their_median_and_scaled_by_their_quartiles():
    X = np.array([[0, 5, 0], [1, 5, 0], [2, 5, 0], [3, 5, 0], [4, 5, 8], [np.nan, 5, 0], [np.inf, 5, 0]], np.float32)
    centre, scale = network_inputs.centre_and_scale(X, Workers())
    assert centre.tolist() == [2, 5, 0]
    assert scale.tolist() == [0.5, 0, 0.25]  # quartiles 1 and 3; nothing varies; half of the range


def test_it_learns_what_no_sum_of_effects_can(family):
    train, judged = rows(1_000), rows(500, seed=1)
    error = np.mean((family.predict(fit(family, train), judged.X) - judged.y) ** 2)
    assert error < 0.2 * judged.y.var()


def test_a_network_does_not_depend_on_threads(family):
    train, params = rows(), family.params(**SMALL)
    single, four = (family.fit(train, None, NUMBER, params, seed=0, threads=n) for n in (1, 4))
    assert family.predict(single, train.X).tobytes() == family.predict(four, train.X).tobytes()


def test_predictions_never_leave_the_range_of_the_training_rows(family):
    train = rows()
    predicted = family.predict(fit(family, train), 100 * rows(seed=2).X)
    assert train.y.min() <= predicted.min()
    assert predicted.max() <= train.y.max()


def test_the_epoch_with_the_least_loss_on_the_validation_rows_is_taken_and_can_be_fitted_again(family):
    rng = np.random.default_rng(0)
    noise = [Matrix(rng.normal(size=(200, 4)), rng.normal(size=200), tuple("abcd"), ("q",) * 4) for _ in range(2)]
    model = fit(family, *noise)
    assert family.rounds(model) < 40
    params = family.params_of_refit(family.params(**SMALL), model, 1.1)
    again = family.fit(noise[0], None, NUMBER, params, seed=0, threads=1)
    assert family.predict(again, noise[1].X).tobytes() == family.predict(model, noise[1].X).tobytes()


def test_a_class_of_the_validation_rows_alone_is_borne(family):
    train, validation = rows(kind="classes"), rows(200, seed=1, kind="classes")
    train = train.take(train.y != 1)
    for beside in (validation, validation.take(validation.y == 1)):
        assert not family.predict(fit(family, train, beside, THREE), validation.X)[:, 1].any()


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by 10 s where a network is probed: a second a step."""
    now = [0.0]
    monkeypatch.setattr(deadline, "monotonic", lambda: now[0])
    monkeypatch.setattr(torch_training, "_probe", lambda *_: now.__setitem__(0, now[0] + 10.0))
    return now


@pytest.mark.parametrize(
    ("seconds", "cut"),
    [
        (None, {}),
        (1e6, {}),
        (490.0, {"epochs": 40}),  # by hand: an epoch of ten steps takes 12 s, and 480 s are left
        (58.0, {"epochs": 8, "rows": 1_280}),  # 48 s are four epochs of all rows, or eight of a half
        (0.0, {"epochs": 8, "rows": 256}),
    ],
)
def test_epochs_are_those_that_there_is_time_for_and_rows_those_of_a_few_epochs(family, clock, seconds, cut):
    assert torch_training.affordable(2_560, 4, 0, family.params(), Deadline(seconds)) == cut


def test_a_fit_ends_with_the_epoch_that_passes_its_time(family, monkeypatch):
    ticks = iter([0.0, *[1.0] * 6])
    monkeypatch.setattr(deadline, "monotonic", lambda: next(ticks, 100.0))
    monkeypatch.setattr(torch_training, "affordable", lambda *_: {})
    monkeypatch.setattr(network, "affordable", lambda *_: {})
    train = rows()
    late = fit(family, train, seconds=50.0)
    assert family.cut(late) == {"last_epoch": 7}
    again = fit(family, train, **family.cut(late))
    assert family.predict(again, train.X).tobytes() == family.predict(late, train.X).tobytes()


def test_a_comparison_has_a_part_of_the_epochs_and_says_so(family):
    params = family.params()
    cheaper = family.params_for_comparison(params, NUMBER, rows())
    assert (params.epochs, cheaper.epochs) == (256, 64)
    assert family.note_on_cheaper(params, [cheaper]) == "network: compared with 64 epochs, to limit the cost"


def test_without_its_package_it_is_no_family_and_the_message_names_the_extra():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    listed, _, message = done.stdout.partition("\n")
    assert listed.split() == sorted(set(models.FAMILIES) - {"convolution", "network"})
    assert message == (
        "models: family 'network'\n  got:      no package 'torch' in this environment\n"
        "  expected: the extra of this family\n  hint:     pip install 'mlsys[torch]'\n"
    )
