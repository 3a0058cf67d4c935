"""Decode PNG and JPEG pictures, in one way for collection, statistics, features and requests.

What is stored differently is brought to one form, so that later steps know two kinds of
pictures, grey (``L``) and colour (``RGB``), each of 8 bits:

=====================  ============================================================
stored                 becomes
=====================  ============================================================
1 bit, 8 bits grey     grey
16 bits grey           grey, level · 255 / 65535 rounded
palette                colour
transparency           laid on white
CMYK                   colour, by Pillow's formula (no colour profile is applied)
EXIF orientation       turned upright
several frames         the first one
=====================  ============================================================

Bytes come from anywhere, so the two decoders are named (Pillow knows some forty formats,
one of which starts Ghostscript), and the size that the header states is judged before
memory is taken for the pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mlsys import threads

if TYPE_CHECKING:
    from PIL.Image import Image

S = TypeVar("S")
T = TypeVar("T")

MAX_PIXELS = 1 << 25
"""Pixels of a picture at most, 33.5 million (100 MB as RGB): a PNG of a few kilobytes can ask for gigabytes."""

FORMATS = ("PNG", "JPEG")
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""First bytes of a PNG (ISO/IEC 15948, 5.2) and of a JPEG (ISO/IEC 10918-1, B.1.1: SOI and the next marker)."""

ENOUGH_PIXELS = 256
"""Pixels a side of a photo that are enough for its levels, its look, its gradients on a square of 32, its thumbnail."""

FEW = 8
"""Pictures that one thread decodes by itself."""

ORIENTATION = 0x0112
"""EXIF tag: how the stored picture lies; 1 is upright (CIPA DC-008)."""

TURNED = range(5, 9)
"""Orientations in which width and height change places."""


class UndecodableError(ValueError):
    """Bytes that are no picture; the text says why in a few words, the same words for the same reason."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture: width and height are those of the upright picture, format and mode those that were stored.

    `image` is upright, of mode ``L`` or ``RGB``, and smaller where `decode` was told that less is enough.
    """

    image: Image
    width: int
    height: int
    format: str
    mode: str

    @property
    def is_grey(self) -> bool:
        return self.image.mode == "L"


def is_encoded(data: bytes) -> bool:
    """True if the bytes begin as a PNG or JPEG does."""
    return data.startswith(MAGIC)


def decode(data: bytes, enough: int | None = None) -> Picture:
    """Decode a picture.

    Parameters
    ----------
    enough
        Pixels a side from which on less than the whole is enough: a JPEG of at least twice, four
        or eight times as many on both sides is decoded at a half, a quarter or an eighth, where
        each pixel is about the mean of those that it stands for. That takes a photo a fraction
        of the time and memory; all of its bytes are read all the same.

    Raises
    ------
    UndecodableError
        They are no PNG or JPEG, are cut short or damaged, or hold more than `MAX_PIXELS`.
    """
    from PIL import Image

    if not is_encoded(data):
        raise UndecodableError("neither PNG nor JPEG")
    try:
        stored = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = stored.size
        if width * height <= MAX_PIXELS:
            if enough is not None:
                stored.draft(stored.mode, (enough, enough))
            stored.load()
            image = _plain(stored)
            if stored.getexif().get(ORIENTATION, 1) in TURNED:
                width, height = height, width
            return Picture(image, width, height, str(stored.format), stored.mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    except Exception:  # noqa: BLE001 - a parser fed with anything raises anything: struct.error, SyntaxError, zlib.error …
        raise UndecodableError("cut short or damaged") from None
    raise UndecodableError(f"more than {MAX_PIXELS:,} pixels")


def stated_pixels(data: bytes) -> int:
    """Pixels that the header of a picture states, without decoding it; 0 for bytes that are none."""
    from PIL import Image

    if not is_encoded(data):
        return 0
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as stored:
            return stored.width * stored.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return MAX_PIXELS
    except Exception:  # noqa: BLE001 - as in `decode`, which says what is wrong
        return 0


def fault(data: bytes) -> str | None:
    """The reason why bytes are no picture, or None."""
    try:
        decode(data, enough=1)
    except UndecodableError as error:
        return str(error)
    return None


def each(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Call a function on each picture, side by side, and return the results in the order of the pictures.

    Pillow lets go of the interpreter while it reads, decodes and resizes large pictures.
    """
    return threads.each(function, items, few=FEW)


def _plain(stored: Any) -> Image:
    """The picture in grey or colour of 8 bits, upright, without transparency."""
    from PIL import Image, ImageOps

    image = stored
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode in {"LA", "PA", "RGBA"} or "transparency" in stored.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if stored.mode in {"1", "L", "LA"} else "RGB")
    else:
        image = image.convert("L" if image.mode in {"1", "L"} else "RGB")
    if stored.getexif().get(ORIENTATION, 1) != 1:
        image.info["exif"] = stored.info.get("exif", b"")
        image = ImageOps.exif_transpose(image)
    return image  # type: ignore[no-any-return]
