import os
import socket
import threading
import time

import psutil
import pytest

from free_ports import free_ports
from mlsys import errors
from mlsys.cluster import haproxy, head
from mlsys.cluster.priority import SERVING
from mlsys.store import Store, write_json


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def test_an_address_at_which_nothing_answers_is_told_by_the_variable_that_names_it():
    (port,) = free_ports(1)
    with pytest.raises(errors.ClusterError) as raised:
        head._check_address(f"127.0.0.1:{port}")
    assert str(raised.value) == (
        f"cluster: RAY_ADDRESS is 127.0.0.1:{port}\n"
        "  got:      [Errno 111] Connection refused\n"
        "  expected: a running Ray cluster\n"
        "  hint:     `unset RAY_ADDRESS` lets mlsys find or start its own cluster; or start the one that it names"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_server_that_is_no_cluster_is_told(address):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(errors.ClusterError, match="got:      another kind of server"):
            head._check_address(address.format(server.getsockname()[1]))
        thread.join()


def test_an_answer_that_comes_byte_by_byte_is_read_to_its_end():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(100)
            for byte in bytes(3) + bytes([head.SETTINGS_FRAME]) + bytes(5):
                connection.sendall(bytes([byte]))
                time.sleep(0.01)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        head._check_address(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_addresses_without_a_port_are_left_to_ray():
    head._check_address("auto")
    head._check_address("local")


def test_a_cluster_is_found_again_after_the_clock_was_set(store, monkeypatch):
    mine = {"address": "127.0.0.1:1", "pid": os.getpid(), "started": head._process_start(os.getpid())}
    write_json(store.root / "cluster" / "state.json", mine)
    before = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: before(process) + 3600)
    assert head.status(store) == mine


def test_another_process_with_the_same_id_is_not_the_cluster(store):
    boot, ticks = head._process_start(os.getpid()).split()
    other = {"address": "127.0.0.1:1", "pid": os.getpid(), "started": f"{boot} {int(ticks) - 1}"}
    write_json(store.root / "cluster" / "state.json", other)
    assert head.status(store) is None


def test_the_folder_of_a_clusters_haproxy_goes_with_the_cluster(store):
    """Also where the cluster was killed and nothing of it runs any more."""
    home = haproxy.folder()
    haproxy.settings(home, 1, 2)
    write_json(store.root / "cluster" / "state.json", {"pid": 1, "started": "before this boot", "haproxy": str(home)})
    assert head.down(store) is False
    assert not home.exists()
    assert not (store.root / "cluster" / "state.json").exists()


def test_a_process_that_goes_while_it_is_opened_does_not_end_the_waiting_for_the_others(monkeypatch):
    waited, wait = [], psutil.wait_procs

    def lost_once(processes, timeout):
        waited.append(timeout)
        if len(waited) == 1:
            raise FileNotFoundError(2, "No such file or directory")
        return wait(processes, timeout)

    monkeypatch.setattr(psutil, "wait_procs", lost_once)
    alive = psutil.Process()
    assert head._alive_after([alive], 0.01) == [alive]
    assert waited == [0.01, 0.01]


@pytest.mark.parametrize(("served_at", "is_served"), [("192.0.2.2:1", True), ("192.0.2.2:2", False), (None, False)])
def test_something_is_served_where_the_note_of_it_names_the_port_of_the_cluster_that_runs(store, served_at, is_served):
    if served_at is not None:
        write_json(store.root / "cluster" / SERVING, {"address": served_at})
    assert not head.is_serving(store)
    state = {"address": "127.0.0.1:1", "pid": os.getpid(), "started": head._process_start(os.getpid())}
    write_json(store.root / "cluster" / "state.json", state)
    assert head.is_serving(store) == is_served
