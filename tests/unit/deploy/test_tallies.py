"""Counts of a canary: of all replicas together, also of those that are gone."""

import json

import pytest

from mlsys import errors
from mlsys.deploy import tallies
from mlsys.deploy.first_requests import CANARY, STABLE, Observation
from mlsys.store import Store

EDGES = (0.25, 0.5)


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path)


def answered(replica, step, arm, key, score, latency=float("nan")):
    replica.answered(step, arm, key, lambda: Observation(score, latency))


def counted(store, trial="t1"):
    """Two replicas that counted three requests of the canary and two of stable."""
    first, second = (tallies.of_replica(store, "late", trial) for _ in range(2))
    answered(first, 0, CANARY, 1, 0.1, 2.0)
    answered(first, 0, CANARY, 2, 0.5, 4.0)
    second.failed(0, CANARY, 3, is_fallback=True)
    answered(second, 0, STABLE, 4, 0.9, 1.0)
    second.failed(0, STABLE, 5)
    answered(second, 1, CANARY, 1, 0.9)
    for replica in (first, second):
        replica.close()


def test_the_replicas_are_summed_after_they_are_gone(store):
    counted(store)
    tally = tallies.total(store, "late", "t1", 0, EDGES)
    assert tally.summary == {
        "stable_requests": 2, "stable_errors": 1, "canary_requests": 3, "canary_errors": 1, "fallbacks": 1,
    }  # fmt: skip
    latency = tally.canary.latency
    assert (latency.count, latency.mean, latency.variance) == (2, 3.0, 2.0)
    assert tally.canary.scores == [1, 0, 1]
    assert tally.stable.scores == [0, 0, 1]
    assert (tally.canary.erring_keys, tally.canary.fallback_keys) == (1, 1)
    assert (tally.stable.erring_keys, tally.stable.fallback_keys) == (1, 0)


def test_steps_and_trials_are_counted_apart(store):
    counted(store)
    later = tallies.total(store, "late", "t1", 1, EDGES)
    assert (later.canary.requests, later.canary.latency.count, later.canary.scores) == (1, 0, [0, 0, 1])
    assert tallies.total(store, "late", "t2", 0).canary.requests == 0


def test_of_each_key_the_first_request_is_compared_and_every_one_is_counted(store):
    replicas = [tallies.of_replica(store, "late", "t1") for _ in range(2)]
    for number in range(1_000):
        answered(replicas[number % 2], 0, CANARY, 7, 0.1 if number == 0 else 0.9, 1.0)
        replicas[number % 2].failed(0, CANARY, 8)
    answered(replicas[0], 0, CANARY, 9, 0.3, 1.0)
    for replica in replicas:
        replica.close()
    canary = tallies.total(store, "late", "t1", 0, EDGES).canary
    assert (canary.requests, canary.errors) == (2_001, 1_000)
    assert (canary.latency.count, canary.scores, canary.erring_keys) == (2, [1, 1, 0], 1)


def test_a_pair_counts_for_both_versions_and_its_key_once(store):
    replica = tallies.of_replica(store, "late", "t1")
    for _ in range(3):
        replica.pair(0, 7, Observation(0.1, 1.0), Observation(0.9, 2.0))
    replica.pair(0, 8, Observation(0.1, 1.0), None)
    replica.failed(0, STABLE, 8)
    replica.close()
    tally = tallies.total(store, "late", "t1", 0, EDGES)
    assert (tally.stable.requests, tally.canary.requests) == (5, 4)
    assert (tally.stable.scores, tally.canary.scores) == ([2, 0, 0], [0, 0, 1])
    assert (tally.stable.latency.mean, tally.canary.latency.mean) == (1.0, 2.0)
    assert (tally.stable.erring_keys, tally.canary.erring_keys) == (1, 1)


def test_a_thread_writes_the_files_while_requests_are_counted(store):
    folder = tallies.folder_of(store, "late", "t1")
    replica = tallies.ReplicaTallies(folder, "replica", every_s=0.005)
    for key in range(2_000):
        answered(replica, 0, STABLE, key, 0.5, 1.0)
        tallies.total(store, "late", "t1", 0)
    replica.close()
    assert json.loads((folder / "replica.json").read_text())["steps"]["0"]["stable"]["requests"] == 2_000
    assert tallies.total(store, "late", "t1", 0).stable.latency.count == 2_000


def test_what_cannot_be_written_is_written_later(store, monkeypatch):
    replica = tallies.ReplicaTallies(tallies.folder_of(store, "late", "t1"), "replica", every_s=60)
    answered(replica, 0, STABLE, 1, 0.5, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr("mlsys.deploy.first_requests.RecordFile.write", _full)
        with pytest.raises(OSError, match="no space"):
            replica.write()
    answered(replica, 0, STABLE, 2, 0.5, 1.0)
    replica.close()
    assert tallies.total(store, "late", "t1", 0).stable.latency.count == 2


def _full(*_):
    raise OSError(28, "no space")


def test_a_canary_that_does_not_load_is_noted_at_once(store):
    assert tallies.refusal(store, "late", "t1") is None
    replica = tallies.of_replica(store, "late", "t1")
    replica.refuse("BundleError: damaged")
    assert tallies.refusal(store, "late", "t1") == "BundleError: damaged"
    replica.close()


def test_the_files_of_earlier_trials_are_deleted(store):
    counted(store, "t1")
    counted(store, "t2")
    tallies.forget(store, "late", "t2")
    assert tallies.total(store, "late", "t1", 0).canary.requests == 0
    assert tallies.total(store, "late", "t2", 0).canary.requests == 3


def test_a_damaged_file_is_an_error_of_the_store(store):
    counted(store)
    next(tallies.folder_of(store, "late", "t1").glob("*.json")).write_text("{")
    with pytest.raises(errors.StoreError, match="JSON"):
        tallies.total(store, "late", "t1", 0)
