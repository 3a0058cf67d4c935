"""The console over HTTP: pages, JSON, who may read, who may change, and what a wrong request gets."""

import asyncio
import json

import httpx
import pytest

import console_store
from mlsys import registry
from mlsys.deploy import api_keys
from mlsys.web_console import json_api, routes

HERE = "http://127.0.0.1:8050"


class Client:
    """Somebody who asks an app, from an address and for a host."""

    def __init__(self, app, host, peer="127.0.0.1", root_path=""):
        self.how = {"app": app, "client": (peer, 1), "root_path": root_path, "raise_app_exceptions": False}
        self.host = host

    def get(self, path, **more):
        return asyncio.run(self.ask("GET", path, more))

    def post(self, path, **more):
        return asyncio.run(self.ask("POST", path, more))

    async def ask(self, method, path, more):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(**self.how), base_url=self.host) as client:
            return await client.request(method, path, **more)


def client(store, host=HERE, peer="127.0.0.1"):
    return Client(routes.app(store), host, peer)


@pytest.fixture
def console(store):
    return client(store)


def test_every_page_says_what_the_store_has(store, console):
    console_store.submitted(store)
    key = console.get("/api/runs").json()["runs"][0]["key"]
    for path, texts in {
        "/": ["late", "roc_auc 0.7100", "retrain", "Alerts that last"],
        "/models/late": [
            "Lineage of the newest",
            "Acknowledge",
            "worse &lt;in fact&gt;",
            "degraded",
            "train it again",
            "parameter rounds",
        ],
        "/runs": ["2 runs of all models", "failed in evaluate"],
        f"/runs/late/{key}": ["gate: roc_auc 0.5 is below 0.6", "trial 0", "name: late"],
        "/batch": ["late@1", "in.parquet", "queued"],
        "/lineage": ["Id of a prediction"],
        "/lineage?of=late@2": ["late version 2", "no receipt"],
        "/reports/runs/late/reports/explore.html": ["explored"],
        "/api": ["GET /api/models/{name}"],
    }.items():
        answer = console.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), path
        assert [text for text in texts if text not in answer.text] == [], path
        assert answer.headers["x-frame-options"] == "DENY"


def test_an_empty_store_says_what_to_type(tmp_path):
    console = client(console_store.Store.open(tmp_path / "empty"))
    assert "mlsys deploy RECIPE" in console.get("/").text
    assert "mlsys run RECIPE" in console.get("/runs").text
    assert "mlsys batch" in console.get("/batch").text


def test_a_time_says_what_served_then(store, console):
    first = next(line for line in registry.history(store, "late") if line.version == 2).at
    page = console.get("/models/late", params={"at": first.isoformat()}).text
    assert "number 2" in page[page.index("What served when") : page.index("All lines")]
    assert console.get("/models/late", params={"at": "yesterday"}).status_code == 422


def test_json_says_the_same(console):
    (late,) = console.get("/api/models").json()
    assert late["aliases"] == {"champion": 1}
    assert console.get("/api/models/late").json()["windows"][0]["verdict"] == "degraded"
    assert console.get("/api/models/late/history").json()[-1]["kind"] == "rollback"
    page = console.get("/api/runs", params={"limit": "1"}).json()
    assert (len(page["runs"]), page["next"]) == (1, page["runs"][0]["key"])
    assert console.get("/api/status").json()["models"] == 1


def test_prometheus_reads_the_state_of_the_models(store, console):
    answer = console.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'mlsys_monitor_decision{model="late",decision="retrain"} 1' in answer.text
    assert client(store, peer="192.0.2.7").get("/metrics").status_code == 403


