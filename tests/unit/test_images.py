from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlsys import images
from pictures import MODES, encoded, noise


@pytest.mark.parametrize("mode", MODES)
def test_every_form_of_png_becomes_grey_or_colour_of_eight_bits(mode):
    picture = images.decode(encoded(noise(9, 5, mode)))
    assert picture.image.mode == ("L" if mode in {"1", "L", "LA", "I;16"} else "RGB")
    assert (picture.width, picture.height, picture.format) == (9, 5, "PNG")
    assert picture.mode == mode


@pytest.mark.parametrize(("mode", "plain"), [("L", "L"), ("RGB", "RGB"), ("CMYK", "RGB")])
def test_every_form_of_jpeg_becomes_grey_or_colour(mode, plain):
    picture = images.decode(encoded(Image.new(mode, (4, 3)), "JPEG"))
    assert (picture.image.mode, picture.format, picture.mode) == (plain, "JPEG", mode)


def test_sixteen_bits_are_rounded_to_eight():
    levels = np.array([[0, 128, 129, 257, 65535]], np.uint16)
    # 128 · 255 / 65535 = 0.498 and 129 · 255 / 65535 = 0.502
    assert np.asarray(images.decode(encoded(Image.fromarray(levels))).image).tolist() == [[0, 0, 1, 1, 255]]


def test_transparency_is_laid_on_white():
    clear, half = Image.new("RGBA", (1, 1), (255, 0, 0, 0)), Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert images.decode(encoded(clear)).image.getpixel((0, 0)) == (255, 255, 255)
    assert images.decode(encoded(half)).image.getpixel((0, 0)) == (127, 127, 127)
    keyed = encoded(Image.new("L", (1, 1), 7), transparency=7)
    assert images.decode(keyed).image.getpixel((0, 0)) == 255


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_picture_that_lies_on_its_side_is_turned_upright(form):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees: its left edge is the top
    stored = Image.new("L", (16, 8))
    stored.paste(255, (0, 0, 8, 8))
    upright = images.decode(encoded(stored, form, exif=exif)).image
    assert upright.size == (8, 16)
    assert upright.getpixel((4, 1)) > 250
    assert upright.getpixel((4, 14)) < 5


def test_a_large_jpeg_is_decoded_small_where_that_is_enough():
    photo = noise(20, 15, "RGB", seed=1).resize((1000, 750))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo, "JPEG", quality=95, exif=exif)
    whole, small = images.decode(data), images.decode(data, 128)
    assert (whole.image.size, small.image.size) == ((750, 1000), (188, 250))
    assert (small.width, small.height) == (whole.width, whole.height) == (750, 1000)
    shrunk = np.asarray(whole.image.resize((188, 250), Image.Resampling.BOX), float)
    assert np.abs(np.asarray(small.image, float) - shrunk).mean() < 3
    assert images.decode(encoded(photo), 128).image.size == (1000, 750)  # PNG has no smaller form
    assert images.fault(data) is None
    assert images.fault(data[: len(data) // 2]) == "cut short or damaged"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "neither PNG nor JPEG"),
        (b"GIF89a" + bytes(100), "neither PNG nor JPEG"),
        (encoded(noise(40, 40))[:-40], "cut short or damaged"),
        (encoded(noise(40, 40), "JPEG")[:-200], "cut short or damaged"),
        (b"\x89PNG\r\n\x1a\n", "cut short or damaged"),
        (encoded(Image.new("1", (6000, 6000))), "more than 33,554,432 pixels"),
        (encoded(Image.new("1", (20000, 20000))), "more than 33,554,432 pixels"),
    ],
    ids=["nothing", "gif", "short png", "short jpeg", "magic alone", "large", "bomb"],
)
def test_what_does_not_decode_is_refused_with_its_reason(data, why):
    with pytest.raises(images.UndecodableError, match=f"^{why}$"):
        images.decode(data)
    assert images.fault(data) == why


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.sampled_from(["PNG", "JPEG"]))
def test_damage_gives_a_picture_or_the_one_error(garbage, at, form):
    whole = encoded(noise(20, 20, "RGB"), form)
    damaged = whole[:at] + garbage + whole[at + len(garbage) :]
    assert images.fault(damaged) in {
        None,
        "neither PNG nor JPEG",
        "cut short or damaged",
        "more than 33,554,432 pixels",
    }
