"""Tensors as bytes behind the JSON of a request or an answer, as tritonclient and kserve send and read them.

The header ``Inference-Header-Content-Length`` gives the length of the JSON. The bytes of each tensor that has
``binary_data_size`` among its parameters follow, in the order of the JSON: numbers little-endian, BOOL one byte each,
and each element of BYTES behind its length in four bytes. JSON has no NaN, but a tensor of floats may: it counts as
null. Source: Triton Inference Server, ``docs/protocol/extension_binary_data.md``.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from mlsys import errors
from mlsys.deploy.requests import Bounds
from mlsys.predict.coercion import BeyondDouble
from mlsys.predict.validation import Faults, cut
from mlsys.reports import formats

EXTENSION = "binary_tensor_data"
"""Name of the extension in the metadata of a server."""

HEADER = "Inference-Header-Content-Length"
"""Header with the bytes of the JSON in a body, of requests and of answers."""

SIZE = "binary_data_size"

TYPES = {
    "BOOL": "u1", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""Datatype of numbers → NumPy's type of its bytes."""


def filled(tensors: Sequence[Any], tail: bytes, bounds: Bounds, binary: Collection[str], faults: Faults) -> list[Any]:
    """Give the tensors of a request whose values are bytes their values as lists; others stay as they are.

    Parameters
    ----------
    tail
        The bytes behind the JSON.
    binary
        Columns that hold bytes, such as pictures, which requests carry in base64.

    Raises
    ------
    PayloadError
        There are more or fewer bytes than the tensors say, or too many rows.
    """
    sizes = [_size(tensor) for tensor in tensors]
    stated = sum(size for size in sizes if size is not None)
    if stated != len(tail):
        expected = f"{stated:,}, the sum of {SIZE}"
        raise errors.PayloadError.build("request: body", got=f"{len(tail):,} bytes behind the JSON", expected=expected)
    done: list[Any] = []
    start = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        if size is None:
            done.append(tensor)
            continue
        rows, columns = _lengths(tensor.get("shape"))
        bounds.check(rows=rows, columns=columns)
        done.append({**tensor, "data": _values(tensor, tail[start : start + size], binary, faults)})
        start += size
    return done


def asked(outputs: Any, parameters: dict[str, Any], known: Collection[str]) -> frozenset[str]:
    """Names of the outputs that a client wants as bytes: all, those that it names, or none."""
    default = parameters.get("binary_data_output") is True
    if not isinstance(outputs, list) or not outputs:
        return frozenset(known if default else ())
    wants = {each["name"]: (each.get("parameters") or {}) for each in outputs if isinstance(each, dict)}
    return frozenset(name for name, own in wants.items() if isinstance(own, dict) and own.get("binary_data", default))


def divided(body: dict[str, Any], names: Collection[str]) -> tuple[dict[str, Any], bytes]:
    """The body of an answer without the values of the named outputs, and their bytes."""
    outputs, parts = [], []
    for output in body["outputs"]:
        if output["name"] not in names:
            outputs.append(output)
            continue
        parts.append(_bytes(output["datatype"], output["data"]))
        rest = {key: value for key, value in output.items() if key != "data"}
        outputs.append({**rest, "parameters": {SIZE: len(parts[-1])}})
    return {**body, "outputs": outputs}, b"".join(parts)


def _lengths(shape: Any) -> tuple[int, int]:
    """Rows and columns that a shape states; 1 where it states none, which is refused later."""
    sizes = [size if type(size) is int else 1 for size in shape] if isinstance(shape, list) else []
    rows, columns = [*sizes, 1, 1][:2]
    return rows, columns


def _size(tensor: Any) -> int | None:
    """The bytes of a tensor behind the JSON; None where its values are in the JSON."""
    parameters = tensor.get("parameters") if isinstance(tensor, dict) and "data" not in tensor else None
    size = parameters.get(SIZE) if isinstance(parameters, dict) else None
    return size if type(size) is int and size >= 0 else None


def _values(tensor: dict[str, Any], part: bytes, binary: Collection[str], faults: Faults) -> list[Any]:
    """The values of a tensor, as JSON would have carried them; those of an unknown datatype are none."""
    kind, name = tensor.get("datatype"), str(tensor.get("name"))
    where = f"{cut(name)}.data"
    if kind == "BYTES":
        return _texts(part, where, faults, is_binary=name in binary)
    if not isinstance(kind, str) or kind not in TYPES:
        return []
    width = np.dtype(TYPES[kind]).itemsize
    if len(part) % width:
        faults.add("all", where, formats.count(len(part), "byte"), f"{width} bytes for each value of {kind}")
        return []
    array = np.frombuffer(part, TYPES[kind])
    if kind == "BOOL":
        if (array > 1).any():
            faults.add("all", where, "a byte above 1", "a byte of 0 or 1 for each value of BOOL")
        array = array > 0
    values: list[Any] = array.tolist()
    if kind.startswith("FP") and not np.isfinite(array).all():
        values = [_finite(value) for value in values]
    return values


def _finite(value: float) -> float | BeyondDouble | None:
    """A float as JSON could have carried it: NaN is null, and what is infinite no column takes."""
    if math.isnan(value):
        return None
    return BeyondDouble(str(value)) if math.isinf(value) else value


def _texts(part: bytes, where: str, faults: Faults, *, is_binary: bool) -> list[str | None]:
    """The elements of a tensor of BYTES: text in UTF-8, or base64 where the column holds bytes."""
    texts: list[str | None] = []
    at = 0
    while at < len(part):
        end = at + 4 + int.from_bytes(part[at : at + 4], "little")
        if at + 4 > len(part) or end > len(part):
            faults.add("all", where, f"{len(part) - at:,} bytes at its end", "four bytes of length before each element")
            return texts
        element = part[at + 4 : end]
        try:
            texts.append(base64.b64encode(element).decode() if is_binary else element.decode())
        except UnicodeDecodeError:
            faults.add(len(texts), where, "bytes that are no UTF-8", "text in UTF-8")
            texts.append(None)
        at = end
    return texts


def _bytes(kind: str, values: Sequence[Any]) -> bytes:
    if kind != "BYTES":
        return np.array(values, TYPES[kind]).tobytes()
    elements = [str(value).encode("utf-8", "surrogatepass") for value in values]
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)
