"""Kernel machine: regularised least squares on the likeness of a row to some training rows.

The likeness of two rows is ``exp(-d² / (width · D))`` with d their distance and D the mean
squared distance of training rows; features are standardised. A
sample of the training rows are *landmarks* (the Nyström method): a score is a weighted sum of
the likenesses to them, fitted by least squares with a ridge penalty. The penalty is the one
with the least leave-one-out error, which costs one decomposition for all penalties (PRESS).
On classes, as accurate as a support vector machine (Rifkin and Klautau), the scores of a class
against the others become probabilities by one slope for all and one intercept a class, fitted
to the leave-one-out scores (Platt's idea).

Prediction gives a row the same bits in any batch: features are rounded to whole numbers so
small that their products and sums are exact in float64, whatever the order.

References
----------
Williams and Seeger: Using the Nyström Method to Speed Up Kernel Machines, NIPS 2000.
Rifkin and Klautau: In Defense of One-Vs-All Classification, JMLR 5, 2004, section 5.
Allen: The Relationship between Variable Selection and Data Augmentation and a Method for
Prediction, Technometrics 16, 1974, doi:10.1080/00401706.1974.10489157 (PRESS).
Platt: Probabilistic Outputs for Support Vector Machines, 1999.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mlsys.models.deadline import Deadline
from mlsys.models.interface import Domain, Family, FamilyParams, Uniform
from mlsys.models.matrix import Matrix, centre_and_scale, check_width, drawn, ordered_scores, outputs, standardised
from mlsys.models.model_files import ModelFacts, damaged, read_arrays, read_facts, write_arrays, write_facts
from mlsys.models.ridge_loo import PENALTIES, RidgeSolution, calibrated, solve
from mlsys.schema import Task

FEW_LANDMARKS = 2_000
"""Landmarks of a model that is only compared, with other families or with another width."""

SMALLEST, FEW_ROWS = 1 / 8, 500
"""Part of the rows and landmarks that a fit with a clock begins with, and rows that it has at least."""

LEAST_GROWTH, LARGEST_GROWTH = 1.2, 4.0
"""Growth of that part which is worth another fit, and the largest that the time of a small fit foretells."""

_CELLS = 1 << 22
"""Rows × landmarks that are compared together: 32 MB."""

_NUGGET = 1e-6
"""Added to the likeness of a landmark to itself, so that two equal ones do no harm."""

_ARRAYS = {
    "centre": ("<f8", 1),
    "scale": ("<f8", 1),
    "landmarks": ("<i4", 2),
    "coefficient": ("<f8", 2),
    "intercept": ("<f8", 1),
}


class KernelParams(FamilyParams):
    """Parameters of the kernel machine; its penalty is found by leave-one-out."""

    width: float = Field(1.0, gt=0, description="squared distance at which likeness is 1/e, in mean squared distances")
    landmarks: int = Field(4_000, ge=1, description="rows that others are compared with at most")
    rows: int = Field(20_000, ge=10, description="rows fitted on at most; of more, a sample")


class KernelFacts(ModelFacts):
    """Facts beside the arrays: classes (0 for regression), those in training, and the constants of the likeness.

    A rounded feature has `steps` steps in 1 and is cut at `largest`, beyond which no training row is. Likeness is
    exp(-rate · d²) with d in steps; `l2` is the penalty that leave-one-out chose.
    """

    classes: int
    present: tuple[int, ...]
    steps: float
    largest: int
    rate: float
    l2: float


@dataclass(frozen=True)
class Kernel:
    """A kernel machine: score = intercept + Σ coefficient · likeness to a landmark, one score an output.

    `landmarks` are rounded features, whole numbers, (landmarks, features). What the time of the fit has `cut` is not
    stored.
    """

    facts: KernelFacts
    centre: np.ndarray
    scale: np.ndarray
    landmarks: np.ndarray
    coefficient: np.ndarray
    intercept: np.ndarray
    cut: Mapping[str, int] = field(default_factory=dict, compare=False)

    @cached_property
    def places(self) -> np.ndarray:
        """The landmarks in float64, as products need them."""
        return self.landmarks.astype(np.float64)


class KernelFamily(Family[KernelParams, Kernel]):
    """Kernel ridge regression on landmarks, calibrated for classes."""

    name = "kernel"
    encoding = "dense"
    complexity = 3
    """Before boosting: a linear model of likenesses, solved in one step, whose penalty finds itself."""
    params = KernelParams
    min_coordinates = 64
    libraries = ("scipy",)

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the width alone: more landmarks are never worse, only slower."""
        return {"width": Uniform(0.25, 4.0, log=True)}

    def params_for_search(self, params: KernelParams) -> KernelParams:
        """At most `FEW_LANDMARKS`: a fit takes time in proportion to the square of the landmarks."""
        few = params.landmarks <= FEW_LANDMARKS
        return params if few else params.model_copy(update={"landmarks": FEW_LANDMARKS})

    def cost(self, params: KernelParams) -> float:
        return float(params.landmarks**2)

    def note_on_cheaper(self, params: KernelParams, used: Sequence[KernelParams]) -> str | None:
        landmarks = min(each.landmarks for each in used)
        if landmarks == params.landmarks:
            return None
        return f"kernel: scores are of fits with {landmarks:,} landmarks; the final one has {params.landmarks:,}"

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: KernelParams,
        *,
        seed: int,
        seconds: float | None = None,
        **_: Any,
    ) -> Kernel:
        """Fit on `train`, or on `params.rows` of its rows; on a part of rows and landmarks where time is short."""
        deadline = Deadline(seconds, "scipy.linalg", "scipy.optimize")
        if deadline.is_set:
            return _grown(train, task, params, seed, deadline)
        return _fitted(train, task, params, seed)

    def cut(self, model: Kernel) -> dict[str, Any]:
        return dict(model.cut)

    def predict(self, model: Kernel, X: np.ndarray) -> np.ndarray:
        """Predict values, or probabilities by the logistic function or softmax."""
        check_width(X, model.centre.size, self.name)
        facts, landmarks = model.facts, model.places
        step = max(1, _CELLS // len(landmarks))
        parts = []
        for start in range(0, max(1, X.shape[0]), step):
            standard_X = standardised(X[start : start + step], model.centre, model.scale)
            alike = _likeness(_rounded(standard_X, facts.steps, facts.largest), landmarks, facts.rate)
            parts.append(ordered_scores(alike, model.coefficient, model.intercept))
        return outputs(np.concatenate(parts), facts.present, facts.classes)

    def save(self, model: Kernel, folder: Path) -> None:
        """Write ``kernel.json`` and the landmarks with their coefficients, ``kernel.npz``."""
        write_facts(folder / "kernel.json", model.facts)
        write_arrays(folder / "kernel.npz", {name: getattr(model, name) for name in _ARRAYS})

    def load(self, folder: Path) -> Kernel:
        """Read ``kernel.json`` and ``kernel.npz``, whose arrays have to fit each other."""
        facts = read_facts(folder / "kernel.json", KernelFacts)
        file = folder / "kernel.npz"
        arrays: dict[str, Any] = read_arrays(file, _ARRAYS)
        model = Kernel(facts, **arrays)
        shapes = (model.scale.shape, model.landmarks.shape, model.coefficient.shape)
        rows, width = model.landmarks.shape
        if shapes != (model.centre.shape, (rows, model.centre.size), (rows, model.intercept.size)):
            raise damaged(file, str(shapes), f"{rows} landmarks of {width} features")
        return model


FAMILY = KernelFamily()


def _grown(train: Matrix, task: Task, params: KernelParams, seed: int, deadline: Deadline) -> Kernel:
    """Fit on growing parts of the rows and the landmarks; the last model is the one that the time sufficed for.

    All that is costly takes time in proportion to rows × landmarks² or landmarks³: to the cube of the part.
    """
    rows = min(params.rows, train.num_rows)
    part = min(1.0, max(SMALLEST, FEW_ROWS / rows))
    while True:
        smaller, before = _part_of(params, rows, part), deadline.left
        model = _fitted(train, task, smaller, seed)
        left = deadline.left
        growth = min(LARGEST_GROWTH, (max(0.0, left) / max(before - left, 1e-9)) ** (1 / 3))
        if part == 1:
            return model
        if growth < LEAST_GROWTH:
            return replace(model, cut={"rows": smaller.rows, "landmarks": smaller.landmarks})
        part = min(1.0, part * growth)


def _part_of(params: KernelParams, rows: int, part: float) -> KernelParams:
    """Parameters with so large a part of the rows and the landmarks that there are."""
    landmarks = max(1, round(part * min(params.landmarks, rows)))
    return params.model_copy(update={"rows": max(10, round(part * rows)), "landmarks": landmarks})


def _fitted(train: Matrix, task: Task, params: KernelParams, seed: int) -> Kernel:
    """Fit a model, whatever it takes."""
    rng = np.random.default_rng(seed)
    train = train.take(drawn(rng, train.num_rows, params.rows))
    centre, scale = centre_and_scale(train.X, train.types)
    standard_X = standardised(train.X, centre, scale)
    steps, largest = _grid(standard_X)
    rounded = _rounded(standard_X, steps, largest)
    landmarks = rounded[drawn(rng, len(rounded), params.landmarks)]
    rate = 1 / (params.width * max(2.0 * float(rounded.var(axis=0).sum()), 1.0))
    present = tuple(np.unique(train.y.astype(np.int64)).tolist()) if task.is_classification else ()
    target = _target(train.y, present) if task.is_classification else train.y[:, None]
    inverse, solved = _solve(rounded, landmarks, rate, target)
    coefficient, intercept = inverse @ solved.coefficient, solved.intercept
    if len(present) > 1:
        slope, shift = calibrated(solved.left_out, np.searchsorted(present, train.y))
        coefficient, intercept = slope * coefficient, slope * intercept + shift
    facts = KernelFacts(
        classes=len(task.classes), present=present, steps=steps, largest=largest, rate=rate, l2=solved.penalty
    )
    return Kernel(facts, centre, scale, landmarks.astype("<i4"), np.ascontiguousarray(coefficient), intercept)


def _grid(standard_X: np.ndarray) -> tuple[float, int]:
    """Give the steps in 1, and the most steps: squared distances are whole numbers below 2^53, and so exact."""
    most = math.isqrt(2**51 // max(1, standard_X.shape[1])) // 2
    most = min(most, 2**30)
    return most / (float(np.abs(standard_X).max(initial=0.0)) or 1.0), most


def _rounded(standard_X: np.ndarray, steps: float, largest: int) -> np.ndarray:
    return np.clip(np.rint(standard_X * steps), -largest, largest)


def _likeness(rounded: np.ndarray, landmarks: np.ndarray, rate: float) -> np.ndarray:
    """Compare rows with landmarks, (rows, landmarks); the squares of the distances are exact."""
    squares = (landmarks * landmarks).sum(axis=1) - 2.0 * (rounded @ landmarks.T)
    squares += (rounded * rounded).sum(axis=1)[:, None]
    squares *= -rate
    with np.errstate(under="ignore"):
        return np.asarray(np.exp(squares, out=squares))


def _target(y: np.ndarray, present: tuple[int, ...]) -> np.ndarray:
    """Code classes as a column each of ones and zeros; of two classes, the second alone."""
    columns = (y[:, None] == np.array(present)).astype(np.float64)
    return np.asarray(columns[:, 1:] if len(present) == 2 else columns)


def _solve(
    rounded: np.ndarray, landmarks: np.ndarray, rate: float, target: np.ndarray
) -> tuple[np.ndarray, RidgeSolution]:
    """Solve in the kernel's feature space; the matrix given turns likenesses into features of that space."""
    from scipy.linalg import cholesky, solve_triangular

    among = _likeness(landmarks, landmarks, rate)
    among[np.diag_indices_from(among)] += _NUGGET
    root = cholesky(among, lower=True)
    inverse = solve_triangular(root, np.eye(len(root)), lower=True).T
    return inverse, solve(_likeness(rounded, landmarks, rate) @ inverse, target, PENALTIES)
