"""Do probabilities mean what they say: reliability in bins of equal mass, and its summary."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bin", "equal_mass", "expected_error", "reliability", "wilson"]

Floats = NDArray[np.float64]
NUM_BINS = 15
"""Bins of the calibration error, as in Guo et al. (2017), ICML, 1321-1330."""


@dataclass(frozen=True)
class Bin:
    """Rows of similar prediction: how many, what was predicted, what came, and its interval."""

    count: int
    predicted: float
    observed: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def equal_mass(p: Floats, num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """Bin of each row, about the same number in each; equal values share a bin, so there may be fewer bins.

    Equal mass rather than equal width, which leaves most bins nearly empty when probabilities
    crowd at one end (Nguyen & O'Connor 2015, EMNLP, 1587-1598).
    """
    if not len(p):
        return np.empty(0, np.int64)
    cuts = np.unique(np.quantile(p, np.arange(1, num_bins) / num_bins, method="inverted_cdf"))
    _, index = np.unique(np.searchsorted(cuts, p, side="left"), return_inverse=True)
    return index.astype(np.int64)


def expected_error(index: NDArray[np.int64], p: Floats, hit: Floats, weight: Floats | None = None) -> float:
    """Expected calibration error, ``∑ n_b / n |mean hit - mean p|`` over bins; NaN without rows.

    Naeini, Cooper & Hauskrecht (2015), AAAI, 2901-2907.
    """
    gap = hit - p
    sums = np.bincount(index, weights=gap if weight is None else gap * weight)
    total = len(p) if weight is None else weight.sum()
    return float(np.abs(sums).sum() / total) if total > 0 else float("nan")


def reliability(p: Floats, hit: Floats, num_bins: int = 10, confidence: float = 0.95) -> list[Bin]:
    """Mean prediction and observed rate a bin, ascending, with Wilson intervals."""
    index = equal_mass(p, num_bins)
    count = np.bincount(index)
    predicted, observed = np.bincount(index, weights=p) / count, np.bincount(index, weights=hit)
    return [
        Bin(int(n), float(m), float(k / n), *wilson(float(k), int(n), confidence))
        for n, m, k in zip(count, predicted, observed, strict=True)
    ]


def wilson(successes: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a rate (Wilson 1927, JASA 22, 209-212), which holds for small counts and rates near 0 or 1.

    >>> low, high = wilson(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if count <= 0:
        return float("nan"), float("nan")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
