"""Binary relevance: several labels are learned as one binary model for each, of one family and one set of parameters.

The features of a row are computed once and shared. Each label is fitted as a task of its own, with the same seed as
every other: a label's model has the bytes of that of a binary recipe with the same rows and parameters. What labels
say of each other is not used: the means of metrics over labels, such as the Hamming loss, do not ask for it.

A label that fewer than `LEAST` training rows have, or lack, cannot be learned; its rate is its answer.

References
----------
Zhang & Zhou (2014), "A review on multi-label learning algorithms", IEEE TKDE 26(8), doi:10.1109/TKDE.2013.39: binary
relevance, section 3.1.1.
Read, Pfahringer, Holmes & Frank (2011), "Classifier chains for multi-label classification", Machine Learning 85,
doi:10.1007/s10994-011-5256-5: what it loses where labels depend on each other, and what it gains in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mlsys.models.contributions import Contributions, Scale, log_odds_of
from mlsys.models.deadline import Deadline
from mlsys.models.families import dummy
from mlsys.models.interface import Family, FamilyParams, Progress, RowFunction
from mlsys.models.matrix import Matrix
from mlsys.models.model_files import ModelFacts, damaged, read_facts, write_facts
from mlsys.schema import Task

FILE = "labels.json"
"""File that says that a model is one of several labels, each in a folder of its own beside it."""

LEAST = 5
"""Training rows that have a label, and that lack it, from which on it is learned."""


class LabelFacts(ModelFacts):
    """The labels in their order, and of each whether its rate is its answer."""

    names: tuple[str, ...]
    is_constant: tuple[bool, ...]


@dataclass(frozen=True)
class LabelModels:
    """A fitted model for each label: of the family, or the rate of a label that cannot be learned."""

    facts: LabelFacts
    models: tuple[Any, ...]

    @property
    def constant(self) -> list[str]:
        """The labels whose rate is their answer."""
        return [name for name, alone in zip(self.facts.names, self.facts.is_constant, strict=True) if alone]


class LabelParams(FamilyParams):
    """Parameters of the fit of each label, where these are not the same."""

    each: tuple[FamilyParams, ...]


class Relevance(Family[FamilyParams, LabelModels]):
    """A family as it learns several labels."""

    params = FamilyParams

    def __init__(self, own: Family[Any, Any]) -> None:
        self.own = own
        self.name, self.encoding, self.complexity = own.name, own.encoding, own.complexity  # type: ignore[misc]

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: FamilyParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
    ) -> LabelModels:
        """Fit one label after another, each in its share of the time."""
        fitted, constant, deadline = list[Any](), list[bool](), Deadline(seconds)
        each = params.each if isinstance(params, LabelParams) else (params,) * len(task.labels)
        for number in range(len(task.labels)):
            rows = of_label(train, number)
            constant.append(not is_learned(rows))
            if constant[-1]:
                fitted.append(
                    dummy.FAMILY.fit(rows, None, task.fitted, dummy.DummyParams(), seed=seed, threads=threads)
                )
                continue
            share = deadline.left / (len(task.labels) - number) if deadline.is_set else None
            stopping = None if validation is None else of_label(validation, number)
            how: dict[str, Any] = {"seed": seed, "threads": threads, "progress": progress, "seconds": share}
            fitted.append(self.own.fit(rows, stopping, task.fitted, each[number], **how))
        return LabelModels(LabelFacts(names=task.labels, is_constant=tuple(constant)), tuple(fitted))

    def predict(self, model: LabelModels, X: np.ndarray) -> np.ndarray:
        """Probability of each label, (rows, labels), in the order of `Task.labels`."""
        families = self._families(model)
        parts = [family.predict(own, X)[:, 1] for family, own in zip(families, model.models, strict=True)]
        return np.stack(parts, axis=1)

    def row_function(self, model: LabelModels) -> RowFunction | None:
        """The function of each label's model, where it has one; None where none of them has."""
        pairs = list(zip(self._families(model), model.models, strict=True))
        made = [family.row_function(own) for family, own in pairs]
        if not any(made):
            return None
        each = [own or partial(pair[0].predict, pair[1]) for own, pair in zip(made, pairs, strict=True)]
        return lambda X: np.stack([own(X)[:, 1] for own in each], axis=1)

    def save(self, model: LabelModels, folder: Path) -> None:
        """Write ``labels.json`` and the model of each label into a folder of its own."""
        write_facts(folder / FILE, model.facts)
        for number, (family, own) in enumerate(zip(self._families(model), model.models, strict=True)):
            (folder / f"label-{number}").mkdir()
            family.save(own, folder / f"label-{number}")

    def load(self, folder: Path) -> LabelModels:
        """Read what `save` wrote."""
        facts = read_facts(folder / FILE, LabelFacts)
        if not facts.names or len(facts.names) != len(facts.is_constant):
            raise damaged(folder / FILE, f"{facts.names}", "labels, and of each whether it is constant")
        empty = LabelModels(facts, (None,) * len(facts.names))
        read = [family.load(folder / f"label-{number}") for number, family in enumerate(self._families(empty))]
        return LabelModels(facts, tuple(read))

    def contributions(self, model: LabelModels, X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """Those of one label of each row; of a label whose rate is its answer, the rate on the scale of the others."""
        values, base = np.zeros(X.shape), np.zeros(len(X))
        scale: Scale = "probability"
        for number, (alone, own) in enumerate(self._pairs(model)):
            rows = np.flatnonzero(outputs == number)
            if not alone and rows.size:
                part = self.own.contributions(own, X[rows], np.ones(rows.size, np.intp))
                values[rows], base[rows], scale = part.values, part.base, part.scale
        for number, (alone, own) in enumerate(self._pairs(model)):
            if alone:
                rate = own.prior[1]
                base[outputs == number] = rate if scale == "probability" else log_odds_of(rate)
        return Contributions(values, base, scale)

    def rounds(self, model: LabelModels) -> int | None:
        """The most rounds of a label; None if the family has none."""
        return max((rounds for rounds in self.label_rounds(model) if rounds is not None), default=None)

    def label_rounds(self, model: LabelModels) -> list[int | None]:
        """Rounds of each label; None for one that is not learned."""
        return [None if alone else self.own.rounds(own) for alone, own in self._pairs(model)]

    def cut(self, model: LabelModels) -> dict[str, Any]:
        """The least of each parameter that the time of some label's fit has cut."""
        least: dict[str, Any] = {}
        for cut in (self.own.cut(own) for alone, own in self._pairs(model) if not alone):
            least |= {name: min(value, least.get(name, value)) for name, value in cut.items()}
        return least

    def params_of_refit(self, params: FamilyParams, model: LabelModels, growth: float) -> FamilyParams | None:
        """Those of each label, which has rounds of its own."""
        each = [params if alone else self.own.params_of_refit(params, own, growth) for alone, own in self._pairs(model)]
        known = [own for own in each if own is not None]
        return LabelParams(each=tuple(known)) if len(known) == len(each) else None

    def of_label_rounds(self, params: FamilyParams, rounds: Sequence[int | None]) -> FamilyParams:
        """The parameters of a fit that ends after so many rounds of each label."""
        return LabelParams(each=tuple(params if k is None else self.own.of_rounds(params, k) for k in rounds))

    def _families(self, model: LabelModels) -> list[Family[Any, Any]]:
        return [dummy.FAMILY if alone else self.own for alone in model.facts.is_constant]

    def _pairs(self, model: LabelModels) -> list[tuple[bool, Any]]:
        return list(zip(model.facts.is_constant, model.models, strict=True))


def of_label(rows: Matrix, number: int) -> Matrix:
    """Rows with one label as their target: 1 where they have it."""
    return replace(rows, y=np.asarray((rows.y.astype(np.int64) >> number) & 1, np.float64))


def is_learned(rows: Matrix) -> bool:
    """True if enough rows have the label, and lack it."""
    num_with = int(rows.y.sum())
    return min(num_with, rows.num_rows - num_with) >= LEAST
