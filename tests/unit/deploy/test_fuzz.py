"""No request of any kind is our fault: a byte-level fuzzer of ours, and schemathesis on the OpenAPI document.

``python benchmarks/fuzz.py`` does the same with 20,000 requests and more, and says what they cost the event loop; with
``--url``, against a server.
"""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode, checks

import hostile
import protocol_document
from asgi_client import below, call
from bundles import fit, requests, rows
from mlsys import registry
from mlsys.deploy import api_keys, asgi, batch_endpoint, batch_jobs, label_intake, openapi, responses
from mlsys.deploy.front import Front
from mlsys.deploy.guard import Guard
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.service import Service, load
from mlsys.recipe import BatchSection, LimitsSection
from mlsys.store import Store
from uvicorn_server import served

STATUSES = {200, 202, 307, 400, 404, 405, 408, 413, 415, 422, 504}
COUNT, CONNECTIONS, EXAMPLES = 3_000, 300, 40


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store.open(tmp_path_factory.mktemp("fuzz"))
        registry.register(store, "late", fit(store))
    return store


@pytest.fixture(scope="module")
def service(store):
    service = Service("late", PredictionLog(store.root / "predictions" / "late"))
    service.model = load(store, registry.resolve(store, "late", 1))
    yield service
    service.close()


