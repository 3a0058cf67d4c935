"""The leaderboard of candidates scored on the same folds: order, ties, the preferred one, and who leaves early.

A candidate is a family in one form of its features and target: ``xgboost``, or ``xgboost, log target``. The choice goes
by expected loss. The candidate with the best mean is the best; a simpler one is preferred to it only within a practical
margin, a fraction of the way from the dummy to the best. The dummy is a floor: what is not better than it by its
mean is neither the best nor preferred, and if nothing is, the dummy is both. A recipe may prefer the simplest or the
fastest of those that are tied with the best instead, and set limits that refuse candidates.

Two candidates differ by their paired differences, fold by fold. Folds share training rows, so these differences are not
independent: their variance is corrected after Nadeau and Bengio. A candidate is *tied* with the best when it is behind
by no more than one such standard error. That is information on the noise, and decides nothing: with a few folds or
a few extreme rows all are tied, the worst among them.

A family leaves after a few rounds of folds if the best one is ahead of it, fold by fold, by more
than a paired t-test with the corrected error allows at 5 %, one-sided. With two folds that is
6.3 standard errors: a family that is merely behind stays.

References
----------
Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, 2nd ed., section 7.10 (one standard error).
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

MARGIN = 0.002
"""Fraction of the way from the dummy to the best that a simpler candidate may be behind, unless the recipe says."""

NEAR = 0.1
"""Fraction of the way from the dummy to the best that a search may make up for."""

AS_FAST = 1.2
"""Latency as a multiple of the fastest up to which candidates count as equally fast: measured ones vary by as much."""

LEVEL = 0.05
"""Error of the one-sided test by which a family leaves."""

Scores = Mapping[str, Sequence[FoldResult | None]]
"""Results of each candidate, one a round of folds; None for a round that it was no longer part of."""

FORM = ", "
"""What stands between the family and the form in the name of a candidate."""


def family_of(candidate: str) -> str:
    """The family of a candidate.

    >>> family_of("xgboost, log target"), family_of("linear")
    ('xgboost', 'linear')
    """
    return candidate.partition(FORM)[0]


@dataclass(frozen=True)
class LeaderboardEntry:
    """A candidate on the leaderboard.

    Attributes
    ----------
    family, form
        The model family, and how its features and target differ from the usual; "" where they do not.
    std_error
        Standard error of the mean score, corrected for shared training rows; None with one fold.
    behind, behind_error
        Mean gain of the best family over this one, and the corrected standard error of that
        mean over paired folds; 0 and None for the best itself.
    tie
        Behind by at most one standard error.
    num_bytes
        Bytes of its largest model as it is stored; None where the recipe sets no limit.
    """

    family: str
    form: str
    mean: float
    std_error: float | None
    scores: tuple[float, ...]
    behind: float
    behind_error: float | None
    tie: bool
    fit_s: float
    predict_us_per_row: float
    best_rounds: tuple[int, ...]
    num_bytes: int | None = None

    @property
    def name(self) -> str:
        return f"{self.family}{FORM}{self.form}" if self.form else self.family


@dataclass(frozen=True)
class Ranking:
    """A leaderboard: its entries, best first, and the candidate to train.

    Attributes
    ----------
    best, preferred
        The candidate with the best mean of those within the recipe's limits, and the one that is preferred to it by
        `margin` or `prefer`; the dummy if nothing beats it.
    margin
        Fraction of the way from the dummy to the best that a simpler candidate may be behind.
    rounds
        For each fold judged, the rows fitted on and judged.
    notes
        Sentences for readers: samples, folds that were left out, a target with a heavy tail.
    decided
        Recipe values that the comparison decided, by their dotted keys: what a person would write to fix the choice.
    left
        The reason of each candidate that was not compared on all folds.
    prefer
        What the recipe prefers: accurate, simple or fast candidates.
    refused
        The limit of the recipe that a candidate does not keep.
    fits
        Record of the fits that were made, in their order (`mlsys.selection.fold_fits`), by which they are made again.
    seconds
        Time that the comparison had; None without a limit.
    """

    metric: str
    greater_is_better: bool
    entries: tuple[LeaderboardEntry, ...]
    best: str
    preferred: str
    margin: float
    rounds: tuple[dict[str, int], ...]
    notes: tuple[str, ...]
    decided: dict[str, Any] = dataclasses.field(default_factory=dict)
    left: dict[str, str] = dataclasses.field(default_factory=dict)
    prefer: str = "accurate"
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    fits: tuple[dict[str, Any], ...] = ()
    seconds: float | None = None

    @property
    def family(self) -> str:
        """The family of the preferred candidate."""
        return family_of(self.preferred)

    @property
    def contenders(self) -> list[str]:
        """Families whose best form is behind the best by at most `NEAR` of the way from the dummy, the best first."""
        floor = next((entry for entry in self.entries if entry.family == models.BASELINE), self.entries[-1])
        near = [entry.family for entry in self.entries if entry.behind <= NEAR * floor.behind]
        return list(dict.fromkeys(near))

    @property
    def beats_dummy(self) -> bool:
        """True if a candidate beats the dummy by its mean, or if there was no dummy to beat."""
        return self.best != models.BASELINE or len(self.entries) == 1

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def shown(self) -> dict[str, Any]:
        """The ranking as JSON without the record of its fits, which is for those who make them again."""
        return {name: value for name, value in self.to_json().items() if name not in ("fits", "seconds")}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Ranking:
        entries = tuple(
            LeaderboardEntry(**{**entry, "scores": tuple(entry["scores"]), "best_rounds": tuple(entry["best_rounds"])})
            for entry in value["entries"]
        )
        lists = {name: tuple(value.get(name, ())) for name in ("rounds", "notes", "fits")}
        return cls(**{**value, "entries": entries, **lists})

    def summary(self) -> str:
        """Say in one line which candidate is the best, which are tied with it, and which is preferred."""
        first = self.entries[0]
        spread = "" if first.std_error is None else f" ± {first.std_error:.4f}"
        tied = [entry.name for entry in self.entries[1:] if entry.tie]
        others = f", tied with {'; '.join(tied)}" if tied else ""
        size = f"{len(self.entries)} candidates × {len(self.rounds)} folds"
        left = sum(len(entry.scores) < len(first.scores) for entry in self.entries)
        early = f", {left} left early" if left else ""
        best = f"{self.best} {self.metric} {first.mean:.4f}{spread}"
        if not self.beats_dummy:
            return (
                f"{size}{early}: nothing beats the dummy, {best}; its features say nothing of the target by this metric"
            )
        chosen = "" if self.preferred == self.best else f"; {self.preferred} preferred: {self.reason}"
        refused = f", {len(self.refused)} refused by the recipe's limits" if self.refused else ""
        return f"{size}{early}{refused}: {best}{others}{chosen}"

    @property
    def reason(self) -> str:
        """Why the preferred candidate is preferred to the best."""
        if self.prefer != "accurate":
            word = {"simple": "the simplest", "fast": "the fastest"}[self.prefer]
            return f"{word} of those within one standard error (selection.prefer: {self.prefer})"
        return f"simpler, and within {100 * self.margin:g} % of the way from the dummy to the best"


def leaderboard(
    metric: metrics.Metric,
    results: Scores,
    notes: Sequence[str] = (),
    margin: float = MARGIN,
    prefer: str = "accurate",
    refused: Mapping[str, str] | None = None,
) -> Ranking:
    """Order candidates by how far they are behind the best, and mark differences that are within noise.

    A fold on which the metric is not defined (one class only) is left out for all candidates. One that left early
    is compared on its own folds, and cannot be the best; nor can one that the recipe's limits refuse, with the reason.
    """
    refused = dict(refused or {})
    results, notes = _with_defined_dummy(metric, results, notes)
    rounds = list(zip(*results.values(), strict=True))
    defined = [all(math.isfinite(result.score) for result in fits if result is not None) for fits in rounds]
    if not any(defined):
        raise errors.TargetError.build(
            "selection: folds",
            got=f"{metric.name} is defined on none of {len(defined)} folds",
            expected="folds with a grade above 0" if metric.needs == "ranked" else "folds with more than one class",
            hint="take fewer folds (split.folds), or another metric (selection.metric)",
        )
    if not all(defined):
        left_out = f"{metric.name} is not defined on {defined.count(False)} of {len(defined)} folds; they are left out"
        notes = [*notes, left_out]
    usable = {name: [r for r, ok in zip(fits, defined, strict=True) if ok] for name, fits in results.items()}
    whole = {name: [r for r in fits if r is not None] for name, fits in usable.items() if None not in fits}
    means = {name: metric.sign * float(_scores(fits).mean()) for name, fits in whole.items() if name not in refused}
    if not means:
        got, hint = f"{len(refused)} of {len(refused)} candidates are beyond them", "raise the limits, or drop them"
        raise errors.RecipeError.build("selection: limits", got=got, expected="one that keeps them", hint=hint)
    able = _above_dummy(means)
    best = max(able, key=lambda name: (able[name], -_complexity(name)))
    entries = sorted(
        (_entry(metric, name, usable[name], whole[best], is_best=name == best) for name in usable),
        key=lambda entry: (entry.name in refused, entry.name != best, entry.behind, _complexity(entry.name)),
    )
    tied = [entry for entry in entries if entry.tie and entry.name in able]
    preferred = _nearest(means, able, best, margin) if prefer == "accurate" else _tied(prefer, tied)
    sizes = tuple({"num_rows": r.num_rows, "num_judged": r.num_judged} for r in whole[best])
    facts: dict[str, Any] = {"rounds": sizes, "notes": tuple(notes), "prefer": prefer, "refused": refused}
    return Ranking(metric.name, metric.greater_is_better, tuple(entries), best, preferred, margin, **facts)


def _with_defined_dummy(metric: metrics.Metric, results: Scores, notes: Sequence[str]) -> tuple[Scores, Sequence[str]]:
    """Leave the dummy out where the metric is not defined for it alone: the precision of who never says yes."""
    dummy = results.get(models.BASELINE, ())
    others = {name: fits for name, fits in results.items() if name != models.BASELINE}
    undefined = [k for k, fit in enumerate(dummy) if fit is not None and not math.isfinite(fit.score)]
    known = (fits[k] for k in undefined for fits in others.values())
    if not any(fit is not None and math.isfinite(fit.score) for fit in known):
        return results, notes
    return others, [*notes, f"the dummy has no {metric.name}, so nothing can be compared with it"]


def _above_dummy(means: Mapping[str, float]) -> dict[str, float]:
    """The candidates that beat the dummy by their mean, greater ones being better; the dummy alone if none does."""
    floor = means.get(models.BASELINE)
    able = dict(means) if floor is None else {name: mean for name, mean in means.items() if mean > floor}
    return able or {models.BASELINE: means[models.BASELINE]}


def _nearest(means: Mapping[str, float], able: Mapping[str, float], best: str, margin: float) -> str:
    """The simplest candidate within the margin of the best."""
    allowed = margin * (able[best] - means[models.BASELINE]) if models.BASELINE in means else 0.0
    near = [name for name, mean in able.items() if able[best] - mean <= allowed]
    return min(near, key=lambda name: (_complexity(name), -able[name]))


def _tied(prefer: str, tied: Sequence[LeaderboardEntry]) -> str:
    """The simplest or the fastest of the candidates that are tied with the best; the better of equally fast ones."""
    if prefer == "simple":
        return min(tied, key=lambda entry: (_complexity(entry.name), entry.behind)).name
    limit = AS_FAST * min(entry.predict_us_per_row for entry in tied)
    return min((entry for entry in tied if entry.predict_us_per_row <= limit), key=lambda entry: entry.behind).name


def _complexity(candidate: str) -> int:
    return models.family(family_of(candidate)).complexity


def _entry(
    metric: metrics.Metric, name: str, results: Sequence[FoldResult | None], best: list[FoldResult], *, is_best: bool
) -> LeaderboardEntry:
    fits = [fit for fit in results if fit is not None]
    beside = [fit for fit, own in zip(best, results, strict=True) if own is not None]
    scores = _scores(fits)
    gains = metric.sign * (_scores(beside) - scores)
    behind, behind_error = float(gains.mean()), None if is_best else corrected_error(gains, beside)
    return LeaderboardEntry(
        family=family_of(name),
        form=name.partition(FORM)[2],
        mean=float(scores.mean()),
        std_error=corrected_error(scores, fits),
        scores=tuple(scores.tolist()),
        behind=behind,
        behind_error=behind_error,
        tie=is_best or behind <= (behind_error or 0.0),
        fit_s=float(np.mean([r.fit_s for r in fits])),
        predict_us_per_row=float(np.median([r.predict_us_per_row for r in fits])),
        best_rounds=tuple(r.best_rounds for r in fits if r.best_rounds is not None),
        num_bytes=max((r.num_bytes for r in fits if r.num_bytes is not None), default=None),
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


def best_forms(metric: metrics.Metric, results: Scores) -> list[str]:
    """The best form of each family by its mean, in the order of the families."""
    means = {
        name: metric.sign * float(np.mean([fit.score for fit in fits if fit is not None]))
        for name, fits in results.items()
    }
    families = dict.fromkeys(map(family_of, means))
    forms = {family: [name for name in means if family_of(name) == family] for family in families}
    return [
        max(own, key=lambda name: means[name] if math.isfinite(means[name]) else -math.inf) for own in forms.values()
    ]


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
