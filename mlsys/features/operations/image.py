"""Operation ``image``: pictures as sizes, levels, gradients and pixels; or the vector of an encoder.

=========  ============================================================================
features   content
=========  ============================================================================
size       width, height and their ratio, where training pictures differ in size
levels     of each channel, mean and standard deviation, and the fraction of the pixels in
           each of eight equal ranges of levels; of the picture in its own size, or of a
           JPEG photo as `images.decode` reads one of which `ENOUGH_PIXELS` pixels a side are enough
gradients  histograms of oriented gradients (HOG) of the picture stretched to a square
pixels     of small pictures, the levels of a coarse square
=========  ============================================================================

Levels and gradients run from 0 to 1, so that linear models need no constants. A picture of another
form than the training pictures is brought to theirs: colour becomes grey by the luma of
ITU-R BT.601, grey becomes colour of equal channels.

HOG is that of Dalal & Triggs (2005), "Histograms of Oriented Gradients for Human Detection",
CVPR, section 6, doi:10.1109/CVPR.2005.177, on a square divided into `CELLS` × `CELLS` cells:

1. at each pixel the differences of its neighbours, right minus left and below minus above,
   of the channel in which they are longest; the border is repeated;
2. the length of the gradient is voted for the two of `ORIENTATIONS` directions between 0°
   and 180° that are nearest, and for the four cells whose centres are nearest, in
   proportion to the nearness (trilinear interpolation); votes beyond the border are lost;
3. each block of 2 × 2 cells, overlapping by one, is divided by sqrt(sum of squares + 1),
   bounded by 0.2 and divided once more by its length (*L2-Hys*).

Gradients are integers, votes come from one table, and sums run in a fixed order: bits do not
depend on how many pictures are computed at once.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys import errors, images
from mlsys.features.domains import refuse
from mlsys.features.operations import encoders
from mlsys.features.operations.operation import FitInputs, Matrix, Operation, OperationSpec, PlanInputs, Writer
from mlsys.recipe.columns import ImageOptions
from mlsys.schema import Column, Kind
from mlsys.statistics.arrays import Floats

AT_ONCE = 16
"""Pictures computed together: enough that a call of NumPy costs little, few enough for the cache."""

EXPECTED = "the bytes of a PNG or JPEG"


@dataclass(frozen=True)
class PictureOperation(Operation):
    """Turn a picture into numbers.

    Attributes
    ----------
    stand_in
        Taken for all numbers of a missing picture; None leaves NaN.
    indicator
        One more column says where there was no picture.
    """

    stand_in: float | None = None
    indicator: bool = False

    @property
    @abstractmethod
    def labels(self) -> list[str]:
        """Names of the numbers of a picture."""

    @abstractmethod
    def describe(self, data: Sequence[bytes]) -> npt.NDArray[np.floating[Any]]:
        """Compute the numbers of pictures, ``(n, len(labels))``; `UndecodableError` if one does not decode."""

    @property
    def outputs(self) -> list[str]:
        return self._with_indicator([f"{self.column}: {label}" for label in self.labels], indicator=self.indicator)

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        rows = [at for at, data in enumerate(raw[0]) if data is not None]
        self._fill_missing(out)
        if self.indicator:
            out[rows, -1] = 0.0

        def compute(first: int) -> None:
            at = rows[first : first + AT_ONCE]
            numbers = self._numbers(raw[0].gather(at).to_list())
            out[at, : numbers.shape[1]] = numbers

        images.each(compute, range(0, len(rows), AT_ONCE))

    def writer(self, start: int) -> Writer:
        read, end = self.domain.reader(self.column), start + len(self.outputs)

        def write(value: Any, out: Matrix) -> None:
            data = read(value)
            if data is None:
                self._fill_missing(out[np.newaxis, start:end])
                return
            numbers = self._numbers([data])[0]
            out[start : start + len(numbers)] = numbers
            if self.indicator:
                out[end - 1] = 0.0

        return write

    def _fill_missing(self, out: Matrix) -> None:
        out[:] = math.nan if self.stand_in is None else self.stand_in
        if self.indicator:
            out[:, -1] = 1.0

    def _numbers(self, data: Sequence[bytes]) -> npt.NDArray[np.floating[Any]]:
        try:
            return self.describe(data)
        except images.UndecodableError as error:
            raise refuse(self.column, f"bytes that are {error}", EXPECTED) from None


RANGES = 8
"""Equal ranges of the 256 levels."""

GAP = 3.0
"""A picture more than this times too large is averaged first (Pillow's manual: no visible difference from 3 on)."""

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Image(PictureOperation):
    """Measure sizes, levels, gradients and pixels of a picture.

    Attributes
    ----------
    side
        Side of the square whose gradients are taken, a multiple of `CELLS`.
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
        levels = [channel + measure for channel in channels for measure in ("mean", "deviation", *ranges)]
        places = [f"{y},{x}" for y in range(self.pixels) for x in range(self.pixels)]
        pixels = [f"{channel}pixel {place}" for place in places for channel in channels]
        return [*sizes, *levels, *hog_names(), *pixels]

    def describe(self, data: Sequence[bytes]) -> Floats:
        measures = [self._measure(picture) for picture in data]
        sizes, counts, squares, coarse = (np.stack(part) for part in zip(*measures, strict=True))
        parts = [_levels(counts), oriented_gradients(squares), coarse.reshape(len(data), -1) / 255.0]
        if self.sized:
            parts.insert(0, np.column_stack([sizes, sizes[:, 0] / sizes[:, 1]]))
        return np.concatenate(parts, axis=1)

    def _measure(self, data: bytes) -> tuple[Floats, npt.NDArray[np.int64], Levels, Levels]:
        """Size, counts of levels by channel, and the two squares."""
        from PIL.Image import Resampling

        channels = 3 if self.colour else 1
        picture = images.decode(data, max(images.ENOUGH_PIXELS, 2 * self.side))
        image = picture.image.convert("RGB" if self.colour else "L")
        size = np.array([picture.width, picture.height], np.float64)
        counts = np.array(image.histogram(), np.int64).reshape(channels, 256)
        square = np.asarray(image.resize((self.side, self.side), Resampling.BILINEAR, reducing_gap=GAP))
        coarse = np.empty(0, np.uint8)
        if self.pixels:
            coarse = np.asarray(image.resize((self.pixels, self.pixels), Resampling.BOX, reducing_gap=GAP))
        return size, counts, square.reshape(self.side, self.side, channels), coarse


def _levels(counts: npt.NDArray[np.int64]) -> Floats:
    """Mean, deviation and fractions by range of counted levels; ``(n, channels, 256)`` → ``(n, channels · 10)``."""
    steps = np.arange(256)  # sums of whole numbers are exact in any order
    total = counts.sum(axis=2)
    mean = (counts * steps).sum(axis=2) / total
    variance = (counts * steps * steps).sum(axis=2) / total - mean * mean
    fractions = counts.reshape(*counts.shape[:2], RANGES, -1).sum(axis=3) / total[..., np.newaxis]
    spread = np.sqrt(np.maximum(variance, 0.0))
    levels = [mean[..., np.newaxis] / 255.0, spread[..., np.newaxis] / 255.0, fractions]
    return np.concatenate(levels, axis=2).reshape(len(counts), -1)


@dataclass(frozen=True)
class ImageEncoding(PictureOperation):
    """Take the vector that an encoder gives (`mlsys.features.operations.encoders`).

    Attributes
    ----------
    encoder
        ``module:function``.
    source
        SHA-256 of the module's file in training.
    """

    encoder: str = ""
    source: str = ""
    width: int = 0

    name = "encoder"

    @property
    def labels(self) -> list[str]:
        return [f"encoded {at}" for at in range(self.width)]

    @cached_property
    def function(self) -> encoders.Encoder:
        """The encoder of training; `FeatureError` if it cannot be imported, `BundleError` if its file has changed."""
        function, source = encoders.load_encoder(self.encoder)
        if source != self.source:
            got = f"a file with SHA-256 {source[:12]}…"
            expected = f"the file of training, {self.source[:12]}…"
            hint = "install the version that the model was trained with, or train again"
            raise errors.BundleError.build(f"features: encoder {self.encoder}", got=got, expected=expected, hint=hint)
        return function

    def writer(self, start: int) -> Writer:
        _ = self.function  # a model that cannot be served is refused when it is loaded, not at the first request
        return super().writer(start)

    def describe(self, data: Sequence[bytes]) -> Floats:
        return np.stack([self._vector(images.decode(encoded)) for encoded in data])

    def _vector(self, picture: images.Picture) -> Floats:
        vector = encoders.encode(self.encoder, self.function, np.asarray(picture.image.convert("RGB")))
        if vector.shape != (self.width,):
            got = f"a vector of shape {vector.shape} for a picture of {picture.width} × {picture.height}"
            raise encoders.misbehaviour(self.encoder, got, f"{self.width} numbers, as for others")
        return vector


SIDE = 32
"""Side of the square on which the gradients of a picture are taken: cells of 8 pixels, as in the paper."""

SMALL, PIXELS = 32, 16
"""Pictures up to this size show something in a pixel; side of the square to which they are reduced."""


def _params(inputs: PlanInputs) -> dict[str, Any]:
    pictures = inputs.statistics.images
    if pictures is None or "encoder" in inputs.given:
        return {}
    small = max(pictures.widths.maximum, pictures.heights.maximum) <= SMALL
    return {
        "size": SIDE,
        "pixels": PIXELS if small else 0,
        "colour": not pictures.is_grey,
        "sized": not pictures.is_same_size,
    }


def _fit(inputs: FitInputs) -> PictureOperation:
    params, indicator = inputs.params, inputs.dense and inputs.has_missing
    shared = (inputs.column, inputs.domain, 0.0 if inputs.dense else None, indicator)
    if "encoder" in params:
        return ImageEncoding(*shared, params["encoder"], *encoders.probe_encoder(params["encoder"]))
    return Image(*shared, side=params["size"], pixels=params["pixels"], colour=params["colour"], sized=params["sized"])


def refuse_bytes(column: Column) -> None:
    """Refuse bytes that nobody said to be pictures; `FeatureError`."""
    if column.kind is Kind.BYTES:
        got = "operation image for bytes of unknown form"
        hint = f"data.kinds: {{{column.name}: image}} decodes them"
        where = f"features: column '{column.name}'"
        raise errors.FeatureError.build(where, got=got, expected="pictures", hint=hint, field=column.name)


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


def hog_names() -> list[str]:
    """Names of the numbers of `oriented_gradients`: the block and its cell, rows first, and the degrees."""
    degrees = [f"{180 * (2 * at + 1) / (2 * ORIENTATIONS):g}°" for at in range(ORIENTATIONS)]
    return [
        f"block {block // BLOCKS},{block % BLOCKS} cell {cell // 2},{cell % 2} {degree}"
        for block in range(BLOCKS * BLOCKS)
        for cell in range(4)
        for degree in degrees
    ]


def oriented_gradients(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Compute the histograms of oriented gradients (HOG) of pictures, ``(n, WIDTH)``, between 0 and 1.

    `pixels` are ``(n, side, side, channels)``, `side` a multiple of `CELLS`.
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
    """Interpolated votes of all pixels, ``(n, CELLS, CELLS, ORIENTATIONS)``."""
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
    """The lower of the two directions of each of the 511 × 511 gradients, and the share of the upper one."""
    down, across = np.mgrid[-255:256, -255:256].astype(np.float64)
    place = np.arctan2(down, across) % math.pi / (math.pi / ORIENTATIONS) - 0.5
    lower = np.floor(place)
    return (lower.astype(np.intp) % ORIENTATIONS).ravel(), (place - lower).ravel()


@functools.lru_cache
def _cells(side: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Offsets of the votes of a pixel's four nearest cells, and the shares of these cells, ``(4, side · side)``."""
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


IMAGE = OperationSpec(
    ImageOptions,
    ("bytes",),
    fitted=(Image, ImageEncoding),
    fit=_fit,
    params=_params,
    check=refuse_bytes,
    num_coordinates=lambda _: WIDTH,
)
