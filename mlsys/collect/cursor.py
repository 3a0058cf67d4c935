"""The cursor of an incremental source: its values as numbers, the mark, and which rows are new.

New are rows beyond the mark, the largest value of the collections before; and those at it or
below it by no more than the lookback that were not taken.
"""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys import errors
from mlsys.collect import convert, parsing
from mlsys.collect.seen import Seen
from mlsys.recipe import Incremental
from mlsys.recipe.spans import span_us

__all__ = ["KINDS", "Cursor"]

KINDS: dict[str, pa.DataType] = {"int64": pa.int64(), "double": pa.float64(), "timestamp": parsing.TIME}
"""What a cursor may be, in the order in which texts are tried."""


class Cursor:
    """Where the collections before ended, and where this one gets to.

    Attributes
    ----------
    kind, mark
        One of `KINDS`, and the largest value so far (microseconds for times); None before the first row.
    before
        The mark of the collections before.
    floor
        The least value of a row that may be new; None at the first collection.
    seen
        Rows from the floor to the mark that were taken before.
    """

    def __init__(self, asked: Incremental, zone: str, kind: str | None, mark: float | None) -> None:
        self.name, self.kind, self.mark, self.before = asked.cursor, kind, mark, mark
        self.floor = None if mark is None else mark - _reach(asked, str(kind))
        self.seen = Seen()
        self._asked, self._zone = asked, zone
        self._num_late, self._most_late = 0, 0.0

    def values(self, written: pa.Array) -> pa.Array:
        """The cursor as integers or decimals; null where it cannot be read."""
        if written.null_count == len(written):
            return pa.nulls(len(written), pa.int64())
        if self.kind is None:
            self.kind = _kind(written, self.name, self._zone)
            _reach(self._asked, self.kind)
        kind = KINDS[self.kind]
        values = _read(written, kind, self._zone)
        if pa.types.is_floating(kind):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        return values.cast(pa.int64()) if pa.types.is_timestamp(kind) else values

    def keep(self, table: pa.Table, values: pa.Array) -> NDArray[np.bool_]:
        """Which rows are new; the mark moves on with them."""
        keep = np.array(pc.is_valid(values))
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
        if self.before is not None:
            near = np.flatnonzero(keep & (numbers >= self.floor) & (numbers <= self.before))
            keep &= numbers > self.before
            fresh = near[self.seen.strike(table.take(pa.array(near)))]
            keep[fresh] = True
            late = self.before - numbers[fresh]
            self._num_late += int((late > 0).sum())
            self._most_late = max(self._most_late, *late.tolist(), 0.0)
        if keep.any():
            latest = numbers[keep].max().item()
            self.mark = latest if self.mark is None else max(self.mark, latest)
        return keep

    def told(self) -> str:
        """How many rows came late, and by how much; empty if none did."""
        if not self._num_late:
            return ""
        is_time = self.kind == "timestamp"
        behind = str(dt.timedelta(microseconds=self._most_late)) if is_time else f"{self._most_late:g}"
        rows = "1 late row" if self._num_late == 1 else f"{self._num_late:,} late rows"
        return f"{rows}: '{self.name}' up to {behind} below what was taken before"


def _reach(asked: Incremental, kind: str) -> float:
    """The lookback in the unit of the cursor.

    Raises
    ------
    RecipeError
        It is a span of time for a cursor of numbers, or a number for one of times.
    """
    lookback = asked.lookback
    if lookback is None:
        return 0
    is_time = kind == "timestamp"
    if isinstance(lookback, str) != is_time:
        raise errors.RecipeError.build(
            "recipe: 'data.incremental.lookback'",
            got=f"{lookback!r} for a cursor of {'times' if is_time else 'numbers'}",
            expected="a span such as 36h" if is_time else "a number",
            field="data.incremental.lookback",
        )
    if isinstance(lookback, str):
        return span_us(lookback)
    return lookback if kind == "double" else math.ceil(lookback)


def _kind(written: pa.Array, cursor: str, zone: str) -> str:
    """What all values of the first batch can be read as."""
    for name, kind in KINDS.items():
        if pa.types.is_temporal(written.type) and not pa.types.is_timestamp(kind):
            continue
        values = _read(written, kind, zone)
        if not convert.misfits(written, values).true_count:
            return name
    raise errors.RecipeError.build(
        f"recipe: 'data.incremental.cursor': column '{cursor}'",
        got=str(written.drop_null()[0]),
        expected="numbers or times, which grow with each write",
        field="data.incremental.cursor",
    )


def _read(written: pa.Array, kind: pa.DataType, zone: str) -> pa.Array:
    if pa.types.is_string(written.type):
        return parsing.read_text(written, kind, zone)
    return convert.stored(pa.chunked_array([written]), kind, zone)
