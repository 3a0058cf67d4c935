"""Loss by region: a truth that changes for some rows alone is found where it changed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score

from mlsys.evaluate.metrics import METRICS
from mlsys.monitor import regions
from mlsys.monitor.performance import PerformanceLimits
from mlsys.monitor.windows import Window
from mlsys.schema import Task, TaskKind

TASK = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))
LIMITS = PerformanceLimits(METRICS["accuracy"], 0.02, 0.05, 0.95, 0.5)


def part(value, hits, *, start=0, coverage=1.0):
    """A slice whose rows have the score 1 and come in blocks of ten; `hits` has the right ones of each block."""
    y = np.concatenate([np.arange(10) < each for each in hits]).astype(float)
    rows = len(y)
    window = Window(start, None, "w", None, slice_key="origin", slice_value=value, num_rows=round(rows / coverage))
    window.num_resolved = rows
    window.labelled.y.append(y)
    window.labelled.output.append(np.column_stack([np.zeros(rows), np.ones(rows)]))
    window.labelled.block.append(np.arange(rows) // 10)
    return window


def evaluation(metric="accuracy", **values):
    rows = [{"column": "origin", "slice": name, "value": value, "error": 0.01} for name, value in values.items()]
    return {"slices": {"metric": metric, "rows": rows}}


def losses(slices, tested, min_coverage=0.9):
    return regions.losses(slices, tested, TASK, LIMITS, min_coverage)


def test_the_region_whose_truth_changed_is_worse_and_the_others_are_not():
    good, bad = part("EWR", [9, 8, 9, 10, 9, 9]), part("JFK", [5, 6, 4, 5, 6, 4])
    found = losses([good, bad], evaluation(EWR=0.9, JFK=0.9))[0]
    assert [(each.slice, each.worse) for each in found] == [("JFK", True), ("EWR", False)]
    assert found[0].value == accuracy_score(bad.labelled.arrays()[0], np.ones(60)) == 0.5
    assert (found[0].test, found[0].loss) == (0.9, pytest.approx(0.4))


def test_the_interval_is_that_of_blocks_at_a_confidence_shared_among_the_regions():
    """By hand: means of six blocks of equal size, t with 5 degrees of freedom, 97.5 % for two regions."""
    hits = np.array([5, 6, 4, 5, 6, 4]) / 10
    found = losses([part("JFK", hits * 10), part("EWR", [9] * 6)], evaluation(EWR=0.9, JFK=0.9))[0]
    margin = stats.t.ppf(1 - 0.025 / 2, 5) * hits.std(ddof=1) / math.sqrt(6)
    assert (found[0].low, found[0].high) == (pytest.approx(0.5 - margin), pytest.approx(0.5 + margin))


def test_a_loss_that_is_small_or_may_be_chance_is_not_worse():
    small, noisy = part("EWR", [9] * 12), part("JFK", [10, 10, 10, 10, 10, 1])
    found = losses([small, noisy], evaluation(EWR=0.91, JFK=0.9))[0]
    assert not any(each.worse for each in found)


def test_regions_are_those_that_have_labels_and_that_the_evaluation_knows():
    few, late, unknown = part("EWR", [5, 5]), part("JFK", [5] * 6, coverage=0.5), part("LGA", [5] * 6)
    assert losses([few, late, unknown], evaluation(EWR=0.9, JFK=0.9)) == {}
    assert [each.slice for each in losses([late], evaluation(JFK=0.9), 0.5)[0]] == ["JFK"]
    assert losses([unknown], evaluation("roc_auc", LGA=0.9)) == {}
    assert losses([unknown], None) == losses([unknown], {"metrics": {}}) == {}
    ranking = Task(kind=TaskKind.RANKING, target="grade", group="query")
    assert regions.losses([unknown], evaluation(LGA=0.9), ranking, LIMITS, 0.9) == {}
