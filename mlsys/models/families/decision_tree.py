"""A decision tree: one tree of questions that a person can read, grown by scikit-learn and written out as text.

Breiman, Friedman, Olshen & Stone, "Classification and Regression Trees", 1984. ``tree.txt`` beside the model has the
questions from the root on: rows for which a line is true have the deeper lines below it, the others those after
``else``. A leaf has the mean, or the probability of each class, of its training rows. Categories are asked by their
codes, which the feature program of the bundle names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mlsys.models.contributions import Contributions
from mlsys.models.deadline import Deadline, affordable_rows
from mlsys.models.interface import Domain, Family, FamilyParams, Integer, RowFunction
from mlsys.models.matrix import Matrix, drawn
from mlsys.models.model_files import ModelFacts, read_checked, read_facts, write_facts
from mlsys.models.trees import (
    LOSSES,
    Forest,
    RowWalk,
    by_loss,
    contributions_of,
    gathered,
    mean_of_trees,
    read_table,
    training_rows,
    write_table,
)
from mlsys.schema import Task


class DecisionTreeParams(FamilyParams):
    """Parameters of a decision tree."""

    max_depth: int = Field(6, ge=1, le=100, description="questions until a leaf at most")
    min_leaf_rows: int = Field(20, ge=1, description="training rows a leaf at least")
    rows: int = Field(1_000_000, ge=10, description="rows fitted on at most; of more, a sample")


class TextFacts(ModelFacts):
    """Digest of the text, checked when the model is read."""

    sha256: str


@dataclass(frozen=True)
class DecisionTree:
    """A forest of one tree, and the tree as text."""

    table: Forest
    text: str


class DecisionTreeFamily(Family[DecisionTreeParams, DecisionTree]):
    """Decision trees of scikit-learn."""

    name = "decision_tree"
    encoding = "codes"
    complexity = 2
    """After the linear family, which has a number a feature."""
    params = DecisionTreeParams
    losses = LOSSES
    takes_weights = True
    explains = True
    libraries = ("scikit-learn",)

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the size of the tree."""
        return {"max_depth": Integer(2, 12), "min_leaf_rows": Integer(1, 200, log=True)}

    def fit(
        self,
        train: Matrix,
        validation: Matrix | None,
        task: Task,
        params: DecisionTreeParams,
        *,
        seed: int,
        seconds: float | None = None,
        **_: Any,
    ) -> DecisionTree:
        """Grow the tree on `train`, or on as many of its rows as `seconds` have time for."""
        deadline, most = Deadline(seconds, "sklearn.tree"), min(params.rows, train.num_rows)
        (X, y), weight = training_rows(train, task), train.weight

        def grown(num_rows: int) -> Any:
            rows = drawn(np.random.default_rng(seed), train.num_rows, num_rows)
            estimator = self.estimator(task, params, num_rows).set_params(random_state=seed)
            return estimator.fit(X[rows], y[rows], None if weight is None else weight[rows])

        rows = affordable_rows(grown, most, deadline)
        tree = grown(rows)
        table = gathered([tree.tree_], tree, task, {"rows": rows} if rows < most else {})
        return DecisionTree(table, "".join(_lines(table, tree.tree_.n_node_samples, train.names, task)))

    def estimator(self, task: Task, params: DecisionTreeParams, num_rows: int) -> Any:
        """The tree of scikit-learn, without its seed."""
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        kind = DecisionTreeClassifier if task.is_classification else DecisionTreeRegressor
        return kind(**by_loss(task), max_depth=params.max_depth, min_samples_leaf=params.min_leaf_rows)

    def predict(self, model: DecisionTree, X: np.ndarray) -> np.ndarray:
        """Predict what the leaf of a row has."""
        return mean_of_trees(model.table, X, self.name)

    def row_function(self, model: DecisionTree) -> RowFunction:
        """Walk the tree with one row, in fewer operations than with several."""
        return RowWalk(model.table, self.name)

    def contributions(self, model: DecisionTree, X: np.ndarray, outputs: np.ndarray) -> Contributions:
        """Shapley values by the paths of the tree."""
        return contributions_of(model.table, X, outputs, self.name)

    def save(self, model: DecisionTree, folder: Path) -> None:
        """Write ``forest.json`` and ``forest.npz``, the text ``tree.txt``, and its digest into ``tree.json``."""
        write_table(model.table, folder)
        data = model.text.encode()
        (folder / "tree.txt").write_bytes(data)
        write_facts(folder / "tree.json", TextFacts(sha256=hashlib.sha256(data).hexdigest()))

    def load(self, folder: Path) -> DecisionTree:
        """Read the files, once the digest of the text is found right."""
        table, facts = read_table(folder), read_facts(folder / "tree.json", TextFacts)
        return DecisionTree(table, read_checked(folder / "tree.txt", facts.sha256).decode())

    def cut(self, model: DecisionTree) -> dict[str, Any]:
        return dict(model.table.cut)


FAMILY = DecisionTreeFamily()


def _lines(
    table: Forest, num_rows: np.ndarray, names: tuple[str, ...], task: Task, node: int = 0, depth: int = 0
) -> Iterator[str]:
    """Write the tree below a node, a line a question or leaf, two spaces deeper a level."""
    left, right = table.children[node].tolist()
    if left == node:
        yield f"{'  ' * depth}{_answer(table.value[node], task)}  [{num_rows[node]:,} rows]\n"
        return
    missing = "" if table.missing_right[node] else " or missing"
    yield f"{'  ' * depth}{names[table.feature[node]]} <= {table.limit[node]:.6g}{missing}\n"
    yield from _lines(table, num_rows, names, task, left, depth + 1)
    yield f"{'  ' * depth}else\n"
    yield from _lines(table, num_rows, names, task, right, depth + 1)


def _answer(value: np.ndarray, task: Task) -> str:
    """The mean of a leaf, or its probability of each class."""
    if not task.is_classification:
        return f"{value[0]:.6g}"
    return ", ".join(f"{name} {share:.3f}" for name, share in zip(task.class_names, value.tolist(), strict=True))
