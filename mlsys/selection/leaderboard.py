"""The leaderboard of families scored on the same folds: order, ties, the preferred one, and who leaves early.

Two families differ by their paired differences, fold by fold. Folds share training rows,
so these differences are not independent: their variance is corrected after Nadeau and
Bengio. A family is *tied* with the best when it is behind by no more than one such standard
error (the one-standard-error rule), and of the tied ones the simplest is preferred.

A family leaves after a few rounds of folds if the best one is ahead of it, fold by fold, by more
than a paired t-test with the corrected error allows at 5 %, one-sided. With two folds that is
6.3 standard errors: a family that is merely behind stays.

References
----------
Breiman, Friedman, Olshen, Stone: Classification and Regression Trees, 1984, section 3.4.3 (one standard error).
Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, 2nd ed., section 7.10.
Maron and Moore: Hoeffding Races, NIPS 1994 (leaving early).
Nadeau, Bengio: Inference for the Generalization Error, Machine Learning 52, 2003,
doi:10.1023/A:1024068626366 (the corrected resampled t-test).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsys import errors, models
from mlsys.evaluate import metrics
from mlsys.train import FoldResult

ROUNDS = 2
"""Rounds of folds after which families leave; where time divides the folds, those with most rows to fit on."""

LEVEL = 0.05
"""Error of the one-sided test by which a family leaves."""

Scores = Mapping[str, Sequence[FoldResult | None]]
"""Results of each family, one a round of folds; None for a round that it was no longer part of."""


@dataclass(frozen=True)
class LeaderboardEntry:
    """A family on the leaderboard.

    Attributes
    ----------
    std_error
        Standard error of the mean score, corrected for shared training rows; None with one fold.
    behind, behind_error
        Mean gain of the best family over this one, and the corrected standard error of that
        mean over paired folds; 0 and None for the best itself.
    tie
        Behind by at most one standard error.
    """

    family: str
    mean: float
    std_error: float | None
    scores: tuple[float, ...]
    behind: float
    behind_error: float | None
    tie: bool
    fit_s: float
    predict_us_per_row: float
    best_rounds: tuple[int, ...]


@dataclass(frozen=True)
class Ranking:
    """A leaderboard: its entries, best first, and the family to train.

    `preferred` is the simplest of the families tied with the best; `rounds` counts, for each fold judged, the
    rows fitted on and judged; `notes` tell readers of samples and folds left out.
    """

    metric: str
    greater_is_better: bool
    entries: tuple[LeaderboardEntry, ...]
    best: str
    preferred: str
    rounds: tuple[dict[str, int], ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Ranking:
        entries = tuple(
            LeaderboardEntry(**{**entry, "scores": tuple(entry["scores"]), "best_rounds": tuple(entry["best_rounds"])})
            for entry in value["entries"]
        )
        return cls(**{**value, "entries": entries, "rounds": tuple(value["rounds"]), "notes": tuple(value["notes"])})

    def summary(self) -> str:
        """Say in one line which family is the best, which are tied with it, and which is preferred."""
        first = self.entries[0]
        spread = "" if first.std_error is None else f" ± {first.std_error:.4f}"
        tied = [entry.family for entry in self.entries[1:] if entry.tie]
        others = f", tied with {', '.join(tied)}" if tied else ""
        chosen = "" if self.preferred == self.best else f"; {self.preferred} preferred as the simplest within noise"
        size = f"{len(self.entries)} families × {len(self.rounds)} folds"
        left = sum(len(entry.scores) < len(first.scores) for entry in self.entries)
        early = f", {left} left early" if left else ""
        return f"{size}{early}: {self.best} {self.metric} {first.mean:.4f}{spread}{others}{chosen}"


def leaderboard(metric: metrics.Metric, results: Scores, notes: Sequence[str] = ()) -> Ranking:
    """Order families by how far they are behind the best, and mark differences that are within noise.

    A fold on which the metric is not defined (one class only) is left out for all families. A
    family that left early is compared on its own folds, and cannot be the best.
    """
    rounds = list(zip(*results.values(), strict=True))
    defined = [all(math.isfinite(result.score) for result in fits if result is not None) for fits in rounds]
    if not any(defined):
        raise errors.TargetError.build(
            "selection: folds",
            got=f"{metric.name} is defined on none of {len(defined)} folds",
            expected="folds with more than one class",
            hint="take fewer folds (split.folds), or another metric (selection.metric)",
        )
    if not all(defined):
        left_out = f"{metric.name} is not defined on {defined.count(False)} of {len(defined)} folds; they are left out"
        notes = [*notes, left_out]
    usable = {family: [r for r, ok in zip(fits, defined, strict=True) if ok] for family, fits in results.items()}
    whole = {family: [r for r in fits if r is not None] for family, fits in usable.items() if None not in fits}
    complexity = {family: models.family(family).complexity for family in results}
    best = max(whole, key=lambda family: (metric.sign * _scores(whole[family]).mean(), -complexity[family]))
    entries = sorted(
        (_entry(metric, family, usable[family], whole[best], is_best=family == best) for family in usable),
        key=lambda entry: (entry.family != best, entry.behind, complexity[entry.family]),
    )
    preferred = min((entry.family for entry in entries if entry.tie), key=complexity.__getitem__)
    sizes = tuple({"num_rows": r.num_rows, "num_judged": r.num_judged} for r in whole[best])
    return Ranking(metric.name, metric.greater_is_better, tuple(entries), best, preferred, sizes, tuple(notes))


def _entry(
    metric: metrics.Metric, family: str, results: Sequence[FoldResult | None], best: list[FoldResult], *, is_best: bool
) -> LeaderboardEntry:
    fits = [fit for fit in results if fit is not None]
    beside = [fit for fit, own in zip(best, results, strict=True) if own is not None]
    scores = _scores(fits)
    gains = metric.sign * (_scores(beside) - scores)
    behind, behind_error = float(gains.mean()), None if is_best else corrected_error(gains, beside)
    return LeaderboardEntry(
        family=family,
        mean=float(scores.mean()),
        std_error=corrected_error(scores, fits),
        scores=tuple(scores.tolist()),
        behind=behind,
        behind_error=behind_error,
        tie=is_best or behind <= (behind_error or 0.0),
        fit_s=float(np.mean([r.fit_s for r in fits])),
        predict_us_per_row=float(np.median([r.predict_us_per_row for r in fits])),
        best_rounds=tuple(r.best_rounds for r in fits if r.best_rounds is not None),
    )


def corrected_error(values: NDArray[np.float64], fits: Sequence[FoldResult]) -> float | None:
    """Standard error of the mean over J folds whose training rows overlap; None for one fold.

    ``sqrt((1/J + n_judged/n_fitted) · s²)`` with s² the variance over folds (n - 1), after
    Nadeau and Bengio, 2003, equation 9; the ratio of rows is the mean over the folds.
    """
    folds = len(values)
    if folds < 2:
        return None
    ratio = float(np.mean([fit.num_judged / max(1, fit.num_rows) for fit in fits]))
    return math.sqrt((1 / folds + ratio) * float(np.var(values, ddof=1)))


def _scores(fits: Sequence[FoldResult]) -> NDArray[np.float64]:
    return np.array([fit.score for fit in fits])


def leavers(metric: metrics.Metric, results: Scores, *, keep: str) -> dict[str, str]:
    """Find the families that leave, with the reason; never `keep`, and none where a score is not defined."""
    from scipy import stats

    fits = {family: [result for result in own if result is not None] for family, own in results.items()}
    scores = {family: _scores(own) for family, own in fits.items()}
    if not all(np.isfinite(own).all() for own in scores.values()):
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
