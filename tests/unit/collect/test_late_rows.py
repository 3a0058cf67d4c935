"""Rows whose cursor lies below the mark: taken once within the lookback, told, and never beyond it."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors
from mlsys.collect import snapshot
from mlsys.recipe import DataSection
from mlsys.store import Store

HEAD = "k,at,y\n"


def late(lookback, cursor="at"):
    return {"incremental": {"cursor": cursor, "lookback": lookback}}


def keys(taken):
    return taken.snapshot.table()["k"].to_pylist()


def test_late_rows_within_the_lookback_are_taken_once_and_told(take, write):
    first = HEAD + "1,2024-01-01T00:00:00,0\n2,2024-01-05T00:00:00,1\n"
    take(write("a.csv", first), **late("3d"))
    grown = first + "3,2024-01-04T12:00:00,0\n4,2024-01-02T06:00:00,1\n5,2024-01-06T00:00:00,1\n"
    file = write("a.csv", grown)
    taken = take(file, **late("3d"))
    assert keys(taken) == [1, 2, 3, 4, 5]
    assert taken.report["notes"] == ["2 late rows: 'at' up to 2 days, 18:00:00 below what was taken before"]
    again = take(file, **late("3d"))
    assert (again.snapshot.digest, again.report["notes"]) == (taken.snapshot.digest, [])


def test_a_row_below_the_lookback_is_not_taken_until_the_lookback_reaches_it(take, write):
    first = HEAD + "1,100,0\n2,200,1\n"
    take(write("a.csv", first), **late(50))
    file = write("a.csv", first + "3,149,0\n4,150,1\n")
    assert keys(take(file, **late(50))) == [1, 2, 4]
    taken = take(file, **late(100))
    assert keys(taken) == [1, 2, 4, 3]
    assert taken.report["notes"] == ["1 late row: 'at' up to 51 below what was taken before"]


def test_equal_rows_are_taken_as_often_as_they_come(take, write):
    first = HEAD + "1,1,0\n1,1,0\n2,5,1\n"
    take(write("a.csv", first), **late(10))
    taken = take(write("a.csv", first + "1,1,0\n2,5,1\n"), **late(10))
    assert keys(taken) == [1, 1, 2, 1, 2]


def test_without_a_lookback_only_rows_at_the_mark_may_come_late(take, write):
    first = HEAD + "1,1,0\n2,5,1\n"
    take(write("a.csv", first), incremental={"cursor": "at"})
    taken = take(write("a.csv", first + "3,4,0\n4,5,0\n"), incremental={"cursor": "at"})
    assert (keys(taken), taken.report["notes"]) == ([1, 2, 4], [])


@pytest.mark.parametrize(
    ("lookback", "cursor", "message"),
    [
        (3, "t", r"lookback'\n  got: +3\.0 for a cursor of times\n  expected: a span such as 36h"),
        ("3d", "at", r"lookback'\n  got: +'3d' for a cursor of numbers\n  expected: a number"),
    ],
)
def test_a_lookback_in_another_unit_than_the_cursor_is_refused(take, write, lookback, cursor, message):
    with pytest.raises(errors.RecipeError, match=message):
        take(write("a.csv", "t,at,y\n2024-01-01,1,0\n2024-01-02,2,1\n"), **late(lookback, cursor))


def test_a_collection_noted_before_there_was_a_lookback_goes_on(take, write, tmp_path):
    """Notes of that time held digests of the rows at the mark, and increments did not say how far they reach."""
    first = HEAD + "1,1,0\n2,5,1\n"
    take(write("a.csv", first), incremental={"cursor": "at"})
    notes = tmp_path / "run/collections.json"
    noted = json.loads(notes.read_text())
    noted["incremental"]["at_mark"] = {"digest": 1}
    notes.write_text(json.dumps(noted))
    (manifest,) = (tmp_path / "store/objects/increment").glob("*/manifest.json")
    value = json.loads(manifest.read_text())
    del value["facts"]["latest"]
    manifest.write_text(json.dumps(value))
    assert keys(take(write("a.csv", first + "3,5,0\n4,4,1\n"), **late(2))) == [1, 2, 3, 4]


LOOKBACK = 20
ARRIVALS = st.lists(
    st.lists(st.tuples(st.integers(0, 2 * LOOKBACK), st.integers(0, 1)), min_size=1, max_size=5), min_size=1, max_size=4
)


@settings(max_examples=15, deadline=None)
@given(ARRIVALS, st.booleans())
def test_rows_later_than_the_lookback_apart_each_row_is_taken_exactly_once(tmp_path_factory, arrivals, is_growing):
    """A cursor is at most the lookback below the largest one of the collections before."""
    root = tmp_path_factory.mktemp("late")
    data = DataSection(source=str(root / "a.csv"), kinds={"y": "numeric"}, **late(LOOKBACK))
    mark, there, every = 0, [], []
    for batch in arrivals:
        rows = [(mark + step - LOOKBACK, y) for step, y in batch] + ([(0, 0), (0, 1)] if not every else [])
        every += rows
        there = [*there, *rows] if is_growing else rows
        (root / "a.csv").write_text("at,y,n\n" + "".join(f"{at},{y},{at % 7 + y}\n" for at, y in there))
        taken = snapshot.take(Store.open(root), data, target="n", folder=root / "run", task="regression")
        mark = max(mark, *(at for at, _ in rows))
    table = taken.snapshot.table()
    found = Counter(zip(table["at"].to_pylist(), table["y"].to_pylist(), strict=True))
    if is_growing:
        assert found == Counter(every)
    else:  # a row that is equal to one of an earlier file is taken for the same
        assert set(found) == set(every)
