"""Trials of canaries are read from the ledger alone."""

import pytest

from endpoint_files import registered
from mlsys import errors, registry
from mlsys.registry import canaries, ledger
from mlsys.registry.canaries import TrialPlan

PLAN = TrialPlan(percents=(10, 50, 100), every_s=30.0)
COUNTS = {"canary_requests": 120}


@pytest.fixture
def store(tmp_path):
    store = registered(tmp_path, "ab")
    registry.set_alias(store, "late", "champion", 1, "test")
    return store


def started(store, plan=PLAN):
    stable, canary = (registry.resolve(store, "late", version) for version in (1, 2))
    return canaries.start(store, canary, stable, "champion", plan, edges=(0.25, 0.5), reason="test")


def test_what_was_written_is_read_again(store):
    trial = started(store)
    assert canaries.running(store, "late") == trial
    assert (trial.entry.version, trial.stable.version, trial.step, trial.plan, trial.edges) == (
        2, 1, 0, PLAN, (0.25, 0.5),
    )  # fmt: skip
    wider = canaries.widen(store, trial, "no test is against it", COUNTS)
    assert canaries.running(store, "late") == wider
    assert (wider.step, wider.reason, wider.counts, wider.plan.percent(wider.step)) == (
        1, "no test is against it", COUNTS, 50,
    )  # fmt: skip
    ended = canaries.end(store, wider, "taken_back", "errors", COUNTS)
    assert canaries.running(store, "late") is None
    assert canaries.last(store, "late") == ended
    assert ended.to_json()["ended"] == "taken_back"
    assert [move.kind for move in ledger.read(store)][-3:] == ["canary", "widened", "taken_back"]


def test_a_name_has_one_canary_at_a_time(store):
    started(store)
    with pytest.raises(errors.RegistryError) as caught:
        started(store)
    assert str(caught.value) == (
        "registry: canary version 2 of 'late'\n  got:      version 2, which is one already\n"
        "  expected: one canary of a name at a time\n  hint:     `mlsys rollback late` takes it back"
    )
    canaries.end(store, canaries.running(store, "late"), "taken_back", "by hand")
    assert started(store).id != ""


def test_lines_of_canaries_move_no_alias_and_end_no_deployment(store):
    trial = started(store)
    registry.intend(store, trial.stable, "champion", reason="begun")
    canaries.end(store, trial, "taken_back", "errors")
    assert registry.resolve(store, "late", "champion").version == 1
    assert registry.unfinished(store, "late").reason == "begun"


def test_a_shadow_comes_before_the_first_share(store):
    trial = started(store, TrialPlan(percents=(10, 50, 100), shadow=True))
    assert (trial.is_shadow, trial.plan.num_steps, [trial.plan.percent(step) for step in range(4)]) == (
        True, 3, [10, 10, 50, 100],
    )  # fmt: skip
    assert not canaries.widen(store, trial, "fine", {}).is_shadow


def test_what_was_taken_back_is_known_until_an_alias_is_moved_to_it(store):
    trial = started(store)
    assert canaries.taken_back(store, trial.entry) is None
    canaries.end(store, trial, "taken_back", "errors")
    assert canaries.taken_back(store, trial.entry).reason == "errors"
    assert canaries.taken_back(store, trial.stable) is None
    registry.set_alias(store, "late", "champion", 2, "by hand")
    assert canaries.taken_back(store, trial.entry) is None
