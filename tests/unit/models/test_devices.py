"""Families on a GPU: what their libraries are told, on fakes that take the word for it and work on the CPU."""

import catboost
import lightgbm
import numpy as np
import pytest
import torch
import xgboost

from mlsys import models
from mlsys.models.families import lightgbm as lightgbm_family
from mlsys.models.matrix import Matrix
from mlsys.schema import Task

TASK = Task(kind="regression", target="y")
PARAMS = {
    "xgboost": {"rounds": 40, "early_stopping": 3, "learning_rate": 0.5},
    "lightgbm": {"rounds": 40, "early_stopping": 3, "learning_rate": 0.5},
    "catboost": {"rounds": 40, "early_stopping": 3, "learning_rate": 0.9},
    "network": {"epochs": 4, "width": 8},
}


def rows(seed, num_rows=300):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(num_rows, 3)).astype(np.float32)
    return Matrix(X, X[:, 0] - X[:, 1] ** 2 + rng.normal(size=num_rows), ("a", "b", "c"), ("q", "q", "q"))


TOLD = []
"""What the libraries were told of a device; the fakes forget it and work on the CPU."""


def without(settings, *names):
    TOLD.extend((name, settings[name]) for name in names if name in settings)
    return {name: value for name, value in settings.items() if name not in names}


class XGBooster(xgboost.Booster):
    def __init__(self, params=None, *args, **how):
        super().__init__(without(params or {}, "device"), *args, **how)

    def set_param(self, params, value=None):
        TOLD.extend(params.items() if isinstance(params, dict) and "device" in params else [])
        super().set_param(params, value)


class Dataset(lightgbm.Dataset):
    def __init__(self, *args, params=None, **how):
        super().__init__(*args, params=without(params or {}, "device_type"), **how)

    def create_valid(self, *args, params=None, **how):
        return super().create_valid(*args, params=without(params or {}, "device_type"), **how)


class LightGBMBooster(lightgbm.Booster):
    def __init__(self, params=None, *args, **how):
        super().__init__(params and without(params, "device_type"), *args, **how)


class CatBoost(catboost.CatBoost):
    def __init__(self, params=None):
        super().__init__(params and without(params, "task_type", "devices"))

    def fit(self, *args, **how):
        TOLD.append(("callbacks", "callbacks" in how))
        return super().fit(*args, **how)


MOVE = torch.Tensor.to


def moved(tensor, device, *args):
    if device != "cuda":
        return MOVE(tensor, device, *args)
    TOLD.append(("to", device))
    return tensor


@pytest.fixture
def told(monkeypatch):
    TOLD.clear()
    monkeypatch.setattr(xgboost, "Booster", XGBooster)
    monkeypatch.setattr(lightgbm, "Dataset", Dataset)
    monkeypatch.setattr(lightgbm, "Booster", LightGBMBooster)
    monkeypatch.setattr(catboost, "CatBoost", CatBoost)
    monkeypatch.setattr(torch.Tensor, "to", moved)
    return TOLD


def fitted(name, device, validation=None):
    family = models.family(name).on(device)
    params = models.params_of(name, PARAMS[name])
    return family, family.fit(rows(0), validation, TASK, params, seed=1, threads=1)


