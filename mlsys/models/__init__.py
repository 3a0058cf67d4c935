"""Model families, found by name: those of `mlsys.models.families`, and those registered from outside.

A new family is one file that subclasses `mlsys.models.interface.Family`. In ``mlsys/models/families`` it is
found by its name; elsewhere `register` adds it, or an entry point of the group ``mlsys.families``.
`tests/contracts/test_families.py` asks of each what `Family` promises.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mlsys import errors
from mlsys.models import calibration, class_balance, target_transform
from mlsys.models.binary_relevance import FILE, LabelModels, Relevance
from mlsys.models.calibration import Calibrated, Temperature
from mlsys.models.class_balance import Corrected
from mlsys.models.contributions import Contributions
from mlsys.models.interface import Device, Family, FamilyParams, RowFunction
from mlsys.models.target_transform import Transformed
from mlsys.plugins import Plugins, modules
from mlsys.schema import Task, TaskKind

__all__ = [
    "BASELINE",
    "FAMILIES",
    "bare",
    "check_explained",
    "check_names",
    "contributions",
    "cut",
    "family",
    "for_task",
    "label_models",
    "learner",
    "load",
    "params_of",
    "predict",
    "register",
    "rounds",
    "row_function",
    "save",
]

BASELINE = "dummy"
"""Family that every model has to beat; it is always among the candidates."""

OPTIONAL = {"catboost": "catboost", "convolution": "torch", "network": "torch"}
"""Families whose library is an extra of mlsys, and the one name of library and extra."""

MISSING = {name: library for name, library in OPTIONAL.items() if importlib.util.find_spec(library) is None}
"""Those of them whose library is not in this environment: they are no families here."""

FITTED_ALONE = frozenset({"convolution", "network"})
"""Those of them that need the library to be fitted alone: their models are read and predict without it."""

_files = modules("mlsys.models.families.*", "FAMILY")
FAMILIES: Plugins[Family[Any, Any]] = Plugins(
    "mlsys.families", {}, {name: load for name, load in _files.items() if name not in MISSING}, Family
)
"""Every family by its name; a file is imported when its family is first used."""


def register(family: Family[Any, Any]) -> None:
    """Make a family known in this process; recipes may then name it.

    Other processes see families of the entry-point group ``mlsys.families`` only.

    Raises
    ------
    TypeError, ValueError
        It is no named instance of `Family`, or mlsys has a family of that name.
    """
    FAMILIES.register(getattr(family, "name", None), family)


def family(name: str) -> Family[Any, Any]:
    """The family of a name.

    Raises
    ------
    RecipeError
        There is no such family.
    """
    check_names([name])
    return FAMILIES[name]


def learner(name: str, task: Task, device: Device = "cpu") -> Family[Any, Any]:
    """The family of a name as it is fitted to a task on a device: of several labels, one model for each."""
    own = family(name).on(device)
    return Relevance(own) if task.kind is TaskKind.MULTILABEL else own


def check_names(names: Iterable[str]) -> None:
    """Refuse names that no family has, without loading a family.

    Raises
    ------
    RecipeError
        There is no such family; the message names the nearest, or the extra that brings its library.
    """
    for name in names:
        if name in MISSING and name not in FAMILIES:
            got, hint = f"no package '{MISSING[name]}' in this environment", f"pip install 'mlsys[{MISSING[name]}]'"
            raise errors.RecipeError.build(
                f"models: family '{name}'", got=got, expected="the extra of this family", hint=hint
            )
        if name not in FAMILIES:
            hint = errors.did_you_mean(name, FAMILIES)
            raise errors.RecipeError.build(
                f"models: no family '{name}'", got=name, expected="a model family", hint=hint
            )


def for_task(name: str, task: Task, **demands: bool) -> Family[Any, Any]:
    """The family of a name, which has to be able to learn such a task, with the `demands` of `Family.lacks`.

    Raises
    ------
    RecipeError
        There is no such family, or it cannot do this kind of task, its loss, or what else the recipe asks for.
    """
    chosen = family(name)
    got = chosen.lacks(task, **demands)
    if got is not None:
        able = sorted(other for other in FAMILIES if FAMILIES[other].lacks(task, **demands) is None)
        where = f"models: family '{name}'"
        expected = _expected(chosen, task)
        hint = f"families for it: {', '.join(able)}" if able else "no family can: leave it out"
        raise errors.RecipeError.build(where, got=got, expected=expected, hint=hint)
    return chosen


def _expected(chosen: Family[Any, Any], task: Task) -> str:
    """Say what a family could do in place of what it lacks."""
    if task.fitted.kind not in chosen.tasks:
        return f"one of {', '.join(sorted(kind.value for kind in chosen.tasks))}"
    if task.loss is None or task.loss.name in chosen.losses:
        return "a recipe without it"
    return f"one of {', '.join(sorted(chosen.losses))}" if chosen.losses else "loss: auto"


def params_of(name: str, values: Mapping[str, Any]) -> FamilyParams:
    """Checked parameters of a family; one that `values` does not name has its default.

    Raises
    ------
    RecipeError
        The family does not know a name, or a value does not fit.

    Examples
    --------
    >>> params_of("linear", {"l2": 10}).l2
    10.0
    """
    model: type[FamilyParams] = family(name).params
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    path = ".".join(["train", "params", *map(str, fault["loc"])])
    if fault["type"] == "extra_forbidden":
        raise errors.RecipeError.unknown_key(path, str(fault["loc"][-1]), model.model_fields)
    raise errors.RecipeError.build(
        f"recipe: '{path}' of family {name}", got=repr(fault["input"]), expected=fault["msg"]
    )


def predict(name: str, model: Any, X: np.ndarray) -> np.ndarray:
    """Predictions of a family's model as `Family.predict` describes them: on the scale of the target, calibrated."""
    if isinstance(model, Transformed):
        return model.target.inverse(_of_model(name).predict(model.model, X), X)
    if isinstance(model, Calibrated):
        return model.temperature.apply(predict(name, model.model, X))
    if isinstance(model, Corrected):
        return model.prior.apply(_of_model(name).predict(model.model, X))
    return _fitted_by(name, model).predict(model, X)


