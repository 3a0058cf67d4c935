"""Neither heavy keys nor labels take a canary back that is as good as stable; labels find a worse one soon."""

import numpy as np
import pytest

from judged_canaries import ALPHA, BINS, EVERY, LOOSE, MOST, RUNS, moments
from mlsys.deploy.canary_labels import LossTally
from mlsys.deploy.canary_verdict import Tolerance, judge, label_evidence
from mlsys.deploy.tallies import ArmTally, StepTally


def first_of_each(keys, among):
    """True for the first place of each key among the given places."""
    places = np.flatnonzero(among)
    is_first = np.zeros(len(keys), bool)
    is_first[places[np.unique(keys[places], return_index=True)[1]]] = True
    return is_first


def keyed_looks(rng, requests, num_keys, *, is_first_only):
    """Looks at equal versions under traffic of which few keys make most, and whose requests are alike.

    The heaviest key sends a tenth of it, or more. Each key has its own latency, score and rate of errors, and one
    version.
    """
    shares = 1 / np.arange(1, num_keys + 1) ** 1.1
    key = rng.choice(num_keys, requests, p=shares / shares.sum())
    is_canary = (rng.random(num_keys) < 0.25)[key]
    latency = rng.normal(1, 0.8, num_keys)[key] + rng.normal(0, 0.1, requests)
    score = np.clip((rng.random(num_keys)[key] + rng.normal(0, 0.02, requests)) * BINS, 0, BINS - 1).astype(int)
    is_error = rng.random(requests) < rng.beta(0.1, 1.9, num_keys)[key]
    counts, counts_as_error = np.ones(requests, bool), is_error
    if is_first_only:
        counts, counts_as_error = first_of_each(key, counts), first_of_each(key, is_error)
    for stop in range(EVERY, requests + 1, EVERY):
        arms = []
        for arm in (~is_canary[:stop], is_canary[:stop]):
            seen = arm & counts[:stop]
            scores = np.bincount(score[:stop][seen], minlength=BINS).tolist()
            erring = int((counts_as_error[:stop] & arm).sum())
            arms.append(ArmTally(int(arm.sum()), erring, 0, moments(latency[:stop][seen]), scores, erring))
        yield judge(StepTally(*arms), 0.25, LOOSE, is_due=True, min_requests=10**9)


def is_taken_back(looks):
    return any(verdict.decision == "take back" for verdict in looks)


@pytest.mark.parametrize("num_keys", [400, 4_000])
def test_keys_that_send_much_break_no_rate(num_keys):
    rng = np.random.default_rng(5)
    back = sum(is_taken_back(keyed_looks(rng, 4_000, num_keys, is_first_only=True)) for _ in range(RUNS))
    assert back <= MOST


def test_keys_that_send_much_would_break_the_rate_if_each_request_counted():
    rng = np.random.default_rng(6)
    back = sum(is_taken_back(keyed_looks(rng, 4_000, 400, is_first_only=False)) for _ in range(50))
    assert back > 25


def test_keys_that_fall_back_now_and_then_break_no_rate():
    rng, back = np.random.default_rng(10), 0
    for _ in range(RUNS):
        key = rng.integers(0, 300, 20_000)
        falls_back = rng.random(20_000) < np.where(rng.random(300) < 0.02, 0.05, 0.0)[key]  # 0.1 % on average
        is_first = first_of_each(key, falls_back)
        tallies = (
            ArmTally(stop, 0, 0, erring_keys=0, fallback_keys=int(is_first[:stop].sum()))
            for stop in range(1_000, 20_001, 1_000)
        )
        looks = (judge(StepTally(ArmTally(), each), 0.5, LOOSE, is_due=False, min_requests=1) for each in tallies)
        back += is_taken_back(looks)
    assert back <= MOST


def losses(rng, rows, kind, worse):
    """Brier losses of stable, which knows the probabilities, and of a canary that leaves out some of what is known."""
    truth = rng.beta(0.3, 6, rows) if kind == "rare" else rng.beta(1.2, 1.8, rows)
    label = rng.random(rows) < truth
    said = (1 - worse) * truth + worse * truth.mean()
    return (truth - label) ** 2, (said - label) ** 2


def labels_until(rng, rows, share, kind, worse, bound, *, is_paired=False):
    """The number of labels after which the losses say that the canary is worse, or None."""
    of_stable, of_canary = losses(rng, rows, kind, worse)
    is_canary = rng.random(rows) < share
    for stop in range(EVERY, rows + 1, EVERY):
        arm = is_canary[:stop]
        tally = LossTally(moments(of_stable[:stop][~arm]), moments(of_canary[:stop][arm]))
        if is_paired:
            tally = LossTally(pairs=moments(of_canary[:stop] - of_stable[:stop]))
        if label_evidence({0: tally}, 1) >= bound:
            return stop
    return None


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("kind", ["rare", "even"])
def test_labels_take_an_equal_canary_back_at_most_at_the_stated_rate_over_all_looks(share, kind):
    rng = np.random.default_rng(7)
    back = [labels_until(rng, 6_000, share, kind, 0.0, 1 / ALPHA) for _ in range(RUNS)]
    assert sum(each is not None for each in back) <= MOST


def test_pairs_of_versions_that_are_as_good_on_average_break_no_rate():
    rng, back = np.random.default_rng(8), 0
    for _ in range(RUNS):
        differences = rng.choice([-0.4, 0.0, 0.1], 4_000, p=[0.05, 0.75, 0.2])
        tallies = (LossTally(pairs=moments(differences[:stop])) for stop in range(EVERY, 4_001, EVERY))
        back += any(label_evidence({0: tally}, 1) >= 1 / ALPHA for tally in tallies)
    assert back <= MOST


@pytest.mark.parametrize(
    ("share", "worse", "labels", "is_paired"),
    [(0.5, 1.0, 1_500, False), (0.25, 1.0, 2_000, False), (0.5, 0.5, 16_000, False), (0.5, 0.5, 2_000, True)],
)
def test_a_worse_canary_is_found_within_the_stated_number_of_labels(share, worse, labels, is_paired):
    rng = np.random.default_rng(9)
    found = [labels_until(rng, labels, share, "even", worse, 5 / 0.01, is_paired=is_paired) for _ in range(20)]
    assert sum(each is not None for each in found) >= 18


def test_the_evidence_of_labels_is_the_mean_over_all_steps():
    better, worse = np.tile([0.1, 0.2], 100), np.tile([0.4, 0.5], 100)
    tally = LossTally(moments(better), moments(worse))
    alone = label_evidence({2: tally}, 1)
    assert alone > 1e6
    assert label_evidence({2: tally}, 4) == pytest.approx((alone + 3) / 4)
    assert label_evidence({0: tally, 2: tally}, 2) == pytest.approx(alone)


def test_a_canary_that_loses_more_goes_back_and_the_words_say_on_how_many_labels():
    of_step = {1: LossTally(moments(np.tile([0.1, 0.2], 200)), moments(np.tile([0.4, 0.5], 100)))}
    verdict = judge(StepTally(), 0.5, Tolerance(0.01, 3), is_due=False, min_requests=1, losses=of_step)
    assert (verdict.decision, verdict.words) == (
        "take back",
        "labels: the mean loss is 0.450 on 200 rows of the canary with labels, 0.150 on 400 of stable",
    )
    assert verdict.tests["labels"][1] == 500