@pytest.fixture(scope="module")
def app(service, store):
    """All of an endpoint; no cluster runs the jobs that are submitted."""
    limits = LimitsSection(body_seconds=0.2)
    jobs = batch_endpoint.routes(store, "late", BatchSection(queue=10_000), lambda: "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_jobs, "start", lambda _: None)
        patch.setattr(label_intake, "GATHER_S", 0.0)
        whole = asgi.app(asgi.RequestHandler(service, limits), [label_intake.route(store, service, limits), *jobs])
        ring = api_keys.KeyRing(api_keys.file_of(store))
        yield Front(Guard(whole, lambda _: (ring,), "late"))


def test_no_bytes_of_a_client_are_our_fault_and_each_answer_is_json(app, service):
    async def run():
        sent = hostile.requests(7, COUNT, requests(rows(3, seed=5)), "late")
        return [((method, path, headers, body), await call(app, method, path, body, headers))
                for method, path, headers, body in sent]  # fmt: skip

    outcomes = asyncio.run(run())
    wrong = [(request, status, answer) for request, (status, _, answer) in outcomes if status not in STATUSES]
    assert wrong == []
    for request, (status, headers, answer) in outcomes:
        if headers.get(b"content-type") == b"application/json":
            assert request[0] == "HEAD" or json.loads(answer)
            assert len(answer) < 60 * max(len(request[3]), 1_000) or request[1] == "/batch", "which lists jobs"
        else:
            assert status in {200, 307}
    assert len({status for _, (status, _, _) in outcomes}) >= 6, "the requests are of many kinds"


def test_no_bytes_of_a_connection_are_our_fault(app):
    """Lengths that lie, chunks that are none, noise: the server answers or ends the connection, and goes on."""
    with served(app) as address, ThreadPoolExecutor(8) as pool:
        host, _, port = address.partition(":")
        sent = list(hostile.wire(11, CONNECTIONS, requests(rows(3, seed=5)), "late"))
        answers = list(pool.map(lambda data: hostile.exchange((host, int(port)), data), sent))
        wrong = [(data, got) for data, got in zip(sent, answers, strict=True) if {*hostile.statuses(got)} - STATUSES]
        assert wrong == []
        assert len({status for got in answers for status in hostile.statuses(got)}) >= 5
        last = hostile.exchange((host, int(port)), b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert hostile.statuses(last) == [200]


def test_the_log_holds_every_row_that_was_answered_after_all_that(app, service):
    """Runs after the fuzzers in this file: what they sent has killed nothing."""
    asyncio.run(call(app, "POST", "/invocations", b'{"instances": [{"seats": 1}]}'))
    stats = service.log.stats()
    assert (stats["dropped"], stats["restarts"], stats["error"]) == (0, 0, None)
    service.log.close()
    assert service.log.stats()["logged"] == service.stats()["rows"]


def schema_of(app):
    return schemathesis.openapi.from_asgi("/late/openapi.json", app=below("/late", app))


OPERATIONS = [
    ("POST", "invocations"), ("POST", "v2/models/late/infer"), ("POST", "labels"), ("POST", "batch"), ("GET", "batch"),
    ("GET", "batch/{job}"), ("DELETE", "batch/{job}"), ("GET", "v2"), ("GET", "v2/health/live"),
    ("GET", "v2/health/ready"), ("GET", "v2/models/late"), ("GET", "v2/models/late/ready"), ("GET", "health"),
    ("GET", "ready"), ("GET", "stats"),
]  # fmt: skip


def operations_of(schema):
    return {(found.ok().method.upper(), found.ok().path): found.ok() for found in schema.get_all_operations()}


def test_every_operation_of_the_document_is_tried(app):
    assert sorted(operations_of(schema_of(app))) == sorted((method, f"/late/{path}") for method, path in OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_endpoint_answers_as_its_document_says(app, method, path):
    conform(operations_of(schema_of(app))[method, f"/late/{path}"])


def protocol(app):
    schema = schemathesis.openapi.from_dict(protocol_document.document())
    schema.app = app
    return operations_of(schema)


@pytest.mark.parametrize(("method", "path"), list(protocol(None)))
@pytest.mark.parametrize("name", ["late", None])
def test_the_endpoint_answers_as_the_protocols_document_says(app, method, path, name):
    """A client that knows the protocol alone: of the model that is served, and of others."""
    named = name and {"MODEL_NAME": name, "MODEL_VERSION": "1"}
    conform(protocol(app)[method, path], 20 if name else 5, path_parameters=named)


def test_answers_to_requests_that_work_are_of_the_protocols_schemas(app):
    body = {"id": "a", "inputs": [{"name": "seats", "shape": [2], "datatype": "INT64", "data": [100, 200]}]}
    schemas = {"components": {"schemas": protocol_document.SCHEMAS}}
    for method, path, name in (
        ("POST", "/v2/models/late/versions/1/infer", "Response"), ("GET", "/v2/models/late/versions/1", "Model"),
        ("GET", "/v2/models/late/ready", "Ready"), ("GET", "/v2/", "Server"), ("GET", "/v2/health/live", "Live"),
    ):  # fmt: skip
        sent = json.dumps(body).encode() if method == "POST" else b""
        status, _, answer = asyncio.run(call(app, method, path, sent))
        assert status == 200
        jsonschema.validate(json.loads(answer), {**protocol_document.refers(name), **schemas})


def conform(operation, num_examples=EXAMPLES, **fixed):
    """Send what the document allows and, as bodies, what it does not; each answer is one that the document states."""
    has_body = operation.method.upper() == "POST"
    for mode in GenerationMode if has_body else (GenerationMode.POSITIVE,):
        answer_as_stated(operation.as_strategy(mode, **fixed), num_examples if has_body else 10)


def answer_as_stated(cases, num_examples):
    conformance = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
        checks.negative_data_rejection,
        checks.unsupported_method,
    ]

    @seed(1)
    @settings(max_examples=num_examples, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=cases)
    def send(case):
        case.call_and_validate(checks=conformance)

    send()


def test_every_error_is_of_the_form_that_the_document_states(service):
    document = openapi.document(service.model, "/late")
    for form, as_text in (("invocations", False), ("v2/models/late/infer", True)):
        stated = document["paths"][f"/late/{form}"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
        body = json.loads(responses.error_body(ValueError("x"), as_text=as_text))
        jsonschema.validate(body, {**stated, "components": document["components"]})
