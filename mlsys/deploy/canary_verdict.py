"""The verdict on a canary: wider, wait, or back, by tests that may be looked at after every request.

=========  ==========================================================================================
test       the canary goes back when
=========  ==========================================================================================
errors     it fails requests more often than stable (`error_evidence`)
fallback   stable answers more than `MAX_FALLBACKS` of its requests in its place (`error_evidence`)
latency    it takes longer, by a factor beyond what is tolerated (`mean_evidence`)
scores     its scores are distributed otherwise, beyond what is tolerated (`distribution_radius`)
labels     its losses on rows with labels are larger (`mean_evidence`)
=========  ==========================================================================================

Of α each test has a fifth. The first four divide theirs among the steps, in each of which counts begin anew, so that
each has α / (5 steps). Labels come later than the step of their rows, so those of each step go on counting, and the
evidence is the mean over all steps, of which those without labels have 1: a mean of e-values is one. By Bonferroni's
inequality a canary that is as good as stable goes back with probability at most α over all tests, all steps and all
looks together. The functions, their sources and their assumptions are those of `mlsys.statistics.sequential`.

One observation is one key, not one request, for a key has one version and its requests are alike. Latencies, scores and
losses are those of the first request of each key in a step. Of errors, those keys count of which a request failed: if
the versions fail alike, each of these is the canary's with the probability with which it has a key, whatever a key
sends. For the fallback, the keys that fell back are set against all requests of the canary: a key that has not failed
yet fails no more often than the average one, so that this errs on the side of the canary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from mlsys.deploy.canary_labels import LossTally
from mlsys.deploy.tallies import StepTally
from mlsys.statistics.sequential import (
    SampleMoments,
    distribution_distance,
    distribution_radius,
    error_evidence,
    mean_evidence,
)

Decision = Literal["widen", "hold", "take back"]

TESTS = 5
"""Tests among which α is divided."""

MAX_FALLBACKS = 0.001
"""Fraction of its requests that a canary may leave to stable."""

OFFSET_MS = 1.0
"""Milliseconds that are added to both latencies before their ratio is taken: what is lost in a request's way anyway."""

LATENCY_SCALE = 0.2
"""Difference of mean log-latencies beyond the tolerated one that is noticed soonest: a factor of 1.2."""

LOSS_SCALE = 0.03
"""Difference of mean losses, of numbers from 0 to 1, that is noticed soonest."""


@dataclass(frozen=True)
class Tolerance:
    """Bounds within which a canary may be worse than stable.

    Attributes
    ----------
    alpha
        Probability at most that a canary as good as stable is taken back, in the whole rollout.
    steps
        Steps in which it is judged.
    slowdown
        Factor by which its geometric mean latency, and a millisecond, may exceed that of stable.
    shift
        Largest difference of the distribution functions of both scores (Kolmogorov-Smirnov).
    """

    alpha: float = 0.01
    steps: int = 1
    slowdown: float = 1.5
    shift: float = 0.2

    @property
    def share(self) -> float:
        """The share of α that one test has in one step; that of labels is of all steps together."""
        return self.alpha / (TESTS * self.steps)


