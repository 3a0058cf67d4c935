"""Numbered columns of one unit are the coordinates of one vector: pixels, sensors, a spectrum, an embedding.

Each divided by its own deviation, the columns in which next to nothing happens (the corners of
a picture) would weigh as much as those that tell rows apart. So for models that compare sizes
of features, the columns of a vector are divided by one deviation, and no logarithm is taken.
Trees are not concerned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from mlsys.schema import Column, Kind
from mlsys.statistics import ColumnStatistics, TableStatistics

__all__ = ["Vectors", "vectors"]

MIN_COORDINATES = 32
"""Fewer numbered columns are more often repeated questions than coordinates."""

ALIKE = 10.0
"""In one unit, half of the columns at least have a deviation within this factor of the largest."""

Vectors = dict[str, tuple[str, int, float]]
"""Column → the prefix that it shares, how many columns share it, and their common deviation."""


def vectors(columns: Iterable[Column], table: TableStatistics) -> Vectors:
    """The columns that are coordinates.

    The common deviation is the root of the mean variance of the columns that vary.
    """
    spreads: dict[str, dict[str, float]] = {}
    for column in columns:
        numbered = re.fullmatch(r"(.*?)\d+", column.name)
        spread = _spread(table.columns[column.name])
        if numbered and column.kind is Kind.NUMERIC and spread > 0:
            spreads.setdefault(numbered[1], {})[column.name] = spread
    found: Vectors = {}
    for prefix, of in spreads.items():
        if len(of) >= MIN_COORDINATES and _in_one_unit(list(of.values())):
            common = math.sqrt(sum(spread * spread for spread in of.values()) / len(of))
            found |= dict.fromkeys(of, (prefix, len(of), common))
    return found


def _spread(statistics: ColumnStatistics) -> float:
    spread = 0.0 if statistics.numbers is None else float(statistics.numbers.moments.stddev or 0.0)
    return spread if math.isfinite(spread) else 0.0


def _in_one_unit(spreads: list[float]) -> bool:
    near = sum(spread * ALIKE >= max(spreads) for spread in spreads)
    return 2 * near >= len(spreads)
