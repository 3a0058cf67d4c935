"""What the operations compute, against scikit-learn, the calendar and hand counts."""

from __future__ import annotations

import datetime as dt
import hashlib
import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, RobustScaler, StandardScaler

from mlsys import recipe
from mlsys.schema import Column, Kind, Role, Schema

Y = Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET)
NAN = float("nan")


def one(kind, values, type_=None):
    column = pa.array(values, type_)
    schema = Schema(columns=(Column(name="a", type=str(column.type), kind=kind), Y))
    return pa.table({"a": column, "y": pa.array(np.arange(float(len(values))))}), schema


def of(made, values, type_):
    return made.transform(pa.table({"a": pa.array(values, type_)}))


def test_dense_numbers_equal_scikit_learn_imputed_with_the_median_and_standardised(fit):
    values = [None if i % 6 == 0 else math.sin(i) * 1e3 + 5e5 for i in range(304)]  # 253 values: one median
    made = fit(*one(Kind.NUMERIC, values), encoding="dense")
    column = np.array([[NAN if v is None else v] for v in values])
    expected = StandardScaler().fit(column).transform(SimpleImputer(strategy="median").fit_transform(column))
    X = of(made, values, pa.float64())
    np.testing.assert_allclose(X[:, 0], expected[:, 0], rtol=2e-6)
    assert X[:, 1].tolist() == np.isnan(column[:, 0]).astype(float).tolist()
    assert made.names == ["a", "a is missing"]


def test_the_numbers_of_a_categorys_text_are_standardised_over_the_categories_for_linear_models(fit):
    values = ["one", "two words", "three more words", None] * 30
    made = fit(*one(Kind.CATEGORICAL, values), recipe.Features(columns={"a": "text"}), "dense")
    X = of(made, [*values[:4], "four words never seen"], pa.string())
    assert np.isfinite(X).all()
    words = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(X[:3, 1], (words - 2) / words.std(), rtol=1e-6)
    assert X[3].tolist() == [0.0] * 6 + [1.0]


SKEWED = [None if i % 9 == 0 else (i * 7919 % 1009) ** 2 / 50 - 100 for i in range(300)]


def numeric(**options):
    return recipe.Features(columns={"a": {"operation": "numeric", **options}})


@pytest.mark.parametrize("encoding", ["codes", "dense"])
def test_what_the_recipe_asks_of_a_number_equals_scikit_learn(fit, encoding):
    table, schema = one(Kind.NUMERIC, SKEWED)
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
    made = fit(*one(Kind.NUMERIC, SKEWED), numeric(log=True))
    X = of(made, [0.0, math.e - 1, 1 - math.e, -0.0, None, 1e30], pa.float64())[:, 0]
    np.testing.assert_allclose(X, [0, 1, -1, 0, NAN, 30 * math.log(10)], rtol=1e-6)


def test_logarithms_are_standardised_as_if_they_had_been_computed_first(fit):
    values = np.random.default_rng(1).lognormal(3, 2, 5_000).tolist()
    made = fit(*one(Kind.NUMERIC, values), numeric(log=True), "dense")
    X = of(made, values, pa.float64())[:, 0]
    expected = StandardScaler().fit_transform(np.log1p(values).reshape(-1, 1))[:, 0]
    np.testing.assert_allclose(X, expected, atol=0.03)  # mean and deviation by the sketch


def test_quantile_bins_hold_equally_many_rows(fit):
    values = [float(i * 37 % 400) for i in range(400)] + [None]
    table, schema = one(Kind.NUMERIC, values)
    X = fit(table, schema, numeric(bins=4)).transform(table)[:, 0]
    edges = np.quantile(values[:-1], [0.25, 0.5, 0.75], method="inverted_cdf")
    np.testing.assert_array_equal(X[:-1], np.digitize(values[:-1], edges, right=True))
    assert np.isnan(X[-1])
    dense = fit(table, schema, numeric(bins=4), "dense")
    assert dense.transform(table).sum(axis=0).tolist() == [100, 100, 100, 100, 1]
    assert dense.names[0] == "a in (-inf, 99)"
    outside = of(dense, [-1e9, 1e9, 99.0, 99.5], pa.float64())
    assert outside.argmax(axis=1).tolist() == [0, 3, 0, 1]


def test_bins_of_a_column_of_mostly_one_value_are_fewer(fit):
    table, schema = one(Kind.NUMERIC, [0.0] * 90 + [1.0] * 5 + [2.0] * 5)
    made = fit(table, schema, numeric(bins=10))
    assert made.transform(table)[:, 0].tolist() == [0] * 90 + [1] * 10  # the last decile begins after 0


