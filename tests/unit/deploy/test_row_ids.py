"""Ids of the rows of a request: those that were sent, in their places, and new ones for the others."""

import uuid

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import errors
from mlsys.deploy import requests, row_ids
from mlsys.deploy.requests import Request
from mlsys.predict.validation import Faults

TEXT = "text of 1 to 256 bytes in UTF-8"


def faults_of(ids):
    faults = Faults(limit=None)
    requests.check_ids(ids, "prediction_id", faults)
    return [(fault["row"], fault["got"]) for fault in faults]


def of_rows(rows, column="flight", **request):
    return row_ids.of_rows(column, Request(**request), rows, len(rows))


def is_new(name):
    return uuid.UUID(name).version == 7


@pytest.mark.parametrize(
    ("ids", "faults"),
    [
        ([], []),
        (["a", "b", "a"], []),
        (["a", None], []),
        ([None, None], []),
        (["x" * 256, "é" * 128], []),  # 256 bytes each
        (["a", "x" * 257], [(1, "'" + "x" * 39 + "\\u2026'")]),
        (["a", "é" * 129], [(1, "'" + "\\xe9" * 24 + "\\x…")]),  # 258 bytes
        (["a", "", None, ""], [(1, "''"), (3, "''")]),
        (["a", "\ud800"], [(1, "'\\ud800'")]),
        (["a", 7, True, ["b"]], [(1, "a number"), (2, "true or false"), (3, "a list")]),
        ([b"a"], [(0, "a number")]),
    ],
)
def test_an_id_is_text_that_a_log_can_hold(ids, faults):
    assert faults_of(ids) == faults


PLAIN = st.text(st.characters(max_codepoint=127), min_size=1, max_size=300) | st.sampled_from(["x" * 256, "x" * 257])
ANY = st.one_of(
    st.none(), st.integers(), st.booleans(), st.binary(max_size=2), st.text(st.characters(), max_size=300),
    st.sampled_from(["", "é" * 128, "é" * 129, "€" * 85, "€" * 86, "\ud800"]),
)  # fmt: skip


@given(st.lists(PLAIN) | st.lists(PLAIN | ANY))
def test_ids_are_checked_together_as_one_by_one(ids):
    expected = [row for row, name in enumerate(ids) if name is not None and not requests.is_id(name)]
    assert [row for row, _ in faults_of(ids)] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b", "a"], ["a", "b", "a"]),
        (["ä", "€"], ["ä", "€"]),
        ([1, 20], ["1", "20"]),
        ([1.0, 2.5], ["1.0", "2.5"]),
        ([True, False], ["True", "False"]),
    ],
)
def test_the_id_column_names_the_rows(values, expected):
    assert of_rows(pa.table({"flight": values})) == expected
    assert of_rows([{"flight": value} for value in values]) == expected


@pytest.mark.parametrize("as_table", [True, False])
def test_rows_that_lack_an_id_get_new_ones(as_table):
    values = [None, "a", "", "b", None]
    ids = of_rows(pa.table({"flight": values}) if as_table else [{"flight": value} for value in values])
    assert (ids[1], ids[3]) == ("a", "b")
    assert all(is_new(ids[row]) for row in (0, 2, 4))
    assert len(set(ids)) == 5


def test_rows_without_the_column_or_of_a_model_without_one_get_new_ids():
    for ids in (of_rows([{"seats": 1}, {}]), of_rows(pa.table({"seats": [1, 2]})), of_rows([{}, {}], column=None)):
        assert len({*filter(is_new, ids)}) == 2


def test_no_rows_have_no_ids():
    assert of_rows([]) == of_rows(pa.table({"flight": pa.nulls(0, pa.string())})) == of_rows([], ids=[]) == []


@given(st.lists(st.sampled_from(["a", "b", "é"]) | st.none()))
def test_ids_beside_the_rows_stay_in_their_places(sent):
    ids = of_rows([{"flight": "F"}] * len(sent), ids=sent)
    assert len(ids) == len(sent)
    assert all(name == known for name, known in zip(ids, sent, strict=True) if known is not None)
    new = [name for name, known in zip(ids, sent, strict=True) if known is None]
    assert len({*filter(is_new, new)}) == len(new)


def test_ids_that_are_none_are_refused_by_their_rows():
    with pytest.raises(errors.RequestError) as caught:
        of_rows(pa.table({"flight": ["a", "x" * 257, "€" * 86]}))
    assert caught.value.violations == [
        {"row": 1, "field": "flight", "got": "'" + "x" * 39 + "\\u2026'", "expected": TEXT},
        {"row": 2, "field": "flight", "got": "'" + "\\u20ac" * 16 + "\\u…", "expected": TEXT},
    ]


def test_more_or_fewer_ids_than_rows_are_refused():
    with pytest.raises(errors.RequestError) as caught:
        of_rows([{}, {}], ids=["a", "b", "c"])
    assert caught.value.violations == [
        {"row": "all", "field": "prediction_ids", "got": "3 ids", "expected": "2, one for each row"}
    ]
