"""Read long bodies in the form ``dataframe_split`` straight into columns of the model's types.

msgspec checks the type of each value while it reads a row, once it is told the types of the columns, so that a column
needs no second look value by value. Only what fits is read here: every fault, and every body that might mean something
else, is left to `mlsys.deploy.requests`, which stays the rule. The columns are those that it would give once
`mlsys.predict.validation` has converted them.

Numbers of JSON have no types: an integer in a column of floats becomes one, as there. Two such texts lose something in
a double, ``-0`` and integers beyond 2^53, so that columns with such numbers are left, too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from mlsys.deploy import fast_json
from mlsys.deploy.requests import Bounds, Request
from mlsys.predict.validation import RequestValidator

MAX_BEGINNINGS, MAX_BEGINNING = 64, 16_384
"""Beginnings of bodies, with the names of columns, that are remembered, and bytes that one may have."""

EXACT = 2.0**53
"""Integers of this size on may be none that a double has."""

_BEGINNING = re.compile(rb'\{"dataframe_split": ?\{"columns": ?(\[[^\]]*\])')
_NUM_MEMBERS = 3
"""Members of the objects of such a body: ``dataframe_split``, ``columns`` and ``data``."""

_NEGATIVE_ZERO = np.float64(-0.0).view(np.int64)


@dataclass(frozen=True)
class _Plan:
    """The reader of bodies with one beginning."""

    names: list[str]
    kinds: list[pa.DataType | None]
    decoder: msgspec.json.Decoder[Any]


class SplitReader:
    """Reader for the columns of a model; safe to share between threads."""

    def __init__(self, contract: RequestValidator) -> None:
        self._contract = contract
        self._plans: dict[bytes, _Plan | None] = {}

    def read(self, body: bytes, bounds: Bounds) -> Request | None:
        """Read a body; None where `requests.mlflow` has to."""
        plan = self._plan(body)
        if plan is None or fast_json.num_members(body) != _NUM_MEMBERS:
            return None
        try:
            split = plan.decoder.decode(body).dataframe_split
        except (ValueError, RecursionError):
            return None
        rows = split.data
        if split.columns != plan.names or not 0 < len(rows) <= bounds.rows or len(plan.names) > bounds.columns:
            return None
        columns: dict[str, Any] = {}
        for name, kind, values in zip(plan.names, plan.kinds, zip(*rows, strict=True), strict=True):
            column = values if kind is None else _array(values, kind)
            if column is None or (kind is not None and not self._contract.fits(name, column)):
                return None
            columns[name] = column
        return Request(columns=columns, num_bytes=len(body)) if _are_exact(columns.values()) else None

    def _plan(self, body: bytes) -> _Plan | None:
        beginning = body[: body.find(b"]", 0, MAX_BEGINNING) + 1]
        if beginning not in self._plans:
            if len(self._plans) >= MAX_BEGINNINGS:
                self._plans.clear()
            self._plans[beginning] = self._made(beginning)
        return self._plans[beginning]

    def _made(self, beginning: bytes) -> _Plan | None:
        """The reader for the names of columns in a beginning; None where that is of another form."""
        match = _BEGINNING.fullmatch(beginning)
        try:
            names = msgspec.json.decode(match[1], type=list[str]) if match else []
        except ValueError:
            return None
        if not names or len(set(names)) < len(names) or not all(map(self._contract.knows, names)):
            return None
        kinds = [self._contract.plain_type(name) for name in names]
        row = tuple.__class_getitem__(tuple(map(_json_type, kinds)))
        split = msgspec.defstruct("Split", [("columns", list[str]), ("data", list[row])], forbid_unknown_fields=True)  # type: ignore[valid-type]
        whole = msgspec.defstruct("Whole", [("dataframe_split", split)], forbid_unknown_fields=True)
        return _Plan(names, kinds, msgspec.json.Decoder(whole))


def _json_type(kind: pa.DataType | None) -> Any:
    if kind is None:
        return Any
    if pa.types.is_boolean(kind):
        return bool | None
    if pa.types.is_integer(kind):
        return int | None
    return float | None if pa.types.is_floating(kind) else str | None


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Values as an array; None where it cannot hold them."""
    try:
        return _doubles(values) if pa.types.is_floating(kind) else pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None


def _doubles(values: Sequence[float | None]) -> pa.Array:
    try:
        return pa.array(np.frombuffer(struct.pack(f"{len(values)}d", *values), np.float64))
    except struct.error:  # of a null among them
        return pa.array(values, pa.float64())


def _are_exact(columns: Iterable[Any]) -> bool:
    """Tell whether all numbers in arrays are exactly those that were written; null is NaN here, and passes."""
    arrays = [column for column in columns if isinstance(column, pa.Array) and _is_number(column.type)]
    numbers = np.concatenate([np.zeros(0), *(array.to_numpy(zero_copy_only=False) for array in arrays)])
    return not ((np.abs(numbers) >= EXACT) | (numbers.view(np.int64) == _NEGATIVE_ZERO)).any()


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
