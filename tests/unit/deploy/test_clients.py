"""Clients of others, over a socket: tritonclient, MLflow's scoring client, and the bytes that kserve's client sends."""

import http.client
import json
import warnings

import numpy as np
import pandas as pd
import pytest

from bundles import fit, rows
from mlsys import bundle
from mlsys.deploy import asgi
from mlsys.deploy.front import Front
from mlsys.deploy.service import Service, load
from mlsys.predict import Predictor
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.store import Store
from uvicorn_server import served

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent's, of what it may patch
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

TENSORS = {"distance": "FP64", "seats": "INT64", "load": "FP32", "carrier": "BYTES", "night": "BOOL"}
TABLE = rows(40, seed=9).select(list(TENSORS)).drop_null().slice(0, 20)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open(tmp_path_factory.mktemp("clients"))


@pytest.fixture(scope="module")
def digest(store):
    return fit(store).digest


@pytest.fixture(scope="module")
def host(store, digest):
    service = Service("late", log=None)
    service.model = load(store, LedgerEntry("late", 3, digest))
    with served(Front(asgi.app(asgi.RequestHandler(service, LimitsSection())))) as address:
        yield address


@pytest.fixture(scope="module")
def truth(store, digest):
    """What the process itself predicts for `TABLE`."""
    return Predictor(bundle.open(store, digest)).rows(TABLE.to_pylist())


@pytest.fixture
def client(host):
    with triton.InferenceServerClient(host) as opened:
        yield opened


def inputs(*, binary):
    made = []
    for name, kind in TENSORS.items():
        dtype = object if kind == "BYTES" else {"FP32": np.float32, "BOOL": bool}.get(kind)
        values = np.array(TABLE[name].to_pylist(), dtype)
        made.append(triton.InferInput(name, [len(values)], kind))
        made[-1].set_data_from_numpy(values, binary_data=binary)
    return made


