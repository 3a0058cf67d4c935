from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from mlsys.monitor import drift_alarms
from mlsys.monitor.drift_alarms import AlarmRule
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.significance import INDEPENDENT
from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics

COLUMNS = 20
SHARES = (0.5, 0.3, 0.15, 0.04, 0.009, 0.001)


@pytest.fixture(scope="module")
def reference():
    """Twenty columns of 20,000 rows: half of them numbers, half categories, the rarest at 0.1 %.

    Each is its bins and the true fractions of rows in them.
    """
    rng = np.random.default_rng(0)
    found = {}
    for number in range(COLUMNS):
        kind = Kind.NUMERIC if number % 2 else Kind.CATEGORICAL
        column = ColumnStatistics(kind)
        column.update(draw(rng, kind, 20_000))
        bins = ReferenceBins.of(str(number), column)
        found[str(number)] = bins, truth(bins)
    return found


def draw(rng, kind, rows):
    if kind is Kind.NUMERIC:
        return pa.array(rng.lognormal(size=rows))
    return pa.array(np.array(list("abcdef"))[rng.choice(6, rows, p=SHARES)])


def truth(bins):
    """True fractions of the bins that `draw` fills; SciPy knows the lognormal's."""
    if bins.ordered:
        return [*np.diff(stats.lognorm(1).cdf(bins.edges), prepend=0, append=1), 0]
    shares = dict(zip("abcdef", SHARES, strict=True))
    return [*(shares[name] for name in bins.categories.to_pylist()), 0, 0]


def judged(reference, rng, rule, rows):
    dispersion = dict.fromkeys(reference, INDEPENDENT)
    counted = {name: (bins, rng.multinomial(rows, fractions)) for name, (bins, fractions) in reference.items()}
    return drift_alarms.find(counted, dispersion, rule, {}, dict.fromkeys(reference, ""))


@pytest.mark.parametrize("rows", [200, 2_000])
def test_any_alarm_in_twenty_stationary_columns_is_as_rare_as_stated(reference, rows):
    """150 windows at 10 %, no floor: at most 27 (99.9 % point of a binomial). A fixed 10 % a column gives 88 %."""
    rng = np.random.default_rng(rows)
    found = [judged(reference, rng, AlarmRule(0.1, 0.0), rows) for _ in range(150)]
    assert sum(any(shift.alarmed for shift in window) for window in found) <= 27
    assert sum(any(shift.pvalue <= 0.1 for shift in window) for window in found) > 100


def test_the_floor_leaves_nothing_of_that(reference):
    rng = np.random.default_rng(1)
    found = [judged(reference, rng, AlarmRule(0.1, 0.1), 500) for _ in range(100)]
    assert not any(shift.alarmed for window in found for shift in window)


def test_a_difference_that_is_certain_and_small_is_no_alarm(reference):
    bins, _ = reference["0"]
    counts = (bins.reference * 50).astype(np.int64)
    counts[0] += counts.sum() // 10
    found = drift_alarms.find({"0": (bins, counts)}, {"0": INDEPENDENT}, AlarmRule(0.05, 0.1), {}, {"0": ""})[0]
    assert found.pvalue < 1e-6
    assert not found.alarmed


@pytest.mark.parametrize(
    ("name", "effect", "matters"),
    [
        ("x", 0.3, True),
        ("x", 0.05, False),
        ("x", 0.0, False),
        ("x", None, True),
        ("score", 0.0, True),
        ("y", None, False),
    ],
)
def test_an_alarm_matters_if_the_predictions_move_or_may_move_with_it(name, effect, matters):
    """Not if it is of the labels y: these say themselves how well the model does."""
    column = ColumnStatistics(Kind.CATEGORICAL)
    column.update(pa.array(["a", "b"] * 500))
    bins = ReferenceBins.of(name, column)
    columns, rule = {name: (bins, np.array([900, 100, 0, 0]))}, AlarmRule(0.05, 0.1, 0.1)
    effects = {name: effect}
    (shift,) = drift_alarms.find(
        columns, {name: INDEPENDENT}, rule, effects, {name: ""}, outputs=("score",), target="y"
    )
    assert shift.alarmed
    assert shift.matters is matters


def test_alarms_that_move_the_predictions_most_come_first(reference):
    bins, _ = reference["0"]
    some, many = bins.reference.copy(), bins.reference.copy()
    some[: len(some) // 3] *= 5
    many[: len(many) // 3] *= 50
    columns = {"far": (bins, many), "b": (bins, some), "a": (bins, some), "still": (bins, bins.reference)}
    effects = {"far": 0.0, "a": 0.2, "b": 0.5, "still": 0.0}
    rule = AlarmRule(0.05, 0.1, 0.1)
    shifts = drift_alarms.find(columns, dict.fromkeys(columns, INDEPENDENT), rule, effects, dict.fromkeys(columns, ""))
    assert [shift.column for shift in shifts] == ["b", "a", "far", "still"]
    assert [shift.alarmed for shift in shifts] == [True, True, True, False]
