"""How far drift moves the predictions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import wasserstein_distance

from mlsys.evaluate.response import LEVELS, OTHER
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.relevance import ModelResponse
from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics


def bins_of(values, kind=Kind.NUMERIC):
    column = ColumnStatistics(kind)
    column.update(pa.array(values))
    return ReferenceBins.of("x", column)


def counts_of(bins, values):
    return np.bincount(bins.index(pa.array(values)), minlength=bins.size)


def response(values, output, spread=(1.0,)):
    column = {"values": values, "output": output}
    return ModelResponse.of({"response": {"spread": list(spread), "columns": {"x": column}}})


def test_of_categories_it_is_the_moved_rows_times_the_difference_of_their_predictions():
    """A quarter of the rows goes from a to b, where the prediction is higher by 0.6: 0.15, of a spread of 0.5 0.3."""
    bins = bins_of(["a", "a", "b", "b"], Kind.CATEGORICAL)
    known = response(["a", "b", OTHER, None], [[0.2], [0.8], [0.9], [0.5]], [0.5])
    assert known.moved(bins, np.array([1, 3, 0, 0])) == pytest.approx(0.3)
    assert known.moved(bins, np.array([1, 2, 0, 1])) == pytest.approx((0.25 * 0.3) / 0.5)  # from a to null
    assert known.moved(bins, np.array([2, 1, 1, 0])) == pytest.approx((0.25 * 0.1) / 0.5)  # from b to a new value
    assert known.moved(bins, np.array([2, 2, 0, 0])) == 0


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("curve", [np.tanh, np.abs, np.sin])
def test_of_numbers_it_is_the_distance_between_the_predictions(shift, curve):
    """Against SciPy on the rows themselves; the points of the curve leave an error."""
    rng = np.random.default_rng(0)
    old, new = rng.normal(0, 1, 20_000), rng.normal(shift, 1, 20_000)
    bins = bins_of(old)
    values = np.quantile(old, LEVELS)
    known = response([*values, None], [[curve(value)] for value in values] + [[0.0]])
    clipped = np.clip(new, old.min(), old.max())
    expected = wasserstein_distance(curve(old), curve(clipped))
    assert known.moved(bins, counts_of(bins, new)) == pytest.approx(expected, abs=0.02 + 0.15 * expected)


def test_a_model_that_is_indifferent_to_a_column_does_not_move_with_it():
    bins = bins_of(np.arange(1_000.0))
    far = counts_of(bins, np.arange(5_000.0, 6_000.0))
    assert response([0.0, 500.0, 999.0, None], [[0.4]] * 4).moved(bins, far) == 0
    assert response([], []).moved(bins, far) == 0


def test_of_several_outputs_the_one_that_moves_most_counts():
    bins = bins_of(["a", "b"], Kind.CATEGORICAL)
    known = response(["a", "b", None], [[0.1, 0.9], [0.2, 0.8], [0.1, 0.9]], [0.1, 0.5])
    assert known.moved(bins, np.array([0, 2, 0, 0])) == pytest.approx(0.5)


def test_values_that_lie_beyond_those_of_training_count_as_its_extremes():
    bins = bins_of(np.arange(1_000.0))
    known = response([0.0, 999.0, None], [[0.0], [1.0], [0.0]])
    assert known.moved(bins, counts_of(bins, np.full(100, 1e9))) == pytest.approx(0.5, abs=0.01)


def test_what_is_not_known_is_none():
    bins = bins_of([1.0, 2.0])
    assert ModelResponse.of(None).moved(bins, bins.reference) is None
    assert ModelResponse.of({"metrics": {}}).moved(bins, bins.reference) is None
    assert response([1.0, None], [[0.0], [0.0]]).moved(bins, np.zeros(bins.size, np.int64)) is None


def test_a_model_of_one_answer_moves_with_nothing():
    bins = bins_of(["a", "b"], Kind.CATEGORICAL)
    assert response(["a", "b", None], [[0.5]] * 3, [0.0]).moved(bins, np.array([2, 0, 0, 0])) == 0
