"""Histograms of oriented gradients: which way edges run, cell by cell, whatever the light.

Dalal & Triggs (2005), "Histograms of Oriented Gradients for Human Detection", CVPR, section
6, doi:10.1109/CVPR.2005.177, on a square of pixels that is divided into `CELLS` × `CELLS` cells:

1. at each pixel the differences of its neighbours, right minus left and below minus above,
   of the channel in which they are longest; the border is repeated;
2. the length of the gradient is voted for the two of `ORIENTATIONS` directions between 0°
   and 180° that are nearest, and for the four cells whose centres are nearest, in
   proportion to the nearness (trilinear interpolation); votes beyond the border are lost;
3. each block of 2 × 2 cells, overlapping by one, is divided by sqrt(sum of squares + 1),
   bounded by 0.2 and divided once more by its length (*L2-Hys*).

Bits do not depend on how many pictures are computed at once: gradients are integers, the
votes of a direction come from one table, and sums run in a fixed order.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCKS", "CELLS", "ORIENTATIONS", "WIDTH", "names", "oriented"]

CELLS = 4
ORIENTATIONS = 9
BLOCKS = CELLS - 1
BLOCK = 4 * ORIENTATIONS
WIDTH = BLOCKS * BLOCKS * BLOCK
"""Numbers a picture: 324."""

RIM = CELLS + 2
"""Cells of a side, with a rim on both ends for votes beyond the border."""

CLIP = 0.2
"""Bound of a normalised vote (the paper, 6.4), so that one strong edge does not outweigh all."""

NOISE = 1.0
"""Added to the squared length of a block, in levels: what a flat surface has is no direction."""

Floats = npt.NDArray[np.float64]


def names() -> list[str]:
    """Name of each number: the block and its cell, rows first, and the direction in degrees."""
    degrees = [f"{180 * (2 * at + 1) / (2 * ORIENTATIONS):g}°" for at in range(ORIENTATIONS)]
    return [
        f"block {block // BLOCKS},{block % BLOCKS} cell {cell // 2},{cell % 2} {degree}"
        for block in range(BLOCKS * BLOCKS)
        for cell in range(4)
        for degree in degrees
    ]


def oriented(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Histograms of pictures.

    Parameters
    ----------
    pixels
        ``(n, side, side, channels)``; `side` a multiple of `CELLS`.

    Returns
    -------
    ``(n, WIDTH)``, float64 between 0 and 1.
    """
    across, down = _differences(pixels)
    votes = _votes(across, down)
    cells = [votes[:, y : y + BLOCKS, x : x + BLOCKS] for y in (0, 1) for x in (0, 1)]
    blocks = np.stack(cells, axis=3).reshape(len(pixels), BLOCKS * BLOCKS, BLOCK)
    bounded = np.minimum(blocks / np.sqrt(_ordered_sum(blocks * blocks) + NOISE), CLIP)
    length = np.sqrt(_ordered_sum(bounded * bounded))
    return (bounded / np.where(length > 0, length, 1.0)).reshape(len(pixels), WIDTH)


def _differences(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Right minus left and below minus above, of the channel with the longest gradient, the first of equals."""
    padded = np.pad(pixels.astype(np.int32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    if pixels.shape[3] == 1:
        return across[..., 0], down[..., 0]
    longest = (across * across + down * down).argmax(axis=3)[..., np.newaxis]
    return np.take_along_axis(across, longest, 3)[..., 0], np.take_along_axis(down, longest, 3)[..., 0]


def _votes(across: npt.NDArray[np.int32], down: npt.NDArray[np.int32]) -> Floats:
    """``(n, CELLS, CELLS, ORIENTATIONS)``: votes of all pixels, interpolated."""
    n, side = len(across), across.shape[1]
    first, share = _directions()
    at = (down + 255) * 511 + (across + 255)
    length = np.sqrt((across * across + down * down).astype(np.float64))
    low, upper = first[at], length * share[at]
    directions = np.stack([low, (low + 1) % ORIENTATIONS]).reshape(2, n, -1)
    parts = np.stack([length - upper, upper]).reshape(2, n, -1)
    cells, nearness = _cells(side)
    start = np.arange(n)[:, np.newaxis] * (RIM * RIM * ORIENTATIONS)
    where = cells[:, np.newaxis, np.newaxis] + (start + directions)
    weights = nearness[:, np.newaxis, np.newaxis] * parts
    votes = np.bincount(where.ravel(), weights.ravel(), n * RIM * RIM * ORIENTATIONS).astype(np.float64, copy=False)
    return votes.reshape(n, RIM, RIM, ORIENTATIONS)[:, 1:-1, 1:-1]


@functools.lru_cache(maxsize=1)
def _directions() -> tuple[npt.NDArray[np.intp], Floats]:
    """By gradient: the lower of the two directions, and the share of the upper one.

    A table of all 511 × 511 gradients: the same bits whether one pixel is looked up or a million.
    """
    down, across = np.mgrid[-255:256, -255:256].astype(np.float64)
    place = np.arctan2(down, across) % math.pi / (math.pi / ORIENTATIONS) - 0.5
    lower = np.floor(place)
    return (lower.astype(np.intp) % ORIENTATIONS).ravel(), (place - lower).ravel()


@functools.lru_cache
def _cells(side: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """``(4, side · side)``: where the votes of a pixel's four nearest cells begin, and the shares of these cells."""
    place = (np.arange(side) + 0.5) / (side / CELLS) - 0.5
    lower = np.floor(place)
    rows, shares = lower.astype(np.intp) + 1, (1.0 - (place - lower), place - lower)
    pairs = [(y, x) for y in (0, 1) for x in (0, 1)]
    cells = [((rows[:, np.newaxis] + y) * RIM + (rows + x)) * ORIENTATIONS for y, x in pairs]
    nearness = [shares[y][:, np.newaxis] * shares[x] for y, x in pairs]
    return np.stack(cells).reshape(4, -1), np.stack(nearness).reshape(4, -1)


def _ordered_sum(terms: Any) -> Floats:
    """Sum along the last axis from the first term to the last, whatever the shape; kept as an axis of 1."""
    return np.asarray(np.add.accumulate(terms, axis=-1)[..., -1:])
