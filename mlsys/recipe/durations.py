"""Spans of time as a recipe states them: ``90m``, ``3h``, ``7d``."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
"""Microseconds in a unit; a week is written 7d. Days have 24 hours: instants know no summer time."""
PATTERN = rf"^(\d+)({'|'.join(UNITS_US)})$"


def span_us(text: str) -> int:
    """Microseconds of a span.

    >>> span_us("3h")
    10800000000

    Raises
    ------
    ValueError
        The text is not a number with a unit.
    """
    match = re.fullmatch(PATTERN, text)
    if match is None:
        raise ValueError(f"a number and a unit of {', '.join(UNITS_US)}, e.g. 3h or 2d")
    return int(match[1]) * UNITS_US[match[2]]


def _checked(text: str) -> str:
    span_us(text)
    return text


Span = Annotated[str, AfterValidator(_checked), WithJsonSchema({"type": "string", "pattern": PATTERN})]
