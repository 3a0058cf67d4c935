from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.monitor.reference import ReferenceBins
from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics


def statistics(values, kind=Kind.NUMERIC):
    column = ColumnStatistics(kind)
    column.update(pa.array(values))
    return column


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=300))
def test_the_reference_falls_into_its_own_bins_as_counted(values):
    column = ColumnStatistics(Kind.NUMERIC)
    column.update(pa.array(values, pa.float64()))
    bins = ReferenceBins.of("x", column)
    counted = np.bincount(bins.index(pa.array(values, pa.float64())), minlength=bins.size)
    assert counted.tolist() == bins.reference.tolist()
    assert bins.coarse(counted).sum() == len(values)
    assert len(bins.labels) == len(bins.coarse(counted))


@given(st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), min_size=1, max_size=100))
def test_categories_fall_into_their_own_bins(values):
    column = ColumnStatistics(Kind.CATEGORICAL)
    column.update(pa.array(values, pa.string()))
    bins = ReferenceBins.of("x", column)
    counted = np.bincount(bins.index(pa.array(values, pa.string())), minlength=bins.size)
    assert counted.tolist() == bins.reference.tolist()


def test_a_category_beyond_the_reference_is_other_and_a_null_is_null():
    bins = ReferenceBins.of("x", statistics(["a", "a", "b", None], Kind.CATEGORICAL))
    assert bins.labels == ("a", "b", "other", "null")
    assert bins.index(pa.array(["b", "z", None])).tolist() == [1, 2, 3]


def test_numbers_beyond_the_reference_have_bins_of_their_own():
    bins = ReferenceBins.of("x", statistics([1.0, 2.0, 3.0]))
    index = bins.index(pa.array([0.5, 3.5, float("nan"), float("inf"), None]))
    assert [bins.labels[group] for group in bins.group[index]] == ["below 1", "above 3", "null", "above 3", "null"]
    assert bins.outside(np.bincount(index, minlength=bins.size)) == pytest.approx(3 / 5)


def test_deciles_of_the_reference_hold_a_tenth_each_whatever_the_sketch_lost():
    values = np.random.default_rng(0).normal(size=50_000)
    bins = ReferenceBins.of("x", statistics(values))
    inner = bins.coarse(bins.reference)[1:-2]
    assert len(inner) == 10
    assert inner / len(values) == pytest.approx(0.1, abs=0.02)
    assert 1_000 < bins.effective_rows < 50_000


def test_a_constant_column_and_an_empty_one_have_bins():
    assert ReferenceBins.of("x", statistics([5.0, 5.0])).labels == ("below 5", "5", "above 5", "null")
    empty = ColumnStatistics(Kind.NUMERIC)
    empty.update(pa.array([None, None], pa.float64()))
    bins = ReferenceBins.of("x", empty)
    assert bins.index(pa.array([1.0, None])).tolist() == [0, 1]
