"""Pairs of columns, gaps and time, against NumPy, SciPy, scikit-learn and counting by hand."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mutual_info_score

from mlsys.schema import Column, Kind, Role, Schema, Task
from mlsys.statistics import encode_target
from mlsys.statistics.pairwise import PairLayout, PairwiseStatistics, layout
from mlsys.statistics.pairwise.association_measures import correlation_ratio, cramers_v, information
from mlsys.statistics.pairwise.missingness import MissingPatterns
from mlsys.statistics.pairwise.pairs import MOST_BINS, Timeline
from mlsys.statistics.table import encode_columns

BINARY = Task(kind="binary", target="y", classes=("no", "yes"))
REGRESSION = Task(kind="regression", target="z")
START = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = Schema(
    columns=(
        Column(name="a", type="double", kind=Kind.NUMERIC),
        Column(name="b", type="int64", kind=Kind.NUMERIC),
        Column(name="z", type="double", kind=Kind.NUMERIC),
        Column(name="c", type="string", kind=Kind.CATEGORICAL),
        Column(name="d", type="bool", kind=Kind.BOOLEAN),
        Column(name="t", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME, role=Role.TIME),
        Column(name="y", type="string", kind=Kind.CATEGORICAL, role=Role.TARGET),
    )
)


def rows(n, seed=0):
    """Whole numbers, so that their sums are exact in any order."""
    rng = np.random.default_rng(seed)
    a = rng.integers(-40, 40, n).astype(float)
    a[rng.random(n) < 0.05] = np.nan
    c = rng.choice(list("pqrs"), n, p=[0.5, 0.3, 0.15, 0.05])
    return pa.table(
        {
            "a": pa.array(a, mask=rng.random(n) < 0.1),
            "b": pa.array(np.nan_to_num(a).astype(int) + rng.integers(0, 30, n), mask=rng.random(n) < 0.2),
            "z": (c == "p") * 3.0 + rng.integers(0, 4, n),
            "c": pa.array(c, mask=rng.random(n) < 0.1),
            "d": pa.array((c == "p") ^ (rng.random(n) < 0.1), mask=rng.random(n) < 0.05),
            "t": pa.array([START + timedelta(hours=int(h)) for h in rng.integers(0, 9_000, n)]),
            "y": rng.choice(["no", "yes"], n, p=[0.7, 0.3]),
        }
    )


def pairwise(table, task=BINARY, look=None):
    plan = PairLayout.of(table if look is None else look, SCHEMA, task)
    return counted(table, plan, SCHEMA, task)


def counted(table, plan, schema, task):
    y = encode_target(table[task.target], task)
    return PairwiseStatistics.of(encode_columns(table, schema, task), table, plan, y)


def pair(statistics, first, second):
    names, strengths = statistics.associations()
    return strengths[names.index(first), names.index(second)]


def known(table, *names):
    """The rows where all of these have a finite value, as NumPy arrays."""
    frame = table.select(list(names)).to_pandas().replace([np.inf, -np.inf], np.nan).dropna()
    return [frame[name].to_numpy() for name in names]


def test_the_correlation_of_two_numbers_is_that_of_scipy_over_the_rows_that_have_both():
    table = rows(3_000)
    a, b = known(table, "a", "b")
    assert len(a) < 2_400
    assert pair(pairwise(table), "a", "b") == pytest.approx(stats.pearsonr(a, b.astype(float)).statistic, abs=1e-12)


def test_a_great_offset_costs_a_correlation_no_digits():
    table = rows(3_000)
    a, b = known(table, "a", "z")
    far = table.set_column(0, "a", pa.array(table["a"].to_numpy(zero_copy_only=False) + 1e9, from_pandas=True))
    assert pair(pairwise(far), "a", "z") == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-9)


def test_a_constant_has_no_correlation_and_values_that_overflow_have_none():
    table = rows(100)
    constant = pairwise(table.set_column(2, "z", pa.array([0.1] * 100)))
    assert np.isnan(pair(constant, "a", "z"))
    assert np.isnan(pair(constant, "z", "c"))
    huge = pairwise(table.set_column(2, "z", pa.array([1e200, -1e200] * 50)))
    assert np.isnan(pair(huge, "a", "z"))
    assert np.isfinite(pair(huge, "a", "b"))


def test_the_correlation_ratio_is_the_adjusted_r2_of_a_regression_on_the_categories():
    table = rows(2_000)
    z, c = known(table, "z", "c")
    dummies = np.stack([c == value for value in "qrs"], axis=1).astype(float)
    r2 = LinearRegression().fit(dummies, z).score(dummies, z)
    adjusted = 1 - (1 - r2) * (len(z) - 1) / (len(z) - 4)
    assert pair(pairwise(table), "z", "c") ** 2 == pytest.approx(adjusted, abs=1e-12)


def test_the_correlation_ratio_covers_the_rows_that_have_both():
    table = rows(2_000, seed=4)
    a, c = known(table, "a", "c")
    groups = [a[c == value] for value in "pqrs"]
    within, total = sum(((g - g.mean()) ** 2).sum() for g in groups), ((a - a.mean()) ** 2).sum()
    expected = max(0.0, 1 - (len(a) - 1) / (len(a) - 4) * within / total) ** 0.5
    assert pair(pairwise(table), "a", "c") == pytest.approx(expected, abs=1e-12)


def test_groups_of_one_row_say_nothing():
    assert np.isnan(correlation_ratio(np.ones(3), np.arange(3.0), 5.0))


def test_cramers_v_is_that_of_scipy_less_the_bias():
    table = rows(2_000)
    c, d = known(table, "c", "d")
    counts = np.array([[((c == i) & (d == j)).sum() for j in (False, True)] for i in "pqrs"])
    n, (r, k) = counts.sum(), counts.shape
    phi = max(0.0, stats.chi2_contingency(counts, correction=False).statistic / n - (r - 1) * (k - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    assert pair(pairwise(table), "c", "d") == pytest.approx((phi / smaller) ** 0.5, abs=1e-12)


def test_cramers_v_of_independent_columns_is_near_zero_where_the_plain_one_is_not():
    rng = np.random.default_rng(0)
    counts = np.histogram2d(rng.integers(0, 20, 400), rng.integers(0, 20, 400), bins=20)[0].astype(np.int64)
    plain = stats.contingency.association(counts, method="cramer")
    assert plain > 0.2
    assert cramers_v(counts) < 0.1
    assert cramers_v(np.diag([50, 50, 50])) == pytest.approx(1)
    assert np.isnan(cramers_v(np.array([[3, 4]])))


def test_information_is_that_of_scikit_learn_before_the_bias_is_taken_away():
    table = rows(2_000)
    found = pairwise(table).information()
    c, y = table["c"].fill_null("none").to_pylist(), table["y"].to_pylist()
    raw = mutual_info_score(c, y) / np.log(2)
    chance = (5 * 2 - 5 - 2 + 1) / (2 * 2_000 * np.log(2))
    assert found["c"].chance == pytest.approx(min(chance, raw))
    assert found["c"].bits == pytest.approx(max(0.0, raw - chance), abs=1e-12)


def test_a_column_that_decides_the_target_tells_all_of_it_and_noise_tells_nothing():
    n = 4_000
    x = np.arange(n) % 8
    table = pa.table({"x": x.astype(float), "noise": np.random.default_rng(1).normal(size=n), "y": x >= 4})
    kinds = {"x": Kind.NUMERIC, "noise": Kind.NUMERIC}
    schema = Schema(columns=tuple(Column(name=name, type="double", kind=kind) for name, kind in kinds.items()))
    task = Task(kind="binary", target="y", classes=(False, True))
    found = counted(table, PairLayout.of(table, schema, task), schema, task).information()
    assert found["x"].share == pytest.approx(1, abs=0.001)
    assert found["noise"].share < 0.005


def test_a_numeric_target_is_described_by_bins_and_by_means():
    table = rows(2_000)
    statistics = pairwise(table, REGRESSION)
    assert set(statistics.information()) == {"a", "b", "c", "d"}
    a, z = table["a"].to_numpy(zero_copy_only=False), table["z"].to_numpy()
    number = statistics.layout.numbers[0]
    bins = np.where(np.isfinite(a), np.searchsorted(number.edges, a, side="left"), len(number.edges) + 1)
    expected = [[(bins == k).sum(), z[bins == k].sum(), (z[bins == k] ** 2).sum()] for k in range(bins.max() + 1)]
    assert statistics.curves[0].tolist() == expected
    assert statistics.information()["c"].share > 0.1
    assert information(statistics.tables.numbers[0][:, :-1]).bits >= 0


def test_bins_hold_about_equally_many_rows():
    table = rows(16_000)
    counts = pairwise(table).tables.numbers[0].sum(axis=1)
    assert len(counts) == layout.NUM_BINS + 1
    assert counts[:-1].min() > 0.5 * counts[:-1].mean()
    assert counts[-1] == sum(not np.isfinite(x) for x in table["a"].to_numpy(zero_copy_only=False))


def test_categories_beyond_the_frequent_ones_are_one_and_ids_are_left_out():
    n = 6_000
    rng = np.random.default_rng(0)
    many = np.char.add("k", np.minimum(rng.geometric(0.02, n), 300).astype(str))
    table = pa.table({"many": many, "id": [f"row {i}" for i in range(n)], "y": rng.choice(["no", "yes"], n)})
    schema = Schema(columns=tuple(Column(name=c, type="string", kind=Kind.CATEGORICAL) for c in ("many", "id")))
    plan = PairLayout.of(table, schema, BINARY)
    assert plan.left_out == ("id",)
    statistics = counted(table, plan, schema, BINARY)
    counts = statistics.tables.pairs[0, 1].sum(axis=1)
    values, occurrences = np.unique(many, return_counts=True)
    frequent = np.sort(occurrences)[::-1][: layout.MOST_LEVELS]
    assert counts[:-2].tolist() == frequent.tolist()
    assert counts[-2:].tolist() == [n - frequent.sum(), 0]
    assert len(values) > layout.MOST_LEVELS


def test_a_table_wider_than_the_limits_says_what_it_leaves_out():
    names = [f"x{i}" for i in range(layout.MOST_NUMBERS + 3)]
    table = pa.table({name: [1.0, 2.0, 3.0, 5.0] for name in names} | {"y": ["no", "yes"] * 2})
    schema = Schema(columns=tuple(Column(name=name, type="double", kind=Kind.NUMERIC) for name in names))
    assert PairLayout.of(table, schema, BINARY).left_out == tuple(names[-3:])


def test_an_encoded_column_is_counted_as_a_plain_one():
    table = rows(500)
    encoded = table.set_column(3, "c", table["c"].dictionary_encode())
    one, two = pairwise(table), pairwise(encoded, look=table)
    assert all((one.tables.pairs[p] == two.tables.pairs[p]).all() for p in one.tables.pairs)


def test_rows_are_counted_by_what_they_lack():
    masks = [np.array([1, 1, 0, 0, 0], bool), None, np.array([1, 0, 0, 1, 0], bool)]
    gaps = MissingPatterns.of(masks, 5)
    assert gaps.together.tolist() == [[2, 0, 1], [0, 0, 0], [1, 0, 2]]
    assert gaps.frequent(["a", "b", "c"], 9) == [([], 2), (["a"], 1), (["c"], 1), (["a", "c"], 1)]


def test_null_nan_and_infinity_are_missing():
    table = pa.table({"a": [1.0, None, np.nan, np.inf], "y": ["no", "yes", "no", "yes"]})
    schema = Schema(columns=(Column(name="a", type="double", kind=Kind.NUMERIC),))
    plan = PairLayout.of(table, schema, BINARY)
    gaps = counted(table, plan, schema, BINARY).missing
    assert gaps.frequent(plan.nullable, 5) == [(["a"], 3), ([], 1)]


def hours(values):
    return np.array([int(value * 3_600e6) for value in values], np.int64)


def timeline(times, y=None):
    label = np.zeros(len(times), np.int64) if y is None else y
    return Timeline.of(times, np.ones(len(times), bool), label, 2)


def test_time_is_parted_into_whole_weeks_that_begin_on_monday():
    line = timeline(hours([15_706 * 24 + 24 * day for day in range(365)]))  # 2013-01-01, a Tuesday
    assert line.width_s == 7 * 86_400
    assert line.rows.tolist() == [6, *[7] * 51, 2]
    starts = [datetime.fromtimestamp(line.start(at) / 1e6, UTC) for at in (0, 1)]
    assert [f"{start:%a %Y-%m-%d %H:%M}" for start in starts] == ["Mon 2012-12-31 00:00", "Mon 2013-01-07 00:00"]


@pytest.mark.parametrize(
    ("span_s", "width_s"), [(1e-3, 1e-5), (100, 1), (3_600, 60), (86_400, 600), (100 * 86_400, 86_400)]
)
def test_the_width_of_a_bin_fits_the_span(span_s, width_s):
    line = timeline(np.linspace(0, span_s * 1e6 - 1, 1_000).astype(np.int64))
    assert line.width_s == pytest.approx(width_s)
    assert len(line.rows) <= MOST_BINS


def test_rows_before_1970_and_without_a_time_are_counted():
    line = Timeline.of(hours([-24, -1, 0, 5]), np.array([1, 1, 0, 1], bool), np.array([0, 1, 1, -1]), 2)
    assert (line.rows.sum(), line.num_missing) == (3, 1)
    assert line.sums.sum(axis=0).tolist() == [1, 1]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 600), min_size=0, max_size=4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([BINARY, REGRESSION]),
)
def test_parts_merge_to_the_whole_in_any_order(cuts, seed, task):
    table = rows(600, seed % 100)
    plan = PairLayout.of(rows(300, seed=7), SCHEMA, task)
    ends = sorted({0, 600, *cuts})
    parts = [counted(table.slice(a, b - a), plan, SCHEMA, task) for a, b in itertools.pairwise(ends)]
    np.random.default_rng(seed).shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    whole = counted(table, plan, SCHEMA, task)
    assert plain(merged) == plain(whole)


def plain(statistics):
    """Everything that was counted; whole numbers, so equal to the last bit."""
    line, gaps = statistics.timeline, statistics.missing
    arrays = [
        *vars(statistics.products).values(),
        *statistics.groups.rows,
        *statistics.groups.sums,
        statistics.groups.squares,
        *statistics.tables.pairs.values(),
        *statistics.tables.numbers,
        *statistics.tables.categories,
        *statistics.curves,
        gaps.together,
        line.rows,
        line.sums,
    ]
    patterns = dict(zip(gaps.patterns.values(), gaps.patterns.counts.tolist(), strict=True))
    return [array.tolist() for array in arrays], gaps.num_rows, patterns, line.rung, line.first, line.num_missing


def test_blocks_are_an_implementation_detail(monkeypatch):
    table = rows(700)
    whole = plain(pairwise(table))
    monkeypatch.setattr(layout, "BLOCK_ROWS", 64)
    assert plain(pairwise(table)) == whole


def test_statistics_of_two_layouts_do_not_add_up():
    one, two = pairwise(rows(100)), pairwise(rows(100, seed=9))
    with pytest.raises(ValueError, match="two layouts"):
        one.merge(two)
