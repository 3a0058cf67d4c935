"""An endpoint that looks the columns of feature tables up: what it asks for, answers, counts, logs and refuses."""

import asyncio
import datetime as dt
import json
import shlex

import httpx
import pyarrow.parquet as pq
import pytest

import joined
from mlsys.deploy import asgi, openapi
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.service import Service, load
from mlsys.features.online import publishing
from mlsys.features.online.lookup import open_store
from mlsys.predict import Predictor
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.store import Store

LATER = joined.START + dt.timedelta(days=1000)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def model(store):
    return joined.fit(store)


def publish(address, store, model, history="400d"):
    online = open_store(address, store.root)
    for view in model.views:
        publishing.publish(online, view, joined.tables()[view.name], history=history, until=LATER)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def address(request, store, model):
    address = "sqlite" if request.param == "sqlite" else request.getfixturevalue("redis_server")
    publish(address, store, model)
    return address


@pytest.fixture(scope="module")
def loaded(store, model, address):
    return load(store, LedgerEntry("joined", 1, model.digest), address)


@pytest.fixture
def service(loaded, tmp_path):
    service = Service("joined", PredictionLog(tmp_path / "log", flush_s=0.05))
    service.model = loaded
    yield service
    service.close()


def send(service, path="/invocations", method="POST", **content):
    async def call():
        transport = httpx.ASGITransport(
            app=asgi.app(asgi.RequestHandler(service, LimitsSection())), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **content)

    return asyncio.run(call())


SENT = joined.rows(40, seed=3)


def body_of(rows, form):
    names = list(rows[0])
    content = {
        "dataframe_records": rows,
        "dataframe_split": {"columns": names, "data": [list(row.values()) for row in rows]},
        "inputs": {name: [row[name] for row in rows] for name in names},
    }
    return {form: content[form]}


@pytest.mark.parametrize("num_rows", [1, 16, 40])
@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "inputs"])
def test_keys_alone_are_answered_with_the_bits_of_joined_rows(service, model, num_rows, form):
    answer = send(service, json=body_of(joined.requests(SENT.slice(0, num_rows)), form))
    assert answer.status_code == 200
    truth = Predictor(model).table(joined.join(SENT.slice(0, num_rows)))
    assert answer.json()["probabilities"] == truth.probabilities.tolist()
    assert "features" not in answer.json()


@pytest.mark.parametrize("num_rows", [1, 16, 17, 40])
@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "inputs"])
def test_rows_with_all_columns_are_answered_alike_in_every_form(service, model, num_rows, form):
    table = joined.join(SENT.slice(0, num_rows))
    answer = send(service, json=body_of(joined.requests(table, keys_only=False), form)).json()
    assert answer["probabilities"] == Predictor(model).table(table).probabilities.tolist()
    assert answer["prediction_ids"] == [f"F3-{row}" for row in range(num_rows)]
    assert service.stats()["lookup"] == {"weather": {"given": num_rows}, "planes": {"given": num_rows}}


def test_records_with_all_columns_are_refused_by_their_rows(service):
    rows = joined.requests(joined.join(SENT), keys_only=False)
    rows[17]["plane_seats"] = "many"
    rows[30]["flight"] = "x" * 257
    answer = send(service, json={"dataframe_records": rows})
    assert answer.status_code == 422
    faults = answer.json()["error"]["violations"]
    assert [(fault["row"], fault["field"]) for fault in faults] == [(17, "plane_seats")]
    rows[17]["plane_seats"] = None
    faults = send(service, json={"dataframe_records": rows}).json()["error"]["violations"]
    assert [(fault["row"], fault["field"]) for fault in faults] == [(30, "flight")]


def test_records_of_which_one_lacks_columns_are_looked_up_for_that_one(service):
    rows = joined.requests(joined.join(SENT), keys_only=False)
    rows[17] = joined.requests(SENT)[17]
    send(service, json={"dataframe_records": rows})
    counts = service.stats()["lookup"]
    assert (counts["weather"]["given"], counts["planes"]["given"]) == (39, 39)
    assert {name: sum(of_view.values()) for name, of_view in counts.items()} == {"weather": 40, "planes": 40}


@pytest.mark.parametrize("num_rows", [1, 40])
def test_the_answer_says_on_request_what_was_looked_up_and_how_old_it_is(service, num_rows):
    rows = joined.requests(SENT.slice(0, num_rows))
    body = send(service, json={"dataframe_records": rows, "params": {"features": True}}).json()
    expected = joined.join(SENT.slice(0, num_rows)).select(["temp", "wind", "plane_seats", "plane_maker"]).to_pylist()
    found = body["features"]
    assert [{**row["weather"]["values"], **row["planes"]["values"]} for row in found] == expected
    for row in found:
        assert row["planes"]["status"] in {"matched", "missing"}
        assert "age_s" not in row["planes"]
        assert row["weather"]["status"] != "matched" or 0 <= row["weather"]["age_s"] <= 7200


def test_columns_that_were_sent_are_said_to_be_given(service):
    rows = joined.requests(joined.join(SENT.slice(0, 1)), keys_only=False)
    body = send(service, json={"dataframe_records": rows, "params": {"features": True}}).json()
    assert body["features"] == [{"weather": {"status": "given"}, "planes": {"status": "given"}}]


