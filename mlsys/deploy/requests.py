"""Parse the body of a request in one of MLflow's four forms to records or columns.

==================  ===========================================================================
form                body
==================  ===========================================================================
dataframe_records   ``{"dataframe_records": [{"a": 1, "b": "x"}, …]}``
dataframe_split     ``{"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], …]}}``
instances           ``{"instances": [{"a": 1, "b": "x"}, …]}``, or lists in the model's order
inputs              ``{"inputs": {"a": [1, …], "b": ["x", …]}}``, or as ``instances``
OIP v2              `mlsys.deploy.tensors`
==================  ===========================================================================

Only the form is validated here, in time that grows with the body's length; `mlsys.predict.validation` validates the
values. Source: MLflow, "Serving", *Accepted input formats*.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mlsys import errors
from mlsys.deploy import fast_json
from mlsys.predict.coercion import BeyondDouble
from mlsys.predict.explanations import MAX_COLUMNS
from mlsys.predict.validation import Faults, cut, listed, refuse
from mlsys.readers.records import unique_keys
from mlsys.reports import formats

FORMS = ("dataframe_records", "dataframe_split", "inputs", "instances")
SWITCHES = {"probabilities": True, "counts": False, "features": False}
"""Parts of an answer that ``params`` switch on or off, and their defaults."""

MAX_ID_BYTES = 256
"""Bytes of an id at most, in UTF-8: it is logged with every prediction."""

WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_MAYBE_HUGE = re.compile(r"[eE]\+?\d{3}|\d{309}")
"""Text of a number that may be beyond a double, 1.8e308: seldom, so that others need not be looked at one by one."""


@dataclass(frozen=True)
class Bounds:
    """Rows and columns that a request may have, and bytes that they may take."""

    rows: int = 1 << 40
    columns: int = 1 << 40
    body_bytes: int = 1 << 40

    def check(self, rows: int = 0, columns: int = 0) -> None:
        """Refuse more of them, before anything is done for each; `PayloadError`, status 413."""
        if rows > self.rows:
            raise errors.PayloadError.too_many(f"{rows:,} rows", f"{self.rows:,} rows", "rows")
        if columns > self.columns:
            raise errors.PayloadError.too_many(f"{columns:,} columns", f"{self.columns:,} columns", "columns")


@dataclass(slots=True)  # not frozen, which takes 3 µs to make instead of one; nothing changes it
class Request:
    """Rows to predict, either as `records` or as `columns` of one length, and what the answer is to contain.

    Attributes
    ----------
    probabilities, features
        The answer contains probabilities, and the looked-up values (``params`` of these names).
    explain
        The answer says, for each row, what this many columns contributed (``params.explain``); 0 for none.
    counts
        The answer counts values that training never saw or too seldom (``params.counts``, in the
        protocol ``parameters.counts``).
    outputs
        Names of the tensors that are asked for (Open Inference Protocol); None for all.
    id
        The client's id of the request (Open Inference Protocol).
    ids
        The client's ids of the rows: ``params.prediction_ids``, or a tensor ``prediction_id``, in which a row may
        have none.
    binary
        Names of the tensors that are wanted as bytes (`mlsys.deploy.binary_tensors`).
    num_bytes
        Length of the body that it was read from; texts of its rows are no longer.
    """

    records: list[Mapping[str, Any]] | None = None
    columns: dict[str, Sequence[Any]] = field(default_factory=dict)
    probabilities: bool = True
    counts: bool = False
    features: bool = False
    explain: int = 0
    outputs: frozenset[str] | None = None
    id: str | None = None
    ids: Sequence[str | None] | None = None
    binary: frozenset[str] = frozenset()
    num_bytes: int | None = field(default=None, compare=False)

    @property
    def num_rows(self) -> int:
        if self.records is not None:
            return len(self.records)
        return len(next(iter(self.columns.values()), ()))

    def as_records(self) -> list[Mapping[str, Any]]:
        """The rows as one mapping each, whatever form they came in."""
        if self.records is not None:
            return self.records
        names = list(self.columns)
        columns = (
            each.to_pylist() if isinstance(each, pa.Array | pa.ChunkedArray) else each for each in self.columns.values()
        )
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def mlflow(body: bytes, order: Sequence[str], bounds: Bounds = Bounds()) -> Request:
    """Parse one of MLflow's forms; `order` names the columns of rows that are plain lists.

    Raises
    ------
    PayloadError
        The body is not JSON or not one of the forms, or has too many rows or columns.
    RequestError
        The rows do not have the shape of the form.
    """
    tree = table_object(body)
    forms = [form for form in FORMS if form in tree]
    if len(forms) != 1:
        raise errors.PayloadError.form(forms or [listed(sorted(tree))], FORMS)
    unknown = sorted(tree.keys() - {*forms, "params"}) if len(tree) > 1 else ()
    if unknown:
        faults = Faults()
        faults.add("all", unknown[0], "an unknown key", f"{forms[0]} and params")
        refuse(faults)
    params = {**_params(tree.get("params")), "num_bytes": len(body)}
    value = tree[forms[0]]
    if forms[0] == "dataframe_split":
        return Request(columns=_split(value, bounds), **params)
    if forms[0] == "inputs" and isinstance(value, dict):
        return Request(columns=same_length(value, bounds), **params)
    return Request(records=_rows(forms[0], value, order, bounds), **params)


def json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object from UTF-8; a number beyond a double becomes a `BeyondDouble`, which no column takes.

    Raises
    ------
    PayloadError
        It is none: of another encoding, cut short, nested too deeply, with NaN or a key twice, or another value.
    """
    tree = fast_json.decode(body)
    return strict_json_object(body) if tree is None else tree


