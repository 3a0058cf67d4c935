from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys.features.operations import image

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
