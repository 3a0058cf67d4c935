"""Long bodies read into columns of the model's types: the columns of the rule, or nothing."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys import errors
from mlsys.deploy import requests
from mlsys.deploy.requests import Bounds
from mlsys.deploy.split_bodies import SplitReader
from mlsys.predict.validation import RequestValidator
from mlsys.schema import Column, Kind, Schema

SCHEMA = Schema(
    columns=(
        Column(name="x", type="double", kind=Kind.NUMERIC),
        Column(name="y", type="double", kind=Kind.NUMERIC, nullable=False, minimum=-5, maximum=5),
        Column(name="f", type="float", kind=Kind.NUMERIC),
        Column(name="n", type="int64", kind=Kind.NUMERIC),
        Column(name="m", type="int8", kind=Kind.CATEGORICAL),
        Column(name="b", type="bool", kind=Kind.BOOLEAN),
        Column(name="s", type="string", kind=Kind.CATEGORICAL),
        Column(name="a", type="string", kind=Kind.CATEGORICAL, allowed=("p", "q")),
        Column(name="t", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME),
    )
)
CONTRACT = RequestValidator(SCHEMA, SCHEMA.names, "UTC")
GOOD = ["1.5", "-0.25", "1.5", "7", "-3", "true", '"a"', '"p"', '"2013-10-01T08:00:00Z"']
NUMBERS = """
0 -0 -0.0 3 3.0 1e3 1e-400 1e400 5e-324 9007199254740993 9007199254740993.0 9007199254740992 -9223372036854775808
-9223372036854775809 18446744073709551616 127 128 4.9 -5 5.0 0.1 1e30 01 1. NaN
""".split()
OTHERS = ["null", "true", "false", '"a"', '"q"', '"1"', '""', '"\\ud800"', '"é"', '":"', '"\\":"', "[]", "[1]", "{}"]
TIMES = ['"2013-10-01T08:00:00"', '"2013-10-01T08:00:00+02:00"', '"NaT"', '"2013"']


def body_of(rows, names=SCHEMA.names, blank=""):
    data = f",{blank}".join(f"[{f',{blank}'.join(row)}]" for row in rows)
    written = json.dumps(list(names), separators=(f",{blank}", ":"))
    return f'{{"dataframe_split":{blank}{{"columns":{blank}{written},{blank}"data":{blank}[{data}]}}}}'.encode()


def by_the_rule(body):
    return CONTRACT.columns(requests.mlflow(body, SCHEMA.names).columns)


def outcome(read):
    """What a way gives: types and values to the last bit, or the text of the error."""
    try:
        return bits(read())
    except errors.MlsysError as error:
        return str(error)


def bits(table):
    return [(column.type, [repr(value) for value in column.to_pylist()]) for column in table.columns]


CELLS = st.one_of(
    st.none(), st.sampled_from([*NUMBERS, *OTHERS, *TIMES]), st.floats(allow_nan=False).map(json.dumps),
    st.integers(-(2**60), 2**60).map(str), st.text(max_size=5).map(json.dumps),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    changed=st.lists(st.lists(CELLS, min_size=9, max_size=9), min_size=1, max_size=3),
    only=st.sets(st.integers(0, 8), max_size=3),
    blank=st.sampled_from(["", " "]),
)
def test_a_body_is_read_as_by_the_rule_or_left_to_it(changed, only, blank):
    rows = [
        [GOOD[at] if cell is None or at not in only else cell for at, cell in enumerate(cells)] for cells in changed
    ]
    body = body_of(rows, blank=blank)
    request = SplitReader(CONTRACT).read(body, Bounds())
    if request is not None:
        assert outcome(lambda: CONTRACT.columns(request.columns)) == outcome(lambda: by_the_rule(body))
        assert (request.num_rows, request.num_bytes) == (len(rows), len(body))


@pytest.mark.parametrize("blank", ["", " "])
def test_ordinary_bodies_are_read_into_arrays(blank):
    rows = [GOOD, ["null", "3", "null", "null", "null", "null", "null", '"q"', "null"]]
    body = body_of(rows, blank=blank)
    reader = SplitReader(CONTRACT)
    for _ in range(2):
        request = reader.read(body, Bounds())
        assert {name for name, column in request.columns.items() if isinstance(column, pa.Array)} == {*"xynmbs"}
        assert bits(CONTRACT.columns(request.columns)) == bits(by_the_rule(body))
        assert request.as_records()[1] == dict(zip(SCHEMA.names, [None, 3.0, *[None] * 5, "q", None], strict=True))


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("x", ["1.5", "null", "3"], [1.5, None, 3.0]),
        ("x", ["null", "null"], [None, None]),
        ("x", ["9007199254740991", "null", "0"], [9007199254740991.0, None, 0.0]),  # 2^53 - 1
        ("x", ["null", "9007199254740992"], None),
        ("x", ["-9007199254740993.0", "1"], None),
        ("x", ["-0.0", "1"], None),
        ("n", ["7", "null", "0"], [7, None, 0]),
        ("n", ["null", "null"], [None, None]),
        ("n", ["9007199254740991", "-9007199254740991"], [9007199254740991, -9007199254740991]),
        ("n", ["null", "-9007199254740992"], None),
        ("n", ["9223372036854775808", "1"], None),
        ("m", ["127", "-128", "null"], [127, -128, None]),
        ("m", ["128", "1"], None),
        ("b", ["true", "null", "false"], [True, None, False]),
        ("s", ['"a"', "null", '""'], ["a", None, ""]),
    ],
)
def test_numbers_are_those_that_were_written_or_left_to_the_rule(name, written, expected):
    request = SplitReader(CONTRACT).read(body_of([[value] for value in written], names=[name]), Bounds())
    assert (request and request.columns[name].to_pylist()) == expected


def test_one_number_that_a_double_may_not_have_leaves_the_whole_body_to_the_rule():
    names, first = ["s", "n", "x"], ['"a"', "1", "0.5"]
    reader = SplitReader(CONTRACT)
    assert reader.read(body_of([first, first], names=names), Bounds()) is not None
    for changed in (["null", "9007199254740992", "null"], ["null", "null", "-0.0"]):
        assert reader.read(body_of([first, changed], names=names), Bounds()) is None


@pytest.mark.parametrize(
    "body",
    [
        body_of([GOOD], names=["x", "y", "f", "n", "m", "b", "s", "a", "x"]),
        body_of([GOOD], names=["x", "y", "f", "n", "m", "b", "s", "a", "unknown"]),
        body_of([GOOD[:8]]),
        body_of([]),
        body_of([GOOD] * 6),
        body_of([GOOD])[:-1] + b',"params":{"counts":true}}',
        body_of([GOOD])[:-2] + b',"columns":["x"]}}',
        body_of([GOOD])[:-2] + b',"index":[0]}}',
        body_of([GOOD])[:-1],
        b'{"dataframe_records":[{"x":1}]}',
        b"",
    ],
)
def test_other_bodies_are_left_to_the_rule(body):
    assert SplitReader(CONTRACT).read(body, Bounds(rows=5)) is None


def test_more_columns_than_allowed_are_left_to_the_rule():
    assert SplitReader(CONTRACT).read(body_of([GOOD]), Bounds(columns=8)) is None
    assert SplitReader(CONTRACT).read(body_of([GOOD]), Bounds(columns=9)) is not None
