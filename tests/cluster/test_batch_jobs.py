"""Batch jobs over HTTP: a worker of the cluster does them, and another one if it is killed."""

import json
import os
import time
import urllib.error
import urllib.request

import pyarrow.parquet as pq
import pytest

from batch_kills import Prediction
from bundles import fit, rows
from mlsys import bundle, cluster, recipe, registry
from mlsys.deploy import batch_jobs, serving
from mlsys.deploy.batch_queue import JobQueue
from mlsys.predict import Predictor

FILES = 300
LIMIT_S = 200.0


@pytest.fixture(scope="module")
def model(store):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        fitted = fit(store, seed=7)
        registry.set_alias(store, "jobs", "champion", registry.register(store, "jobs", fitted), "test")
    return fitted


@pytest.fixture(scope="module")
def url(store, endpoints, model):
    """The endpoint of the model; it ends with the module, if a test did not end it."""
    settings = recipe.DeploySection(port=0, max_replicas=1, batch=recipe.BatchSection(max_running=2))
    yield serving.start(store, "jobs", model.digest, 1, settings).url
    cluster.stop_detached(batch_jobs.actor_name(store))


@pytest.fixture(scope="module")
def table(store):
    """Rows in many small files below the folder that jobs may read."""
    folder = store.root / "batch" / "in"
    folder.mkdir(parents=True)
    whole = rows(10 * FILES, seed=70).drop_columns(["y"])
    for number in range(FILES):
        pq.write_table(whole.slice(10 * number, 10), folder / f"{number:03d}.parquet")
    return whole


def ask(method, url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json", **{name.replace("_", "-"): v for name, v in headers.items()}},
        method=method,
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.loads(error.read())


def wait(condition):
    end = time.monotonic() + LIMIT_S
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def over(url, job):
    """The job when it is over."""

    def answer():
        found = ask("GET", f"{url}/batch/{job['id']}")[2]
        return found if found["state"] not in ("queued", "running", "canceling") else None

    return wait(answer)


def staged(store, name):
    """The output of a job, with what is finished of it."""
    return Prediction(str(store.root), "jobs", "", str(store.root / "batch" / name))


def test_a_job_ends_with_the_bits_of_the_process(store, model, url, table):
    order = {"input": "in", "output": "whole", "keys": ["flight"]}
    status, headers, job = ask("POST", f"{url}/batch", order, idempotency_key="one")
    assert (status, headers["Location"]) == (202, f"/jobs/batch/{job['id']}")
    ended = over(url, job)
    assert (ended["state"], ended["error"]) == ("succeeded", None)
    assert ended["progress"] == {"fragments": FILES, "of": FILES, "rows": 10 * FILES}
    found = pq.read_table(store.root / "batch" / "whole")
    assert found["flight"].to_pylist() == table["flight"].to_pylist()
    truth = Predictor(bundle.open(store, model.digest)).table(table)
    assert found["probability_true"].to_pylist() == truth.probabilities[:, 1].tolist()
    assert ask("POST", f"{url}/batch", order, idempotency_key="one")[2]["id"] == job["id"]


def test_a_job_whose_worker_is_killed_is_finished_by_another(store, url, table):
    job = ask("POST", f"{url}/batch", {"input": "in", "output": "killed"})[2]
    wait(lambda: staged(store, "killed").num_finished() >= 3)
    before = cluster.detached_process(batch_jobs.actor_name(store))
    os.kill(before, 9)
    ended = over(url, job)
    assert (ended["state"], ended["result"]["num_rows"]) == ("succeeded", 10 * FILES)
    assert ended["result"]["num_reused"] >= 3
    assert cluster.detached_process(batch_jobs.actor_name(store)) != before
    assert pq.read_table(store.root / "batch" / "killed")["flight"].to_pylist() == table["flight"].to_pylist()


def test_a_job_that_runs_is_cancelled_without_an_output(store, url, table):
    job = ask("POST", f"{url}/batch", {"input": "in", "output": "canceled"})[2]
    wait(lambda: staged(store, "canceled").num_finished() >= 1)
    status, _, answer = ask("DELETE", f"{url}/batch/{job['id']}")
    assert (status, answer["state"]) == (202, "canceling")
    assert over(url, job)["state"] == "canceled"
    assert not (store.root / "batch" / "canceled").exists()


def test_a_job_goes_on_when_serve_ends(store, url, table):
    from ray import serve

    job = ask("POST", f"{url}/batch", {"input": "in", "output": "left"})[2]
    wait(lambda: staged(store, "left").num_finished() >= 1)
    serve.shutdown()
    ended = wait(lambda: (found := JobQueue(store).get("jobs", job["id"])).is_over and found)
    assert (ended.state, ended.result["num_rows"]) == ("succeeded", 10 * FILES)
