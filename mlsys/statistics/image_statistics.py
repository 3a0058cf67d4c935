"""Statistics of pictures: formats, sizes, brightness, duplicates, and a few thumbnails."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from mlsys import images
from mlsys.images import Picture, UndecodableError
from mlsys.statistics.arrays import LengthStatistics
from mlsys.statistics.hashing import hash_array, mix
from mlsys.statistics.moments import Moments
from mlsys.statistics.sketches import BottomKSketch

COUNTED = 2_048
"""Distinct pictures whose rows are counted: of a tenth that repeats, the standard error is below 1 %."""

SHOWN, THUMBNAIL = 12, 48
"""Number of thumbnails, and their longer side in pixels."""


@dataclass(frozen=True)
class _PictureFacts:
    format: str
    mode: str
    is_grey: bool
    width: int
    height: int
    brightness: float
    difference_hash: int


class ImageStatistics:
    """Mergeable statistics of the pictures of a column.

    Counts are exact, also those of duplicates while there are at most `COUNTED` distinct
    pictures. The thumbnails are those with the smallest hashes of their bytes, so that they are
    the same however the rows are divided. An update decodes each picture once.

    Attributes
    ----------
    broken
        Number of pictures that do not decode, by reason; the others are counted below.
    formats, modes
        Number of pictures by format, PNG or JPEG, and by Pillow's name of the pixel mode.
    widths, heights
        Sizes of the upright pictures, in pixels.
    brightness
        Moments of the mean levels of the pictures, from 0 (black) to 1 (white).
    same, alike
        Duplicates by the hash of the bytes, and by `difference_hash`.
    thumbnails
        PNG of the `SHOWN` thumbnails by hash.
    """

    def __init__(self) -> None:
        self.broken: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.modes: Counter[str] = Counter()
        self.num_grey = 0
        self.widths, self.heights = LengthStatistics(), LengthStatistics()
        self.brightness = Moments()
        self.same, self.alike = BottomKSketch(COUNTED), BottomKSketch(COUNTED)
        self.thumbnails: dict[int, bytes] = {}

    def update(self, values: pa.Array) -> None:
        """Add pictures, without nulls."""
        data, hashes = values.to_pylist(), hash_array(values)
        facts = images.each(_facts, data)
        self.broken.update(reason for reason in facts if isinstance(reason, str))
        decoded = [fact for fact in facts if isinstance(fact, _PictureFacts)]
        self.formats.update(picture.format for picture in decoded)
        self.modes.update(picture.mode for picture in decoded)
        self.num_grey += sum(picture.is_grey for picture in decoded)
        self.widths = self.widths.merge(_lengths([picture.width for picture in decoded]))
        self.heights = self.heights.merge(_lengths([picture.height for picture in decoded]))
        self.brightness = self.brightness.merge(Moments.of(np.array([p.brightness for p in decoded], np.float64)))
        self.same.update(hashes)
        self.alike.update(mix(np.array([picture.difference_hash for picture in decoded], np.uint64)))
        rows = zip(hashes, data, facts, strict=True)
        pictures = {int(key): content for key, content, fact in rows if isinstance(fact, _PictureFacts)}
        shown = sorted({*self.thumbnails, *pictures})[:SHOWN]
        self.thumbnails = {key: self.thumbnails.get(key) or _thumbnail(pictures[key]) for key in shown}

    def merge(self, other: ImageStatistics) -> ImageStatistics:
        merged = ImageStatistics()
        merged.broken, merged.formats = self.broken + other.broken, self.formats + other.formats
        merged.modes, merged.num_grey = self.modes + other.modes, self.num_grey + other.num_grey
        merged.widths, merged.heights = self.widths.merge(other.widths), self.heights.merge(other.heights)
        merged.brightness = self.brightness.merge(other.brightness)
        merged.same, merged.alike = self.same.merge(other.same), self.alike.merge(other.alike)
        thumbnails = self.thumbnails | other.thumbnails
        merged.thumbnails = {key: thumbnails[key] for key in sorted(thumbnails)[:SHOWN]}
        return merged

    @property
    def n(self) -> int:
        """Number of pictures that decode."""
        return self.formats.total()

    @property
    def is_grey(self) -> bool:
        """True where no picture has colour."""
        return self.num_grey == self.n

    @property
    def is_same_size(self) -> bool:
        """True where all pictures have one width and one height."""
        return self.widths.minimum == self.widths.maximum and self.heights.minimum == self.heights.maximum

    def result(self) -> dict[str, Any]:
        """Numbers, ready for JSON."""
        return {
            "count": self.n,
            "num_broken": self.broken.total(),
            **self._counts(),
            "width": [self.widths.minimum, self.widths.mean, self.widths.maximum] if self.n else None,
            "height": [self.heights.minimum, self.heights.mean, self.heights.maximum] if self.n else None,
            "brightness": {"mean": self.brightness.mean, "stddev": self.brightness.stddev} if self.n else None,
            "same_fraction": self.same.repeated_fraction,
            "alike_fraction": self.alike.repeated_fraction,
            "repeats_exact": self.same.exact and self.alike.exact,
        }

    def _counts(self) -> dict[str, Any]:
        counters = {"broken": self.broken, "formats": self.formats, "modes": self.modes}
        return {name: dict(sorted(c.items())) for name, c in counters.items()} | {"num_grey": self.num_grey}

    def to_json(self) -> dict[str, Any]:
        return {
            **self._counts(),
            "widths": self.widths.to_json(),
            "heights": self.heights.to_json(),
            "brightness": self.brightness.to_json(),
            "same": self.same.to_json(),
            "alike": self.alike.to_json(),
            "thumbnails": {str(key): base64.b64encode(png).decode() for key, png in self.thumbnails.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        statistics = cls()
        statistics.broken, statistics.formats = Counter(value["broken"]), Counter(value["formats"])
        statistics.modes, statistics.num_grey = Counter(value["modes"]), value["num_grey"]
        statistics.widths = LengthStatistics.from_json(value["widths"])
        statistics.heights = LengthStatistics.from_json(value["heights"])
        statistics.brightness = Moments.from_json(value["brightness"])
        statistics.same = BottomKSketch.from_json(value["same"])
        statistics.alike = BottomKSketch.from_json(value["alike"])
        statistics.thumbnails = {int(key): base64.b64decode(png) for key, png in value["thumbnails"].items()}
        return statistics


def difference_hash(picture: Picture) -> int:
    """Hash a picture to 64 bits that pictures share which differ in size, compression or brightness alone.

    The picture is shrunk to 8 rows of 9 grey pixels; a bit says whether a pixel is brighter
    than its left neighbour (N. Krawetz, "Kind of Like That", 2013, *dHash*).
    """
    from PIL import Image

    small = picture.image.convert("L").resize((9, 8), Image.Resampling.BOX)
    levels = np.asarray(small, np.int16)
    return int.from_bytes(np.packbits(levels[:, 1:] > levels[:, :-1]).tobytes(), "big")


def _facts(data: bytes) -> _PictureFacts | str:
    """Facts of a picture, or the reason why it does not decode."""
    try:
        picture = images.decode(data, images.ENOUGH_PIXELS)
    except UndecodableError as error:
        return str(error)
    levels = np.array(picture.image.convert("L").histogram(), np.int64)
    brightness = int(levels @ np.arange(256)) / (255 * int(levels.sum()))
    size = picture.width, picture.height
    return _PictureFacts(picture.format, picture.mode, picture.is_grey, *size, brightness, difference_hash(picture))


def _lengths(values: list[int]) -> LengthStatistics:
    return LengthStatistics(len(values), sum(values), min(values), max(values)) if values else LengthStatistics()


def _thumbnail(data: bytes) -> bytes:
    small = images.decode(data, images.ENOUGH_PIXELS).image
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    small.save(stream, "PNG")
    return stream.getvalue()
