"""What a model goes by: importance and contributions on test rows against plain loops and known models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bundles
from mlsys.dataset import Split
from mlsys.evaluate import explained, explained_report, held_out, metrics, report, response, scoring, weighted_metrics
from mlsys.evaluate.intervals import ResamplingPlan
from mlsys.predict import Predictor
from mlsys.schema import TaskKind
from mlsys.store import Store

PLAN = ResamplingPlan(40)


@pytest.fixture(scope="module", params=list(TaskKind))
def made(request, tmp_path_factory):
    """A model, its test rows in three files, and what was predicted of them."""
    folder = tmp_path_factory.mktemp("explained")
    of = bundles.fit(Store.open(folder / "store"), request.param, num_rows=1_500)
    split = bundles.three_files(folder, request.param)
    return of, split, held_out.predict([of], split, "UTC")


def explain(made, **changes):
    of, split, scored = made
    metric = metrics.METRICS[metrics.default(of.task.kind)]
    plan = dataclasses.replace(PLAN, **changes)
    return explained.explain(of, split, "UTC", metric, scored, plan, response.responses(of, split, "UTC"))


def test_permutation_importance_is_the_metric_less_that_of_permuted_rows(made):
    of, split, scored = made
    predictor, metric = Predictor(of), metrics.METRICS[metrics.default(of.task.kind)]
    sample = explained.sampled(predictor, split, 300, scored.groups)
    found = explained.permutation_importance(predictor, sample, ["distance"], metric, scored, PLAN)
    rng = np.random.default_rng(PLAN.seed)
    orders = [explained._circle(rng, len(sample.places)) for _ in range(explained.REPEATS)]

    def value(table):
        said = predictor.table(table)
        output = np.asarray(said.score if said.probabilities is None else said.probabilities)
        groups = None if scored.groups is None else scored.groups[sample.places]
        threshold = 0.5 if of.threshold is None else of.threshold
        return metrics.measure(metric.name, scored.y[sample.places], output, threshold, groups=groups)

    place = sample.table.column_names.index("distance")
    permuted = [
        value(sample.table.set_column(place, "distance", sample.table["distance"].take(pa.array(order))))
        for order in orders
    ]
    assert found[0]["value"] == pytest.approx(metric.sign * (value(sample.table) - np.mean(permuted)), abs=1e-9)


def test_the_column_that_decides_comes_first_with_an_interval_above_zero(made):
    found = explain(made)
    first = found["permutation"][0]
    assert first["column"] == ("night" if made[0].task.kind is TaskKind.MULTILABEL else "distance")
    assert first["low"] > 0
    values = [entry["value"] for entry in found["permutation"]]
    assert values == sorted(values, reverse=True)


def test_a_column_that_the_model_does_not_read_is_not_listed(made):
    assert "constant" not in {entry["column"] for entry in explain(made)["permutation"]}


def test_contributions_are_the_mean_of_absolute_values_by_column(made):
    of, split, scored = made
    predictor = Predictor(of)
    sample = explained.sampled(predictor, split, 80, scored.groups)
    found = explained.mean_contributions(predictor, sample, PLAN)
    own = predictor.explain(sample.table, predictor.conformed_table(sample.table))
    expected = dict(zip(own.columns, np.abs(own.contributions).mean(axis=0), strict=True))
    assert found["num_rows"] == len(sample.places) <= explained.MAX_EXPLAINED_ROWS
    assert {entry["column"]: entry["value"] for entry in found["columns"]} == pytest.approx(expected)


def test_the_same_rows_have_the_same_numbers_and_jackknife_units_are_kept(made):
    assert explain(made) == explain(made)
    by_blocks = explain(made, units=np.arange(900) // 45)["permutation"][0]
    assert by_blocks["low"] < by_blocks["value"] < by_blocks["high"]


def test_rows_are_spaced_over_all_files_and_groups_stay_whole(made):
    of, split, scored = made
    sample = explained.sampled(Predictor(of), split, 100, scored.groups)
    table = pa.concat_tables(pq.read_table(path) for path in split.paths("test"))
    assert sample.table["seats"].to_pylist() == table["seats"].take(pa.array(sample.places)).to_pylist()
    assert {int(place) // 300 for place in sample.places} == {0, 1, 2}
    if scored.groups is not None:
        assert len(sample.places) == 100
        assert len(np.unique(scored.groups[sample.places])) == 100 // bundles.GROUP_ROWS


def test_columns_beyond_the_bound_are_named_those_without_effect_first_to_go(made, monkeypatch):
    monkeypatch.setattr(explained, "MAX_COLUMNS", 3)
    found = explain(made)
    assert len(found["permutation"]) == 3
    assert set(found["left_out"]) & {"seats", "load"}
    assert ("night" if made[0].task.kind is TaskKind.MULTILABEL else "distance") not in found["left_out"]


def test_a_large_model_has_fewer_rows_explained(made, monkeypatch):
    monkeypatch.setattr(explained, "MAX_EXPLAINED_BYTES", 1)
    assert explain(made)["contributions"]["num_rows"] == explained.MIN_EXPLAINED_ROWS


def test_in_a_circle_every_row_gets_the_value_of_another_one():
    for count in (2, 3, 50):
        order = explained._circle(np.random.default_rng(count), count)
        assert sorted(order) == list(range(count))
        assert not (order == np.arange(count)).any()


def test_a_statistic_is_computed_once_for_the_same_weights():
    asked = []

    def statistic(weight):
        asked.append(weight)
        return 1.0

    value, weight = weighted_metrics.remembered(statistic), np.ones(3)
    assert [value(None), value(None), value(weight), value(weight), value(np.ones(3))] == [1.0] * 5
    assert len(asked) == 3


def test_a_family_without_exact_contributions_says_so_and_has_permutation_importance(tmp_path):
    of = bundles.fit(Store.open(tmp_path / "store"), TaskKind.BINARY, "kernel", num_rows=600)
    (tmp_path / "test").mkdir()
    pq.write_table(bundles.rows(200, 5), tmp_path / "test" / "part-0.parquet")
    split = Split("d", tmp_path, bundles.schema(), {"test": 200}, 2, forward=False)
    found = explain((of, split, held_out.predict([of], split, "UTC")))
    assert found["contributions"] == {
        "reason": "model of family 'kernel': a family without an exact method", "columns": []
    }  # fmt: skip
    assert found["permutation"][0]["column"] == "distance"
    assert "No contributions: model of family" in explained_report._text(found, "MAE")


def test_the_report_draws_importance_dependence_and_pairs(world):
    evaluation = scoring.score(world.store, world.bundle, world.split, world.recipe)
    page = report.page(evaluation)
    for part in (
        "What the model goes by",
        "Mean absolute contribution",
        "Dependence on x",
        "All columns, with intervals",
    ):
        assert part in page
    assert evaluation["explained"]["permutation"][0]["column"] == "x"
    scales = {"regression": "in the unit of the prediction", "multiclass": "in logarithms of probabilities"}
    assert f"the sum of both, {scales.get(evaluation['task']['kind'], 'in log-odds')}; H is" in page


def test_an_evaluation_from_before_has_a_report_without_it(binary_world):
    world = binary_world
    evaluation = scoring.score(world.store, world.bundle, world.split, world.recipe)
    del evaluation["explained"]
    assert "What the model goes by" not in report.page(evaluation)
