"""Sequential tests keep their stated rate of false alarms over all looks together, and notice what they should."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from mlsys.statistics import sequential
from mlsys.statistics.sequential import SampleMoments

ALPHA = 0.1
RUNS = 300
MOST = ALPHA * RUNS + 3 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))
"""Alarms among the runs that a rate of α allows, three standard deviations included."""

EVERY = 20
"""Requests between two looks."""


def arms(rng, requests, share):
    """The arm of each request: true for the second."""
    return rng.random(requests) < share


def first_alarm(evidence, alpha=ALPHA):
    """The number of the first look at which the evidence is enough, or None."""
    for look, e in enumerate(evidence):
        if e >= 1 / alpha:
            return look
    return None


def error_looks(rng, requests, share, rates, drift=0.0):
    """Evidence at each look while both rates drift together."""
    second = arms(rng, requests, share)
    sway = 1 + drift * np.sin(np.arange(requests) / 200)
    is_error = rng.random(requests) < np.where(second, rates[1], rates[0]) * sway
    of_second, of_both = np.cumsum(is_error & second), np.cumsum(is_error)
    for look in range(EVERY - 1, requests, EVERY):
        yield sequential.error_evidence(int(of_second[look]), int(of_both[look]), share)


def mean_looks(rng, requests, share, draw, **how):
    """Evidence at each look at values that `draw` makes of the arm of each request."""
    second = arms(rng, requests, share)
    values = draw(rng, second)
    sums = [[np.cumsum(np.where(arm, values**power, 0)) for power in (0, 1, 2)] for arm in (~second, second)]
    for look in range(EVERY - 1, requests, EVERY):
        of_first, of_second = (SampleMoments(int(n[look]), t[look], s[look]) for n, t, s in sums)
        yield sequential.mean_evidence(of_first, of_second, **how)


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("drift", [0.0, 0.9])
def test_equal_error_rates_alarm_at_most_at_the_stated_rate_over_all_looks(share, drift):
    rng = np.random.default_rng(1)
    alarms = [first_alarm(error_looks(rng, 4_000, share, (0.05, 0.05), drift)) for _ in range(RUNS)]
    assert sum(alarm is not None for alarm in alarms) <= MOST


def test_a_canary_that_errs_less_is_no_alarm():
    rng = np.random.default_rng(2)
    alarms = [first_alarm(error_looks(rng, 4_000, 0.25, (0.08, 0.02))) for _ in range(100)]
    assert sum(alarm is not None for alarm in alarms) <= 1


def test_looking_again_and_again_at_a_test_of_one_look_breaks_its_rate():
    rng = np.random.default_rng(3)
    broken = 0
    for _ in range(RUNS):
        second = arms(rng, 4_000, 0.5)
        is_error = rng.random(4_000) < 0.05
        of_second, of_both = np.cumsum(is_error & second), np.cumsum(is_error)
        looks = np.arange(199, 4_000, EVERY)
        broken += bool((stats.binom.sf(of_second[looks] - 1, of_both[looks], 0.5) <= ALPHA).any())
    assert broken > MOST


@pytest.mark.parametrize(("share", "requests"), [(0.5, 3_000), (0.25, 5_000), (0.05, 24_000)])
def test_a_doubled_error_rate_is_noticed_within_the_stated_number_of_requests(share, requests):
    rng = np.random.default_rng(4)
    alarms = [first_alarm(error_looks(rng, requests, share, (0.05, 0.10)), 0.01) for _ in range(50)]
    assert sum(alarm is not None for alarm in alarms) >= 45


def test_a_model_that_always_raises_is_noticed_within_ten_of_its_requests():
    assert sequential.error_evidence(6, 6, 0.05) >= 1 / 0.0025
    assert sequential.error_evidence(10, 10, 0.25) >= 1 / 0.0025


def test_the_evidence_of_errors_is_the_integral_of_the_cut_mixture():
    k, n, share = 9, 14, 0.4
    b = max(1.0, 1 / (2 * share))
    cut = stats.beta(1, b).sf(share)

    def ratio(p):
        return stats.beta(1, b).pdf(p) / cut * (p / share) ** k * ((1 - p) / (1 - share)) ** (n - k)

    assert sequential.error_evidence(k, n, share) == pytest.approx(integrate.quad(ratio, share, 1)[0], rel=1e-9)


def lognormal(rng, second):
    """Latencies of one distribution, with a heavy tail."""
    return rng.normal(-6, 0.8, len(second)) + rng.exponential(0.5, len(second))


def skewed(rng, second):
    """Scores of a rare class, of one distribution."""
    return rng.beta(0.3, 6, len(second))


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize(("draw", "scale"), [(lognormal, 0.3), (skewed, 0.02)])
@pytest.mark.parametrize("two_sided", [True, False])
def test_equal_means_alarm_at_most_at_the_stated_rate_over_all_looks(share, draw, scale, two_sided):
    rng = np.random.default_rng(5)
    alarms = [first_alarm(mean_looks(rng, 6_000, share, draw, scale=scale, two_sided=two_sided)) for _ in range(RUNS)]
    assert sum(alarm is not None for alarm in alarms) <= MOST


def test_a_difference_within_the_margin_alarms_at_most_at_the_stated_rate():
    def at_the_margin(rng, second):
        return rng.normal(0, 1, len(second)) + 0.25 * second

    rng = np.random.default_rng(6)
    how = {"scale": 0.2, "margin": 0.25}
    alarms = [first_alarm(mean_looks(rng, 4_000, 0.5, at_the_margin, **how)) for _ in range(RUNS)]
    assert sum(alarm is not None for alarm in alarms) <= MOST


def test_a_model_that_takes_twice_as_long_is_noticed_within_two_thousand_requests():
    def slower(rng, second):
        return lognormal(rng, second) + math.log(2) * second

    rng = np.random.default_rng(7)
    how = {"scale": 0.3, "margin": math.log(1.25), "two_sided": False}
    alarms = [first_alarm(mean_looks(rng, 2_000, 0.25, slower, **how), 0.01) for _ in range(50)]
    assert sum(alarm is not None for alarm in alarms) >= 45


def test_a_faster_model_is_no_alarm_where_only_slower_counts():
    slow, fast = SampleMoments(1_000, 0.0, 1_000.0), SampleMoments(1_000, -900.0, 1_810.0)
    assert sequential.mean_evidence(slow, fast, 0.3, two_sided=False) < 1
    assert sequential.mean_evidence(slow, fast, 0.3) > 1e6


def test_few_values_are_no_evidence_and_constants_are_certain():
    few = SampleMoments(sequential.FEWEST - 1, 99.0, 99.0)
    assert sequential.mean_evidence(few, SampleMoments(1_000, 0.0, 0.0), 0.3) == 1.0
    ones, zeros = SampleMoments(200, 200.0, 200.0), SampleMoments(200, 0.0, 0.0)
    assert sequential.mean_evidence(zeros, ones, 0.3) == math.inf
    assert sequential.mean_evidence(zeros, ones, 0.3, margin=1.0) == 1.0
    assert sequential.mean_evidence(ones, zeros, 0.3, two_sided=False) == 1.0


def test_an_empirical_distribution_leaves_its_radius_at_most_at_the_stated_rate_over_all_looks():
    rng, count, outside = np.random.default_rng(8), 1_000, 0
    edges = np.linspace(0, 1, 65)[1:]
    for _ in range(RUNS):
        codes = rng.integers(0, 64, count)
        seen = np.cumsum(codes[:, None] <= np.arange(64), axis=0) / np.arange(1, count + 1)[:, None]
        distance = np.abs(seen - edges).max(axis=1)
        radii = np.array([sequential.distribution_radius(n, ALPHA) for n in range(1, count + 1)])
        outside += bool((distance > radii).any())
    assert outside <= MOST


def test_shifted_scores_are_noticed_within_the_stated_number_of_requests():
    rng, share, alpha, margin = np.random.default_rng(9), 0.25, 0.01, 0.1
    second = arms(rng, 6_000, share)
    codes = np.clip((rng.beta(2, 5, 6_000) + 0.15 * second) * 64, 0, 63).astype(int)
    counts = [np.bincount(codes[arm], minlength=64) for arm in (~second, second)]
    distance = sequential.distribution_distance(*counts)
    assert distance > margin + sum(sequential.distribution_radius(int(c.sum()), alpha / 2) for c in counts)


def test_the_radius_falls_with_more_values_and_less_certainty():
    assert sequential.distribution_radius(10_000, 0.05) < sequential.distribution_radius(1_000, 0.05)
    assert sequential.distribution_radius(1_000, 0.1) < sequential.distribution_radius(1_000, 0.01)
