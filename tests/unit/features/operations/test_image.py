"""Pictures as features: the same bits in both executors, levels as NumPy gives them, and HOG by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlsys import errors, recipe
from mlsys.features import derive, plan, program
from mlsys.features.operations import image
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics
from pictures import MODES, encoded, noise

TASK = Task(kind=TaskKind.REGRESSION, target="y")
SCHEMA = Schema(
    columns=(
        Column(name="photo", type="binary", kind=Kind.IMAGE),
        Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET),
    )
)
COLOUR = [None, *(encoded(noise(20 + n, 40, seed=n)) for n in range(6))]
GREY = [encoded(noise(28, 28, "L", seed=n)) for n in range(6)]


def table(data):
    return pa.table({"photo": pa.array(data, pa.binary()), "y": np.arange(len(data), dtype=float)})


def fitted(data, encoding="codes", kind=Kind.IMAGE, **options):
    schema = Schema(columns=(SCHEMA["photo"].model_copy(update={"kind": kind}), SCHEMA["y"]))
    statistics = TableStatistics.empty(derive.extend(schema, {}), TASK)
    statistics.update(table(data))
    line = {"columns": {"photo": {"operation": "image", **options}}} if options else {}
    chosen = plan.choose(schema, statistics, recipe.FeaturesSection.model_validate(line), encoding)
    return program.fit(chosen, statistics), chosen


def bits(X):
    return np.ascontiguousarray(X).view(np.uint32).tolist()


PROGRAMS = [fitted(data, encoding)[0] for data in (COLOUR, GREY) for encoding in ("codes", "dense")]

PICTURES = st.none() | st.builds(
    lambda width, height, mode, seed, form: encoded(
        noise(width, height, "RGB" if form == "JPEG" and mode not in {"L", "RGB"} else mode, seed), form
    ),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(MODES),
    st.integers(0, 1000),
    st.sampled_from(["PNG", "JPEG"]),
)


@settings(max_examples=25, deadline=None)
@given(data=st.lists(PICTURES, min_size=1, max_size=12), at=st.sampled_from(range(len(PROGRAMS))))
def test_rows_and_columns_give_the_same_bits(data, at):
    made = PROGRAMS[at]
    X, row = made.transform(table(data)), made.row()
    assert bits(X) == [bits(row({"photo": one})) for one in data]
    assert X.dtype == np.float32
    if at % 2:
        assert np.isfinite(X).all()
    else:
        assert np.isnan(X).all(axis=1).tolist() == [one is None for one in data]
        assert np.isnan(X).any(axis=1).tolist() == [one is None for one in data]


def test_how_many_pictures_are_computed_at_once_changes_nothing(monkeypatch):
    data = [encoded(noise(30, 30, "RGB", seed=n)) for n in range(40)]
    whole = PROGRAMS[0].transform(table(data))
    for at_once, threads in ((1, "1"), (3, "3"), (7, "2")):
        monkeypatch.setattr(image, "AT_ONCE", at_once)
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert bits(PROGRAMS[0].transform(table(data))) == bits(whole)


def feature(made, data):
    return dict(zip(made.names, made.row()({"photo": data}).tolist(), strict=True))


def test_levels_are_those_of_numpy():
    levels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    found = feature(PROGRAMS[0], encoded(Image.fromarray(levels)))
    assert (found["photo: width"], found["photo: height"]) == (50, 30)
    assert found["photo: aspect"] == pytest.approx(50 / 30)
    for at, channel in enumerate(("red", "green", "blue")):
        one = levels[..., at] / 255
        assert found[f"photo: {channel} mean"] == pytest.approx(one.mean(), rel=1e-6)
        assert found[f"photo: {channel} deviation"] == pytest.approx(one.std(), rel=1e-6)
        share = np.histogram(levels[..., at], bins=np.arange(0, 257, 32))[0] / one.size
        names = [name for name in found if name.startswith(f"photo: {channel} levels")]
        assert [found[name] for name in names] == pytest.approx(share.tolist(), rel=1e-6)
        assert names[0] == f"photo: {channel} levels 0–31"


def test_pixels_of_small_pictures_are_their_levels():
    levels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    found = feature(PROGRAMS[2], encoded(Image.fromarray(levels)))
    pixels = [found[f"photo: pixel {y},{x}"] for y in range(16) for x in range(16)]
    assert pixels == pytest.approx((levels / 255).ravel().tolist(), rel=1e-6)


def test_a_missing_picture_is_marked_for_linear_models():
    made = PROGRAMS[1]
    assert made.names[-1] == "photo is missing"
    assert made.row()({"photo": None}).tolist() == [*([0.0] * (made.width - 1)), 1.0]
    assert made.row()({"photo": COLOUR[1]})[-1] == 0.0


@pytest.mark.parametrize(
    ("data", "why"), [(b"no picture", "neither PNG nor JPEG"), (COLOUR[1][:-30], "cut short or damaged")]
)
def test_what_does_not_decode_is_refused_alike_in_rows_and_columns(data, why):
    for refused in (lambda: PROGRAMS[0].row()({"photo": data}), lambda: PROGRAMS[0].transform(table([None, data]))):
        with pytest.raises(errors.RequestError) as caught:
            refused()
        fault = {"row": 0, "field": "photo", "got": f"bytes that are {why}", "expected": "the bytes of a PNG or JPEG"}
        assert caught.value.violations == [fault]


def test_values_of_another_type_are_refused():
    with pytest.raises(errors.RequestError, match="got str, expected bytes"):
        PROGRAMS[0].row()({"photo": "a.png"})
    with pytest.raises(errors.RequestError, match="got string, expected bytes"):
        PROGRAMS[0].transform(pa.table({"photo": ["a.png"]}))


def test_the_choice_says_what_is_computed_and_why():
    assert fitted(GREY)[1].choices[0].reason == (
        "pictures (grey, all 28 × 28): levels, gradients of 32 × 32 and 16 × 16 pixels"
    )
    assert fitted(COLOUR)[1].choices[0].reason == (
        "pictures (colour, up to 25 × 40): size, levels, gradients of 32 × 32"
    )
    assert fitted([None, b"broken", *GREY])[1].choices[0].operation == "image"
    with pytest.raises(errors.FeatureError, match="no picture in any training row"):
        fitted([None, b"broken"])


def test_a_line_of_the_recipe_sets_what_is_computed():
    made, chosen = fitted(GREY, size=64, pixels=0, colour=True)
    assert chosen.choices[0].params == {"size": 64, "pixels": 0, "colour": True, "sized": False}
    assert made.width == 30 + 324
    with pytest.raises(errors.FeatureError, match=r"hint:     data.kinds: \{photo: image\} decodes them"):
        fitted(GREY, kind=Kind.BYTES, size=64)
    with pytest.raises(errors.FeatureError, match="no operation reads bytes values"):
        fitted(GREY, kind=Kind.BYTES)


CELLS, DIRECTIONS = 4, 9


def by_hand(picture):
    """Dalal & Triggs 2005, section 6, one pixel after another in plain Python."""
    side = len(picture)
    votes = {}
    for y in range(side):
        for x in range(side):
            best = (0, 0)
            for channel in range(picture.shape[2]):
                level = picture[:, :, channel].tolist()
                dx = level[y][min(x + 1, side - 1)] - level[y][max(x - 1, 0)]
                dy = level[min(y + 1, side - 1)][x] - level[max(y - 1, 0)][x]
                if dx * dx + dy * dy > best[0] ** 2 + best[1] ** 2:
                    best = (dx, dy)
            length, angle = math.hypot(*best), math.degrees(math.atan2(best[1], best[0])) % 180
            for direction in range(DIRECTIONS):
                apart = abs(angle - (20 * direction + 10))
                near = max(0.0, 1 - min(apart, 180 - apart) / 20)
                for cy in range(CELLS):
                    for cx in range(CELLS):
                        cell = side / CELLS
                        ny = max(0.0, 1 - abs(y + 0.5 - (cy + 0.5) * cell) / cell)
                        nx = max(0.0, 1 - abs(x + 0.5 - (cx + 0.5) * cell) / cell)
                        key = (cy, cx, direction)
                        votes[key] = votes.get(key, 0.0) + length * near * ny * nx
    found = []
    for by in range(CELLS - 1):
        for bx in range(CELLS - 1):
            block = [votes[by + y, bx + x, d] for y in (0, 1) for x in (0, 1) for d in range(DIRECTIONS)]
            block = [min(vote / math.sqrt(math.fsum(v * v for v in block) + 1), 0.2) for vote in block]
            length = math.sqrt(math.fsum(v * v for v in block)) or 1.0
            found += [vote / length for vote in block]
    return found


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([8, 16, 20]), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1), st.sampled_from([1, 40, 255]))
def test_gradients_are_those_of_the_paper_by_hand(side, channels, seed, most):
    pictures = np.random.default_rng(seed).integers(0, most + 1, (2, side, side, channels), dtype=np.uint8)
    found = image.oriented_gradients(pictures)
    for picture, numbers in zip(pictures, found, strict=True):
        assert numbers == pytest.approx(by_hand(picture), abs=1e-12)


def test_stripes_run_one_way():
    stripes = np.zeros((1, 32, 32, 1), np.uint8)
    stripes[:, :, ::4] = 200
    stripes[:, :, 1::4] = 200
    across = image.oriented_gradients(stripes).reshape(-1, DIRECTIONS).sum(axis=0)
    down = image.oriented_gradients(stripes.transpose(0, 2, 1, 3)).reshape(-1, DIRECTIONS).sum(axis=0)
    # A gradient of 0° lies between the directions of 10° and 170°, one of 90° on the direction of 90°.
    assert set(np.flatnonzero(across > 1e-9)) == {0, 8}
    assert set(np.flatnonzero(down > 1e-9)) == {4}


def test_a_flat_picture_has_no_gradients():
    assert not image.oriented_gradients(np.full((1, 32, 32, 3), 99, np.uint8)).any()


def test_every_number_has_a_name():
    names = image.hog_names()
    assert len(set(names)) == len(names) == image.WIDTH == 324
    assert names[0] == "block 0,0 cell 0,0 10°"
    assert names[-1] == "block 2,2 cell 1,1 170°"
