"""Endpoints on a running cluster: HTTP, gateway, versions exchanged under load, the log."""

import contextlib
import http.client
import json
import os
import socket
import threading
import time
import urllib.request
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.http as triton

from bundles import fit, requests, rows
from json_client import ask
from mlsys import bundle, cluster, errors, recipe, registry
from mlsys.deploy import serving
from mlsys.predict import Predictor
from mlsys.schema import TaskKind

SETTINGS = recipe.DeploySection(port=0, max_replicas=1)


@pytest.fixture(scope="module", autouse=True)
def served(store, endpoints):
    """Version 1 of the model `late`, on a cluster that ran steps before Serve started; it ends with the module."""
    from ray import serve

    serve.shutdown()  # that of other modules
    cluster.map(time.sleep, [0.5] * 4)  # processes that are idle after it, and would become replicas

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        first, second = fit(store), fit(store, seed=1)
        registry.register(store, "late", first)
        registry.register(store, "late", second)
        registry.set_alias(store, "late", "champion", 1, "test")
    return serving.start(store, "late", first.digest, 1, SETTINGS)


@pytest.fixture
def digests(store):
    return {entry.version: entry.digest for entry in registry.versions(store, "late")}


@pytest.fixture
def first(store, served, digests):
    """The endpoint with version 1 in service."""
    return serving.start(store, "late", digests[1], 1, SETTINGS)


def test_endpoints_come_before_steps_also_when_these_ran_first(store, first):
    head = psutil.Process(cluster.status(store)["pid"])
    for part in ("ServeReplica:late", "ServeReplica:gateway", "ServeController", "haproxy"):
        assert niceness(head, part) == {head.nice()}, part  # 0, unless the tests themselves were started with less
    assert cluster.call(os.getpriority, os.PRIO_PROCESS, 0) == min(19, max(15, head.nice() + 4))
    if hasattr(os, "SCHED_IDLE"):
        assert cluster.call(os.sched_getscheduler, 0) == os.SCHED_IDLE


def test_a_step_is_weighed_apart_from_endpoints_where_linux_weighs_sessions(store, first):
    switch, head = Path("/proc/sys/kernel/sched_autogroup_enabled"), cluster.status(store)["pid"]
    session = cluster.call(os.getsid, 0)
    if switch.is_file() and switch.read_text().strip() == "1":
        assert session != os.getsid(head)
        assert Path(f"/proc/{session}/autogroup").read_text().split()[-1] == "19"  # the process that leads it is there
    else:
        assert session == os.getsid(head)


@pytest.mark.parametrize("serves", [False, True], ids=["of a step", "of an endpoint"])
def test_a_worker_gives_way_from_its_start_unless_it_serves(store, first, serves):
    import ray

    own = cluster.ENDPOINTS if serves else {"env_vars": {"A_PROCESS_OF_ITS_OWN": "1"}}
    asked = ray.remote(lambda: (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)))
    niceness = psutil.Process(cluster.status(store)["pid"]).nice()
    step = getattr(os, "SCHED_IDLE", os.SCHED_OTHER), min(19, max(15, niceness + 4))
    answer = ray.get(asked.options(num_cpus=0, runtime_env=own).remote())
    assert answer == ((os.SCHED_OTHER, niceness) if serves else step)


def niceness(head, part):
    """Niceness of all threads of a head's processes that have this in their command; those that end are passed over."""
    found = set()
    for process in head.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if part in " ".join([process.name(), *process.cmdline()[:1]]):
                found |= {os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads()}
    return found


def root(endpoint):
    return endpoint.url.rpartition("/")[0]


def test_http_answers_the_bits_of_the_process(store, first, digests):
    predictor = Predictor(bundle.open(store, digests[1]))
    table = rows(1000, seed=41)
    truth = predictor.table(table)
    status, body = ask(f"{first.url}/invocations", {"dataframe_records": requests(table)})
    assert status == 200
    assert body["predictions"] == truth.prediction.tolist()
    assert body["probabilities"] == truth.probabilities.tolist()
    assert body["prediction_ids"] == table["flight"].to_pylist()


def test_single_rows_over_http_are_the_bits_of_the_process(store, first, digests):
    table = rows(20, seed=42)
    truth = Predictor(bundle.open(store, digests[1])).table(table).score.tolist()
    answers = [ask(f"{first.url}/invocations", {"instances": [row]}) for row in requests(table)]
    assert [body["probabilities"][0][1] for _, body in answers] == truth


