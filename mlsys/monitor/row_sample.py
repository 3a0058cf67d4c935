"""A sample of the rows of a window, a row by the bins of its columns, that merges with those of other parts.

It has the rows of the smallest hashes (a bottom-k sample), so it is the same in whatever order and parts rows were
read. A row is kept as the coarse bin of each of its columns, a byte each: enough to tell which values go together, and
no value of a person.

References
----------
Cohen & Kaplan (2007), Summarizing data using bottom-k sketches, PODC.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys.monitor.reference import ReferenceBins
from mlsys.statistics.arrays import UInt64

MAX_SAMPLED = 1_000
"""Rows of a window that are kept."""

Codes = NDArray[np.uint8]
"""Rows by the coarse bins of their columns, shape (rows, columns)."""


@dataclass(frozen=True)
class RowSample:
    """Rows by their hashes, which are in order, with the block of time of each, and their codes."""

    hashes: UInt64
    block: NDArray[np.int16]
    codes: Codes

    @classmethod
    def empty(cls, num_columns: int) -> Self:
        return cls(np.empty(0, np.uint64), np.empty(0, np.int16), np.empty((0, num_columns), np.uint8))

    @classmethod
    def of(cls, rows: pa.Table, bins: Sequence[ReferenceBins], hashes: UInt64, block: NDArray[Any]) -> Self:
        """Take the rows of the smallest hashes."""
        chosen = np.argsort(hashes, kind="stable")[:MAX_SAMPLED]
        codes = encode(rows.take(pa.array(chosen)), bins)
        return cls(hashes[chosen], np.asarray(block[chosen], np.int16), codes)

    def merge(self, other: RowSample) -> RowSample:
        """The sample of the rows of both."""
        hashes = np.concatenate([self.hashes, other.hashes])
        chosen = np.argsort(hashes, kind="stable")[:MAX_SAMPLED]
        block, codes = np.concatenate([self.block, other.block]), np.concatenate([self.codes, other.codes])
        return RowSample(hashes[chosen], block[chosen], codes[chosen])

    def in_block(self, number: int) -> RowSample:
        """The same rows in one block of a longer window."""
        return RowSample(self.hashes, np.full(len(self.block), number, np.int16), self.codes)

    def to_json(self) -> dict[str, Any]:
        texts = {
            name: base64.b64encode(getattr(self, name).tobytes()).decode() for name in ("hashes", "block", "codes")
        }
        return {**texts, "num_columns": self.codes.shape[1]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        raw = {name: base64.b64decode(value[name]) for name in ("hashes", "block", "codes")}
        hashes, block = np.frombuffer(raw["hashes"], np.uint64), np.frombuffer(raw["block"], np.int16)
        codes = np.frombuffer(raw["codes"], np.uint8).reshape(len(hashes), int(value["num_columns"]))
        return cls(hashes, block, codes)


def encode(rows: pa.Table, bins: Sequence[ReferenceBins]) -> Codes:
    """The coarse bin of each value of these columns; bins beyond a byte, those of rare categories, are one."""
    codes = np.empty((rows.num_rows, len(bins)), np.uint8)
    for number, each in enumerate(bins):
        codes[:, number] = np.minimum(each.group[each.index(rows[each.name])], 255)
    return codes
