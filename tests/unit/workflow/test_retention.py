"""Retention: what an alias, the ledger, or a run needs stays, with all that it names; a dry run deletes nothing."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from endpoint_files import model
from mlsys import api, errors, locks, registry
from mlsys.console import Console
from mlsys.recipe import parse
from mlsys.store import Store, verify_folder, write_atomic, write_json
from mlsys.workflow import STEPS, Run, retention

YEAR_S = 365 * 86_400


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def stored(store, kind, *names):
    """An object that names other objects."""
    return store.put_json(kind, [kind, *names])


def age(root):
    """Make everything below a folder a year old."""
    then = time.time() - YEAR_S
    for path in [root, *root.rglob("*")]:
        os.utime(path, (then, then))


def register(store, digest, monkeypatch):
    bundle = model("a")
    bundle.digest = digest
    registry.register(store, "late", bundle)
    return registry.versions(store, "late")[-1].version


def kept(store, days=0.0):
    gone = {row.path.name for row in retention.leftovers(store, days=days)}
    return {path.name for path in (store.root / "objects").glob("*/*")} - gone


def test_what_an_alias_means_or_a_rollback_would_go_to_stays_with_all_that_it_names(store, monkeypatch):
    snapshot = stored(store, "snapshot")
    split = stored(store, "split", snapshot)
    first, second, third = (stored(store, "bundle", split, number) for number in "123")
    for digest in (first, second, third):
        version = register(store, digest, monkeypatch)
        registry.set_alias(store, "late", "champion", version, "better")
    lost = stored(store, "ranking")
    age(store.root / "objects")
    assert kept(store) == {snapshot, split, second, third}
    assert kept(store, days=1) == {snapshot, split, first, second, third}  # the ledger of the last day
    assert lost not in kept(store, days=1)


def test_what_the_last_run_made_stays_and_its_records_do(store):
    first, second = stored(store, "profile", "1"), stored(store, "profile", "2")
    store.remember("explore", "one", {"statistics": first})
    store.remember("explore", "two", {"statistics": second})
    write_json(store.run_folder("late") / "result.json", {"explore": {"statistics": second}})
    age(store.root)
    assert {(row.kind, row.path.name) for row in retention.leftovers(store, days=1)} == {
        ("object", first), ("step", "one.json")
    }  # fmt: skip


def test_what_is_young_stays(store):
    stored(store, "profile")
    assert retention.leftovers(store, days=1) == []
    assert len(retention.leftovers(store, days=0)) == 1


def test_checkpoints_of_a_fit_that_never_ended_go_with_the_other_old_things(store):
    old, young = store.root / "checkpoints" / "old", store.root / "checkpoints" / "young"
    for folder in (old, young):
        write_json(folder / "fit" / "placement.json", {})
    age(old)
    assert [(row.kind, row.path) for row in retention.leftovers(store)] == [("checkpoints", old)]


def test_staging_folders_go_after_a_day_and_hidden_folders_of_batches_do(store, tmp_path):
    old, young = store.root / "staging" / "old", store.root / "staging" / "young"
    hidden, other = tmp_path / ".out.0a1b2c3d", tmp_path / ".output.0a1b2c3d"
    for folder in (old, young, hidden, other):
        folder.mkdir(parents=True)
        (folder / "rows").write_text("x")
    for folder in (old, hidden, other):
        age(folder)
    assert {row.path for row in retention.leftovers(store, outputs=[tmp_path / "out"])} == {old, hidden}
    retention.delete(store, outputs=[tmp_path / "out"])
    assert (old.exists(), hidden.exists(), young.exists(), other.exists()) == (False, False, True, True)


def test_a_file_that_a_killed_process_had_begun_goes_after_a_day(store):
    begun, lock = (
        store.root / "labels" / "late" / ".000001-ab.parquet.0a1b2c3d",
        store.root / "labels" / "late" / ".lock",
    )
    for path in (begun, lock):
        write_atomic(path, b"half")
    assert retention.leftovers(store) == []
    age(store.root)
    assert [row.path for row in retention.leftovers(store)] == [begun]
    retention.delete(store)
    assert (begun.exists(), lock.exists()) == (False, True)


def test_deleting_takes_what_was_listed_and_says_how_much(store):
    gone, stays = stored(store, "profile", "1"), stored(store, "profile", "2")
    write_json(store.run_folder("late") / "result.json", {"explore": {"statistics": stays}})
    age(store.root)
    rows = retention.leftovers(store)
    assert retention.delete(store) == rows
    assert sum(row.num_bytes for row in rows) > 0
    assert (store.has("profile", gone), store.has("profile", stays)) == (False, True)
    assert retention.leftovers(store) == []


def test_nothing_is_deleted_while_a_run_is_at_work(store):
    with (
        locks.hold(store.root / "locks" / "late", "run of 'late'"),
        pytest.raises(errors.StoreError, match="got:      run of 'late': "),
    ):
        retention.delete(store)


def test_a_run_that_begins_while_something_is_deleted_waits_until_it_is_done(store):
    output = io.StringIO()
    run = Run(parse("name: late\ntarget: y\ndata: {source: rows.csv}"), store, Console(output))
    order = []

    def at_work():
        with run.ending_after("collect", STEPS):
            order.append("run")

    with locks.hold(store.deletion_lock, "gc"):
        thread = threading.Thread(target=at_work)
        thread.start()
        end = time.monotonic() + 60
        while "waits for gc" not in output.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
        order.append("deleted")
    thread.join(60)
    assert order == ["deleted", "run"]


def test_runs_and_deployments_of_several_names_are_at_work_together(store):
    run = locks.hold(store.root / "locks" / "one", "run"), locks.hold(store.deletion_lock, "run", is_shared=True)
    with registry.locked(store, "one"), registry.locked(store, "two"), run[0], run[1]:
        assert locks.holder(store.deletion_lock) is not None
    assert locks.holder(store.deletion_lock) is None


def test_an_object_that_is_made_again_is_young_again(store):
    digest = stored(store, "profile")
    age(store.root)
    assert [row.path.name for row in retention.leftovers(store)] == [digest]
    assert stored(store, "profile") == digest
    assert retention.leftovers(store) == []


def test_what_cannot_be_made_again_is_never_listed_whatever_its_age(store):
    paths = [
        "openings/a.jsonl", "labels/late/rows.parquet", "predictions/late/2024-01-01/rows.parquet",
        "online/features.sqlite",
        "registry/ledger.jsonl", "registry/mlflow.db", "registry/artifacts/late/run/artifacts/model/bundle/model.json",
        "runs/late/resolved.yaml", "runs/late/reports/evaluate.html", "runs/late/history/2024.json",
        "monitor/late/last.json", "monitor/late/log/key/state.json", "cluster/auth_token", "mine/notes.txt",
    ]  # fmt: skip
    for path in paths:
        write_atomic(store.root / path, b"")
    age(store.root)
    assert retention.leftovers(store, days=0) == []
    retention.delete(store, days=0)
    assert all((store.root / path).is_file() for path in paths)


def test_notes_of_what_was_done_once_need_nothing(store):
    names = ("opened", "replayed", "collected", "latest", "taken")
    opened, replayed, collected, latest, taken = (stored(store, "snapshot", name) for name in names)
    write_atomic(store.root / "openings" / "rows.jsonl", json.dumps({"bundle": opened}).encode())
    folder = store.run_folder("late")
    write_json(folder / "replayed.json", {f"{replayed}:{replayed}": {}})
    entries = [{"snapshot": collected}, {"snapshot": latest}]
    write_json(folder / "collections.json", {"entries": entries, "incremental": {"increments": [[taken, "rows"]]}})
    age(store.root)
    assert kept(store, days=1) == {latest, taken}


def test_what_the_monitor_judged_last_stays(store):
    judgement = stored(store, "monitor")
    write_json(store.root / "monitor" / "late" / "last.json", {"judgement": judgement})
    age(store.root)
    assert kept(store, days=1) == {judgement}


WINE = {"name": "wine", "target": "target", "data": {"source": "sklearn://wine"}}
QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}


def test_of_two_runs_the_last_stays_whole_and_runs_again_without_work(tmp_path, capsys):
    def run(seed, *, quiet=True):
        return api.run(WINE, "evaluate", set={**QUICK, "seed": seed}, store=tmp_path, cluster=False, quiet=quiet)

    runs, store = [run(1), run(2)], Store.open(tmp_path)
    age(store.root)
    gone = retention.delete(store)
    assert {row.path.parent.name for row in gone if row.kind == "object"} >= {"bundle", "evaluation", "split"}
    assert [store.has("bundle", run.bundle) for run in runs] == [False, True]
    run(2, quiet=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:2].strip().isdigit()]
    assert len(lines) == 7
    assert all(line.endswith("unchanged") for line in lines)
    assert run(1).bundle == runs[0].bundle


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from mlsys.store import Store
from mlsys.workflow import retention

rename, num_moved = Path.rename, 0

def killed_rename(path, target):
    global num_moved
    num_moved += 1
    if num_moved == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)

Path.rename = killed_rename
shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
retention.delete(Store(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [1, 2, 9])
def test_a_deletion_that_is_killed_leaves_objects_whole_and_the_next_one_ends_it(store, number):
    gone = [stored(store, "profile", name) for name in "abc"]
    stays = stored(store, "profile", "d")
    write_json(store.run_folder("late") / "result.json", {"explore": {"statistics": stays}})
    age(store.root)
    command = [sys.executable, "-c", KILLED, str(store.root), str(number)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    there = [digest for digest in gone if (store.root / "objects" / "profile" / digest).exists()]
    assert len(there) == max(0, 4 - number)
    for digest in (*there, stays):
        verify_folder(store.path("profile", digest), "profile", digest)
    age(store.root / "staging")
    retention.delete(store)
    assert [path.name for path in (store.root / "objects" / "profile").iterdir()] == [stays]
    assert list((store.root / "staging").iterdir()) == []
