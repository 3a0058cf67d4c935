"""One client cannot hurt the others: what a body can do is bounded, and no body is our fault."""

import asyncio
import base64
import gzip
import json
import sys
import time
import zlib

import pytest

from asgi_client import call
from bundles import fit
from mlsys import errors
from mlsys.deploy import asgi, bodies, requests, responses, tensors
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.service import LoadedModel, Service, load
from mlsys.predict import validation
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.store import Store

LIMITS = {"body_bytes": 200_000, "rows": 2_000, "columns": 300, "body_seconds": 0.2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("hostile"))
    return load(store, LedgerEntry("late", 3, fit(store).digest))


def handler_of(model, **limits):
    service = Service("late", log=None)
    service.model = model
    return asgi.RequestHandler(service, LimitsSection(**{**LIMITS, **limits}))


def post(handler, body, path="/invocations", **headers):
    pairs = [(name.replace("_", "-"), value.encode("latin-1")) for name, value in headers.items()]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, found, answer = asyncio.run(call(asgi.app(handler), "POST", path, data, pairs))
    return status, found, json.loads(answer) if answer else None


INFER = "/v2/models/late/infer"
SEATS = {"name": "seats", "shape": [1], "datatype": "INT64", "data": [1]}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (INFER, {"inputs": [SEATS], "outputs": 5}, 422),
        (INFER, {"inputs": [SEATS], "outputs": [{"name": []}]}, 422),
        (INFER, {"inputs": [SEATS], "outputs": [5]}, 422),
        (INFER, {"inputs": [SEATS], "parameters": []}, 422),
        (INFER, {"inputs": [SEATS], "id": ["x"]}, 422),
        (INFER, {"inputs": [SEATS], "id": "\ud800"}, 422),
        (INFER, {"inputs": [{**SEATS, "datatype": []}]}, 422),
        (INFER, {"inputs": [{**SEATS, "datatype": {"a": 1}}]}, 422),
        (INFER, {"inputs": [{**SEATS, "name": "\ud800"}]}, 422),
        (INFER, {"inputs": [{**SEATS, "shape": [[]]}]}, 422),
        (INFER, {"inputs": [SEATS, {"name": "prediction_id", "shape": [1], "datatype": "BYTES", "data": [[]]}]}, 422),
        ("/invocations", {"instances": [{"seats": 1}], "params": {"prediction_ids": ["\ud800"]}}, 422),
        ("/invocations", {"instances": [{"seats": 1}], "params": {"prediction_ids": ["x" * 1000]}}, 422),
        ("/invocations", {"instances": [{"seats": 1}], "params": {"prediction_ids": [""]}}, 422),
        ("/invocations", {"instances": [{"seats": 1, "flight": "x" * 1000}]}, 422),
        ("/invocations", {"instances": [{"\ud800": 1}]}, 422),
        ("/invocations", {"\ud800": 1}, 400),
        ("/invocations", {"dataframe_split": {"columns": [["a"]], "data": [[1]]}}, 422),
        ("/invocations", {"dataframe_split": {"columns": [{}], "data": [[1]]}}, 422),
        ("/invocations", {"dataframe_split": {"columns": ["\ud800"], "data": [[1]]}}, 422),
        ("/invocations", {"instances": [{"seats": {"a": [1]}}]}, 422),
        ("/invocations", b'{"instances": [{"seats": 1, "distance": 1e400}]}', 422),
        ("/invocations", b'{"inputs": {"seats": [1], "distance": [-1e400]}}', 422),
        ("/invocations", b'{"instances": [{"seats": 1, "distance": ' + b"9" * 400 + b"}]}", 422),
        ("/invocations", b'{"instances": [{"seats": 1, "distance": 1e300}]}', 200),
        ("/invocations", b'{"instances": [{"seats": ' + b"9" * 5_000 + b"}]}", 400),
        ("/invocations", b'{"instances": [{"seats": ' + b"[" * 900 + b"]" * 900 + b"}]}", 422),
        ("/invocations", b'{"instances": [{"seats": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}]}", 422),
        ("/invocations", b'{"instances": [{"seats": 1, "seats": 2}]}', 400),
        ("/invocations", b'{"instances": [], "instances": [{"seats": 1}]}', 400),
        (INFER, b'{"inputs": [], "id": "a", "id": "b"}', 400),
        ("/invocations", b"{" + b",".join(b'"c%d": 1' % (number // 2) for number in range(10_000)) + b"}", 400),
        ("/invocations", json.dumps({"instances": []}).encode("utf-16"), 400),
        ("/invocations", json.dumps({"instances": []}).encode("utf-16-le"), 400),
        ("/invocations", json.dumps({"instances": []}).encode("utf-32"), 400),
        ("/invocations", json.dumps({"instances": []}).encode("utf-8-sig"), 200),
        ("/invocations", b'{"instances": [{"\xff": 1}]}', 400),
        ("/v2/models/\udcff/infer", {"inputs": []}, 404),
    ],
)
def test_a_body_of_any_kind_has_a_status_of_the_client(model, path, body, status):
    got, _, answer = post(handler_of(model), body, path.encode("utf-8", "replace").decode())
    assert got == status, answer


def test_a_number_beyond_a_double_is_named_as_it_was_written(model):
    _, _, answer = post(handler_of(model), b'{"instances": [{"seats": 1, "distance": 1e400}]}')
    assert answer["error"]["violations"] == [
        {"row": 0, "field": "distance", "got": "number 1e400, beyond a double", "expected": "a number"}
    ]


@pytest.mark.parametrize(
    ("datatype", "data", "status"),
    [
        ("INT64", 12.5, 422),
        ("INT64", 12.0, 200),
        ("INT8", 300, 422),
        ("UINT8", -1, 422),
        ("BOOL", 12.5, 422),
        ("BOOL", 1, 422),
        ("FP64", 12.5, 200),
        ("FP64", True, 422),
        ("FP32", "12.5", 422),
        ("BYTES", True, 422),
        ("INT64", None, 200),
    ],
)
def test_values_of_a_tensor_are_of_its_datatype(model, datatype, data, status):
    tensor = {"name": "distance", "shape": [1], "datatype": datatype, "data": [data]}
    got, _, answer = post(handler_of(model), {"inputs": [SEATS, tensor]}, INFER)
    assert got == status
    if status == 422:
        assert answer["violations"][0]["field"] == "distance.data"
        assert answer["violations"][0]["expected"] == f"a value of its datatype {datatype}"


def test_texts_in_base64_are_the_texts_they_stand_for(model):
    def scored(data, **more):
        tensor = {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": [data], **more}
        return post(handler_of(model), {"inputs": [SEATS, tensor]}, INFER)

    packed = base64.b64encode(b"B6").decode()
    said = {"parameters": {"content_type": "base64"}}
    assert scored(packed, **said)[2]["outputs"][:2] == scored("B6")[2]["outputs"][:2]
    status, _, answer = scored("no base64!", **said)
    assert (status, answer["violations"][0]["expected"]) == (422, "base64 of text in UTF-8")
    assert scored(base64.b64encode(b"\xff").decode(), **said)[0] == 422


BODY = {"instances": [{"seats": 1, "flight": "a"}]}


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
        ("identity", lambda data: data),
    ],
)
def test_a_packed_body_is_answered_as_the_same_body_unpacked(model, encoding, pack):
    data = json.dumps(BODY).encode()
    assert post(handler_of(model), pack(data), content_encoding=encoding) == post(handler_of(model), data)


@pytest.mark.parametrize(
    ("body", "headers", "status", "named"),
    [
        (b"{}", {"content_encoding": "br"}, 415, "Content-Encoding"),
        (b"{}", {"content_encoding": "gzip, gzip"}, 415, "Content-Encoding"),
        (b"{}", {"content_encoding": "gzip"}, 400, "bytes that are no gzip"),
        (gzip.compress(b"", mtime=0) * 5_000, {"content_encoding": "gzip"}, 400, "bytes that are no gzip"),
        (gzip.compress(b"{}", mtime=0)[:-9], {"content_encoding": "gzip"}, 400, "bytes that are no gzip"),
        (gzip.compress(bytes(10_000_000), mtime=0), {"content_encoding": "gzip"}, 413, "deploy.limits.body_bytes"),
        (b" " * 200_001, {}, 413, "deploy.limits.body_bytes"),
        (b"{}", {"content_length": "999999999"}, 413, "deploy.limits.body_bytes"),
        (b"{}", {"content_length": "9" * 5000}, 413, "deploy.limits.body_bytes"),
        (b"{}", {"content_type": "application/json; charset=utf-16"}, 415, "charset=utf-16"),
        (b"{}", {"content_type": "text/csv"}, 415, "text/csv"),
        ({"instances": [{}] * 2_001}, {}, 413, "deploy.limits.rows"),
        ({"inputs": {"seats": [1] * 2_001}}, {}, 413, "deploy.limits.rows"),
        ({"dataframe_split": {"columns": [], "data": [[]] * 2_001}}, {}, 413, "deploy.limits.rows"),
        ({"instances": [dict.fromkeys(map(str, range(301)))]}, {}, 413, "deploy.limits.columns"),
        ({"inputs": dict.fromkeys(map(str, range(301)))}, {}, 413, "deploy.limits.columns"),
        ({"dataframe_split": {"columns": ["a"] * 301, "data": []}}, {}, 413, "deploy.limits.columns"),
    ],
)
def test_each_bound_has_its_status_and_names_what_to_change(model, body, headers, status, named):
    got, found, answer = post(handler_of(model), body, **headers)
    assert got == status
    assert named in answer["error"]["message"]
    assert (found.get(b"connection") == b"close") == (status == 413)


@pytest.mark.parametrize("form", ["tensors", "many tensors"])
def test_tensors_are_bounded_too(model, form):
    tensor = {**SEATS, "shape": [2_001], "data": [1] * 2_001}
    inputs = [tensor] if form == "tensors" else [{**SEATS, "name": str(n)} for n in range(301)]
    assert post(handler_of(model), {"inputs": inputs}, INFER)[0] == 413


def test_a_body_that_does_not_end_is_408_and_frees_its_place(model):
    handler = handler_of(model)

    async def both():
        app = asgi.app(handler)
        stalled = [
            asyncio.create_task(call(app, "POST", "/invocations", chunks=[b'{"inst', 3600.0, b"}"])) for _ in range(50)
        ]
        await asyncio.sleep(0)
        healthy = await call(app, "GET", "/health")
        return healthy[0], [await task for task in stalled]

    healthy, stalled = asyncio.run(both())
    assert healthy == 200
    assert {status for status, _, _ in stalled} == {408}
    assert "deploy" not in stalled[0][2].decode()
    assert handler.service.stats()["errors"] == {"408": 50}


def test_while_many_bodies_are_awaited_further_ones_have_less_time(model, monkeypatch):
    monkeypatch.setattr(asgi, "HURRIED_S", 0.05)
    handler = handler_of(model, body_seconds=3_600)

    async def stalled():
        app = asgi.app(handler)
        tasks = [asyncio.create_task(call(app, "POST", "/invocations", chunks=[b"{", 3600.0, b"}"])) for _ in range(60)]
        done, waiting = await asyncio.wait(tasks, timeout=0.5)
        small = await call(app, "POST", "/invocations", b'{"instances": [{"seats": 1}]}')
        for task in waiting:
            task.cancel()
        return [task.result()[0] for task in done], small[0]

    assert asyncio.run(stalled()) == ([408] * (60 - asgi.PATIENT_BODIES), 200)


def test_a_body_that_is_too_long_is_read_on_for_a_while_so_that_the_answer_arrives(model):
    """A client that is cut off while it sends would see a broken connection in place of 413."""
    taken = []

    async def receive():
        taken.append(1)
        return {"type": "http.request", "body": bytes(100), "more_body": len(taken) < 30}

    with pytest.raises(errors.PayloadError, match="body_bytes"):
        asyncio.run(bodies.read({"content-length": "3000"}, receive, 1_000, 10))
    assert len(taken) == 30
    taken.clear()
    with pytest.raises(errors.PayloadError, match="body_bytes"):
        asyncio.run(bodies.read({}, receive, 100, 10))
    assert len(taken) < 10, "of a flood not more than a few times the limit"


def test_a_client_that_goes_away_is_no_fault_of_ours(model):
    async def gone():
        async def receive():
            return {"type": "http.disconnect"}

        with pytest.raises(bodies.ClientGoneError):
            await bodies.read({}, receive, 10, 10)

    asyncio.run(gone())


def test_a_request_whose_time_is_over_before_a_thread_is_free_is_503_with_retry_after(model):
    handler = handler_of(model, seconds=0.01)

    async def late():
        body = bodies.Body(json.dumps({"instances": [{"seats": 1}] * 1_000}).encode())
        return await handler.answer(asgi.MLFLOW, body, time.monotonic() - 1)

    answer = asyncio.run(late())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def counted_calls(function):
    """Number of Python calls while a function runs: the work, whatever the clock says."""
    number = 0

    def count(frame, event, arg):
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return number


def quietly(call):
    try:
        call()
    except errors.MlsysError:
        return


KINDS = {
    "repeated names": lambda n: {"dataframe_split": {"columns": ["seats"] * n, "data": []}},
    "other names": lambda n: {"dataframe_split": {"columns": [f"c{k}" for k in range(n)], "data": [[1] * n]}},
    "short rows": lambda n: {"dataframe_split": {"columns": [f"c{k}" for k in range(300)], "data": [[1]] * n}},
    "unknown names": lambda n: {"instances": [{f"c{k}": 1 for k in range(n)}]},
    "unknown names in each row": lambda n: {"instances": [{f"seets{k}": 1} for k in range(n)]},
    "wrong values": lambda n: {"instances": [{"seats": "x", "distance": [1, 2, 3]}] * n},
    "columns of other lengths": lambda n: {"inputs": {f"c{k}": [1] * (k % 7) for k in range(n)}},
    "rows of no kind": lambda n: {"instances": [1] * n},
    "unknown parameters": lambda n: {"instances": [], "params": {f"p{k}": 1 for k in range(n)}},
    "unknown keys": lambda n: {"instances": [], **{f"k{k}": 1 for k in range(n)}},
    "wrong ids": lambda n: {"instances": [{"seats": 1}] * n, "params": {"prediction_ids": [""] * n}},
    "tensors of one name": lambda n: {"inputs": [{**SEATS, "datatype": "INTS"}] * n},
    "tensors of other names": lambda n: {"inputs": [{**SEATS, "name": f"c{k}"} for k in range(n)]},
    "wrong values of a tensor": lambda n: {"inputs": [{**SEATS, "shape": [n], "data": ["x"] * n}]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_work_grows_with_the_body_and_faults_do_not(model, kind):
    """Twenty times the body is no more than some twenty times the calls, and a hundred faults at most."""
    contract = model.predictor.contract

    def work(n):
        body = json.dumps(KINDS[kind](n)).encode()
        parse = tensors.open_inference if "tensor" in kind else lambda data: requests.mlflow(data, contract.order)
        return counted_calls(lambda: quietly(lambda: contract.records(parse(body).as_records())))

    small, large = work(150), work(3_000)
    assert large <= 30 * small
    handler = handler_of(model, rows=10_000, columns=10_000, body_bytes=10_000_000)
    path = INFER if "tensor" in kind else "/invocations"
    status, _, answer = post(handler, KINDS[kind](3_000), path)
    assert status == 422
    violations = answer["violations"] if "tensor" in kind else answer["error"]["violations"]
    assert len(violations) <= validation.MAX_VIOLATIONS
    assert len(json.dumps(answer)) < 100_000


def test_a_long_text_of_a_client_is_not_sent_back(model):
    for body in ({"instances": [{"x" * 100_000: 1}]}, {"y" * 100_000: 1}, {"instances": [{"seats": "z" * 100_000}]}):
        assert len(json.dumps(post(handler_of(model), body)[2])) < 2_000


def test_the_faults_that_are_named_are_those_of_the_recipe_and_all_are_counted(model):
    _, _, answer = post(handler_of(model, faults=3), {"instances": [{"seats": "x"}] * 500})
    assert len(answer["error"]["violations"]) == 3
    assert answer["error"]["message"].endswith("and 495 more")


def test_errors_of_the_store_show_no_paths_of_the_server(model, caplog):
    class Failing:
        contract, bundle, lookup = model.predictor.contract, model.predictor.bundle, model.predictor.lookup

        def conformed_rows(self, records):
            raise errors.StoreError.build("store: 'x.json'", got="no", hint="check /srv/secret/store/objects")

    handler = handler_of(LoadedModel(model.entry, Failing()))
    status, found, answer = post(handler, BODY)
    assert (status, found[b"retry-after"]) == (503, b"1")
    assert "secret" not in json.dumps(answer)
    assert "/srv/secret/store/objects" in caplog.text


def test_what_json_cannot_say_is_said_differently():
    assert responses.to_bytes({"a": "\ud800"}) == b'{"a":"\\ud800"}'
    assert responses.to_bytes({"a": [float("inf"), 0.1]}) == b'{"a":[null,0.1]}'


def test_a_log_that_nobody_writes_is_told_at_once_and_written_again_at_once(model, tmp_path, monkeypatch):
    """No request has to come in between: the one that asks whether the model is ready starts the thread again."""
    handler = handler_of(model)
    monkeypatch.setattr(PredictionLog, "_run", lambda self: None)
    handler.service.log = PredictionLog(tmp_path)
    handler.service.log._thread.join()
    monkeypatch.undo()
    status, _, answer = asyncio.run(call(asgi.app(handler), "GET", "/ready"))
    assert status == 503
    assert b"prediction log" in answer
    assert asyncio.run(call(asgi.app(handler), "GET", "/ready"))[0] == 200
    assert handler.service.stats()["log"]["restarts"] == 1
    handler.service.close()
