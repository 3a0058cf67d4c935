"""Codes are told from amounts by what their values and their order explain."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mlsys.explore import alerts
from mlsys.schema import ROW, Column, Kind, Schema, Task
from mlsys.statistics import code_columns

N = 6_000
REGRESSION = Task(kind="regression", target="y")
BINARY = Task(kind="binary", target="y", classes=(0, 1))
THREE = Task(kind="multiclass", target="y", classes=(0, 1, 2))


def look(values, y, task=REGRESSION):
    rows = pa.table({"x": np.asarray(values), "y": y, ROW: np.arange(len(y))})
    columns = (Column(name="x", type="int64", kind=Kind.NUMERIC), Column(name="y", type="double", kind=Kind.NUMERIC))
    return code_columns.find(rows, Schema(columns=columns), task)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("num_codes", [60, 150, 800])
def test_shops_with_an_effect_of_their_own_are_codes_for_every_task(rng, num_codes):
    shop = rng.zipf(1.3, N) % num_codes
    effect = rng.normal(size=num_codes)[shop]
    assert look(1_000 + 7 * shop, effect + rng.normal(size=N))["x"].are_codes
    assert "x" in look(shop, (effect + rng.normal(size=N) > 0).astype(np.int64), BINARY)
    assert "x" in look(shop, np.digitize(effect + rng.normal(size=N), [-0.7, 0.7]), THREE)


@pytest.mark.parametrize("shape", ["straight", "bent", "step", "wave"])
def test_amounts_are_no_codes_whatever_the_shape_of_their_effect(rng, shape):
    amount = rng.gamma(3, 14, N).astype(np.int64)
    effects = {
        "straight": amount / 20,
        "bent": ((amount - 40) / 20.0) ** 2,
        "step": (amount > 37).astype(float),
        "wave": np.sin(amount / 12),
    }
    y = effects[shape] + rng.normal(size=N)
    assert look(amount, y) == {}
    assert look(amount, (y > np.median(y)).astype(np.int64), BINARY) == {}


def test_hours_of_the_day_are_no_codes(rng):
    hour = rng.integers(0, 24, N)
    assert look(hour, np.cos(hour * 2 * np.pi / 24) + rng.normal(size=N)) == {}


def test_an_amount_that_most_rows_do_not_have_is_no_code(rng):
    amount = np.where(rng.random(N) < 0.1, rng.integers(1, 60, N), 0)
    assert look(amount, rng.normal(size=60)[amount] * 5 + rng.normal(size=N)) == {}


def test_noise_is_no_code_in_a_thousand_columns(rng):
    assert not any(look(rng.integers(0, 90, N), rng.normal(size=N)) for _ in range(200))


def test_the_alert_names_both_shares_and_the_line_that_makes_categories(rng):
    shop = rng.integers(0, 50, N)
    found = look(shop, rng.normal(size=50)[shop] * 3 + rng.normal(size=N))
    (alert,) = alerts.codes(found)
    assert (alert.kind, alert.column) == ("codes", "x")
    assert alert.detail.startswith("50 whole numbers without an order: each by itself they explain ")
    assert "data.kinds: {x: categorical}" in alert.action