def test_many_categories_share_buckets_that_follow_from_the_value_alone(fit):
    values = [f"n{i % 40}" for i in range(120)]
    wanted = recipe.Features(columns={"a": {"operation": "hash", "buckets": 8}})
    made = fit(*one(Kind.CATEGORICAL, values), wanted)
    new = ["n1", "never seen", "", "ü", None]
    X = of(made, new, pa.string())[:, 0]
    blake = [hashlib.blake2b(v.encode(), digest_size=8).digest() for v in new[:-1]]
    assert X[:-1].tolist() == [int.from_bytes(digest, "little") % 8 for digest in blake]
    assert np.isnan(X[-1])
    assert made.types == ["c"]
    dense = fit(*one(Kind.CATEGORICAL, values), wanted, "dense")
    onehot = of(dense, new, pa.string())
    assert onehot.argmax(axis=1).tolist() == [*X[:-1].astype(int), 8]
    assert onehot.sum(axis=1).tolist() == [1] * 5
    assert len(np.unique(of(made, [f"x{i}" for i in range(200)], pa.string()))) == 8


def test_a_number_hashes_by_value_whatever_its_type(fit):
    wanted = recipe.Features(columns={"a": {"operation": "hash", "buckets": 101}})
    made = fit(*one(Kind.CATEGORICAL, [1, 2, 3] * 9), wanted)
    whole, real = of(made, [1, 0, 3], pa.int8()), of(made, [1.0, -0.0, 3.0], pa.float64())
    np.testing.assert_array_equal(whole, real)


LISTS = [[3.0, 1.0, 2.0], [7.0], [], None, [None, 4.0, NAN, float("inf"), 6.0], [None]]


def test_a_list_of_numbers_is_measured(fit):
    made = fit(*one(Kind.LIST, LISTS, pa.list_(pa.float64())))
    assert made.names == ["a: length", "a: mean", "a: min", "a: max", "a: std"]
    expected = [
        [3, 2, 1, 3, np.std([3, 1, 2])],
        [1, 7, 7, 7, 0],
        [0, NAN, NAN, NAN, NAN],
        [NAN] * 5,
        [5, 5, 4, 6, 1],
        [1, NAN, NAN, NAN, NAN],
    ]
    np.testing.assert_allclose(of(made, LISTS, pa.list_(pa.float64())), expected, rtol=1e-6)
    np.testing.assert_array_equal(of(made, LISTS, pa.large_list(pa.float32()))[0], np.float32(expected[0]))


def test_lists_of_one_length_are_taken_element_by_element(fit):
    vectors = [[i / 3, -float(i)] for i in range(20)]
    for encoding, absent in (("codes", NAN), ("dense", 0.0)):
        made = fit(*one(Kind.LIST, vectors, pa.list_(pa.float64())), encoding=encoding)
        assert made.names[5:7] == ["a #0", "a #1"]
        for kind in (pa.list_(pa.float64()), pa.list_(pa.float64(), 2)):
            np.testing.assert_array_equal(of(made, vectors, kind)[:, 5:7], np.array(vectors, np.float32))
        np.testing.assert_array_equal(made.row()({"a": [5]})[5:7], [5, absent])
        np.testing.assert_array_equal(made.row()({"a": np.array([1, 2, 3])})[5:7], [1, 2])
    assert made.names[-1] == "a is missing"
    assert of(made, [[1.0], None], pa.list_(pa.float64()))[:, -1].tolist() == [0, 1]


def between(fit, first, second, kinds, encoding="codes", **roles):
    columns = tuple(
        Column(name=name, type=str(kind), kind=Kind.DATETIME, role=roles.get(name, Role.FEATURE))
        for name, kind in zip("ab", kinds, strict=True)
    )
    schema = Schema(columns=(*columns, Y))
    table = pa.table({"a": pa.array(first, kinds[0]), "b": pa.array(second, kinds[1]), "y": [0.0] * len(first)})
    wanted = recipe.Features(columns={"a": {"operation": "elapsed", "since": "b"}})
    return fit(table, schema, wanted, encoding), table


UTC, CLOCK = pa.timestamp("us", "UTC"), pa.timestamp("us")


