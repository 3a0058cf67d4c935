import asyncio
import json
import math
import time
import uuid

import httpx
import pytest
from polars.exceptions import PanicException

from bundles import fit, requests, rows
from mlsys import recipe
from mlsys.deploy import asgi, bodies, responses
from mlsys.deploy.service import LoadedModel, Service, load
from mlsys.predict import Predictor
from mlsys.registry import LedgerEntry
from mlsys.schema import TaskKind
from mlsys.store import Store

LIMIT = 200_000


def app_of(service, **limits):
    return asgi.app(asgi.RequestHandler(service, recipe.LimitsSection(**{"body_bytes": LIMIT, **limits})))


class Client:
    """Sends requests to an ASGI app in this process."""

    def __init__(self, app):
        self.app = app

    def get(self, path):
        return asyncio.run(self._send("GET", path))

    def post(self, path, **content):
        return asyncio.run(self._send("POST", path, **content))

    async def _send(self, method, path, **content):
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **content)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def models(store):
    loaded = {}
    for kind in TaskKind:
        loaded[kind] = load(store, LedgerEntry("late", 3, fit(store, kind).digest))
    return loaded


@pytest.fixture
def service(models):
    service = Service("late", log=None)
    service.model = models[TaskKind.BINARY]
    return service


@pytest.fixture
def client(service):
    return Client(app_of(service))


@pytest.fixture(scope="module")
def table():
    return rows(40, seed=21)


@pytest.fixture(scope="module")
def truth(models, table):
    return models[TaskKind.BINARY].predictor.table(table)


def forms(table):
    records = requests(table)
    names = list(records[0])
    order = [name for name in names if name not in ("flight", "constant")]
    return {
        "dataframe_records": records,
        "dataframe_split": {"columns": names, "data": [[row[name] for name in names] for row in records]},
        "instances": [[row[name] for name in order] for row in records],
        "inputs": {name: [row[name] for row in records] for name in order},
    }


@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "instances", "inputs"])
@pytest.mark.parametrize("num_rows", [1, 16, 17, 40])
def test_every_form_and_size_answers_the_bits_of_the_process(client, table, truth, form, num_rows):
    answer = client.post("/invocations", json={form: forms(table.slice(0, num_rows))[form]})
    assert answer.status_code == 200
    body = answer.json()
    assert body["predictions"] == truth.prediction[:num_rows].tolist()
    assert body["probabilities"] == truth.probabilities[:num_rows].tolist()
    assert body["classes"] == [False, True]
    assert body["model"]["version"] == 3


def test_a_fault_in_many_records_is_told_by_its_row_and_a_column_that_one_lacks_is_null_there(client, models, table):
    records = requests(table)
    records[23] |= {"seats": "many"}
    answer = client.post("/invocations", json={"dataframe_records": records})
    (fault,) = answer.json()["error"]["violations"]
    assert (answer.status_code, fault["row"], fault["field"]) == (422, 23, "seats")
    named = models[TaskKind.BINARY].predictor
    name = next(each for each in named.contract.order if named.bundle.schema[each].nullable)
    short, null = ([dict(record) for record in requests(table)] for _ in range(2))
    null[5][name] = short[5].pop(name) and None
    answers = [client.post("/invocations", json={"dataframe_records": each}).json() for each in (short, null)]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]


def inference_request(table):
    datatypes = {"seats": "INT64", "night": "BOOL", "distance": "FP64", "load": "FP32"}
    return {
        "id": "r7",
        "inputs": [
            {"name": name, "shape": [len(values)], "datatype": datatypes.get(name, "BYTES"), "data": values}
            for name, values in forms(table)["inputs"].items()
        ],
    }


def test_open_inference_answers_the_bits_of_the_process(client, table, truth):
    answer = client.post("/v2/models/late/infer", json=inference_request(table))
    assert answer.status_code == 200
    body = answer.json()
    outputs = {output["name"]: output for output in body["outputs"]}
    assert outputs["prediction"]["datatype"] == "BOOL"
    assert outputs["prediction"]["data"] == truth.prediction.tolist()
    assert outputs["probabilities"]["shape"] == [40, 2]
    assert outputs["probabilities"]["data"] == truth.probabilities.ravel().tolist()
    assert (body["id"], body["model_name"], body["model_version"]) == ("r7", "late", "3")


