"""Clusters that are started as people start them: by commands, several at once."""

import subprocess
import sys

import psutil

from mlsys import cluster
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
