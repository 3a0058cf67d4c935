"""Retention: what an alias, the ledger, or a run needs stays, with all that it names; a dry run deletes nothing."""

import os
import time

import pytest

from endpoint_files import model
from mlsys import errors, locks, registry
from mlsys.store import Store, write_json
from mlsys.workflow import retention

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


def test_staging_folders_go_after_a_day_and_hidden_folders_of_batches_do(store, tmp_path):
    old, young = store.root / "staging" / "old", store.root / "staging" / "young"
    hidden, other = tmp_path / ".out.0a1b2c3d", tmp_path / ".output.0a1b2c3d"
    for folder in (old, young, hidden, other):
        folder.mkdir(parents=True)
        (folder / "rows").write_text("x")
    for folder in (old, hidden, other):
        age(folder)
    rows = retention.leftovers(store, outputs=[tmp_path / "out"])
    assert {row.path for row in rows} == {old, hidden}
    retention.delete(store, rows)
    assert (old.exists(), hidden.exists(), young.exists(), other.exists()) == (False, False, True, True)


def test_deleting_takes_what_was_listed_and_says_how_much(store):
    gone, stays = stored(store, "profile", "1"), stored(store, "profile", "2")
    write_json(store.run_folder("late") / "result.json", {"explore": {"statistics": stays}})
    age(store.root)
    rows = retention.leftovers(store)
    assert retention.delete(store, rows) == sum(row.num_bytes for row in rows) > 0
    assert (store.has("profile", gone), store.has("profile", stays)) == (False, True)
    assert retention.leftovers(store) == []


def test_nothing_is_deleted_while_a_run_is_at_work(store):
    with (
        locks.hold(store.root / "locks" / "late", "run of 'late'"),
        pytest.raises(errors.StoreError, match="got:      run of 'late': "),
    ):
        retention.delete(store, [])