@dataclass(frozen=True)
class CanaryVerdict:
    """A decision about a canary, in words, with the numbers of each test.

    `tests` maps the name of each test to what was found and the bound at which the canary goes back.
    """

    decision: Decision
    words: str
    tests: Mapping[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        return {"decision": self.decision, "words": self.words, "tests": {k: list(v) for k, v in self.tests.items()}}


def log_latency(seconds: float) -> float:
    """The number by whose mean latencies are compared: the logarithm of the milliseconds and one.

    >>> round(log_latency(0.009), 3) == round(math.log(10), 3)
    True
    """
    return math.log(OFFSET_MS + 1e3 * seconds)


def judge(
    tally: StepTally,
    share: float,
    tolerance: Tolerance,
    *,
    is_due: bool,
    min_requests: int,
    losses: Mapping[int, LossTally] = MappingProxyType({}),
) -> CanaryVerdict:
    """Decide on a canary by what was counted in its present step.

    Parameters
    ----------
    share
        Probability with which a request counts for the canary; one half where both versions compute each.
    is_due
        The step has lasted long enough.
    min_requests
        Requests of the canary before which it is not widened.
    losses
        Losses of labelled rows, by the step in which they were answered.
    """
    tests = _tests(tally, share, tolerance)
    tests["labels"] = (label_evidence(losses, tolerance.steps), TESTS / tolerance.alpha)
    broken = [name for name, (evidence, bound) in tests.items() if evidence >= bound]
    if broken:
        reasons = [
            _label_words(losses) if name == "labels" else _words(name, tally, tests[name], tolerance) for name in broken
        ]
        words = "; ".join(reasons)
        return CanaryVerdict("take back", words, tests)
    requests = tally.canary.requests
    if is_due and requests >= min_requests:
        return CanaryVerdict("widen", f"no test is against it after {_counted(tally)}", tests)
    waits = "its step is not over" if not is_due else f"{min_requests:,} of its requests are to be judged"
    return CanaryVerdict("hold", f"{waits}: {_counted(tally)} so far", tests)


def _tests(tally: StepTally, share: float, tolerance: Tolerance) -> dict[str, tuple[float, float]]:
    """Evidence and bound of each test."""
    stable, canary, alpha = tally.stable, tally.canary, tolerance.share
    enough = 1 / alpha
    errors = error_evidence(canary.erring_keys, stable.erring_keys + canary.erring_keys, share)
    fallback = error_evidence(canary.fallback_keys, canary.requests, MAX_FALLBACKS) if canary.fallback_keys else 1.0
    margin = math.log(tolerance.slowdown)
    latency = mean_evidence(stable.latency, canary.latency, LATENCY_SCALE, margin, two_sided=False)
    radii = sum(distribution_radius(sum(arm.scores), alpha / 2) for arm in (stable, canary))
    distance = distribution_distance(stable.scores, canary.scores) if stable.scores and canary.scores else 0.0
    return {
        "errors": (errors, enough),
        "fallback": (fallback, enough),
        "latency": (latency, enough),
        "scores": (distance, tolerance.shift + radii),
    }


def label_evidence(losses: Mapping[int, LossTally], steps: int) -> float:
    """Compute the e-value against "the canary loses no more than stable on rows with labels", over all steps.

    >>> label_evidence({}, 3)
    1.0
    """
    by_step = [_loss_evidence(tally) for tally in losses.values()]
    return (sum(by_step) + max(0, steps - len(by_step))) / max(steps, len(by_step), 1)


def _loss_evidence(tally: LossTally) -> float:
    """The evidence of one step; of pairs, their differences are compared with 0."""
    if tally.pairs is not None:
        return mean_evidence(SampleMoments(tally.pairs.count), tally.pairs, LOSS_SCALE, two_sided=False)
    return mean_evidence(tally.stable, tally.canary, LOSS_SCALE, two_sided=False)


def _label_words(losses: Mapping[int, LossTally]) -> str:
    stable, canary = (
        SampleMoments(sum(each.count for each in arms), sum(each.total for each in arms))
        for arms in ([each.stable for each in losses.values()], [each.canary for each in losses.values()])
    )
    return (
        f"labels: the mean loss is {canary.mean:.3f} on {canary.count:,} rows of the canary with labels, "
        f"{stable.mean:.3f} on {stable.count:,} of stable"
    )


def _words(name: str, tally: StepTally, test: tuple[float, float], tolerance: Tolerance) -> str:
    stable, canary = tally.stable, tally.canary
    if name == "errors":
        return (
            f"errors: {canary.errors:,} of {canary.requests:,} requests of the canary failed, "
            f"{stable.errors:,} of {stable.requests:,} of stable"
        )
    if name == "fallback":
        return f"fallback: stable answered {canary.fallbacks:,} of {canary.requests:,} requests in the canary's place"
    if name == "latency":
        factor = math.exp(canary.latency.mean - stable.latency.mean)
        return f"latency: {factor:.2f} times that of stable, {tolerance.slowdown:g} times is tolerated"
    return f"scores: their distributions differ by {test[0]:.2f}, {tolerance.shift:g} is tolerated"


def _counted(tally: StepTally) -> str:
    return f"{tally.canary.requests:,} requests of the canary and {tally.stable.requests:,} of stable"
