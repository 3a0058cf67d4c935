"""Batch jobs over HTTP: orders, answers and what is refused, without a cluster."""

import asyncio
import json

import pytest
from starlette.applications import Starlette

from asgi_client import call
from bundles import fit
from mlsys import registry
from mlsys.deploy import batch_endpoint
from mlsys.deploy.batch_queue import FILE, JobQueue
from mlsys.recipe import BatchSection
from mlsys.store import Store

ORDER = {"input": "in.csv", "output": "out"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store.open(tmp_path_factory.mktemp("endpoint"))
        registry.register(store, "late", fit(store))
    return store


@pytest.fixture(autouse=True)
def no_jobs(store):
    """An empty queue."""
    (store.root / "registry" / FILE).unlink(missing_ok=True)


@pytest.fixture
def ask(store):
    """Send a request to the endpoint of the model: status, headers, JSON."""
    return asker(store)


def asker(store, name="late", **settings):
    app = Starlette(routes=batch_endpoint.routes(store, name, BatchSection(**settings), lambda: "1"))

    def ask(method, path, body=None, **headers):
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        pairs = [(key.replace("_", "-"), value.encode()) for key, value in headers.items()]
        status, answered, text = asyncio.run(call(app, method, path, data, pairs))
        names = {key.decode(): value.decode() for key, value in answered.items()}
        return status, names, json.loads(text)

    return ask


def test_an_order_is_accepted_and_followed(ask, store):
    status, headers, job = ask("POST", "/batch", ORDER)
    assert (status, job["state"], job["input"], job["output"]) == (202, "queued", "in.csv", "out")
    assert headers["location"] == job["location"] == f"/late/batch/{job['id']}"
    assert ask("GET", f"/batch/{job['id']}")[2] == job
    assert ask("GET", "/batch")[2] == {"jobs": [job]}
    spec = JobQueue(store).get("late", job["id"]).spec
    assert (spec.input, spec.output) == (str(store.root / "batch/in.csv"), str(store.root / "batch/out"))
    assert (spec.version, spec.roots, spec.append) == (1, (str(store.root / "batch"),), False)


def test_all_of_an_order_arrives_in_the_job(ask, store):
    order = ORDER | {
        "keys": ["flight"], "settings": {"reading.delimiter": ";"}, "format": "csv", "model": "1", "mode": "append",
        "run_id": "monday", "max_rejected_fraction": 0.5,
    }  # fmt: skip
    spec = JobQueue(store).get("late", ask("POST", "/batch", order)[2]["id"]).spec
    assert (spec.keys, spec.append, spec.run_id, spec.max_rejected_fraction) == (("flight",), True, "monday", 0.5)
    assert spec.settings == ('reading.delimiter=";"', 'reading.format="csv"')


def test_the_same_key_gives_the_same_job(ask):
    first = ask("POST", "/batch", ORDER, idempotency_key="k1")[2]
    again = ask("POST", "/batch", ORDER, idempotency_key="k1")
    assert (again[0], again[2]) == (202, first)
    assert ask("POST", "/batch", ORDER)[2]["id"] != first["id"]
    status, _, answer = ask("POST", "/batch", ORDER | {"output": "other"}, idempotency_key="k1")
    assert status == 422
    assert "a new key for a new order" in answer["error"]["message"]


def test_a_job_that_waits_is_cancelled(ask):
    job = ask("POST", "/batch", ORDER)[2]
    assert ask("DELETE", f"/batch/{job['id']}")[::2][1]["state"] == "canceled"
    assert ask("DELETE", f"/batch/{job['id']}")[0] == 200


def test_a_job_that_runs_is_given_up_by_its_worker_and_one_that_ended_is_not(ask, store):
    job, queue = ask("POST", "/batch", ORDER)[2], JobQueue(store)
    queue.claim("w1")
    status, _, answer = ask("DELETE", f"/batch/{job['id']}")
    assert (status, answer["state"]) == (202, "canceling")
    queue.end(job["id"], "w1", "succeeded", result={"output": str(store.root / "batch/out"), "num_rows": 3})
    assert ask("DELETE", f"/batch/{job['id']}")[0] == 409
    answer = ask("GET", f"/batch/{job['id']}")[2]
    assert (answer["state"], answer["result"]) == ("succeeded", {"output": "out", "num_rows": 3})


def test_an_error_shows_no_path_of_the_server(ask, store):
    job, queue = ask("POST", "/batch", ORDER)[2], JobQueue(store)
    queue.claim("w1")
    queue.end(
        job["id"], "w1", "failed", error=f"predict: source '{store.root}/batch/in.csv'\n  got:      nothing there"
    )
    answer = ask("GET", f"/batch/{job['id']}")[2]
    assert str(store.root) not in json.dumps(answer)
    assert "nothing there" in answer["error"]


def test_a_full_queue_is_503_with_the_time_to_come_again(store):
    ask = asker(store, queue=1)
    assert ask("POST", "/batch", ORDER)[0] == 202
    status, headers, answer = ask("POST", "/batch", ORDER)
    assert (status, headers["retry-after"]) == (503, "5")
    assert "1 jobs that wait" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "a JSON object"),
        ([], 400, "a JSON object"),
        ({"input": "a.csv"}, 422, "batch: output"),
        (ORDER | {"inptu": "b.csv"}, 422, "did you mean 'input'?"),
        (ORDER | {"keys": "flight"}, 422, "batch: keys"),
        (ORDER | {"input": 7}, 422, "batch: input"),
        (ORDER | {"mode": "add"}, 422, "batch: mode"),
        (ORDER | {"run_id": "../x"}, 422, "batch: run_id"),
        (ORDER | {"max_rejected_fraction": 2}, 422, "batch: max_rejected_fraction"),
        (ORDER | {"input": "../secret.csv"}, 422, "which has .."),
        (ORDER | {"output": "/srv/elsewhere"}, 422, "a place outside"),
        (ORDER | {"input": "http://127.0.0.1:1/a.csv"}, 422, "a place outside"),
        (ORDER | {"settings": {"reading.query": "SELECT 1"}}, 422, "settings of files"),
        (ORDER | {"settings": {"reading.delimitr": ";"}}, 422, "did you mean 'delimiter'"),
        (ORDER | {"model": "nobody"}, 404, "nobody"),
        (b"[" * 70_000, 413, "at most"),
    ],
)
def test_what_is_no_order_is_refused_with_the_reason(ask, store, body, status, message):
    answered, _, answer = ask("POST", "/batch", body)
    assert answered == status
    assert message in answer["error"]["message"]
    assert JobQueue(store).jobs() == []


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_is_of_some_length(ask, key):
    assert ask("POST", "/batch", ORDER, idempotency_key=key)[0] == 400


def test_jobs_of_another_model_are_not_seen(ask, store):
    job = ask("POST", "/batch", ORDER)[2]
    other = asker(store, "other")
    assert other("GET", "/batch")[2] == {"jobs": []}
    for method in ("GET", "DELETE"):
        assert other(method, f"/batch/{job['id']}")[0] == 404


def test_roots_of_the_recipe_stand_in_place_of_the_store(store):
    ask = asker(store, roots=["s3://bucket/in", "/srv/scored"])
    order = {"input": "day.parquet", "output": "/srv/scored/day"}
    job = ask("POST", "/batch", order)[2]
    assert (job["input"], job["output"]) == ("day.parquet", "/srv/scored/day")
    assert JobQueue(store).get("late", job["id"]).spec.input == "s3://bucket/in/day.parquet"
    assert ask("POST", "/batch", {"input": str(store.root / "batch/in.csv"), "output": "x"})[0] == 422
