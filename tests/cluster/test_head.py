"""Clusters that are started as people start them: by commands, several at once."""

import json
import subprocess
import sys

import psutil
import pyarrow.parquet as pq
import pytest

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


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A store, the folder where its cluster is started, and another one."""
    folder = tmp_path_factory.mktemp("head")
    for name in ("there", "here"):
        (folder / name).mkdir()
    return Store.open(folder / "store"), folder / "there", folder / "here"


@pytest.fixture(scope="module")
def environment(folders):
    return shell(MLSYS_STORE=str(folders[0].root), MLFLOW_TRACKING_URI="http://127.0.0.1:9")


@pytest.fixture(scope="module")
def started(folders, environment):
    """What three commands answered that started a cluster at once; it ends with the module, if not before."""
    up = {"cwd": folders[1], "env": environment, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*UP, "--num-cpus", "1"], **up) for _ in range(3)]
    try:
        yield [(process.communicate(timeout=250)[0], process.returncode) for process in processes]
    finally:
        if heads(folders[0].root):
            down(environment)


def down(environment):
    subprocess.run([*UP[:-1], "down"], env=environment, check=True)


def test_of_three_commands_that_start_a_cluster_at_once_one_does(folders, started):
    store, *_ = folders
    assert [code for _, code in started] == [0, 0, 0]
    assert len({answer for answer, _ in started}) == 1
    assert len(heads(store.root)) == 1


def test_a_relative_path_means_the_folder_where_the_command_is_typed(folders, environment, started):
    store, there, here = folders
    fitted = fit(store)
    registry.set_alias(store, "train", "champion", registry.register(store, "train", fitted), "test")
    for folder, num_rows in ((there, 20), (here, 30)):
        pq.write_table(rows(num_rows, seed=num_rows).drop_columns(["y"]), folder / "rows.parquet")
    command = [*UP[:-1], "predict", "train", "rows.parquet", "out", "--json"]
    done = subprocess.run(command, cwd=here, env=environment, check=True, timeout=250, stdout=subprocess.PIPE)
    assert json.loads(done.stdout)["num_rows"] == 30
    predicted = pq.read_table(here / "out")
    assert predicted["flight"].to_pylist() == pq.read_table(here / "rows.parquet")["flight"].to_pylist()
    assert not (there / "out").exists()


def test_nothing_of_a_cluster_that_is_ended_stays_behind(folders, environment, started):
    store, *_ = folders
    assert len(heads(store.root)) == 1
    down(environment)
    assert heads(store.root) == []
    assert cluster.status(store) is None
