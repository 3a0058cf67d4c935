"""Codes of a column: bins in order, and counts from codes that are those of the rows alone."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.encoding import MIN_CROWDED, SHARED, SORTED_VALUES, bin_codes, encode
from mlsys.statistics.hashing import hash_array, hash_exactly

ROWS = 30_000
SHAPES = {
    "normal": lambda rng: rng.normal(size=ROWS),
    "uniform": lambda rng: rng.uniform(size=ROWS),
    "log-normal": lambda rng: rng.lognormal(sigma=2, size=ROWS),
    "zeros and log-normal": lambda rng: np.where(rng.random(ROWS) < 0.4, 0.0, rng.lognormal(size=ROWS)),
    "Cauchy": lambda rng: rng.standard_cauchy(ROWS),
    "whole": lambda rng: rng.integers(-30, 1_400, ROWS).astype(float),
    "hours in microseconds": lambda rng: 1.3e15 + 3.6e9 * rng.integers(0, 8_760, ROWS),
    "cents": lambda rng: np.round(rng.lognormal(3, 1, ROWS), 2),
    "atoms among others": lambda rng: np.where(rng.random(ROWS) < 0.3, 1 / 3, rng.normal(size=ROWS)),
    "far from zero": lambda rng: 1e12 + rng.normal(size=ROWS),
    "huge": lambda rng: rng.choice([-1.7e308, 1.7e308, 0.0, 5e-324], ROWS),
    "tiny": lambda rng: 1e-310 * rng.normal(size=ROWS),
    "two far ends": lambda rng: np.append(rng.normal(size=ROWS) * 1e-12, [-1e9, 1e9]),
    "constant": lambda _: np.full(ROWS, 0.1),
    "zero": lambda _: np.zeros(ROWS),
}


def agrees(values):
    keys, codes, shared = bin_codes(values)
    assert (np.diff(keys) > 0).all()
    assert (np.bincount(codes, minlength=len(keys)) > 0).all(), "a bin is empty"
    assert (np.diff(codes[np.argsort(values, kind="stable")]) >= 0).all(), "a greater value has a lower bin"
    assert np.isin(keys, values).all()
    alone = np.ones(len(values), bool) if shared is None else ~shared[codes]
    assert (keys[codes][alone] == values[alone]).all()
    different = (
        np.array([len(np.unique(values[codes == bin_])) for bin_ in np.flatnonzero(shared)[:50]])
        if shared is not None
        else np.empty(0)
    )
    assert (different > 1).all()
    return keys, codes, shared


@pytest.mark.parametrize("shape", SHAPES)
def test_bins_rise_with_the_values_and_those_of_one_value_hold_it(shape):
    values = SHAPES[shape](np.random.default_rng(3))
    _, codes, shared = agrees(values)
    if shared is not None:
        assert np.bincount(codes)[shared].max() <= max(MIN_CROWDED, SHARED / 2 * len(values))


@pytest.mark.parametrize("shape", ["whole", "hours in microseconds", "constant", "huge"])
def test_values_that_are_few_and_apart_are_told_apart_without_sorting(shape):
    values = SHAPES[shape](np.random.default_rng(3))
    keys, _, shared = agrees(values)
    assert shared is None
    assert keys.tolist() == np.unique(values).tolist()


def test_an_atom_in_a_crowd_keeps_a_bin_of_its_own():
    values = SHAPES["atoms among others"](np.random.default_rng(3))
    keys, codes, shared = agrees(values)
    bin_ = int(np.searchsorted(keys, 1 / 3))
    assert keys[bin_] == 1 / 3
    assert not shared[bin_]
    assert (codes == bin_).sum() == (values == 1 / 3).sum()


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE | st.integers(-5, 5).map(float), min_size=1, max_size=40), st.integers(0, 3))
def test_any_values_have_bins(values, seed):
    many = np.random.default_rng(seed).choice(np.array(values) + 0.0, SORTED_VALUES + 100)
    agrees(np.array(values) + 0.0)
    agrees(many)


RNG = np.random.default_rng(8)
MANY = 20_000
COLUMNS = {
    "whole": (pa.array(RNG.integers(0, 90, MANY), mask=RNG.random(MANY) < 0.1), Kind.NUMERIC),
    "real": (pa.array(RNG.lognormal(size=MANY), mask=RNG.random(MANY) < 0.1), Kind.NUMERIC),
    "real, no gaps": (pa.array(RNG.normal(size=MANY)), Kind.NUMERIC),
    "not finite": (pa.array(RNG.choice([math.nan, math.inf, -math.inf, 0.0, -0.0, 2.5, None], MANY)), Kind.NUMERIC),
    "time": (pa.array(RNG.integers(0, 10**15, MANY)).cast(pa.timestamp("us")), Kind.DATETIME),
    "nanoseconds": (pa.array(RNG.integers(0, 10**18, MANY)).cast(pa.timestamp("ns")), Kind.DATETIME),
    "decimals": (pa.array(RNG.integers(0, 900, MANY)).cast(pa.decimal128(22, 2)), Kind.NUMERIC),
    "words": (pa.array(RNG.choice(["so", "", "ä", None], MANY)), Kind.CATEGORICAL),
    "codes": (pa.array(RNG.integers(0, 9, MANY)), Kind.CATEGORICAL),
    "truth": (pa.array(RNG.random(MANY) < 0.3, mask=RNG.random(MANY) < 0.1), Kind.BOOLEAN),
    "texts": (pa.array([f"text {n % 700}" for n in range(MANY)]), Kind.TEXT),
    "lists": (pa.array([[1.0] * (n % 4) if n % 5 else None for n in range(MANY)]), Kind.LIST),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_have_the_hashes_of_the_column(name):
    array, kind = COLUMNS[name]
    assert (encode(array, kind).row_hashes() == hash_array(array)).all()


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("classes", [2, None])
def test_some_rows_of_a_piece_count_as_they_do_alone(name, classes):
    array, kind = COLUMNS[name]
    rows = np.flatnonzero(np.arange(MANY) % 5 == 2)
    y = RNG.integers(-1, 2, MANY) if classes else RNG.normal(size=MANY)
    part, alone = ColumnStatistics(kind, classes), ColumnStatistics(kind, classes)
    part.update(encode(array, kind), y[rows], rows)
    alone.update(array.take(pa.array(rows)), y[rows])
    assert part.num_rows == alone.num_rows == len(rows)
    assert part.num_nulls == alone.num_nulls
    assert part.target.tolist() == alone.target.tolist()
    assert part.distinct.registers.tolist() == alone.distinct.registers.tolist()
    assert part.lengths == alone.lengths
    assert part.comoments == alone.comoments
    if part.counts_exact:
        assert part.counts() == alone.counts()
        assert {key: sums.tolist() for key, sums in part.target_sums().items()} == {
            key: sums.tolist() for key, sums in alone.target_sums().items()
        }
    one, other = part.result(), alone.result()
    for fact in ("num_nan", "num_inf", "num_zeros", "num_negative", "min", "max", "integral"):
        assert getattr(one, fact) == getattr(other, fact), fact
    for fact in ("mean", "stddev", "skewness", "kurtosis"):
        assert getattr(one, fact) == (getattr(other, fact) and pytest.approx(getattr(other, fact), rel=1e-9)), fact


@pytest.mark.parametrize("name", ["real", "real, no gaps", "time"])
def test_quantiles_of_folds_keep_their_bound(name):
    array, kind = COLUMNS[name]
    column = encode(array, kind)
    for fold in range(3):
        rows = np.flatnonzero(np.arange(MANY) % 3 == fold)
        found = ColumnStatistics(kind)
        found.update(column, rows=rows)
        rising = np.sort(column.floats[rows][np.isfinite(column.floats[rows])])
        true = np.searchsorted(rising, rising, side="right") / len(rising)
        assert 0 < np.abs(found.numbers.sketch.cdf(rising) - true).max() <= found.numbers.rank_error


def test_a_frequent_value_is_found_among_many_and_counted_within_its_bound():
    values = np.where(RNG.random(MANY) < 0.05, 0.125, RNG.normal(size=MANY))
    found = ColumnStatistics(Kind.NUMERIC)
    found.update(pa.array(values))
    true = int((values == 0.125).sum())
    assert not found.counts_exact
    assert true - found.frequencies.error <= found.counts()[0.125] <= true
    assert 0 < found.frequencies.error <= MANY / 129


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=20))
def test_a_dictionary_may_hold_a_value_twice_unused_and_null(words):
    dictionary = pa.array(["b", "a", None, "a", "c"])
    places = {"a": [1, 3], "b": [0], None: [2, None]}
    indices = [places[word][at % len(places[word])] for at, word in enumerate(words)]
    array = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), dictionary)
    found = ColumnStatistics(Kind.CATEGORICAL)
    found.update(array)
    assert found.counts() == {word: words.count(word) for word in {"a", "b"} & set(words)}
    assert found.num_nulls == words.count(None)
    assert (encode(array, Kind.CATEGORICAL).row_hashes() == hash_array(pa.array(words, pa.string()))).all()


LARGE = [2**60, 2**60 + 1, -(2**53) - 1, -(2**53) - 2, 2**63 - 1, -(2**63)]


@pytest.mark.parametrize("kind", [Kind.NUMERIC, Kind.CATEGORICAL])
def test_whole_numbers_beyond_doubles_have_hashes_of_their_own(kind):
    array = pa.array([*LARGE, 7, None] * 20)
    hashes = encode(array, kind).row_hashes()
    assert len(set(hashes.tolist())) == len(LARGE) + 2
    assert (hashes == hash_exactly(array)).all()
    assert hash_exactly(pa.array([2**60, -(2**63)])).tolist() == hash_array(pa.array([2.0**60, -(2.0**63)])).tolist()
    assert hash_exactly(pa.array([2**60 + 1], pa.uint64())).tolist() == hash_exactly(pa.array([2**60 + 1])).tolist()
