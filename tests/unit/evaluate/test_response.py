"""The response of a model to its columns, against a plain loop."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bundles
from mlsys import recipe
from mlsys.dataset import Split
from mlsys.evaluate import response
from mlsys.predict import Predictor
from mlsys.schema import Task, TaskKind
from mlsys.store import Store


@pytest.fixture(scope="module", params=list(TaskKind))
def made(request, tmp_path_factory):
    """A model, and test rows in three files."""
    folder = tmp_path_factory.mktemp("response")
    of = bundles.fit(Store.open(folder / "store"), request.param, num_rows=1_500)
    return of, bundles.three_files(folder, request.param)


def test_it_is_the_mean_prediction_with_the_value_in_every_row(made):
    of, split = made
    found = response.responses(of, split, "UTC")
    rows = response._rows(of, split, response.MAX_ROWS)
    predictor = Predictor(of)
    for name in ("distance", "carrier", "night"):
        entry = found["columns"][name]
        for place in (0, len(entry["values"]) // 2, -1):
            column = pa.repeat(pa.scalar(entry["values"][place], rows.schema.field(name).type), rows.num_rows)
            said = predictor.table(rows.set_column(rows.column_names.index(name), name, column))
            output = said.score if said.probabilities is None else said.probabilities
            mean = np.asarray(output).reshape(rows.num_rows, -1).mean(axis=0)
            expected = mean[1:] if of.task.kind is TaskKind.BINARY else mean
            assert entry["output"][place] == pytest.approx(expected.tolist(), abs=1e-6)


def test_values_are_quantiles_or_frequent_categories_and_null_at_last(made):
    columns = response.responses(*made, "UTC")["columns"]
    assert sorted(columns["carrier"]["values"][:4]) == ["AA", "B6", "UA", "WN"]
    assert columns["carrier"]["values"][4:] == [response.OTHER, None]
    seats = columns["seats"]["values"]
    assert seats[:-1] == sorted(set(seats[:-1]))
    assert all(isinstance(value, int) for value in seats[:-1])
    assert sorted(map(str, columns["night"]["values"])) == ["False", "None", "True"]


def test_a_column_that_the_model_does_not_read_has_no_response_and_a_time_none_at_all(made):
    columns = response.responses(*made, "UTC")["columns"]
    assert columns["constant"] == {"values": [], "output": []}
    assert "departs" not in columns
    assert "flight" not in columns


def test_a_column_that_decides_moves_the_predictions_more_than_one_that_does_not(made):
    columns = response.responses(*made, "UTC")["columns"]
    spans = {name: np.ptp(np.array(columns[name]["output"]), axis=0).max() for name in ("distance", "seats", "load")}
    assert spans["distance"] > 3 * max(spans["seats"], spans["load"])


def test_very_many_columns_share_what_it_may_cost(made, monkeypatch):
    monkeypatch.setattr(response, "MAX_PREDICTIONS", 3_000)
    of, split = made
    assert response.responses(of, split, "UTC")["num_rows"] < 50


def values_answered(folder, integers):
    """Values at which a column of these integers is answered where a recipe asks for it, whatever it holds."""
    table = bundles.rows(len(integers), 5)
    table = table.set_column(table.column_names.index("constant"), "constant", integers)
    asked = recipe.FeaturesSection(columns={"constant": {"operation": "numeric"}})
    task = Task(kind=TaskKind.BINARY, target="y", classes=(False, True))
    of = bundles.stored(Store.open(folder / "store"), table, bundles.schema(), task, features=asked, example={})
    (folder / "test").mkdir()
    pq.write_table(table, folder / "test" / "part-0.parquet")
    split = Split("d", folder, bundles.schema(), {"test": len(integers)}, 2, forward=False)
    return response.responses(of, split, "UTC")["columns"]["constant"]["values"]


def test_an_integer_without_a_value_in_training_is_answered_at_null_alone(tmp_path):
    assert values_answered(tmp_path, pa.nulls(300, pa.int64())) == [None]


def test_integers_that_no_double_holds_are_answered(tmp_path):
    """The quantiles are doubles, and the nearest one of the largest integer is no integer of 64 bits."""
    ends = pa.array([2**63 - 1 if n % 2 else -(2**63) for n in range(300)])
    assert values_answered(tmp_path, ends) == [-(2**63), 2**63 - 1, None]


def test_columns_predicted_together_have_the_responses_that_each_has_alone(made, monkeypatch):
    together = response.responses(*made, "UTC")
    monkeypatch.setattr(response, "MAX_VALUES", 1)
    assert response.responses(*made, "UTC") == together