@pytest.mark.parametrize(
    ("kind", "datatype"), [(TaskKind.BINARY, "BOOL"), (TaskKind.MULTICLASS, "BYTES"), (TaskKind.REGRESSION, "FP64")]
)
def test_each_task_answers_in_its_own_type(service, models, kind, datatype):
    service.model = models[kind]
    client = Client(app_of(service))
    example = models[kind].predictor.bundle.example
    body = client.post("/invocations", json={"instances": [example]}).json()
    truth = models[kind].predictor.rows([example])
    assert body["predictions"] == truth.prediction.tolist()
    assert ("probabilities" in body) == (kind is not TaskKind.REGRESSION)
    metadata = client.get("/v2/models/late").json()
    assert metadata["outputs"][0] == {"name": "prediction", "datatype": datatype, "shape": [-1]}


def test_the_clients_ids_come_back_and_others_are_made(client):
    seats = {"seats": 100}
    own = client.post("/invocations", json={"instances": [{**seats, "flight": "F1"}, seats]}).json()["prediction_ids"]
    assert own[0] == "F1"
    assert uuid.UUID(own[1]).version == 7
    params = {"prediction_ids": ["p", "q"]}
    given = client.post("/invocations", json={"instances": [seats, seats], "params": params}).json()
    assert given["prediction_ids"] == ["p", "q"]
    wrong = client.post("/invocations", json={"instances": [seats], "params": params})
    assert wrong.json()["error"]["violations"][0]["got"] == "2 ids"


def test_unknown_categories_are_answered_and_counted(client):
    body = client.post("/invocations", json={"instances": [{"seats": 1, "carrier": "??"}]}).json()
    assert body["unseen"] == {"carrier": 1}


def test_values_that_training_never_saw_or_too_seldom_are_counted_on_request(service, store):
    few = recipe.FeaturesSection(columns={"carrier": {"operation": "codes", "min_rows": 1_000}})
    service.model = load(store, LedgerEntry("late", 4, fit(store, features=few).digest))
    client = Client(app_of(service))
    instances = [{"seats": 1, "carrier": name} for name in ("B6", "B6", "??", None)]
    counted = client.post("/invocations", json={"instances": instances, "params": {"counts": True}}).json()
    assert (counted["unseen"], counted["rare"]) == ({"carrier": 1}, {"carrier": 2})
    none = client.post("/invocations", json={"instances": instances[3:], "params": {"counts": True}}).json()
    assert (none["unseen"], none["rare"]) == ({}, {})
    assert "rare" not in client.post("/invocations", json={"instances": instances}).json()
    many = client.post("/invocations", json={"instances": instances * 10, "params": {"counts": True}}).json()
    assert (many["unseen"], many["rare"]) == ({"carrier": 10}, {"carrier": 20})
    tensors = [
        {"name": "seats", "shape": [4], "datatype": "INT64", "data": [1] * 4},
        {"name": "carrier", "shape": [4], "datatype": "BYTES", "data": ["B6", "B6", "??", None]},
    ]
    body = {"inputs": tensors, "parameters": {"counts": True}}
    answered = client.post("/v2/models/late/infer", json=body).json()["parameters"]
    assert (answered["unseen"], answered["rare"]) == (1, 2)
    refused = client.post("/invocations", json={"instances": instances, "params": {"counts": 1}})
    assert refused.json()["error"]["violations"][0]["field"] == "params.counts"


def test_wrong_rows_are_422_with_every_fault(client):
    answer = client.post("/invocations", json={"instances": [{"seats": "3", "nigth": True}, {}]})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] in ("unprocessable_entity", "unprocessable_content")
    assert error["violations"] == [
        {"row": 0, "field": "seats", "got": "text '3'", "expected": "an integer (int64) of at least 0"},
        {
            "row": 0,
            "field": "nigth",
            "got": "a column that the model does not know",
            "expected": "only the model's columns; did you mean 'night'?",
        },
        {"row": 1, "field": "seats", "got": "nothing", "expected": "an integer (int64) of at least 0"},
    ]


