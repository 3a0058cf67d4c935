"""Limits of a recipe on the models that may be chosen: microseconds a row, and bytes of the stored model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import models
from mlsys.recipe import Recipe


@dataclass(frozen=True)
class Constraints:
    """The limits; None where there is none."""

    max_latency_us: float | None = None
    max_bytes: int | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> Constraints:
        """The limits of a recipe."""
        return cls(recipe.selection.max_latency_us, recipe.selection.max_bytes)

    @property
    def are_any(self) -> bool:
        """True if there is a limit."""
        return self != Constraints()

    def refusal(self, latency_us: float | None, num_bytes: int | None) -> str | None:
        """Say which limit a model does not keep; None if it keeps both. What was not measured is not judged.

        >>> Constraints(max_latency_us=5).refusal(12.25, None)
        '12.2 µs a row, more than selection.max_latency_us: 5'
        >>> Constraints(max_bytes=1000).refusal(12.25, 1000)
        """
        if self.max_latency_us is not None and latency_us is not None and latency_us > self.max_latency_us:
            return f"{latency_us:.1f} µs a row, more than selection.max_latency_us: {self.max_latency_us:g}"
        if self.max_bytes is not None and num_bytes is not None and num_bytes > self.max_bytes:
            return f"{num_bytes:,} bytes, more than selection.max_bytes: {self.max_bytes:,}"
        return None

    def excess(self, latency_us: float | None, num_bytes: int | None) -> float:
        """The excess of a model over the limits: the largest of its measures as a multiple of their limits.

        >>> Constraints(max_latency_us=5, max_bytes=1000).excess(10.0, 3000)
        3.0
        """
        pairs = ((latency_us, self.max_latency_us), (num_bytes, self.max_bytes))
        return max((value / limit for value, limit in pairs if value is not None and limit is not None), default=0.0)


def num_bytes(family: str, model: Any) -> int:
    """Bytes of a model as a bundle stores it."""
    with tempfile.TemporaryDirectory() as folder:
        models.save(family, model, Path(folder))
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
