import json
from collections import Counter
from datetime import UTC, date, datetime
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.schema import Kind
from mlsys.statistics import PROBABILITIES, ColumnStatistics
from mlsys.statistics import column as column_module
from mlsys.statistics.hashing import combine, hash_array

numbers = st.lists(st.none() | st.floats(width=32) | st.integers(-5, 5).map(float), max_size=50)
texts = st.lists(st.none() | st.sampled_from(["a", "b", "c", "", "ü"]), max_size=50)


def learned(kind, values, y=None, classes=None, arrow_type=None):
    column = ColumnStatistics(kind, classes)
    column.update(pa.array(values, arrow_type), None if y is None else np.asarray(y))
    return column


def as_text(column):
    return json.dumps(column.to_json(), allow_nan=False)


def test_what_is_no_number_is_told_apart():
    found = learned(
        Kind.NUMERIC, [None, float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 4.0], arrow_type=pa.float64()
    ).result()
    assert (found.num_rows, found.count, found.num_nulls, found.num_nan, found.num_inf) == (7, 6, 1, 1, 2)
    assert (found.num_zeros, found.num_negative, found.min, found.max, found.mean) == (1, 1, -1.0, 4.0, 1.0)
    assert found.distinct_count == 3
    assert found.null_fraction == pytest.approx(1 / 7)
    assert found.integral


def test_a_column_without_values_has_no_numbers():
    found = learned(Kind.NUMERIC, [None, None], arrow_type=pa.float64()).result()
    assert (found.count, found.mean, found.median, found.histogram_edges, found.distinct_count) == (
        0,
        None,
        None,
        None,
        0,
    )
    empty = ColumnStatistics(Kind.TEXT).result()
    assert (empty.num_rows, empty.frequent_items, empty.mean_length) == (0, (), None)


def test_a_column_of_arrow_type_null_is_counted():
    for kind in (Kind.NUMERIC, Kind.CATEGORICAL, Kind.LIST):
        assert learned(kind, [None, None], arrow_type=pa.null()).result().num_nulls == 2


def test_quantiles_are_those_of_numpy_while_exact():
    values = np.random.default_rng(1).integers(0, 100, 5_000)
    found = learned(Kind.NUMERIC, values).result()
    assert found.quantiles == tuple(np.quantile(values, PROBABILITIES, method="inverted_cdf"))
    assert found.notes == {}


def test_sketched_numbers_say_so():
    values = np.random.default_rng(2).normal(size=20_000)
    column = learned(Kind.NUMERIC, values)
    found = column.result()
    assert found.notes["median"] == "KLL sketch, rank error 0.96% (99 % confidence)"
    assert found.distinct_count == pytest.approx(20_000, rel=0.07)
    assert abs(np.mean(values <= found.median) - 0.5) < 0.0086
    assert column.quantiles([0, 1]).tolist() == [values.min(), values.max()]
    assert column.cdf([-100, 100]).tolist() == [0, 1]


def test_the_histogram_counts_every_value():
    values = np.random.default_rng(3).exponential(size=3_000)
    found = learned(Kind.NUMERIC, values).result()
    assert len(found.histogram_counts) + 1 == len(found.histogram_edges)
    assert found.histogram_below + sum(found.histogram_counts) + found.histogram_above == 3_000
    assert min(found.histogram_counts) >= 0


def test_bins_of_whole_numbers_are_whole():
    found = learned(Kind.NUMERIC, [1, 2, 2, 3, 3, 3]).result()
    assert found.histogram_edges == (0.5, 1.5, 2.5, 3.5)
    assert found.histogram_counts == (1, 2, 3)


@pytest.mark.parametrize(
    "values", [[5.5], [0.0], [1e300, -1e300], [1e308, -1e308], [5e-324, 0.1], [2.0**60, 2.0**60 + 256]]
)
def test_extreme_ranges_have_a_histogram_or_none(values):
    found = learned(Kind.NUMERIC, values).result()
    if found.histogram_counts is not None:
        assert sum(found.histogram_counts) + found.histogram_below + found.histogram_above == len(values)


