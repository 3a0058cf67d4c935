"""Promises of the families that rank: boosters as their libraries do it, by whole groups, in whatever order of rows."""

import catboost
import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors, models
from mlsys.evaluate import metrics
from mlsys.models.matrix import Matrix, joined
from mlsys.schema import Task, TaskKind

TASK = Task(kind=TaskKind.RANKING, target="grade", group="query")
BOOSTERS = ["xgboost", "lightgbm", "catboost"]
ABLE = sorted(
    name for name, family in models.FAMILIES.items() if family.lacks(TASK) is None and family.encoding != "pixels"
)
"""Families that rank the rows of these tests, which are no pictures."""
FAST = {"forest": {"trees": 15}, "extra_trees": {"trees": 15}, "network": {"epochs": 40, "width": 64}}
WHOLE = {
    "xgboost": {"subsample": 1.0, "colsample_bytree": 1.0},
    "lightgbm": {"bagging_fraction": 1.0, "feature_fraction": 1.0},
    "catboost": {"subsample": 1.0, "random_strength": 0.0},
}


def rows(num_groups=120, seed=0, *, weighted=False):
    """Groups of one to twenty rows; a feature of the group moves all of its grades, and orders nothing in it."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 21, num_groups)
    X = rng.normal(size=(sizes.sum(), 4)).astype(np.float32)
    X[:, 3] = np.repeat(2 * rng.normal(size=num_groups), sizes)
    signal = X[:, 0] + 0.7 * X[:, 1] ** 2 + 0.5 * X[:, 3] + 0.4 * rng.normal(size=len(X))
    groups = np.repeat(rng.integers(0, 2**63, num_groups).astype(np.uint64), sizes)
    weight = np.repeat(rng.integers(1, 4, num_groups).astype(np.float64), sizes) if weighted else None
    grades = np.digitize(signal, [0, 1, 2]).astype(np.float64)
    return Matrix(X, grades, tuple("abcd"), ("q",) * 4, weight, groups=groups)


def shuffled(matrix, seed):
    return matrix.take(np.random.default_rng(seed).permutation(matrix.num_rows))


def fit(name, train, validation=None, **params):
    family = models.for_task(name, TASK)
    checked = models.params_of(name, {**FAST.get(name, {}), **params})
    return family, family.fit(train, validation, TASK, checked, seed=3, threads=1)


def score(family, model, matrix, metric="ndcg@10"):
    return metrics.measure(metric, matrix.y, family.predict(model, matrix.X), groups=matrix.groups)


def test_the_families_that_cannot_rank_are_those_of_means():
    assert {name for name, family in models.FAMILIES.items() if family.lacks(TASK) is not None} == {"ensemble"}
    with pytest.raises(errors.RecipeError, match=r"got: +a ranking task"):
        models.for_task("ensemble", TASK)


@pytest.mark.parametrize("name", ABLE)
def test_every_family_answers_with_a_score_and_orders_better_than_chance(name, tmp_path):
    held_out = rows(seed=1)
    family, model = fit(name, rows(), rows(seed=2))
    scores = family.predict(model, held_out.X)
    assert scores.shape == (held_out.num_rows,)
    assert scores.dtype == np.float64
    family.save(model, tmp_path)
    assert family.predict(family.load(tmp_path), held_out.X).tobytes() == scores.tobytes()
    assert family.predict(model, held_out.X[5:6])[0] == scores[5]
    chance = metrics.measure("ndcg@10", held_out.y, np.zeros(held_out.num_rows), groups=held_out.groups)
    if name == models.BASELINE:
        assert score(family, model, held_out) == chance
    else:
        assert score(family, model, held_out) > chance + 0.05


def grouped(matrix):
    """Rows, grades and sizes of groups as the libraries take them, by the promise of `Matrix.by_group`."""
    ordered = matrix.by_group()
    _, first, sizes = np.unique(ordered.groups, return_index=True, return_counts=True)
    assert (np.diff(first) == sizes[:-1]).all()
    return ordered, sizes


def test_lightgbm_is_the_library_called_with_the_same_groups():
    train, stopping, held_out = rows(), rows(seed=1), rows(seed=2)
    family, model = fit("lightgbm", train, stopping, rounds=80, early_stopping=10, **WHOLE["lightgbm"])
    (ordered, sizes), (judged, judged_sizes) = grouped(train), grouped(stopping)
    how = {"objective": "lambdarank", "metric": "ndcg", "eval_at": [10], "learning_rate": 0.05, "num_leaves": 50}
    how |= {"min_data_in_leaf": 20, "lambda_l2": 1.0, "deterministic": True, "force_col_wise": True, "verbosity": -1}
    how |= {"num_threads": 1, "seed": 3}
    data = lightgbm.Dataset(ordered.X, ordered.y, group=sizes)
    valid = data.create_valid(judged.X, judged.y, group=judged_sizes)
    ends = lightgbm.early_stopping(10, verbose=False)
    alone = lightgbm.train(how, data, 80, valid_sets=[valid], callbacks=[ends])
    assert family.rounds(model) == alone.best_iteration
    np.testing.assert_array_equal(family.predict(model, held_out.X), alone.predict(held_out.X))


def test_xgboost_is_the_library_called_with_the_same_groups():
    train, stopping, held_out = rows(), rows(seed=1), rows(seed=2)
    family, model = fit("xgboost", train, stopping, rounds=80, early_stopping=10, **WHOLE["xgboost"])
    (ordered, sizes), (judged, judged_sizes) = grouped(train), grouped(stopping)
    how = {"objective": "rank:ndcg", "eval_metric": "ndcg@10", "learning_rate": 0.05, "max_depth": 6, "nthread": 1}
    how |= {"seed": 3, "seed_per_iteration": True, "tree_method": "hist"}
    data = xgboost.QuantileDMatrix(ordered.X, ordered.y, group=sizes)
    valid = xgboost.QuantileDMatrix(judged.X, judged.y, group=judged_sizes, ref=data)
    alone = xgboost.train(how, data, 80, evals=[(valid, "v")], early_stopping_rounds=10, verbose_eval=False)
    assert family.rounds(model) == alone.best_iteration + 1
    best = alone[: alone.best_iteration + 1].inplace_predict(held_out.X, predict_type="margin")
    np.testing.assert_array_equal(family.predict(model, held_out.X), best.astype(np.float64))


def test_catboost_is_the_library_called_with_the_same_groups():
    train, held_out = rows(), rows(seed=2)
    family, model = fit("catboost", train, None, rounds=20, early_stopping=0, **WHOLE["catboost"])
    ordered, sizes = grouped(train)
    how = {"loss_function": "YetiRank", "iterations": 20, "learning_rate": 0.08, "depth": 6, "l2_leaf_reg": 3.0}
    how |= {"subsample": 1.0, "bootstrap_type": "Bernoulli", "random_strength": 0.0, "random_seed": 3}
    how |= {"boosting_type": "Plain", "thread_count": 1, "allow_writing_files": False, "logging_level": "Silent"}
    pool = catboost.Pool(ordered.X, ordered.y, group_id=np.repeat(np.arange(len(sizes)), sizes))
    alone = catboost.CatBoost(how).fit(pool)
    np.testing.assert_allclose(family.predict(model, held_out.X), alone.predict(held_out.X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", BOOSTERS)
def test_boosting_ends_by_the_groups_of_the_stopping_rows(name):
    family, model = fit(name, rows(), rows(seed=1), rounds=300, early_stopping=10, learning_rate=0.3)
    assert 1 <= family.rounds(model) < 300
    assert score(family, model, rows(seed=1)) > score(*fit(name, rows(), None, rounds=1), rows(seed=1))


@pytest.mark.parametrize("name", BOOSTERS)
def test_stopping_rows_without_an_order_do_not_stop(name):
    stopping = rows(seed=1)
    same = Matrix(stopping.X, np.ones(stopping.num_rows), stopping.names, stopping.types, groups=stopping.groups)
    family, model = fit(name, rows(), same, rounds=40, early_stopping=5)
    assert family.rounds(model) == 40


@pytest.mark.parametrize("name", BOOSTERS)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16))
def test_the_order_of_rows_and_their_blocks_do_not_change_a_byte(name, seed):
    train, stopping = rows(40), rows(30, seed=1)
    family, model = fit(name, train, stopping, rounds=15)
    _, again = fit(name, shuffled(train, seed), shuffled(stopping, seed), rounds=15)
    assert family.to_bytes(again) == family.to_bytes(model)
    blocks = [train.take(train.groups < 2**62), train.take(train.groups >= 2**62)]
    params = models.params_of(name, {"rounds": 15})
    of_blocks = family.fit_blocks(blocks, stopping, TASK, params, seed=3, threads=1)
    assert family.to_bytes(of_blocks) == family.to_bytes(model)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_rows_by_group_are_the_same_whatever_their_order(seed):
    matrix = rows(20, weighted=True)
    one, other = matrix.by_group(), shuffled(matrix, seed).by_group()
    for name in ("X", "y", "groups", "weight"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.group_sizes.sum() == matrix.num_rows
    np.testing.assert_array_equal(np.repeat(one.group_weights, one.group_sizes), one.weight)


def test_rows_by_group_do_not_follow_the_grades():
    matrix = rows(200)
    ordered = matrix.take(np.lexsort((-matrix.y, matrix.groups))).by_group()
    above = np.diff(ordered.y)[np.diff(ordered.groups) == 0]
    assert abs((above > 0).mean() - (above < 0).mean()) < 0.03


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_a_weight_of_two_is_a_group_twice(name):
    matrix, held_out = of_few_values(rows(60)), of_few_values(rows(seed=1))
    number = np.unique(matrix.groups, return_inverse=True)[1]
    twice = joined([matrix, copied(matrix.take(number < 20))])
    weighted = Matrix(matrix.X, matrix.y, matrix.names, matrix.types, 1.0 + (number < 20), groups=matrix.groups)
    exact = {**WHOLE[name], "rounds": 5, "early_stopping": 0, **LEAVES[name]}
    fits = [fit(name, each, None, **exact) for each in (twice, weighted, matrix)]
    of_twice, of_weighted, plain = (family.predict(model, held_out.X) for family, model in fits)
    np.testing.assert_allclose(of_weighted, of_twice, rtol=1e-4, atol=1e-5)
    assert np.abs(plain - of_twice).max() > 0.01


LEAVES = {
    "xgboost": {"max_depth": 3, "reg_lambda": 0.0, "min_child_weight": 0.0},
    "lightgbm": {"num_leaves": 8, "min_data_in_leaf": 0, "lambda_l2": 0.0},
}


def of_few_values(matrix):
    """Features of a few values, whose bins a copy of a row does not move."""
    return Matrix(np.round(matrix.X), matrix.y, matrix.names, matrix.types, matrix.weight, groups=matrix.groups)


def copied(matrix):
    """The same rows in groups of other names."""
    return Matrix(matrix.X, matrix.y, matrix.names, matrix.types, groups=matrix.groups ^ np.uint64(1))


@pytest.mark.parametrize("name", BOOSTERS)
def test_groups_of_weight_0_are_left_out(name):
    matrix = rows(40)
    out = matrix.groups < 2**62
    weighted = Matrix(matrix.X, matrix.y, matrix.names, matrix.types, (~out).astype(float), groups=matrix.groups)
    family, model = fit(name, weighted.as_counted(), None, rounds=10)
    ones = Matrix(matrix.X, matrix.y, matrix.names, matrix.types, np.ones(matrix.num_rows), groups=matrix.groups)
    _, alone = fit(name, ones.take(~out), None, rounds=10)
    assert family.to_bytes(model) == family.to_bytes(alone)
