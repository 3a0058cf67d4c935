"""The kernel machine against scikit-learn's kernels and its ridge regression by leave-one-out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.svm import SVC

from mlsys import models
from mlsys.models import ridge_loo
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

kernel = models.family("kernel")

REGRESSION = Task(kind=TaskKind.REGRESSION, target="y")
DIGITS = Task(kind=TaskKind.MULTICLASS, target="y", classes=tuple(range(10)))


def matrix(X, y, kind="e"):
    return Matrix(np.asarray(X, np.float32), np.asarray(y, np.float64), ("x",) * X.shape[1], (kind,) * X.shape[1])


def wave(n=150, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    return X, np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=n)


def fit(rows, task, **params):
    return kernel.fit(rows, None, task, kernel.params(**params), seed=0, threads=1)


def test_with_all_rows_as_landmarks_it_is_kernel_ridge_regression():
    X, y = wave()
    model = fit(matrix(X, y), REGRESSION, width=0.7)
    centred = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    mean_square = ((centred[:, None] - centred) ** 2).sum(axis=2).mean()
    # Kernel ridge with a free intercept: the mean of the features of the kernel's space is taken off, as of the target.
    likeness = rbf_kernel(centred, gamma=1 / (0.7 * mean_square))
    centring = np.eye(len(X)) - 1 / len(X)
    likeness = centring @ likeness @ centring
    theirs = KernelRidge(alpha=model.facts.l2, kernel="precomputed").fit(likeness, y - y.mean()).predict(likeness)
    np.testing.assert_allclose(kernel.predict(model, X), theirs + y.mean(), atol=2e-3)


def test_the_mean_squared_distance_is_the_unit_of_width():
    X, y = wave()
    wide, narrow = (fit(matrix(X, y), REGRESSION, width=width) for width in (2.0, 0.5))
    assert narrow.facts.rate == pytest.approx(4 * wide.facts.rate)
    squares = ((X[:, None].astype(np.float64) - X) ** 2).sum(axis=2)
    assert wide.facts.rate * wide.facts.steps**2 == pytest.approx(1 / (2.0 * squares.mean()), rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_penalty_is_the_one_that_scikit_learns_leave_one_out_finds(seed):
    rng = np.random.default_rng(seed)
    X, noise = rng.normal(size=(60, 25)), rng.normal(size=(60, 2))
    y = X[:, :2] + (1 + 2 * seed) * noise
    ours = ridge_loo.solve(X, y, ridge_loo.PENALTIES)
    theirs = RidgeCV(alphas=ridge_loo.PENALTIES).fit(X, y)
    assert ours.penalty == pytest.approx(theirs.alpha_)
    np.testing.assert_allclose(ours.coefficient.T, theirs.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(ours.intercept, theirs.intercept_, atol=1e-10)
    left_out = cross_val_predict(Ridge(alpha=ours.penalty), X, y, cv=LeaveOneOut())
    np.testing.assert_allclose(ours.left_out, left_out, rtol=1e-8, atol=1e-10)


def test_probabilities_of_two_classes_are_platts():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    scores = y + rng.normal(size=400)
    slope, shift = ridge_loo.calibrated(scores[:, None], y)
    theirs = LogisticRegression(C=np.inf, tol=1e-8).fit(scores[:, None], y)
    assert slope == pytest.approx(theirs.coef_[0, 0], rel=1e-3)
    assert shift[0] == pytest.approx(theirs.intercept_[0], abs=1e-3)


def test_probabilities_of_many_classes_are_better_than_any_slope_or_shift_beside_them():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 500)
    scores = np.eye(4)[y] + 0.7 * rng.normal(size=(500, 4)) + [0, 0.5, 0, -0.5]

    def loss(slope, shift):
        z = slope * scores + shift
        return log_loss(y, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))

    slope, shift = ridge_loo.calibrated(scores, y)
    best = loss(slope, shift)
    for step in (-0.05, 0.05):
        assert loss(slope + step, shift) > best
        for k in range(4):
            assert loss(slope, shift + step * np.eye(4)[k]) > best


def test_classes_that_nothing_confuses_have_finite_probabilities():
    slope, shift = ridge_loo.calibrated(np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0, 0, 1, 1]))
    assert np.isfinite([slope, *shift]).all()


def test_it_tells_digits_apart_as_well_as_a_support_vector_machine():
    X, y = load_digits(return_X_y=True)
    model = fit(matrix(X[:600], y[:600]), DIGITS)
    ours = (kernel.predict(model, X[600:].astype(np.float32)).argmax(axis=1) == y[600:]).mean()
    assert ours > SVC(C=10).fit(X[:600], y[:600]).score(X[600:], y[600:]) - 0.01


def test_more_rows_than_it_is_fitted_on_are_drawn_by_the_seed_alone():
    X, y = wave(200)
    fitted = [
        kernel.fit(matrix(X, y), None, REGRESSION, kernel.params(rows=50, landmarks=20), seed=seed, threads=1)
        for seed in (0, 0, 1)
    ]
    assert [len(model.landmarks) for model in fitted] == [20, 20, 20]
    first, again, other = (kernel.predict(model, X) for model in fitted)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_a_row_far_beyond_training_is_answered_like_one_at_its_border():
    X, y = wave()
    model = fit(matrix(X, y), REGRESSION)
    edge = model.facts.largest / model.facts.steps
    far = np.full((1, 3), 1e20, np.float32)
    border = (model.centre + edge)[None].astype(np.float32) * np.float32(1.001)
    assert kernel.predict(model, far).tobytes() == kernel.predict(model, border).tobytes()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 80), st.integers(1, 600), st.integers(0, 3), st.floats(1e-6, 1e6))
def test_a_row_alone_has_the_bits_it_has_among_others_for_any_shape_and_scale(n, width, seed, size):
    rng = np.random.default_rng(seed)
    X = (size * rng.normal(size=(n, width))).astype(np.float32)
    model = fit(matrix(X, rng.normal(size=n)), REGRESSION)
    whole = kernel.predict(model, X)
    alone = np.concatenate([kernel.predict(model, X[i : i + 1]) for i in range(n)])
    assert alone.tobytes() == whole.tobytes()
