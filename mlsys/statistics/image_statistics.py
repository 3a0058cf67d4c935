"""Pictures of a column: forms, sizes, brightness, those that repeat, and a few of them to look at.

Each is decoded once. Counts are exact, also of the pictures that repeat while there are at
most `COUNTED` different ones; the few to look at are those with the smallest hashes of their
bytes, so that they are the same however the rows are divided.
"""

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

__all__ = ["ImageStatistics", "difference_hash"]

COUNTED = 2_048
"""Different pictures whose rows are counted: of a tenth that repeats, the standard error is below 1 %."""

SHOWN, THUMBNAIL = 12, 48
"""Pictures kept to look at, and their longer side in pixels."""


@dataclass(frozen=True)
class _Seen:
    """What one picture adds."""

    format: str
    mode: str
    is_grey: bool
    width: int
    height: int
    brightness: float
    look: int


class ImageStatistics:
    """Mergeable statistics of the pictures of a column.

    Attributes
    ----------
    broken
        Reason → pictures that do not decode; the others are counted below.
    formats, modes
        As stored: PNG or JPEG; Pillow's names of pixel forms → pictures.
    num_grey
        Pictures without colour by their form.
    widths, heights
        Of the upright pictures, in pixels.
    brightness
        Of the mean levels of the pictures, from 0 (black) to 1 (white).
    same, alike
        Pictures by the hash of their bytes, and by `difference_hash`.
    thumbnails
        Hash → PNG of the `SHOWN` pictures to look at.
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
        """Take pictures in, without nulls."""
        data, hashes = values.to_pylist(), hash_array(values)
        found = images.each(_look, data)
        for reason in (one for one in found if isinstance(one, str)):
            self.broken[reason] += 1
        seen = [one for one in found if isinstance(one, _Seen)]
        self.formats.update(one.format for one in seen)
        self.modes.update(one.mode for one in seen)
        self.num_grey += sum(one.is_grey for one in seen)
        self.widths = self.widths.merge(_lengths([one.width for one in seen]))
        self.heights = self.heights.merge(_lengths([one.height for one in seen]))
        self.brightness = self.brightness.merge(Moments.of(np.array([one.brightness for one in seen], np.float64)))
        self.same.update(hashes)
        self.alike.update(mix(np.array([one.look for one in seen], np.uint64)))
        whole = {int(at): one for at, one, look in zip(hashes, data, found, strict=True) if isinstance(look, _Seen)}
        shown = sorted({*self.thumbnails, *whole})[:SHOWN]
        self.thumbnails = {at: self.thumbnails.get(at) or _thumbnail(whole[at]) for at in shown}

    def merge(self, other: ImageStatistics) -> ImageStatistics:
        merged = ImageStatistics()
        merged.broken, merged.formats = self.broken + other.broken, self.formats + other.formats
        merged.modes, merged.num_grey = self.modes + other.modes, self.num_grey + other.num_grey
        merged.widths, merged.heights = self.widths.merge(other.widths), self.heights.merge(other.heights)
        merged.brightness = self.brightness.merge(other.brightness)
        merged.same, merged.alike = self.same.merge(other.same), self.alike.merge(other.alike)
        thumbnails = self.thumbnails | other.thumbnails
        merged.thumbnails = {at: thumbnails[at] for at in sorted(thumbnails)[:SHOWN]}
        return merged

    @property
    def n(self) -> int:
        """Pictures that decode."""
        return self.formats.total()

    @property
    def is_grey(self) -> bool:
        """No picture has colour."""
        return self.num_grey == self.n

    @property
    def is_one_size(self) -> bool:
        return self.widths.minimum == self.widths.maximum and self.heights.minimum == self.heights.maximum

    def result(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        return {
            "count": self.n,
            "num_broken": self.broken.total(),
            "broken": dict(sorted(self.broken.items())),
            "formats": dict(sorted(self.formats.items())),
            "modes": dict(sorted(self.modes.items())),
            "num_grey": self.num_grey,
            "width": [self.widths.minimum, self.widths.mean, self.widths.maximum] if self.n else None,
            "height": [self.heights.minimum, self.heights.mean, self.heights.maximum] if self.n else None,
            "brightness": {"mean": self.brightness.mean, "stddev": self.brightness.stddev} if self.n else None,
            "same_fraction": self.same.repeated_fraction,
            "alike_fraction": self.alike.repeated_fraction,
            "repeats_exact": self.same.exact and self.alike.exact,
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "broken": dict(sorted(self.broken.items())),
            "formats": dict(sorted(self.formats.items())),
            "modes": dict(sorted(self.modes.items())),
            "num_grey": self.num_grey,
            "widths": self.widths.to_json(),
            "heights": self.heights.to_json(),
            "brightness": self.brightness.to_json(),
            "same": self.same.to_json(),
            "alike": self.alike.to_json(),
            "thumbnails": {str(at): base64.b64encode(png).decode() for at, png in self.thumbnails.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        found = cls()
        found.broken, found.formats = Counter(value["broken"]), Counter(value["formats"])
        found.modes, found.num_grey = Counter(value["modes"]), value["num_grey"]
        found.widths, found.heights = (
            LengthStatistics.from_json(value["widths"]),
            LengthStatistics.from_json(value["heights"]),
        )
        found.brightness = Moments.from_json(value["brightness"])
        found.same, found.alike = BottomKSketch.from_json(value["same"]), BottomKSketch.from_json(value["alike"])
        found.thumbnails = {int(at): base64.b64decode(png) for at, png in value["thumbnails"].items()}
        return found


def difference_hash(picture: Picture) -> int:
    """64 bits that pictures share which differ in size, compression or brightness alone.

    The picture is shrunk to 8 rows of 9 grey pixels; a bit says whether a pixel is brighter
    than its left neighbour (N. Krawetz, "Kind of Like That", 2013, *dHash*).
    """
    from PIL import Image

    small = picture.image.convert("L").resize((9, 8), Image.Resampling.BOX)
    levels = np.asarray(small, np.int16)
    return int.from_bytes(np.packbits(levels[:, 1:] > levels[:, :-1]).tobytes(), "big")


def _look(data: bytes) -> _Seen | str:
    """What a picture adds, or why it does not decode."""
    try:
        picture = images.decode(data, images.ENOUGH_PIXELS)
    except UndecodableError as error:
        return str(error)
    levels = np.array(picture.image.convert("L").histogram(), np.int64)
    brightness = int(levels @ np.arange(256)) / (255 * int(levels.sum()))
    look = difference_hash(picture)
    return _Seen(picture.format, picture.mode, picture.is_grey, picture.width, picture.height, brightness, look)


def _lengths(values: list[int]) -> LengthStatistics:
    return LengthStatistics(len(values), sum(values), min(values), max(values)) if values else LengthStatistics()


def _thumbnail(data: bytes) -> bytes:
    small = images.decode(data, images.ENOUGH_PIXELS).image
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    small.save(stream, "PNG")
    return stream.getvalue()
