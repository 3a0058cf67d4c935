"""The way of single rows: faster functions only where they give the bits of the library."""

import logging

import numpy as np
import pytest

from bundles import fit, requests, rows
from mlsys.models.families.xgboost import XGBoostFamily
from mlsys.predict import Predictor
from mlsys.predict.row_path import LIBRARY, SINGLE_ROW, SINGLE_ROWS, probes
from mlsys.schema import TaskKind
from mlsys.store import Store


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fit(Store.open(tmp_path_factory.mktemp("store")))


def test_a_faster_function_is_used_and_told_where_it_gives_the_bits_of_the_library(bundle):
    assert Predictor(bundle).paths() == {"model": SINGLE_ROW}


@pytest.mark.parametrize("wrong", ["other bits", "other shape", "an error"])
def test_a_function_with_other_bits_is_not_used_and_the_log_says_so(bundle, monkeypatch, caplog, wrong):
    def row_function(self, model):
        def function(X):
            if wrong == "an error":
                raise ValueError(wrong)
            raw = self.predict(model, X)
            return np.nextafter(raw, 2.0) if wrong == "other bits" else raw[0]

        return function

    truth = Predictor(bundle).rows(requests(rows(3)))
    monkeypatch.setattr(XGBoostFamily, "row_function", row_function)
    predictor = Predictor(bundle)
    with caplog.at_level(logging.WARNING):
        assert predictor.paths() == {"model": LIBRARY}
    assert "family xgboost" in caplog.text
    assert np.array_equal(predictor.rows(requests(rows(3))).score, truth.score)


def test_a_family_without_a_faster_function_goes_the_way_of_the_library(tmp_path):
    assert Predictor(fit(Store.open(tmp_path), family="linear")).paths() == {"model": LIBRARY}


@pytest.mark.parametrize("num_rows", [1, 2, SINGLE_ROWS, SINGLE_ROWS + 1])
def test_any_number_of_rows_has_the_bits_of_the_table(bundle, num_rows):
    predictor, table = Predictor(bundle), rows(num_rows, seed=num_rows)
    single, whole = predictor.rows(requests(table)), predictor.table(table)
    assert single.score.tobytes() == whole.score.tobytes()
    assert single.probabilities.tobytes() == whole.probabilities.tobytes()


def test_a_bundle_whose_example_does_not_fit_is_proved_on_other_rows(tmp_path):
    predictor = Predictor(fit(Store.open(tmp_path), kind=TaskKind.REGRESSION, example={}))
    assert predictor.paths() == {"model": SINGLE_ROW}


def test_probes_hold_the_row_and_values_of_every_size_and_are_the_same_each_time():
    row = np.array([1.5, np.nan, -3.0], np.float32)
    X = probes(row)
    assert X[0].tobytes() == row.tobytes()
    assert X.tobytes() == probes(row).tobytes()
    assert np.isnan(X).any(axis=0).all()
    assert not np.isinf(X).any()
    assert len(probes(np.zeros(1_000_000, np.float32))) < 10