def check_explained(name: str) -> None:
    """Refuse a family whose models have no exact contributions.

    Raises
    ------
    RequestError
        It is one; the message lists those that have them.
    """
    if not _of_model(name).explains:
        able = ", ".join(sorted(other for other in FAMILIES if FAMILIES[other].explains))
        got = "a family without an exact method"
        raise errors.RequestError.unexplained(f"model of family '{name}'", got, f"one of {able}")


def contributions(name: str, model: Any, X: np.ndarray, outputs: np.ndarray) -> Contributions:
    """Exact contributions of the features to one output of each row, as `mlsys.models.contributions` says.

    `outputs` are the positions of classes or labels, and 0 for a number.

    Raises
    ------
    RequestError
        The family, or this model of it, has none.
    """
    check_explained(name)
    if not len(X):  # which libraries answer in shapes of their own
        first = contributions(name, model, np.zeros((1, X.shape[1]), np.float32), np.zeros(1, np.intp))
        return replace(first, values=first.values[:0], base=first.base[:0])
    if isinstance(model, Transformed):
        return _of_model(name).contributions(model.model, X, outputs).untransformed(model.target, X)
    if isinstance(model, Calibrated):
        return contributions(name, model.model, X, outputs).calibrated(model.temperature, outputs)
    if isinstance(model, Corrected):
        return _of_model(name).contributions(model.model, X, outputs).corrected(model.prior, outputs)
    return _fitted_by(name, model).contributions(model, X, outputs)


def row_function(name: str, model: Any) -> RowFunction | None:
    """Prepare a faster way than `predict` for single rows, as `Family.row_function`."""
    made: RowFunction | None = _fitted_by(name, model).row_function(bare(model))
    return None if made is None else _after(model, made)


def _after(model: Any, own: RowFunction) -> RowFunction:
    """The predictions of a row, of what the family's own function gives: on the scale of the target, calibrated."""
    if isinstance(model, Transformed):
        return lambda X: model.target.inverse(own(X), X)
    if isinstance(model, Calibrated):
        uncalibrated, temperature = _after(model.model, own), model.temperature
        if isinstance(temperature, Temperature):
            return lambda X: temperature.apply_to_row(uncalibrated(X))
        return lambda X: temperature.apply(uncalibrated(X))
    return (lambda X: model.prior.apply(own(X))) if isinstance(model, Corrected) else own


def save(name: str, model: Any, folder: Path) -> None:
    """Write a family's model, and what its target or its probabilities go through, if they do."""
    if isinstance(model, Transformed):
        target_transform.write(model.target, folder)
    if isinstance(model, Calibrated):
        calibration.write(model.temperature, folder)
        model = model.model
    if isinstance(model, Corrected):
        class_balance.write(model.prior, folder)
    _fitted_by(name, model).save(bare(model), folder)


def load(name: str, folder: Path) -> Any:
    """Read what `save` wrote; `BundleError` for anything else."""
    own = Relevance(_of_model(name)) if (folder / FILE).is_file() else _of_model(name)
    model, target, temperature = own.load(folder), target_transform.read(folder), calibration.read(folder)
    if target is not None:
        return Transformed(model, target)
    prior = class_balance.read(folder)
    model = model if prior is None else Corrected(model, prior)
    return model if temperature is None else Calibrated(model, temperature)


def rounds(name: str, model: Any) -> int | None:
    """Rounds of a fitted model, of several labels the most; None if its family has none."""
    return _fitted_by(name, model).rounds(bare(model))


def cut(name: str, model: Any) -> dict[str, Any]:
    """Parameters of a fitted model that its time ended at less than was asked for, as `Family.cut` says."""
    return _fitted_by(name, model).cut(bare(model))


def label_models(model: Any) -> LabelModels | None:
    """The models of the labels that a model is made of; None where it is of one target."""
    own = bare(model)
    return own if isinstance(own, LabelModels) else None


def _fitted_by(name: str, model: Any) -> Family[Any, Any]:
    """The family that has fitted a model."""
    return _of_model(name) if label_models(model) is None else Relevance(_of_model(name))


def bare(model: Any) -> Any:
    """The family's own model, without what its predictions go through."""
    return bare(model.model) if isinstance(model, Transformed | Calibrated | Corrected) else model


def _of_model(name: str) -> Family[Any, Any]:
    """The family of a model that is there, which need not be one that can be fitted here."""
    is_fitted_elsewhere = name in FITTED_ALONE and name in MISSING and name not in FAMILIES
    return _files[name]() if is_fitted_elsewhere else family(name)
