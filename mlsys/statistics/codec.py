"""Numbers and arrays as JSON, bit for bit."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["array", "number", "pack", "real"]


def number(value: float) -> float | str:
    """A float for JSON, which knows no NaN and no infinity: those become text.

    >>> number(0.5), number(float("inf")), number(float("nan"))
    (0.5, 'inf', 'nan')
    """
    value = float(value)
    return value if math.isfinite(value) else repr(value)


def real(value: float | str) -> float:
    """The float that `number` wrote."""
    return float(value)


def pack(values: npt.NDArray[Any]) -> dict[str, Any]:
    """An array as base64 of its little-endian bytes, with type and shape."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    text = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(values.shape), "base64": text}


def array(packed: dict[str, Any]) -> npt.NDArray[Any]:
    """The array that `pack` wrote, in native byte order and writable."""
    raw = np.frombuffer(base64.b64decode(packed["base64"]), dtype=np.dtype(packed["dtype"]))
    return raw.reshape(packed["shape"]).astype(raw.dtype.newbyteorder("="), copy=True)
