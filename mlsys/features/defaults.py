"""What an operation has to know besides what the recipe says: how many categories, axes, elements, which parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from mlsys.features.times import CYCLES
from mlsys.features.values import domain_of
from mlsys.schema import Column, Kind, arrow_type
from mlsys.statistics import ColumnStatistics

__all__ = [
    "MAX_CODES",
    "MAX_ONEHOT",
    "Encoding",
    "defaults",
    "min_rows",
    "num_components",
    "num_elements",
    "num_present",
    "parts_of",
]

MAX_CODES = 254
"""Categories with a code of their own: with `OTHER` and missing they fit XGBoost's default of 256 bins."""

MAX_ONEHOT = 128
"""Categories with a column of their own: 128 float32 columns are half a gigabyte a million rows."""

SIDE = 32
"""Side of the square on which the gradients of a picture are taken: cells of 8 pixels, as in the paper."""

SMALL, PIXELS = 32, 16
"""Pictures up to this size show something in a pixel; side of the square to which they are reduced."""

MAX_ELEMENTS = 64
"""Elements of lists taken one by one: a sensor's readings or a small embedding."""

COMPONENTS, MAX_COMPONENTS = 256, 512
"""Axes for texts: 256 float32 columns are a gigabyte a million rows; many classes take up to twice as many."""

TREE_COMPONENTS = 64
"""For trees, which split one axis at a time and gain little from the later ones."""

TEXTS_PER_COMPONENT, MIN_COMPONENTS = 8, 2
"""Training texts an axis; with fewer than two axes, what texts say is not read."""

Encoding = Literal["codes", "dense"]


def defaults(operation: str, column: Column, statistics: ColumnStatistics, encoding: Encoding) -> dict[str, Any]:
    """What an operation has to know besides the options that were given."""
    limits = {"codes": MAX_CODES, "onehot": MAX_ONEHOT}
    if operation in limits:
        return {"max_categories": limits[operation], "min_rows": min_rows(statistics.num_rows)}
    chosen: dict[str, Callable[[], dict[str, Any]]] = {
        "target": lambda: {"min_rows": 1},  # the fewer rows a category has, the more the overall mean bears on it
        "hash": lambda: {"buckets": MAX_ONEHOT},
        "list": lambda: {"elements": num_elements(statistics)},
        "datetime": lambda: {"parts": parts_of(column, statistics) or ["weekday"]},
        "tfidf": lambda: {"components": num_components(statistics, encoding)},
        "image": lambda: _picture(statistics),
    }
    return chosen.get(operation, dict)()


def num_present(statistics: ColumnStatistics) -> int:
    """Rows with a value that counts: of numbers, the finite ones."""
    numbers = statistics.numbers
    return statistics.num_rows - statistics.num_nulls if numbers is None else numbers.moments.n


def min_rows(num_rows: int) -> int:
    """Rows that a category needs in training for a place of its own.

    A mean over fewer than 10 rows has a standard error of a third of the spread; small
    tables have to do with less.
    """
    return max(2, min(10, num_rows // 100))


def parts_of(column: Column, statistics: ColumnStatistics) -> list[str]:
    """Parts of a time whose whole cycle the training rows span.

    The outermost percent on either side does not count: there are the stand-ins such as
    9999-12-31.
    """
    low, high = statistics.quantiles([0.01, 0.99])
    span = (high - low) / 0.98
    domain = domain_of(arrow_type(column.type))
    parts = [part for part in CYCLES if part != "hour" or (domain is not None and domain.name != "date")]
    return [part for part in parts if span >= CYCLES[part].seen_after_us]


def num_components(statistics: ColumnStatistics, encoding: Encoding) -> int:
    """Axes for texts: enough for the classes to lie apart, and `TEXTS_PER_COMPONENT` different texts for each."""
    most = TREE_COMPONENTS if encoding == "codes" else max(COMPONENTS, 4 * (statistics.classes or 0))
    texts = num_present(statistics) if statistics.kind is Kind.TEXT else statistics.num_distinct or 0
    return min(most, MAX_COMPONENTS, texts // TEXTS_PER_COMPONENT)


def num_elements(statistics: ColumnStatistics) -> int:
    """Elements that are taken one by one: all of them where all lists have the same few, else none."""
    lengths = statistics.lengths
    return lengths.maximum if lengths.minimum == lengths.maximum <= MAX_ELEMENTS else 0


def _picture(statistics: ColumnStatistics) -> dict[str, Any]:
    found = statistics.images
    if found is None:
        return {}
    small = max(found.widths.maximum, found.heights.maximum) <= SMALL
    return {
        "size": SIDE,
        "pixels": PIXELS if small else 0,
        "colour": not found.is_grey,
        "sized": not found.is_one_size,
    }
