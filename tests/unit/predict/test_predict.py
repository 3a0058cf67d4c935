import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundles import fit, requests, rows
from mlsys import errors
from mlsys.predict import LEAST_EXPLAINED, LEAST_PREDICTED, Predictor, decide
from mlsys.schema import Task, TaskKind
from mlsys.store import Store

# Within two days of the calendar's ends a zone could put a time out of it, which is a fault of the request.
TWO_DAYS_IN, TWO_DAYS_LEFT = dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)  # noqa: DTZ001
FAMILIES = ("dummy", "linear", "forest", "xgboost")


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("predictors"))
    return {(kind, family): Predictor(fit(store, kind, family)) for kind in TaskKind for family in FAMILIES}


@pytest.mark.parametrize("kind", TaskKind)
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_and_tables_give_the_same_bits(predictors, kind, family):
    predictor = predictors[kind, family]
    table = rows(64, seed=11, kind=kind)
    whole, single = predictor.table(table), predictor.rows(requests(table))
    assert np.array_equal(whole.prediction, single.prediction)
    assert np.array_equal(whole.score, single.score)
    if whole.probabilities is not None:
        assert np.array_equal(whole.probabilities, single.probabilities)


@pytest.mark.parametrize("kind", TaskKind)
def test_a_row_is_predicted_the_same_whatever_stands_beside_it(predictors, kind):
    predictor = predictors[kind, "xgboost"]
    table = rows(40, seed=12, kind=kind)
    whole = predictor.table(table).score
    assert [float(predictor.table(table.slice(at, 1)).score[0]) for at in range(40)] == whole.tolist()


@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION])
@pytest.mark.parametrize("family", ["linear", "forest", "xgboost"])
def test_many_rows_have_the_same_bits_and_explanations_in_any_number_of_threads(predictors, monkeypatch, kind, family):
    predictor, table = predictors[kind, family], rows(3 * LEAST_PREDICTED + 1, seed=13, kind=kind)
    explained = predictor.conform(table.slice(0, 3 * LEAST_EXPLAINED + 1))
    scores, contributions = [], []
    for count in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        scores.append(predictor.table(table).score.tobytes())
        made = predictor.explain(explained, predictor.conformed_table(explained))
        contributions.append((made.contributions.tobytes(), made.base.tobytes()))
    assert len(set(scores)) == len(set(contributions)) == 1


times = st.datetimes(TWO_DAYS_IN, TWO_DAYS_LEFT, timezones=st.timezones())
record = st.fixed_dictionaries(
    {"seats": st.integers(0, 2**62)},
    optional={
        "distance": st.none() | st.floats(allow_infinity=False, allow_nan=False),
        "load": st.none() | st.floats(width=32, allow_infinity=False, allow_nan=False),
        "carrier": st.none() | st.sampled_from(["AA", "B6"]) | st.text(max_size=4),
        "night": st.none() | st.booleans(),
        "departs": st.none()
        | st.datetimes(TWO_DAYS_IN, TWO_DAYS_LEFT, timezones=st.timezones()).map(lambda time: time.isoformat()),
        "flight": st.text(max_size=3),
        "constant": st.none() | st.integers(-5, 5),
    },
)


@settings(max_examples=50)
@given(st.lists(record, min_size=1, max_size=20))
def test_any_valid_request_is_predicted_the_same_by_rows_columns_and_table(predictors, records):
    predictor = predictors[TaskKind.BINARY, "xgboost"]
    single = predictor.rows(records)
    conformed = predictor.contract.arrow(predictor.contract.records(records))
    whole = predictor.conformed_table(conformed)
    assert np.array_equal(single.score, whole.score)
    assert single.unseen == whole.unseen


