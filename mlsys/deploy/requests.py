"""Parse the body of a request, in MLflow's four forms or the Open Inference Protocol, to records or columns.

==================  ===========================================================================
form                body
==================  ===========================================================================
dataframe_records   ``{"dataframe_records": [{"a": 1, "b": "x"}, …]}``
dataframe_split     ``{"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], …]}}``
instances           ``{"instances": [{"a": 1, "b": "x"}, …]}``, or lists in the model's order
inputs              ``{"inputs": {"a": [1, …], "b": ["x", …]}}``, or as ``instances``
OIP v2              ``{"inputs": [{"name": "a", "shape": [1], "datatype": "INT64", "data": [1]}, …]}``
==================  ===========================================================================

Only the form is validated here; `mlsys.predict.validation` validates the values. Sources: MLflow,
"Serving", *Accepted input formats*; KServe,
``open-inference-protocol/specification/protocol/inference_rest.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlsys import errors
from mlsys.predict.validation import Violation, refuse, violation
from mlsys.reports import formats

FORMS = ("dataframe_records", "dataframe_split", "inputs", "instances")
SWITCHES = {"probabilities": True, "counts": False, "features": False}
"""Parts of an answer that ``params`` switch on or off, and their defaults."""

DATATYPES = frozenset("BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 FP16 FP32 FP64 BYTES".split())


@dataclass(frozen=True)
class Request:
    """Rows to predict, either as `records` or as `columns` of one length, and what the answer is to contain.

    Attributes
    ----------
    probabilities, features
        The answer contains probabilities, and the looked-up values (``params`` of these names).
    counts
        The answer counts values that training never saw or too seldom (``params.counts``, in the
        protocol ``parameters.counts``).
    id
        The client's id of the request (Open Inference Protocol).
    ids
        The client's ids of the rows: ``params.prediction_ids``, or a tensor ``prediction_id``.
    """

    records: list[Mapping[str, Any]] | None = None
    columns: dict[str, Sequence[Any]] = field(default_factory=dict)
    probabilities: bool = True
    counts: bool = False
    features: bool = False
    id: str | None = None
    ids: list[str] | None = None

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
        return [dict(zip(names, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


def mlflow(body: bytes, order: Sequence[str]) -> Request:
    """Parse one of MLflow's forms; `order` names the columns of rows that are plain lists.

    Raises
    ------
    PayloadError
        The body is not JSON or not one of the forms.
    RequestError
        The rows do not have the shape of the form.
    """
    tree = _object(body)
    forms = [form for form in FORMS if form in tree]
    if len(forms) != 1:
        raise errors.PayloadError.form(forms or sorted(tree), FORMS)
    unknown = sorted(tree.keys() - {*forms, "params"})
    if unknown:
        refuse([violation("all", unknown[0], "an unknown key", f"{forms[0]} and params")])
    params = _params(tree.get("params"))
    value = tree[forms[0]]
    if forms[0] == "dataframe_split":
        return Request(columns=_split(value), **params)
    if forms[0] == "inputs" and isinstance(value, dict):
        return Request(columns=_columns(value), **params)
    return Request(records=_rows(forms[0], value, order), **params)


def open_inference(body: bytes) -> Request:
    """Parse an inference request of the Open Inference Protocol, which has one tensor for each column.

    Raises
    ------
    PayloadError, RequestError
        As `mlflow`.
    """
    tree = _object(body)
    tensors = tree.get("inputs")
    if not isinstance(tensors, list):
        raise errors.PayloadError.form(sorted(tree), ["inputs"])
    faults: list[Violation] = []
    columns: dict[str, Sequence[Any]] = {}
    for position, tensor in enumerate(tensors):
        name, data = _tensor(position, tensor, faults)
        if name in columns:
            faults.append(violation("all", name, "two tensors of this name", "one"))
        columns[name] = data
    refuse(faults)
    outputs = {output.get("name") for output in tree.get("outputs") or [] if isinstance(output, dict)}
    request_id, ids = tree.get("id"), columns.pop("prediction_id", None)
    parameters = tree.get("parameters")
    return Request(
        columns=_columns(columns),
        ids=None if ids is None else [str(value) for value in ids],
        probabilities=not outputs or "probabilities" in outputs,
        counts=isinstance(parameters, dict) and parameters.get("counts") is True,
        id=None if request_id is None else str(request_id),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise errors.PayloadError.not_json(str(error)) from None
    if not isinstance(tree, dict):
        raise errors.PayloadError.not_json(_json_kind(tree))
    return tree


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON; send null for a missing value")


def _params(params: Any) -> dict[str, Any]:
    """Validate MLflow's ``params`` and return them as arguments of `Request`."""
    if params is None:
        return {}
    if not isinstance(params, dict):
        refuse([violation("all", "params", _json_kind(params), "an object")])
    known = ("counts", "features", "probabilities", "prediction_ids")
    faults = [
        violation("all", f"params.{name}", "an unknown parameter", errors.did_you_mean(name, known))
        for name in params
        if name not in known
    ]
    switches = {name: params.get(name, default) for name, default in sorted(SWITCHES.items())}
    ids = params.get("prediction_ids")
    for name, value in switches.items():
        if not isinstance(value, bool):
            faults.append(violation("all", f"params.{name}", repr(value), "true or false"))
    if ids is not None and not (isinstance(ids, list) and all(isinstance(name, str) for name in ids)):
        faults.append(violation("all", "params.prediction_ids", _json_kind(ids), "a list of texts"))
    refuse(faults)
    return {**switches, "ids": ids}


