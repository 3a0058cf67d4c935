"""Random forest: each tree grown on a random sample of the rows, each split the best of a random part of the features.

Breiman, "Random Forests", Machine Learning 45, 2001, doi:10.1023/A:1010933404324.
"""

from __future__ import annotations

from typing import Any

from mlsys.models.interface import Choice, Domain, Integer, Uniform
from mlsys.models.trees import GrownFamily, GrownParams, by_loss
from mlsys.schema import Task


class ForestParams(GrownParams):
    """Parameters of the random forest."""


class ForestFamily(GrownFamily[ForestParams]):
    """Random forests of scikit-learn."""

    name = "forest"
    complexity = 5
    """After boosting: a forest of full trees has many times its nodes and predicts slower."""
    params = ForestParams
    min_coordinates = 0

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the size of the forest and of its trees."""
        return {
            "trees": Choice((100, 200, 300)),
            "max_depth": Integer(6, 24),
            "min_leaf_rows": Integer(1, 50, log=True),
            "feature_fraction": Uniform(0.1, 1.0),
        }

    def estimator(self, task: Task, params: ForestParams, num_rows: int) -> Any:
        """The forest of scikit-learn; a tree draws as many rows as there are, with replacement, or fewer."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        kind, usual = (RandomForestClassifier, "sqrt") if task.is_classification else (RandomForestRegressor, 1 / 3)
        return kind(
            **by_loss(task),
            max_features=params.feature_fraction or usual,
            max_depth=params.max_depth,
            min_samples_leaf=params.min_leaf_rows,
            max_samples=min(num_rows, params.rows_a_tree),
        )


FAMILY = ForestFamily()
