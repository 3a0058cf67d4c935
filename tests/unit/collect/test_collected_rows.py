"""Rows known by their content."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather

from mlsys.collect.duplicates import CollectedRows
from mlsys.schema import ROW
from mlsys.store import Store

VALUES = st.one_of(st.none(), st.integers(-3, 3))
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12)


def taken(folder, table):
    """What an increment of these rows holds, of which all are near."""
    store = Store.open(folder)

    def fill(at):
        rows = table.append_column("at", pa.array([1] * table.num_rows))
        feather.write_feather(rows.append_column(ROW, pa.array(range(table.num_rows))), str(at / "00000.arrow"))
        return {"latest": 1}

    path = store.path("increment", store.put("increment", fill))
    return CollectedRows.of([path], "at", 1, lambda written: written)


def asked(table):
    return table.append_column("at", pa.array([1] * table.num_rows))


@settings(max_examples=40, deadline=None)
@given(ROWS, st.lists(ROWS, min_size=1, max_size=3))
def test_each_row_is_new_as_often_as_it_comes_beyond_what_was_taken(tmp_path_factory, before, batches):
    """Against lists in plain Python; small values, so that rows repeat and swap their values."""

    def table(rows):
        return pa.table(
            {name: pa.array(part, pa.int64()) for name, part in zip("abc", zip(*rows, strict=True), strict=True)}
        )

    seen, left = taken(tmp_path_factory.mktemp("t"), table(before)), list(before)
    for rows in batches:
        expected = []
        for row in rows:
            expected.append(row not in left)
            if row in left:
                left.remove(row)
        assert seen.subtract(asked(table(rows))).tolist() == expected


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (pa.array([1, 2], pa.int32()), pa.array([1, 2], pa.int64())),
        (pa.array([0.5, 2], pa.float32()), pa.array([0.5, 2], pa.float64())),
        (pa.array(["a", "b"]), pa.array(["a", "b"]).dictionary_encode()),
        (pa.array(["a", "b"]), pa.array(["a", "b"], pa.large_string())),
        (pa.array([5, 7], pa.timestamp("ms", "UTC")), pa.array([5_000, 7_000], pa.timestamp("us", "UTC"))),
        (pa.array([[1, 2], None]), pa.array([[1, 2], None])),
        (pa.array([{"x": 1}, {"x": None}]), pa.array([{"x": 1}, {"x": None}])),
        (pa.array([b"x", None]), pa.array([b"x", None])),
        (pa.array([True, None]), pa.array([True, None])),
    ],
)  # fmt: skip
def test_equal_values_are_known_however_they_are_stored(tmp_path, before, now):
    assert taken(tmp_path, pa.table({"v": before})).subtract(asked(pa.table({"v": now}))).tolist() == [False, False]


def test_a_missing_column_is_one_of_missing_values_and_its_place_does_not_count(tmp_path):
    seen = taken(tmp_path, pa.table({"a": [1, 2], "b": pa.array([None, 3])}))
    assert seen.subtract(asked(pa.table({"a": [1]}))).tolist() == [False]
    assert seen.subtract(asked(pa.table({"b": [3], "a": [2]}))).tolist() == [False]
    assert seen.subtract(asked(pa.table({"b": [2], "a": [3]}))).tolist() == [True]
