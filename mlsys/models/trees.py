"""The common part of trees and forests: grown by scikit-learn within their time, kept as arrays, predicted by us.

The trees of a model stand in one table of nodes. Prediction walks all trees at
once, one level a step, and adds leaf values tree by tree, so that a row has the same bits
alone and in a batch (scikit-learn adds in the order in which its threads end), and a
saved forest depends on no version of scikit-learn.

A missing value goes the way that was the better one in training.

With a clock, trees are grown in groups, each at most as large as all before it, while the next one fits into the time;
where even a few trees would not, each is grown on fewer rows. The trees themselves are those of a forest that is grown
at once: scikit-learn draws the seed of a tree by its number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import Field

from mlsys import errors
from mlsys.models.contributions import Contributions
from mlsys.models.deadline import Deadline, affordable_rows
from mlsys.models.interface import Family, FamilyParams, Progress, RowFunction
from mlsys.models.matrix import Matrix, bounded, check_width, ordered_sum
from mlsys.models.model_files import ModelFacts, damaged, read_arrays, read_facts, write_arrays, write_facts
from mlsys.models.tree_shap import TreeShap
from mlsys.schema import Task

COMPARED_TREES = 40
"""Trees of a forest that is only compared with other families."""

FEWEST_TREES = 10
"""Trees that are grown on fewer rows each where they would not end in time."""

_CELLS = 1 << 20
"""Rows × trees that are walked together: temporaries of some tens of megabytes."""

_ARRAYS = {
    "roots": ("<i4", 1),
    "feature": ("<i4", 1),
    "limit": ("<f8", 1),
    "children": ("<i4", 2),
    "missing_right": ("|b1", 1),
    "value": ("<f8", 2),
}
COVER, _COVER = "cover.npz", {"cover": ("<f4", 1)}
"""File of the weights of training rows at the nodes, which contributions need; models from before it have none."""


class ForestFacts(ModelFacts):
    """Facts beside the arrays: number of features, of classes (0 for regression), and levels of the deepest tree.

    `has_cover` says that `COVER` lies beside them.
    """

    features: int
    classes: int
    depth: int
    has_cover: bool = False


@dataclass(frozen=True)
class Forest:
    """All trees in one table of nodes; `roots` are the first node of each tree.

    A row goes left where its feature is at most the limit, or where it is missing and `missing_right` is false.
    `children`, (nodes, 2), are the nodes to the left and right; a leaf is its own child, with an infinite limit.
    `value`, (nodes, outputs), holds class frequencies or the mean of the training rows, and `cover`, (nodes,), their
    weight. What the time of the fit has `cut` is not stored.
    """

    facts: ForestFacts
    roots: np.ndarray
    feature: np.ndarray
    limit: np.ndarray
    children: np.ndarray
    missing_right: np.ndarray
    value: np.ndarray
    cut: Mapping[str, int] = field(default_factory=dict, compare=False)
    cover: np.ndarray | None = field(default=None, compare=False)

    @cached_property
    def shap(self) -> TreeShap | None:
        """The trees, prepared for contributions; None without a cover."""
        if self.cover is None:
            return None
        where = self.roots, self.feature, self.limit, self.children, self.missing_right
        return TreeShap(*where, self.value, self.cover)


LOSSES = frozenset({"poisson"})
"""Losses of a number that scikit-learn's trees split by beside squares; a leaf still predicts the mean."""


class GrownParams(FamilyParams):
    """Parameters that every forest has."""

    trees: int = Field(100, ge=1)
    max_depth: int = Field(16, ge=1)
    min_leaf_rows: int = Field(5, ge=1, description="training rows a leaf at least")
    feature_fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="features tried a split; √features (classification) or a third (regression) if null",
    )
    rows_a_tree: int = Field(50_000, ge=10, description="rows drawn for a tree at most")


P = TypeVar("P", bound=GrownParams)


