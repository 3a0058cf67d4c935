"""Rare classes: rows weighted or sampled by their class for the fit, and probabilities corrected to the true shares.

``weights`` lets every class count alike: a row of class k weighs w(k) = W / (K W(k)), where W(k) is the weight of the
rows of that class among those that are fitted on, W that of all, and K the number of classes; no class weighs more than
`MOST` times what another does, and the mean weight of a row is 1, so that penalties mean what they meant. ``sample: R``
keeps w(k) = min(1, R n / n(k)) of the rows of class k, n those of the rarest class: fits of many rows take less time.

Both change the shares of the classes by known factors and nothing else, so what a model learns of p(k | x) is
q(k | x) = w(k) p(k | x) / Σ w(j) p(j | x), and the true probabilities are

    p(k | x) = (q(k | x) / w(k)) / Σ (q(j | x) / w(j)).

For two classes this is theorem 2 of Elkan (2001), and subtracting log(w(1) / w(0)) from a logit, the prior correction
of King & Zeng (2001); for more it is equation 2.4 of Saerens, Latinne & Decaestecker (2002). The correction is exact
for the true q, keeps the order of two classes, and is part of the stored model.

References
----------
Elkan (2001), "The foundations of cost-sensitive learning", IJCAI, theorem 2.
King & Zeng (2001), "Logistic regression in rare events data", Political Analysis 9(2),
doi:10.1093/oxfordjournals.pan.a004868, section 4.1.
Saerens, Latinne & Decaestecker (2002), "Adjusting the outputs of a classifier to new a priori probabilities: a simple
procedure", Neural Computation 14(1), doi:10.1162/089976602753284446.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from mlsys.models.matrix import Matrix, ordered_sum
from mlsys.models.model_files import ModelFacts, read_facts, write_facts

FILE = "prior.json"
"""File of a correction beside those of the family; there is none where rows were fitted as they are."""

MOST = 100.0
"""Weight of a row of one class at most, as a multiple of that of another: beyond, a few rows would be the fit."""

RARE = 0.2
"""Share of the rarest class, as a multiple of an even share, below which ``auto`` compares weighted classes."""


@dataclass(frozen=True)
class Balancing:
    """The recipe's wish: classes weighted, or with a `ratio` sampled to so many rows for each of the rarest class."""

    ratio: float | None = None

    def __str__(self) -> str:
        return "weights" if self.ratio is None else f"sample: {self.ratio:g}"


class PriorCorrection(ModelFacts):
    """The factors by which the shares of the classes were changed, in the order of the classes."""

    factors: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]

    def apply(self, q: np.ndarray) -> np.ndarray:
        """True probabilities of (rows, classes); the same bits for a row alone and among others.

        A model of classes of 1 % and 99 % that was fitted as if they were alike, and is undecided:

        >>> PriorCorrection(factors=(0.5 / 0.99, 0.5 / 0.01)).apply(np.array([[0.5, 0.5]])).round(6).tolist()
        [[0.99, 0.01]]
        """
        if len(set(self.factors)) == 1:
            return q
        odds = q / np.array(self.factors)
        return np.asarray(odds / ordered_sum(odds, axis=1)[:, None])


@dataclass(frozen=True)
class Corrected:
    """A fitted model of a family whose probabilities are corrected."""

    model: Any
    prior: PriorCorrection


@dataclass(frozen=True)
class ClassBalance:
    """A fitted balance: how rows of each class count for the fit.

    Attributes
    ----------
    kind
        ``weights`` multiplies the weight of a row, ``sample`` keeps that fraction of the rows of a class.
    factors
        Weight, or fraction that is kept, of each class.
    seed
        Of what is drawn.
    """

    kind: Literal["weights", "sample"]
    factors: tuple[float, ...]
    seed: int = 0

    @property
    def correction(self) -> PriorCorrection:
        """The factors that undo it in the probabilities of a model."""
        return PriorCorrection(factors=self.factors)

    def matrix(self, rows: Matrix) -> Matrix:
        """Rows as they are fitted."""
        if not rows.num_rows:
            return rows
        classes = rows.y.astype(np.intp)
        if self.kind == "weights":
            own = np.array(self.factors)[classes]
            return replace(rows, weight=own if rows.weight is None else rows.weight * own)
        return rows.take(self._drawn(classes))

    def _drawn(self, classes: np.ndarray) -> np.ndarray:
        """Mask of the rows that are kept: of each class a simple random sample of its fraction, and at least one."""
        retained = np.ones(len(classes), bool)
        for number, fraction in enumerate(self.factors):
            places = np.flatnonzero(classes == number)
            if fraction < 1 and places.size:
                rng = np.random.default_rng([self.seed % 2**63, number, places.size])
                retained[rng.permutation(places)[max(1, round(fraction * places.size)) :]] = False
        return retained

    def to_json(self) -> dict[str, Any]:
        """JSON values, for the provenance of a model and the key of its checkpoints."""
        return {"kind": self.kind, "factors": list(self.factors)}


def fit(wish: Balancing, y: np.ndarray, weight: np.ndarray | None, classes: int, seed: int = 0) -> ClassBalance | None:
    """Find the factors of classes, of which `y` has the positions; None where there is nothing to balance.

    >>> fit(Balancing(), np.array([0.0, 0, 0, 1]), None, 2).factors
    (0.6666666666666666, 2.0)
    >>> fit(Balancing(2.0), np.array([0.0, 0, 0, 1]), None, 2).factors
    (0.6666666666666666, 1.0)
    """
    positions = y.astype(np.intp)
    counted = None if wish.ratio is not None else weight
    sizes = np.bincount(positions, counted, minlength=classes).astype(np.float64)
    there = sizes > 0
    if there.sum() < 2:
        return None
    factors = np.ones(classes)
    if wish.ratio is not None:
        factors[there] = np.minimum(1.0, wish.ratio * sizes[there].min() / sizes[there])
        return ClassBalance("sample", tuple(factors.tolist()), seed)
    own = sizes.sum() / (there.sum() * sizes[there])
    own = np.minimum(own, MOST * own.min())
    factors[there] = own * (sizes.sum() / (own * sizes[there]).sum())
    return ClassBalance("weights", tuple(factors.tolist()), seed)


def is_rare(counts: np.ndarray) -> bool:
    """True if the rarest class that there is has less than `RARE` of an even share of the rows.

    >>> is_rare(np.array([95, 5])), is_rare(np.array([60, 40]))
    (True, False)
    """
    there = counts[counts > 0]
    return bool(there.size > 1 and there.min() < RARE * there.sum() / there.size)


def write(prior: PriorCorrection, folder: Path) -> None:
    """Write the correction beside the files of its model."""
    write_facts(folder / FILE, prior)


def read(folder: Path) -> PriorCorrection | None:
    """The correction that lies beside the files of a model, if there is one."""
    return read_facts(folder / FILE, PriorCorrection) if (folder / FILE).is_file() else None
