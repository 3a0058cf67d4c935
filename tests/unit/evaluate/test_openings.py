"""The access log of the test rows only grows, and a torn line still counts."""

import pytest

from mlsys import errors
from mlsys.evaluate import scoring
from mlsys.store import Store


def look(store, bundle="b1", split="s1"):
    return scoring.record(store, "demo", split=split, bundle=bundle, reason="evaluate")


def test_each_look_returns_those_before_it(tmp_path):
    store = Store.open(tmp_path)
    assert look(store) == []
    assert [o.bundle for o in look(store, "b2")] == ["b1"]
    assert [(o.bundle, o.split, o.part, o.reason) for o in scoring.read(store, "demo")] == [
        ("b1", "s1", "test", "evaluate"),
        ("b2", "s1", "test", "evaluate"),
    ]


def test_times_are_utc(tmp_path):
    store = Store.open(tmp_path)
    look(store)
    assert scoring.read(store, "demo")[0].at.endswith("+00:00")


def test_a_line_that_a_crash_cut_off_counts_and_does_not_swallow_the_next(tmp_path):
    store = Store.open(tmp_path)
    look(store)
    file = store.run_folder("demo") / "openings.jsonl"
    file.write_bytes(file.read_bytes() + b'{"at": "2026')
    assert len(look(store, "b2")) == 2
    assert [o.bundle for o in scoring.read(store, "demo")] == ["b1", "", "b2"]


def test_runs_have_ledgers_of_their_own(tmp_path):
    store = Store.open(tmp_path)
    look(store)
    assert scoring.read(store, "other") == []


def test_a_look_that_cannot_be_noted_is_an_error(tmp_path):
    store = Store.open(tmp_path)
    (store.run_folder("demo") / "openings.jsonl").mkdir()
    with pytest.raises(errors.StoreError):
        look(store)
