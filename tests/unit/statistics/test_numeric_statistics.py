import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from mlsys.schema import Kind
from mlsys.statistics.encoding import SHARED, encode
from mlsys.statistics.numeric_statistics import MOST_CLASSES, Distributions

RNG = np.random.default_rng(9)
ROWS = 12_000
Y = RNG.integers(-1, 2, ROWS)
X = RNG.normal(size=ROWS) + 3 * Y


def distributions(values, y=Y, classes=2):
    return Distributions.of({"x": encode(pa.array(values), Kind.NUMERIC)}, y, classes)


def test_each_class_is_counted_between_the_edges():
    found = distributions(X).counts("x", np.array([-np.inf, 0.0, 3.0, np.inf]))
    for label, counts in enumerate(found):
        rows = int((label == Y).sum())
        expected = rows * np.diff(stats.norm.cdf([-np.inf, -3 * label, 3 - 3 * label, np.inf]))
        assert counts == pytest.approx(expected, abs=0.04 * rows)
        assert counts.sum() == pytest.approx(rows)


def test_ranks_keep_their_bound():
    sketches = distributions(X).columns["x"]
    for label, sketch in enumerate(sketches):
        rising = np.sort(X[label == Y])
        true = np.arange(1, len(rising) + 1) / len(rising)
        assert np.abs(sketch.cdf(rising) - true).max() <= sketch.rank_error + 4 * SHARED


def test_a_class_of_few_rows_is_not_drawn_with_the_values_of_others():
    y = np.zeros(ROWS, np.int64)
    rare = RNG.choice(ROWS, 30, replace=False)
    y[rare] = 1
    found = distributions(X, y).columns["x"][1]
    assert found.quantiles((np.arange(30) + 0.5) / 30).tolist() == np.sort(X[rare]).tolist()


def test_what_is_not_finite_has_no_place():
    found = distributions([1.0, np.nan, None, np.inf, 2.0], np.array([0, 0, 0, 1, 1]))
    assert [sketch.n for sketch in found.columns["x"]] == [1, 1]


@pytest.mark.parametrize("classes", [None, MOST_CLASSES + 1])
def test_a_number_and_many_classes_are_not_drawn(classes):
    assert distributions(X, np.zeros(ROWS), classes).counts("x", np.array([0.0, 1.0])) is None


def test_words_have_no_histogram():
    found = Distributions.of({"x": encode(pa.array(["a", "b"]), Kind.CATEGORICAL)}, np.array([0, 1]), 2)
    assert found.columns == {}
