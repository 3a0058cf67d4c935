"""How many different values: HyperLogLog on NumPy arrays of hashes.

References
----------
Flajolet, Fusy, Gandouet & Meunier (2007), "HyperLogLog: the analysis of a near-optimal
cardinality estimation algorithm", AofA, doi:10.46298/dmtcs.3545.
Ertl (2017), "New cardinality estimation algorithms for HyperLogLog sketches",
arXiv:1702.01284, algorithm 6: the improved raw estimator, which needs no table of
corrections for small or large numbers.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mlsys.statistics import codec

__all__ = ["DistinctSketch"]

_BITS = 12
_REGISTERS = 1 << _BITS
_REST = 64 - _BITS


class DistinctSketch:
    """Number of different hashes seen; merging loses nothing, in any order."""

    relative_error = 1.04 / math.sqrt(_REGISTERS)
    """Standard error of the estimate as a fraction of it (Flajolet et al., theorem 1): 1.6 %."""

    def __init__(self) -> None:
        self.registers = np.zeros(_REGISTERS, np.uint8)

    def update(self, hashes: npt.NDArray[np.uint64]) -> None:
        index = (hashes >> np.uint64(_REST)).astype(np.int64)
        rest = (hashes & np.uint64((1 << _REST) - 1)).astype(np.float64)  # 52 bits: exact
        zeros = _REST - np.frexp(rest)[1]
        np.maximum.at(self.registers, index, (zeros + 1).astype(np.uint8))

    def merge(self, *others: DistinctSketch) -> DistinctSketch:
        merged = DistinctSketch()
        merged.registers = np.maximum.reduce([self.registers, *(other.registers for other in others)])
        return merged

    def estimate(self) -> float:
        counts = np.bincount(self.registers, minlength=_REST + 2)
        z = _REGISTERS * _tau(1 - counts[_REST + 1] / _REGISTERS)
        for k in range(_REST, 0, -1):
            z = 0.5 * (z + counts[k])
        z += _REGISTERS * _sigma(counts[0] / _REGISTERS)
        return 0.0 if math.isinf(z) else _REGISTERS**2 / (2 * math.log(2) * z)

    def to_json(self) -> dict[str, Any]:
        return codec.pack(self.registers)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        sketch = cls()
        sketch.registers = codec.array(value)
        return sketch


def _sigma(x: float) -> float:
    """Sum x + x^2 + 2 x^4 + 4 x^8 + …: the share of the registers that are still empty."""
    if x == 1:
        return math.inf
    total, weight, before = x, 1.0, -1.0
    while total != before:
        x *= x
        before = total
        total += x * weight
        weight *= 2
    return total


def _tau(x: float) -> float:
    """Sum (1 - x - (1 - x^(1/2))^2 / 2 - (1 - x^(1/4))^2 / 4 - …) / 3: the share of the registers that are full."""
    if x in (0.0, 1.0):
        return 0.0
    total, weight, before = 1 - x, 1.0, -1.0
    while total != before:
        x = math.sqrt(x)
        before = total
        weight *= 0.5
        total -= (1 - x) ** 2 * weight
    return total / 3
