"""Target means of rows that are forecast: those of folds that were known a horizon before the fold alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mlsys import recipe
from mlsys.features import plan, training
from mlsys.schema import FOLD, Column, Forecast, Kind, Role, Schema, Task
from mlsys.statistics import TrainStatistics

FACTS = Forecast(time="day", horizon="1d", step="1d", known=("last_y",), naive="naive_y")
SCHEMA = Schema(
    columns=(
        Column(name="store", type="string", kind=Kind.CATEGORICAL),
        Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET),
    )
)


def encoded(forecast):
    """The encoding of ``a`` in each fold, where its mean is 10, 20, … by fold."""
    folds = np.repeat(np.arange(5, dtype=np.int8), 4)
    table = pa.table(
        {"store": ["a", "a", "b", "b"] * 5, "y": [v for f in range(5) for v in (10.0 * f, 10.0 * f, 0, 0)]}
    )
    table = table.append_column(FOLD, pa.array(folds, pa.int8()))
    task = Task(kind="regression", target="y", forecast=forecast)
    statistics = TrainStatistics.of_table(table, SCHEMA, task)
    features = recipe.FeaturesSection(columns={"store": {"operation": "target", "smoothing": 0}})
    fitted = training.fit(plan.choose(SCHEMA, statistics.whole(), features), statistics)
    return fitted.transform(table.drop_columns(["y"]))[::4, 0].tolist()


def test_a_fold_gets_the_means_of_folds_before_its_embargo():
    first, between, third, later, last = encoded(FACTS)
    assert third == 0.0  # fold 2: of fold 0, not of the rows between, which are fold 1
    assert last == np.float32((0 + 10 + 20) / 3)  # fold 4: of folds 0, 1 and 2
    assert later == 0.0  # fold 3, before fold 4: of fold 0
    assert (first, between) == (0.0, 5.0)  # nothing was known: one number for all rows of the fold


def test_without_a_horizon_a_fold_gets_the_means_of_all_others():
    assert encoded(None)[0] == np.float32((10 + 20 + 30 + 40) / 4)