class GrownFamily(Family[P, Forest]):
    """Base of the forests, whose trees are independent of each other."""

    encoding = "codes"
    losses = LOSSES
    takes_weights = True
    explains = True
    libraries = ("scikit-learn",)

    @abstractmethod
    def estimator(self, task: Task, params: P, num_rows: int) -> Any:
        """The forest of scikit-learn that grows on `num_rows` rows, without its seed and its threads."""

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: P,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
        seconds: float | None = None,
    ) -> Forest:
        """Grow the forest, of as many trees as `seconds` have time for; its trees do not depend on `threads`."""
        deadline = Deadline(seconds, "sklearn.ensemble")
        X, y = training_rows(train, task)

        def grown(trees: int, rows_a_tree: int, until: Deadline) -> Any:
            own = params.model_copy(update={"trees": trees, "rows_a_tree": rows_a_tree})
            estimator = self.estimator(task, own, train.num_rows).set_params(random_state=seed, n_jobs=threads)
            return _grow(estimator, X, y, trees, threads, until, train.weight)

        most, groups = min(params.rows_a_tree, train.num_rows), -(-min(FEWEST_TREES, params.trees) // threads)
        rows = affordable_rows(lambda few: grown(threads, few, Deadline(None)), most, deadline, groups)
        forest = grown(params.trees, params.rows_a_tree if rows == most else rows, deadline)
        trees = len(forest.estimators_)
        cut = {"trees": trees} if trees < params.trees else {}
        cut |= {"rows_a_tree": rows} if rows < most else {}
        return gathered([estimator.tree_ for estimator in forest.estimators_], forest, task, cut)

    def predict(self, model: Forest, X: np.ndarray) -> np.ndarray:
        """Predict the mean over the trees of class frequencies, or of means."""
        return mean_of_trees(model, X, self.name)

    def row_function(self, model: Forest) -> RowFunction:
        """Walk all trees at once with one row, in fewer operations than with several."""
        return RowWalk(model, self.name)

    def contributions(self, model: Forest, X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """Shapley values by the paths of the trees."""
        return contributions_of(model, X, outputs, self.name)

    def save(self, model: Forest, folder: Path) -> None:
        """Write ``forest.json`` and the table of nodes, ``forest.npz``."""
        write_table(model, folder)

    def load(self, folder: Path) -> Forest:
        """Read ``forest.json`` and ``forest.npz``."""
        return read_table(folder)

    def cut(self, model: Forest) -> dict[str, Any]:
        return dict(model.cut)

    def params_for_comparison(self, params: P, task: Task, rows: Matrix) -> P:
        """A part of the trees: more of them are better, but by less than families differ."""
        return params.model_copy(update={"trees": min(params.trees, COMPARED_TREES)})

    def note_on_cheaper(self, params: P, used: Sequence[P]) -> str | None:
        trees = min(each.trees for each in used)
        return None if trees == params.trees else f"{self.name}: compared with {trees} trees, to limit the cost"


def by_loss(task: Task) -> dict[str, str]:
    """The criterion by which scikit-learn's trees split for the loss of the task, if the recipe names one."""
    return {} if task.loss is None else {"criterion": task.loss.name}


def training_rows(train: Matrix, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Features and target as scikit-learn's trees take them; rows from Ray's object store are read-only."""
    y = train.y.astype(np.int64) if task.is_classification else train.y
    return np.require(bounded(train.X), requirements="W"), y


def _grow(
    estimator: Any,
    X: np.ndarray,
    y: np.ndarray,
    trees: int,
    threads: int,
    deadline: Deadline,
    weight: np.ndarray | None = None,
) -> Any:
    """Grow trees: at once without a clock, else in groups, the first of which is grown whatever it takes."""
    rows = (X, y) if weight is None else (X, y, weight)
    if not deadline.is_set:
        return estimator.set_params(n_estimators=trees).fit(*rows)
    estimator.set_params(warm_start=True)
    grown, group, seconds = 0, min(trees, threads), 0.0
    while group > 0:
        grown += group
        estimator.set_params(n_estimators=grown)
        seconds += deadline.seconds_of(lambda: estimator.fit(*rows))
        group = min(trees - grown, grown, int(deadline.left / (seconds / grown)))
    return estimator


def gathered(trees: Sequence[Any], fitted: Any, task: Task, cut: Mapping[str, int]) -> Forest:
    """Copy the trees of a fitted estimator of scikit-learn into one table of nodes, numbered through."""
    roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
    leaf = np.concatenate([tree.children_left for tree in trees]) < 0
    sides = []
    for side in ("children_left", "children_right"):
        child = [getattr(tree, side) + root for tree, root in zip(trees, roots, strict=True)]
        sides.append(np.where(leaf, np.arange(leaf.size), np.concatenate(child)))
    left_if_missing = np.concatenate([tree.missing_go_to_left for tree in trees]).astype(bool)
    value = np.concatenate([tree.value[:, 0, :] for tree in trees])
    if task.is_classification:
        full = np.zeros((value.shape[0], len(task.classes)))
        full[:, fitted.classes_] = value / value.sum(axis=1, keepdims=True)
        value = full
    depth = max(tree.max_depth for tree in trees)
    return Forest(
        ForestFacts(features=fitted.n_features_in_, classes=len(task.classes), depth=depth, has_cover=True),
        roots.astype("<i4"),
        np.where(leaf, 0, np.concatenate([tree.feature for tree in trees])).astype("<i4"),
        np.where(leaf, np.inf, np.concatenate([tree.threshold for tree in trees])).astype("<f8"),
        np.stack(sides, axis=1).astype("<i4"),
        ~left_if_missing & ~leaf,
        value.astype("<f8"),
        cut,
        np.concatenate([tree.weighted_n_node_samples for tree in trees]).astype("<f4"),
    )


def write_table(model: Forest, folder: Path) -> None:
    """Write ``forest.json``, the table of nodes, ``forest.npz``, and ``cover.npz``."""
    write_facts(folder / "forest.json", model.facts)
    write_arrays(folder / "forest.npz", {name: getattr(model, name) for name in _ARRAYS})
    if model.cover is not None:
        write_arrays(folder / COVER, {"cover": model.cover})


def read_table(folder: Path) -> Forest:
    """Read ``forest.json`` and ``forest.npz``; every index is checked to lie inside its table."""
    facts = read_facts(folder / "forest.json", ForestFacts)
    file = folder / "forest.npz"
    arrays: dict[str, Any] = read_arrays(file, _ARRAYS)
    model = Forest(facts, **arrays)
    nodes, outputs = model.feature.size, facts.classes or 1
    shapes = (model.limit.shape, model.children.shape, model.missing_right.shape, model.value.shape)
    if shapes != ((nodes,), (nodes, 2), (nodes,), (nodes, outputs)):
        raise damaged(file, str(shapes), f"tables of {nodes} nodes")
    inside = [(model.roots, nodes), (model.children, nodes), (model.feature, facts.features)]
    if any(a.size == 0 or a.min() < 0 or a.max() >= bound for a, bound in inside):
        table = f"{nodes} nodes over {facts.features} features"
        raise damaged(file, "a node or a feature that is not there", table)
    if not facts.has_cover:
        return model
    cover = read_arrays(folder / COVER, _COVER)["cover"]
    if cover.size != nodes or not (np.isfinite(cover) & (cover >= 0)).all():
        raise damaged(folder / COVER, f"weights of {cover.size} nodes", f"one for each of {nodes}, none below 0")
    return replace(model, cover=cover)


def contributions_of(model: Forest, X: np.ndarray, outputs: np.ndarray, family: str) -> Contributions:
    """The contributions of the features to values, or to the probability of a class."""
    check_width(X, model.facts.features, family)
    shap = model.shap
    if shap is None:
        got = "trees that were stored without the weights of their rows"
        raise errors.RequestError.unexplained(f"model of family '{family}'", got, "a model that is trained again")
    values, base = shap.contributions(bounded(X), outputs)
    return Contributions(values, base, "probability" if model.facts.classes else "value")


def mean_of_trees(model: Forest, X: np.ndarray, family: str) -> np.ndarray:
    """Predict the mean over the trees of class frequencies, or of means; a row has the same bits in any batch."""
    check_width(X, model.facts.features, family)
    X = bounded(X)
    step = max(1, _CELLS // model.roots.size)
    parts = [_mean_of_leaves(model, X[start : start + step]) for start in range(0, max(1, X.shape[0]), step)]
    mean = np.concatenate(parts)
    return mean if model.facts.classes else np.ascontiguousarray(mean[:, 0])


class RowWalk:
    """The mean over the trees for one row, with the bits of `mean_of_trees`.

    A node has three children side by side: to the left, to the right, and for a missing value.
    """

    def __init__(self, model: Forest, family: str) -> None:
        self.model = model
        self.family = family
        nodes = np.arange(model.feature.size)
        missing = model.children[nodes, model.missing_right.astype(np.intp)]
        self._children = np.column_stack([model.children, missing]).astype(np.intp).reshape(-1)
        self._feature = model.feature.astype(np.intp)
        self._roots = model.roots.astype(np.intp)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Predict one row, (1, features)."""
        model, children, feature, limit = self.model, self._children, self._feature, self.model.limit
        check_width(X, model.facts.features, self.family)
        row = bounded(X)[0]
        missing = np.isnan(row) * 2
        node = self._roots
        for _ in range(model.facts.depth):
            asked = feature.take(node)
            node = children.take(3 * node + (row.take(asked) > limit.take(node)) + missing.take(asked))
        mean = np.add.accumulate(model.value[node], axis=0)[-1] / model.roots.size
        return np.asarray(mean[None] if model.facts.classes else mean)


def _mean_of_leaves(model: Forest, X: np.ndarray) -> np.ndarray:
    """Average, over the trees, the leaf that each row falls into: (rows, outputs)."""
    node = np.broadcast_to(model.roots, (X.shape[0], model.roots.size))
    any_missing = bool(np.isnan(X).any())
    for _ in range(model.facts.depth):
        x = np.take_along_axis(X, model.feature[node], axis=1)
        right = x > model.limit[node]
        if any_missing:
            right |= np.isnan(x) & model.missing_right[node]
        node = model.children[node, right.astype(np.int8)]
    if X.shape[0] == 0:
        return np.zeros((0, model.value.shape[1]))
    return ordered_sum(model.value[node], axis=1) / model.roots.size
