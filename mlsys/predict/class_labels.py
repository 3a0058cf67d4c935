"""Recognise the classes of a task in labels, however a file or a client writes them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlsys import label_sets
from mlsys.schema import Task

UNKNOWN = -2
"""Class index of a label that is not a class of the task."""


def class_codes(values: pl.Series, task: Task) -> NDArray[np.float64]:
    """Class index of each value: NaN for null, `UNKNOWN` where it is not a class.

    Of several labels it is the number of their set, as `mlsys.label_sets` has it.
    A class is recognised as itself, as its JSON text and as plain text, so that labels in a
    CSV file fit a model that was trained on booleans.

    >>> task = Task(kind="binary", target="late", classes=(False, True))
    >>> class_codes(pl.Series(["true", "0", None, "maybe"]), task).tolist()
    [1.0, 0.0, nan, -2.0]
    """
    if task.labels:
        return label_sets.numbers(pl.Series(values.cast(pl.String)).to_arrow(), task.labels)
    # A spelling of several classes means the first of them.
    spellings = {text: i for i, name in reversed([*enumerate(task.classes)]) for text in _spellings(name)}
    codes = {value: _code(value, spellings) for value in values.unique().to_list()}
    return np.array([codes[value] for value in values.to_list()], dtype=np.float64)


def _spellings(name: str | int) -> list[str]:
    if isinstance(name, bool):
        return [json.dumps(name), str(name), str(name).upper(), str(int(name))]
    return [str(name), json.dumps(name, ensure_ascii=False)]


def _code(value: Any, spellings: dict[str, int]) -> float:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return np.nan
    if isinstance(value, bool):
        return spellings.get(json.dumps(value), spellings.get(str(int(value)), UNKNOWN))
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return spellings.get(text, spellings.get(text.removesuffix(".0"), UNKNOWN))
