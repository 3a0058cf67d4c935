"""MLflow sees all: its loader, its scoring server, its tracking server and its pages work with what a run leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pandas as pd
import pytest
from palmerpenguins import load_penguins

import mlsys
from mlsys import bundle, registry
from mlsys.registry import mlflow_mirror
from mlsys.store import Store
from shell import shell

QUICK = {"selection.families": ["linear", "dummy"], "tune.trials": 0, "split.folds": 2, "evaluate.bootstrap": 20}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with a judged model of penguins, registered as champion; and rows to predict."""
    folder = tmp_path_factory.mktemp("penguins")
    frame = load_penguins().drop(columns="year")
    frame.to_csv(folder / "penguins.csv", index=False)
    recipe = {"name": "penguins", "target": "species", "data": {"source": str(folder / "penguins.csv")}}
    done = mlsys.run(recipe, "evaluate", set=QUICK, store=folder / "store", cluster=False, quiet=True)
    store = Store.open(folder / "store")
    registry.register(store, "penguins", bundle.open(store, done.bundle), metrics=done.metrics)
    registry.set_alias(store, "penguins", "champion", 1, reason="a test")
    return store, done, frame.drop(columns="species").iloc[[0, 100, 200, 300]].reset_index(drop=True)


@pytest.fixture
def environment(monkeypatch):
    """Variables for MLflow's commands; those of this process are put back."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    return lambda **more: shell(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", **more)


@pytest.fixture
def started():
    """Start a server and wait until it answers; ended with its children afterwards."""
    processes = []

    def start(words, health, log, **options):
        with log.open("w") as file:
            process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True, **options)
        processes.append(process)
        for _ in range(600):
            assert process.poll() is None, log.read_text()
            try:
                return urllib.request.urlopen(health, timeout=5).status
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        pytest.fail(log.read_text())

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def answer(url, body):
    data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, kind), timeout=60) as reply:
        return json.loads(reply.read())


def mlflow_command(*words):
    return [sys.executable, "-m", "mlflow", *map(str, words)]


def test_mlflow_loads_the_champion_from_the_stores_own_database(trained, environment, monkeypatch):
    import mlflow

    store, done, rows = trained
    mlflow_mirror.sync(store, ["penguins"])
    uri = f"sqlite:///{store.root / 'registry' / 'mlflow.db'}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        model = mlflow.pyfunc.load_model("models:/penguins@champion")
        pd.testing.assert_frame_equal(model.predict(rows), mlsys.load("penguins", store=store.root).predict(rows))
        runs = mlflow.search_runs(experiment_names=["penguins"], output_format="list")
    finally:
        mlflow.set_tracking_uri(before)
    names = {run.info.run_name for run in runs}
    assert {"1 collect", "4 selection", "linear", "dummy", "6 evaluate"} <= names
    assert any(run.data.metrics.get("accuracy") == done.metrics["accuracy"] for run in runs)


def test_mlflow_serves_the_champion_from_a_server_of_its_own(trained, environment, started, tmp_path, monkeypatch):
    store, _, rows = trained
    port, serving = free_port(), free_port()
    tracking = f"http://127.0.0.1:{port}"
    started(
        mlflow_command("server", "--host", "127.0.0.1", "--port", port, "--workers", 1,
                       "--backend-store-uri", f"sqlite:///{tmp_path / 'other.db'}",
                       "--artifacts-destination", tmp_path / "files"),
        f"{tracking}/health", tmp_path / "server.txt", env=environment(), cwd=tmp_path,
    )  # fmt: skip

    # 1. A second tracking server gets all that the store knows, once.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    first, again = mlflow_mirror.sync(store, ["penguins"]), mlflow_mirror.sync(store, ["penguins"])
    assert (first.versions, first.aliases, len(first.runs)) == (("penguins@1",), ("penguins@champion",), 1)
    assert (again.versions, again.aliases, again.runs) == ((), (), ())

    # 2. Its pages and its API show runs and model.
    page = urllib.request.urlopen(f"{tracking}/", timeout=30).read().decode()
    assert "MLflow" in page
    found = answer(
        f"{tracking}/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"], "filter": "tags.mlsys.step = 'evaluate'"}
    )
    assert [run["info"]["run_name"] for run in found["runs"]] == ["6 evaluate"]

    # 3. MLflow's scoring server answers as the bundle does.
    started(
        mlflow_command("models", "serve", "-m", "models:/penguins@champion", "--env-manager", "local",
                       "--host", "127.0.0.1", "--port", serving),
        f"http://127.0.0.1:{serving}/health", tmp_path / "scoring.txt",
        env=environment(MLFLOW_TRACKING_URI=tracking), cwd=tmp_path,
    )  # fmt: skip
    records = json.loads(rows.to_json(orient="records"))
    replied = answer(f"http://127.0.0.1:{serving}/invocations", {"dataframe_records": records})
    ours = mlsys.load("penguins", store=store.root).predict(rows)
    assert [row["prediction"] for row in replied["predictions"]] == ours["prediction"].tolist()
    assert [row["probability_Adelie"] for row in replied["predictions"]] == pytest.approx(ours["probability_Adelie"])
