"""Categories, buckets and truth as features, against scikit-learn and hand counts."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import OneHotEncoder

from mlsys import recipe
from mlsys.schema import Kind
from one_column import NAN, one_column, transformed


def test_the_numbers_of_a_categorys_text_are_standardised_over_the_categories_for_linear_models(fit):
    values = ["one", "two words", "three more words", None] * 30
    made = fit(*one_column(Kind.CATEGORICAL, values), recipe.FeaturesSection(columns={"a": "text"}), "dense")
    X = transformed(made, [*values[:4], "four words never seen"], pa.string())
    assert np.isfinite(X).all()
    words = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(X[:3, 1], (words - 2) / words.std(), rtol=1e-6)
    assert X[3].tolist() == [0.0] * 6 + [1.0]


def test_many_categories_share_buckets_that_follow_from_the_value_alone(fit):
    values = [f"n{i % 40}" for i in range(120)]
    wanted = recipe.FeaturesSection(columns={"a": {"operation": "hash", "buckets": 8}})
    made = fit(*one_column(Kind.CATEGORICAL, values), wanted)
    new = ["n1", "never seen", "", "ü", None]
    X = transformed(made, new, pa.string())[:, 0]
    blake = [hashlib.blake2b(v.encode(), digest_size=8).digest() for v in new[:-1]]
    assert X[:-1].tolist() == [int.from_bytes(digest, "little") % 8 for digest in blake]
    assert np.isnan(X[-1])
    assert made.types == ["c"]
    dense = fit(*one_column(Kind.CATEGORICAL, values), wanted, "dense")
    onehot = transformed(dense, new, pa.string())
    assert onehot.argmax(axis=1).tolist() == [*X[:-1].astype(int), 8]
    assert onehot.sum(axis=1).tolist() == [1] * 5
    assert len(np.unique(transformed(made, [f"x{i}" for i in range(200)], pa.string()))) == 8


def test_a_number_hashes_by_value_whatever_its_type(fit):
    wanted = recipe.FeaturesSection(columns={"a": {"operation": "hash", "buckets": 101}})
    made = fit(*one_column(Kind.CATEGORICAL, [1, 2, 3] * 9), wanted)
    whole, real = transformed(made, [1, 0, 3], pa.int8()), transformed(made, [1.0, -0.0, 3.0], pa.float64())
    np.testing.assert_array_equal(whole, real)


@pytest.mark.parametrize("operation", ["codes", "onehot", "frequency", "target"])
def test_of_too_many_categories_to_remember_none_is_called_unknown(fit, operation):
    values = [f"k{at % 11_000}" for at in range(22_000)] + ["often"] * 500
    made = fit(*one_column(Kind.CATEGORICAL, values), recipe.FeaturesSection(columns={"a": operation}))
    (fitted,) = made.operations
    assert not fitted.complete
    assert "often" in fitted.categories
    asked = ["often", "never seen", None, *(f"k{at}" for at in range(11_000))]
    remembered = len({*fitted.categories} - {"often"})
    assert made.unseen(pa.table({"a": asked})) == {}
    assert made.rare(pa.table({"a": asked})) == {"a": 1 + 11_000 - remembered}
    assert [made.unseen_row()({"a": value}) for value in asked[:2]] == [[], []]
    assert [made.rare_row()({"a": value}) for value in asked[:3]] == [[], ["a"], []]


def test_categories_that_are_not_remembered_share_the_mean_of_all_rows_but_those_of_the_others(fit):
    values = [f"k{at % 11_000}" for at in range(22_000)] + ["often"] * 500
    table, schema = one_column(Kind.CATEGORICAL, values)
    table = table.set_column(1, "y", pa.array([1.0] * 22_000 + [5.0] * 500))
    made = fit(table, schema, recipe.FeaturesSection(columns={"a": {"operation": "target", "smoothing": 0}}))
    assert transformed(made, ["often", "never seen", None], pa.string())[:2, 0].tolist() == [5.0, 1.0]


def test_one_hot_equals_scikit_learn_with_rare_and_unknown_categories_together(fit):
    values = ["b"] * 30 + ["a"] * 30 + ["c"] * 50 + ["once"]
    made = fit(*one_column(Kind.CATEGORICAL, values), encoding="dense")
    new = ["a", "b", "c", "once", "never seen", "c"]
    encoder = OneHotEncoder(
        categories=[["c", "a", "b"]], handle_unknown="ignore", sparse_output=False, dtype=np.float32
    )
    known = encoder.fit([[v] for v in "cab"]).transform([[v] for v in new])
    X = transformed(made, new, pa.string())
    assert made.names == ["a=__other__", "a=c", "a=a", "a=b"]
    np.testing.assert_array_equal(X[:, 1:], known)
    assert X[:, 0].tolist() == [0, 0, 0, 1, 1, 0]
    assert made.unseen(pa.table({"a": new})) == {"a": 1}


def test_codes_are_numbered_by_count_and_then_by_value(fit):
    values = ["b"] * 30 + ["a"] * 30 + ["c"] * 50 + ["once", None]
    made = fit(*one_column(Kind.CATEGORICAL, values))
    X = transformed(made, ["c", "a", "b", "once", "never seen", None, ""], pa.string())
    np.testing.assert_array_equal(X[:, 0], [1, 2, 3, 0, 0, NAN, 0])
    assert made.types == ["c"]


def test_a_missing_category_has_a_column_of_its_own(fit):
    made = fit(*one_column(Kind.CATEGORICAL, ["x", "x", "z", "z", None, None]), encoding="dense")
    assert made.names == ["a=__other__", "a=x", "a=z", "a is missing"]
    assert transformed(made, [None, "q"], pa.string()).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]


def test_number_categories_are_numbers(fit):
    made = fit(*one_column(Kind.CATEGORICAL, [3, 3, 3, 11, 11, None], pa.int8()))
    assert transformed(made, [3.0, 11.0, 11.5, -0.0, NAN], pa.float64())[:-1, 0].tolist() == [1, 2, 0, 0]
    assert made.row()({"a": 3})[0] == 1


def test_a_frequency_is_the_fraction_of_training_rows(fit):
    table, schema = one_column(Kind.CATEGORICAL, ["x"] * 5 + ["z"] * 3 + [None] * 2)
    wanted = recipe.FeaturesSection(columns={"a": "frequency"})
    X = transformed(fit(table, schema, wanted), ["x", "z", "q", None], pa.string())
    np.testing.assert_array_equal(X[:, 0], np.array([0.5, 0.3, 0.0, NAN], np.float32))
    dense = fit(table, schema, wanted, "dense")
    scaled = dense.transform(table)
    # Mean and deviation over the eight rows with a value: 5 x 0.5, 3 x 0.3.
    mean, spread = 0.425, np.std([0.5] * 5 + [0.3] * 3)
    np.testing.assert_allclose(
        scaled[[0, 5, 8], 0], [(0.5 - mean) / spread, (0.3 - mean) / spread, 0.0], rtol=1e-6, atol=1e-7
    )
    assert scaled[:, 1].tolist() == [0] * 8 + [1] * 2


def test_truth_is_one_and_zero(fit):
    table, schema = one_column(Kind.BOOLEAN, [True, False, True, None])
    np.testing.assert_array_equal(fit(table, schema).transform(table)[:, 0], [1, 0, 1, NAN])
    np.testing.assert_allclose(
        fit(table, schema, encoding="dense").transform(table), [[1, 0], [0, 0], [1, 0], [2 / 3, 1]], rtol=1e-7
    )