EXPECTED = {
    "xgboost": {("device", "cuda"), ("device", "cpu")},  # the latter when it is fitted
    "lightgbm": {("device_type", "cuda")},
    "catboost": {("task_type", "GPU"), ("devices", "0"), ("callbacks", False)},
    "network": {("to", "cuda")},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_library_is_told_of_the_gpu_and_the_model_is_one_like_any_other(name, told):
    family, model = fitted(name, "cuda", rows(1))
    assert set(told) == EXPECTED[name]
    predicted = family.predict(model, rows(2).X)
    assert np.isfinite(predicted).all()
    if name != "catboost":  # which stops by itself
        _, usual = fitted(name, "cpu", rows(1))
        assert predicted.tobytes() == models.family(name).predict(usual, rows(2).X).tobytes()


@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_is_told_on_the_cpu(name, told):
    fitted(name, "cpu", rows(1))
    assert set(told) <= {("callbacks", True)}


def test_every_tensor_of_the_network_is_moved(told):
    fitted("network", "cuda", rows(1))
    first = 1 + 2 * 4 + 2 * 2  # scales, weights and biases of four layers, rows and targets of two parts
    assert len(told) == first + 4  # and an order of rows an epoch


def test_catboost_keeps_its_best_round_on_a_gpu_and_all_without_rows_to_judge(told):
    family, judged = fitted("catboost", "cuda", rows(1))
    _, usual = fitted("catboost", "cpu", rows(1))
    assert family.rounds(judged) == models.family("catboost").rounds(usual) < 40
    assert family.rounds(fitted("catboost", "cuda")[1]) == 40
    params = models.params_of("catboost", PARAMS["catboost"])
    exact = family.grow(family.bin([rows(0)], rows(1), params, threads=1), TASK, params, seed=1, threads=1, exactly=7)
    assert family.rounds(exact) == 7


def test_a_mean_fits_on_a_gpu_what_can_be_fitted_there(told, monkeypatch):
    monkeypatch.setattr(lightgbm_family, "_is_built_with_cuda", lambda: True)
    names = ("xgboost", "lightgbm", "forest")
    members = [
        {"family": name, "params": {"rounds": 3} if name != "forest" else {"trees": 3}, "weight": 1} for name in names
    ]
    params = models.params_of("ensemble", {"members": members})
    models.family("ensemble").on("cuda").fit(rows(0), None, TASK, params, seed=0, threads=1)
    assert {("device", "cuda"), ("device_type", "cuda")} <= set(told)


# What a library can do here


def test_the_families_of_scikit_learn_know_the_cpu_alone():
    for name in ("linear", "forest", "extra_trees", "decision_tree", "kernel", "dummy"):
        assert models.family(name).lacks_cuda() == f"{name} is fitted on the CPU alone"
        assert models.family(name).on("cpu") is models.family(name)
        with pytest.raises(ValueError, match=f"{name} on cuda"):
            models.family(name).on("cuda")


def test_xgboost_is_asked_how_it_was_built(monkeypatch):
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": True})
    assert models.family("xgboost").lacks_cuda() is None
    monkeypatch.setattr(xgboost, "build_info", lambda: {"USE_CUDA": False})
    assert models.family("xgboost").lacks_cuda() == "this build of XGBoost has no CUDA"


@pytest.mark.parametrize(
    ("said", "lacks"),
    [
        ("CUDA Tree Learner was not enabled in this build.\nPlease recompile", True),
        ("[CUDA] no CUDA-capable device is detected", False),
    ],
)
def test_lightgbm_is_asked_for_a_tree(monkeypatch, said, lacks):
    def refuse(settings, data):
        assert settings["device_type"] == "cuda"
        raise lightgbm.basic.LightGBMError(said)

    monkeypatch.setattr(lightgbm, "Booster", refuse)
    monkeypatch.setattr(lightgbm_family, "_is_built_with_cuda", lightgbm_family._is_built_with_cuda.__wrapped__)
    expected = "this build of LightGBM has no CUDA (packages of PyPI have none)" if lacks else None
    assert models.family("lightgbm").lacks_cuda() == expected


def test_the_lightgbm_of_this_environment_says_what_it_was_not_built_for():
    assert models.family("lightgbm").lacks_cuda() == "this build of LightGBM has no CUDA (packages of PyPI have none)"


def test_pytorch_is_asked_for_its_cuda(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert models.family("network").lacks_cuda() is None
    monkeypatch.setattr(torch.version, "cuda", None)
    assert models.family("network").lacks_cuda() == "this build of PyTorch has no CUDA"


def test_catboost_keeps_directions_on_the_cpu_alone():
    assert models.family("catboost").lacks_cuda(TASK) is None
    lacks = models.family("catboost").lacks_cuda(TASK, is_monotone=True)
    assert lacks == "CatBoost keeps directions (train.monotone) on the CPU alone"
