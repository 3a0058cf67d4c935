import datasketches
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.statistics.hashing import mix
from mlsys.statistics.sketches import DistinctSketch, QuantileSketch

SHAPES = {
    "normal": lambda rng: rng.normal(size=60_000),
    "ascending": lambda _: np.arange(60_000.0),
    "descending": lambda _: np.arange(60_000.0)[::-1].copy(),
    "ties": lambda rng: rng.integers(0, 40, 60_000).astype(float),
    "heavy tail": lambda rng: rng.pareto(0.5, 60_000),
    "two levels": lambda _: np.tile([0.0, 1.0], 30_000),
}


def filled(values, blocks, k=400):
    parts = []
    for block in np.array_split(values, blocks):
        sketch = QuantileSketch(k)
        sketch.update(block)
        parts.append(sketch)
    while len(parts) > 1:
        parts = [a.merge(b) for a, b in zip(parts[::2], parts[1::2], strict=False)] + parts[len(parts) // 2 * 2 :]
    return parts[0]


def largest_rank_error(sketch, values):
    points = np.unique(values)
    true = np.searchsorted(np.sort(values), points, side="right") / len(values)
    return np.abs(sketch.cdf(points) - true).max()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("blocks", [1, 7, 128])
def test_ranks_keep_the_stated_bound(shape, blocks):
    values = SHAPES[shape](np.random.default_rng(4))
    sketch = filled(values, blocks)
    assert sketch.n == len(values)
    assert largest_rank_error(sketch, values) <= sketch.rank_error


def test_ranks_keep_the_bound_value_by_value():
    values = np.random.default_rng(5).normal(size=20_000)
    sketch = QuantileSketch(400)
    for block in values.reshape(-1, 4):
        sketch.update(block)
    assert largest_rank_error(sketch, values) <= sketch.rank_error


def test_the_bound_is_that_of_apache_datasketches():
    sketch = QuantileSketch(400)
    sketch.update(np.arange(10_000.0))
    peer = datasketches.kll_doubles_sketch(400)
    assert sketch.rank_error == pytest.approx(peer.normalized_rank_error(True), rel=1e-9)


def test_memory_does_not_grow_with_the_rows():
    sketch = QuantileSketch(400)
    for seed in range(50):
        sketch.update(np.random.default_rng(seed).normal(size=10_000))
    peer = datasketches.kll_doubles_sketch(400)
    peer.update(np.random.default_rng(0).normal(size=500_000))
    assert sum(map(len, sketch.levels)) <= 1.1 * peer.num_retained


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60), st.floats(0, 1))
def test_few_values_are_kept_whole(values, probability):
    sketch = QuantileSketch(100)
    sketch.update(np.array(values))
    assert sketch.rank_error == 0
    expected = np.quantile(values, [probability], method="inverted_cdf")
    assert sketch.quantiles([probability]) == pytest.approx(expected, rel=1e-12)
    assert sketch.cdf(values) == pytest.approx([np.mean(np.array(values) <= v) for v in values])


def test_json_keeps_the_sketch():
    sketch = filled(np.random.default_rng(7).normal(size=30_000), 3)
    again = QuantileSketch.from_json(sketch.to_json())
    assert again.to_json() == sketch.to_json()
    again.update(np.ones(5))
    assert again.n == 30_005


def test_an_empty_sketch_answers_nan():
    assert np.isnan(QuantileSketch(100).cdf([1.0])).all()
    assert np.isnan(QuantileSketch(100).quantiles([0.5])).all()


@pytest.mark.parametrize("count", [0, 1, 10, 500, 5_000, 100_000, 1_000_000])
def test_distinct_values_are_estimated_within_four_standard_errors(count):
    sketch = DistinctSketch()
    sketch.update(mix(np.arange(count, dtype=np.uint64)))
    assert sketch.estimate() == pytest.approx(count, rel=4 * sketch.relative_error, abs=0.5)
