"""Layers whose sums are exact: weights and inputs rounded to whole numbers so small that float64 holds every sum.

A sum of products of floats depends on its order, which a library of matrices picks by the number of rows. Of whole
numbers below 2 to the 53rd every order gives the same bits (IEEE 754: each partial sum is exact), so that a row alone
has the bits that it has among others. Weights have `WEIGHT_BITS` bits; the inputs of a layer have what is left.
"""

from __future__ import annotations

import numpy as np

from mlsys.models.model_files import ModelFacts

WEIGHT_BITS, EXACT_BITS = 20, 52
"""Bits of a rounded weight, and of a sum of products that float64 holds exactly."""

ROOM = 8.0
"""Inputs of a layer may be so many times as large as those of the training rows before they are cut."""


class LayerFacts(ModelFacts):
    """The arithmetic of a layer: `steps` in 1 of its inputs, the `largest` of them, and the `unit` of its sums."""

    steps: float
    largest: int
    unit: float

    def whole(self, x: np.ndarray) -> np.ndarray:
        """Round inputs to whole steps, in float64."""
        return np.clip(np.rint(x * self.steps), -self.largest, self.largest)

    def sums(self, whole: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Sum whole inputs, (…, inputs), times whole weights, (inputs, outputs) in float64, and add a bias."""
        rows = np.ascontiguousarray(whole).reshape(-1, weight.shape[0])
        return np.asarray((rows @ weight) * self.unit + bias).reshape(*whole.shape[:-1], weight.shape[1])


def rounded(weight: np.ndarray, largest: float) -> tuple[LayerFacts, np.ndarray]:
    """Round weights, (inputs, outputs), to whole numbers, and find the steps of inputs up to `largest`.

    >>> facts, whole = rounded(np.array([[0.5], [-1.0]]), 2.0)
    >>> float(facts.sums(facts.whole(np.array([[1.0, 0.25]])), whole.astype(float), np.zeros(1))[0, 0])
    0.25
    """
    bits = EXACT_BITS - WEIGHT_BITS - len(weight).bit_length()
    size = float(np.abs(weight).max(initial=0.0)) or 1.0
    steps = 2.0**bits / largest
    facts = LayerFacts(steps=steps, largest=2**bits, unit=size / 2**WEIGHT_BITS / steps)
    return facts, np.rint(weight * (2**WEIGHT_BITS / size)).astype("<i4")
