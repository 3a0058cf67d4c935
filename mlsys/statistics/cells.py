"""Numbers as codes of rising cells, without sorting them where that can be helped.

The values are spread over cells of equal width, or of equal ratio. Mostly no two different
values share a cell, as with whole numbers, hours or cents: the codes are then exact. Where
some do, the last value of the cell stands for the others, as long as that moves no rank by
more than `SHARED` of the rows; the values of fuller cells are sorted, and all of them where
those are most: that takes ten times as long.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["SHARED", "cells"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CELLS = 1 << 15
"""Cells at most, and no more than values: their counts take a quarter of a megabyte and stay in the cache."""

FEW = 2_048
"""So many values are sorted more quickly than they are spread."""

SHARED = 1 / 1_024
"""Largest fraction of the values that may lie in a cell of several different ones: 0.1 % of a rank."""

DOZEN = 12
"""A cell may hold so many in any case: of few values, to look for smaller cells costs more than to sort."""


def cells(values: Floats) -> tuple[Floats, Ints, Bools | None]:
    """Cells of finite values.

    Returns
    -------
    keys
        Rising; a value of each cell.
    codes
        Cell of each value.
    shared
        Cells that hold several different values; None if none does.

    >>> keys, codes, shared = cells(np.array([2.5, -1.0, 2.5]))
    >>> keys.tolist(), codes.tolist(), shared
    ([-1.0, 2.5], [1, 0, 1], None)
    """
    if len(values) > FEW:
        low, high = float(values.min()), float(values.max())
        for spread in (_evenly, _by_ratio):
            found = _tried(values, spread(values, low, high))
            if found is not None:
                return found
    keys, codes = np.unique(values, return_inverse=True)
    return keys, codes.astype(np.int64, copy=False), None


def _evenly(values: Floats, low: float, high: float) -> Ints | None:
    """Cells of equal width; whole numbers have one each if there are enough."""
    span = high - low
    if not 0 < span < math.inf:
        return None
    is_whole = span < CELLS and bool((values == np.floor(values)).all())
    scale = 1.0 if is_whole else (min(CELLS, len(values)) - 1) / span
    return ((values - low) * scale).astype(np.int64) if math.isfinite(scale) else None


def _by_ratio(values: Floats, low: float, high: float) -> Ints:
    """Cells of roughly equal ratio on both sides of zero: the leading bits of a float are nearly its logarithm."""
    size = np.abs(values)
    least = float(np.min(size, where=size > 0, initial=math.inf))
    lowest, highest = (int(np.float64(end).view(np.int64)) for end in (least, max(-low, high)))
    most = CELLS // 2 if low < 0 < high else CELLS
    shift = max(0, (highest - lowest).bit_length() - (most - 1).bit_length())
    codes: Ints = np.maximum((size.view(np.int64) >> shift) - (lowest >> shift) + 1, 0)  # zero has a cell of its own
    if low < 0:
        codes = np.where(values < 0, -codes, codes)
        codes -= codes.min()
    return codes


def _tried(values: Floats, codes: Ints | None) -> tuple[Floats, Ints, Bools | None] | None:
    """Keys and codes without empty cells; None if most values lie where too many share one."""
    if codes is None:
        return None
    counts = np.bincount(codes)
    keys, place = np.empty(len(counts)), np.empty(len(counts), np.int64)
    keys[codes] = values
    shared = np.bincount(codes, keys[codes] != values) > 0
    crowded = shared & (counts > max(DOZEN, len(values) * SHARED / 2))  # half: folds do not divide a cell evenly
    num_crowded = int(counts.sum(where=crowded))
    if num_crowded > len(values) / 2:
        return None
    if num_crowded:
        return _divided(values, codes, keys, (counts > 0) & ~crowded, shared)
    used = np.flatnonzero(counts != 0)  # of truth values: in a third of the time
    place[used] = np.arange(len(used))
    return keys[used], place[codes], shared[used] if shared.any() else None


def _divided(
    values: Floats, codes: Ints, keys: Floats, kept: Bools, shared: Bools
) -> tuple[Floats, Ints, Bools | None]:
    """Only some cells are kept; each value of the others gets one of its own."""
    rows = np.flatnonzero(~kept[codes])
    alone, first, which = np.unique(values[rows], return_index=True, return_inverse=True)
    sizes = kept + np.bincount(codes[rows[first]], minlength=len(kept))
    place = np.cumsum(sizes) - sizes
    rising, several, free = (
        np.empty(int(sizes.sum())),
        np.zeros(int(sizes.sum()), bool),
        np.ones(int(sizes.sum()), bool),
    )
    rising[place[kept]], several[place[kept]], free[place[kept]] = keys[kept], shared[kept], False
    rising[free] = alone
    found = place[codes]
    found[rows] = np.flatnonzero(free)[which]
    return rising, found, several if several.any() else None
