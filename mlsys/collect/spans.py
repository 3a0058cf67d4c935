"""Spans of time as recipes write them."""

from __future__ import annotations

__all__ = ["span_s"]

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def span_s(text: str) -> float:
    """Seconds of a span such as ``90m``, ``36h`` or ``2d``.

    >>> span_s("36h")
    129600
    """
    return int(text[:-1]) * UNITS_S[text[-1]]
