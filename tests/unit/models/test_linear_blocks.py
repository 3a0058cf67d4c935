"""Passes over blocks of rows give the solutions of scikit-learn on the whole matrix, and hold one block at a time."""

import weakref
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import HuberRegressor, LogisticRegression, Ridge

from mlsys import errors
from mlsys.models import linear_blocks
from mlsys.models.families.linear import FAMILY
from mlsys.models.matrix import Matrix, centre_and_scale, standardised
from mlsys.schema import Task, TaskKind

REGRESSION = Task(kind=TaskKind.REGRESSION, target="y")
BINARY = Task(kind=TaskKind.BINARY, target="y", classes=("no", "yes"))
COLOURS = Task(kind=TaskKind.MULTICLASS, target="y", classes=("red", "green", "blue", "black"))


class Blocks(Sequence):
    """Blocks that are made when they are asked for, and how many of them were alive at once."""

    def __init__(self, rows, size):
        self.rows, self.size, self.made, self.most = rows, size, [], 0

    def __len__(self):
        return (self.rows.num_rows + self.size - 1) // self.size

    def __getitem__(self, number):
        block = self.rows.take(np.arange(number * self.size, min((number + 1) * self.size, self.rows.num_rows)))
        self.made.append(weakref.ref(block.X))
        self.most = max(self.most, sum(each() is not None for each in self.made))
        return block


def rows_of(task, num_rows=700, width=6, *, weighted=False, seed=0):
    """Rows with features of very different means and scales, gaps, and a constant."""
    rng = np.random.default_rng(seed)
    standard = rng.normal(size=(num_rows, width))
    X = (standard * 10.0 ** np.arange(-2, width - 2) + 3.0 * np.arange(width)).astype(np.float32)
    X[rng.random(X.shape) < 0.05] = np.nan
    X[:, -1] = 7.0
    score = standard[:, 0] - 0.5 * standard[:, 1] + 0.3 * standard[:, 2]
    if task.is_classification:
        classes = len(task.classes)
        noise = rng.gumbel(size=(num_rows, classes))
        y = np.argmax(noise + score[:, None] * np.arange(classes), axis=1).astype(np.float64)
    else:
        y = 50.0 + 4.0 * score + rng.standard_t(2, size=num_rows)
    weight = rng.uniform(0.1, 3.0, num_rows) if weighted else None
    names = tuple(f"x{j}" for j in range(width))
    return Matrix(X, y, names, ("q",) * width, weight)


def standard_of(rows):
    centre, scale = centre_and_scale(rows.X, rows.types, rows.weight)
    return standardised(rows.X, centre, scale)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.integers(0, 10**6))
def test_moments_of_any_blocks_are_those_of_all_rows(num_rows, size, weighted, seed):
    rows = rows_of(REGRESSION, num_rows, weighted=weighted, seed=seed)
    known = linear_blocks.moments(Blocks(rows, size), are_classes=False)
    centre, scale = centre_and_scale(rows.X, rows.types, rows.weight)
    np.testing.assert_allclose(known.centre, centre, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(known.scale, scale, rtol=1e-6)
    assert (known.num_rows, known.types) == (num_rows, rows.types)


def test_coordinates_keep_their_scale_and_terms_stay_as_they_are():
    rows = rows_of(REGRESSION)
    rows = Matrix(rows.X, rows.y, rows.names, ("q", "e", "t", "t", "q", "q"))
    known = linear_blocks.moments(Blocks(rows, 100), are_classes=False)
    assert known.scale[1] == 1.0
    assert known.centre[1] == pytest.approx(np.nanmean(rows.X[:, 1].astype(float)))
    assert (known.centre[2:4].tolist(), known.scale[2:4].tolist()) == ([0.0, 0.0], [1.0, 1.0])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1, 37, 10_000])
