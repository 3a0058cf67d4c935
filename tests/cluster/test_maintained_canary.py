"""A maintenance begins a canary on a real endpoint, and the answers of both versions decide what becomes of it."""

import contextlib
import itertools
import threading
import time

import httpx
import pytest

from mlsys import cluster, registry
from mlsys.deploy import canary_judge
from mlsys.registry import canaries
from mlsys.workflow.maintenance_state import MaintenanceState
from shop import DRIFT, Shop, rows_of

ROLLOUT = {"steps": [50, 100], "every": "1s", "min_requests": 100, "alpha": 0.05, "slowdown": 50.0, "shift": 0.1}
LONGEST_S = 120


@pytest.fixture(scope="module")
def shop(store, endpoints, tmp_path_factory):
    """A shop whose model is served, and whose world has changed for four weeks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        shop = Shop(tmp_path_factory.mktemp("shop"), store=store)
        shop.begin(port=0, max_replicas=1, log=False, rollout=ROLLOUT)
        while shop.week < DRIFT + 4:
            shop.live()
        yield shop
    cluster.stop_detached(canary_judge.actor_name(store, "shop"))


@contextlib.contextmanager
def customers(shop):
    """One after another asks what another week's customer will do; yields statuses and versions of the answers."""
    url = registry.served_at(shop.store, "shop").facts["url"]
    rows = rows_of(shop.week).drop("y", "id").with_columns(rows_of(shop.week)["at"].dt.strftime("%FT%TZ")).to_dicts()
    is_over, outcomes = threading.Event(), []

    def ask():
        with httpx.Client(timeout=60) as client:
            for number, row in enumerate(itertools.cycle(rows)):
                if is_over.is_set():
                    return
                body = {"instances": [row], "params": {"prediction_ids": [f"{shop.week}-{number}"]}}
                answer = client.post(f"{url}/invocations", json=body)
                outcomes.append((answer.status_code, answer.json().get("model", {}).get("version")))

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield outcomes
    finally:
        is_over.set()
        client.join()


def decided(shop):
    """The trial that customers have decided, and what they got."""
    end = time.monotonic() + LONGEST_S
    with customers(shop) as outcomes:
        while canaries.running(shop.store, "shop") is not None:
            assert time.monotonic() < end, canaries.last(shop.store, "shop")
            time.sleep(0.1)
    return canaries.last(shop.store, "shop"), outcomes


def begun(shop, *settings):
    """Begin a canary by a maintenance; while it runs, another one waits."""
    result = shop.maintain(*settings)
    assert (result.outcome, result.decision) == ("canary", "retrain"), result
    assert canaries.running(shop.store, "shop").entry.version == result.made
    assert shop.maintain(*settings).outcome == "waits"
    return result


def test_a_canary_whose_scores_are_others_than_the_recipe_allows_is_taken_back(shop):
    result = begun(shop, "deploy.rollout.every=1h")  # no step ends before its answers tell
    trial, outcomes = decided(shop)
    assert (trial.entry.version, trial.ended) == (result.made, "taken_back")
    assert trial.reason.startswith("scores: their distributions differ by ")
    assert {status for status, _ in outcomes} == {200}
    assert {version for _, version in outcomes} == {1, result.made}
    assert shop.champion.version == 1
    assert "maintain.cooldown ends" in shop.maintain().reason


def test_a_canary_of_scores_that_may_differ_is_promoted_and_the_next_maintenance_keeps_it(shop):
    before = shop.versions()[-1]
    for _ in range(2):  # the cooldown
        shop.live()
    result = begun(shop, "deploy.rollout.shift=0.95", "deploy.rollout.every=1s")
    assert result.made == before + 1
    trial, outcomes = decided(shop)
    assert (trial.entry.version, trial.ended, trial.counts["canary_errors"]) == (result.made, "promoted", 0)
    assert {status for status, _ in outcomes} == {200}
    assert shop.champion.version == result.made
    assert [line.split(":")[0] for line in shop.lines() if line.startswith("canary")] == ["canary", "canary"]
    shop.live()
    assert shop.maintain().outcome == "kept"
    assert MaintenanceState.read(shop.store, "shop").retraining is None
