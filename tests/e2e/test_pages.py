"""Every command of README and docs/, in its order, as someone types it who follows the pages."""

import contextlib
import shutil
import subprocess

import psutil
import pytest

from pages import ROOT, all_blocks
from shell import shell

LIMIT_S = 600
BLOCKS = [block for block in all_blocks() if block.runs]

# `ray stop` ends every Ray of the machine: that is for the person who typed it, not for a test.
GUARD = 'ray() { if [ "$1" = stop ]; then echo "not in a test"; else command ray "$@"; fi; }\nset -eo pipefail\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of what the commands name, so that they leave nothing in the repository."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("jobs", "serve_configs"):
        shutil.copytree(ROOT / name, folder / name)
    yield folder
    end_processes_of(folder / ".mlsys")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs_as_it_stands(block, place):
    done = subprocess.run(
        ["bash", "-c", GUARD + block.script], cwd=place, env=shell(), capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr


def end_processes_of(store):
    """End the processes that were started with this store, found by their environment."""
    ours = [process for process in psutil.process_iter() if belongs(process, store)]
    for process in ours:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end with the one before it
            process.kill()
    psutil.wait_procs(ours, timeout=10)


def belongs(process, store):
    try:
        return process.environ().get("MLSYS_STORE") == str(store)
    except (psutil.Error, OSError):
        return False
