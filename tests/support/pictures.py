"""Generated pictures as bytes, for tests of every step that reads them."""

import io

import numpy as np
from PIL import Image

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def encoded(image, form="PNG", **options):
    """The bytes of a picture."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def noise(width=8, height=6, mode="RGB", seed=0):
    """A picture of random levels."""
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
    plain = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    return plain.convert("RGB").convert(mode) if mode in {"1", "L", "P"} else plain.convert(mode)


def striped(upright, size=24, seed=0):
    """A noisy grey picture of stripes that stand or lie: two classes that any pixel alone cannot tell apart."""
    rng = np.random.default_rng(seed)
    wave = np.sin((np.arange(size) + rng.integers(0, size)) * 2 * np.pi / rng.integers(5, 9))
    levels = np.broadcast_to(wave, (size, size)) * 80 + 128 + rng.normal(0, 15, (size, size))
    return Image.fromarray(np.clip(levels if upright else levels.T, 0, 255).astype(np.uint8))


def paired(beside, size=24, seed=0):
    """A noisy grey picture with two dots anywhere, one beside the other or one below the other, each alike.

    No pixel, no level and no direction of a gradient tells them apart: only where a dot lies seen from the other.
    """
    rng = np.random.default_rng(seed)
    levels = rng.normal(110, 20, (size, size))
    y, x = rng.integers(0, size - 5, 2)
    for down, across in ((0, 0), (0, 4) if beside else (4, 0)):
        levels[y + down : y + down + 2, x + across : x + across + 2] += 90
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def folder(path, num_rows=40, size=24, form="PNG", draw=striped):
    """A folder of pictures, striped ones by default, a sub-folder a class."""
    for number in range(num_rows):
        upright = number % 2 == 0
        at = path / ("standing" if upright else "lying")
        at.mkdir(parents=True, exist_ok=True)
        (at / f"{number:04d}.{form.lower()}").write_bytes(encoded(draw(upright, size, number), form))
    return path
