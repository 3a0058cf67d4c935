"""The console of an endpoint on a running cluster: who shows a key changes what is served, and nobody else does."""

import datetime as dt
import time
import urllib.parse

import httpx
import pytest

from bundles import fit
from mlsys import operate, recipe, registry
from mlsys.alerts import alert_book
from mlsys.alerts.alert_book import Condition
from mlsys.deploy import api_keys, rollout
from mlsys.deploy.endpoints import ServeEndpoints

NAME = "shown"
SECTIONS = {"deploy": recipe.DeploySection(port=0, max_replicas=1).model_dump(mode="json")}
LIMIT_S = 90


@pytest.fixture(scope="module", autouse=True)
def keys(store, endpoints):
    """Two versions, an alert that lasts, and a key of each kind; the keys of the shared store end with the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for seed in range(2):
            registry.register(store, NAME, fit(store, seed=seed))
    registry.set_alias(store, NAME, "champion", 1, "the first")
    with alert_book.changing(store, NAME) as book:
        condition = Condition("retrain", "critical", "train it again")
        book.update([condition], [("champion", "retrain")], dt.datetime.now(dt.UTC))
    made = {scope: api_keys.add(store, [scope]) for scope in ("predict", "admin")}
    yield made
    api_keys.file_of(store).unlink()


def console(url):
    """A client of the console of the server that has this address."""
    address = urllib.parse.urlsplit(url)
    return httpx.Client(base_url=f"{address.scheme}://{address.netloc}/console", timeout=LIMIT_S)


def statuses(client, path, values, keys):
    """Answers to a change without a key, with one that may not, and with a password that a browser remembers."""
    return [
        client.post(path, json=values).status_code,
        client.post(path, json=values, headers={"X-API-Key": keys["predict"].text}).status_code,
        client.post(path, json=values, auth=("anybody", keys["admin"].text)).status_code,
    ]


def until_answers(url, version):
    end = time.monotonic() + LIMIT_S
    while httpx.get(f"{url}/ready", timeout=30).json()["model"]["version"] != version:
        assert time.monotonic() < end
        time.sleep(0.1)


def changed(store, url, keys, act, values):
    """What a change says, once it was refused to all who may not."""
    with console(url) as client:
        path, before = f"/api/models/{NAME}/{act}", registry.resolve(store, NAME)
        assert client.get("/api/models").status_code == 401
        assert statuses(client, path, values, keys) == [401, 403, 401]
        assert registry.resolve(store, NAME) == before
        answer = client.post(path, json=values, headers={"X-API-Key": keys["admin"].text})
        assert answer.status_code == 200, answer.text
        return answer.json()


def test_the_gateway_lets_a_key_promote_and_acknowledge_and_the_endpoint_follows(store, keys):
    first = registry.resolve(store, NAME, 1)
    served = rollout.put(store, first, "champion", ServeEndpoints(store), reason="first", sections=SECTIONS).endpoint
    until_answers(served.url, 1)
    change = changed(store, served.url, keys, "promote", {"version": 2, "reason": "better on the new region"})
    assert (change["version"], change["changed"], change["before"]) == (2, True, 1)
    until_answers(served.url, 2)
    (alert,) = alert_book.read(store, NAME).open()
    changed(store, served.url, keys, "acknowledge", {"alert": alert.id})
    assert alert_book.read(store, NAME).get(alert.id).acknowledged_at is not None
    reason = registry.history(store, NAME)[-1].reason
    assert reason == f"better on the new region (console, key {keys['admin'].key.id})"
    operate.undeploy(NAME, store=store.root)


def test_an_application_of_many_models_lets_a_key_roll_back_and_its_replicas_follow(store, keys):
    from ray import serve

    serve.shutdown()
    made = operate.serve_together([NAME], set={"deploy.port": 0}, store=store.root)
    until_answers(f"{made.url}/{NAME}", 2)
    change = changed(store, made.url, keys, "rollback", {"reason": "it was not"})
    assert (change["version"], change["before"]) == (1, 2)
    until_answers(f"{made.url}/{NAME}", 1)
    gauges = httpx.get(f"{made.url}/metrics", headers={"X-API-Key": keys["admin"].text}, timeout=LIMIT_S)
    assert f'mlsys_model_version{{model="{NAME}",alias="champion"}} 1' in gauges.text
    assert httpx.get(f"{made.url}/metrics", timeout=LIMIT_S).status_code == 401
    operate.stop_together(store=store.root)
