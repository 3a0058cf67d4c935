"""Predictions of many rows by LightGBM, some trees at a time, have the bits of LightGBM's own margins."""

import lightgbm
import numpy as np
import pytest

from mlsys.models import lightgbm_leaves
from mlsys.models.boosting import Boosted
from mlsys.models.families.lightgbm import FAMILY
from mlsys.schema import TaskKind

ROWS = lightgbm_leaves.ROWS + 1_500
OBJECTIVES = {"regression": {}, "binary": {}, "multiclass": {"num_class": 3}}


@pytest.fixture(scope="module")
def rows():
    """Numbers with gaps, infinities and a category; labels of all three kinds can be made of them."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(ROWS, 6)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:5, 0] = np.inf
    X[:, 5] = rng.integers(0, 30, ROWS)
    return X


def booster_of(rows, objective, rounds, **params):
    signal = np.nan_to_num(rows[:, 1]) + 0.2 * (rows[:, 5] % 4)
    y = {"regression": signal, "binary": signal > 0.3, "multiclass": np.digitize(signal, [0, 0.6])}[objective]
    settings = {"objective": objective, "verbosity": -1, "num_threads": 1, "seed": 1, **OBJECTIVES[objective], **params}
    return lightgbm.train(settings, lightgbm.Dataset(rows, y, categorical_feature=[5]), rounds)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("rounds", [1, lightgbm_leaves.TREES, lightgbm_leaves.TREES + 3])
def test_the_sums_have_the_bits_of_the_library(rows, objective, rounds):
    booster = booster_of(rows, objective, rounds)
    outputs = OBJECTIVES[objective].get("num_class", 1)
    expected = booster.predict(rows, raw_score=True, num_threads=1).reshape(ROWS, outputs)
    assert lightgbm_leaves.margins(booster, rows, outputs).tobytes() == expected.tobytes()
    again = lightgbm.Booster(model_str=booster.model_to_string())
    assert lightgbm_leaves.margins(again, rows, outputs).tobytes() == expected.tobytes()


def test_trees_without_a_split_have_one_leaf(rows):
    booster = booster_of(rows, "regression", 30, min_data_in_leaf=ROWS)
    expected = booster.predict(rows, raw_score=True).reshape(ROWS, 1)
    assert lightgbm_leaves.margins(booster, rows, 1).tobytes() == expected.tobytes()


def test_a_family_predicts_many_rows_as_it_does_each(rows):
    rounds = lightgbm_leaves.LEAST_TREES
    model = Boosted(booster_of(rows, "binary", rounds), TaskKind.BINARY, 2, rounds)
    assert lightgbm_leaves.are_many(model.booster, rows)
    many, alone = FAMILY.predict(model, rows), FAMILY.row_function(model)
    assert many[::37].tobytes() == np.concatenate([alone(rows[i : i + 1]) for i in range(0, ROWS, 37)]).tobytes()