def test_days_since_another_column_are_counted_between_instants_and_not_between_clocks(fit):
    # The night in which New York's clocks go from 02:00 to 03:00 has 23 hours.
    first = [dt.datetime(2013, 3, 10, 12, tzinfo=dt.UTC), dt.datetime(2013, 3, 9, tzinfo=dt.UTC), None]
    second = [dt.datetime(2013, 3, 9, 12, tzinfo=dt.UTC), dt.datetime(2013, 3, 19, 6, tzinfo=dt.UTC), first[0]]
    made, table = between(fit, first, second, (UTC, UTC))
    at = made.names.index("a: days since b")
    np.testing.assert_array_equal(made.transform(table)[:, at], [1, -10.25, NAN])
    dense, _ = between(fit, first, second, (UTC, UTC), "dense")
    at = dense.names.index("a: days since b")
    expected = [[math.log(2), 0], [-math.log(11.25), 0], [0, 1]]
    np.testing.assert_allclose(dense.transform(table)[:, at : at + 2], expected, rtol=1e-6)


def test_an_instant_beside_a_time_without_zone_is_read_from_the_clock_on_the_wall(fit):
    summer = dt.datetime(2013, 7, 1, 4, tzinfo=dt.UTC)  # midnight in New York
    made, table = between(fit, [summer] * 2, [dt.datetime(2013, 6, 30)] * 2, (UTC, CLOCK))  # noqa: DTZ001
    assert made.transform(table)[:, made.names.index("a: days since b")].tolist() == [1, 1]
    made, table = between(fit, [summer] * 2, [dt.date(2013, 6, 1)] * 2, (UTC, pa.date32()))
    assert made.row()(table.to_pylist()[0])[made.names.index("a: days since b")] == 30


def test_codes_leave_numbers_as_they_are_and_turn_what_is_no_measurement_into_missing(fit):
    made = fit(*one(Kind.NUMERIC, [1.0, 2.0, None]))
    X = of(made, [1.5, -0.0, None, NAN, float("inf"), -1e300, 16_777_217.0], pa.float64())
    np.testing.assert_array_equal(X[:, 0], [1.5, -0.0, NAN, NAN, NAN, NAN, 16_777_216.0])


@pytest.mark.parametrize("operation", ["codes", "onehot", "frequency", "target"])
def test_of_too_many_categories_to_remember_none_is_called_unknown(fit, operation):
    values = [f"k{at % 11_000}" for at in range(22_000)] + ["often"] * 500
    made = fit(*one(Kind.CATEGORICAL, values), recipe.Features(columns={"a": operation}))
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
    table, schema = one(Kind.CATEGORICAL, values)
    table = table.set_column(1, "y", pa.array([1.0] * 22_000 + [5.0] * 500))
    made = fit(table, schema, recipe.Features(columns={"a": {"operation": "target", "smoothing": 0}}))
    assert of(made, ["often", "never seen", None], pa.string())[:2, 0].tolist() == [5.0, 1.0]


def test_one_hot_equals_scikit_learn_with_rare_and_unknown_categories_together(fit):
    values = ["b"] * 30 + ["a"] * 30 + ["c"] * 50 + ["once"]
    made = fit(*one(Kind.CATEGORICAL, values), encoding="dense")
    new = ["a", "b", "c", "once", "never seen", "c"]
    encoder = OneHotEncoder(
        categories=[["c", "a", "b"]], handle_unknown="ignore", sparse_output=False, dtype=np.float32
    )
    known = encoder.fit([[v] for v in "cab"]).transform([[v] for v in new])
    X = of(made, new, pa.string())
    assert made.names == ["a=__other__", "a=c", "a=a", "a=b"]
    np.testing.assert_array_equal(X[:, 1:], known)
    assert X[:, 0].tolist() == [0, 0, 0, 1, 1, 0]
    assert made.unseen(pa.table({"a": new})) == {"a": 1}


def test_codes_are_numbered_by_count_and_then_by_value(fit):
    values = ["b"] * 30 + ["a"] * 30 + ["c"] * 50 + ["once", None]
    made = fit(*one(Kind.CATEGORICAL, values))
    X = of(made, ["c", "a", "b", "once", "never seen", None, ""], pa.string())
    np.testing.assert_array_equal(X[:, 0], [1, 2, 3, 0, 0, NAN, 0])
    assert made.types == ["c"]


def test_a_missing_category_has_a_column_of_its_own(fit):
    made = fit(*one(Kind.CATEGORICAL, ["x", "x", "z", "z", None, None]), encoding="dense")
    assert made.names == ["a=__other__", "a=x", "a=z", "a is missing"]
    assert of(made, [None, "q"], pa.string()).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]