def test_an_unknown_category_is_counted_and_no_fault(predictors):
    predictor = predictors[TaskKind.BINARY, "xgboost"]
    records = [{"seats": 1, "carrier": "XX"}, {"seats": 1, "carrier": "B6"}, {"seats": 1, "carrier": "YY"}]
    assert predictor.rows(records).unseen == {"carrier": 2}
    table = pa.table({"seats": [1, 1, 1], "carrier": ["XX", "B6", "YY"]})
    assert predictor.table(table).unseen == {"carrier": 2}
    assert predictor.rows(records[1:2]).unseen == {}


def test_no_rows_give_no_predictions(predictors):
    for (kind, _), predictor in predictors.items():
        assert len(predictor.rows([])) == 0
        assert len(predictor.table(rows(1, kind=kind).slice(1))) == 0


def test_wrong_rows_are_refused_by_both_entrances(predictors):
    predictor = predictors[TaskKind.BINARY, "linear"]
    with pytest.raises(errors.RequestError, match="row 0, field 'seats': got nothing, expected an integer"):
        predictor.rows([{}])
    with pytest.raises(errors.RequestError, match="row all, field 'seats': got nothing, expected an integer"):
        predictor.table(pa.table({"distance": [1.0]}))


def test_the_threshold_of_the_bundle_decides_and_equality_is_positive():
    task = Task(kind=TaskKind.BINARY, target="y", classes=("no", "yes"))
    raw = np.array([[0.6, 0.4], [0.61, 0.39], [0.0, 1.0]])
    assert decide(task, raw, 0.4).prediction.tolist() == ["yes", "no", "yes"]
    assert decide(task, raw, None).prediction.tolist() == ["no", "no", "yes"]
    assert decide(task, raw, 0.4).score.tolist() == [0.4, 0.39, 1.0]


def test_the_most_probable_class_is_predicted_and_the_first_of_a_tie():
    task = Task(kind=TaskKind.MULTICLASS, target="y", classes=(1, 2, 3))
    said = decide(task, np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]), None)
    assert said.prediction.tolist() == [2, 1]
    assert said.score.tolist() == [0.5, 0.4]


def test_predictions_as_a_table_name_a_probability_by_its_class(predictors):
    table = rows(3, kind=TaskKind.BINARY)
    binary = predictors[TaskKind.BINARY, "xgboost"].table(table).arrow("7")
    assert binary.schema.names == ["prediction", "probability_false", "probability_true", "model_version"]
    assert [str(kind) for kind in binary.schema.types] == ["bool", "double", "double", "string"]
    assert binary["model_version"].to_pylist() == ["7"] * 3
    regression = predictors[TaskKind.REGRESSION, "xgboost"].table(rows(3, kind=TaskKind.REGRESSION)).arrow("7")
    assert regression.schema.names == ["prediction", "model_version"]
    assert all(math.isfinite(value) for value in regression["prediction"].to_pylist())


def test_unusual_categories_are_counted_by_row_as_in_the_table_of_the_rows(predictors):
    predictor = predictors[TaskKind.BINARY, "xgboost"]
    records = [{"seats": 1, "carrier": "XX"}, {"seats": 1, "carrier": "B6"}, {"seats": 1}, {"seats": 1, "carrier": "Y"}]
    single = predictor.rows(records)
    table = predictor.contract.arrow(predictor.contract.records(records))
    assert (single.unseen_by_row, single.rare_by_row) == predictor.counts_by_row(table) == ([1, 0, 0, 1], [0] * 4)
    assert predictor.conformed_table(table).unseen_by_row is None


def test_a_record_is_completed_once_for_all_that_is_asked_of_it(predictors, monkeypatch):
    predictor, completed = predictors[TaskKind.BINARY, "xgboost"], []
    whole = predictor._rows.program

    def complete(record):
        completed.append(record)
        return whole.complete(record)

    monkeypatch.setattr(predictor._rows, "program", replace(whole, complete=complete))
    records = requests(rows(3, seed=5))
    single = predictor.rows(records)
    assert completed == predictor.conform(records)
    assert np.array_equal(single.score, predictor.table(rows(3, seed=5)).score)
