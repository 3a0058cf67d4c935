"""The fast reader says what the strict one says, or nothing; the writer writes what reads back as the same."""

import json
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlsys import errors
from mlsys.deploy import fast_json, requests, responses

NUMBERS = """
0 -0 -0.0 1e5 1E+5 1e400 -1e400 1e-400 5e-324 NaN Infinity -Infinity 01 1. .5 + - 1e 0x1 9007199254740993
18446744073709551615 18446744073709551616 -9223372036854775809 123456789012345678901234567890
1.7976931348623157e308 1.7976931348623159e308 2.4703282292062327e-324 0.30000000000000004 100000000000000000000.0
""".split()
TEXTS = [
    '"a"',
    '""',
    '":"',
    '"\\":"',
    '"{"',
    '"[[["',
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    '"\\u0000"',
    '"\\x"',
    '"\\u00e9"',
    '"é"',
]
BROKEN = [
    '"\n"',
    '"\x00"',
    '"\x1f"',
    '"\x7f"',
    "'a'",
    "nul",
    "tru",
    "true",
    "false",
    "null",
    "",
    "[]",
    "{}",
    "[,]",
    "[1,]",
]
BLANKS = st.sampled_from(["", "", "", "", " ", "\n", "\t", "\r", "\x0c", "\u00a0"])
LONG = ["1" * 400, "1" * 5_000, "[" * 300 + "]" * 300, "[" * 3_000 + "]" * 3_000, '"' + "x" * 10_000 + '"']


@st.composite
def objects(draw, values):
    """Text of an object, in which names may come twice and blanks stand anywhere."""
    names = st.sampled_from(['"a"', '"b"', '"c:"', '"\\""', '"\\u0061"', '"instances"', '"params"', "a", ""])
    members = draw(st.lists(st.tuples(names, BLANKS, BLANKS, values, BLANKS), max_size=4))
    return "{" + ",".join(f"{name}{before}:{after}{value}{end}" for name, before, after, value, end in members) + "}"


SCALARS = st.one_of(
    st.sampled_from([*NUMBERS, *TEXTS, *BROKEN, *LONG]),
    st.floats().map(repr),
    st.integers().map(str),
    st.text(max_size=8).map(json.dumps),
    st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        objects(inner), st.lists(inner, max_size=4).map(lambda items: "[" + ", ".join(items) + "]")
    ),
    max_leaves=12,
)
TREES = objects(VALUES).map(lambda text: text.encode("utf-8", "surrogatepass"))


@st.composite
def damaged(draw):
    """A text in which bytes were put, taken out or doubled."""
    body = draw(TREES)
    place = draw(st.integers(0, len(body)))
    length = draw(st.integers(0, 3))
    put = draw(
        st.one_of(st.binary(max_size=3), st.sampled_from([b"\xef\xbb\xbf", b"\xed\xa0\x80", b":", b'"', b"\x00"]))
    )
    return body[:place] + put + body[place + length :]


def outcome(read, body):
    try:
        return repr(read(body))
    except errors.PayloadError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(st.one_of(TREES, damaged(), st.binary(max_size=20)))
@example(b'{"a": 1, "a": 2}')
@example(b'{"a" : 1, "b": ":", "a": 2}')
@example(b'{"instances": [{"a": 1, "a": 2}, {"b": ":"}]}')
@example(b'{"a": {"b": {"c": 1, "c": ":"}}}')
@example(b'\xef\xbb\xbf{"a": 1}')
@example(b'{"a": "\x00"}')
def test_both_readers_give_the_same_object_or_the_same_error(body):
    assert outcome(requests.json_object, body) == outcome(requests.strict_json_object, body)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(TREES, damaged()))
@example(body=b'{"a" : 1, "b": ":", "a": 2}')
@example(body=b'{"a": 1, "a": 2}')
def test_long_bodies_are_read_as_short_ones(body, monkeypatch):
    short = outcome(fast_json.decode, body)
    with monkeypatch.context() as patch:
        patch.setattr(fast_json, "LONG_BODY", 0)
        assert outcome(fast_json.decode, body) == short


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(min_size=1, max_size=5),
            st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=9),
            max_size=6,
        ),
        max_size=5,
    )
)
def test_ordinary_rows_are_the_same_in_every_bit(rows):
    body = json.dumps({"dataframe_records": rows}).encode()
    assert outcome(requests.json_object, body) == outcome(requests.strict_json_object, body)


def test_the_usual_requests_are_read_fast():
    row = {"at": "2013-10-01T08:00:00Z", "x": 1.5, "n": 3, "c": "EWR", "missing": None}
    bodies = [
        {"dataframe_records": [row] * 3},
        {"instances": [row], "params": {"counts": True}},
        {"dataframe_split": {"columns": list(row), "data": [list(row.values())] * 500}},
        {"inputs": {name: [value] * 4 for name, value in row.items()}},
        {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [[1.0], [2.0]]}], "id": "r"},
        {"instances": [{**row, "vector": [0.1] * 300}]},
    ]
    for body in bodies:
        for text in (json.dumps(body), json.dumps(body, separators=(",", ":"))):
            assert fast_json.decode(text.encode()) == body


@pytest.mark.parametrize(
    "body",
    [b'{"a": 1, "a": 2}', b'{"a" :1}', b'{"a": NaN}', b"[1]", b'{"a": 1e400}', b'{"a": {"b": {"c": 1}}}', b"",
     b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}"],
)  # fmt: skip
def test_what_is_not_certain_is_left_to_the_strict_reader(body):
    assert fast_json.decode(body) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_that_are_written_read_back_as_the_same_bits(numbers):
    read = json.loads(fast_json.encode(numbers))
    assert [repr(float(number)) for number in read] == list(map(repr, numbers))
    assert [math.copysign(1, number) for number in read] == [math.copysign(1, number) for number in numbers]


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_answers_are_the_json_that_they_were(value):
    assert json.loads(responses.to_bytes(value)) == value


def test_texts_are_written_in_utf_8():
    assert responses.to_bytes({"é": "\u2028\n"}) == '{"é":"\u2028\\n"}'.encode()
