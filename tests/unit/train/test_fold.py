"""One fit on some folds: what it may see, and what it gives back."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlsys import errors, models, train
from mlsys.schema import FOLD, ROW
from mlsys.train import training_job

SETTINGS = {"train": {"rounds": 40, "early_stopping": 5}}


def prepared(built, family="xgboost", **settings):
    split, statistics, recipe, task = built
    chosen = {"fit_folds": [0, 1], "judge": 2, **settings}
    return train.prepare(split, statistics, recipe, task, family, **chosen)


def test_features_are_fitted_on_the_folds_to_fit_on_alone(make_split):
    built = make_split()
    split, statistics, recipe, task = built
    narrowed = statistics.of([0, 1])
    changed = type(statistics)({0: statistics.folds[0], 1: statistics.folds[1]})
    one, two = prepared(built, "linear"), prepared((split, changed, recipe, task), "linear")
    assert one.train.X.tobytes() == two.train.X.tobytes()
    assert narrowed.num_rows == one.train.num_rows + one.stopping.num_rows


def test_the_fold_to_judge_neither_fits_nor_stops(make_split):
    built = make_split()
    split, _, _, _ = built
    judged_rows = split.table("train", folds=[2]).num_rows
    made = prepared(built)
    assert made.judged.num_rows == judged_rows
    assert made.train.num_rows + made.stopping.num_rows == split.num_rows["train"] - judged_rows
    assert made.stopping.num_rows > 0
    judged = {row.tobytes() for row in made.judged.X}
    assert not judged & {row.tobytes() for row in (*made.train.X, *made.stopping.X)}


def test_validation_judges_and_stops_without_taking_training_rows_away(make_split):
    built = make_split()
    made = prepared(built, fit_folds=[0, 1, 2], judge="validation")
    assert made.stopping is made.judged
    assert made.train.num_rows == built[0].num_rows["train"]
    assert made.judged.num_rows == built[0].num_rows["validation"]


def test_a_sealed_part_cannot_judge(make_split):
    split, *rest = make_split()
    with pytest.raises(errors.SealedError, match="validation"):
        prepared((split.only("train"), *rest), judge="validation")


def test_the_sample_bounds_the_rows_to_fit_on_and_those_to_judge(make_split):
    built = make_split()
    whole, sample = prepared(built), prepared(built, max_rows=50)
    assert sample.train.num_rows + sample.stopping.num_rows == 50
    assert sample.judged.num_rows == 50 < whole.judged.num_rows


@pytest.mark.parametrize(("judge", "max_rows"), [(2, None), (2, 50), ("validation", None), ("validation", 50)])
def test_the_judged_rows_are_found_again_by_their_numbers(make_split, judge, max_rows):
    built = make_split()
    made = prepared(built, judge=judge, max_rows=max_rows)
    outputs = np.tile([0.5, 0.5], (made.judged.num_rows, 1))
    again = train.JudgedRows(made.judged.y, outputs, numbers=made.judged_rows[::-1])
    assert np.array_equal(np.asarray(again.columns(built[0], ["y"])["y"]) == "yes", made.judged.y[::-1] == 1)


@pytest.mark.parametrize("family", ["dummy", "linear", "forest", "xgboost"])
def test_the_score_is_that_of_an_independent_computation(make_split, family):
    split, statistics, recipe, task = make_split(**SETTINGS)
    params = training_job.params_of(recipe, family, {"trees": 20} if family == "forest" else {})
    made = train.prepare(split, statistics, recipe, task, family, fit_folds=[0, 1], judge=2)
    result = train.fit_prepared(made, task, family, params, "roc_auc", seed=5, threads=1)
    module = models.family(family)
    whole = made.train
    if family != "xgboost":
        X, y = (np.concatenate([getattr(made.train, of), getattr(made.stopping, of)]) for of in ("X", "y"))
        whole = type(whole)(X, y, whole.names, whole.types)
    model = module.fit(whole, made.stopping, task, params, seed=5, threads=1)
    assert result.score == pytest.approx(
        roc_auc_score(made.judged.y, module.predict(model, made.judged.X)[:, 1]), abs=1e-12
    )
    assert (result.num_rows, result.num_judged) == (whole.num_rows, made.judged.num_rows)
    assert (result.best_rounds is not None) == (family == "xgboost")
    assert result.fit_s > 0
    assert result.predict_us_per_row > 0


def test_what_is_learned_beats_the_dummy(make_split):
    built = make_split(**SETTINGS)
    *_, recipe, task = built

    def score(family):
        params = training_job.params_of(recipe, family)
        made = prepared(built, family)
        return train.fit_prepared(made, task, family, params, "roc_auc", seed=0, threads=1).score

    assert score("dummy") == 0.5
    assert score("xgboost") > 0.8


def test_folds_of_the_table_are_those_of_the_statistics(make_split):
    split, statistics, _, _ = make_split()
    counts = split.table("train", [FOLD, ROW])[FOLD].value_counts().to_pylist()
    assert {c["values"]: c["counts"] for c in counts} == {k: part.num_rows for k, part in statistics.folds.items()}


def test_rounds_come_from_the_train_section_and_params_override_it(make_split):
    _, _, recipe, _ = make_split(train={"rounds": 77, "family": "xgboost", "params": {"max_depth": 3, "rounds": 50}})
    assert training_job.params_of(recipe, "xgboost").model_dump()["rounds"] == 50
    assert training_job.params_of(recipe, "xgboost", {"max_depth": 4}).model_dump()["max_depth"] == 4
    assert training_job.params_of(recipe, "linear").model_dump() == models.family("linear").params().model_dump()


def test_a_misspelt_parameter_is_named_with_its_neighbour(make_split):
    _, _, recipe, _ = make_split(train={"family": "xgboost", "params": {"max_deph": 3}})
    with pytest.raises(errors.RecipeError) as caught:
        training_job.params_of(recipe, "xgboost")
    assert str(caught.value) == (
        "recipe: unknown key 'train.params.max_deph'\n"
        "  got:      max_deph\n"
        "  expected: a key of the recipe\n"
        "  hint:     did you mean 'max_depth'?"
    )


def test_a_value_out_of_range_and_an_unknown_family_are_refused():
    with pytest.raises(errors.RecipeError, match=r"train.params.learning_rate.*family xgboost"):
        models.params_of("xgboost", {"learning_rate": 2})
    with pytest.raises(errors.RecipeError, match="did you mean 'forest'"):
        models.family("florest")


def test_predictions_of_another_shape_are_the_fault_of_their_family(make_split, monkeypatch):
    built = make_split()
    made = prepared(built, "dummy")
    monkeypatch.setattr(type(models.family("dummy")), "predict", lambda self, model, X: np.zeros(len(X)))
    params = models.params_of("dummy", {})
    with pytest.raises(errors.RecipeError, match=r"family 'dummy'\n  got:      predictions of shape"):
        train.fit_prepared(made, built[3], "dummy", params, "log_loss", seed=0, threads=1)
