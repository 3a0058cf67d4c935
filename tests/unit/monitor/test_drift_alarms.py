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


def test_the_effect_on_the_prediction_is_the_moved_rows_times_their_mean_score():
    """A quarter of the rows goes from a, with a mean score of 0.2, to b with 0.8: 0.25 (0.8 - 0.2) = 0.15."""
    column = ColumnStatistics(Kind.CATEGORICAL)
    column.update(pa.array(["a", "a", "b", "b"]))
    bins = ReferenceBins.of("x", column)
    effect = drift_alarms.effect_on_prediction(np.array([0.2, 0.8, 0.5, 0.5]), bins, np.array([1, 3, 0, 0]))
    assert effect == pytest.approx(0.15)
    assert drift_alarms.effect_on_prediction(np.zeros(4), bins, np.zeros(4, np.int64)) is None
