"""Domains of parameters, as families state them and as ``tune`` searches them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Choice", "Domain", "Integer", "Uniform"]


@dataclass(frozen=True)
class Uniform:
    """A real number between `low` and `high`, uniform or, with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of some values without an order."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


Domain = Uniform | Integer | Choice
