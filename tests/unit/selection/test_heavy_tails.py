"""A target with a heavy tail: told, compared by what the tail does not decide, and never worse than the dummy."""

import numpy as np
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.predict import Predictor
from modelled import collected

FAST = {"split": {"folds": 3}, "train": {"rounds": 40, "early_stopping": 5}}
FAMILIES = {"selection": {"families": ["linear", "xgboost"]}}


def features(num_rows, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, num_rows))
    return rng, a, b, 3 + a + np.where(b > 0, 1.0, -1.0)


def table(a, b, y):
    return pa.table({"a": a, "b": b, "y": y})


def measurement_errors(num_rows=1_500, seed=0):
    """Values near 10, a thousandth of them wrong by a factor of ten thousand, whatever the features say."""
    rng, a, b, signal = features(num_rows, seed)
    y = 7 + signal + 0.3 * rng.normal(size=num_rows)
    wrong = rng.choice(num_rows, max(3, num_rows // 400), replace=False)
    y[wrong] *= rng.choice([1e4, -1e4], len(wrong))
    return table(a, b, y)


TARGETS = {
    "errors of measurement of both signs": measurement_errors(),
    "a long tail": table(*(f := features(1_500))[1:3], np.exp(2.5 * f[3] + f[0].normal(size=1_500))),
    "a negative tail": table(*(f := features(1_500))[1:3], -np.exp(2.5 * f[3] + f[0].normal(size=1_500))),
    "one outlier": table(*(f := features(1_500))[1:3], np.where(np.arange(1_500) == 700, 1e7, f[3])),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_heavy_tail_is_told_and_the_model_beats_the_dummy(tmp_path, name):
    rows = collected(tmp_path, TARGETS[name], **FAST, **FAMILIES)
    told = []
    ranking = rows.ranking(told.append)
    assert told[0].startswith("the target has a heavy tail: ")
    assert told[0].endswith("compared by mae, which they do not decide (selection.metric: mae)")
    assert told[0] == ranking.notes[0]
    assert (ranking.metric, ranking.decided["selection.metric"]) == ("mae", "mae")
    assert ranking.family != "dummy"
    made = rows.fit(ranking)
    evaluation = rows.evaluation(made)
    assert evaluation["metric"] == "mae"
    assert evaluation["dummy"]["gain"]["value"] > 0
    assert evaluation["verdict"]["passed"], evaluation["verdict"]


@pytest.mark.parametrize("form", ["log", "winsor"])
@pytest.mark.parametrize("family", ["dummy", "linear", "forest", "xgboost"])
def test_a_transformed_target_is_predicted_on_its_own_scale_a_row_alone_as_among_others(tmp_path, family, form):
    train = {**FAST["train"], "family": family, "target_transform": form}
    rows = collected(
        tmp_path, TARGETS["a long tail"].slice(0, 600), **{**FAST, "train": train}, selection={"families": [family]}
    )
    made = rows.fit(rows.ranking())
    assert made.provenance["target_transform"] == form
    predictor, test = Predictor(made), rows.parts.table("test")
    by_table = predictor.table(test).prediction
    records = test.select(["a", "b"]).to_pylist()
    assert np.concatenate([predictor.rows([record]).prediction for record in records]).tobytes() == by_table.tobytes()
    y = np.asarray(rows.parts.table("train")["y"])
    assert y.min() <= by_table.min() <= by_table.max() <= y.max()


def test_zero_inflated_amounts_are_compared_by_logarithms_since_zero_is_their_median(tmp_path):
    rng, a, b, signal = features(2_000)
    y = np.where(rng.random(2_000) < 1 / (1 + np.exp(2 - a)), np.exp(2 * signal + rng.normal(size=2_000)), 0.0)
    rows = collected(tmp_path, table(a, b, y), **FAST, **FAMILIES)
    ranking = rows.ranking()
    assert ranking.metric == "rmsle"
    assert ranking.family != "dummy"
    assert rows.evaluation(rows.fit(ranking))["verdict"]["passed"]


def test_a_metric_that_the_recipe_states_is_never_changed(tmp_path):
    sections = {**FAST, "selection": {"families": ["linear", "xgboost"], "metric": "rmse"}}
    ranking = collected(tmp_path, TARGETS["errors of measurement of both signs"], **sections).ranking()
    assert ranking.metric == "rmse"
    assert "selection.metric" not in ranking.decided
    assert ranking.notes[0].endswith("rmse is the recipe's metric and mostly says how well those are met")


def test_a_transform_that_the_recipe_states_is_the_only_one(tmp_path):
    sections = {**FAST, **FAMILIES, "train": {**FAST["train"], "target_transform": "none"}}
    ranking = collected(tmp_path, TARGETS["a long tail"], **sections).ranking()
    assert {entry.form for entry in ranking.entries} == {""}


def test_a_skewed_target_under_squared_errors_is_tried_as_a_logarithm_whose_predictions_are_means(tmp_path):
    rng, a, b, signal = features(3_000)
    y = np.exp(0.5 * signal + 0.6 * rng.normal(size=3_000))
    rows = collected(tmp_path, table(a, b, y), **FAST, selection={"families": ["linear"]})
    ranking = rows.ranking()
    assert ranking.metric == "rmse"
    assert ranking.preferred == "linear, log target"
    made = rows.fit(ranking)
    test = rows.parts.table("test")
    truth = np.asarray(test["y"])
    assert abs(Predictor(made).table(test).prediction.mean() / truth.mean() - 1) < 0.12  # medians would be 16 % low


def test_effects_that_multiply_are_tried_with_the_logarithm_of_the_mean_and_no_value_is_below_zero(tmp_path):
    rng, a, b, signal = features(3_000)
    y = rng.poisson(np.exp(1 + 0.4 * signal)).astype(np.float64)
    train = {"rounds": 200, "early_stopping": 10}
    sections = {**FAST, "train": train, "selection": {"families": ["forest", "lightgbm"], "margin": 0}}
    rows = collected(tmp_path, table(a, b, y), **sections)
    ranking = rows.ranking()
    assert {entry.name for entry in ranking.entries} == {"dummy", "forest", "lightgbm", "lightgbm, log link"}
    behind = {entry.name: entry.behind for entry in ranking.entries}
    assert behind["lightgbm, log link"] < behind["lightgbm"]
    assert ranking.preferred == "lightgbm, log link"
    assert ranking.decided == {"train.target_transform": "log_link"}
    made = rows.fit(ranking)
    assert made.provenance["target_transform"] == "log_link"
    test = rows.parts.table("test")
    predicted, truth = Predictor(made).table(test).prediction, np.asarray(test["y"])
    assert predicted.min() > 0
    assert abs(predicted.mean() / truth.mean() - 1) < 0.1


def test_values_below_zero_and_those_without_a_longer_upper_tail_are_not_tried_with_it(tmp_path):
    rng, a, b, signal = features(600)
    for number, y in enumerate([rng.poisson(np.exp(0.6 * signal)) - 1.0, 20 + rng.normal(size=600)]):
        rows = collected(tmp_path / str(number), table(a, b, y), **FAST, selection={"families": ["lightgbm"]})
        assert not any("log link" in entry.form for entry in rows.ranking().entries)


def test_a_target_without_a_tail_is_compared_as_it_was(tmp_path):
    rng, a, b, signal = features(600)
    ranking = collected(tmp_path, table(a, b, signal + rng.normal(size=600)), **FAST, **FAMILIES).ranking()
    assert (ranking.metric, ranking.decided, ranking.notes) == ("rmse", {}, ())
    assert [entry.form for entry in ranking.entries] == ["", "", ""]


def test_a_transform_of_classes_is_refused(tmp_path):
    _, a, b, signal = features(300)
    y = np.where(signal > 3, "yes", "no")
    rows = collected(tmp_path, table(a, b, y), **{**FAST, "train": {"target_transform": "log"}})
    with pytest.raises(errors.RecipeError) as caught:
        rows.ranking()
    assert str(caught.value) == (
        "recipe: train.target_transform\n"
        "  got:      log for a binary task\n"
        "  expected: none: a class has no scale\n"
        "  hint:     leave it out, or set task: regression"
    )


def test_where_nothing_beats_the_dummy_the_run_says_so_and_the_gate_says_what_to_do(tmp_path):
    a, b, y = np.random.default_rng(2).normal(size=(3, 200))
    rows = collected(tmp_path, table(a, b, y), **FAST, selection={"families": ["xgboost"]})
    ranking = rows.ranking()
    assert not ranking.beats_dummy
    assert ranking.preferred == ranking.best == "dummy"
    assert "nothing beats the dummy" in ranking.summary()
    evaluation = rows.evaluation(rows.fit(ranking))
    assert not evaluation["verdict"]["passed"]
    assert "the model is the dummy" in evaluation["verdict"]["checks"][-1]["reason"]
