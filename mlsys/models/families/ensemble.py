"""A weighted mean of models of other families on the same features: what the search makes of its best trials.

Each member is fitted as it would be alone. Probabilities are averaged as they are, and so are values: Caruana et al.,
"Ensemble Selection from Libraries of Models", ICML 2004, doi:10.1145/1015330.1015432. Which members, and with which
weights, is chosen in `mlsys.tune.blending`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlsys import errors, models
from mlsys.models.boosting import BoostingFamily, BoostingParams
from mlsys.models.contributions import Contributions, mean
from mlsys.models.deadline import Deadline
from mlsys.models.interface import Device, Family, FamilyParams, Progress, RowFunction
from mlsys.models.matrix import Matrix
from mlsys.models.model_files import ModelFacts, damaged, read_facts, write_facts
from mlsys.schema import Task, TaskKind

NAME = "ensemble"


class Member(BaseModel):
    """A family, its parameters (those that are not named have their defaults), and its share of the mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    params: dict[str, Any] = {}
    weight: float = Field(gt=0)

    @property
    def fitted(self) -> FamilyParams:
        """The parameters that it is fitted with."""
        return models.params_of(self.family, self.params)


class EnsembleParams(FamilyParams):
    """The members; weights are taken by their share of the sum."""

    members: tuple[Member, ...] = Field(
        (Member(family="xgboost", weight=1.0), Member(family="lightgbm", weight=1.0)),
        min_length=1,
        description="models of the mean: {family, params, weight}",
    )

    @model_validator(mode="after")
    def _members_can_stand_beside_each_other(self) -> EnsembleParams:
        for member in self.members:
            if models.family(member.family).encoding != EnsembleFamily.encoding or member.family == EnsembleFamily.name:
                able = [name for name, each in models.FAMILIES.items() if each.encoding == EnsembleFamily.encoding]
                able.remove(EnsembleFamily.name)
                raise ValueError(f"members of the families {', '.join(sorted(able))}, which take the same features")
            models.params_of(member.family, member.params)  # which refuses what it does not know
        return self


class EnsembleFacts(ModelFacts):
    """The family and the weight of each member; weights sum to 1."""

    families: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Ensemble:
    """Fitted members, in the order of their facts."""

    facts: EnsembleFacts
    members: tuple[Any, ...]


