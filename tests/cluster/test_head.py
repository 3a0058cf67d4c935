"""Clusters that are started as people start them: by commands, several at once."""

import json
import subprocess
import sys

import psutil
import pyarrow.parquet as pq

from bundles import fit, rows
from mlsys import cluster, registry
from mlsys.store import Store
from shell import shell

UP = [sys.executable, "-c", "from mlsys.cli import main; main()", "up"]


def heads(root):
    """Processes of head nodes whose store is `root`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        try:
            if {"ray.scripts.scripts", "--head"} <= set(words) and process.environ().get("MLSYS_STORE") == str(root):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_of_three_commands_that_start_a_cluster_at_once_one_does(tmp_path):
    store = Store.open(tmp_path / "store")
    environment = shell(MLSYS_STORE=str(store.root))
    started = [
        subprocess.Popen([*UP, "--num-cpus", "1"], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        answers = {process.communicate(timeout=250)[0] for process in started}
        assert [process.returncode for process in started] == [0, 0, 0]
        assert len(answers) == 1
        assert len(heads(store.root)) == 1
    finally:
        subprocess.run([*UP[:-1], "down"], env=environment, check=True)
    assert heads(store.root) == []
    assert cluster.status(store) is None


def test_a_relative_path_means_the_folder_where_the_command_is_typed(tmp_path):
    store, here, there = Store.open(tmp_path / "store"), tmp_path / "here", tmp_path / "there"
    fitted = fit(store)
    registry.set_alias(store, "train", "champion", registry.register(store, "train", fitted), "test")
    for folder, num_rows in ((there, 20), (here, 30)):
        folder.mkdir()
        pq.write_table(rows(num_rows, seed=num_rows).drop_columns(["y"]), folder / "rows.parquet")
    environment = shell(MLSYS_STORE=str(store.root), MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    try:
        subprocess.run([*UP, "--num-cpus", "1"], cwd=there, env=environment, check=True, timeout=250)
        command = [*UP[:-1], "predict", "train", "rows.parquet", "out", "--json"]
        done = subprocess.run(command, cwd=here, env=environment, check=True, timeout=250, stdout=subprocess.PIPE)
        assert json.loads(done.stdout)["num_rows"] == 30
        predicted = pq.read_table(here / "out")
        assert predicted["flight"].to_pylist() == pq.read_table(here / "rows.parquet")["flight"].to_pylist()
        assert not (there / "out").exists()
    finally:
        subprocess.run([*UP[:-1], "down"], env=environment, check=True)
