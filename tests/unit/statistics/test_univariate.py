import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mlsys.schema import Kind, Task
from mlsys.statistics import code_columns, univariate

BINARY = Task(kind="binary", target="y", classes=(0, 1))
NUMBER = Task(kind="regression", target="y")


def told(values, y, task=BINARY, kind=Kind.NUMERIC):
    y = np.asarray(y)
    return univariate.strength(pa.chunked_array([values]), kind, y, task, np.arange(len(y)) % 5)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=80))
def test_auc_is_that_of_scikit_learn(pairs):
    score, positive = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    if positive.any() and not positive.all():
        codes = np.unique(score, return_inverse=True)[1]
        assert univariate._auc(codes, positive) == pytest.approx(roc_auc_score(positive, score))


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_auc_of_out_of_fold_means_is_that_of_scikit_learn_over_the_rows(num_bins, seed):
    rng = np.random.default_rng(seed)
    bins, fold, positive = rng.integers(0, num_bins, 300), rng.integers(0, 5, 300), rng.random(300) < 0.3
    means = code_columns.out_of_fold_means(bins, positive.astype(float), fold)
    expected = roc_auc_score(positive, means[fold, bins])
    assert univariate._out_of_fold_auc(bins, positive, fold) == pytest.approx(expected, abs=1e-12)


def test_a_copy_of_the_target_is_perfect():
    y = np.random.default_rng(0).integers(0, 2, 400)
    assert told(y.astype(float), y).value == 1
    assert told(-y.astype(float), y).value == 1
    assert told([f"class {v}" for v in y], y, kind=Kind.CATEGORICAL).value == pytest.approx(1)
    target = np.random.default_rng(1).normal(size=400)
    assert told(np.exp(target), target, NUMBER).value == pytest.approx(1)


def test_unique_keys_tell_nothing():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 3_000)
    assert told([f"key {i}" for i in range(3_000)], y, kind=Kind.CATEGORICAL).value < 0.55
    assert told([f"key {i}" for i in range(3_000)], rng.normal(size=3_000), NUMBER, Kind.CATEGORICAL).value < 0.05


def test_noise_tells_nothing():
    rng = np.random.default_rng(3)
    assert told(rng.normal(size=5_000), rng.integers(0, 2, 5_000)).value < 0.54
    assert told(rng.normal(size=5_000), rng.normal(size=5_000), NUMBER).value < 0.01


def test_a_band_in_the_middle_is_seen():
    x = np.random.default_rng(4).uniform(-1, 1, 3_000)
    assert told(x, (np.abs(x) < 0.5).astype(int)).value > 0.97


def test_what_is_missing_can_tell():
    y = np.random.default_rng(5).integers(0, 2, 1_000)
    values = pa.array(np.random.default_rng(6).normal(size=1_000), mask=y == 1)
    assert told(values, y).value > 0.99


def test_a_category_explains_what_it_explains():
    # Two groups, means 0 and 2, unit noise: R² = 1 / (1 + 1) = 0.5
    rng = np.random.default_rng(7)
    group = rng.integers(0, 2, 8_000)
    found = told(np.where(group, "a", "b").tolist(), 2 * group + rng.normal(size=8_000), NUMBER, Kind.CATEGORICAL)
    assert found.value == pytest.approx(0.5, abs=0.03)


def test_three_classes_are_judged_by_the_worst():
    y = np.repeat([0, 1, 2], 200)
    x = np.where(y == 0, 0.0, 1.0)
    found = told(x, y, Task(kind="multiclass", target="y", classes=("a", "b", "c")))
    assert found.by_class[0] == 1
    assert found.weakest == pytest.approx(0.75, abs=0.01)
    assert found.value == pytest.approx(np.mean(list(found.by_class.values())))


@pytest.mark.parametrize(
    ("values", "y"),
    [
        ([1.0] * 100, [0, 1] * 50),  # a constant
        ([None] * 100, [0, 1] * 50),  # nothing
        (list(range(100)), [0] * 95 + [1] * 5),  # too few of one class
        (list(range(20)), [0, 1] * 10),  # too few rows
        (list(range(100)), [-1] * 100),  # no label
    ],
)
def test_nothing_is_said_of_too_little(values, y):
    assert told(pa.array(values, pa.float64()), y) is None


def test_a_constant_target_has_no_r2():
    assert told(np.arange(100.0), np.ones(100), NUMBER) is None


def test_infinite_and_missing_numbers_do_not_disturb():
    rng = np.random.default_rng(8)
    y = rng.integers(0, 2, 500)
    x = rng.normal(size=500) + y
    x[:3] = [np.inf, -np.inf, np.nan]
    assert 0.6 < told(x, y).value < 0.9