def test_the_command_line_that_is_printed_works(first):
    import shlex
    import subprocess

    found = subprocess.run(shlex.split(first.curl), capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(found.stdout)["model"]["version"] == 1


def test_the_gateway_speaks_open_inference_for_every_model(first):
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/late/ready", "/v2"):
        assert ask(root(first) + path)[0] == 200
    status, metadata = ask(f"{root(first)}/v2/models/late")
    assert (status, metadata["versions"]) == (200, ["1"])
    tensor = {"name": "seats", "shape": [2], "datatype": "INT64", "data": [100, 200]}
    status, body = ask(f"{root(first)}/v2/models/late/infer", {"inputs": [tensor], "id": "r1"})
    assert status == 200
    assert body["id"] == "r1"
    assert body["outputs"][0]["shape"] == [2]
    assert ask(f"{first.url}/v2/models/late/infer", {"inputs": [tensor]})[1]["outputs"][0] == body["outputs"][0]


def test_the_gateway_leads_a_browser_to_the_console(first, store):
    how = {"headers": {"Accept": "text/html,*/*"}, "follow_redirects": True, "timeout": 60}
    with httpx.Client(**how) as browser:
        page = browser.get(root(first))
        assert (page.status_code, str(page.url)) == (200, f"{root(first)}/console/")
        assert ("<h1>Models</h1>" in page.text, str(store.root) in page.text) == (True, True)
        assert browser.get(f"{root(first)}/console/api/status").json()["store"] == str(store.root)
        assert browser.get(f"{root(first)}/console/models/none").status_code == 404
        assert browser.get(f"{root(first)}/console/", headers={"Host": "attacker.example"}).status_code == 403
    assert "models" in httpx.get(root(first)).json()


def test_the_gateway_answers_tritonclient_as_json_and_as_bytes(first):
    client = triton.InferenceServerClient(root(first).removeprefix("http://"))
    assert client.is_server_ready()
    assert client.is_model_ready("late", "1")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    answers = []
    for binary in (True, False):
        seats = triton.InferInput("seats", [2], "INT64")
        seats.set_data_from_numpy(np.array([100, 200]), binary_data=binary)
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
        found = client.infer("late", [seats], outputs=outputs, request_id="r")
        assert ("data" in found.get_output("probabilities")) != binary
        answers.append(found.as_numpy("probabilities").tolist())
    client.close()
    _, body = ask(f"{first.url}/invocations", {"instances": [{"seats": 100}, {"seats": 200}]})
    assert answers == [body["probabilities"]] * 2


def test_mlflows_deployment_client_finds_and_asks_the_models(first):
    from mlflow.deployments import get_deploy_client

    client = get_deploy_client(root(first))
    assert [each.name for each in client.list_endpoints()] == ["late"]
    assert client.get_endpoint("late").endpoint_url == f"{root(first)}/endpoints/late/invocations"
    rows_ = [{"seats": 100}, {"seats": 200}]
    answer = client.predict(endpoint="late", inputs={"dataframe_records": rows_})
    assert answer["probabilities"] == ask(f"{first.url}/invocations", {"instances": rows_})[1]["probabilities"]
    with pytest.raises(Exception, match="seats"):
        client.predict(endpoint="late", inputs={"dataframe_records": [{"seats": "many"}]})


@pytest.mark.parametrize("path", ["/late/invocations", "/endpoints/late/invocations", "/v2/models/late/infer"])
def test_a_time_that_is_over_is_504_at_the_endpoint_and_at_the_gateway(first, path):
    """The body comes later than its client waits."""
    host, _, port = root(first).removeprefix("http://").partition(":")
    tensors = b'{"inputs": [{"name": "seats", "shape": [1], "datatype": "INT64", "data": [1]}]}'
    body = tensors if "v2" in path else b'{"instances": [{"seats": 1}]}'
    statuses = []
    for patience in ("50", "30000"):
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        connection.putrequest("POST", path)
        for name, value in (("Content-Length", str(len(body))), ("X-Request-Timeout-Ms", patience)):
            connection.putheader(name, value)
        connection.endheaders()
        time.sleep(0.2)
        connection.send(body)
        statuses.append(connection.getresponse().status)
        connection.close()
    assert statuses == [504, 200]


def test_the_gateway_names_its_models_and_refuses_others(first):
    assert ask(root(first) + "/")[1]["models"]["late"]["invocations"] == "/late/invocations"
    status, body = ask(f"{root(first)}/v2/models/latte/infer", {"inputs": []})
    assert (status, body) == (404, {"error": "no model 'latte'; did you mean 'late'?"})
    wrong = {"name": "seats", "shape": [1], "datatype": "FP64", "data": [1.5]}
    status, body = ask(f"{root(first)}/v2/models/late/infer", {"inputs": [wrong]})
    assert status == 422
    assert body["violations"][0]["field"] == "seats"


@pytest.mark.parametrize(
    ("status", "body"), [(400, {}), (422, {"instances": [{}]}), (422, {"instances": [{"seats": "1"}]})]
)
def test_wrong_requests_have_their_status_over_http(first, status, body):
    found, answer = ask(f"{first.url}/invocations", body)
    assert found == status
    assert "Traceback" not in json.dumps(answer)


def test_health_readiness_stats_and_pages_are_served_below_the_name(first):
    assert ask(f"{first.url}/health") == (200, {"status": "ok"})
    assert ask(f"{first.url}/ready")[1]["model"]["version"] == 1
    assert ask(f"{first.url}/openapi.json")[1]["openapi"] == "3.1.0"
    assert ask(f"{first.url}/stats")[1]["requests"] >= 0
    with urllib.request.urlopen(f"{first.url}/docs", timeout=60) as page:
        assert page.headers["content-type"].startswith("text/html")


def test_small_requests_are_answered_before_serves_wrappers_and_serve_counts_them(first):
    import ray

    (node,) = ray.nodes()
    page = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"

    def counted():
        """Requests with status 200 that Serve itself counts below the name."""
        with urllib.request.urlopen(page, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        own = [line for line in lines if line.startswith("ray_serve_num_http_requests") and 'route="/late"' in line]
        return sum(float(line.split()[-1]) for line in own if 'status_code="200"' in line and 'method="POST"' in line)

    before, at_once = counted(), ask(f"{first.url}/stats")[1]["at_once"]
    for _ in range(30):
        assert ask(f"{first.url}/invocations", {"instances": [{"seats": 100}]})[0] == 200
    assert ask(f"{first.url}/stats")[1]["at_once"] > at_once
    end = time.monotonic() + 60
    while counted() < before + 30:
        assert time.monotonic() < end, f"{counted()} requests, and {before} before"
        time.sleep(0.5)


def test_serving_the_same_bundle_again_keeps_the_replica(store, first, digests):
    before = ask(f"{first.url}/stats")[1]["started_at"]
    again = serving.start(store, "late", digests[1], 1, SETTINGS)
    assert again == first
    assert ask(f"{first.url}/stats")[1]["started_at"] == before


def test_a_version_is_exchanged_in_the_running_replica_and_no_request_fails(store, first, digests):
    before = ask(f"{first.url}/stats")[1]["started_at"]
    example = {"instances": [{"seats": 100}]}
    stop, outcomes = threading.Event(), []

    def send():
        while not stop.is_set():
            status, body = ask(f"{first.url}/invocations", example)
            outcomes.append((status, body.get("model", {}).get("version")))
            time.sleep(0.005)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in (2, 1, 2):
        serving.start(store, "late", digests[version], version, SETTINGS)
        answer = ask(f"{first.url}/invocations", example)[1]
        assert answer["model"] == {"name": "late", "version": version, "digest": digests[version]}
    stop.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in outcomes} == {200}
    assert {version for _, version in outcomes} == {1, 2}
    assert ask(f"{first.url}/stats")[1]["started_at"] == before


def test_every_prediction_is_in_the_log_with_its_id_and_model(store, first, digests):
    ids = [f"logged-{number}" for number in range(30)]
    rows_ = requests(rows(30, seed=43))
    for name, row in zip(ids, rows_, strict=True):
        ask(f"{first.url}/invocations", {"instances": [{**row, "flight": name}]})
    end = time.monotonic() + 30
    while ask(f"{first.url}/stats")[1]["log"]["pending"]:
        assert time.monotonic() < end, "the log is not written"
        time.sleep(0.1)
    folder = store.root / "predictions" / "late"
    log = pa.concat_tables([pq.ParquetFile(file).read() for file in folder.rglob("*.parquet")]).to_pylist()
    found = {row["prediction_id"]: row for row in log if row["prediction_id"] in ids}
    assert set(found) == set(ids)
    truth = Predictor(bundle.open(store, digests[1])).rows(rows_).score.tolist()
    assert [found[name]["score"] for name in ids] == truth
    assert {row["bundle"] for row in found.values()} == {digests[1]}


def test_a_second_model_is_served_beside_the_first_and_stopped_alone(store, first):
    other = fit(store, TaskKind.REGRESSION)
    endpoint = serving.start(store, "delay", other.digest, 1, SETTINGS)
    assert root(endpoint) == root(first)
    assert ask(f"{endpoint.url}/invocations", {"instances": [{"seats": 1}]})[0] == 200
    assert set(ask(root(first) + "/")[1]["models"]) == {"late", "delay"}
    assert serving.stop(store, "delay")
    assert ask(f"{first.url}/ready")[0] == 200
    assert not serving.stop(store, "delay")
    assert set(ask(root(first) + "/")[1]["models"]) == {"late"}


def test_a_damaged_bundle_is_refused_and_what_is_served_stays(store, first):
    damaged = fit(store, seed=9)
    (damaged.folder / "program.json").write_text("{}")
    with pytest.raises(errors.BundleError, match="missing or changed bytes"):
        serving.start(store, "late", damaged.digest, 3, SETTINGS)
    assert ask(f"{first.url}/ready")[1]["model"]["version"] == 1


def test_a_keep_alive_connection_is_served(first):
    host, port = root(first).removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    for _ in range(5):
        connection.request("GET", "/late/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
    connection.close()


def test_a_port_in_use_is_named_with_the_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(errors.ClusterError) as caught:
            serving.check_port("127.0.0.1", port)
    assert str(caught.value) == (
        f"deploy: 127.0.0.1:{port}\n  got:      Address already in use\n  expected: a free port\n"
        "  hint:     --set deploy.port=0 takes any free one"
    )


def test_the_name_of_the_gateway_is_no_name_of_a_model(store, digests):
    with pytest.raises(errors.RecipeError, match="this one is the gateway's"):
        serving.start(store, "gateway", digests[1], 1, SETTINGS)
