"""Sets of labels keep what they say on every way between their forms."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import label_sets as labels

NAMES = st.lists(st.text(min_size=1), min_size=1, max_size=labels.MAX_LABELS, unique=True)


@st.composite
def tables(draw):
    """Names of labels, and rows that have some of them."""
    names = draw(NAMES)
    rows = draw(st.lists(st.lists(st.booleans(), min_size=len(names), max_size=len(names)), min_size=1, max_size=8))
    return names, np.array(rows, np.bool_)


@given(tables())
def test_table_number_and_text_say_the_same(given_rows):
    names, has = given_rows
    y = labels.number(has)
    assert (labels.table(y, len(names)) == has).all()
    texts = labels.texts(y, names)
    assert labels.numbers(texts, names).tolist() == y.tolist()
    assert [json.loads(text) for text in texts.to_pylist()] == [
        [n for n, h in zip(names, row, strict=True) if h] for row in has
    ]


@given(tables())
def test_the_order_and_repeats_of_names_do_not_matter(given_rows):
    names, has = given_rows
    sets = [[name for name, there in zip(names, row, strict=True) if there] for row in has]
    shuffled = pa.array([json.dumps([*reversed(each), *each]) for each in sets], pa.string())
    assert labels.numbers(shuffled, names).tolist() == labels.number(has).tolist()


@pytest.mark.parametrize("text", ["spam", "{}", "[1]", '["ham"]', "", "[[]]", "null", '"spam"'])
def test_what_is_no_set_is_unknown(text):
    assert labels.numbers(pa.array([text]), ("spam", "toxic")).tolist() == [labels.UNKNOWN]


def test_null_is_none_and_a_missing_number_is_null():
    assert np.isnan(labels.numbers(pa.array([None, "[]"], pa.string()), ("a",))).tolist() == [True, False]
    assert labels.texts(np.array([-1.0, np.nan, 1.0]), ("a",)).to_pylist() == [None, None, '["a"]']


@pytest.mark.parametrize(
    ("value", "number"), [(True, 1), (False, 0), (1, 1), (0.0, 0), ("YES ", 1), ("No", 0), ("t", 1), (2, -2), (0.5, -2)]
)
def test_words_of_yes_and_no(value, number):
    assert labels.meaning(value) == number
