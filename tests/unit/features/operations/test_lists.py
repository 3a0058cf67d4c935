"""Lists of numbers as features, against NumPy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mlsys.schema import Kind
from one_column import NAN, one_column, transformed

LISTS = [[3.0, 1.0, 2.0], [7.0], [], None, [None, 4.0, NAN, float("inf"), 6.0], [None]]


def test_a_list_of_numbers_is_measured(fit):
    made = fit(*one_column(Kind.LIST, LISTS, pa.list_(pa.float64())))
    assert made.names == ["a: length", "a: mean", "a: min", "a: max", "a: std"]
    expected = [
        [3, 2, 1, 3, np.std([3, 1, 2])],
        [1, 7, 7, 7, 0],
        [0, NAN, NAN, NAN, NAN],
        [NAN] * 5,
        [5, 5, 4, 6, 1],
        [1, NAN, NAN, NAN, NAN],
    ]
    np.testing.assert_allclose(transformed(made, LISTS, pa.list_(pa.float64())), expected, rtol=1e-6)
    np.testing.assert_array_equal(transformed(made, LISTS, pa.large_list(pa.float32()))[0], np.float32(expected[0]))


def test_lists_of_one_length_are_taken_element_by_element(fit):
    vectors = [[i / 3, -float(i)] for i in range(20)]
    for encoding, absent in (("codes", NAN), ("dense", 0.0)):
        made = fit(*one_column(Kind.LIST, vectors, pa.list_(pa.float64())), encoding=encoding)
        assert made.names[5:7] == ["a #0", "a #1"]
        for kind in (pa.list_(pa.float64()), pa.list_(pa.float64(), 2)):
            np.testing.assert_array_equal(transformed(made, vectors, kind)[:, 5:7], np.array(vectors, np.float32))
        np.testing.assert_array_equal(made.row()({"a": [5]})[5:7], [5, absent])
        np.testing.assert_array_equal(made.row()({"a": np.array([1, 2, 3])})[5:7], [1, 2])
    assert made.names[-1] == "a is missing"
    assert transformed(made, [[1.0], None], pa.list_(pa.float64()))[:, -1].tolist() == [0, 1]
