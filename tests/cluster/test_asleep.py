"""An endpoint of no replica: it sleeps when nobody asks, and the first request afterwards is answered."""

import json
import time
import urllib.request

import pytest

from bundles import fit
from mlsys import recipe
from mlsys.deploy import serving

NAME = "sleeper"
SETTINGS = recipe.DeploySection(port=0, min_replicas=0, max_replicas=1, idle="11s")
LONGEST_S = 120


@pytest.fixture(scope="module")
def url(store, endpoints):
    return serving.start(store, NAME, fit(store).digest, 1, SETTINGS).url


def num_replicas():
    from ray import serve

    deployment = serve.status().applications[NAME].deployments["Model"]
    return sum(deployment.replica_states.values())


def ask(url):
    body = json.dumps({"instances": [{"seats": 100}]}).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=LONGEST_S) as answer:
        return answer.status, json.load(answer)["model"]["version"]


def test_an_idle_endpoint_sleeps_and_the_next_request_wakes_it_and_is_answered(url):
    for _ in range(2):
        assert ask(url) == (200, 1)
        start = time.monotonic()
        assert num_replicas() == 1
        while num_replicas() > 0:
            assert time.monotonic() < start + LONGEST_S
            time.sleep(0.2)
        asleep = time.monotonic()
        assert ask(url) == (200, 1)
        print(f"idle 11s: asleep after {asleep - start:.1f} s, answered within {time.monotonic() - asleep:.1f} s")