def test_each_path_of_the_contract_is_answered(console):
    document = console.get("/api/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    known = {each["key"] for each in console.get("/api/runs").json()["runs"]}
    for path, methods in document["paths"].items():
        if "get" in methods:
            asked = path.replace("{name}", "late").replace("{run}", "late" if "/why/" in path else min(known))
            query = {"of": "late@1"} if path.endswith("/lineage") else {}
            assert console.get(asked, params=query).status_code == 200, path
    acts = {path.rpartition("/")[2] for path, methods in document["paths"].items() if "post" in methods}
    assert acts == {*json_api.ACTS}


def test_links_lead_below_the_path_where_the_console_is(store):
    page = Client(routes.app(store), HERE, root_path="/console").get("/console/")
    assert 'href="/console/models/late"' in page.text


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/models/lat", 404, "did you mean"),
        ("/nothing", 404, "Not Found"),
        ("/reports/registry/ledger.jsonl", 404, "no such page"),
        ("/api/models/lat", 404, "did you mean"),
        ("/api/runs?limit=0", 422, "a number from 1 to 1,000"),
        ("/api/runs?limit=²", 422, "a number from 1 to 1,000"),
        ("/api/runs?nme=late", 422, "name"),
        ("/api/runs/late/none", 404, "no such run"),
    ],
)
def test_what_is_not_there_is_said_in_the_form_that_was_asked_for(console, path, status, text):
    answer = console.get(path)
    assert answer.status_code == status
    assert text in answer.text
    assert answer.headers["content-type"].startswith("application/json" if path.startswith("/api") else "text/html")


@pytest.mark.parametrize(
    ("host", "peer", "status"),
    [
        ("http://localhost:8050", "127.0.0.1", 200),
        ("http://[::1]:8050", "::1", 200),
        ("http://attacker.example:8050", "127.0.0.1", 403),
        ("http://127.0.0.1.attacker.example", "127.0.0.1", 403),
        ("http://127.0.0.1:8050", "192.0.2.7", 403),
    ],
)
def test_reading_needs_no_key_from_this_machine_alone(store, host, peer, status):
    assert client(store, host, peer).get("/").status_code == status


def test_a_reader_from_elsewhere_shows_a_key_with_the_scope_admin(store):
    away = client(store, "http://console.example", "192.0.2.7")
    keys = {scope: api_keys.add(store, [scope]).text for scope in ("predict", "admin")}
    asked = {name: away.get("/api/models", headers={"X-API-Key": text}).status_code for name, text in keys.items()}
    assert asked == {"predict": 403, "admin": 200}
    assert away.get("/api/models", auth=("anybody", keys["admin"])).status_code == 200
    refused = away.get("/api/models")
    assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")


def test_behind_a_proxy_a_store_with_keys_has_every_reader_show_one(store):
    console = Client(routes.served(str(store.root)), HERE)
    assert console.get("/").status_code == 200
    key = api_keys.add(store, ["admin"]).text
    console = Client(routes.served(str(store.root)), HERE)
    assert console.get("/").status_code == 401
    assert console.get("/", auth=("anybody", key)).status_code == 200


@pytest.mark.parametrize("sent", ["Basic", "Basic é", "Basic AAA", "Basic /w==", "Bearer x", "Basic " + "A" * 5000])
def test_a_password_that_is_none_opens_nothing(store, sent):
    api_keys.add(store, ["admin"])
    away = client(store, "http://console.example", "192.0.2.7")
    assert away.get("/", headers=[(b"authorization", sent.encode())]).status_code == 401


def test_a_password_that_a_browser_remembers_changes_nothing(store, admin):
    console, key = admin
    asked = {"version": 2, "reason": "not mine"}
    assert console.post("/api/models/late/promote", json=asked, auth=("anybody", key.text)).status_code == 401
    assert registry.resolve(store, "late").version == 1


def test_nothing_changes_without_a_key(store, console):
    said = console.post("/api/models/late/promote", json={"version": 2, "reason": "because"})
    assert (said.status_code, "mlsys keys add --scope admin" in said.text) == (403, True)
    key = api_keys.add(store, ["predict"]).text
    other = api_keys.add(store, ["admin"], models=["other"]).text
    console = client(store)
    for text, status in ((None, 401), ("mls_x_y", 401), (key, 403), (other, 403)):
        headers = {"X-API-Key": text} if text else {}
        answer = console.post("/api/models/late/promote", json={"version": 2, "reason": "because"}, headers=headers)
        assert answer.status_code == status
    assert registry.resolve(store, "late").version == 1


