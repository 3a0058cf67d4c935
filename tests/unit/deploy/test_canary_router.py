"""Two versions in a replica: a key stays with one of them, and stable answers what the canary fails."""

import math
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.exceptions import PanicException
from scipy import stats
from xgboost.core import XGBoostError

from bundles import fit, requests, rows
from mlsys import errors
from mlsys.deploy import first_requests, tallies
from mlsys.deploy.canary_router import BASIS_POINTS, CanaryRouter, CanarySlot, TrafficSplit, key_of
from mlsys.deploy.requests import Request
from mlsys.deploy.service import FEW_ROWS, Service, load
from mlsys.registry import LedgerEntry
from mlsys.store import Store

EDGES = (0.2, 0.4, 0.6, 0.8)
PATHS = ("conformed_rows", "conformed_table")
"""The ways of few rows and of many."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def entries(store):
    return [LedgerEntry("late", number, fit(store, seed=number).digest) for number in (1, 2)]


@pytest.fixture(scope="module")
def models(store, entries):
    return [load(store, entry) for entry in entries]


@pytest.fixture
def service(models):
    service = Service("late", None)
    service.model = models[0]
    return service


def routed(store, service, canary, weight=BASIS_POINTS, **more):
    """A router of a new trial, and its tallies."""
    split = TrafficSplit(f"t{time.monotonic_ns()}", 0, weight, **more)
    counts = tallies.of_replica(store, "late", split.trial, 2)
    return CanaryRouter(service, canary, split, counts), counts


def asked(number=0, **more):
    return Request(records=requests(rows(1, seed=number)), **more)


def total(store, router, counts):
    counts.close()
    return tallies.total(store, "late", router.split.trial, 0, EDGES)


def failing(monkeypatch, model, error):
    """The model raises an error for every request."""

    def fail(*_):
        raise error

    for name in PATHS:
        monkeypatch.setattr(model.predictor, name, fail)


@given(st.text(min_size=1), st.integers(0, BASIS_POINTS), st.integers(0, BASIS_POINTS))
def test_a_key_stays_with_the_canary_when_it_is_widened(key, first, second):
    small, large = sorted((first, second))
    narrow, wide = (TrafficSplit("t1", step, weight) for step, weight in ((0, small), (1, large)))
    hashed = narrow.hash_of(key)
    assert hashed == wide.hash_of(key) < 2**64
    assert not narrow.takes(hashed) or wide.takes(hashed)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, BASIS_POINTS - 1))
def test_the_share_of_the_canary_is_its_weight_within_binomial_bounds(salt, weight):
    split, num_keys = TrafficSplit(f"t{salt}", 0, weight), 2_000
    drawn = sum(split.takes(split.hash_of(f"key-{number}")) for number in range(num_keys))
    low, high = stats.binom.ppf([1e-7, 1 - 1e-7], num_keys, weight / BASIS_POINTS)
    assert low <= drawn <= high


def test_buckets_are_uniform_and_independent_of_the_salt():
    splits = [TrafficSplit(salt, 0, 1) for salt in ("a", "b")]
    buckets = np.array([[split.hash_of(str(key)) % BASIS_POINTS for key in range(5_000)] for split in splits])
    assert stats.chisquare(np.histogram(buckets[0], 20, (0, BASIS_POINTS))[0]).pvalue > 1e-4
    assert abs(np.corrcoef(buckets)[0, 1]) < 4 / math.sqrt(5_000)


@pytest.mark.parametrize(
    ("request_", "column", "id_column", "key"),
    [
        (Request(records=[{"id": 7, "who": "ann"}, {"id": 8}]), None, "id", "7"),
        (Request(records=[{"id": 7, "who": "ann"}], ids=["a-1"]), None, "id", "a-1"),
        (Request(records=[{"id": 7, "who": "ann"}], ids=["a-1"]), "who", "id", "ann"),
        (Request(columns={"id": [9, 10]}), None, "id", "9"),
        (Request(columns={"id": pa.chunked_array([[9, 10]])}), None, "id", "9"),
        (Request(columns={"id": pa.array([None], pa.int64())}, id="r-1"), None, "id", "r-1"),
        (Request(columns={"id": np.array([9.0, 10.0])}), None, "id", "9"),
        (Request(columns={"id": [9.5]}), None, "id", "9.5"),
        (Request(records=[{"x": 1}], id="r-1"), "who", None, "r-1"),
    ],
)  # fmt: skip
def test_the_key_is_the_column_the_id_of_the_first_row_or_that_of_the_request(request_, column, id_column, key):
    assert key_of(request_, column, id_column) == key


def test_a_request_without_an_id_is_drawn_anew():
    assert len({key_of(Request(records=[{"x": 1}]), None, None) for _ in range(20)}) == 20


def test_both_versions_answer_with_their_own_numbers_and_are_counted(store, service, models):
    router, counts = routed(store, service, models[1], BASIS_POINTS // 2)
    answers = [router.answer(models[0], asked(number)) for number in range(60)]
    for number, answer in enumerate(answers):
        alone = models[answer.model.entry.version - 1].predictor.rows(asked(number).records)
        assert answer.predictions.score.tolist() == alone.score.tolist()
        assert router.answer(models[0], asked(number)).model is answer.model
    of_canary = sum(answer.model is models[1] for answer in answers)
    assert 10 < of_canary < 50
    tally = total(store, router, counts)
    assert (tally.canary.requests, tally.stable.requests) == (2 * of_canary, 2 * (60 - of_canary))
    assert sum(tally.canary.scores) == tally.canary.latency.count == of_canary
    assert tally.canary.errors == tally.stable.errors == 0


FAULTS = [
    RuntimeError("boom"),
    MemoryError(),
    RecursionError(),
    SystemExit(1),
    XGBoostError("[10:00:00] learner.cc:1: check failed"),
    PanicException("a panic of Polars"),
    errors.RequestError("refused"),
]
"""What a model may raise; the one of Polars is no `Exception`."""

FEW_AND_MANY = pytest.mark.parametrize("num_rows", [1, FEW_ROWS + 1])


@FEW_AND_MANY
@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_what_the_canary_fails_stable_answers_in_the_same_request(store, service, models, monkeypatch, error, num_rows):
    failing(monkeypatch, models[1], error)
    router, counts = routed(store, service, models[1])
    sent = Request(records=requests(rows(num_rows, seed=1)))
    answer = router.answer(models[0], sent)
    assert answer.model is models[0]
    assert answer.predictions.score.tolist() == models[0].predictor.rows(sent.records).score.tolist()
    tally = total(store, router, counts)
    assert (tally.canary.requests, tally.canary.errors, tally.canary.fallbacks) == (1, 1, 1)
    assert tally.stable.requests == 0


@FEW_AND_MANY
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_a_failure_of_the_canary(store, service, models, monkeypatch, number, num_rows):
    predictor = models[1].predictor

    def broken(predict):
        def predicted(rows):
            predictions = predict(rows)
            predictions.probabilities[-1] = number
            return predictions

        return predicted

    for name in PATHS:
        monkeypatch.setattr(predictor, name, broken(getattr(predictor, name)))
    router, counts = routed(store, service, models[1])
    assert router.answer(models[0], Request(records=requests(rows(num_rows, seed=1)))).model is models[0]
    assert total(store, router, counts).canary.fallbacks == 1


def test_an_explanation_that_is_no_number_is_a_failure_of_the_canary(store, service, models, monkeypatch):
    explain = models[1].predictor.explain

    def broken(rows, predictions):
        explained = explain(rows, predictions)
        explained.contributions[0, 0] = np.nan
        return explained

    monkeypatch.setattr(models[1].predictor, "explain", broken)
    router, counts = routed(store, service, models[1])
    assert router.answer(models[0], asked(1, explain=3)).model is models[0]
    assert router.answer(models[0], asked(1)).model is models[1]
    assert total(store, router, counts).canary.fallbacks == 1


def test_ctrl_c_is_no_fault_of_the_canary(store, service, models, monkeypatch):
    failing(monkeypatch, models[1], KeyboardInterrupt())
    router, counts = routed(store, service, models[1])
    with pytest.raises(KeyboardInterrupt):
        router.answer(models[0], asked(1))
    assert total(store, router, counts).canary.errors == 0


def test_a_fault_of_the_client_counts_for_no_version(store, service, models):
    router, counts = routed(store, service, models[1])
    with pytest.raises(errors.RequestError):
        router.answer(models[0], Request(records=[{"seats": "many"}]))
    assert total(store, router, counts).canary.requests == 0


def test_what_both_versions_fail_is_an_error_and_no_fallback(store, service, models, monkeypatch):
    for model in models:
        failing(monkeypatch, model, errors.StoreError("no look-up"))
    router, counts = routed(store, service, models[1])
    with pytest.raises(errors.StoreError):
        router.answer(models[0], asked(1))
    tally = total(store, router, counts)
    assert (tally.canary.errors, tally.canary.fallbacks) == (1, 0)


def test_a_failure_of_stable_is_counted_and_raised(store, service, models, monkeypatch):
    failing(monkeypatch, models[0], RuntimeError("boom"))
    router, counts = routed(store, service, models[1], weight=0)
    with pytest.raises(RuntimeError):
        router.answer(models[0], asked(1))
    assert total(store, router, counts).stable.errors == 1


def test_a_request_of_many_rows_is_one_observation_the_mean_of_its_scores(store, service, models):
    router, counts = routed(store, service, models[1])
    answer = router.answer(models[0], Request(records=requests(rows(50, seed=3)), ids=["a-1", *[None] * 49]))
    counts.close()
    (record,) = first_requests.read(tallies.folder_of(store, "late", router.split.trial), 0)
    assert record["score"] == pytest.approx(answer.predictions.score.mean())
    assert record["outputs"].tolist() == answer.predictions.probabilities[0].tolist()
    assert record["row"] == first_requests.hash_of("a-1")
    assert record["entity"] == first_requests.hash_of("F3-0")
    assert total(store, router, counts).canary.requests == 1


def test_requests_of_one_key_are_one_observation_of_one_version(store, service, models):
    router, counts = routed(store, service, models[1], BASIS_POINTS // 2, key="carrier")
    answers = [router.answer(models[0], Request(records=[{**asked(n).records[0], "carrier": "AA"}])) for n in range(30)]
    assert len({answer.model.entry for answer in answers}) == 1
    tally = total(store, router, counts)
    assert tally.stable.requests + tally.canary.requests == 30
    assert sum(tally.stable.scores) + sum(tally.canary.scores) == 1


def test_a_shadow_that_takes_longer_is_told_by_the_time_of_its_own_thread(store, service, models, monkeypatch):
    predict = models[1].predictor.conformed_rows

    def slow(records):
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass
        return predict(records)

    monkeypatch.setattr(models[1].predictor, "conformed_rows", slow)
    router, counts = routed(store, service, models[1], is_shadow=True)
    for number in range(20):
        router.answer(models[0], asked(number))
    while router._shadow._waiting:
        time.sleep(0.01)
    router.close()
    time.sleep(0.1)
    tally = total(store, router, counts)
    assert tally.canary.latency.mean >= math.log(11) > tally.stable.latency.mean


def test_what_stable_fails_beside_a_shadow_counts_for_stable(store, service, models, monkeypatch):
    failing(monkeypatch, models[0], RuntimeError("boom"))
    router, counts = routed(store, service, models[1], is_shadow=True)
    with pytest.raises(RuntimeError):
        router.answer(models[0], asked(1))
    router.close()
    assert total(store, router, counts).stable.erring_keys == 1


def test_a_shadow_answers_nothing_and_meets_the_same_requests_as_stable(store, service, models):
    router, counts = routed(store, service, models[1], is_shadow=True)
    answers = [router.answer(models[0], asked(number)) for number in range(40)]
    assert {answer.model.entry.version for answer in answers} == {1}
    end = time.monotonic() + 20
    while time.monotonic() < end:
        counts.write()
        if tallies.total(store, "late", router.split.trial, 0).stable.requests == 40:
            break
        time.sleep(0.01)
    router.close()
    tally = total(store, router, counts)
    assert tally.stable.requests == tally.canary.requests == 40
    assert sum(tally.canary.scores) == tally.canary.latency.count == tally.stable.latency.count == 40


def test_a_shadow_that_is_behind_takes_no_more_than_it_may(store, service, models, monkeypatch):
    monkeypatch.setattr("mlsys.deploy.canary_router.WAITING", 5)
    router, counts = routed(store, service, models[1], is_shadow=True)
    router.close()
    for number in range(20):
        router.answer(models[0], asked(number))
    assert len(router._shadow._waiting) <= 5
    counts.close()


def test_without_a_canary_the_service_answers_by_itself(store, service, entries):
    assert service.respond == service.answer
    slot = CanarySlot(store, service)
    slot.fill(entries[1], TrafficSplit("t1", 0, BASIS_POINTS))
    assert service.respond(service.model, asked(1)).model.entry == entries[1]
    assert service.stats()["canary"]["percent"] == 100
    again = slot.model(entries[1])
    slot.fill(entries[1], TrafficSplit("t1", 1, 2_500))
    assert slot.model(entries[1]) is again
    slot.clear()
    assert service.respond == service.answer
    assert service.stats()["canary"] is None
    assert tallies.total(store, "late", "t1", 0).canary.requests == 1


def test_a_canary_that_does_not_load_gets_no_request_and_says_so(store, service, entries):
    slot = CanarySlot(store, service)
    slot.fill(LedgerEntry("late", 3, "0" * 64), TrafficSplit("t2", 0, BASIS_POINTS))
    assert service.respond(service.model, asked(1)).model.entry == entries[0]
    assert service.stats()["canary"]["error"] == "StoreError"
    assert tallies.refusal(store, "late", "t2").startswith("a replica cannot load it: StoreError: store: bundle")
    slot.clear()