def table_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object with rows as `json_object` does, and a bare NaN as null.

    It is no JSON, but `json` of Python and rapidjson write it, and so MLflow's client and tritonclient send it for a
    missing value.
    """
    tree = fast_json.decode(body)
    return strict_json_object(body, constant=_nan_as_null) if tree is None else tree


def strict_json_object(body: bytes, constant: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Read a JSON object as `json_object` does, by the rules themselves; `constant` reads NaN and Infinity."""
    if body.startswith(WIDE) or b"\x00" in body[:4]:
        raise errors.PayloadError.not_json("text in UTF-16 or UTF-32")
    try:
        text = body.decode("utf-8-sig")
        parse = _number if _MAYBE_HUGE.search(text) else None
        tree = json.loads(
            text, parse_constant=constant or _no_constant, parse_float=parse, object_pairs_hook=unique_keys
        )
    except RecursionError:
        raise errors.PayloadError.not_json("values nested too deeply") from None
    except ValueError as error:
        got = "an integer of too many digits" if "set_int_max_str_digits" in str(error) else str(error)
        raise errors.PayloadError.not_json(cut(got, 200)) from None
    if not isinstance(tree, dict):
        raise errors.PayloadError.not_json(json_kind(tree))
    return tree


def _number(text: str) -> float | BeyondDouble:
    number = float(text)
    return BeyondDouble(text) if math.isinf(number) else number


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON; send null for a missing value")


def _nan_as_null(text: str) -> None:
    if text != "NaN":
        _no_constant(text)


def _params(params: Any) -> dict[str, Any]:
    """Validate MLflow's ``params`` and return them as arguments of `Request`."""
    if params is None:
        return {}
    faults = Faults()
    if not isinstance(params, dict):
        faults.add("all", "params", json_kind(params), "an object")
        refuse(faults)
    known = ("counts", "explain", "features", "probabilities", "prediction_ids")
    for name in params.keys() - set(known) if len(params) > len(known) else params:
        if name not in known:
            faults.add("all", f"params.{name}", "an unknown parameter", errors.did_you_mean(cut(name), known))
            break
    switches = {name: params.get(name, default) for name, default in sorted(SWITCHES.items())}
    for name, value in switches.items():
        if not isinstance(value, bool):
            got = json_kind(value) if isinstance(value, dict | list | str) else str(value)
            faults.add("all", f"params.{name}", got, "true or false")
    explain = params.get("explain", 0)
    if isinstance(explain, bool) or not isinstance(explain, int) or not 0 <= explain <= MAX_COLUMNS:
        got = json_kind(explain) if isinstance(explain, dict | list | str) else str(explain)
        faults.add("all", "params.explain", got, f"a number of columns from 1 to {MAX_COLUMNS:,}, or 0 for none")
    ids = params.get("prediction_ids")
    if ids is not None and not (isinstance(ids, list) and all(isinstance(name, str) for name in ids)):
        faults.add("all", "params.prediction_ids", json_kind(ids), "a list of texts")
    elif ids is not None:
        check_ids(ids, "params.prediction_ids", faults)
    refuse(faults)
    return {**switches, "explain": explain, "ids": ids}


