"""Shapley values of trees, compared with those by enumeration of all sets of features."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, RandomForestRegressor

from mlsys.models.tree_shap import TreeShap


def game(tree, row, known, node):
    """The expectation of a tree at a row of which only some features are known, as the paper defines it."""
    left, right = tree["children"][node]
    if left == node:
        return tree["value"][node]
    feature = tree["feature"][node]
    if feature in known:
        missing = np.isnan(row[feature])
        goes_right = tree["missing_right"][node] if missing else row[feature] > tree["limit"][node]
        return game(tree, row, known, right if goes_right else left)
    cover = tree["cover"]
    parts = [cover[child] * game(tree, row, known, child) for child in (left, right)]
    return (parts[0] + parts[1]) / cover[node]


def shapley(tree, row, width):
    """Shapley (1953): the mean, over all sets of other features, of what a feature adds."""
    values = []
    for feature in range(width):
        others, total = [j for j in range(width) if j != feature], 0.0
        for size in range(width):
            weight = math.factorial(size) * math.factorial(width - size - 1) / math.factorial(width)
            for known in itertools.combinations(others, size):
                added = game(tree, row, {*known, feature}, 0) - game(tree, row, {*known}, 0)
                total = total + weight * added
        values.append(total)
    return np.array(values)


def grown(rng, width, depth, outputs):
    """A random tree, whose paths may ask the same feature again, with random weights of rows."""
    tree = {name: [] for name in ("feature", "limit", "children", "missing_right", "value", "cover")}

    def add(level, cover):
        node = len(tree["feature"])
        for values in tree.values():
            values.append(None)
        tree["value"][node] = rng.normal(size=outputs)
        tree["cover"][node] = cover
        tree["feature"][node], tree["missing_right"][node] = 0, False
        tree["limit"][node], tree["children"][node] = np.inf, (node, node)
        if level and rng.random() < 0.85:
            tree["feature"][node], tree["limit"][node] = int(rng.integers(width)), float(rng.normal())
            tree["missing_right"][node] = bool(rng.random() < 0.5)
            share = rng.uniform(0.05, 0.95)
            tree["children"][node] = (add(level - 1, cover * share), add(level - 1, cover * (1 - share)))
        return node

    add(depth, 100.0)
    return {name: np.array(values) for name, values in tree.items()}


def prepared(trees):
    """Trees in one table, numbered through."""
    roots = np.cumsum([0, *(tree["feature"].size for tree in trees[:-1])])
    children = np.concatenate([tree["children"] + root for tree, root in zip(trees, roots, strict=True)])
    together = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0] if name != "children"}
    return TreeShap(roots, children=children, **together)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), width=st.integers(1, 5), depth=st.integers(0, 6), trees=st.integers(1, 3))
def test_values_are_those_by_enumeration_and_add_up_to_the_output(seed, width, depth, trees):
    rng = np.random.default_rng(seed)
    forest = [grown(rng, width, depth, outputs=2) for _ in range(trees)]
    X = rng.normal(size=(3, width)).astype(np.float32)
    X[rng.random(X.shape) < 0.2] = np.nan
    for output in (0, 1):
        values, base = prepared(forest).contributions(X, np.full(3, output))
        for row, own, start in zip(X, values, base, strict=True):
            expected = np.mean([shapley(tree, row, width) for tree in forest], axis=0)[:, output]
            predicted = np.mean([game(tree, row, set(range(width)), 0) for tree in forest], axis=0)[output]
            assert own == pytest.approx(expected, rel=1e-9, abs=1e-9)
            assert start + own.sum() == pytest.approx(predicted, rel=1e-9, abs=1e-9)


def test_a_tree_that_was_worked_by_hand():
    # x0 <= 0 ? 1 : (x1 <= 0 ? 2 : 6), with 50, 30 and 20 of 100 rows: at (1, 1) E = 2.3, E[x0] = 3.6, E[x1] = 3.5, 6
    shap = TreeShap(
        np.array([0]),
        np.array([0, 0, 1, 0, 0]),
        np.array([0.0, np.inf, 0.0, np.inf, np.inf]),
        np.array([[1, 2], [1, 1], [3, 4], [3, 3], [4, 4]]),
        np.zeros(5, bool),
        np.array([[0.0], [1.0], [0.0], [2.0], [6.0]]),
        np.array([100.0, 50.0, 50.0, 30.0, 20.0]),
    )
    values, base = shap.contributions(np.array([[1.0, 1.0]], np.float32), np.array([0]))
    assert base[0] == pytest.approx(0.5 * 1 + 0.3 * 2 + 0.2 * 6)
    assert values[0].tolist() == pytest.approx([((3.6 - 2.3) + (6 - 3.5)) / 2, ((3.5 - 2.3) + (6 - 3.6)) / 2])


@pytest.mark.parametrize("kind", [RandomForestRegressor, ExtraTreesClassifier])
def test_deep_forests_of_scikit_learn_add_up(kind):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(600, 12)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int)
    forest = kind(n_estimators=20, random_state=0).fit(X, y)
    trees = []
    for tree in (each.tree_ for each in forest.estimators_):
        nodes = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        sides = (np.where(leaf, nodes, child) for child in (tree.children_left, tree.children_right))
        own = {"feature": np.maximum(tree.feature, 0), "limit": np.where(leaf, np.inf, tree.threshold)}
        own |= {"children": np.stack(list(sides), axis=1), "missing_right": ~tree.missing_go_to_left.astype(bool)}
        trees.append(own | {"value": tree.value[:, 0, :], "cover": tree.weighted_n_node_samples})
    predicted = forest.predict_proba(X[:20])[:, 1] if hasattr(forest, "predict_proba") else forest.predict(X[:20])
    values, base = prepared(trees).contributions(X[:20], np.full(20, int(hasattr(forest, "predict_proba"))))
    assert base + values.sum(axis=1) == pytest.approx(predicted, abs=1e-9)
