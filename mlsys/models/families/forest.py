"""Random forest: grown by scikit-learn, kept as arrays, predicted by us.

The trees of all the forest stand in one table of nodes. Prediction walks all trees at
once, one level a step, and adds leaf values tree by tree, so that a row has the same bits
alone and in a batch (scikit-learn adds in the order in which its threads end), and a
saved forest depends on no version of scikit-learn.

A missing value goes the way that was the better one in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mlsys.models.interface import Choice, Domain, Family, FamilyParams, Integer, Progress, Uniform
from mlsys.models.matrix import Matrix, bounded, check_width, ordered_sum
from mlsys.models.model_files import ModelFacts, damaged, read_arrays, read_facts, write_arrays, write_facts
from mlsys.schema import Task

COMPARED_TREES = 40
"""Trees of a forest that is only compared with other families."""

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


class ForestParams(FamilyParams):
    """Parameters of the forest."""

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


class ForestFacts(ModelFacts):
    """Facts beside the arrays: number of features, of classes (0 for regression), and levels of the deepest tree."""

    features: int
    classes: int
    depth: int


@dataclass(frozen=True)
class Forest:
    """All trees in one table of nodes; `roots` are the first node of each tree.

    A row goes left where its feature is at most the limit, or where it is missing and `missing_right` is false.
    `children`, (nodes, 2), are the nodes to the left and right; a leaf is its own child, with an infinite limit.
    `value`, (nodes, outputs), holds class frequencies or the mean of the training rows.
    """

    facts: ForestFacts
    roots: np.ndarray
    feature: np.ndarray
    limit: np.ndarray
    children: np.ndarray
    missing_right: np.ndarray
    value: np.ndarray


class ForestFamily(Family[ForestParams, Forest]):
    """Random forests of scikit-learn."""

    name = "forest"
    encoding = "codes"
    complexity = 4
    """After boosting: a forest of full trees has many times its nodes and predicts slower."""
    params = ForestParams
    min_coordinates = 0
    libraries = ("scikit-learn",)

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the size of the forest and of its trees."""
        return {
            "trees": Choice((100, 200, 300)),
            "max_depth": Integer(6, 24),
            "min_leaf_rows": Integer(1, 50, log=True),
            "feature_fraction": Uniform(0.1, 1.0),
        }

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: ForestParams,
        *,
        seed: int,
        threads: int,
        progress: Progress | None = None,
    ) -> Forest:
        """Grow the forest; the result does not depend on `threads`."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        fraction: Any = params.feature_fraction
        shape: dict[str, Any] = {
            "n_estimators": params.trees,
            "max_depth": params.max_depth,
            "min_samples_leaf": params.min_leaf_rows,
            "max_samples": min(train.num_rows, params.rows_a_tree),
            "n_jobs": threads,
            "random_state": seed,
        }
        X = np.require(bounded(train.X), requirements="W")  # rows from Ray's object store are read-only
        if not task.is_classification:
            grown = RandomForestRegressor(max_features=fraction or 1 / 3, **shape).fit(X, train.y)
            return _gather(grown, None, 0)
        grown = RandomForestClassifier(max_features=fraction or "sqrt", **shape).fit(X, train.y.astype(np.int64))
        return _gather(grown, grown.classes_, len(task.classes))

    def params_for_comparison(self, params: ForestParams, task: Task, rows: Matrix) -> ForestParams:
        """A part of the trees: more of them are better, but by less than families differ."""
        return params.model_copy(update={"trees": min(params.trees, COMPARED_TREES)})

    def note_on_cheaper(self, params: ForestParams, used: Sequence[ForestParams]) -> str | None:
        trees = min(each.trees for each in used)
        return None if trees == params.trees else f"forest: compared with {trees} trees, to limit the cost"

    def predict(self, model: Forest, X: np.ndarray) -> np.ndarray:
        """Predict the mean over the trees of class frequencies, or of means."""
        check_width(X, model.facts.features, self.name)
        X = bounded(X)
        step = max(1, _CELLS // model.roots.size)
        parts = [_mean_of_leaves(model, X[start : start + step]) for start in range(0, max(1, X.shape[0]), step)]
        mean = np.concatenate(parts)
        return mean if model.facts.classes else np.ascontiguousarray(mean[:, 0])

    def save(self, model: Forest, folder: Path) -> None:
        """Write ``forest.json`` and the table of nodes, ``forest.npz``."""
        write_facts(folder / "forest.json", model.facts)
        write_arrays(folder / "forest.npz", {name: getattr(model, name) for name in _ARRAYS})

    def load(self, folder: Path) -> Forest:
        """Read ``forest.json`` and ``forest.npz``; every index is checked to lie inside its table."""
        facts = read_facts(folder / "forest.json", ForestFacts)
        file = folder / "forest.npz"
        model = Forest(facts, **read_arrays(file, _ARRAYS))
        nodes, outputs = model.feature.size, facts.classes or 1
        shapes = (model.limit.shape, model.children.shape, model.missing_right.shape, model.value.shape)
        if shapes != ((nodes,), (nodes, 2), (nodes,), (nodes, outputs)):
            raise damaged(file, str(shapes), f"tables of {nodes} nodes")
        inside = [(model.roots, nodes), (model.children, nodes), (model.feature, facts.features)]
        if any(a.size == 0 or a.min() < 0 or a.max() >= bound for a, bound in inside):
            table = f"{nodes} nodes over {facts.features} features"
            raise damaged(file, "a node or a feature that is not there", table)
        return model


FAMILY = ForestFamily()


def _gather(grown: Any, present: np.ndarray | None, classes: int) -> Forest:
    """Copy scikit-learn's trees into one table of nodes, numbered through."""
    trees = [estimator.tree_ for estimator in grown.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
    leaf = np.concatenate([tree.children_left for tree in trees]) < 0
    sides = []
    for side in ("children_left", "children_right"):
        child = [getattr(tree, side) + root for tree, root in zip(trees, roots, strict=True)]
        sides.append(np.where(leaf, np.arange(leaf.size), np.concatenate(child)))
    left_if_missing = np.concatenate([tree.missing_go_to_left for tree in trees]).astype(bool)
    value = np.concatenate([tree.value[:, 0, :] for tree in trees])
    if present is not None:
        full = np.zeros((value.shape[0], classes))
        full[:, present] = value / value.sum(axis=1, keepdims=True)
        value = full
    return Forest(
        ForestFacts(features=grown.n_features_in_, classes=classes, depth=max(tree.max_depth for tree in trees)),
        roots.astype("<i4"),
        np.where(leaf, 0, np.concatenate([tree.feature for tree in trees])).astype("<i4"),
        np.where(leaf, np.inf, np.concatenate([tree.threshold for tree in trees])).astype("<f8"),
        np.stack(sides, axis=1).astype("<i4"),
        ~left_if_missing & ~leaf,
        value.astype("<f8"),
    )


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