class EnsembleFamily(Family[EnsembleParams, Ensemble]):
    """Weighted means of models."""

    name = NAME
    encoding = "codes"
    complexity = 20
    """After every family that a member may be of."""
    params = EnsembleParams
    tasks = frozenset(TaskKind) - {TaskKind.RANKING}
    """Not rankings: scores of different models have no common scale."""
    losses = frozenset({"quantile", "poisson", "tweedie", "gamma"})
    """Those of its members, each of which is asked."""
    takes_weights = True
    explains = True
    """Where its members are explained on one scale."""
    monotone = frozenset({*losses, "squared", "binary"})

    def __init__(self, device: Device = "cpu") -> None:
        self.device = device

    def lacks_cuda(self, task: Task | None = None, *, is_monotone: bool = False) -> str | None:
        """Nothing: each of its members is asked."""
        return None

    def on(self, device: Device) -> EnsembleFamily:
        return EnsembleFamily(device)

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: EnsembleParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
    ) -> Ensemble:
        """Fit one member after another, each in its share of the time; those that share bins are grown on the same."""
        fitted, bins, deadline = [], dict[Hashable, Any](), Deadline(seconds)
        for number, member in enumerate(params.members):
            rows = (train, validation)
            share = deadline.left / (len(params.members) - number) if deadline.is_set else None
            how: dict[str, Any] = {"seed": seed, "threads": threads, "seconds": share}
            fitted.append(_fit(member, rows, bins, task, self.device, **how))
        return self.of(params, fitted)

    def of(self, params: EnsembleParams, fitted: Sequence[Any]) -> Ensemble:
        """The ensemble of members that were fitted elsewhere, in the order of the parameters."""
        total = sum(member.weight for member in params.members)
        families = tuple(member.family for member in params.members)
        weights = tuple(member.weight / total for member in params.members)
        return Ensemble(EnsembleFacts(families=families, weights=weights), tuple(fitted))

    def predict(self, model: Ensemble, X: np.ndarray) -> np.ndarray:
        """Sum the weighted predictions in the order of the members, so that a row has the same bits in any batch."""
        pairs = zip(model.facts.families, model.members, strict=True)
        return _mean([models.predict(name, member, X) for name, member in pairs], model.facts.weights)

    def row_function(self, model: Ensemble) -> RowFunction | None:
        """The function of each member, where it has one; None where none of them has."""
        pairs = list(zip(model.facts.families, model.members, strict=True))
        made = [models.row_function(name, member) for name, member in pairs]
        if not any(made):
            return None
        each = [own or partial(models.predict, *pair) for own, pair in zip(made, pairs, strict=True)]
        return lambda X: _mean([own(X) for own in each], model.facts.weights)

    def contributions(self, model: Ensemble, X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """The weighted mean of the members' contributions: of probabilities and values that of the prediction too."""
        pairs = zip(model.facts.families, model.members, strict=True)
        parts = [models.contributions(name, member, X, outputs) for name, member in pairs]
        own = mean(parts, model.facts.weights)
        if own is None:
            got = f"members on different scales: {', '.join(sorted({part.scale for part in parts}))}"
            raise errors.RequestError.unexplained("model of family 'ensemble'", got, "members on one scale")
        return own

    def params_of_refit(self, params: EnsembleParams, model: Ensemble, growth: float) -> EnsembleParams | None:
        """Those of each member."""
        members = []
        for member, fitted in zip(params.members, model.members, strict=True):
            family = models.family(member.family)
            grown = family.params_of_refit(member.fitted, models.bare(fitted), growth)
            if grown is None:
                return None
            members.append(member.model_copy(update={"params": grown.model_dump(mode="json")}))
        return EnsembleParams(members=tuple(members))

    def grown(self, params: EnsembleParams, growth: float) -> EnsembleParams:
        """Those of each member."""
        members = []
        for member in params.members:
            own = models.family(member.family).grown(member.fitted, growth)
            members.append(member.model_copy(update={"params": own.model_dump(mode="json")}))
        return EnsembleParams(members=tuple(members))

    def save(self, model: Ensemble, folder: Path) -> None:
        """Write ``ensemble.json`` and each member into a folder of its own."""
        write_facts(folder / "ensemble.json", model.facts)
        for number, (name, member) in enumerate(zip(model.facts.families, model.members, strict=True)):
            (folder / f"member-{number}").mkdir()
            models.save(name, member, folder / f"member-{number}")

    def load(self, folder: Path) -> Ensemble:
        """Read what `save` wrote."""
        file = folder / "ensemble.json"
        facts = read_facts(file, EnsembleFacts)
        if len(facts.families) != len(facts.weights) or not all(name in models.FAMILIES for name in facts.families):
            raise damaged(file, f"{facts.families}", "known families, each with a weight")
        folders = [folder / f"member-{number}" for number in range(len(facts.families))]
        members = [models.load(name, own) for name, own in zip(facts.families, folders, strict=True)]
        return Ensemble(facts, tuple(members))


FAMILY = EnsembleFamily()


def _mean(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Sum the weighted parts in their order."""
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total = total + weight * part
    return np.asarray(total)


def _fit(
    member: Member,
    rows: tuple[Matrix, Matrix | None],
    bins: dict[Hashable, Any],
    task: Task,
    device: Device,
    *,
    seed: int,
    threads: int,
    seconds: float | None,
) -> Any:
    """Fit a member, on the device if it can; `bins` are those of the members before it."""
    is_monotone, params = any(rows[0].signs), member.fitted
    family = models.for_task(member.family, task, is_monotone=is_monotone)
    if device != "cpu" and family.lacks_cuda(task, is_monotone=is_monotone) is None:
        family = family.on(device)
    if not (isinstance(family, BoostingFamily) and isinstance(params, BoostingParams)):
        return family.fit(*rows, task, params, seed=seed, threads=threads, seconds=seconds)
    stopping = rows[1] if params.early_stopping else None
    key = member.family, family.bins_key(params), stopping is None
    if key not in bins:
        bins[key] = family.bin([rows[0]], stopping, params, threads=threads)
    return family.grow(bins[key], task, params, seed=seed, threads=threads, seconds=seconds)


def params_of_members(members: Sequence[tuple[str, dict[str, Any], float]]) -> dict[str, Any]:
    """Parameters of an ensemble from families, their parameters, and weights, as a recipe would state them."""
    return {"members": [{"family": family, "params": params, "weight": weight} for family, params, weight in members]}
