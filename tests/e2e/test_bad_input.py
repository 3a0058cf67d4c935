"""What a person does wrong at the command line, and what is told; nothing of it needs a cluster or loses data."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlsys
from mlsys.store import Store, read_json, verify_folder
from shell import shell

ROWS = "x,colour,y\n" + "".join(f"{i},{'rgb'[i % 3]},{int((i > 300) != (i % 10 == 0))}\n" for i in range(600))
"""A target that x tells in nine rows of ten: enough for the gate, too little for a leak."""

QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2, "evaluate.bootstrap": 20}
SET_QUICK = [word for key, value in QUICK.items() for word in ("--set", f"{key}={json.dumps(value)}")]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(ROWS)
    return path


def recipe_of(table, **changes):
    text = {"name": "small", "target": "y", "data": {"source": str(table)}, **changes}
    path = table.parent / "small.yaml"
    path.write_text(json.dumps(text))
    return path


def refused(command, *words, **options):
    done = command(*words, expect=2, **options)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_misspelt_key_names_the_one_that_was_meant(command, table):
    told = refused(command, "mlsys", "run", recipe_of(table, trian={"rounds": 5}))
    assert "unknown key 'trian'" in told
    assert "did you mean 'train'?" in told


def test_a_misspelt_target_names_the_column_that_was_meant(command, table):
    told = refused(command, "mlsys", "collect", recipe_of(table, data={"source": str(table), "id": "colur"}))
    assert "colur" in told
    assert "did you mean 'colour'?" in told


def test_a_missing_recipe_names_the_one_beside_it(command, table):
    path = recipe_of(table)
    told = refused(command, "mlsys", "run", path.with_name("smal.yaml"))
    assert "did you mean 'small.yaml'?" in told


def test_one_class_only_is_refused_before_anything_is_trained(command, table):
    table.write_text("x,y\n" + "".join(f"{i},1\n" for i in range(200)))
    assert "one class only" in refused(command, "mlsys", "run", recipe_of(table))


def test_a_port_in_use_is_named_with_what_to_do(command, store_root, table):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = refused(command, "mlsys", "deploy", recipe_of(table), *SET_QUICK, "--set", f"deploy.port={port}")
    assert str(port) in told
    assert "hint" in told


def test_a_model_that_learnt_nothing_is_not_served(command, table):
    """Exit code 1, and the reason: the target alternates, whatever the columns say."""
    table.write_text("x,colour,y\n" + "".join(f"{i},{'rgb'[i % 3]},{i % 2}\n" for i in range(200)))
    done = command("mlsys", "deploy", recipe_of(table, name="nothing"), *SET_QUICK, expect=1)
    assert "did not pass its gate" in done.stderr


def test_interrupted_means_that_the_same_command_goes_on(command, store_root, table):
    """Ctrl-C during a step: exit code 130, finished steps stay, the next run does only the rest."""
    path = recipe_of(table, name="interrupted")
    words = [str(Path(sys.executable).parent / "mlsys"), "evaluate", str(path), "--store", str(store_root), *SET_QUICK]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=shell())
    for line in process.stdout:
        if line.startswith("3 features"):
            process.send_signal(signal.SIGINT)
            break
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    assert "goes on from there" in told
    again = command(*words)
    endings = {
        line.split()[1]: line.rsplit("   ", 1)[-1] for line in again.stdout.splitlines() if line[:2].strip().isdigit()
    }
    assert [endings[step] for step in ("collect", "explore", "features")] == ["unchanged"] * 3


def test_a_search_that_is_interrupted_says_what_it_has_and_how_to_take_it(command, store_root, table):
    """Ctrl-C during trials: they end at once, and the best so far is said; the line that it says takes them."""
    path = recipe_of(table, name="searching")
    words = [str(Path(sys.executable).parent / "mlsys"), "tune", str(path), "--store", str(store_root)]
    settings = ["--set", "selection.families=[lightgbm]", "--set", "split.folds=2"]
    process = subprocess.Popen(
        [*words, *settings, "--set", "tune.trials=500"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=shell(),
    )  # fmt: skip
    while len(journal := lines_of(store_root / "runs" / "searching")) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    journal = lines_of(store_root / "runs" / "searching")
    best = max(journal, key=lambda trial: trial["score"])
    assert f"the search has {len(journal)} trials, the best is trial {best['number']}, lightgbm: roc_auc " in told
    assert "the same command goes on from there" in told
    (take,) = re.findall(r"--set (tune\.trials=\d+) it takes the best so far", told)
    done = command(*words, *settings, "--set", take)
    assert f": {len(journal)} trials;" in done.stdout
    assert lines_of(store_root / "runs" / "searching") == journal  # no other was tried
    more = command(*words, *settings, "--set", f"tune.trials={len(journal) + 1}")
    assert f": {len(journal) + 2} trials;" in more.stdout


def lines_of(folder):
    """The trials of the journal in a run's folder."""
    return [json.loads(line) for file in folder.rglob("journal.jsonl") for line in file.read_text().splitlines()]


def test_a_killed_run_leaves_a_store_that_the_next_run_finishes(command, store_root, table, tmp_path):
    """SIGKILL, so no handler runs: what is in the store is whole, and the rest is done again."""
    path = recipe_of(table, name="killed")
    words = [str(Path(sys.executable).parent / "mlsys"), "train", str(path), "--store", str(store_root), *SET_QUICK]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=shell())
    for line in process.stdout:
        if line.startswith("2 explore"):
            time.sleep(1)
            process.kill()
            break
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    done = command(*words)
    killed = read_json(store_root / "runs" / "killed" / "result.json")
    store = Store.open(store_root)
    undisturbed = mlsys.run(path, "train", set=QUICK, store=tmp_path / "undisturbed", cluster=False, quiet=True)
    verify_folder(store.path("bundle", killed["train"]["bundle"]), "bundle", killed["train"]["bundle"])
    assert killed["train"]["bundle"] == undisturbed.bundle, done.stdout
