"""Two runs of one name take turns, and the one that waits says for whom."""

import io
import signal
import subprocess
import sys

from mlsys.console import Console
from mlsys.recipe import parse
from mlsys.store import Store
from mlsys.workflow import STEPS, Run

RECIPE = "name: late\ntarget: y\ndata: {source: rows.csv}"

HOLDER = """
import sys
from pathlib import Path
from mlsys import locks
with locks.hold(Path(sys.argv[1]), "run of 'late'"):
    print("holds", flush=True)
    sys.stdin.read()
"""


class Killing(io.StringIO):
    """An output that kills the other process when it is told to wait for it."""

    other = None

    def write(self, text):
        if "waits for" in text:
            self.other.send_signal(signal.SIGKILL)
        return super().write(text)


def test_a_second_run_of_a_name_waits_for_the_first_and_goes_on_when_that_is_killed(tmp_path):
    store, output = Store.open(tmp_path), Killing()
    command = [sys.executable, "-c", HOLDER, str(store.root / "locks" / "late")]
    output.other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert output.other.stdout.readline() == "holds\n"
    run = Run(parse(RECIPE), store, Console(output))
    with run.ending_after("collect", STEPS):
        assert (run.folder / "resolved.yaml").is_file()
    output.other.communicate()
    said = output.getvalue()
    assert said.startswith("run of 'late' waits for run of 'late': ")
    assert f" {output.other.pid}, since " in said


def test_runs_of_two_names_do_not_wait(tmp_path):
    store = Store.open(tmp_path)
    first, second = (Run(parse(RECIPE.replace("late", name)), store, Console(io.StringIO())) for name in ("a", "b"))
    with first.ending_after("collect", STEPS), second.ending_after("collect", STEPS):
        assert second.folder.is_dir()
