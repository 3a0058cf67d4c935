"""Parse an inference request of the Open Inference Protocol, which has one tensor for each column, or one for all.

``{"inputs": [{"name": "a", "shape": [1], "datatype": "INT64", "data": [1]}, …]}``. A single tensor of shape
(rows, columns) has a value for each column of the model, in its order, whatever its name. The values of a tensor must
be of its datatype, null aside: a client that writes INT64 beside 12.5 has mixed something up. Texts that came as base64
(``"parameters": {"content_type": "base64"}``) are decoded; values that came as bytes behind the JSON, too, by
`mlsys.deploy.binary_tensors`. Source: KServe,
``open-inference-protocol/specification/protocol/inference_rest.md``.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from mlsys import errors
from mlsys.deploy import binary_tensors
from mlsys.deploy.requests import MAX_ID_BYTES, Bounds, Request, check_ids, is_id, json_kind, same_length, table_object
from mlsys.predict.coercion import BeyondDouble, shown
from mlsys.predict.validation import Faults, cut, listed, refuse
from mlsys.reports import formats

ID = "prediction_id"
"""Tensor that holds ids of the rows."""

OUTPUTS = ("prediction", "probabilities", "decisions", ID)
"""Tensors of an answer, of which a task has some."""

_INTEGERS = {
    f"{sign}INT{bits}": (-(2 ** (bits - 1)) if not sign else 0, 2 ** (bits - (not sign)) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
DATATYPES = frozenset(["BOOL", *_INTEGERS, "FP16", "FP32", "FP64", "BYTES"])


def open_inference(
    body: bytes,
    bounds: Bounds = Bounds(),  # noqa: B008 - it is frozen
    binary: Collection[str] = (),
    order: Sequence[str] = (),
    outputs: Collection[str] = OUTPUTS,
    json_bytes: int | None = None,
) -> Request:
    """Parse an inference request.

    Parameters
    ----------
    binary
        Columns that take base64 as it is.
    order
        The columns of a single tensor of shape (rows, columns).
    outputs
        Names of the tensors that an answer may have.
    json_bytes
        Length of the JSON, where values follow it as bytes.

    Raises
    ------
    PayloadError
        The body is not JSON, has no tensors, or has too many rows or columns.
    RequestError
        A tensor is not as the protocol has it, or its values are not of its datatype.
    """
    tree = table_object(body[:json_bytes])
    tensors = tree.get("inputs")
    if not isinstance(tensors, list):
        raise errors.PayloadError.form([listed(sorted(tree))], ["inputs"])
    bounds.check(columns=len(tensors))
    faults = Faults()
    asked, request_id, parameters = (
        _outputs(tree, outputs, faults),
        _request_id(tree, faults),
        _parameters(tree, faults),
    )
    if json_bytes is not None:
        tensors = binary_tensors.filled(tensors, body[json_bytes:], bounds, binary, faults)
    columns: dict[str, Sequence[Any]] = {}
    for position, tensor in enumerate(_divided(tensors, order, faults)):
        name, data = _tensor(position, tensor, bounds, faults)
        if name in columns:
            faults.add("all", name, "two tensors of this name", "one")
        packed = isinstance(tensor, dict) and _is_base64(tensor, parameters) and name not in binary
        columns[name] = _decoded(name, data, faults) if packed else data
    refuse(faults)
    sent = columns.pop(ID, None)
    ids = None if sent is None else [str(name) if type(name) is int else name for name in sent]
    check_ids(ids or (), ID, faults)
    refuse(faults)
    return Request(
        columns=same_length(columns, bounds),
        ids=ids,
        probabilities=asked is None or "probabilities" in asked,
        outputs=asked,
        counts=parameters.get("counts") is True,
        binary=binary_tensors.asked(tree.get("outputs"), parameters, outputs),
        id=request_id,
        num_bytes=len(body),
    )


def _outputs(tree: dict[str, Any], known: Collection[str], faults: Faults) -> frozenset[str] | None:
    """Names of the outputs that the client asks for; None, which is all, if it does not say."""
    outputs = tree.get("outputs")
    if outputs is None:
        return None
    names = [output.get("name") for output in outputs if isinstance(output, dict)] if isinstance(outputs, list) else []
    if not isinstance(outputs, list) or len(names) < len(outputs) or not all(isinstance(name, str) for name in names):
        faults.add("all", "outputs", json_kind(outputs), "a list of objects with the name of an output")
        return None
    for name in sorted({str(name) for name in names} - {*known}):
        faults.add("all", "outputs", cut(name), f"an output of the model; {errors.did_you_mean(cut(name), known)}")
    return frozenset(map(str, names)) or None


def _divided(tensors: list[Any], order: Sequence[str], faults: Faults) -> list[Any]:
    """The tensors of columns: those that were sent, or the columns of a single one of two dimensions."""
    of_rows = [each for each in tensors if not (isinstance(each, dict) and each.get("name") == ID)]
    if len(of_rows) != 1 or not isinstance(of_rows[0], dict):
        return tensors
    whole = of_rows[0]
    shape, data = whole.get("shape"), whole.get("data")
    if not isinstance(shape, list) or not isinstance(data, list) or len(shape) != 2 or shape[1] == 1:
        return tensors
    if not all(type(size) is int and size >= 0 for size in shape):
        return tensors
    rows, width = shape
    flat = [value for row in data for value in row] if data and all(isinstance(row, list) for row in data) else data
    if width != len(order):
        expected = f"{len(order):,} columns: {listed(order)}" if order else "[rows] or [rows, 1]"
        faults.add("all", f"{cut(str(whole.get('name')))}.shape", _shape_shown(shape), expected)
    elif len(flat) != rows * width:
        faults.add("all", f"{cut(str(whole.get('name')))}.data", formats.count(len(flat), "value"), f"{rows * width:,}")
    else:
        columns = [{**whole, "name": name, "shape": [rows], "data": flat[k::width]} for k, name in enumerate(order)]
        return [*columns, *(each for each in tensors if each is not whole)]
    refuse(faults)
    return tensors


def _request_id(tree: dict[str, Any], faults: Faults) -> str | None:
    sent = tree.get("id")
    if sent is None or sent == "":
        return None
    name = str(sent) if type(sent) is int and abs(sent) < 1 << 63 else sent
    if not is_id(name):
        faults.add("all", "id", json_kind(sent), f"text of at most {MAX_ID_BYTES} bytes in UTF-8")
        return None
    return str(name)


def _parameters(tree: dict[str, Any], faults: Faults) -> dict[str, Any]:
    parameters = tree.get("parameters")
    if isinstance(parameters, dict):
        return parameters
    if parameters is not None:
        faults.add("all", "parameters", json_kind(parameters), "an object")
    return {}


def _tensor(position: int, tensor: Any, bounds: Bounds, faults: Faults) -> tuple[str, list[Any]]:
    """Name and values of one tensor of shape (n,) or (n, 1)."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        faults.add("all", f"inputs[{position}]", "no name", "name, shape, datatype and data")
        return f"inputs[{position}]", []
    name, shape, data, datatype = tensor["name"], tensor.get("shape"), tensor.get("data"), tensor.get("datatype")
    where = cut(name)
    if "data" not in tensor and "binary_data_size" in (tensor.get("parameters") or {}):
        expected = f"values as JSON, or bytes behind it and the header {binary_tensors.HEADER}"
        faults.add("all", f"{where}.data", "binary data", expected)
        return name, []
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        got = ascii(cut(datatype)) if isinstance(datatype, str) else json_kind(datatype)
        faults.add("all", f"{where}.datatype", got, functools.partial(_datatypes, datatype))
        return name, []
    if not isinstance(shape, list) or not all(type(size) is int for size in shape) or shape[1:] not in ([], [1]):
        faults.add("all", f"{where}.shape", functools.partial(_shape_shown, shape), "[rows] or [rows, 1]")
        return name, []
    if not isinstance(data, list):
        faults.add("all", f"{where}.data", json_kind(data), "a list of values")
        return name, []
    bounds.check(rows=len(data))
    flat = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in data]
    size = math.prod(shape)
    if len(flat) != size:
        faults.add("all", f"{where}.data", formats.count(len(flat), "value"), f"{size:,}, as its shape says")
    _check_values(where, datatype, flat, faults)
    return name, flat


