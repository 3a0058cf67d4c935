"""Pictures as numbers: how large, how bright, which way edges run, and small ones as they are.

=========  ============================================================================
features   what
=========  ============================================================================
size       width, height and their ratio, where training pictures differ in size
levels     of each channel, mean and standard deviation, and the fraction of the pixels in
           each of eight equal ranges of levels; of the picture in its own size, or of a
           JPEG photo as `images.decode` reads one of which `ENOUGH` pixels a side are enough
gradients  `gradients.oriented` of the picture shrunk or stretched to a square
pixels     of small pictures, the levels of a coarse square
=========  ============================================================================

Levels run from 0 to 1 and gradients too, so that linear models need no constants. A picture
of another form than the training pictures is brought to theirs: colour becomes grey by the
luma of ITU-R BT.601, grey becomes colour of equal channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlsys import images
from mlsys.features import gradients
from mlsys.features.pictures import Pictures

__all__ = ["Image"]

RANGES = 8
"""Equal ranges of the 256 levels."""

ENOUGH = 256
"""Pixels a side of a photo that are enough for levels, and for gradients on far fewer."""

GAP = 3.0
"""A picture more than this times too large is averaged first (Pillow's manual: no visible difference from 3 on)."""

Levels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Image(Pictures):
    """What a picture looks like.

    Attributes
    ----------
    side
        Of the square whose gradients are taken, a multiple of `gradients.CELLS`.
    pixels
        Side of the square whose pixels are features; 0 for none.
    colour
        Red, green and blue; else one channel.
    sized
        Width, height and aspect are features.
    """

    side: int = 32
    pixels: int = 0
    colour: bool = True
    sized: bool = False

    name = "image"

    @cached_property
    def labels(self) -> list[str]:
        channels = ["red ", "green ", "blue "] if self.colour else [""]
        ranges = [f"levels {256 * at // RANGES}–{256 * (at + 1) // RANGES - 1}" for at in range(RANGES)]
        sizes = ["width", "height", "aspect"] if self.sized else []
        levels = [channel + what for channel in channels for what in ("mean", "deviation", *ranges)]
        places = [f"{y},{x}" for y in range(self.pixels) for x in range(self.pixels)]
        pixels = [f"{channel}pixel {place}" for place in places for channel in channels]
        return [*sizes, *levels, *gradients.names(), *pixels]

    def describe(self, data: Sequence[bytes]) -> Floats:
        looks = [self._look(one) for one in data]
        sizes, counts, squares, coarse = (np.stack(part) for part in zip(*looks, strict=True))
        parts = [_levels(counts), gradients.oriented(squares), coarse.reshape(len(data), -1) / 255.0]
        if self.sized:
            parts.insert(0, np.column_stack([sizes, sizes[:, 0] / sizes[:, 1]]))
        return np.concatenate(parts, axis=1)

    def _look(self, data: bytes) -> tuple[Floats, npt.NDArray[np.int64], Levels, Levels]:
        """Size, counts of levels by channel, and the two squares."""
        from PIL.Image import Resampling

        channels = 3 if self.colour else 1
        picture = images.decode(data, max(ENOUGH, 2 * self.side))
        image = picture.image.convert("RGB" if self.colour else "L")
        size = np.array([picture.width, picture.height], np.float64)
        counts = np.array(image.histogram(), np.int64).reshape(channels, 256)
        square = np.asarray(image.resize((self.side, self.side), Resampling.BILINEAR, reducing_gap=GAP))
        coarse = np.empty(0, np.uint8)
        if self.pixels:
            coarse = np.asarray(image.resize((self.pixels, self.pixels), Resampling.BOX, reducing_gap=GAP))
        return size, counts, square.reshape(self.side, self.side, channels), coarse


def _levels(counts: npt.NDArray[np.int64]) -> Floats:
    """Mean, deviation and fractions by range of counted levels, ``(n, channels, 256)`` → ``(n, channels · 10)``.

    Sums of whole numbers, which are exact, so that their order does not matter.
    """
    steps = np.arange(256)
    total = counts.sum(axis=2)
    mean = (counts * steps).sum(axis=2) / total
    variance = (counts * steps * steps).sum(axis=2) / total - mean * mean
    fractions = counts.reshape(*counts.shape[:2], RANGES, -1).sum(axis=3) / total[..., np.newaxis]
    spread = np.sqrt(np.maximum(variance, 0.0))
    levels = [mean[..., np.newaxis] / 255.0, spread[..., np.newaxis] / 255.0, fractions]
    return np.concatenate(levels, axis=2).reshape(len(counts), -1)
