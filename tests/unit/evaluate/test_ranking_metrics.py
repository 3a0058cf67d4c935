"""NDCG and reciprocal ranks: beside scikit-learn, by hand, and over all orders of ties."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from mlsys.evaluate import intervals, metrics, ranking_metrics, resampling
from mlsys.evaluate.ranking_metrics import ndcg_by_group, reciprocal_rank_by_group

GRADES, SCORES = st.integers(0, 4), st.integers(0, 3)
LISTS = st.lists(st.tuples(GRADES, SCORES), min_size=2, max_size=9)
SHORT = st.lists(st.tuples(GRADES, SCORES), min_size=2, max_size=6)


def arrays(rows):
    grades, scores = np.array(rows, np.float64).T
    return grades, scores, np.zeros(len(rows), np.int64)


def discounted(grades, k=math.inf):
    return sum((2**g - 1) / math.log2(2 + i) for i, g in enumerate(grades) if i < k)


def mean_over_orders(rows, value):
    """The mean of a value of grades in order, over all orders in which the scores fall."""
    orders = (each for each in itertools.permutations(rows) if all(a[1] >= b[1] for a, b in itertools.pairwise(each)))
    return np.mean([value([grade for grade, _ in each]) for each in orders])


@given(rows=LISTS, k=st.sampled_from([None, 1, 2, 5, 20]))
def test_ndcg_is_that_of_scikit_learn_with_exponential_gains(rows, k):
    grades, scores, group = arrays(rows)
    (value,) = ndcg_by_group(grades, scores, group, k)
    if not grades.any():
        assert math.isnan(value)
    else:
        assert value == pytest.approx(ndcg_score([2**grades - 1], [scores], k=k), rel=1e-12)


@given(rows=SHORT, k=st.sampled_from([1, 3, 10]))
def test_the_value_of_ties_is_the_mean_over_their_orders(rows, k):
    grades, scores, group = arrays(rows)
    if not grades.any():
        return
    best = discounted(sorted(grades, reverse=True), k)
    expected = mean_over_orders(rows, lambda ordered: discounted(ordered, k) / best)
    assert ndcg_by_group(grades, scores, group, k)[0] == pytest.approx(expected, rel=1e-12)
    first = mean_over_orders(rows, lambda ordered: 1 / (1 + next(i for i, g in enumerate(ordered) if g > 0)))
    assert reciprocal_rank_by_group(grades, scores, group)[0] == pytest.approx(first, rel=1e-12)


def test_ndcg_by_hand():
    grades, scores, group = np.array([0.0, 2.0, 1.0, 3.0]), np.array([4.0, 3.0, 2.0, 1.0]), np.zeros(4, np.int64)
    # 0 at rank 1, 3 at rank 2, 1 at rank 3 and 7 at rank 4; best is 7, 3, 1, 0
    gained = 3 / math.log2(3) + 1 / math.log2(4) + 7 / math.log2(5)
    best = 7 / math.log2(2) + 3 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_by_group(grades, scores, group)[0] == pytest.approx(gained / best)
    assert ndcg_by_group(grades, scores, group, 2)[0] == pytest.approx((3 / math.log2(3)) / (7 + 3 / math.log2(3)))
    assert reciprocal_rank_by_group(grades, scores, group).tolist() == [0.5]


def test_two_tied_rows_share_their_ranks():
    grades, group = np.array([1.0, 0.0]), np.zeros(2, np.int64)
    assert ndcg_by_group(grades, np.ones(2), group)[0] == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert ndcg_by_group(grades, np.ones(2), group, 1)[0] == pytest.approx(0.5)
    assert reciprocal_rank_by_group(grades, np.ones(2), group).tolist() == [0.75]


@given(
    rows=st.lists(st.tuples(GRADES, SCORES, st.integers(0, 4)), min_size=1, max_size=40),
    seed=st.integers(0, 2**16),
    name=st.sampled_from(["ndcg", "ndcg@2", "ndcg@10", "mrr"]),
)
def test_neither_the_order_of_rows_nor_a_monotone_map_of_the_scores_counts(rows, seed, name):
    grades, scores, groups = np.array(rows, np.float64).T
    value = metrics.measure(name, grades, scores, groups=groups)
    order = np.random.default_rng(seed).permutation(len(rows))
    for mapped in (scores, np.exp(3 * scores) - 7, scores / 1e9):
        again = metrics.measure(name, grades[order], mapped[order], groups=groups[order])
        assert again == value or (math.isnan(again) and math.isnan(value))


@given(rows=st.lists(st.tuples(GRADES, SCORES, st.integers(0, 3)), min_size=1, max_size=30))
def test_the_value_is_the_mean_over_the_groups_with_a_grade_above_0(rows):
    grades, scores, groups = np.array(rows, np.float64).T
    own = [
        ndcg_score([2 ** grades[groups == g] - 1], [scores[groups == g]], k=10) if (groups == g).sum() > 1 else 1.0
        for g in np.unique(groups)
        if grades[groups == g].any()
    ]
    value = metrics.measure("ndcg@10", grades, scores, groups=groups)
    assert value == pytest.approx(np.mean(own)) if own else math.isnan(value)


def test_weights_are_those_of_groups():
    grades, scores = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0, 1.0])
    groups, weight = np.array([7, 7, 2, 2]), np.array([3.0, 3.0, 1.0, 1.0])
    worst = 1 / math.log2(3)
    assert metrics.measure("ndcg", grades, scores, groups=groups) == pytest.approx((1 + worst) / 2)
    assert metrics.measure("ndcg", grades, scores, weight=weight, groups=groups) == pytest.approx((3 + worst) / 4)
    only_first = np.array([1.0, 1.0, 0.0, 0.0])
    assert metrics.measure("ndcg", grades, scores, weight=only_first, groups=groups) == pytest.approx(1.0)
    assert math.isnan(metrics.measure("ndcg", grades, scores, weight=np.zeros(4), groups=groups))


def test_a_perfect_order_has_the_value_1_and_a_constant_that_of_chance():
    rng = np.random.default_rng(0)
    grades, groups = rng.integers(0, 4, 400).astype(float), np.repeat(np.arange(40), 10)
    assert metrics.measure("ndcg@10", grades, grades, groups=groups) == pytest.approx(1.0)
    constant = metrics.measure("ndcg@10", grades, np.full(400, 0.3), groups=groups)
    drawn = [metrics.measure("ndcg@10", grades, rng.random(400), groups=groups) for _ in range(300)]
    assert constant == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / math.sqrt(300))


def test_names_hold_any_number_of_ranks():
    assert metrics.METRICS["ndcg@3"].title == "NDCG@3"
    assert all(name in metrics.METRICS for name in ("ndcg@1", "ndcg@250"))
    assert not any(name in metrics.METRICS for name in ("ndcg@0", "ndcg@", "ndcg@ten", "mrr@5"))
    assert metrics.default("ranking") == "ndcg@10"
    assert [metric.name for metric in metrics.all_for("ranking", "ndcg@3")] == ["ndcg@3", "ndcg@10", "ndcg", "mrr"]


def test_an_interval_leaves_out_one_group_after_another():
    """The standard error over groups of equal weight is the usual one of a mean: the jackknife of a mean is exact."""
    rng = np.random.default_rng(1)
    grades, groups = rng.integers(0, 3, 300).astype(float), np.repeat(np.arange(30), 10)
    scores = grades + 2 * rng.normal(size=300)
    metric = metrics.METRICS["ndcg@5"]
    statistic = metric.under(grades, metrics.Predicted(scores, 0.5, groups).of(metric.needs), None)
    units = resampling.choose(resampling.RowContext(300, groups=groups, group="query"), statistic)
    assert units.of == "groups of 'query'"
    estimate = intervals.estimates({"": statistic}, 300, units.plan(200, 0.95, 0))[""]
    own = ndcg_by_group(grades, scores, groups, 5)
    assert estimate.error == pytest.approx(own.std(ddof=1) / math.sqrt(30), rel=1e-9)
    assert estimate.low < own.mean() < estimate.high


def test_a_description_has_the_values_by_rank_and_the_groups():
    grades, groups = np.array([1.0, 0.0, 0.0, 0.0, 2.0, 1.0]), np.array([0, 0, 1, 1, 2, 2], np.uint64)
    scores = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    described = ranking_metrics.described(grades, scores, np.zeros(6), groups)
    assert (described["num_groups"], described["num_left_out"], described["cutoffs"]) == (3, 1, [1, 2])
    assert described["ndcg"] == pytest.approx([(1 + 1 / 3) / 2, metrics.measure("ndcg", grades, scores, groups=groups)])
    assert described["dummy"][0] == pytest.approx((0.5 + 2 / 3) / 2)
    assert described["histogram"]["counts"].sum() == 2


def test_no_rows_have_no_value():
    empty = np.empty(0)
    assert math.isnan(metrics.measure("ndcg", empty, empty, groups=empty))
    assert math.isnan(metrics.measure("mrr", empty, empty, groups=empty))
