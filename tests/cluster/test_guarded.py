"""An endpoint with API keys on a running cluster: who is let in, labels, and metrics."""

import json
import time
import urllib.error
import urllib.request

import pytest

from bundles import fit, requests, rows
from mlsys import recipe, registry
from mlsys.deploy import api_keys, label_files, serving
from mlsys.store import Store

SETTINGS = recipe.DeploySection(port=0, max_replicas=1)
SOON_S = 90.0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A store of its own on the same cluster, so that its keys close no other endpoint."""
    return Store.open(tmp_path_factory.mktemp("guarded"))


@pytest.fixture(scope="module")
def versions(guarded):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        fitted = [fit(guarded), fit(guarded, seed=1)]
        for each in fitted:
            registry.register(guarded, "kept", each)
        registry.set_alias(guarded, "kept", "champion", 1, "test")
    return [each.digest for each in fitted]


@pytest.fixture(scope="module")
def url(endpoints, guarded, versions):
    return serving.start(guarded, "kept", versions[0], 1, SETTINGS).url


@pytest.fixture(scope="module")
def key(guarded, url):
    """A key for predictions; from it on the endpoint asks for one."""
    made = api_keys.add(guarded, ["predict"], models=["kept"])
    eventually(lambda: ask(f"{url}/docs")[0] == 401)
    return made


def ask(url, body=None, headers=()):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **dict(headers)})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def eventually(condition):
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.1)


def bearer(made):
    return {"Authorization": f"Bearer {made.text}"}


def body():
    return {"dataframe_records": requests(rows(2, seed=5))}


def test_a_key_opens_the_endpoint_and_nothing_else_does(url, key):
    assert ask(f"{url}/invocations", body())[0] == 401
    assert ask(f"{url}/invocations", body(), bearer(key))[0] == 200
    assert ask(f"{url}/stats", None, bearer(key))[0] == 403
    assert ask(f"{url}/ready")[0] == 200


def test_the_gateway_asks_for_the_keys_of_the_model(url, key):
    root = url.rpartition("/")[0]
    tensor = {"inputs": [{"name": "seats", "shape": [1], "datatype": "INT64", "data": [100]}]}
    eventually(lambda: ask(f"{root}/v2/models/kept/infer", tensor)[0] == 401)  # it looks at the file each second
    assert ask(f"{root}/v2/models/kept/infer", tensor, bearer(key))[0] == 200
    assert ask(f"{root}/v2/models/kept/ready")[0] == 200
    assert ask(f"{root}/v2/models/kept")[0] == 401


def test_a_new_version_is_deployed_while_keys_are_asked_for(store, guarded, versions, url, key):
    assert serving.start(guarded, "kept", versions[1], 2, SETTINGS).url == url
    answer = json.loads(ask(f"{url}/invocations", body(), bearer(key))[1])
    assert answer["model"]["version"] == 2


def test_a_key_that_is_revoked_ends_within_seconds(guarded, url, key):
    old = api_keys.add(guarded, ["predict"])
    eventually(lambda: ask(f"{url}/invocations", body(), bearer(old))[0] == 200)
    new = api_keys.rotate(guarded, old.key.id, "1h")
    eventually(lambda: ask(f"{url}/invocations", body(), bearer(new))[0] == 200)
    assert ask(f"{url}/invocations", body(), bearer(old))[0] == 200
    api_keys.revoke(guarded, old.key.id)
    eventually(lambda: ask(f"{url}/invocations", body(), bearer(old))[0] == 401)
    assert ask(f"{url}/invocations", body(), bearer(new))[0] == 200


def test_labels_that_are_answered_are_on_disk(guarded, url, key):
    made = api_keys.add(guarded, ["labels"])
    eventually(lambda: ask(f"{url}/docs", None, bearer(made))[0] == 200)
    sent = {"labels": [{"prediction_id": "p-1", "label": True}, {"prediction_id": "p-2", "label": False}]}
    for _ in range(2):
        assert ask(f"{url}/labels", sent, bearer(made))[0] == 200
    assert ask(f"{url}/labels", sent, bearer(key))[0] == 403
    assert label_files.read(guarded, "kept")["key"].unique().sort().to_list() == ["p-1", "p-2"]


def test_rays_agent_has_the_metrics_of_the_endpoint(url, key):
    import ray

    (node,) = ray.nodes()
    page = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    assert ask(f"{url}/invocations", body(), bearer(key))[0] == 200
    eventually(lambda: b'application="kept"' in _lines(page, b"ray_mlsys_requests"))
    assert b'status="200"' in _lines(page, b"ray_mlsys_requests")
    assert b'le="+Inf"' in _lines(page, b"ray_mlsys_latency_ms_bucket")


def _lines(page, name):
    return b"\n".join(line for line in ask(page)[1].splitlines() if line.startswith(name))
