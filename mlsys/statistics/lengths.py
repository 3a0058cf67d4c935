"""Lengths of texts and lists."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Lengths", "lengths_of"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lengths:
    """Count, sum and range of the lengths of values; of types without a length, nothing."""

    n: int = 0
    total: int = 0
    minimum: int = 0
    maximum: int = 0

    @classmethod
    def of(cls, lengths: Ints | None, counts: Ints | None = None) -> Self:
        """Of lengths as `lengths_of` gives them, each occurring `counts` times (once by default)."""
        if lengths is None or len(lengths) == 0:
            return cls()
        times = np.ones(len(lengths), np.int64) if counts is None else counts
        return cls(int(times.sum()), int(lengths @ times), int(lengths.min()), int(lengths.max()))

    def merge(self, other: Lengths) -> Lengths:
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        return Lengths(
            self.n + other.n,
            self.total + other.total,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    @property
    def mean(self) -> float:
        return self.total / self.n

    def to_json(self) -> list[int]:
        return list(astuple(self))

    @classmethod
    def from_json(cls, value: list[int]) -> Self:
        return cls(*value)


def lengths_of(values: pa.Array) -> Ints | None:
    """Length of each value, none of them null; None for a type without lengths."""
    kind: Any = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        found = pc.utf8_length(values)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        found = pc.binary_length(values)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        found = pc.list_value_length(values)
    else:
        return None
    return np.asarray(found).astype(np.int64)
