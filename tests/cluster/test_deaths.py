"""Each process of an endpoint killed under load: what fails is counted, and the endpoint goes on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from bundles import fit, rows
from load import Load
from mlsys import cluster, recipe, registry
from mlsys.cluster import haproxy
from mlsys.deploy import serving
from mlsys.deploy.batch_queue import JobQueue
from mlsys.store import Store
from shell import shell

NAME = "mortal"
BODY = {"instances": [{"seats": 100}]}
CONNECTIONS = 4
SETTINGS = recipe.DeploySection(port=0, min_replicas=2, max_replicas=2)
LONGEST_S, COMMAND_S = 150, 250
MLSYS = [sys.executable, "-c", "from mlsys.cli import main; main()"]


@pytest.fixture(scope="module")
def digests(store):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        bundles = [fit(store), fit(store, seed=1)]
        for each in bundles:
            registry.register(store, NAME, each)
    return {number: each.digest for number, each in enumerate(bundles, 1)}


@pytest.fixture(scope="module")
def url(store, digests):
    """Version 1 in two replicas; Serve ends with the module."""
    from ray import serve

    yield serving.start(store, NAME, digests[1], 1, SETTINGS).url
    serve.shutdown()


@pytest.fixture
def load(url):
    return Load(f"{url}/invocations", BODY, CONNECTIONS)


def processes(store, title, *, whole=True):
    """Processes of the store's cluster whose command begins with a title, or has it in its path."""
    session, found = cluster.status(store)["pid"], []
    for process in psutil.process_iter(["cmdline"]):
        try:
            word = (process.info["cmdline"] or [""])[0]
            if os.getsid(process.pid) == session and (word.startswith(title) if whole else title in word):
                found.append(process)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def balancers(store):
    """HAProxy's processes that take connections for the store's cluster, without those that guard them."""
    found = haproxy.processes(Path(cluster.status(store)["haproxy"]))
    return [process for process in found if process.info["name"] == "haproxy"]


