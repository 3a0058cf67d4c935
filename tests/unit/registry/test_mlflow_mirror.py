"""MLflow as the mirror of the ledger: another server, a lost database, a server that is down."""

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from mlflow import MlflowClient

from endpoint_files import model, own_tracking, registered
from mlsys import errors, registry
from mlsys.registry import ledger, mlflow_mirror
from mlsys.store import Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store with two versions of `late`, and its own database, which MLflow takes seconds to make."""
    with own_tracking():
        store = registered(tmp_path_factory.mktemp("mirror") / "store", "ab", metrics={"roc_auc": 0.75})
        registry.set_alias(store, "late", "champion", 2, "better")
        assert mlflow_mirror.mirror(store, "late") is None
    return store


@pytest.fixture
def store(template, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store(shutil.copytree(template.root, tmp_path / "store"))


@contextlib.contextmanager
def server(folder):
    """A tracking server of its own on the loopback interface."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", str(folder)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **silent)
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 200
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def tags(client, name="late"):
    return {
        int(version.tags["mlsys.version"]): version.tags["mlsys.digest"]
        for version in client.search_model_versions(f"name='{name}'")
    }


def test_another_server_is_told_everything_and_numbers_nothing(store, tmp_path, monkeypatch):
    with server(tmp_path) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        assert registry.register(store, "late", model("c")) == 3  # the server has none yet
        assert registry.register(store, "late", model("a")) == 1
        assert mlflow_mirror.sync(store).versions == ("late@1", "late@2", "late@3")
        client = MlflowClient(tracking_uri=url, registry_uri=url)
        assert tags(client) == {1: "a" * 64, 2: "b" * 64, 3: "c" * 64}
        champion = client.get_model_version_by_alias("late", "champion")
        assert champion.tags["mlsys.version"] == "2"
        assert client.get_run(champion.run_id).data.metrics == {"roc_auc": 0.75}
        assert mlflow_mirror.sync(store) == mlflow_mirror.Mirrored((), ())


def test_a_lost_database_gives_no_number_twice_and_is_made_again(store):
    (store.root / "registry" / "mlflow.db").unlink()
    assert registry.register(store, "late", model("c")) == 3
    assert mlflow_mirror.mirror(store, "late") is None
    uri = f"sqlite:///{store.root / 'registry' / 'mlflow.db'}"
    assert sorted(tags(MlflowClient(tracking_uri=uri, registry_uri=uri))) == [1, 2, 3]


def test_a_path_to_which_a_url_gives_a_meaning_holds_its_own_database(store, tmp_path):
    odd = Store(store.root.rename(tmp_path / "50%20off#1?x"))
    (odd.root / "registry" / "mlflow.db").unlink()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert mlflow_mirror.mirror(odd, "late") is None
    assert (odd.root / "registry" / "mlflow.db").stat().st_size > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == before == ["50%20off#1?x"]
    assert mlflow_mirror.is_current(odd, "late")


def test_a_server_with_versions_of_another_store_keeps_them_and_gets_ours(store, tmp_path):
    other = Store.open(tmp_path / "other")
    shutil.copytree(store.root / "registry", other.root / "registry")
    (other.root / "registry" / "ledger.jsonl").unlink()
    assert registry.register(other, "late", model("z")) == 1
    registry.set_alias(other, "late", "champion", 1, "first")
    assert mlflow_mirror.mirror(other, "late") is None
    uri = f"sqlite:///{other.root / 'registry' / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    assert client.get_model_version_by_alias("late", "champion").tags["mlsys.digest"] == "z" * 64
    assert len(client.search_model_versions("name='late'")) == 3


@pytest.mark.parametrize("answers", [False, True], ids=["closed", "silent"])
def test_a_server_that_is_down_costs_a_warning_and_holds_no_lock(store, monkeypatch, answers):
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        if answers:
            opened.listen()  # it accepts, and never says a word
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{opened.getsockname()[1]}")
        monkeypatch.setattr(mlflow_mirror, "MIRROR_S", 1.0)
        registry.set_alias(store, "late", "champion", 1, "first")
        assert registry.resolve(store, "late").version == 1
        warning = mlflow_mirror.mirror(store, "late")
        with registry.locked(store, "late"):
            pass
    assert warning.startswith("warning: MLflow does not know of 'late' yet; `mlsys registry sync` tells it later (")
    assert len(warning) < 300


def test_a_server_that_is_down_is_an_error_of_sync(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(errors.RegistryError, match="an answer from MLflow"):
        mlflow_mirror.sync(store)


def test_sync_waits_longer_for_a_slow_server_than_a_command_with_other_work(store, monkeypatch):
    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(1.5)
            with contextlib.suppress(ConnectionError):  # who asked has gone
                self.send_error(418)

        def log_message(self, *_):
            pass

    monkeypatch.setattr(mlflow_mirror, "ANSWER_S", 1)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        registry.set_alias(store, "late", "champion", 1, "first")
        assert "Read timed out" in mlflow_mirror.mirror(store, "late")
        with pytest.raises(errors.RegistryError, match="418"):
            mlflow_mirror.sync(store)
        server.shutdown()


def test_what_the_mirror_has_is_not_asked_again(store, monkeypatch):
    monkeypatch.setattr(mlflow_mirror, "sync", None)
    assert mlflow_mirror.mirror(store, "late") is None


def test_no_password_of_a_server_is_written(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    mlflow_mirror._note(store, "late", len(ledger.read(store)), "")
    assert mlflow_mirror.is_current(store, "late")
    written = [path.read_bytes() for path in (store.root / "registry").iterdir() if path.suffix == ".json"]
    assert not any(b"secret" in data for data in written)
    with pytest.raises(errors.RegistryError) as caught:
        mlflow_mirror.sync(store)
    assert "secret" not in str(caught.value)
