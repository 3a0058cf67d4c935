"""The value of a recipe's `loss`: a word, or a word with its number, such as ``{quantile: 0.9}``."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

LOSSES, LEAST = ("auto", "poisson", "tweedie", "gamma"), {"quantile": 0.0, "tweedie": 1.0}
"""Losses without a number; and the number that the one of another loss lies above, less than 1 above."""


def _is_loss(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) and len(value) == 1 else ()
    numbers = [(LEAST.get(name, math.inf), number) for name, number in pairs if isinstance(number, int | float)]
    if value not in LOSSES and not any(least < number < least + 1 for least, number in numbers):
        raise ValueError("auto, poisson, tweedie, gamma, {quantile: Q} with 0 < Q < 1, or {tweedie: P} with 1 < P < 2")
    return value


_LOSS_SCHEMA = {
    "anyOf": [
        {"enum": list(LOSSES), "type": "string"},
        {"type": "object", "propertyNames": {"enum": list(LEAST)}, "additionalProperties": {"type": "number"}},
    ]
}
LossValue = Annotated[str | dict[str, float], BeforeValidator(_is_loss), WithJsonSchema(_LOSS_SCHEMA)]