def test_datetimes_are_microseconds_since_1970():
    times = learned(Kind.DATETIME, [datetime(1970, 1, 2, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC)])
    assert (times.result().min, times.result().max) == (-86_400e6, 86_400e6)
    dates = learned(Kind.DATETIME, [date(1970, 1, 2)])
    assert dates.result().mean == 86_400e6


def test_categories_are_counted_with_their_target():
    column = learned(Kind.CATEGORICAL, ["a", "b", "a", None, "a"], y=[1, 0, 0, 1, -1], classes=2)
    assert column.counts() == {"a": 3, "b": 1}
    assert {key: sums.tolist() for key, sums in column.target_sums().items()} == {
        "a": [1, 1],
        "b": [1, 0],
        None: [0, 1],
    }
    assert column.target.tolist() == [[2, 1], [0, 1]]


def test_a_numeric_target_is_summed_by_category():
    column = learned(Kind.CATEGORICAL, ["a", "a", "b"], y=[1.0, 3.0, np.nan])
    assert {key: sums.tolist() for key, sums in column.target_sums().items()} == {"a": [2, 4, 10], "b": [0, 0, 0]}


def test_dictionaries_and_large_strings_are_decoded():
    column = ColumnStatistics(Kind.CATEGORICAL)
    column.update(pa.chunked_array([pa.array(["x", "y", "x"]).dictionary_encode()]))
    column.update(pa.array(["y"]).dictionary_encode())
    assert column.counts() == {"x": 2, "y": 2}
    assert learned(Kind.TEXT, ["x"], arrow_type=pa.large_string()).counts() == {"x": 1}


def test_booleans_keep_their_values():
    assert learned(Kind.BOOLEAN, [True, False, True, None]).counts() == {True: 2, False: 1}


def test_lengths_are_in_characters():
    found = learned(Kind.TEXT, ["", "über", "über", None]).result()
    assert (found.min_length, found.mean_length, found.max_length) == (0, pytest.approx(8 / 3), 4)


def test_lists_have_lengths_and_no_values():
    found = learned(Kind.LIST, [[1.0], [1.0, 2.0, 3.0], None]).result()
    assert (found.num_nulls, found.min_length, found.max_length, found.distinct_count) == (1, 1, 3, None)


def test_beyond_the_limit_the_frequent_stay_within_their_bound():
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.integers(0, 30_000, 60_000), np.repeat([-1, -2], [9_000, 4_000])]).astype(str)
    rng.shuffle(values)
    column = ColumnStatistics(Kind.CATEGORICAL, 2)
    for block in np.array_split(values, 8):
        column.update(pa.array(block), np.zeros(len(block), np.int64))
    true, table = Counter(values.tolist()), column.frequencies
    assert not column.counts_exact
    assert table.error <= len(values) / (column_module.FREQUENT_CATEGORIES + 1)
    assert all(true[key] - table.error <= count <= true[key] for key, count in column.counts().items())
    assert all(key in column.counts() for key, count in true.items() if count > table.error)
    assert list(column.counts())[:2] == ["-1", "-2"]
    assert column.num_distinct == pytest.approx(len(true), rel=0.07)


@given(numbers, numbers, numbers)
def test_parts_of_a_numeric_column_merge_to_the_whole_in_any_order(a, b, c):
    parts = [learned(Kind.NUMERIC, part, arrow_type=pa.float64()) for part in (a, b, c)]
    whole = learned(Kind.NUMERIC, a + b + c, arrow_type=pa.float64()).result()
    for one, two, three in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        merged = parts[one].merge(parts[two].merge(parts[three])).result()
        for name in (
            "num_rows",
            "num_nulls",
            "num_nan",
            "num_inf",
            "num_zeros",
            "num_negative",
            "min",
            "max",
            "median",
        ):
            assert getattr(merged, name) == getattr(whole, name), name
        assert dict(merged.frequent_items).keys() == dict(whole.frequent_items).keys() or merged.distinct_count > 20
        assert (merged.quantiles, merged.distinct_count) == (whole.quantiles, whole.distinct_count)
        if whole.mean is not None:
            assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-9 * max(abs(whole.min), abs(whole.max)))