def check_ids(ids: Sequence[Any], where: str, faults: Faults) -> None:
    """Add a fault for each id that is not text of at most `MAX_ID_BYTES` in UTF-8; None is no id and no fault."""
    if _are_plain(ids):
        return
    for row, name in enumerate(ids):
        if name is not None and not is_id(name):
            got = json_kind(name) if not isinstance(name, str) else ascii(cut(name, 40))
            faults.add(row, where, got, f"text of 1 to {MAX_ID_BYTES} bytes in UTF-8")


def _are_plain(ids: Sequence[Any]) -> bool:
    """Tell at once of nearly all lists that each id is one: texts of ASCII, of which a character is a byte."""
    is_text = {*map(type, ids)} == {str}
    return is_text and all(ids) and max(map(len, ids)) <= MAX_ID_BYTES and all(map(str.isascii, ids))


def is_id(name: object) -> bool:
    """True for a text that a log and an answer can hold.

    >>> is_id("a-1"), is_id(""), is_id("x" * 1000), is_id(chr(0xD800))
    (True, False, False, False)
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_ID_BYTES:
        return False
    try:
        return len(name.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:
        return False


def _rows(form: str, value: Any, order: Sequence[str], bounds: Bounds) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        faults = Faults()
        faults.add("all", form, json_kind(value), "a list of rows")
        refuse(faults)
    bounds.check(rows=len(value))
    if set(map(type, value)) == {dict}:
        bounds.check(columns=max(map(len, value)))
        return list(value)
    rows: list[Mapping[str, Any]] = []
    faults = Faults()
    for number, row in enumerate(value):
        if isinstance(row, dict):
            bounds.check(columns=len(row))
            rows.append(row)
        elif form == "dataframe_records" or not isinstance(row, list):
            faults.add(number, form, json_kind(row), "an object of column and value")
        elif len(row) != len(order):
            _wrong_length(faults, number, form, row, order)
        else:
            rows.append(dict(zip(order, row, strict=True)))
    refuse(faults)
    return rows


def _split(value: Any, bounds: Bounds) -> dict[str, Sequence[Any]]:
    faults, where = Faults(), "dataframe_split"
    if not isinstance(value, dict) or not isinstance(value.get("columns"), list):
        faults.add("all", where, "another form", "an object with columns and data")
        refuse(faults)
    names, data = value["columns"], value.get("data")
    if not isinstance(data, list):
        faults.add("all", f"{where}.data", json_kind(data), "a list of rows")
        refuse(faults)
    bounds.check(rows=len(data), columns=len(names))
    texts = [name for name in names if isinstance(name, str)]
    if len(texts) < len(names):
        faults.add("all", f"{where}.columns", "a name that is no text", "names as text, each once")
    for name, count in Counter(texts).items():
        if count > 1:
            faults.add("all", name, f"{count} columns of this name", "names as text, each once")
    for number, row in enumerate(data):
        if not isinstance(row, list):
            faults.add(number, f"{where}.data", json_kind(row), "a list of values")
        elif len(row) != len(names):
            _wrong_length(faults, number, f"{where}.data", row, names)
    refuse(faults)
    return dict(zip(names, zip(*data, strict=True), strict=True)) if data else dict.fromkeys(names, ())


def same_length(columns: Mapping[str, Any], bounds: Bounds) -> dict[str, Sequence[Any]]:
    """Validate that all columns are lists of one length; the most frequent length is taken as the right one."""
    bounds.check(columns=len(columns))
    faults = Faults()
    for name, values in columns.items():
        if not isinstance(values, list):
            faults.add("all", name, json_kind(values), "a list of values")
    refuse(faults)
    lengths = Counter(len(values) for values in columns.values())
    usual = lengths.most_common(1)[0][0] if lengths else 0
    for name, values in columns.items():
        if len(values) != usual:
            expected = f"{formats.count(usual, 'value')}, as in the other columns"
            faults.add("all", name, formats.count(len(values), "value"), expected)
    refuse(faults)
    bounds.check(rows=usual)
    return dict(columns)


def _wrong_length(faults: Faults, number: int, where: str, row: Sequence[Any], names: Sequence[Any]) -> None:
    """Add a fault for a row that is too short or too long; the names are listed once, with the first."""
    expected = formats.count(len(names), "value")
    expected = f"{expected}: {listed(names)}" if not faults else expected
    faults.add(number, where, formats.count(len(row), "value"), expected)


def json_kind(value: Any) -> str:
    """The kind of a JSON value in words.

    >>> json_kind([]), json_kind(None), json_kind(1.5)
    ('a list', 'null', 'a number')
    """
    words = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")
