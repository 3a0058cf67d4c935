"""Which families leave the comparison after a few rounds of folds: those that have no chance.

A family leaves if the best one is ahead of it, fold by fold, by more than the paired t-test
with the corrected error of `leaderboard.corrected_error` allows at 5 %, one-sided. With two
folds that is 6.3 standard errors: what is merely behind stays.

References
----------
Maron and Moore: Hoeffding Races, NIPS 1994 (the idea).
Nadeau, Bengio: Inference for the Generalization Error, Machine Learning 52, 2003,
doi:10.1023/A:1024068626366 (the corrected resampled t-test).
"""

from __future__ import annotations

import numpy as np

from mlsys.evaluate import metrics
from mlsys.selection.leaderboard import Scores, corrected_error

__all__ = ["ROUNDS", "leavers"]

ROUNDS = 2
"""Rounds of folds after which families leave; where time divides the folds, those with most rows to fit on."""

LEVEL = 0.05


def leavers(metric: metrics.Metric, results: Scores, *, keep: str) -> dict[str, str]:
    """Families that leave → why; never `keep`, and none where a score is not defined."""
    from scipy import stats

    fits = {family: [result for result in of if result is not None] for family, of in results.items()}
    scores = {family: np.array([result.score for result in of]) for family, of in fits.items()}
    if not all(np.isfinite(of).all() for of in scores.values()):
        return {}
    best = max(scores, key=lambda family: metric.sign * float(scores[family].mean()))
    leaving = {}
    for family, own in scores.items():
        gains = metric.sign * (scores[best] - own)
        error = corrected_error(gains, fits[best])
        allowed = float(stats.t.ppf(1 - LEVEL, len(gains) - 1)) * (error or 0.0)
        if family not in {keep, best} and error is not None and gains.min() > 0 and gains.mean() > allowed:
            leaving[family] = (
                f"{family} left after {len(gains)} folds: {gains.mean():.3f} of {metric.name} behind {best}, "
                f"of which {allowed:.3f} could be chance (corrected t-test, {LEVEL:.0%})"
            )
    return leaving
