import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.statistics.encoding import MIN_CROWDED, SHARED, SORTED_VALUES, bin_codes

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
    assert (np.bincount(codes, minlength=len(keys)) > 0).all(), "a cell is empty"
    assert (np.diff(codes[np.argsort(values, kind="stable")]) >= 0).all(), "a greater value has a lower cell"
    assert np.isin(keys, values).all()
    alone = np.ones(len(values), bool) if shared is None else ~shared[codes]
    assert (keys[codes][alone] == values[alone]).all()
    different = (
        np.array([len(np.unique(values[codes == cell])) for cell in np.flatnonzero(shared)[:50]])
        if shared is not None
        else np.empty(0)
    )
    assert (different > 1).all()
    return keys, codes, shared


@pytest.mark.parametrize("shape", SHAPES)
def test_cells_rise_with_the_values_and_those_of_one_value_hold_it(shape):
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


def test_an_atom_in_a_crowd_keeps_a_cell_of_its_own():
    values = SHAPES["atoms among others"](np.random.default_rng(3))
    keys, codes, shared = agrees(values)
    cell = int(np.searchsorted(keys, 1 / 3))
    assert keys[cell] == 1 / 3
    assert not shared[cell]
    assert (codes == cell).sum() == (values == 1 / 3).sum()


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE | st.integers(-5, 5).map(float), min_size=1, max_size=40), st.integers(0, 3))
def test_any_values_have_cells(values, seed):
    many = np.random.default_rng(seed).choice(np.array(values) + 0.0, SORTED_VALUES + 100)
    agrees(np.array(values) + 0.0)
    agrees(many)
