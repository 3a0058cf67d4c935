"""Promises of each family that takes weights: a weight of 2 is a row twice, one of 0 a row left out."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys import errors, models
from mlsys.models.matrix import Matrix, joined
from mlsys.schema import TargetLoss, Task, TaskKind

TASKS = {
    "binary": Task(kind=TaskKind.BINARY, target="y", classes=(False, True), weight="w"),
    "regression": Task(kind=TaskKind.REGRESSION, target="y", weight="w"),
    "poisson": Task(kind=TaskKind.REGRESSION, target="y", loss=TargetLoss.of("poisson"), weight="w"),
    "quantile": Task(kind=TaskKind.REGRESSION, target="y", loss=TargetLoss.of({"quantile": 0.7}), weight="w"),
}
PLAIN = {
    "xgboost": {"rounds": 15, "early_stopping": 0, "subsample": 1.0, "colsample_bytree": 1.0, "max_depth": 3},
    "lightgbm": {
        "rounds": 15,
        "early_stopping": 0,
        "bagging_fraction": 1.0,
        "feature_fraction": 1.0,
        "min_data_in_leaf": 0,
        "num_leaves": 8,
    },
    # CatBoost's penalty grows with the mean weight of the rows: there it is nothing that rows sum to.
    "catboost": {
        "rounds": 15,
        "early_stopping": 0,
        "subsample": 1.0,
        "random_strength": 0.0,
        "depth": 3,
        "l2_leaf_reg": 0.0,
    },
    "forest": {"trees": 20},
    "extra_trees": {"trees": 20},
    "ensemble": {"members": [{"family": "xgboost", "params": {"rounds": 15}, "weight": 1}]},
}
"""Parameters under which nothing is drawn and no row is counted but by its weight."""

EXACT = ["dummy", "linear", "xgboost", "lightgbm", "catboost"]
"""Families whose libraries sum weights: others draw rows, and a row twice is drawn twice."""

PAIRS = [
    (name, kind)
    for name in EXACT
    for kind in TASKS
    if kind != "quantile" or name in ("dummy", "linear")  # leaves are quantiles between two rows, which a copy moves
]
FAMILIES = sorted(name for name, family in models.FAMILIES.items() if family.takes_weights)


def rows(kind, n=240, seed=0):
    """Features of a few values each, so that how often one occurs moves no limit of a bin."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 6, (n, 3)).astype(np.float32)
    signal = X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=n)
    y = {
        "binary": lambda: signal > 1,
        "regression": lambda: signal,
        "poisson": lambda: rng.poisson(np.exp(0.3 * X[:, 0])),
        "quantile": lambda: signal,
    }[kind]()
    return Matrix(X, y.astype(np.float64), tuple("abc"), ("q",) * 3)


def weighted(matrix, weight):
    return Matrix(matrix.X, matrix.y, matrix.names, matrix.types, np.asarray(weight, np.float64))


def fit(name, matrix, kind):
    family = models.for_task(name, TASKS[kind])
    return family, family.fit(matrix, None, TASKS[kind], models.params_of(name, PLAIN.get(name, {})), seed=1, threads=1)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_weight_of_two_is_a_row_twice(name, kind):
    matrix = rows(kind)
    twice = np.arange(matrix.num_rows) % 3 == 0
    family, by_weight = fit(name, weighted(matrix, 1 + twice), kind)
    _, by_rows = fit(name, joined([matrix, matrix.take(twice)]), kind)
    np.testing.assert_allclose(
        family.predict(by_weight, matrix.X), family.predict(by_rows, matrix.X), rtol=2e-4, atol=2e-5
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in FAMILIES for kind in TASKS if models.family(name).lacks(TASKS[kind]) is None],
)
def test_a_weight_of_zero_is_a_row_left_out(name, kind, tmp_path):
    matrix = rows(kind)
    counts = np.arange(matrix.num_rows) % 4 != 0
    odd = matrix.y.copy()
    odd[~counts] = 1.0 if kind == "binary" else 1e6
    zeros = weighted(Matrix(matrix.X, odd, matrix.names, matrix.types), counts).as_counted()
    family, by_weight = fit(name, zeros, kind)
    _, left_out = fit(name, weighted(matrix.take(counts), np.ones(counts.sum())), kind)
    saved = []
    for folder, model in ((tmp_path / "a", by_weight), (tmp_path / "b", left_out)):
        folder.mkdir()
        family.save(model, folder)
        saved.append({f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()})
    assert saved[0] == saved[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_move_the_model_towards_the_rows_that_count_more(name):
    rng = np.random.default_rng(3)
    X = rng.integers(0, 2, (400, 2)).astype(np.float32)
    y = np.repeat([0.0, 10.0], 200)
    matrix = weighted(Matrix(X, y, ("a", "b"), ("q", "q")), np.repeat([1.0, 9.0], 200))
    family, model = fit(name, matrix, "regression")
    assert family.predict(model, X).mean() == pytest.approx(9.0, abs=0.9)


def test_a_family_that_counts_all_rows_alike_is_refused_for_weights():
    with pytest.raises(errors.RecipeError) as refused:
        models.for_task("kernel", TASKS["regression"])
    assert str(refused.value) == (
        "models: family 'kernel'\n"
        "  got:      train.weight\n"
        "  expected: a recipe without it\n"
        f"  hint:     families for it: {', '.join(FAMILIES)}"
    )
