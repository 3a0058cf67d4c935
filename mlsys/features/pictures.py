"""What operations on pictures share: bytes in, a row of numbers out, many rows by all threads.

Both executors compute pictures with one function, so their bits cannot differ as long as a
picture's numbers do not depend on the pictures beside it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys import errors, images
from mlsys.features.operations import Matrix, Operation, Writer

__all__ = ["EXPECTED", "Pictures"]

AT_ONCE = 16
"""Pictures computed together: enough that a call of NumPy costs little, few enough for the cache."""

EXPECTED = "the bytes of a PNG or JPEG"


@dataclass(frozen=True)
class Pictures(Operation):
    """Numbers of a picture.

    Attributes
    ----------
    stand_in
        Taken for all numbers of a missing picture; None leaves NaN.
    indicator
        One more column says where there was no picture.
    """

    stand_in: float | None = None
    indicator: bool = False

    @property
    @abstractmethod
    def labels(self) -> list[str]:
        """What the numbers of a picture are called."""

    @abstractmethod
    def describe(self, data: Sequence[bytes]) -> npt.NDArray[np.floating[Any]]:
        """Numbers of pictures, ``(n, len(labels))``.

        Raises
        ------
        UndecodableError
            One does not decode.
        """

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.column}: {label}" for label in self.labels]
        return [*names, f"{self.column} is missing"] if self.indicator else names

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        rows = [at for at, data in enumerate(raw[0]) if data is not None]
        self._fill_missing(out)
        if self.indicator:
            out[rows, -1] = 0.0

        def compute(first: int) -> None:
            at = rows[first : first + AT_ONCE]
            numbers = self._numbers(raw[0].gather(at).to_list())
            out[at, : numbers.shape[1]] = numbers

        images.each(compute, range(0, len(rows), AT_ONCE))

    def writer(self, start: int) -> Writer:
        read, end = self.domain.reader(self.column), start + len(self.outputs)

        def write(value: Any, out: Matrix) -> None:
            data = read(value)
            if data is None:
                self._fill_missing(out[np.newaxis, start:end])
                return
            numbers = self._numbers([data])[0]
            out[start : start + len(numbers)] = numbers
            if self.indicator:
                out[end - 1] = 0.0

        return write

    def _fill_missing(self, out: Matrix) -> None:
        out[:] = math.nan if self.stand_in is None else self.stand_in
        if self.indicator:
            out[:, -1] = 1.0

    def _numbers(self, data: Sequence[bytes]) -> npt.NDArray[np.floating[Any]]:
        try:
            return self.describe(data)
        except images.UndecodableError as error:
            got = f"bytes that are {error}"
            raise errors.RequestError.of([{"row": 0, "field": self.column, "got": got, "expected": EXPECTED}]) from None
