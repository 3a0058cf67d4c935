"""Intervals on the distance of two windows hold the true distance as often as they say."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.distance import jensenshannon

from mlsys import errors
from mlsys.monitor import window_comparison
from mlsys.monitor.reference import ReferenceBins
from mlsys.monitor.table_scan import NO_TARGET
from mlsys.monitor.windows import Window
from mlsys.schema import Kind, Schema
from mlsys.statistics import ColumnStatistics, TableStatistics

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])


@pytest.fixture(scope="module")
def bins():
    column = ColumnStatistics(Kind.CATEGORICAL)
    column.update(pa.array(["a"] * 5 + ["b"] * 3 + ["c"] * 2))
    return ReferenceBins.of("x", column)


def window(counts, start=dt.datetime(2024, 1, 1, tzinfo=dt.UTC)):
    """Counts of a, b and c by block; nothing else and no null."""
    statistics = TableStatistics.empty(Schema(), NO_TARGET)
    end = start + dt.timedelta(days=1)
    return Window(start, end, f"{start:%Y-%m-%d}", statistics, counts={"x": np.pad(counts, ((0, 0), (0, 2)))})


def drawn(rng, shares, spread):
    """24 hours of about 200 rows whose shares differ from hour to hour."""
    hours = rng.dirichlet(shares * spread, 24)
    return window(np.stack([rng.multinomial(200, hour) for hour in hours]))


@pytest.mark.parametrize("spread", [1e6, 200.0])
def test_95_percent_intervals_hold_the_true_distance(bins, spread):
    """Rows of an hour are independent (1e6) or alike; of 300 intervals, fewer than 270 would hold it once in 1,000."""
    rng, truth = np.random.default_rng(1), jensenshannon(P, Q, 2)
    held = 0
    for _ in range(300):
        low, high = window_comparison.interval(bins, drawn(rng, P, spread), drawn(rng, Q, spread), 0.95)
        held += low <= truth <= high
    assert 270 <= held <= 298


def test_an_interval_by_hand(bins):
    """Leave out one of five equal blocks: nothing changes, so the interval is the distance itself."""
    first, second = window(np.tile([50, 30, 20], (5, 1))), window(np.tile([30, 30, 40], (5, 1)))
    assert window_comparison.interval(bins, first, second, 0.95) == pytest.approx([jensenshannon(P, Q, 2)] * 2)


def test_few_blocks_give_no_interval(bins):
    few = window(np.tile([50, 30, 20], (4, 1)))
    assert window_comparison.interval(bins, few, few, 0.95) == (None, None)


def test_windows_are_found_by_label_date_and_time():
    days = [window(np.ones((5, 3), int), dt.datetime(2024, 1, day, tzinfo=dt.UTC)) for day in (1, 2)]
    assert window_comparison.find(days, "2024-01-02") is days[1]
    assert window_comparison.find(days, "2024-01-01T13:00") is days[0]
    assert window_comparison.find(days, "2024-01-02T01:00+02:00") is days[0]
    with pytest.raises(errors.RecipeError, match="monitor: --compare"):
        window_comparison.find(days, "2024-01-03")
