from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mlsys.monitor import row_sample
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.row_sample import MAX_SAMPLED, RowSample
from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics


def bins_of(name, kind, values):
    column = ColumnStatistics(kind)
    column.update(pa.array(values))
    return ReferenceBins.of(name, column)


X = bins_of("x", Kind.NUMERIC, [float(value) for value in range(100)])
COLOUR = bins_of("colour", Kind.CATEGORICAL, ["red"] * 60 + ["blue"] * 40)


def rows_of(rng, rows):
    x = pa.array(rng.uniform(0, 100, rows), mask=rng.random(rows) < 0.1)
    return pa.table({"x": x, "colour": rng.choice(["red", "blue", "green"], rows)})


def test_a_row_is_the_coarse_bins_of_its_values():
    rows = pa.table({"x": [-1.0, 5.0, 99.0, 1e9, None], "colour": ["red", "blue", "green", None, "red"]})
    codes = row_sample.encode(rows, [X, COLOUR])
    assert codes[:, 0].tolist() == [0, 1, 10, 11, 12]  # below, ten deciles, above, null
    assert codes[:, 1].tolist() == [0, 1, 2, 3, 0]  # red, blue, other, null


@given(st.integers(0, 2**32), st.lists(st.integers(0, 900), min_size=1, max_size=5))
def test_a_sample_is_the_same_in_whatever_parts_its_rows_come(seed, sizes):
    rng = np.random.default_rng(seed)
    number = sum(sizes)
    rows, hashes, block = rows_of(rng, number), rng.permutation(number).astype(np.uint64), np.arange(number) % 7
    whole = RowSample.of(rows, [X, COLOUR], hashes, block)
    merged, at = RowSample.empty(2), 0
    for size in sizes:
        part = slice(at, at + size)
        merged = RowSample.of(rows.slice(at, size), [X, COLOUR], hashes[part], block[part]).merge(merged)
        at += size
    assert len(whole.hashes) == min(number, MAX_SAMPLED)
    for name in ("hashes", "block", "codes"):
        assert getattr(merged, name).tolist() == getattr(whole, name).tolist()
    assert set(whole.hashes.tolist()) == set(range(len(whole.hashes)))


def test_json_keeps_it_and_a_longer_window_places_it():
    rng = np.random.default_rng(0)
    some = RowSample.of(rows_of(rng, 50), [X, COLOUR], rng.permutation(50).astype(np.uint64), np.arange(50) % 3)
    again = RowSample.from_json(json.loads(json.dumps(some.to_json())))
    for name in ("hashes", "block", "codes"):
        assert getattr(again, name).tolist() == getattr(some, name).tolist()
        assert getattr(again, name).dtype == getattr(some, name).dtype
    assert set(some.in_block(4).block.tolist()) == {4}
    assert some.in_block(4).codes.tolist() == some.codes.tolist()
    assert RowSample.from_json(RowSample.empty(2).to_json()).codes.shape == (0, 2)
