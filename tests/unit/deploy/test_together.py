"""Many models in one process: each answers as alone, the least recently used go, and one hurts no other."""

import asyncio
import json

import httpx
import pytest

from bundles import fit, requests, rows
from metric_recorder import MetricRecorder
from mlsys import bundle, registry
from mlsys.deploy import api_keys, model_shelf
from mlsys.deploy.telemetry import MODEL_COUNTERS, MODEL_GAUGES, Exporter
from mlsys.deploy.together import ModelRouter, TogetherArgs
from mlsys.predict import Predictor
from mlsys.schema import TaskKind
from mlsys.store import Store

NAMES = ("a", "b", "c")
SENT = requests(rows(3, seed=4))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Store.open(tmp_path / "store")
    for seed, name in enumerate(NAMES):
        fitted = fit(store, TaskKind.REGRESSION, seed=seed, num_rows=100 + seed)
        registry.set_alias(store, name, "champion", registry.register(store, name, fitted), "test")
    return store


def router_of(store, monkeypatch, most=2, models=NAMES):
    """A router that has room for some models, each of which is taken for 10 bytes."""
    measured = model_shelf.ModelShelf._load
    monkeypatch.setattr(model_shelf.ModelShelf, "_load", lambda self, *what: (measured(self, *what)[0], 10))
    return ModelRouter(TogetherArgs(models=models, most_bytes=10 * most, log={"enabled": False}), store)


