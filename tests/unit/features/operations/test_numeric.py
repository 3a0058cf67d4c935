"""Numbers as features, against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import RobustScaler, StandardScaler

from mlsys import recipe
from mlsys.schema import Kind
from one_column import NAN, one_column, transformed


def test_dense_numbers_equal_scikit_learn_imputed_with_the_median_and_standardised(fit):
    values = [None if i % 6 == 0 else math.sin(i) * 1e3 + 5e5 for i in range(304)]  # 253 values: one median
    made = fit(*one_column(Kind.NUMERIC, values), encoding="dense")
    column = np.array([[NAN if v is None else v] for v in values])
    expected = StandardScaler().fit(column).transform(SimpleImputer(strategy="median").fit_transform(column))
    X = transformed(made, values, pa.float64())
    np.testing.assert_allclose(X[:, 0], expected[:, 0], rtol=2e-6)
    assert X[:, 1].tolist() == np.isnan(column[:, 0]).astype(float).tolist()
    assert made.names == ["a", "a is missing"]


SKEWED = [None if i % 9 == 0 else (i * 7919 % 1009) ** 2 / 50 - 100 for i in range(300)]


def numeric(**options):
    return recipe.FeaturesSection(columns={"a": {"operation": "numeric", **options}})


@pytest.mark.parametrize("encoding", ["codes", "dense"])
def test_what_the_recipe_asks_of_a_number_equals_scikit_learn(fit, encoding):
    table, schema = one_column(Kind.NUMERIC, SKEWED)
    column = np.array([[NAN if v is None else v] for v in SKEWED])
    imputed = SimpleImputer(strategy="median").fit_transform(column)
    robust = RobustScaler().fit(column)
    # Quantiles here are values of the table; scikit-learn's lie between two of them.
    X = fit(table, schema, numeric(impute="median", scale="robust"), encoding).transform(table)
    np.testing.assert_allclose(X[:, 0], robust.transform(imputed)[:, 0], rtol=0.03, atol=0.03)
    X = fit(table, schema, numeric(impute="mean", scale="none"), encoding).transform(table)
    np.testing.assert_allclose(X[:, 0], SimpleImputer().fit_transform(column)[:, 0], rtol=1e-6)
    X = fit(table, schema, numeric(impute=-7, scale="none", indicator=True), encoding).transform(table)
    expected = SimpleImputer(strategy="constant", fill_value=-7.0, add_indicator=True).fit_transform(column)
    np.testing.assert_allclose(X, expected, rtol=1e-6)


def test_a_logarithm_is_odd_and_takes_any_number(fit):
    made = fit(*one_column(Kind.NUMERIC, SKEWED), numeric(log=True))
    X = transformed(made, [0.0, math.e - 1, 1 - math.e, -0.0, None, 1e30], pa.float64())[:, 0]
    np.testing.assert_allclose(X, [0, 1, -1, 0, NAN, 30 * math.log(10)], rtol=1e-6)


def test_logarithms_are_standardised_as_if_they_had_been_computed_first(fit):
    values = np.random.default_rng(1).lognormal(3, 2, 5_000).tolist()
    made = fit(*one_column(Kind.NUMERIC, values), numeric(log=True), "dense")
    X = transformed(made, values, pa.float64())[:, 0]
    expected = StandardScaler().fit_transform(np.log1p(values).reshape(-1, 1))[:, 0]
    np.testing.assert_allclose(X, expected, atol=0.03)  # mean and deviation by the sketch


def test_quantile_bins_hold_equally_many_rows(fit):
    values = [float(i * 37 % 400) for i in range(400)] + [None]
    table, schema = one_column(Kind.NUMERIC, values)
    X = fit(table, schema, numeric(bins=4)).transform(table)[:, 0]
    edges = np.quantile(values[:-1], [0.25, 0.5, 0.75], method="inverted_cdf")
    np.testing.assert_array_equal(X[:-1], np.digitize(values[:-1], edges, right=True))
    assert np.isnan(X[-1])
    dense = fit(table, schema, numeric(bins=4), "dense")
    assert dense.transform(table).sum(axis=0).tolist() == [100, 100, 100, 100, 1]
    assert dense.names[0] == "a in (-inf, 99)"
    outside = transformed(dense, [-1e9, 1e9, 99.0, 99.5], pa.float64())
    assert outside.argmax(axis=1).tolist() == [0, 3, 0, 1]


def test_bins_of_a_column_of_mostly_one_value_are_fewer(fit):
    table, schema = one_column(Kind.NUMERIC, [0.0] * 90 + [1.0] * 5 + [2.0] * 5)
    made = fit(table, schema, numeric(bins=10))
    assert made.transform(table)[:, 0].tolist() == [0] * 90 + [1] * 10  # the last decile begins after 0


def test_codes_leave_numbers_as_they_are_and_turn_what_is_no_measurement_into_missing(fit):
    made = fit(*one_column(Kind.NUMERIC, [1.0, 2.0, None]))
    X = transformed(made, [1.5, -0.0, None, NAN, float("inf"), -1e300, 16_777_217.0], pa.float64())
    np.testing.assert_array_equal(X[:, 0], [1.5, -0.0, NAN, NAN, NAN, NAN, 16_777_216.0])