def wait(condition):
    end = time.monotonic() + LONGEST_S
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def kill(process):
    """Kill a process that may have ended since it was found, as an HAProxy does that was reloaded."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)
    return process.pid


def test_no_request_fails_when_the_controller_dies_and_the_next_one_takes_orders(store, digests, load):
    with load:
        (controller,) = processes(store, "ray::ServeController")
        before = kill(controller)
        wait(lambda: [each for each in processes(store, "ray::ServeController") if each.pid != before])
        load.wait(200)
        serving.start(store, NAME, digests[2], 2, SETTINGS)
        load.wait(50)
    print("controller:", load.summary)
    assert (load.failed, load.versions) == (0, {1, 2})


def test_of_two_replicas_one_dies_and_only_its_requests_in_flight_fail(store, load):
    with load:
        before = {each.pid for each in processes(store, f"ray::ServeReplica:{NAME}")}
        assert len(before) == 2
        kill(processes(store, f"ray::ServeReplica:{NAME}")[0])
        load.wait(200)
        wait(lambda: len({e.pid for e in processes(store, f"ray::ServeReplica:{NAME}")} - before) == 1)
        load.wait(200)
    print("replica:", load.summary)
    assert load.failed <= CONNECTIONS


def test_other_settings_replace_the_replicas_and_no_request_fails(store, digests, load):
    with load:
        before = {each.pid for each in processes(store, f"ray::ServeReplica:{NAME}")}
        changed = SETTINGS.model_copy(update={"limits": recipe.LimitsSection(rows=500)})
        serving.start(store, NAME, digests[2], 2, changed)
        wait(lambda: not before & {each.pid for each in processes(store, f"ray::ServeReplica:{NAME}")})
        load.wait(200)
    print("rolling:", load.summary)
    assert load.failed == 0


def test_when_haproxy_dies_its_connections_are_closed_and_clients_that_try_again_are_answered(store, load):
    with load:
        before = balancers(store)
        for each in before:
            kill(each)
        wait(lambda: any(each not in before and is_of_ray(each) for each in balancers(store)))
        load.wait(200)
    print("HAProxy:", load.summary)
    assert load.kinds["closed"] >= 1
    assert set(load.kinds) <= {"200", "closed"}
    assert set(load.again) == {"200"}


def test_when_the_manager_of_haproxy_dies_clients_that_try_again_are_answered(store, digests, load):
    """HAProxy ends with it, by Ray; the next manager knows no application at first."""
    with load:
        (manager,) = processes(store, "ray::HAProxyManager")
        before = kill(manager)
        wait(lambda: [each for each in processes(store, "ray::HAProxyManager") if each.pid != before])
        wait(lambda: [each for each in balancers(store) if is_of_ray(each)] == balancers(store))
        load.wait(200)
        serving.start(store, NAME, digests[1], 1, SETTINGS)
        load.wait(200)
    print("manager of HAProxy:", load.summary)
    assert set(load.kinds) <= {"200", "closed", "refused"}
    assert set(load.again) <= {"200"}  # none, where HAProxy was told to end and answered what it had
    assert load.versions == {1, 2}


def is_of_ray(process):
    """Tell whether an HAProxy is one that Ray started and knows, not a stand-in."""
    return not any(word.endswith(".standin") for word in process.info["cmdline"])


def test_the_next_head_serves_at_the_same_address_and_ends_the_batch_job_that_was_queued(tmp_path, free_port):
    """The manager of the first head's HAProxy dies as it starts, which delays the endpoint alone."""
    own = Store.open(tmp_path / "store")
    registry.set_alias(own, NAME, "champion", registry.register(own, NAME, fit(own)), "test")
    deployed = {"deploy": {"port": free_port, "max_replicas": 1, "replay": False}}
    registry.configure(own, registry.resolve(own, NAME), deployed)
    pq.write_table(rows(50, seed=3).drop_columns(["y"]), folder(own) / "rows.parquet")
    environment = shell(MLSYS_STORE=str(own.root), MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    url = f"http://127.0.0.1:{free_port}/{NAME}"
    try:
        with subprocess.Popen([*MLSYS, "deploy", NAME], env=environment) as deploying:
            wait(lambda: cluster.status(own) is not None)
            kill(wait(lambda: processes(own, "ray::HAProxyManager"))[0])
            assert deploying.wait(COMMAND_S) == 0
        home = Path(cluster.status(own)["haproxy"])
        load = Load(f"{url}/invocations", BODY, CONNECTIONS)
        with load:
            job = submit(f"{url}/batch", {"input": "rows.parquet", "output": "out"})
            for each in head_processes(own):
                kill(each)
            wait(lambda: cluster.status(own) is None)
            print("left of the head:", [each.info["name"] for each in haproxy.processes(home)])
            command(environment, "deploy", NAME)
            load.wait(200)
        assert haproxy.processes(home) == []
        ended = wait(lambda: (found := JobQueue(own).get(NAME, job)).is_over and found)
    finally:
        command(environment, "down")
    print("head:", load.summary)
    assert set(load.kinds) <= {"200", "503", "closed", "refused"}
    assert (ended.state, ended.result["num_rows"], load.versions) == ("succeeded", 50, {1})


def head_processes(store):
    """The processes of a head without which there is no cluster: its command, Ray's control store and its node."""
    names = [("gcs_server", False), ("raylet", False)]
    return [each for title, whole in names for each in processes(store, title, whole=whole)] + [
        psutil.Process(cluster.status(store)["pid"])
    ]


def folder(store):
    """The folder below which batch jobs read and write."""
    made = store.root / "batch"
    made.mkdir()
    return made


def command(environment, *words):
    subprocess.run([*MLSYS, *words], env=environment, check=True, timeout=COMMAND_S)


def submit(url, order):
    request = urllib.request.Request(url, json.dumps(order).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["id"]
