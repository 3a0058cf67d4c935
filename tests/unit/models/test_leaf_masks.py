"""The leaves of boosted trees by bit masks, beside a walk from the root that a person would do."""

import math

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from mlsys.models import xgboost_trees
from mlsys.models.leaf_masks import MAX_LEAVES, InnerNode, LeafMasks, Tree, tree_of

NUMBER, CODE = 0, 1
LIMITS = (-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf)
VALUES = (*LIMITS, math.nan, -0.0, 0.25, 3.0, 7.0, -2.0, 1.5)


@st.composite
def grown(draw, num_splits):
    """Children, splits and values of a tree that is grown leaf by leaf; node 0 is its root."""
    left, right, splits, leaves = [-1], [-1], {}, [0]
    for _ in range(num_splits):
        node = leaves.pop(draw(st.integers(0, len(leaves) - 1)))
        left[node], right[node] = len(left), len(left) + 1
        leaves += [len(left), len(left) + 1]
        left += [-1, -1]
        right += [-1, -1]
        codes = draw(st.none() | st.frozensets(st.integers(0, 3), min_size=1))
        limit = None if codes else draw(st.sampled_from(LIMITS))
        splits[node] = InnerNode(CODE if codes else NUMBER, limit, codes or frozenset(), draw(st.booleans()))
    return left, right, splits, [draw(st.integers(-9, 9)) / 4 for _ in left]


def walked(left, right, splits, values, row):
    """The value of the leaf, by the rules that `InnerNode` states."""
    node = 0
    while node in splits:
        split, value = splits[node], row[splits[node].feature]
        if math.isnan(value):
            goes_right = split.missing_right
        elif split.threshold is None:
            goes_right = value >= 0 and int(min(value, 1e9)) in split.categories
        else:
            goes_right = value >= split.threshold and split.threshold < math.inf
        node = (right if goes_right else left)[node]
    return values[node]


@given(st.data())
def test_masks_end_in_the_leaf_that_a_walk_ends_in(data):
    trees = [data.draw(grown(data.draw(st.integers(1, 12)))) for _ in range(4)]
    masks = LeafMasks([tree_of(*tree) for tree in trees], np.zeros(4, np.float32))
    row = data.draw(st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)))
    found = masks(np.array(row, np.float32)).tolist()
    assert found == [walked(*tree, row) for tree in trees]


def stump(limit, below, above):
    return Tree([(InnerNode(0, limit, frozenset(), False), 0b10)], [below, above])


def test_sums_are_those_of_float32_in_the_order_of_the_trees():
    leaves = [2.0**24, 1.0, 1.0, -(2.0**24)]
    masks = LeafMasks([stump(0.0, 5.0, leaf) for leaf in leaves], np.zeros(1, np.float32))
    assert masks(np.array([0.0], np.float32)).tolist() == [0.0]  # in double precision it would be 2
    turned = LeafMasks([stump(0.0, 5.0, leaf) for leaf in leaves[::-1]], np.zeros(1, np.float32))
    assert turned(np.array([0.0], np.float32)).tolist() == [2.0]


def test_trees_take_turns_for_outputs_that_begin_with_their_base():
    trees = [stump(0.0, 0.0, value) for value in (1.0, 10.0, 2.0, 20.0)]
    masks = LeafMasks(trees, np.array([0.5, 0.25], np.float32))
    assert masks(np.array([1.0], np.float32)).tolist() == [3.5, 30.25]
    assert masks(np.array([-1.0], np.float32)).tolist() == [0.5, 0.25]


def test_a_tree_of_64_leaves_uses_every_bit():
    left = [-1] * 127
    right = [-1] * 127
    splits = {}
    for node in range(63):
        left[node], right[node] = 2 * node + 1, 2 * node + 2
        depth = (node + 1).bit_length() - 1
        width = 64 >> depth
        begin = (node + 1 - (1 << depth)) * width
        splits[node] = InnerNode(0, float(begin + width // 2), frozenset(), True)
    values = [0.0] * 63 + [float(number) for number in range(64)]
    masks = LeafMasks([tree_of(left, right, splits, values)], np.zeros(1, np.float32))
    assert [masks(np.array([x], np.float32)).item() for x in range(64)] == list(range(64))
    assert masks(np.array([np.nan], np.float32)).item() == 63


@pytest.mark.parametrize(
    ("trees", "outputs", "reason"),
    [
        ([], 1, "no trees"),
        ([Tree([], [1.0])], 1, "without a split"),
        ([stump(0.0, 1.0, 2.0)], 2, "not as many"),
        ([Tree([(InnerNode(0, 0.0, frozenset(), False), 1)], [0.0] * (MAX_LEAVES + 1))], 1, "more than 64 leaves"),
        (
            [stump(0.0, 1.0, 2.0), Tree([(InnerNode(0, None, frozenset({1}), False), 0b10)], [1.0, 2.0])],
            1,
            "by numbers and by categories",
        ),
    ],
)
def test_trees_of_another_form_are_refused(trees, outputs, reason):
    with pytest.raises(ValueError, match=reason):
        LeafMasks(trees, np.zeros(outputs, np.float32))


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(500, 4)).astype(np.float32)
    X[:, 3] = rng.integers(0, 9, 500)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


@pytest.mark.parametrize(
    ("objective", "outputs"),
    [("binary:logistic", 1), ("multi:softprob", 3), ("count:poisson", 1), ("reg:absoluteerror", 1), ("rank:ndcg", 1)],
)
def test_margins_of_xgboost_are_met_bit_by_bit(rows, objective, outputs):
    y = np.nan_to_num(rows[:, 0]) > 0 if outputs == 1 else np.arange(500) % outputs
    data = xgboost.DMatrix(rows, label=y.astype(float), feature_types=["q", "q", "q", "c"], enable_categorical=True)
    data.set_group([500])
    params = {"objective": objective, "max_depth": 5, "nthread": 1}
    booster = xgboost.train(params | ({"num_class": 3} if outputs == 3 else {}), data, 25)
    masks = xgboost_trees.masks_of(booster, outputs)
    asked = rows.copy()
    asked[::7, 3] = np.array([-1.0, 2.5, 100.0, np.nan, -0.0])[np.arange(len(asked[::7])) % 5]
    asked[::5, 1] = np.float32(1e30)
    margins = booster.inplace_predict(asked, predict_type="margin").reshape(-1, outputs)
    assert np.stack([masks(row) for row in asked]).tobytes() == margins.tobytes()


@pytest.mark.parametrize(("booster", "depth"), [("dart", 3), ("gbtree", 9)])
def test_boosters_of_another_kind_are_left_to_the_library(rows, booster, depth):
    data = xgboost.DMatrix(rows[:, :3], label=np.random.default_rng(0).normal(size=500))
    params = {"booster": booster, "max_depth": depth, "min_child_weight": 0, "nthread": 1}
    with pytest.raises(ValueError, match=r"trees"):
        xgboost_trees.masks_of(xgboost.train(params, data, 5), 1)
