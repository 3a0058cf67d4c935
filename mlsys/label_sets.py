"""Sets of labels: as a text of a table's column, as one number a row, and as a table of true and false.

A row of a multi-label task has any number of the labels. Stored rows, statistics and files of labels hold the set as
the JSON text of a list, such as ``["spam", "toxic"]``; matrices and metrics hold it as a whole number whose bit k says
whether the row has label k, which a float64 holds exactly for up to 53 labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAX_LABELS = 50
"""Labels of a task at most: a model is fitted for each."""

OTHER_SETS = "other sets"
"""The class of the sets of labels that are not among the most frequent ones; it is no text of a set."""

UNKNOWN = -2.0
"""Number of what is no set of the labels."""

YES = ("true", "1", "yes", "y", "t", "positive", "pos")
NO = ("false", "0", "no", "n", "f", "negative", "neg")
"""Words of a column of two values, in any case."""


def meaning(value: Any) -> float:
    """Tell whether a value of a column of two values says yes, 1, or no, 0; `UNKNOWN` for another.

    >>> meaning("Yes"), meaning(0.0), meaning(False), meaning("maybe")
    (1.0, 0.0, 0.0, -2.0)
    """
    word = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip().lower()
    return 1.0 if word in YES else 0.0 if word in NO else UNKNOWN


def text(names: Sequence[str], *, has: Sequence[bool]) -> str:
    """Write the set of those labels that a row has.

    >>> text(("toxic", "spam"), has=(True, True)), text(("toxic", "spam"), has=(False, False))
    ('["toxic", "spam"]', '[]')
    """
    return json.dumps([name for name, is_there in zip(names, has, strict=True) if is_there], ensure_ascii=False)


def texts(y: NDArray[np.float64], names: Sequence[str]) -> pa.Array:
    """Write the sets of these numbers; null where a number is negative or NaN.

    >>> texts(np.array([3.0, -2.0]), ("toxic", "spam")).to_pylist()
    ['["toxic", "spam"]', None]
    """
    distinct, place = np.unique(np.where(y >= 0, y, -1.0), return_inverse=True)
    has = table(np.maximum(distinct, 0.0), len(names))
    written = [None if number < 0 else text(names, has=row) for number, row in zip(distinct, has.tolist(), strict=True)]
    return pa.array(written, pa.string()).take(pa.array(place))


def numbers(values: pa.Array | pa.ChunkedArray, names: Sequence[str]) -> NDArray[np.float64]:
    """Number of each set that is written as a text: NaN for null, `UNKNOWN` for what is no set of these labels.

    The order in which a text names its labels does not matter.

    >>> numbers(pa.array(['["spam", "toxic"]', "[]", None, '["ham"]']), ("toxic", "spam")).tolist()
    [3.0, 0.0, nan, -2.0]
    """
    places = {name: place for place, name in enumerate(names)}
    return by_value(values, lambda value: _number(value, places))


def by_value(values: pa.Array | pa.ChunkedArray, number_of: Callable[[Any], float]) -> NDArray[np.float64]:
    """Number of each value, asked once for each different one; NaN for null."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    known = [np.nan if value is None else number_of(value) for value in encoded.dictionary.to_pylist()]
    index = np.asarray(encoded.indices.fill_null(len(known)), np.int64)
    return np.array([*known, np.nan], np.float64)[index]


def _number(value: str, places: dict[str, int]) -> float:
    try:
        named = json.loads(value)
    except ValueError:
        return UNKNOWN
    if not isinstance(named, list) or not all(isinstance(name, str) and name in places for name in named):
        return UNKNOWN
    return float(sum(2 ** places[name] for name in set(named)))


def table(y: NDArray[Any], num_labels: int) -> NDArray[np.bool_]:
    """Tell of each row and label whether the row has it, from the numbers of the sets.

    >>> table(np.array([0.0, 2.0, 3.0]), 2).tolist()
    [[False, False], [False, True], [True, True]]
    """
    return np.asarray((np.asarray(y, np.int64)[:, None] >> np.arange(num_labels)) & 1, np.bool_)


def number(has: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Number of the set of each row of a table, the inverse of `table`.

    >>> number(np.array([[False, True], [True, True]])).tolist()
    [2.0, 3.0]
    """
    return np.asarray(has @ (2.0 ** np.arange(has.shape[1])), np.float64)