def ask(router, *paths, method="POST", body=None, **headers):
    """The answers to requests one after another, in one event loop."""

    async def asked():
        transport = httpx.ASGITransport(app=router, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            content = {"dataframe_records": SENT} if body is None else body
            return [await client.request(method, p, **({"json": content} if method == "POST" else {})) for p in paths]

    return asyncio.run(asked())


def test_each_model_answers_with_its_own_bits_by_both_protocols(store, monkeypatch):
    router = router_of(store, monkeypatch)
    for name in NAMES:
        entry = registry.resolve(store, name)
        truth = Predictor(bundle.open(store, entry.digest)).rows(SENT).prediction.tolist()
        answer, metadata = ask(router, f"/{name}/invocations")[0], ask(router, f"/v2/models/{name}", method="GET")[0]
        assert answer.json()["predictions"] == truth
        assert answer.json()["model"] == {"name": name, "version": 1, "digest": entry.digest}
        assert (metadata.json()["name"], metadata.json()["versions"]) == (name, ["1"])
        assert ask(router, f"/{name}/ready", method="GET")[0].json()["model"]["name"] == name


def test_the_least_recently_used_model_goes_and_comes_back(store, monkeypatch):
    router = router_of(store, monkeypatch, most=2)
    ask(router, "/a/invocations", "/b/invocations", "/a/invocations", "/c/invocations")
    assert list(router.shelf.num_bytes) == ["a", "c"]
    assert ask(router, "/b/invocations")[0].status_code == 200
    assert list(router.shelf.num_bytes) == ["c", "b"]
    listed = ask(router, "/", method="GET")[0].json()
    assert {name: each["bytes"] for name, each in listed["models"].items()} == {"a": None, "b": 10, "c": 10}


def test_the_console_and_the_gauges_of_the_store_are_beside_the_models(store, monkeypatch):
    router = router_of(store, monkeypatch)

    async def seen():
        transport = httpx.ASGITransport(app=router, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", follow_redirects=True
        ) as browser:
            page = await browser.get("/", headers={"Accept": "text/html"})
            return page, await browser.get("/console/api/models"), await browser.get("/metrics")

    page, models, gauges = asyncio.run(seen())
    assert (page.status_code, str(page.url), 'href="/console/models/a"' in page.text) == (
        200, "http://127.0.0.1/console/", True,
    )  # fmt: skip
    assert [each["name"] for each in models.json()] == [*NAMES]
    assert 'mlsys_model_version{model="a",alias="champion"} 1' in gauges.text


def test_with_keys_the_console_of_many_models_asks_for_one_of_an_admin(store, monkeypatch):
    router = router_of(store, monkeypatch)
    keys = {scope: api_keys.add(store, [scope]).text for scope in ("predict", "admin")}
    for path in ("/console/", "/console/api/models", "/metrics"):
        statuses = [ask(router, path, method="GET")[0].status_code]
        statuses += [ask(router, path, method="GET", **{"X-API-Key": key})[0].status_code for key in keys.values()]
        assert statuses == [401, 403, 200], path
    change = {"version": 1, "reason": "a test"}
    assert ask(router, "/console/api/models/a/promote", body=change)[0].status_code == 401
    (answer,) = ask(router, "/console/api/models/a/promote", body=change, **{"X-API-Key": keys["predict"]})
    assert answer.status_code == 403


def test_a_model_that_is_larger_than_the_bound_answers_alone(store, monkeypatch):
    router = router_of(store, monkeypatch, most=0.5)
    assert [each.status_code for each in ask(router, "/a/invocations", "/b/invocations")] == [200, 200]
    assert list(router.shelf.num_bytes) == ["b"]


def test_a_model_takes_at_least_the_bytes_of_its_files(store):
    router = ModelRouter(TogetherArgs(models=["a"], log={"enabled": False}), store)
    ask(router, "/a/invocations")
    folder = store.path("bundle", registry.resolve(store, "a").digest)
    assert router.shelf.num_bytes["a"] >= sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_model_that_does_not_load_hurts_no_other(store, monkeypatch):
    folder = store.path("bundle", registry.resolve(store, "b").digest)
    (folder / "program.json").chmod(0o644)
    (folder / "program.json").write_text("{}")
    router = router_of(store, monkeypatch, models=(*NAMES, "new"))
    good, broken, unknown, again = ask(
        router, "/a/invocations", "/b/invocations", "/new/invocations", "/v2/models/b/infer"
    )
    assert [each.status_code for each in (good, broken, unknown, again)] == [200, 503, 404, 503]
    assert broken.headers["retry-after"] == "1"
    assert isinstance(again.json()["error"], str)
    assert ask(router, "/c/invocations", "/a/invocations")[0].status_code == 200


def test_a_name_that_is_not_served_is_404_with_the_nearest(store, monkeypatch):
    router = router_of(store, monkeypatch, models=("a",))
    for path in ("/aa/invocations", "/v2/models/aa/infer"):
        answer = ask(router, path)[0]
        assert answer.status_code == 404
        assert "'a'" in json.dumps(answer.json())


def test_an_alias_that_moves_is_followed_and_a_version_that_does_not_load_is_told(store, monkeypatch):
    monkeypatch.setattr(model_shelf, "ALIAS_S", 0.0)
    router = router_of(store, monkeypatch)
    assert ask(router, "/a/invocations")[0].json()["model"]["version"] == 1
    better = fit(store, TaskKind.REGRESSION, seed=9, num_rows=150)
    registry.set_alias(store, "a", "champion", registry.register(store, "a", better), "test")

    async def until(expected):
        transport = httpx.ASGITransport(app=router, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for _ in range(500):
                answer = (await client.get("/a/ready")).json()
                if expected(answer):
                    return answer
                await asyncio.sleep(0.01)
        raise AssertionError(answer)

    assert asyncio.run(until(lambda answer: answer["model"]["version"] == 2))["model"]["digest"] == better.digest
    worse = fit(store, TaskKind.REGRESSION, seed=10, num_rows=151)
    folder = store.path("bundle", worse.digest)
    registry.set_alias(store, "a", "champion", registry.register(store, "a", worse), "test")
    (folder / "program.json").chmod(0o644)
    (folder / "program.json").write_text("{}")
    refused = asyncio.run(until(lambda answer: "refused" in answer))
    assert (refused["model"]["version"], refused["refused"]["digest"]) == (2, worse.digest)


def test_metrics_tell_loads_evictions_bytes_and_requests_of_each_model(store, monkeypatch):
    router = router_of(store, monkeypatch, most=2)
    recorder = MetricRecorder()
    exporter = Exporter(lambda: router.shelf.metric_values(NAMES), recorder.make, MODEL_COUNTERS, MODEL_GAUGES)

    def value(name, **tags):
        exporter.send()
        return recorder.values.get((name, *sorted(tags.items())), 0)

    ask(router, "/a/invocations", "/b/invocations", "/a/invocations", "/c/invocations", "/b/invocations")
    ask(router, "/b/invocations", body={"dataframe_records": [{"seats": "many"}]})
    assert list(router.shelf.num_bytes) == ["c", "b"]
    counts = {"a": (1, 1, 2), "b": (2, 1, 2), "c": (1, 0, 1)}
    for name, (loads, evictions, answered) in counts.items():
        assert value("mlsys_model_loads", model=name) == loads
        assert value("mlsys_model_evictions", model=name) == evictions
        assert value("mlsys_model_requests", model=name, status="200") == answered
        assert value("mlsys_model_rows", model=name) == answered * len(SENT)
        assert value("mlsys_model_load_seconds", model=name) > 0
        assert value("mlsys_model_bytes", model=name) == (0 if name == "a" else 10)
    assert value("mlsys_model_requests", model="b", status="422") == 1
    assert value("mlsys_requests", status="200") == sum(answered for *_, answered in counts.values())
    assert (value("mlsys_models_loaded"), value("mlsys_models_most_bytes")) == (2, 20)
    folder = store.path("bundle", registry.resolve(store, "a").digest)
    (folder / "program.json").chmod(0o644)
    (folder / "program.json").write_text("{}")
    assert ask(router, "/a/invocations")[0].status_code == 503
    assert value("mlsys_model_failed_loads", model="a") == 1


def test_keys_open_the_models_that_they_name(store, monkeypatch):
    text = api_keys.add(store, ["predict"], models=["a"]).text
    router = router_of(store, monkeypatch)
    paths = ("/a/invocations", "/b/invocations", "/v2/models/b/infer", "/a/stats")
    assert [each.status_code for each in ask(router, *paths)] == [401] * 4
    assert list(router.shelf.num_bytes) == []
    assert [each.status_code for each in ask(router, *paths[:3], **{"X-API-Key": text})] == [200, 403, 403]
    assert ask(router, "/v2/health/live", method="GET")[0].status_code == 200


def test_a_model_is_named_once(store):
    with pytest.raises(ValueError, match="each model once"):
        TogetherArgs(models=["a", "a@challenger"])


def test_a_log_that_holds_no_whole_request_is_refused():
    with pytest.raises(ValueError, match=r"log.max_pending_rows of at least limits.rows \(500\)"):
        TogetherArgs(models=["a"], limits={"rows": 500}, log={"max_pending_rows": 499})
