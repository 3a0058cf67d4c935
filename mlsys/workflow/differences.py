"""Differences of two sets of values: names of which one side has another value, or none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

DIGEST = re.compile(r"[0-9a-f]{64}")

MAX_TEXT = 48
"""Characters of a value that are shown; a digest stays whole."""

ABSENT = "none"
"""Stands for a value that only one side has."""

Rows = Iterator[tuple[str, str, str]]
"""Where something differs, and the texts of then and now."""


def changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Rows:
    """List the names of which one side has another value, or none.

    >>> list(changed({"rounds": 200, "seed": 0}, {"rounds": 300, "seed": 0}))
    [('rounds', '200', '300')]
    """
    for name in sorted({*then, *now}):
        if name not in then or name not in now or then[name] != now[name]:
            yield name, _text(then, name), _text(now, name)


def leaves(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The values of a tree by dotted key; an empty mapping is one, None is none.

    >>> leaves({"train": {"rounds": 200, "family": None}, "cost": {}})
    {'train.rounds': 200, 'cost': {}}
    """
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            values |= leaves(value, f"{above}{name}.")
        elif value is not None:
            values[f"{above}{name}"] = list(value) if isinstance(value, tuple) else value
    return values


def _text(values: Mapping[str, Any], name: str) -> str:
    text = str(values[name]) if name in values else ABSENT
    return text if len(text) <= MAX_TEXT or DIGEST.fullmatch(text) else f"{text[: MAX_TEXT - 1]}…"
