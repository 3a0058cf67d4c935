"""No request of any kind is our fault: a byte-level fuzzer of ours, and schemathesis on the OpenAPI document.

``python benchmarks/fuzz.py`` does the same with 20,000 requests and more, and says what they cost the event loop.
"""

import asyncio
import json

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import checks

import hostile
from asgi_client import below, call
from bundles import fit, requests, rows
from mlsys.deploy import asgi, openapi, responses
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.service import Service, load
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.store import Store

STATUSES = {200, 307, 400, 404, 405, 408, 413, 415, 422}
COUNT, EXAMPLES = 3_000, 60


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("fuzz"))
    service = Service("late", PredictionLog(store.root / "predictions" / "late"))
    service.model = load(store, LedgerEntry("late", 1, fit(store).digest))
    yield service
    service.close()


@pytest.fixture(scope="module")
def app(service):
    return asgi.app(asgi.RequestHandler(service, LimitsSection(body_seconds=0.2)))


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
            json.loads(answer)
            assert len(answer) < 60 * max(len(request[3]), 1_000)
        else:
            assert status in {200, 307}
    assert len({status for _, (status, _, _) in outcomes}) >= 6, "the requests are of many kinds"


def test_the_log_holds_every_row_that_was_answered_after_all_that(app, service):
    """Runs after the fuzzers in this file: what they sent has killed nothing."""
    asyncio.run(call(app, "POST", "/invocations", b'{"instances": [{"seats": 1}]}'))
    stats = service.log.stats()
    assert (stats["dropped"], stats["restarts"], stats["error"]) == (0, 0, None)
    service.log.close()
    assert service.log.stats()["logged"] == service.stats()["rows"]


def schema_of(service, app):
    return schemathesis.openapi.from_asgi("/late/openapi.json", app=below("/late", app))


@pytest.mark.parametrize("path", ["invocations", "v2/models/late/infer", "ready", "stats", "health", "v2/models/late"])
def test_the_endpoint_answers_as_its_document_says(service, app, path):
    schema = schema_of(service, app)
    operations = [found.ok() for found in schema.get_all_operations() if found.ok().path == f"/late/{path}"]
    conformance = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    (operation,) = operations

    @seed(1)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy())
    def conform(case):
        case.call_and_validate(checks=conformance)

    conform()


def test_every_error_is_of_the_form_that_the_document_states(service):
    document = openapi.document(service.model, "/late")
    for form, as_text in (("invocations", False), ("v2/models/late/infer", True)):
        stated = document["paths"][f"/late/{form}"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
        body = json.loads(responses.error_body(ValueError("x"), as_text=as_text))
        jsonschema.validate(body, {**stated, "components": document["components"]})
