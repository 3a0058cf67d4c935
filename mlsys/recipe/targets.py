"""The target of a recipe: a column, or several columns of two values each, which are the labels of a row."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

MOST = 50
"""Columns of labels at most: a model is fitted for each."""


def _is_target(value: Any) -> Any:
    if isinstance(value, str):
        return value
    names = list(value) if isinstance(value, list | tuple) else []
    if not 2 <= len(names) <= MOST or not all(isinstance(name, str) for name in names):
        raise ValueError(f"a column, or a list of 2 to {MOST} columns of two values each")
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if repeated is not None:
        raise ValueError(f"each column once, and not '{repeated}' twice")
    return tuple(names)


_COLUMNS = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": MOST, "uniqueItems": True}
_SCHEMA = {"anyOf": [{"type": "string"}, _COLUMNS]}
TargetValue = Annotated[str | tuple[str, ...], BeforeValidator(_is_target), WithJsonSchema(_SCHEMA)]
"""A column, or two to fifty of them, each a label that a row has or has not."""


def shown(target: str | tuple[str, ...]) -> str:
    """Name a target in a few words, as a column of its own is named.

    >>> shown("price"), shown(("toxic", "spam")), shown(tuple("abcdef"))
    ('price', 'toxic, spam', 'a, b, c and 3 more labels')
    """
    if isinstance(target, str):
        return target
    few = target if len(target) <= 4 else target[:3]
    more = f" and {len(target) - 3} more labels" if len(target) > 4 else ""
    return ", ".join(few) + more