def _rows(form: str, value: Any, order: Sequence[str]) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        refuse([violation("all", form, _json_kind(value), "a list of rows")])
    faults: list[Violation] = []
    rows: list[Mapping[str, Any]] = []
    for number, row in enumerate(value):
        if isinstance(row, dict):
            rows.append(row)
        elif form != "dataframe_records" and isinstance(row, list):
            if len(row) != len(order):
                faults.append(_wrong_length(number, form, row, order))
            rows.append(dict(zip(order, row, strict=False)))
        else:
            faults.append(violation(number, form, _json_kind(row), "an object of column and value"))
    refuse(faults)
    return rows


def _split(value: Any) -> dict[str, Sequence[Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("columns"), list):
        refuse([violation("all", "dataframe_split", "another form", "an object with columns and data")])
    names, data = value["columns"], value.get("data")
    if not isinstance(data, list):
        refuse([violation("all", "dataframe_split.data", _json_kind(data), "a list of rows")])
    faults = [
        violation("all", str(name), f"{names.count(name)} columns of this name", "names as text, each once")
        for name in names
        if not isinstance(name, str) or names.count(name) > 1
    ]
    for number, row in enumerate(data):
        if not isinstance(row, list):
            faults.append(violation(number, "dataframe_split.data", _json_kind(row), "a list of values"))
        elif len(row) != len(names):
            faults.append(_wrong_length(number, "dataframe_split.data", row, names))
    refuse(faults)
    return {name: [row[position] for row in data] for position, name in enumerate(names)}


def _columns(columns: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Validate that all columns are lists of one length; the most frequent length is taken as the right one."""
    others = {name: values for name, values in columns.items() if not isinstance(values, list)}
    refuse([violation("all", name, _json_kind(values), "a list of values") for name, values in others.items()])
    lengths = [len(values) for values in columns.values()]
    usual = max(lengths, key=lengths.count, default=0)
    expected = f"{formats.count(usual, 'value')}, as in the other columns"
    got = {name: formats.count(len(values), "value") for name, values in columns.items() if len(values) != usual}
    refuse([violation("all", name, count, expected) for name, count in got.items()])
    return dict(columns)


def _tensor(position: int, tensor: Any, faults: list[Violation]) -> tuple[str, list[Any]]:
    """Name and values of one tensor of shape (n,) or (n, 1)."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        faults.append(violation("all", f"inputs[{position}]", "no name", "name, shape, datatype and data"))
        return f"inputs[{position}]", []
    name, shape, data = tensor["name"], tensor.get("shape"), tensor.get("data")
    if tensor.get("datatype") not in DATATYPES:
        hint = errors.did_you_mean(str(tensor.get("datatype")), DATATYPES)
        faults.append(violation("all", f"{name}.datatype", repr(tensor.get("datatype")), f"a datatype; {hint}"))
    if not isinstance(shape, list) or not all(type(size) is int for size in shape) or shape[1:] not in ([], [1]):
        faults.append(violation("all", f"{name}.shape", repr(shape), "[rows] or [rows, 1]"))
        return name, []
    if not isinstance(data, list):
        faults.append(violation("all", f"{name}.data", _json_kind(data), "a list of values"))
        return name, []
    flat = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in data]
    size = math.prod(shape)
    if len(flat) != size:
        expected = f"{size}, as its shape says"
        faults.append(violation("all", f"{name}.data", formats.count(len(flat), "value"), expected))
    return name, flat


def _wrong_length(number: int, where: str, row: Sequence[Any], names: Sequence[Any]) -> Violation:
    expected = f"{formats.count(len(names), 'value')}: {', '.join(map(str, names))}"
    return violation(number, where, formats.count(len(row), "value"), expected)


def _json_kind(value: Any) -> str:
    words = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")