def test_look_ups_are_counted_and_logged_with_the_values_found(service):
    send(service, json={"dataframe_records": joined.requests(SENT)})
    _, looked = service.model.predictor.lookup.records(joined.requests(SENT))
    assert service.stats()["lookup"] == {name: dict(sorted(c.items())) for name, c in looked.counts.items()}
    service.close()
    (file,) = service.log.folder.rglob("*.parquet")
    logged = pq.ParquetFile(file).read().to_pylist()
    expected = joined.join(SENT).to_pylist()
    assert [(row["temp"], row["plane_maker"]) for row in logged] == [(r["temp"], r["plane_maker"]) for r in expected]
    assert [row["unknown"] for row in logged] == looked.unknown()
    assert max(looked.unknown()) == 2


def test_a_part_of_a_join_is_422_and_names_the_rest(service):
    row = {**joined.requests(SENT)[0], "plane_seats": 3}
    for form in ({"dataframe_records": [row]}, {"inputs": {name: [value] for name, value in row.items()}}):
        answer = send(service, json=form)
        assert answer.status_code == 422
        (fault,) = answer.json()["error"]["violations"]
        assert (fault["field"], fault["got"]) == ("plane_maker", "nothing")


def test_open_inference_takes_keys_too(service, model):
    inputs = [
        {"name": "origin", "shape": [1], "datatype": "BYTES", "data": ["EWR"]},
        {"name": "tail", "shape": [1], "datatype": "BYTES", "data": ["N3"]},
        {"name": "at", "shape": [1], "datatype": "BYTES", "data": ["2013-01-05T10:20:00Z"]},
        {"name": "distance", "shape": [1], "datatype": "FP64", "data": [700.0]},
    ]
    answer = send(service, "/v2/models/joined/infer", json={"inputs": inputs})
    row = {one["name"]: one["data"][0] for one in inputs}
    assert answer.json()["outputs"][1]["data"] == service.model.predictor.rows([row]).probabilities.ravel().tolist()
    metadata = send(service, "/v2/models/joined", method="GET").json()
    required = {one["name"] for one in metadata["inputs"] if one["parameters"]["required"]}
    assert required == {"origin", "tail", "distance"}


def test_the_contract_asks_for_keys_and_its_example_works_when_pasted(service):
    document = send(service, "/openapi.json", method="GET").json()
    record = document["components"]["schemas"]["Record"]
    assert set(record["example"]) == {"flight", "at", "origin", "tail", "distance"}
    assert record["properties"]["tail"]["description"] == "key of planes"
    assert record["properties"]["temp"]["description"] == "looked up in weather unless sent"
    page = send(service, "/docs", method="GET").text
    assert "key of planes; null if unknown" in page
    assert "looked up in weather unless sent" in page
    *_, body = shlex.split(openapi.curl("http://test", record["example"]))
    answer = send(service, json={**json.loads(body), "params": {"features": True}})
    assert answer.status_code == 200
    newest = max(joined.tables()["weather"]["hour"].to_pylist())
    assert record["example"]["at"] == newest.isoformat()
    assert answer.json()["features"][0]["planes"]["status"] == "matched"


def test_a_store_that_is_not_there_is_503_for_keys_and_no_matter_for_whole_rows(store, model, free_port):
    service = Service("joined", None)
    service.model = load(store, LedgerEntry("joined", 1, model.digest), f"redis://:secret@127.0.0.1:{free_port}/0")
    answer = send(service, json={"dataframe_records": joined.requests(SENT)[:1]})
    assert answer.status_code == 503
    assert "secret" not in answer.text
    assert f"online store redis://127.0.0.1:{free_port}/0" in answer.json()["error"]["message"]
    whole = joined.requests(joined.join(SENT.slice(0, 1)), keys_only=False)
    assert send(service, json={"dataframe_records": whole}).status_code == 200
    document = send(service, "/openapi.json", method="GET")
    assert "temp" in document.json()["components"]["schemas"]["Record"]["example"]
    assert service.stats()["errors"] == {"503": 1}


def test_a_table_that_was_never_published_is_503_and_says_what_to_do(model, store, tmp_path):
    service = Service("joined", None)
    elsewhere = Store.open(tmp_path)
    joined.fit(elsewhere)
    service.model = load(elsewhere, LedgerEntry("joined", 1, model.digest), "sqlite")
    answer = send(service, json={"dataframe_records": joined.requests(SENT)[:1]})
    assert answer.status_code == 503
    assert "mlsys materialize" in answer.json()["error"]["message"]


def test_without_a_lookup_absent_columns_are_null_as_ever(store, model):
    service = Service("joined", None)
    service.model = load(store, LedgerEntry("joined", 1, model.digest))
    row = {name: value for name, value in joined.requests(SENT)[0].items() if name != "tail"}
    answer = send(service, json={"dataframe_records": [row], "params": {"features": True}})
    assert answer.status_code == 200
    assert "features" not in answer.json()
    assert answer.json()["probabilities"] == Predictor(model).rows([row]).probabilities.tolist()
    assert service.stats()["lookup"] == {}