@pytest.fixture
def admin(store):
    """A client with a key, after the key was made."""
    key = api_keys.add(store, ["admin"])
    return client(store), key


def test_a_key_promotes_and_rolls_back_as_the_command_does(store, admin):
    console, key = admin
    asked = {"version": 2, "reason": "better now"}
    said = console.post("/api/models/late/promote", json=asked, headers={"X-API-Key": key.text})
    assert said.status_code == 200, said.text
    assert registry.resolve(store, "late").version == 2
    assert registry.history(store, "late")[-1].reason == f"better now (console, key {key.key.id})"
    back = console.post("/models/late/rollback", data={"reason": "no", "key": key.text})
    assert (back.status_code, back.headers["location"]) == (303, "/models/late")
    assert registry.resolve(store, "late").version == 1


def test_a_change_that_is_refused_says_why_and_changes_nothing(store, admin):
    console, key = admin
    registry.register(store, "alone", store_bundle(store), metrics={})
    registry.set_alias(store, "alone", "champion", 1, "first")
    headers = {"X-API-Key": key.text}
    refused = console.post("/api/models/alone/rollback", json={"reason": "no"}, headers=headers)
    assert (refused.status_code, "an earlier one to go back to" in refused.text) == (409, True)
    page = console.post("/models/alone/rollback", data={"reason": "no", "key": key.text})
    assert (page.status_code, "Rollback: refused" in page.text) == (409, True)
    unknown = console.post("/api/models/late/promote", json={"version": 9, "reason": "x"}, headers=headers)
    assert unknown.status_code == 404


def store_bundle(store):
    from mlsys import bundle

    return bundle.open(store, registry.resolve(store, "late", 1).digest)


def test_a_key_acknowledges_an_alert(store, admin):
    console, key = admin
    (alert,) = console.get("/api/models/late").json()["alerts"]
    assert (alert["acknowledged_at"], alert["muted"]) == (None, False)
    answer = console.post("/models/late/acknowledge", data={"alert": alert["id"], "key": key.text})
    assert (answer.status_code, answer.headers["location"]) == (303, "/models/late")
    assert console.get("/api/models/late").json()["alerts"][0]["acknowledged_at"]
    unknown = console.post("/api/models/late/acknowledge", json={"alert": "none"}, headers={"X-API-Key": key.text})
    assert unknown.status_code == 409


@pytest.mark.parametrize("target", ["", "/etc", "/etc/hostname", "../store", "."])
def test_no_file_of_the_machine_is_opened_for_whoever_asks_for_a_lineage(console, target):
    assert console.get("/api/lineage", params={"of": target}).status_code == 422


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"json": {"version": 2}}, 400),
        ({"json": {"version": True, "reason": "x"}}, 400),
        ({"json": {"version": 2, "reason": "x" * 501}}, 400),
        ({"json": {"version": 2, "reason": "two\nlines"}}, 400),
        ({"json": [1]}, 400),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"content": b"a=1", "headers": {"content-type": "text/plain"}}, 415),
        ({"content": b" " * 70_000, "headers": {"content-type": "application/json"}}, 413),
    ],
)
def test_a_change_that_is_not_well_formed_is_refused(store, admin, sent, status):
    console, key = admin
    headers = {"X-API-Key": key.text, **sent.pop("headers", {})}
    answer = console.post("/api/models/late/promote", headers=headers, **sent)
    assert (answer.status_code, json.loads(answer.text)["error"]["message"] != "") == (status, True)
    assert registry.resolve(store, "late").version == 1


def test_options_cannot_be_smuggled_in(store, admin):
    console, key = admin
    asked, before = {"version": 2, "alias": "--store=/tmp", "reason": "--help"}, registry.history(store, "late")
    answer = console.post("/api/models/late/promote", json=asked, headers={"X-API-Key": key.text})
    assert (answer.status_code, registry.history(store, "late")) == (409, before)
