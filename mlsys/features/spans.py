"""Spans of time as a recipe writes them: ``90m``, ``3h``, ``7d``."""

from __future__ import annotations

import re

from mlsys import errors

__all__ = ["span_us"]

UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
"""Microseconds in a unit; a week is written 7d. Days have 24 hours: instants know no summer time."""


def span_us(text: str, where: str) -> int:
    """Microseconds of a span.

    >>> span_us("3h", "features")
    10800000000
    """
    found = re.fullmatch(r"\s*(\d+)\s*(us|ms|[smhd])\s*", text)
    if found is None:
        raise errors.RecipeError.build(
            where, got=text, expected="a number and a unit of " + ", ".join(UNITS_US), hint="3h or 2d"
        )
    return int(found[1]) * UNITS_US[found[2]]
