"""The training step in one task: what the bundle holds and where each part of it comes from."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score, log_loss, roc_auc_score, root_mean_squared_error

from mlsys import models, train
from mlsys.features import executors
from mlsys.models.matrix import joined
from mlsys.predict import Predictor
from mlsys.schema import ROW
from mlsys.statistics import encode_target
from mlsys.store import Store
from mlsys.train import placement, plans, training_job

SETTINGS = {"train": {"rounds": 60, "early_stopping": 5}}
ONCE = {"train": {**SETTINGS["train"], "refit": False}}
SMALL = {"forest": {"trees": 10}}


def fit(built, folder, family="xgboost", **params):
    split, statistics, recipe, task = built
    told = []
    store = Store.open(folder)
    rows = split.only("train", "validation")
    chosen = {**SMALL.get(family, {}), **params}
    return train.fit(store, rows, statistics, recipe, task, family, chosen, progress=told.append), told


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("family", ["dummy", "linear", "forest", "xgboost"])
def test_a_bundle_predicts_and_keeps_its_validation_score(make_split, tmp_path, kind, family):
    built = make_split(kind, **ONCE)
    split, _, _, task = built
    made, _ = fit(built, tmp_path, family)
    validation = split.table("validation")
    predicted = Predictor(made).table(validation)
    y = encode_target(validation["y"], task)
    if kind == "regression":
        expected = root_mean_squared_error(y, predicted.score)
    elif kind == "multiclass":
        expected = log_loss(y, predicted.probabilities)
    else:
        expected = roc_auc_score(y, predicted.score)
    assert made.provenance["validation"]["score"] == pytest.approx(expected, rel=1e-9)


def test_the_threshold_is_the_best_one_on_the_validation_rows(make_split, tmp_path):
    built = make_split(**ONCE)
    split, _, _, task = built
    made, _ = fit(built, tmp_path)
    validation = split.table("validation")
    score = Predictor(made).table(validation).score
    y = encode_target(validation["y"], task)
    assert made.threshold is not None
    kept = f1_score(y, score >= made.threshold)
    assert kept == pytest.approx(max(f1_score(y, score >= cut) for cut in np.unique(score)), abs=1e-12)


WORTH = "CASE WHEN prediction = 'no' THEN 0 WHEN y = 'yes' THEN 2 + abs(c) ELSE -9 * abs(c) END"
BY_UTILITY = {"evaluate": {"threshold": "utility", "utility": WORTH}}


def worth_of(table, called):
    """Mean of `WORTH` by hand, for the rows that are called positive."""
    c, y = np.abs(table["c"].to_numpy()), np.array(table["y"].to_pylist()) == "yes"
    return np.where(called, np.where(y, 2 + c, -9 * c), 0).mean()


def cuts(score):
    """A threshold for every way to divide rows of these scores."""
    return [*np.unique(score), 1.1]


@pytest.mark.parametrize("plan", ["task", "stream"])
def test_the_threshold_of_a_utility_is_worth_most_on_the_validation_rows(make_split, tmp_path, plan):
    built = make_split(**{"train": {**ONCE["train"], "plan": plan}, **BY_UTILITY})
    validation = built[0].table("validation")
    made, _ = fit(built, tmp_path)
    score = Predictor(made).table(validation).score
    kept = worth_of(validation, score >= made.threshold)
    assert kept == pytest.approx(max(worth_of(validation, score >= cut) for cut in cuts(score)), abs=1e-9)
    assert made.threshold > fit(make_split(**ONCE), tmp_path)[0].threshold  # for a wrong yes costs much
    assert (made.provenance["threshold_rule"], made.provenance["utility"]) == ("utility", WORTH)


def test_rows_that_a_search_has_judged_bring_the_columns_of_the_utility_by_their_numbers(make_split, tmp_path):
    split, *rest = make_split(train={"calibration": "none"}, **BY_UTILITY)
    whole = pa.concat_tables([split.table(part) for part in ("train", "validation")])
    rows = whole.take(np.arange(0, len(whole), 2)[::-1].copy())  # every other one of both parts, the last one first
    y = np.asarray(encode_target(rows["y"], rest[-1]), np.float64)
    score = 0.4 * y + 0.6 * np.random.default_rng(1).random(len(rows))
    train.JudgedRows(y, np.column_stack([1 - score, score]), numbers=rows[ROW].to_numpy()).write(tmp_path)
    judged = train.JudgedRows.read(tmp_path, rest[-1])
    given = Store.open(tmp_path / "store"), split.only("train", "validation"), *rest
    made = train.fit(*given, "linear", {}, judged=judged)
    kept = worth_of(rows, score >= made.threshold)
    assert kept == pytest.approx(max(worth_of(rows, score >= cut) for cut in cuts(score)), abs=1e-9)
    assert kept > worth_of(rows, score >= 1.1)


@pytest.mark.parametrize("family", ["linear", "forest", "xgboost", "lightgbm", "catboost"])
def test_the_model_is_fitted_again_on_the_validation_rows_and_keeps_what_they_chose(make_split, tmp_path, family):
    once, _ = fit(make_split(**ONCE), tmp_path, family)
    built = make_split(**SETTINGS)
    again, _ = fit(built, tmp_path, family)
    assert (again.threshold, again.provenance["validation"]) == (once.threshold, once.provenance["validation"])
    assert again.reference.predictions.to_json() == once.reference.predictions.to_json()
    # The same by hand: both parts in one, and no row left to stop the boosting.
    split, statistics, recipe, task = built
    features = training_job.fit_program(split.schema, statistics, recipe, family)
    train_rows, validation = (training_job.read(split, part, features, task) for part in ("train", "validation"))
    values = {**again.params, **({"rounds": again.provenance["rounds"]} if "rounds" in again.params else {})}
    rows, params = joined([train_rows, validation]), models.params_of(family, values)
    by_hand = models.family(family).fit(rows, None, task, params, seed=recipe.seed, threads=1)
    expected = models.predict(family, by_hand, validation.X)[:, 1]
    assert Predictor(again).table(split.table("validation")).score == pytest.approx(expected, rel=1e-9)


def test_rounds_of_the_refit_grow_with_the_rows(make_split, tmp_path):
    once, again = (fit(make_split(**settings), tmp_path)[0] for settings in (ONCE, SETTINGS))
    rows = once.provenance["num_rows"]
    growth = rows["validation"] / rows["train"]
    assert again.provenance["rounds"] == round(once.provenance["rounds"] * min(1 + growth, training_job.MOST_ROUNDS))
    assert once.provenance["fitted_on"] == ["train"]
    assert again.provenance["fitted_on"] == ["train", "validation"]


def test_a_refit_keeps_the_scale_of_the_target(make_split, tmp_path):
    settings = {"train": {"rounds": 40, "target_transform": "log"}}
    built = make_split("regression", **settings)
    once, _ = fit(make_split("regression", train={**settings["train"], "refit": False}), tmp_path)
    again, _ = fit(built, tmp_path)
    assert again.model().target == once.model().target
    assert again.digest != once.digest


def test_only_binary_models_have_a_threshold(make_split, tmp_path):
    assert fit(make_split("multiclass", **SETTINGS), tmp_path, "linear")[0].threshold is None
    assert fit(make_split("regression", **SETTINGS), tmp_path, "linear")[0].threshold is None


def test_the_same_inputs_give_the_same_digest(make_split, tmp_path):
    built = make_split(**SETTINGS)
    first, second = fit(built, tmp_path / "one")[0], fit(built, tmp_path / "two")[0]
    assert first.digest == second.digest


def test_another_seed_gives_another_model(make_split, tmp_path):
    split, statistics, recipe, task = make_split(**SETTINGS)
    first, second = (
        fit((split, statistics, recipe.model_copy(update={"seed": seed}), task), tmp_path)[0] for seed in (0, 1)
    )
    rows = split.table("validation")
    assert Predictor(first).table(rows).score.tobytes() != Predictor(second).table(rows).score.tobytes()


def test_the_booster_stops_and_is_cut_to_its_best_round(make_split, tmp_path):
    made, _ = fit(make_split(train={"rounds": 2_000, "early_stopping": 10}), tmp_path, learning_rate=0.3)
    rounds = made.provenance["rounds"]
    assert 1 <= rounds < 200
    assert made.model().booster.num_boosted_rounds() == rounds


def test_the_reference_is_the_training_rows_and_the_validation_predictions(make_split, tmp_path):
    built = make_split(**ONCE)
    split, statistics, _, _ = built
    made, _ = fit(built, tmp_path)
    reference = made.reference
    predicted = Predictor(made).table(split.table("validation"))
    assert reference.inputs.to_json() == statistics.whole().to_json()
    assert reference.predictions is not None
    assert list(reference.predictions.columns) == ["prediction", "score", "label"]
    assert reference.predictions.num_rows == split.num_rows["validation"]
    assert reference.predictions.columns["score"].result().mean == pytest.approx(predicted.score.mean(), rel=1e-12)
    counts = reference.predictions.columns["prediction"].counts()
    assert counts == {name: int((predicted.prediction == name).sum()) for name in ("no", "yes")}


def test_the_example_can_be_sent_as_a_request(make_split, tmp_path):
    made, _ = fit(make_split(**SETTINGS), tmp_path)
    assert set(made.example) == {"at", "a", "b", "c", "colour"}
    assert all(value is not None for value in made.example.values())
    assert len(Predictor(made).rows([made.example])) == 1


def test_no_validation_rows_mean_all_rounds_and_no_statistics_of_predictions(make_split, tmp_path):
    built = make_split(parts={"train": 0.7, "validation": 0.0, "test": 0.3}, **SETTINGS)
    made, _ = fit(built, tmp_path)
    assert made.provenance["rounds"] == 60
    assert made.reference.predictions is None
    assert made.provenance["validation"]["score"] is None
    assert made.threshold == 0.5


def test_the_plan_is_told_and_kept(make_split, tmp_path):
    made, told = fit(make_split(**SETTINGS), tmp_path)
    assert made.provenance["plan"].startswith("task: 360 rows, ")
    assert told[0].startswith("xgboost: task plan, 360 rows")
    for family in ("linear", "catboost"):
        alone, _ = fit(make_split(train={"plan": "cluster"}), tmp_path, family)
        assert alone.provenance["plan"] == f"task: 360 rows: {family} is fitted by one task, whatever the size"


@pytest.mark.parametrize("family", ["lightgbm", "xgboost"])
def test_the_recipe_can_ask_for_the_cluster(make_split, family):
    split, _, recipe, _ = make_split(train={"plan": "cluster"})
    assert plans.plan(split, recipe, family, 7).kind == "cluster"


def test_rows_that_no_machine_holds_are_streamed_by_a_family_that_can(make_split, monkeypatch):
    split, _, recipe, _ = make_split()
    monkeypatch.setattr(placement, "WORKER_BYTES", 1 << 50)
    chosen = {family: plans.plan(split, recipe, family, 7) for family in ("lightgbm", "xgboost", "linear")}
    assert {family: each.kind for family, each in chosen.items()} == {
        "lightgbm": "task",
        "xgboost": "stream",
        "linear": "task",
    }
    assert chosen["xgboost"].reason.startswith("360 rows × 7 features, 1,125,899.91 GB as a matrix, which no machine")


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_streamed_rows_give_the_bundle_of_rows_in_memory_but_for_its_plan(make_split, tmp_path, kind):
    made = {}
    for plan in ("task", "stream"):
        made[plan], _ = fit(make_split(kind, 300, train={**SETTINGS["train"], "plan": plan}), tmp_path)
        assert made[plan].provenance["plan"].startswith(f"{plan}: 180 rows")
        assert made[plan].provenance["fitted_on"] == ["train", "validation"]
    X = np.random.default_rng(0).normal(size=(50, made["task"].model().booster.num_features())).astype(np.float32)
    outputs = [models.predict("xgboost", bundle.model(), X) for bundle in made.values()]
    np.testing.assert_allclose(*outputs, rtol=1e-6)


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_linear_model_of_blocks_is_that_of_all_rows_at_once(make_split, tmp_path, monkeypatch, kind):
    at_once, _ = fit(make_split(kind, 300), tmp_path, "linear")
    monkeypatch.setattr(placement, "MOST_WHOLE", 0)
    monkeypatch.setattr(executors, "BLOCK_CELLS", 1)
    monkeypatch.setattr(executors, "STRIP_ROWS", 40)  # the least rows of a block
    by_blocks, told = fit(make_split(kind, 300), tmp_path, "linear")
    assert told[0].startswith("linear: stream plan, 180 rows × ")
    assert told[0].endswith("if all are fitted at once: they are read block by block, again and again")
    assert by_blocks.provenance["fitted_on"] == ["train", "validation"]
    X = np.random.default_rng(0).normal(size=(50, by_blocks.model().centre.size)).astype(np.float32)
    outputs = [models.predict("linear", models.bare(made.model()), X) for made in (at_once, by_blocks)]
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-3)  # within the tolerance of scikit-learn's solver
    scores = [made.provenance["validation"]["score"] for made in (at_once, by_blocks)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)


def test_rows_that_a_search_has_judged_are_fitted_by_blocks_once_and_a_sample_of_each_where_time_is_short(
    make_split, tmp_path, monkeypatch
):
    split, statistics, recipe, task = make_split("regression", 600)
    given = split.only("train", "validation"), statistics, recipe.having({"train.plan": "stream"}), task, "linear", {}
    judged = train.JudgedRows(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    store = Store.open(tmp_path)
    whole, some = (train.fit(store, *given, judged=judged, max_rows=most) for most in (None, 240))
    assert whole.provenance["plan"].startswith("stream: 360 rows")
    assert whole.provenance["validation"]["score"] == pytest.approx(3**-0.5)  # the root of a mean of squares
    assert ("sampled_rows" in whole.provenance, some.provenance["sampled_rows"]) == (False, 240)
    assert whole.model().coefficient.tobytes() != some.model().coefficient.tobytes()
    np.testing.assert_allclose(whole.model().coefficient, some.model().coefficient, atol=0.2)
    assert train.fit(store, *given, judged=judged, max_rows=240).digest == some.digest


def test_a_recipe_can_ask_for_blocks_and_for_none(make_split, monkeypatch):
    split, _, recipe, task = make_split()
    asked = plans.plan(split, recipe.having({"train.plan": "stream"}), "linear", 7, task)
    assert (asked.kind, asked.reason.rpartition(": ")[2]) == ("stream", "the recipe asks for blocks")
    monkeypatch.setattr(placement, "MOST_WHOLE", 0)
    assert plans.plan(split, recipe, "linear", 7, task).kind == "stream"
    assert plans.plan(split, recipe.having({"train.plan": "task"}), "linear", 7, task).kind == "task"
    wide = plans.plan(split, recipe, "linear", 9_999, task)
    assert (wide.kind, wide.reason.rpartition(": ")[2]) == (
        "task",
        "10,000 coefficients are fitted on all rows at once",
    )


def test_the_provenance_holds_no_time_and_no_path(make_split, tmp_path):
    made, _ = fit(make_split(**SETTINGS), tmp_path)
    told = {"split", "num_rows", "seed", "plan", "rounds", "fitted_on", "validation", "versions", "threshold_rule"}
    assert set(made.provenance) == told
    assert set(made.provenance["versions"]) == {"python", "mlsys", "numpy", "xgboost"}
    assert made.provenance["threshold_rule"] == "f1"
    assert str(tmp_path) not in str(made.provenance)
