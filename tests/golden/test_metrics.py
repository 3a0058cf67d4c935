"""Metrics against numbers printed in the papers that they come from."""

import numpy as np
import pytest

from mlsys.evaluate.metrics import METRICS
from mlsys.statistics.ranking import wilson_interval


def test_roc_auc_of_hanley_and_mcneil():
    """Hanley & McNeil (1982), Radiology 143, 29-36, table I: ratings of 109 tomograms; area 0.893 in the text."""
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    rating = np.repeat(np.tile(np.arange(1, 6), 2), normal + abnormal) / 5
    y = np.repeat([0, 1], [sum(normal), sum(abnormal)])
    assert METRICS["roc_auc"].function(y, rating) == pytest.approx(0.893, abs=5e-4)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_of_newcombe(successes, count, low, high):
    """Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3."""
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=5e-5)


def test_matthews_correlation_by_hand():
    """12 rows with TP 6, FN 2, FP 1, TN 3: (18 - 2) / sqrt(7 · 8 · 4 · 5) = 16 / 33.466."""
    y = np.repeat([1, 1, 0, 0], [6, 2, 1, 3])
    label = np.repeat([1, 0, 1, 0], [6, 2, 1, 3])
    assert METRICS["mcc"].function(y, label) == pytest.approx(0.47809, abs=1e-5)


def test_average_precision_by_hand():
    """Positives at ranks 1, 3 and 6: (1/1 + 2/3 + 3/6) / 3."""
    y = np.array([1, 0, 1, 0, 0, 1])
    assert METRICS["pr_auc"].function(y, np.linspace(1, 0, 6)) == pytest.approx(13 / 18)
