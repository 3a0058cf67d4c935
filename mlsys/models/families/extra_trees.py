"""Extra trees: a forest whose splits are the best of random ones, a threshold a feature, grown on all rows.

Noisier than a random forest's, its trees differ more from each other, and so does it from boosted trees: of use as a
member of a mean. Geurts, Ernst & Wehenkel, "Extremely randomized trees", Machine Learning 63, 2006,
doi:10.1007/s10994-006-6226-1. A row whose value is missing goes the way that is drawn for it.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mlsys.models.interface import Choice, Domain, Integer, Uniform
from mlsys.models.trees import GrownFamily, GrownParams, by_loss
from mlsys.schema import Task


class ExtraTreesParams(GrownParams):
    """Parameters of extra trees."""

    max_depth: int = Field(32, ge=1)
    max_leaf_nodes: int = Field(15_000, ge=2, description="leaves of a tree at most, grown where they gain most")
    min_leaf_rows: int = Field(2, ge=1, description="training rows a leaf at least")
    feature_fraction: float | None = Field(
        None, gt=0, le=1, description="features tried a split; √features (classification) or all (regression) if null"
    )


class ExtraTreesFamily(GrownFamily[ExtraTreesParams]):
    """Extra trees of scikit-learn."""

    name = "extra_trees"
    complexity = 6
    """After the forest: its splits are random."""
    params = ExtraTreesParams
    is_searched_by_default = False

    def space(self, task: Task) -> dict[str, Domain]:
        """Search the size of the forest, of its leaves, and the features that a split looks at."""
        return {
            "trees": Choice((100, 200, 300)),
            "min_leaf_rows": Integer(1, 50, log=True),
            "feature_fraction": Uniform(0.1, 1.0),
        }

    def portfolio(self, task: Task, num_rows: int) -> list[dict[str, Any]]:
        """Take many trees that look at most features: one of the values that AutoGluon's portfolios name."""
        return [{"trees": 300, "feature_fraction": 0.75, "max_leaf_nodes": 15_000}]

    def estimator(self, task: Task, params: ExtraTreesParams, num_rows: int) -> Any:
        """The extra trees of scikit-learn; rows are drawn only where there are more than a tree may have."""
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        kind, usual = (ExtraTreesClassifier, "sqrt") if task.is_classification else (ExtraTreesRegressor, 1.0)
        draws = num_rows > params.rows_a_tree
        return kind(
            **by_loss(task),
            max_features=params.feature_fraction or usual,
            max_depth=params.max_depth,
            max_leaf_nodes=params.max_leaf_nodes,
            min_samples_leaf=params.min_leaf_rows,
            bootstrap=draws,
            max_samples=params.rows_a_tree if draws else None,
        )


FAMILY = ExtraTreesFamily()
