"""Pairs of slices: found where the truth is worse, seldom found in noise, with p-values of SciPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import simulations
from mlsys import evaluate
from mlsys.evaluate import metrics, pair_slices, report, slices
from mlsys.evaluate.intervals import ResamplingPlan
from mlsys.evaluate.metrics import Predicted
from mlsys.schema import Column, Kind, Task

PLAN = ResamplingPlan(50)


def parts_of(**columns):
    """Slices of categories."""
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    named = [Column(name=name, type="string", kind=Kind.CATEGORICAL) for name in columns]
    return slices.find(table, named, named=False)[0]


def drawn(rng, num_rows, num_columns=6):
    return parts_of(**{f"c{k}": rng.choice(list("abcde")[: 3 + k % 3], num_rows) for k in range(num_columns)})


def find(parts, loss, plan=PLAN, min_rows=30, **how):
    return pair_slices.find(parts, np.asarray(loss, float), plan, min_rows=min_rows, **how)


def test_in_noise_a_pair_is_found_no_more_often_than_the_level_says():
    rng, cases = np.random.default_rng(0), 200
    found = sum(bool(find(drawn(rng, 800), rng.exponential(size=800))[0]) for _ in range(cases))
    assert found <= simulations.band(0.05, cases)[1]


def test_in_noise_of_days_that_are_alike_it_is_not_either_and_by_rows_it_would_be():
    """Each day has its own level of loss, and its own share of the values: rows of a day are alike twice over."""
    rng, cases = np.random.default_rng(1), 60
    alone = by_day = 0
    days = np.repeat(np.arange(30), 40)
    for _ in range(cases):
        ends = rng.dirichlet(np.ones(3), (2, 30)).cumsum(axis=2)[:, days]
        codes = (rng.random((2, 1_200, 1)) > ends[:, :, :2]).sum(axis=2)
        parts = parts_of(first=np.array(list("abc"))[codes[0]], second=np.array(list("abc"))[codes[1]])
        loss = rng.exponential(size=30)[days] + 0.3 * rng.exponential(size=1_200)
        alone += bool(find(parts, loss)[0])
        by_day += bool(find(parts, loss, dataclasses.replace(PLAN, units=days))[0])
    assert by_day <= simulations.band(0.05, cases)[1]
    assert alone > by_day


def test_a_slice_that_is_bad_alone_makes_no_pair():
    rng = np.random.default_rng(8)
    a, b = rng.choice(list("xyz"), 4_000), rng.choice(list("xyz"), 4_000)
    assert find(parts_of(a=a, b=b), rng.exponential(size=4_000) * (1 + 3 * (a == "x")))[0] == []


def test_a_pair_that_is_worse_than_both_of_its_slices_is_found():
    rng = np.random.default_rng(2)
    a, b, c = (rng.choice(list("xyz"), 4_000) for _ in range(3))
    loss = rng.exponential(size=4_000) * (1 + ((a == "x") & (b == "y")))
    found, facts = find(parts_of(a=a, b=b, c=c), loss)
    assert [tuple(part.value for part in pair["parts"]) for pair in found] == [("x", "y")]
    assert [part.column for part in found[0]["parts"]] == ["a", "b"]
    both = (a == "x") & (b == "y")
    assert found[0]["num_rows"] == both.sum()
    assert found[0]["mean_loss"] == pytest.approx(loss[both].mean())
    assert found[0]["others"] == pytest.approx([loss[(a == "x") & ~both].mean(), loss[(b == "y") & ~both].mean()])
    assert facts == {"num_tested": 27, "num_columns": 3, "num_left_out": 0}


def test_p_values_are_those_of_welch_the_larger_of_both():
    rng = np.random.default_rng(3)
    a, b = rng.choice(list("xy"), 500), rng.choice(list("uv"), 500)
    loss = rng.exponential(size=500) + ((a == "x") & (b == "u"))
    first, second = (slices_number(values) for values in (a, b))
    found = {(i, j): p for i, j, p in pair_slices._tested(first, second, loss, None, 10)}
    for (i, j), p in found.items():
        own = (first == i) & (second == j)
        rest = ((first == i) & ~own, (second == j) & ~own)
        expected = max(
            stats.ttest_ind(loss[own], loss[each], equal_var=False, alternative="greater").pvalue for each in rest
        )
        assert p == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert len(found) == 4


def slices_number(values):
    return np.unique(values, return_inverse=True)[1]


def test_units_of_one_row_give_nearly_the_p_values_of_rows():
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    loss = rng.normal(size=200)
    alone = pair_slices._tested(a, b, loss, None, 10)
    by_unit = pair_slices._tested(a, b, loss, np.arange(200), 10)
    assert [p for *_, p in by_unit] == pytest.approx([p for *_, p in alone], abs=0.01)


def test_the_adjustment_is_that_of_scipy():
    rng = np.random.default_rng(5)
    for number in (1, 2, 50):
        p = rng.random(number) ** 3
        assert pair_slices.adjust(p) == pytest.approx(stats.false_discovery_control(p, method="by"))
    assert len(pair_slices.adjust(np.empty(0))) == 0


def test_pairs_with_few_rows_and_columns_beyond_the_bound_are_not_looked_at(monkeypatch):
    rng = np.random.default_rng(6)
    rare = np.where(np.arange(1_000) < 20, "rare", "usual")
    parts = parts_of(a=rare, b=rng.choice(list("xy"), 1_000), c=rng.choice(list("uv"), 1_000))
    loss = np.where(rare == "rare", 50.0, 0.0) + rng.exponential(size=1_000)
    found, facts = find(parts, loss)
    assert not found
    assert facts["num_tested"] == 4  # of b and c; the rare value leaves no rest that is large enough
    monkeypatch.setattr(pair_slices, "MAX_COLUMNS", 2)
    assert find(parts, loss, order=["c", "b"])[1] == {"num_tested": 4, "num_columns": 2, "num_left_out": 1}


def test_of_many_rows_some_are_searched_and_all_are_in_what_is_found(monkeypatch):
    rng = np.random.default_rng(7)
    a, b = rng.choice(list("xy"), 20_000), rng.choice(list("uv"), 20_000)
    both = (a == "x") & (b == "u")
    monkeypatch.setattr(pair_slices, "MAX_ROWS", 5_000)
    found = find(parts_of(a=a, b=b), rng.exponential(size=20_000) * (1 + both))[0]
    assert found[0]["num_rows"] == both.sum()


def test_losses_are_those_of_the_metric():
    y, p = np.array([0.0, 1.0]), np.array([[0.8, 0.2], [0.3, 0.7]])
    binary = Task(kind="binary", target="y", classes=(False, True))
    name, loss = pair_slices.losses(binary, metrics.METRICS["roc_auc"], y, Predicted(p))
    assert (name, loss.tolist()) == ("log loss", pytest.approx([-np.log(0.8), -np.log(0.7)]))
    number = Task(kind="regression", target="y")
    for metric, expected in {"rmse": [4.0, 1.0], "mae": [2.0, 1.0], "pinball_0.9": [0.2, 0.9]}.items():
        output = Predicted(np.array([2.0, 0.0]))
        assert pair_slices.losses(number, metrics.METRICS[metric], y, output)[1].tolist() == pytest.approx(expected)


def test_an_evaluation_tells_what_was_looked_at_and_draws_what_was_found(make_world):
    world = make_world("regression", num_test=3_000)
    found = evaluate.score(world.store, world.bundle, world.split, world.recipe)
    pairs = found["slices"]["pairs"]
    assert (pairs["loss"], pairs["num_columns"]) == ("squared error", 3)
    assert "Pairs of columns" in report.page(found)
    row = {**found["slices"]["rows"][0], "column": "x × origin", "slice": "1 to 2, JFK", "mean_loss": 2.0}
    pairs["rows"] = [{**row, "others": [1.0, 1.1], "p_value": 0.001}]
    assert "x × origin" in report.page(found)
