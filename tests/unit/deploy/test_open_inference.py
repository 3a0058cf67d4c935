"""The Open Inference Protocol beyond single tensors: versions, tables as one tensor, and the outputs asked for."""

import asyncio
import json

import pytest

from asgi_client import call
from bundles import fit, requests, rows
from mlsys import errors, recipe
from mlsys.deploy import asgi, tensors
from mlsys.deploy.service import Service, load
from mlsys.registry import LedgerEntry
from mlsys.schema import TaskKind
from mlsys.store import Store

SEATS = {"name": "seats", "shape": [2], "datatype": "INT64", "data": [100, 200]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("protocol"))
    return {kind: load(store, LedgerEntry("late", 3, fit(store, kind).digest)) for kind in TaskKind}


@pytest.fixture
def ask(models):
    def asked(method, path, body=None, kind=TaskKind.BINARY):
        service = Service("late", log=None)
        service.model = models[kind]
        app = asgi.app(asgi.RequestHandler(service, recipe.LimitsSection()))
        sent = b"" if body is None else json.dumps(body).encode()
        status, _, answer = asyncio.run(call(app, method, path, sent, [("Content-Type", b"application/json")]))
        return status, json.loads(answer)

    return asked


@pytest.mark.parametrize(("version", "status"), [("3", 200), ("2", 404), ("latest", 404)])
def test_a_path_may_name_the_version_that_is_served_and_no_other(ask, version, status):
    path = f"/v2/models/late/versions/{version}"
    assert ask("GET", path)[0] == status
    assert ask("GET", f"{path}/ready")[0] == status
    got, answer = ask("POST", f"{path}/infer", {"inputs": [SEATS]})
    assert got == status
    if status == 200:
        assert answer["model_version"] == "3"
    else:
        assert answer["error"] == f"no version '{version}' of 'late' here; it serves version 3"


def test_a_model_says_that_it_is_ready(ask):
    assert ask("GET", "/v2/models/late/ready") == (200, {"name": "late", "ready": True})
    assert ask("GET", "/ping")[0] == 200


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (TaskKind.BINARY, ["prediction", "probabilities", "prediction_id"]),
        (TaskKind.REGRESSION, ["prediction", "prediction_id"]),
        (TaskKind.MULTILABEL, ["prediction", "probabilities", "decisions", "prediction_id"]),
    ],
)
def test_an_answer_has_the_outputs_of_the_metadata_or_those_asked_for(ask, kind, names):
    described = [each["name"] for each in ask("GET", "/v2/models/late", kind=kind)[1]["outputs"]]
    assert described == names
    whole = ask("POST", "/v2/models/late/infer", {"inputs": [SEATS]}, kind)[1]["outputs"]
    assert [each["name"] for each in whole] == names
    for name in names:
        body = {"inputs": [SEATS], "outputs": [{"name": name, "parameters": {"binary_data": False}}]}
        assert [each["name"] for each in ask("POST", "/v2/models/late/infer", body, kind)[1]["outputs"]] == [name]


def test_an_output_that_the_model_does_not_have_is_refused(ask):
    body = {"inputs": [SEATS], "outputs": [{"name": "probabilities"}]}
    status, answer = ask("POST", "/v2/models/late/infer", body, TaskKind.REGRESSION)
    assert status == 422
    assert answer["violations"][0]["field"] == "outputs"


@pytest.mark.parametrize("nested", [True, False])
def test_one_tensor_of_rows_and_columns_is_the_columns_of_the_model_in_order(nested):
    table = [[1.5, 2.5, None], [3.5, 4.5, 5.5]]
    data = table if nested else [value for row in table for value in row]
    sent = {"name": "input-0", "shape": [2, 3], "datatype": "FP64", "data": data}
    ids = {"name": "prediction_id", "shape": [2], "datatype": "BYTES", "data": ["p", "q"]}
    request = tensors.open_inference(json.dumps({"inputs": [sent, ids]}).encode(), order=["a", "b", "c"])
    assert request.columns == {"a": [1.5, 3.5], "b": [2.5, 4.5], "c": [None, 5.5]}
    assert request.ids == ["p", "q"]


@pytest.mark.parametrize(
    ("shape", "data", "field"),
    [
        ([2, 2], [1.0, 2.0, 3.0, 4.0], "x.shape"),
        ([2, 3], [1.0, 2.0, 3.0], "x.data"),
        ([2, 3], [[1.0, 2.0, 3.0]], "x.data"),
        ([1, 3, 1], [1.0, 2.0, 3.0], "x.shape"),
    ],
)
def test_a_table_of_another_shape_is_named(shape, data, field):
    sent = {"name": "x", "shape": shape, "datatype": "FP64", "data": data}
    with pytest.raises(errors.RequestError) as caught:
        tensors.open_inference(json.dumps({"inputs": [sent]}).encode(), order=["a", "b", "c"])
    assert caught.value.violations[0]["field"] == field


def test_bytes_without_the_header_of_their_extension_are_refused_with_what_to_do(ask):
    sent = {"name": "seats", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
    status, answer = ask("POST", "/v2/models/late/infer", {"inputs": [sent]})
    assert status == 422
    assert "the header Inference-Header-Content-Length" in answer["violations"][0]["expected"]


def test_rows_as_tensors_have_the_bits_of_rows_as_records(ask):
    records = requests(rows(5, seed=3))
    names = [name for name in records[0] if name in ("distance", "seats")]
    kinds = {"distance": "FP64", "seats": "INT64"}
    columns = [
        {"name": name, "shape": [5], "datatype": kinds[name], "data": [row[name] for row in records]} for name in names
    ]
    status, answer = ask("POST", "/v2/models/late/infer", {"inputs": columns})
    whole = ask("POST", "/invocations", {"dataframe_records": [{name: row[name] for name in names} for row in records]})
    assert (status, whole[0]) == (200, 200)
    outputs = {each["name"]: each["data"] for each in answer["outputs"]}
    assert outputs["probabilities"] == [value for row in whole[1]["probabilities"] for value in row]
