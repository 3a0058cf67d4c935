"""The access log of the test rows belongs to the rows, only grows, and a torn line still counts."""

import pytest

from mlsys import errors
from mlsys.evaluate import access_log
from mlsys.store import Store


def look(store, bundle="b1", rows="r1", name="demo"):
    return access_log.record(store, rows, name=name, split="s1", bundle=bundle, reason="evaluate")


def test_each_look_returns_those_before_it(tmp_path):
    store = Store.open(tmp_path)
    assert look(store) == []
    assert [o.bundle for o in look(store, "b2")] == ["b1"]
    assert [(o.name, o.bundle, o.split, o.reason) for o in access_log.read(store, "r1")] == [
        ("demo", "b1", "s1", "evaluate"),
        ("demo", "b2", "s1", "evaluate"),
    ]


def test_times_are_utc(tmp_path):
    store = Store.open(tmp_path)
    look(store)
    assert access_log.read(store, "r1")[0].at.endswith("+00:00")


def test_a_line_that_a_crash_cut_off_counts_and_does_not_swallow_the_next(tmp_path):
    store = Store.open(tmp_path)
    look(store)
    file = tmp_path / "openings" / "r1.jsonl"
    file.write_bytes(file.read_bytes() + b'{"at": "2026')
    assert len(look(store, "b2")) == 2
    assert [o.bundle for o in access_log.read(store, "r1")] == ["b1", "", "b2"]


def test_another_name_on_the_same_rows_goes_on_counting(tmp_path):
    store = Store.open(tmp_path)
    look(store)
    assert [o.name for o in look(store, name="other")] == ["demo"]
    assert look(store, rows="r2") == []


def test_a_look_that_cannot_be_noted_is_an_error(tmp_path):
    store = Store.open(tmp_path)
    (tmp_path / "openings" / "r1.jsonl").mkdir(parents=True)
    with pytest.raises(errors.StoreError):
        look(store)
