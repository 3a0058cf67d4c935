"""Processes of a fit are killed at random rounds: its model has the bytes of one that nobody disturbed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = {"xgboost": 6, "network": 2}
"""Three workers, two drivers and a machine, and of a network a worker and a driver: some ten seconds each, most of them
for new processes."""

SEED = 2056
"""Of moments that come in as few fits as can be, three kills in each, far enough apart to be different ones."""

OPTIONS = {"xgboost": [], "network": ["--rows", "1000"]}
"""A network samples as many rows as it is trained on in seconds."""

SECONDS = 900
"""Far more than it takes, for a machine that does other work beside it."""

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "recovery.py"


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.parametrize("family", KILLS)
def test_kills_of_workers_drivers_and_a_machine_end_in_the_same_bytes(family):
    words = ["--family", family, "--kills", KILLS[family], "--seed", SEED, "--rounds", 100, "--no-middle", "--json"]
    command = [sys.executable, BENCHMARK, *map(str, [*words, *OPTIONS[family]])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["kills"] == KILLS[family], done.stdout
    assert measured["same_bytes"], done.stdout
