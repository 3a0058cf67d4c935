"""Many models in the replica of one application: each by its paths, and an alias that moves is followed."""

import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from bundles import fit, requests, rows
from json_client import ask
from mlsys import bundle, errors, operate, registry
from mlsys.deploy import together
from mlsys.predict import Predictor
from mlsys.schema import TaskKind

NAMES = ("first", "second")
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def url(store):
    from ray import serve

    serve.shutdown()  # that of other modules, whose gateway has the same address
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for seed, name in enumerate(NAMES):
            fitted = fit(store, TaskKind.REGRESSION, seed=20 + seed)
            registry.set_alias(store, name, "champion", registry.register(store, name, fitted), "test")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    made = together.app({"models": [*NAMES, "absent"], "store": str(store.root), "most_bytes": 1})
    serve.run(made, name="together", route_prefix="/")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def test_models_of_one_replica_answer_by_their_names_and_follow_their_aliases(store, url):
    sent = requests(rows(20, seed=3))
    for name in (*NAMES, *NAMES):  # with room for one of them, each is loaded again
        predictor = Predictor(bundle.open(store, registry.resolve(store, name).digest))
        status, answer = ask(f"{url}/{name}/invocations", {"dataframe_records": sent})
        assert status == 200, answer
        assert answer["predictions"] == predictor.rows(sent).prediction.tolist()
        assert ask(f"{url}/v2/models/{name}")[1]["name"] == name
    assert ask(f"{url}/absent/invocations", {"dataframe_records": sent})[0] == 404
    assert ask(f"{url}/other/invocations", {"dataframe_records": sent})[0] == 404
    better = fit(store, TaskKind.REGRESSION, seed=30)
    registry.set_alias(store, "second", "champion", registry.register(store, "second", better), "test")
    end = time.monotonic() + LIMIT_S
    while ask(f"{url}/second/ready")[1]["model"]["version"] != 2:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert ask(f"{url}/second/ready")[1]["model"]["digest"] == better.digest


def test_rays_agent_has_the_metrics_of_each_model(url):
    import ray

    (node,) = ray.nodes()
    page, end = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", time.monotonic() + LIMIT_S
    assert ask(f"{url}/first/invocations", {"dataframe_records": requests(rows(3, seed=3))})[0] == 200
    wanted = {
        "ray_mlsys_model_requests": ['model="first"', 'status="200"'],
        "ray_mlsys_model_loads": ['model="second"'],
        "ray_mlsys_model_evictions": ['model="first"'],
        "ray_mlsys_model_load_seconds": ['model="first"'],
        "ray_mlsys_model_failed_loads": ['model="absent"'],
        "ray_mlsys_model_bytes": ['model="first"'],
        "ray_mlsys_models_loaded": ['application="together"'],
    }
    while missing := [name for name, tags in wanted.items() if not has_line(page, name, tags)]:
        assert time.monotonic() < end, missing
        time.sleep(0.5)


def test_verbs_serve_models_together_say_so_and_end_them(store, url):
    from ray import serve

    serve.shutdown()  # the application of the tests above, which no verb made
    made = operate.serve_together(NAMES, most_bytes=1 << 30, set={"deploy.port": 0}, store=store.root)
    sent = {"dataframe_records": requests(rows(2, seed=3))}
    for name in NAMES:
        assert ask(f"{made.url}/{name}/invocations", sent)[0] == 200
    state = operate.status(store=store.root)["together"]
    assert (state["url"], set(state["held"]), state["answers"]) == (made.url, set(NAMES), True)
    assert {each["together"] for each in operate.models(store=store.root) if each["name"] in NAMES} == {
        f"{made.url}/{name}" for name in NAMES
    }
    with pytest.raises(errors.ClusterError, match="one or the other on a cluster"):
        operate.deploy("first", store=store.root)
    assert ask(f"{made.url}/first/invocations", sent)[0] == 200
    assert operate.serve_together(["second"], set={"deploy.log": False}, store=store.root).models == {
        "second": "champion"
    }
    assert ask(f"{made.url}/first/invocations", sent)[0] == 404
    assert operate.stop_together(store=store.root)
    assert operate.served_together(store=store.root) is None


def test_before_its_cluster_is_ended_what_is_served_ends_in_order(store):
    made = operate.serve_together(["first"], set={"deploy.port": 0}, store=store.root)
    assert ask(f"{made.url}/first/ready")[0] == 200
    program = "import sys; from mlsys.deploy import shutdown; from mlsys.store import Store; "
    program += "print(shutdown.drain(Store.open(sys.argv[1])))"
    command = [sys.executable, "-c", program, str(store.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines()[-1], "SIGTERM" in done.stdout + done.stderr) == ("0", False)
    end = time.monotonic() + LIMIT_S
    while answers(f"{made.url}/first/ready"):  # HAProxy ends a moment later
        assert time.monotonic() < end
        time.sleep(0.2)


def answers(url):
    try:
        return ask(url)[0] == 200
    except OSError:
        return False


def has_line(page, name, tags):
    with urllib.request.urlopen(page, timeout=60) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith(name)]
    return any(all(tag in line for tag in tags) for line in lines)