def test_open_inference_errors_are_text_with_the_faults_beside(client):
    answer = client.post("/v2/models/late/infer", json={"inputs": []})
    assert answer.status_code == 200
    tensor = {"name": "seats", "shape": [1], "datatype": "FP64", "data": [1.5]}
    answer = client.post("/v2/models/late/infer", json={"inputs": [tensor]})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("request does not fit the model: row 0, field 'seats': got number 1.5")
    assert answer.json()["violations"][0]["field"] == "seats"
    assert client.post("/v2/models/other/infer", json={}).json() == {
        "error": "no model 'other' here; this endpoint serves 'late'"
    }


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"content": b"{"}),
        (400, {"content": b"{}"}),
        (413, {"content": b" " * (LIMIT + 1)}),
        (415, {"content": b"a=1", "headers": {"content-type": "application/x-www-form-urlencoded"}}),
        (422, {"content": b'{"instances": [{}]}'}),
    ],
)
def test_each_wrong_request_has_its_status_and_a_json_answer(client, service, status, request_):
    headers = {"content-type": "application/json", **request_.get("headers", {})}
    answer = client.post("/invocations", content=request_["content"], headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["message"]
    assert service.stats()["errors"] == {str(status): 1}


def test_unknown_paths_and_methods_are_json_too(client):
    assert client.get("/nothing").status_code == 404
    assert client.get("/nothing").json()["error"]["code"] == "not_found"
    assert client.get("/invocations").status_code == 405


def test_a_body_without_a_content_type_or_with_a_charset_is_json(client):
    body = b'{"instances": [{"seats": 1}]}'
    assert client.post("/invocations", content=body).status_code == 200
    headers = {"content-type": "application/json; charset=utf-8"}
    assert client.post("/invocations", content=body, headers=headers).status_code == 200


class Broken:
    """A predictor with a fault of our own."""

    def __init__(self, predictor, fault):
        self.contract = predictor.contract
        self.bundle = predictor.bundle
        self.lookup = predictor.lookup
        self.fault = fault

    def conformed_rows(self, records):
        raise self.fault


@pytest.mark.parametrize("kind", [ZeroDivisionError, PanicException])
def test_our_own_fault_is_500_and_tells_no_secrets(service, client, models, caplog, kind):
    fault = kind("a secret of the house")
    service.model = LoadedModel(service.model.entry, Broken(models[TaskKind.BINARY].predictor, fault))
    answer = client.post("/invocations", json={"instances": [{"seats": 1}]})
    assert answer.status_code == 500
    message = answer.json()["error"]["message"]
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    incident = message.split()[2].rstrip(";")
    assert incident in caplog.text
    assert "a secret of the house" in caplog.text


def test_without_a_model_it_is_alive_and_not_ready(service, client):
    service.model = None
    assert client.get("/health").status_code == 200
    for path in ("/ready", "/openapi.json", "/docs", "/v2/models/late"):
        assert client.get(path).status_code == 503
    assert client.post("/invocations", json={"instances": []}).status_code == 503


def test_ready_says_which_model(client, models):
    digest = models[TaskKind.BINARY].entry.digest
    assert client.get("/ready").json() == {"status": "ready", "model": {"name": "late", "version": 3, "digest": digest}}


def test_a_long_request_does_not_hold_up_a_health_check(service, models, table):
    """While a thread works on a large body, the event loop answers others."""
    started, go_on = asyncio.Event(), None
    predictor = models[TaskKind.BINARY].predictor

    class Slow:
        contract, bundle, lookup = predictor.contract, predictor.bundle, predictor.lookup

        def conformed_table(self, rows_):
            loop.call_soon_threadsafe(started.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(timeout=30)
            return predictor.conformed_table(rows_)

    service.model = LoadedModel(service.model.entry, Slow())
    body = json.dumps({"dataframe_records": requests(table) * 20}).encode()
    assert len(body) > asgi.SMALL_BODY_BYTES

    async def both():
        nonlocal go_on, loop
        go_on, loop = asyncio.Event(), asyncio.get_running_loop()
        endpoint = asgi.RequestHandler(service, recipe.LimitsSection())
        slow = asyncio.create_task(endpoint.answer(asgi.MLFLOW, bodies.Body(body), time.monotonic()))
        await asyncio.wait_for(started.wait(), timeout=30)
        small = await endpoint.infer(bodies.Body(b'{"inputs": []}'))
        assert not slow.done()
        go_on.set()
        return small[0], (await slow).status_code

    loop = None
    Slow.conformed_rows = lambda self, records: predictor.conformed_rows(records)
    assert asyncio.run(both()) == (200, 200)


def test_a_request_keeps_the_model_it_started_with(service, models, store):
    other = load(store, LedgerEntry("late", 4, fit(store, seed=5).digest))
    before = service.model
    request = asgi.requests.mlflow(b'{"instances": [{"seats": 1}]}', [])
    service.model = other
    assert service.answer(before, request).model.entry.version == 3
    assert service.answer(service.model, request).model.entry.version == 4


def test_the_openapi_document_says_what_the_model_takes(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    record = document["components"]["schemas"]["Record"]
    assert record["required"] == ["seats"]
    assert record["properties"]["seats"] == {"type": "integer", "minimum": 0.0}
    assert record["properties"]["distance"] == {"type": ["number", "null"], "description": "in km"}
    assert record["properties"]["departs"] == {"type": ["string", "null"], "format": "date-time"}
    assert "y" not in record["properties"]
    assert "/late/invocations" in document["paths"]


def test_the_example_of_the_document_is_a_request_that_works(client):
    document = client.get("/openapi.json").json()
    content = document["paths"]["/late/invocations"]["post"]["requestBody"]["content"]
    example = content["application/json"]["schema"]["example"]
    assert client.post("/invocations", json=example).status_code == 200


def test_the_page_for_people_needs_no_network(client):
    page = client.get("/docs").text
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "distance" in page
    assert client.get("/").headers["location"] == "/late/docs"


def test_stats_count_requests_rows_and_latencies(client):
    for _ in range(3):
        client.post("/invocations", json={"instances": [{"seats": 1}, {"seats": 2}]})
    stats = client.get("/stats").json()
    assert stats["requests"] == 3
    assert stats["rows"] == 6
    assert stats["errors"] == {}
    assert set(stats["latency_ms"]) == {"p50", "p90", "p99"}
    assert stats["log"] is None


def test_the_predictor_alone_and_the_service_say_the_same(models, table):
    predictor = models[TaskKind.BINARY].predictor
    assert isinstance(predictor, Predictor)
    assert responses.metadata(models[TaskKind.BINARY])["platform"] == "mlsys-xgboost"


@pytest.mark.parametrize(("family", "path"), [("linear", "library"), ("xgboost", "single row")])
def test_the_statistics_say_by_which_code_single_rows_are_predicted(store, family, path):
    service = Service("late", log=None)
    assert service.stats()["paths"] == {}
    service.model = load(store, LedgerEntry("late", 3, fit(store, TaskKind.BINARY, family=family).digest))
    assert Client(app_of(service)).get("/stats").json()["paths"] == {"model": path}


@pytest.mark.parametrize("kind", TaskKind)
def test_an_explanation_adds_up_to_its_margin(service, client, models, table, kind):
    service.model = models[kind]
    sent = requests(table)
    asked = client.post("/invocations", json={"dataframe_records": sent[:4], "params": {"explain": 2}})
    plain = client.post("/invocations", json={"dataframe_records": sent[:4]}).json()
    assert asked.status_code == 200, asked.text
    body = asked.json()
    assert {key: body[key] for key in plain if key != "prediction_ids"} == {
        key: value for key, value in plain.items() if key != "prediction_ids"
    }
    names = {"log_odds": "binary multilabel", "score": "multiclass ranking", "value": "regression"}
    assert kind.value in names[body["explanations"]["scale"]]
    for number, row in enumerate(body["explanations"]["rows"]):
        listed = [each["contribution"] for each in row["contributions"]]
        assert len(listed) == 2
        assert abs(listed[0]) >= abs(listed[1])
        assert row["base"] + sum(listed) + row["rest"] == pytest.approx(row["margin"], abs=1e-12)
        if kind is TaskKind.BINARY:
            p = body["probabilities"][number][1]
            assert row["of"] is True
            assert row["margin"] == pytest.approx(math.log(p / (1 - p)), rel=1e-4, abs=1e-5)
        elif kind is TaskKind.MULTICLASS:
            assert row["of"] == body["predictions"][number]
        elif kind is TaskKind.REGRESSION:
            assert "of" not in row
            assert row["margin"] == pytest.approx(body["predictions"][number], rel=1e-5)


def test_an_explanation_of_all_columns_has_no_rest_and_names_columns_once(client, table):
    body = {"dataframe_records": requests(table)[:1], "params": {"explain": 100}}
    (row,) = client.post("/invocations", json=body).json()["explanations"]["rows"]
    names = [each["column"] for each in row["contributions"]]
    assert sorted(names) == sorted(set(names))
    assert {"distance", "carrier", "night"} <= set(names)
    assert row["rest"] == 0


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "5", 1001, [5]])
def test_a_number_of_columns_that_is_none_is_refused(client, table, wrong):
    asked = client.post("/invocations", json={"dataframe_records": requests(table)[:1], "params": {"explain": wrong}})
    assert asked.status_code == 422
    assert asked.json()["error"]["violations"][0]["field"] == "params.explain"


def test_explanations_of_many_rows_are_refused(client, table):
    sent = requests(table)[:1] * 101
    asked = client.post("/invocations", json={"dataframe_records": sent, "params": {"explain": 5}})
    assert asked.status_code == 422
    assert "mlsys predict --explain" in asked.json()["error"]["message"]


def test_a_model_without_an_exact_method_names_families_that_have_one(store, service, client, table):
    service.model = load(store, LedgerEntry("late", 1, fit(store, family="kernel").digest))
    body = {"dataframe_records": requests(table)[:1], "params": {"explain": 5}}
    asked = client.post("/invocations", json=body)
    assert asked.status_code == 422
    assert "lightgbm" in asked.json()["error"]["violations"][0]["expected"]
    assert client.post("/invocations", json={**body, "params": {}}).status_code == 200
