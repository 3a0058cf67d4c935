"""A canary as good as stable goes back at most at the stated rate over all looks; a worse one goes back soon."""

import math

import numpy as np
import pytest

from judged_canaries import BINS, EVERY, LOOSE, MOST, RUNS, moments
from mlsys.deploy.canary_verdict import OFFSET_MS, Tolerance, judge, log_latency
from mlsys.deploy.tallies import ArmTally, StepTally


def tallied(requests, errors, fallbacks, *more):
    """Counts of a version that met each key once."""
    return ArmTally(requests, errors, fallbacks, *more, erring_keys=errors, fallback_keys=fallbacks)


def taken_back_at(rng, requests, share, tolerance, *, error_rates=(0.02, 0.02), slower=0.0, shift=0.0, failed=0.0):
    """The number of requests after which the canary goes back, or None; looked at every hundredth request."""
    is_canary = rng.random(requests) < share
    is_error = rng.random(requests) < np.where(is_canary, error_rates[1], error_rates[0])
    falls_back = is_canary & (rng.random(requests) < failed)
    latency = rng.normal(1.0, 0.5, requests) + slower * is_canary
    score = np.clip(((rng.beta(2, 3, requests) + shift * is_canary) * BINS).astype(int), 0, BINS - 1)
    for stop in range(EVERY, requests + 1, EVERY):
        arms = []
        for arm in (~is_canary[:stop], is_canary[:stop]):
            values = latency[:stop][arm]
            sums = moments(values)
            counts = np.bincount(score[:stop][arm], minlength=BINS).tolist()
            arms.append(
                tallied(
                    int(arm.sum()), int(is_error[:stop][arm].sum()), int(falls_back[:stop][arm].sum()), sums, counts
                )
            )
        verdict = judge(StepTally(*arms), share, tolerance, is_due=True, min_requests=10**9)
        if verdict.decision == "take back":
            return stop, verdict
        assert verdict.decision == "hold"
    return None


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_canary_as_good_as_stable_goes_back_at_most_at_the_stated_rate_over_all_looks(share):
    rng = np.random.default_rng(1)
    back = [taken_back_at(rng, 4_000, share, LOOSE) for _ in range(RUNS)]
    assert sum(each is not None for each in back) <= MOST


@pytest.mark.parametrize(("share", "requests"), [(0.5, 12_000), (0.25, 16_000)])
def test_a_doubled_error_rate_is_found_within_the_stated_number_of_requests(share, requests):
    rng = np.random.default_rng(2)
    back = [taken_back_at(rng, requests, share, Tolerance(0.01, 3), error_rates=(0.02, 0.04)) for _ in range(20)]
    assert sum(each is not None for each in back) >= 18
    assert all(each[1].words.startswith("errors: ") for each in back if each)


@pytest.mark.parametrize(
    ("worse", "name", "requests"),
    [
        ({"error_rates": (0.0, 1.0)}, "errors", 200),
        ({"failed": 0.05}, "fallback", 500),
        ({"slower": 1.0}, "latency", 1_000),
        ({"shift": 0.6}, "scores", 2_000),
    ],
)
def test_what_is_much_worse_goes_back_soon_and_the_words_say_why(worse, name, requests):
    stop, verdict = taken_back_at(np.random.default_rng(3), requests, 0.5, Tolerance(0.01, 3), **worse)
    assert stop <= requests
    assert name in verdict.words
    evidence, bound = verdict.tests[name]
    assert evidence >= bound


def test_what_is_worse_within_the_tolerance_stays():
    rng = np.random.default_rng(4)
    tolerance = Tolerance(0.01, 3, slowdown=1.5, shift=0.3)
    back = [taken_back_at(rng, 5_000, 0.5, tolerance, slower=0.2, shift=0.1) for _ in range(20)]
    assert back == [None] * 20


def test_a_canary_is_widened_once_its_step_is_over_and_enough_was_seen():
    tally = StepTally(ArmTally(900), ArmTally(100))
    assert judge(tally, 0.1, Tolerance(), is_due=True, min_requests=100).decision == "widen"
    early = judge(tally, 0.1, Tolerance(), is_due=False, min_requests=100)
    assert (early.decision, early.words) == (
        "hold", "its step is not over: 100 requests of the canary and 900 of stable so far",
    )  # fmt: skip
    few = judge(tally, 0.1, Tolerance(), is_due=True, min_requests=101)
    assert (few.decision, few.words[:42]) == ("hold", "101 of its requests are to be judged: 100 ")


def test_alpha_is_divided_among_tests_and_steps():
    assert Tolerance(0.05, steps=2).share == 0.005


def test_no_traffic_is_no_evidence():
    verdict = judge(StepTally(), 0.05, Tolerance(), is_due=True, min_requests=1)
    assert verdict.decision == "hold"
    assert verdict.to_json()["tests"]["errors"] == [1.0, 1 / Tolerance().share]


def test_what_a_request_costs_anyway_is_no_slowdown():
    assert log_latency(0.0003) - log_latency(0.0001) < math.log(1.2)
    assert log_latency(0) == math.log(OFFSET_MS)