def _datatypes(sent: Any) -> str:
    return f"a datatype; {errors.did_you_mean(cut(sent, 20) if isinstance(sent, str) else '', DATATYPES)}"


def _shape_shown(shape: Any) -> str:
    return shown(shape).removeprefix("list ") if isinstance(shape, list) else json_kind(shape)


def _check_values(where: str, datatype: str, values: Sequence[Any], faults: Faults) -> None:
    """Add a fault for each value that is not of the tensor's datatype; null is of each."""
    is_of = _is_of(datatype)
    for row, value in enumerate(values):
        if value is not None and not is_of(value):
            faults.add(row, f"{where}.data", functools.partial(shown, value), f"a value of its datatype {datatype}")


def _is_of(datatype: str) -> Callable[[Any], bool]:
    """Function that tests a JSON value for a datatype; an integer may be written 3.0, a list or a decimal as BYTES."""
    if datatype == "BOOL":
        return lambda value: isinstance(value, bool)
    if datatype == "BYTES":
        return lambda value: not isinstance(value, bool | dict | BeyondDouble)
    if datatype.startswith("FP"):
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    low, high = _INTEGERS[datatype]

    def is_integer(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return False
        return isinstance(value, int) or value.is_integer()

    return is_integer


def _is_base64(tensor: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """Tell whether texts of a tensor are packed: the tensor's own content type counts before that of the request."""
    own = tensor.get("parameters")
    own = own if isinstance(own, dict) else {}
    return tensor.get("datatype") == "BYTES" and own.get("content_type", parameters.get("content_type")) == "base64"


def _decoded(name: str, values: Sequence[Any], faults: Faults) -> list[Any]:
    """Texts of base64 as what they stand for."""
    decoded: list[Any] = []
    for row, value in enumerate(values):
        try:
            decoded.append(value if value is None else base64.b64decode(value, validate=True).decode())
        except (binascii.Error, ValueError, TypeError):
            faults.add(row, f"{cut(name)}.data", functools.partial(shown, value), "base64 of text in UTF-8")
            decoded.append(None)
    return decoded