@given(texts, texts, st.data())
def test_parts_of_a_categorical_column_merge_to_the_whole(a, b, data):
    y = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=len(a) + len(b), max_size=len(a) + len(b))), np.int64)
    first = learned(Kind.CATEGORICAL, a, y[: len(a)], 3, pa.string())
    second = learned(Kind.CATEGORICAL, b, y[len(a) :], 3, pa.string())
    whole = learned(Kind.CATEGORICAL, a + b, y, 3, pa.string())
    for merged in (first.merge(second), second.merge(first)):
        assert merged.counts() == whole.counts() == Counter(value for value in a + b if value is not None)
        assert (merged.target == whole.target).all()
        sums = whole.target_sums()
        assert all((found == sums[key]).all() for key, found in merged.target_sums().items())
        assert merged.lengths == whole.lengths


@given(numbers)
def test_json_gives_the_same_column(values):
    y = np.arange(len(values), dtype=np.int64) % 3 - 1
    column = learned(Kind.NUMERIC, values, y, 2, pa.float64())
    assert as_text(ColumnStatistics.from_json(json.loads(as_text(column)))) == as_text(column)


@given(texts)
def test_json_gives_the_same_categories(values):
    column = learned(Kind.CATEGORICAL, values, np.linspace(0, 1, len(values)), None, pa.string())
    again = ColumnStatistics.from_json(json.loads(as_text(column)))
    assert as_text(again) == as_text(column)
    assert as_text(again.merge(column)) == as_text(column.merge(column))


def test_a_part_alone_merges_to_itself():
    part = learned(Kind.NUMERIC, np.random.default_rng(1).normal(size=5_000))
    assert as_text(part.merge()) == as_text(part)


@pytest.mark.parametrize("kind", [Kind.NUMERIC, Kind.CATEGORICAL])
def test_many_parts_merge_at_once_as_one_after_the_other(kind):
    values = np.random.default_rng(2).integers(0, 300, 4_000)
    first, *others = (learned(kind, part) for part in np.array_split(values, 7))
    at_once, in_turn = first.merge(*others), reduce(ColumnStatistics.merge, others, first)
    assert at_once.counts_exact
    assert at_once.counts() == in_turn.counts() == dict(Counter(values.tolist()))
    assert at_once.distinct.registers.tolist() == in_turn.distinct.registers.tolist()
    assert at_once.num_rows == in_turn.num_rows == 4_000


def test_merging_changes_neither_part():
    a, b = learned(Kind.NUMERIC, np.arange(5_000.0)), learned(Kind.NUMERIC, np.arange(9_000.0))
    before = as_text(a), as_text(b)
    a.merge(b).update(pa.array([1.0]))
    assert (as_text(a), as_text(b)) == before


def test_hashes_are_by_value_and_never_change():
    assert hash_array(pa.array([1, 2])).tolist() == hash_array(pa.array([1.0, 2.0])).tolist()
    assert hash_array(pa.array([0.0])).tolist() == hash_array(pa.array([-0.0])).tolist()
    assert hash_array(pa.array(["a"])).tolist() == hash_array(pa.array(["a"]).dictionary_encode()).tolist()
    # BLAKE2b with 8 bytes of digest, of "a", little-endian: `printf a | b2sum -l 64`
    assert hash_array(pa.array(["a"])).tolist() == [int.from_bytes(bytes.fromhex("40f89e395b66422f"), "little")]


def test_row_hashes_tell_columns_and_nulls_apart():
    a, b = hash_array(pa.array([1, None])), hash_array(pa.array([2, 1]))
    assert len({*combine([a, b]).tolist(), *combine([b, a]).tolist()}) == 4


def test_no_more_different_values_are_told_than_there_are_values():
    for seed in range(5):
        column = ColumnStatistics(Kind.NUMERIC)
        column.update(pa.array(np.random.default_rng(seed).random(12_165)))
        assert column.result().distinct_count <= 12_165
