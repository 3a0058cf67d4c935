"""A step's process leaves the session that it shares with replicas, where Linux weighs sessions before processes."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import contextlib, os, subprocess, sys
from pathlib import Path
from mlsys.cluster import priority

children = [subprocess.Popen(["sleep", "30"])] if sys.argv[3:] else []
before = os.getsid(0)
priority._HAS_AUTOGROUPS, priority._AUTOGROUP = map(Path, sys.argv[1:3])
with contextlib.suppress(PermissionError):
    priority._leave_session()
    priority._leave_session()
for child in children:
    child.kill()
print(os.getsid(0) == before, os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())
"""


@pytest.fixture
def leave(tmp_path):
    """The session of a process that leads its group, as Ray's workers do, and the weight that it asked for."""

    def run(switch, *more):
        files = tmp_path / "enabled", tmp_path / "weight"
        if switch is not None:
            files[0].write_text(f"{switch}\n", encoding="ascii")
        command = [sys.executable, "-c", SCRIPT, *map(str, files), *more]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, process_group=0)
        return ended.stdout.split(), Path(files[1]).read_text() if files[1].is_file() else None

    return run


def test_a_step_has_a_session_of_the_least_weight_and_the_process_group_that_ray_knows(leave):
    assert leave(1) == (["False", "True", "True"], "19")


@pytest.mark.parametrize("switch", [0, None], ids=["switched off", "unknown"])
def test_it_stays_where_sessions_have_no_weight(leave, switch):
    assert leave(switch) == (["True", "False", "True"], None)


def test_with_a_child_in_its_group_it_keeps_group_and_session(leave):
    assert leave(1, "with a child") == (["True", "False", "True"], None)