def test_tritonclient_reads_health_and_metadata(client):
    assert (client.is_server_live(), client.is_server_ready(), client.is_model_ready("late")) == (True, True, True)
    assert (client.is_model_ready("late", "3"), client.is_model_ready("late", "2")) == (True, False)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("late", "3")
    assert {each["name"]: each["datatype"] for each in metadata["inputs"]}.items() >= TENSORS.items()
    with pytest.raises(InferenceServerException, match="no model 'early' here"):
        client.get_model_metadata("early")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritonclient_gets_the_bits_of_the_process_as_json_and_as_bytes(client, truth, binary_in, binary_out):
    names = ["prediction", "probabilities", "prediction_id"]
    wanted = binary_out is not None and [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    found = client.infer("late", inputs(binary=binary_in), outputs=wanted or None, request_id="r-1")
    assert found.get_response()["id"] == "r-1"
    assert ("data" in found.get_output("probabilities")) == (binary_out is False), "of no outputs, it asks for bytes"
    assert found.as_numpy("prediction").tolist() == truth.prediction.tolist()
    assert found.as_numpy("probabilities").tolist() == truth.probabilities.tolist()
    assert len(found.as_numpy("prediction_id")) == len(TABLE)


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_tritonclient_may_pack_what_it_sends(client, truth, packing):
    found = client.infer("late", inputs(binary=True), request_compression_algorithm=packing)
    assert found.as_numpy("probabilities").tolist() == truth.probabilities.tolist()


def test_tritonclient_is_told_what_does_not_fit(client):
    wrong = triton.InferInput("seats", [1], "FP64")
    wrong.set_data_from_numpy(np.array([1.5]))
    with pytest.raises(InferenceServerException, match=r"seats.*1\.5") as caught:
        client.infer("late", [wrong])
    assert caught.value.status() == "422"


@pytest.fixture
def mlflow_client(host):
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    return ScoringServerClient(*host.split(":"))


def test_mlflows_client_waits_for_the_endpoint_and_asks_it(mlflow_client, truth):
    mlflow_client.wait_server_ready(timeout=60)
    assert mlflow_client.get_version()
    answered = mlflow_client.invoke(TABLE.to_pandas())
    assert answered.get_predictions()[0].tolist() == truth.prediction.tolist()
    assert answered["probabilities"] == truth.probabilities.tolist()


def test_mlflows_client_sends_a_frame_with_missing_values(mlflow_client, store, digest):
    """It writes the bare word NaN for them, and the text NaT for a time."""
    table = rows(30, seed=9).drop_columns(["y"])
    frame = table.to_pandas()
    assert frame[["load", "carrier", "departs"]].isna().any().all()
    answered = mlflow_client.invoke(frame)
    assert answered["probabilities"] == Predictor(bundle.open(store, digest)).table(table).probabilities.tolist()


def test_mlflows_client_sends_lists_and_params(mlflow_client, truth):
    answered = mlflow_client.invoke(TABLE.to_pylist(), params={"probabilities": False, "counts": True})
    assert answered.get_predictions("ndarray").tolist() == truth.prediction.tolist()
    assert "probabilities" not in answered
    assert answered["rare"] == truth.rare


def test_mlflows_client_is_told_what_does_not_fit(mlflow_client):
    with pytest.raises(Exception, match=r"error code 422.*seats"):
        mlflow_client.invoke(pd.DataFrame({"seats": ["many"]}))


def send(host, path, body, headers):
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def test_rows_as_csv_are_refused_with_what_to_do(host):
    status, _, answer = send(host, "/invocations", b"seats\n1\n", {"Content-Type": "text/csv"})
    assert status == 415
    assert "dataframe_split" in json.loads(answer)["error"]["message"]
    assert "mlsys predict" in json.loads(answer)["error"]["message"]


KSERVE = (
    b'{"id":"r7","model_name":"late","inputs":[{"name":"seats","shape":[2],"datatype":"INT64","parameters":'
    b'{"binary_data_size":16}},{"name":"distance","shape":[2],"datatype":"FP64","parameters":{"binary_data_size":16}},'
    b'{"name":"carrier","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":12}},'
    b'{"name":"night","shape":[2],"datatype":"BOOL","parameters":{"binary_data_size":2}}]%s}'
)
KSERVE_TAIL = (
    b"d\x00\x00\x00\x00\x00\x00\x00\xc8\x00\x00\x00\x00\x00\x00\x00"  # 100, 200
    b"\x00\x00\x00\x00\x00H\x7f@\x00\x00\x00\x00\x00\x00\xf8\x7f"  # 500.5, NaN
    b"\x02\x00\x00\x00B6\x02\x00\x00\x00AA\x01\x00"
)


@pytest.mark.parametrize("as_bytes", [True, False])
def test_what_kserves_client_sends_is_answered(host, store, digest, as_bytes):
    """As `InferenceRESTClient` of kserve 0.21 sends it; the package itself asks for another psutil than ours."""
    asked = b',"outputs":[{"name":"probabilities","parameters":{"binary_data":true}}]' if as_bytes else b""
    head = KSERVE % asked
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    status, found, answer = send(host, "/v2/models/late/infer", head + KSERVE_TAIL, headers)
    sent = [{"seats": 100, "distance": 500.5, "carrier": "B6", "night": True},
            {"seats": 200, "distance": None, "carrier": "AA", "night": False}]  # fmt: skip
    truth = Predictor(bundle.open(store, digest)).rows(sent).probabilities.ravel().tolist()
    length = int(found.get("inference-header-content-length", len(answer)))
    body = json.loads(answer[:length])
    outputs = {each["name"]: each for each in body["outputs"]}
    assert (status, body["id"], body["model_name"]) == (200, "r7", "late")
    assert outputs["probabilities"]["shape"] == [2, 2]
    if as_bytes:
        assert outputs.keys() == {"probabilities"}
        assert outputs["probabilities"]["parameters"] == {"binary_data_size": 32}
        assert np.frombuffer(answer[length:], "<f8").tolist() == truth
    else:
        assert outputs["probabilities"]["data"] == truth
