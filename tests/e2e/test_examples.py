"""The programs in jobs/examples/, as someone runs them who wants to copy one."""

import subprocess
import sys

import pytest

from pages import ROOT
from shell import shell

PROMISES = {
    "as_of_joins": "500 visits recorded late: the same model",
    "online_request": "expected a number",
    "own_csv": "probability_2",
    "picture_set": "of ten classes",
    "text_set": "of three classes",
}
"""What each prints, beside much else."""


def test_every_example_is_listed_and_run():
    scripts = {path.stem for path in (ROOT / "jobs" / "examples").glob("*.py")}
    assert scripts == set(PROMISES)
    assert all(f"[{name}.py]({name}.py)" in (ROOT / "jobs" / "examples" / "README.md").read_text() for name in scripts)


@pytest.mark.parametrize("name", PROMISES)
def test_an_example_does_what_it_says(name, tmp_path):
    words = [sys.executable, str(ROOT / "jobs" / "examples" / f"{name}.py"), str(tmp_path)]
    try:
        done = subprocess.run(words, cwd=tmp_path, env=shell(), capture_output=True, text=True, check=False)
    finally:
        down = ["mlsys", "down", "--store", str(tmp_path / "store")]
        subprocess.run(down, env=shell(), capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert PROMISES[name] in done.stdout
