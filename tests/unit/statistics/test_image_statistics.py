from __future__ import annotations

import io
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlsys import images
from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.image_statistics import SHOWN, THUMBNAIL, ImageStatistics, difference_hash
from mlsys.statistics.sketches import BottomKSketch
from pictures import MODES, encoded, noise

PICTURES = [
    *(encoded(noise(5 + n % 3, 4 + n, MODES[n % len(MODES)], seed=n)) for n in range(20)),
    encoded(noise(30, 20, "L"), "JPEG"),
    encoded(noise())[:-30],
    b"no picture",
]


def learned(pictures):
    found = ImageStatistics()
    found.update(pa.array(pictures, pa.binary()))
    return found


def as_text(found):
    return json.dumps(found.to_json(), allow_nan=False, sort_keys=True)


def test_pictures_are_counted_by_form_and_size_and_the_broken_ones_by_reason():
    found = learned(PICTURES).result()
    assert found["count"] == 21
    assert found["broken"] == {"cut short or damaged": 1, "neither PNG nor JPEG": 1}
    assert found["formats"] == {"JPEG": 1, "PNG": 20}
    assert found["modes"] == {"1": 3, "I;16": 2, "L": 4, "LA": 3, "P": 3, "RGB": 3, "RGBA": 3}
    assert found["num_grey"] == 12
    assert found["width"] == [5, pytest.approx((7 * 5 + 7 * 6 + 6 * 7 + 30) / 21), 30]
    assert found["height"][::2] == [4, 23]


def test_brightness_is_the_mean_level():
    levels = [np.full((3, 4), level, np.uint8) for level in (0, 51, 255)]
    found = learned([encoded(Image.fromarray(one)) for one in levels]).result()["brightness"]
    assert found["mean"] == pytest.approx(np.mean([0, 0.2, 1]))
    assert found["stddev"] == pytest.approx(np.std([0, 0.2, 1], ddof=1))


def test_the_difference_hash_is_that_of_the_definition():
    levels = np.random.default_rng(0).integers(0, 256, (8, 9), dtype=np.uint8)
    bits = "".join(str(int(levels[y, x + 1] > levels[y, x])) for y in range(8) for x in range(8))
    assert difference_hash(images.decode(encoded(Image.fromarray(levels)))) == int(bits, 2)


def test_copies_and_pictures_that_look_alike_are_found():
    photo = noise(9, 8, "L", seed=3).resize((90, 80), Image.Resampling.NEAREST)
    alike = [encoded(photo), encoded(photo), encoded(photo, "JPEG", quality=95), encoded(photo.resize((45, 40)))]
    others = [encoded(noise(40, 30, "L", seed=n)) for n in range(2, 6)]
    found = learned(alike + others).result()
    assert found["same_fraction"] == 1 / 8
    assert found["alike_fraction"] == 3 / 8
    assert found["repeats_exact"]


def test_a_few_pictures_are_kept_small_to_look_at():
    found = learned([encoded(noise(100, 50, seed=n)) for n in range(SHOWN + 3)])
    sizes = {Image.open(io.BytesIO(png)).size for png in found.thumbnails.values()}
    assert (len(found.thumbnails), sizes) == (SHOWN, {(THUMBNAIL, THUMBNAIL // 2)})


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(PICTURES), max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_parts_in_any_order_merge_to_the_whole(pictures, one, other):
    low, high = sorted([one, other])
    a, b, c = learned(pictures[:low]), learned(pictures[low:high]), learned(pictures[high:])
    whole, merged = learned(pictures), c.merge(a.merge(b))
    assert merged.brightness.mean == pytest.approx(whole.brightness.mean)
    merged.brightness = whole.brightness
    assert as_text(merged) == as_text(whole)
    assert as_text(ImageStatistics.from_json(json.loads(as_text(whole)))) == as_text(whole)


def test_a_column_of_images_has_them_and_survives_its_text():
    column = ColumnStatistics(Kind.IMAGE, 2)
    column.update(pa.array([*PICTURES, None], pa.binary()), np.zeros(len(PICTURES) + 1, int))
    column = column.merge(ColumnStatistics(Kind.IMAGE, 2))
    back = ColumnStatistics.from_json(json.loads(json.dumps(column.to_json(), allow_nan=False)))
    found = back.result()
    assert found.images == column.result().images
    assert (found.num_nulls, found.images["count"], found.max_length) == (1, 21, max(map(len, PICTURES)))


@given(st.lists(st.integers(0, 60), max_size=200), st.integers(0, 200))
def test_the_smallest_hashes_are_counted_in_full(numbers, at):
    hashes = np.array(numbers, np.uint64)
    parts = [BottomKSketch(10), BottomKSketch(10)]
    parts[0].update(hashes[:at])
    parts[1].update(hashes[at:])
    found = parts[1].merge(parts[0])
    counts = Counter(numbers)
    assert found.counts == {value: counts[value] for value in sorted(counts)[:10]}
    assert found.exact == (len(counts) <= 10)
    assert BottomKSketch.from_json(json.loads(json.dumps(found.to_json()))).counts == found.counts


def test_the_fraction_that_repeats_is_estimated_beyond_what_is_counted():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**63, 20_000).astype(np.uint64)
    found = BottomKSketch(2_048)
    found.update(np.concatenate([values, values[:5_000]]))  # a fifth of the rows
    assert not found.exact
    assert found.repeated_fraction == pytest.approx(0.2, abs=0.03)
