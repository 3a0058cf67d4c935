"""The judge does what ledger, tallies and endpoint ask for, however often it is killed."""

import datetime as dt

import polars as pl
import pytest

from endpoint_files import EndpointFiles, registered
from mlsys import errors, registry
from mlsys.deploy import canary_judge, canary_labels, canary_rollout, label_files, rollout, tallies
from mlsys.deploy.canary_judge import look_and_act
from mlsys.deploy.canary_labels import LabelReader
from mlsys.deploy.first_requests import CANARY, STABLE, Observation, hash_of
from mlsys.registry import canaries, ledger
from mlsys.registry.canaries import TrialPlan

PLAN = TrialPlan(percents=(10, 50, 100), every_s=60.0, min_requests=20)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Version 1 of `late` is champion and served; bundles need not load, and MLflow is not told."""
    for module in (rollout, canary_rollout):
        monkeypatch.setattr(module, "rehearse", lambda *_: None)
    monkeypatch.setattr(canary_judge.mlflow_mirror, "mirror", lambda *_: None)
    store = registered(tmp_path / "store", "abc")
    rollout.put(store, entry(store, 1), "champion", there(store), reason="test")
    return store


def there(store, broken=()):
    return EndpointFiles(store.root / "endpoints", broken)


def entry(store, version):
    return registry.resolve(store, "late", version)


def begun(store, version=2, plan=PLAN, **more):
    endpoints = more.pop("endpoints", None) or there(store)
    return canary_rollout.begin(store, entry(store, version), "champion", endpoints, plan, reason="test", **more)


def look(store, after_s=0.0, endpoints=None):
    """What the judge does some seconds after the present step began."""
    trial = canaries.running(store, "late")
    now = None if trial is None else trial.since + dt.timedelta(seconds=after_s)
    return look_and_act(store, "late", endpoints or there(store), lambda: now or dt.datetime.now(dt.UTC)).act


def count(store, requests, errors_of_canary=0):
    """As many requests of both versions in the present step."""
    trial = canaries.running(store, "late")
    counts = tallies.of_replica(store, "late", trial.id)
    for key in range(requests):
        counts.answered(trial.step, STABLE, key, lambda: Observation(0.4, 1.0))
        counts.answered(trial.step, CANARY, requests + key, lambda: Observation(0.4, 1.0))
    for key in range(errors_of_canary):
        counts.failed(trial.step, CANARY, key, is_fallback=True)
    counts.close()


def routed(store):
    canary = there(store).configured("late").canary
    return None if canary is None else (canary["version"], canary["step"], canary["weight"])


def kinds(store):
    return [move.kind for move in ledger.read(store) if move.kind not in ("register", "deploying", "settings")]


def test_a_canary_begins_with_its_first_share_and_the_alias_stays(store):
    change = begun(store)
    assert routed(store) == (2, 0, 1_000)
    assert registry.resolve(store, "late").version == 1
    assert (change.before.version, change.trial.entry.version, change.is_new) == (1, 2, True)
    again = begun(store)
    assert not again.is_new
    assert again.endpoint == there(store).endpoint("late")


def test_a_good_canary_is_widened_step_by_step_and_promoted(store):
    begun(store)
    assert look(store, 61) == "nothing"
    count(store, 20)
    assert look(store, 59) == "nothing"
    assert look(store, 61) == "widen"
    assert routed(store) == (2, 1, 5_000)
    assert look(store, 61) == "nothing"
    count(store, 30)
    assert look(store, 61) == "promote"
    assert registry.resolve(store, "late").version == 2
    configured = there(store).configured("late")
    assert (configured.version, configured.canary) == (2, None)
    assert kinds(store) == ["move", "canary", "widened", "move", "promoted"]
    ended = canaries.last(store, "late")
    assert (ended.ended, ended.counts["canary_requests"]) == ("promoted", 30)
    assert look(store) == "nothing"


def test_a_bad_canary_is_taken_back_at_once_and_the_ledger_says_why(store):
    begun(store)
    count(store, 10, errors_of_canary=10)
    assert look(store, 1) == "take back"
    assert routed(store) is None
    assert registry.resolve(store, "late").version == 1
    last = ledger.read(store)[-1]
    assert last.kind == "taken_back"
    assert last.reason.startswith("errors: 10 of 20 requests of the canary failed, 0 of 10 of stable")
    assert last.facts["counts"]["fallbacks"] == 10


def test_labels_that_cannot_be_judged_hold_the_other_tests_up_in_nothing(store, monkeypatch):
    monkeypatch.setattr(canary_labels, "SETTLE_S", -60)
    trial = begun(store).trial
    count(store, 10, errors_of_canary=10)
    counts = tallies.of_replica(store, "late", trial.id, 1)
    counts.answered(0, STABLE, 99, lambda: Observation(0.4, 1.0, hash_of("a")))
    counts.close()
    label = {"key_name": "prediction_id", "key": "a", "label": "true", "received_at": dt.datetime.now(dt.UTC)}
    label_files.append(store, "late", pl.DataFrame([label], schema=label_files.TYPES))
    with pytest.raises(errors.StoreError, match="bundle"):
        LabelReader(store, "late").losses(trial)
    assert look(store) == "take back"
    assert ledger.read(store)[-1].facts["counts"]["stable_labels"] == 1


def test_a_replica_that_cannot_load_the_canary_ends_it(store):
    trial = begun(store).trial
    counts = tallies.of_replica(store, "late", trial.id)
    counts.refuse("a replica cannot load it: BundleError: damaged")
    counts.close()
    assert look(store) == "take back"
    assert ledger.read(store)[-1].reason == "a replica cannot load it: BundleError: damaged"


@pytest.mark.parametrize("at", ["route", "end"])
def test_a_judge_that_is_killed_while_it_takes_back_is_followed_by_one_that_ends_it(store, monkeypatch, at):
    begun(store)
    count(store, 10, errors_of_canary=10)
    dying = there(store)
    with monkeypatch.context() as patch:
        if at == "route":
            patch.setattr(dying, "route", _die)
        else:
            patch.setattr(rollout, "end_trial", _die)
        with pytest.raises(KeyboardInterrupt):
            look(store, endpoints=dying)
    while look(store) != "take back":
        assert canaries.running(store, "late") is not None
    assert (routed(store), canaries.last(store, "late").ended) == (None, "taken_back")


def _die(*_):
    raise KeyboardInterrupt


def test_a_judge_that_is_killed_while_it_widens_is_followed_by_one_that_tells_the_endpoint(store, monkeypatch):
    begun(store)
    count(store, 20)
    dying = there(store)
    monkeypatch.setattr(dying, "route", _die)
    with pytest.raises(KeyboardInterrupt):
        look(store, 61, endpoints=dying)
    assert routed(store) == (2, 0, 1_000)
    assert look(store) == "route"
    assert routed(store) == (2, 1, 5_000)
    assert kinds(store)[-1] == "widened"


def test_a_judge_that_is_killed_after_the_move_is_followed_by_one_that_ends_the_trial(store, monkeypatch):
    begun(store, plan=TrialPlan(percents=(50, 100), every_s=1.0, min_requests=1))
    count(store, 5)
    with monkeypatch.context() as patch:
        patch.setattr(rollout, "end_trial", _die)
        with pytest.raises(KeyboardInterrupt):
            look(store, 2)
    assert registry.resolve(store, "late").version == 2
    assert look(store) == "promote"
    assert (canaries.last(store, "late").ended, there(store).configured("late").version) == ("promoted", 2)


def test_a_canary_that_cannot_be_promoted_is_taken_back_and_stable_serves(store):
    begun(store, plan=TrialPlan(percents=(50, 100), every_s=1.0, min_requests=1))
    count(store, 5)
    assert look(store, 2, endpoints=there(store, broken=["b" * 64])) == "promote"
    ended = canaries.last(store, "late")
    assert ended.ended == "taken_back"
    assert ended.reason.startswith("it cannot be promoted: deploy: endpoint")
    assert (registry.resolve(store, "late").version, there(store).configured("late").version) == (1, 1)


def test_a_rollback_takes_the_canary_back_and_leaves_the_alias(store):
    begun(store)
    change = rollout.rollback(store, "late", "champion", there(store), reason="by hand")
    assert (change.entry.version, change.trial.ended, routed(store)) == (1, "taken_back", None)
    assert registry.resolve(store, "late").version == 1
    assert look(store) == "nothing"


@pytest.mark.parametrize(("version", "ending"), [(2, "promoted"), (3, "taken_back")])
def test_a_deployment_at_once_ends_the_canary(store, version, ending):
    begun(store)
    rollout.put(store, entry(store, version), "champion", there(store), reason="now")
    assert canaries.last(store, "late").ended == ending
    assert (there(store).configured("late").version, routed(store)) == (version, None)


def test_an_endpoint_that_ends_takes_its_canary_along(store):
    begun(store)
    rollout.undeploy(store, "late", there(store), reason="night")
    assert canaries.last(store, "late").ended == "taken_back"


def test_an_endpoint_that_is_gone_ends_the_canary(store):
    begun(store)
    there(store).stop("late")
    assert look(store) == "take back"
    assert ledger.read(store)[-1].reason == "version 1, beside which it ran, is not served any more"


def test_a_version_without_a_certificate_gets_no_traffic(store, monkeypatch):
    def refuse(*_):
        raise errors.ParityError.build("deploy: late version 2, path 'http'", got="0.1", expected="0")

    monkeypatch.setattr(canary_rollout, "rehearse", refuse)
    before = kinds(store)
    with pytest.raises(errors.ParityError):
        begun(store)
    assert (kinds(store), routed(store)) == (before, None)


def test_there_must_be_another_version_to_compare_with(store):
    with pytest.raises(errors.ClusterError) as caught:
        begun(store, 1)
    assert str(caught.value) == (
        "deploy: canary version 1 of 'late'\n  got:      the version that champion means already\n"
        "  expected: another one\n  hint:     mlsys deploy late@VERSION --canary 5%"
    )
    there(store).stop("late")
    with pytest.raises(errors.ClusterError, match="no endpoint"):
        begun(store)


def test_the_settings_of_a_recipe_begin_a_canary_where_something_is_served(store):
    sections = {"deploy": {"rollout": {"steps": [20, 100], "every": "30s", "key": "carrier"}}}
    more = {"reason": "better", "sections": sections}
    change = canary_rollout.put(store, entry(store, 2), "champion", there(store), **more)
    plan = change.trial.plan
    assert (plan.percents, plan.every_s, plan.key, routed(store)) == ((20, 100), 30.0, "carrier", (2, 0, 2_000))
    assert registry.settings(store, "late") == sections
    rollout.rollback(store, "late", "champion", there(store), reason="no")
    there(store).stop("late")
    assert canary_rollout.put(store, entry(store, 2), "champion", there(store), **more).trial is None
    assert registry.resolve(store, "late").version == 2