def test_least_squares_are_those_of_scikit_learn(size, weighted):
    rows = rows_of(REGRESSION, weighted=weighted)
    made = FAMILY.fit_by_blocks(Blocks(rows, size), REGRESSION, FAMILY.params(l2=2.5))
    peer = Ridge(alpha=2.5, solver="cholesky").fit(standard_of(rows), rows.y, sample_weight=rows.weight)
    np.testing.assert_allclose(made.coefficient[:, 0], peer.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(made.intercept, peer.intercept_, rtol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", [BINARY, COLOURS], ids=["two classes", "four classes"])
def test_the_logistic_loss_is_as_small_as_scikit_learn_makes_it(task, weighted):
    rows = rows_of(task, weighted=weighted)
    made = FAMILY.fit_by_blocks(Blocks(rows, 90), task, FAMILY.params(l2=0.7))
    peer = LogisticRegression(C=1 / 0.7, tol=1e-10, max_iter=10_000)
    peer.fit(standard_of(rows), rows.y.astype(int), sample_weight=rows.weight)
    assert made.facts.converged
    np.testing.assert_allclose(FAMILY.predict(made, rows.X), peer.predict_proba(standard_of(rows)), atol=1e-5)
    np.testing.assert_allclose(made.coefficient, peer.coef_.T, atol=1e-4)


def test_classes_that_training_lacks_are_never_said_and_one_class_is_certain():
    rows = rows_of(COLOURS)
    some = rows.take(np.isin(rows.y, (1, 3)))
    made = FAMILY.fit_by_blocks(Blocks(some, 50), COLOURS, FAMILY.params())
    assert made.facts.present == (1, 3)
    assert FAMILY.predict(made, some.X)[:, [0, 2]].max() == 0.0
    only = FAMILY.fit_by_blocks(Blocks(rows.take(rows.y == 2), 50), COLOURS, FAMILY.params())
    assert FAMILY.predict(only, rows.X)[:, 2].tolist() == [1.0] * rows.num_rows


@pytest.mark.parametrize("weighted", [False, True])
def test_robust_regression_is_that_of_all_rows_at_once(weighted):
    rows = rows_of(REGRESSION, weighted=weighted)
    params = FAMILY.params(loss="absolute")
    made, whole = FAMILY.fit_by_blocks(Blocks(rows, 64), REGRESSION, params), FAMILY.fit(rows, None, REGRESSION, params)
    np.testing.assert_allclose(made.coefficient, whole.coefficient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.intercept, whole.intercept, rtol=1e-7)
    if not weighted:
        peer = HuberRegressor(alpha=0.0, max_iter=1_000).fit(standard_of(rows), rows.y)
        np.testing.assert_allclose(made.intercept, peer.intercept_, rtol=5e-3)


@pytest.mark.parametrize("task", [REGRESSION, BINARY, COLOURS], ids=["number", "two classes", "four classes"])
def test_one_block_is_in_memory_at_a_time(task):
    blocks = Blocks(rows_of(task), 50)
    FAMILY.fit_by_blocks(blocks, task, FAMILY.params())
    assert len(blocks.made) >= 2 * len(blocks)
    assert blocks.most <= 2  # the last one is let go as the next comes


def test_separated_classes_end_and_so_does_a_solver_that_is_stopped():
    X = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    rows = Matrix(X, (X[:, 0] > 0).astype(np.float64), ("x",), ("q",))
    made = FAMILY.fit_by_blocks(Blocks(rows, 7), BINARY, FAMILY.params(l2=1e-6))
    assert made.facts.converged
    assert np.array_equal(FAMILY.predict(made, X)[:, 1] > 0.5, rows.y > 0)
    assert not FAMILY.fit_by_blocks(Blocks(rows, 7), BINARY, FAMILY.params(l2=1e-6, iterations=2)).facts.converged


def test_rows_none_of_which_counts_are_refused():
    rows = rows_of(REGRESSION).take(np.array([], np.int64))
    with pytest.raises(errors.TargetError) as caught:
        FAMILY.fit_by_blocks([rows], REGRESSION.model_copy(update={"weight": "w"}), FAMILY.params())
    assert str(caught.value).startswith(
        "train: weights 'w'\n  got:      0 in all rows to fit on\n  expected: rows that count"
    )


def test_what_needs_all_rows_at_once_is_said():
    assert FAMILY.lacks_blocks(BINARY, 2_000) is None
    assert FAMILY.lacks_blocks(COLOURS, 2_000) == "8,004 coefficients are fitted on all rows at once"
    counts = REGRESSION.model_copy(update={"loss": "poisson"})
    assert "takes all rows at once" in FAMILY.lacks_blocks(counts, 3)