def test_number_categories_are_numbers(fit):
    made = fit(*one(Kind.CATEGORICAL, [3, 3, 3, 11, 11, None], pa.int8()))
    assert of(made, [3.0, 11.0, 11.5, -0.0, NAN], pa.float64())[:-1, 0].tolist() == [1, 2, 0, 0]
    assert made.row()({"a": 3})[0] == 1


def test_a_frequency_is_the_fraction_of_training_rows(fit):
    table, schema = one(Kind.CATEGORICAL, ["x"] * 5 + ["z"] * 3 + [None] * 2)
    wanted = recipe.Features(columns={"a": "frequency"})
    X = of(fit(table, schema, wanted), ["x", "z", "q", None], pa.string())
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
    table, schema = one(Kind.BOOLEAN, [True, False, True, None])
    np.testing.assert_array_equal(fit(table, schema).transform(table)[:, 0], [1, 0, 1, NAN])
    np.testing.assert_allclose(
        fit(table, schema, encoding="dense").transform(table), [[1, 0], [0, 0], [1, 0], [2 / 3, 1]], rtol=1e-7
    )


YEAR = [dt.datetime(2012, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=35 * i) for i in range(300)]


@pytest.mark.parametrize(
    ("utc", "hour", "weekday", "yearday"),
    [
        # 15 USC 260a: in 2013 New York's clocks went from 02:00 to 03:00 on 10 March and back on 3 November.
        (dt.datetime(2013, 3, 10, 6, 59, tzinfo=dt.UTC), 1 + 59 / 60, 6, 68),
        (dt.datetime(2013, 3, 10, 7, 0, tzinfo=dt.UTC), 3, 6, 68),
        (dt.datetime(2013, 11, 3, 5, 30, tzinfo=dt.UTC), 1.5, 6, 306),
        (dt.datetime(2013, 11, 3, 6, 30, tzinfo=dt.UTC), 1.5, 6, 306),
        (dt.datetime(2012, 12, 31, 20, 15, tzinfo=dt.UTC), 15.25, 0, 365),  # a leap year
        (
            dt.datetime(1969, 7, 21, 2, 56, 15, tzinfo=dt.UTC),
            22 + 56 / 60,
            6,
            200,
        ),  # the first step on the Moon
        (dt.datetime(9999, 12, 31, tzinfo=dt.UTC), NAN, NAN, NAN),  # "never"
        (None, NAN, NAN, NAN),
    ],
)
def test_parts_of_a_time_follow_the_wall_clock_of_the_zone(fit, utc, hour, weekday, yearday):
    made = fit(*one(Kind.DATETIME, YEAR, pa.timestamp("us", "UTC")))
    assert made.names == ["a: hour", "a: weekday", "a: yearday"]
    np.testing.assert_array_equal(made.row()({"a": utc}), np.array([hour, weekday, yearday], np.float32))


def test_a_time_in_another_unit_or_zone_is_the_same_time(fit):
    made = fit(*one(Kind.DATETIME, YEAR, pa.timestamp("us", "UTC")))
    expected = made.transform(pa.table({"a": pa.array(YEAR, pa.timestamp("us", "UTC"))}))
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("s", "Europe/Berlin"), pa.timestamp("ms", "+05:30")):
        np.testing.assert_array_equal(of(made, YEAR, kind), expected)
    tokyo = dt.timezone(dt.timedelta(hours=9))
    np.testing.assert_array_equal(made.row()({"a": YEAR[7].astimezone(tokyo)}), expected[7])


def test_linear_models_get_points_on_the_circle_where_midnight_is_near_midnight(fit):
    values = [*YEAR, None]
    made = fit(*one(Kind.DATETIME, values, pa.timestamp("us", "UTC")), encoding="dense")
    row = made.row()
    late, early = (
        row({"a": dt.datetime(2013, 1, 15, h, m, tzinfo=dt.UTC)})[:2] for h, m in ((4, 59), (5, 1))
    )  # 23:59 and 00:01
    assert np.linalg.norm(late - early) < 0.01
    assert row({"a": None}).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_a_date_has_no_hour(fit):
    made = fit(*one(Kind.DATETIME, [day.date() for day in YEAR], pa.date32()))
    assert made.names == ["a: weekday", "a: yearday"]
    assert made.row()({"a": dt.date(1970, 1, 1)}).tolist() == [3, 0]
