"""A loss of the recipe from selection to the gate: everything is fitted to it and compared by it."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from mlsys import errors, models
from mlsys.predict import Predictor
from modelled import collected

FAST = {"split": {"folds": 3}, "train": {"rounds": 60, "early_stopping": 10}}

THEIRS = {
    "pinball_0.9": lambda y, p: sk.mean_pinball_loss(y, p, alpha=0.9),
    "poisson_deviance": sk.mean_poisson_deviance,
    "tweedie_deviance_1.4": lambda y, p: sk.mean_tweedie_deviance(y, p, power=1.4),
    "gamma_deviance": sk.mean_gamma_deviance,
}
LOSSES = {
    "pinball_0.9": {"quantile": 0.9},
    "poisson_deviance": "poisson",
    "tweedie_deviance_1.4": {"tweedie": 1.4},
    "gamma_deviance": "gamma",
}


def table(metric, num_rows=1_500):
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, num_rows))
    mean = np.exp(1 + 0.5 * a + np.where(b > 0, 0.5, -0.5))
    y = {
        "pinball_0.9": lambda: mean + rng.normal(0, 2, num_rows),
        "poisson_deviance": lambda: rng.poisson(mean),
        "tweedie_deviance_1.4": lambda: rng.poisson(mean / 2) * rng.gamma(2.0, 1.0, num_rows),
        "gamma_deviance": lambda: rng.gamma(3.0, mean / 3),
    }[metric]()
    return pa.table({"a": a, "b": b, "y": y})


@pytest.mark.parametrize("metric", LOSSES)
def test_one_line_holds_from_selection_to_the_gate(tmp_path, metric):
    rows = collected(tmp_path, table(metric), loss=LOSSES[metric], **FAST)
    ranking = rows.ranking()
    assert (ranking.metric, ranking.decided) == (metric, {})
    assert ranking.beats_dummy
    assert {"dummy", "linear", "xgboost", "lightgbm"} <= {entry.family for entry in ranking.entries}
    made = rows.fit(ranking)
    assert made.task.loss == rows.task.loss
    assert made.provenance["validation"]["metric"] == metric
    evaluation = rows.evaluation(made)
    assert evaluation["metric"] == evaluation["dummy"]["metric"] == metric
    assert next(iter(evaluation["metrics"])) == metric
    assert evaluation["verdict"]["passed"], evaluation["verdict"]
    test = rows.parts.table("test")
    predicted = Predictor(made).table(test.select(["a", "b"])).prediction
    expected = THEIRS[metric](np.asarray(test["y"]), predicted)
    assert evaluation["metrics"][metric]["value"] == pytest.approx(expected, rel=1e-12)


def test_families_that_cannot_are_left_out_with_a_sentence(tmp_path):
    rows = collected(tmp_path, table("gamma_deviance"), loss="gamma", **FAST)
    told = []
    assert "forest" not in {entry.family for entry in rows.ranking(told.append).entries}
    unable = sorted(name for name, family in models.FAMILIES.items() if "gamma" not in family.losses)
    assert {"catboost", "decision_tree", "extra_trees", "forest", "kernel"} <= set(unable)
    assert told[0] == f"left out, for lack of loss: gamma: {', '.join(unable)}"


def test_a_family_that_the_recipe_names_and_that_cannot_is_refused(tmp_path):
    rows = collected(tmp_path, table("gamma_deviance"), loss="gamma", selection={"families": ["forest"]}, **FAST)
    with pytest.raises(errors.RecipeError) as refused:
        rows.ranking()
    assert str(refused.value) == (
        "models: family 'forest'\n"
        "  got:      loss: gamma\n"
        "  expected: one of poisson\n"
        "  hint:     families for it: dummy, ensemble, lightgbm, linear, xgboost"
    )


def test_a_target_is_fitted_as_it_is(tmp_path):
    settings = {**FAST, "train": {**FAST["train"], "target_transform": "log"}}
    rows = collected(tmp_path, table("poisson_deviance"), loss="poisson", **settings)
    with pytest.raises(errors.RecipeError) as refused:
        rows.ranking()
    assert str(refused.value) == (
        "recipe: train.target_transform\n"
        "  got:      log with loss: poisson\n"
        "  expected: none: the loss is one of the target as it is\n"
        "  hint:     leave one of them out"
    )


def test_a_quantile_of_a_heavy_tail_is_still_compared_by_its_loss(tmp_path):
    rng = np.random.default_rng(0)
    a = rng.normal(size=900)
    heavy = pa.table({"a": a, "b": rng.normal(size=900), "y": 10 * a + rng.standard_cauchy(900) ** 3})
    rows = collected(tmp_path, heavy, loss={"quantile": 0.5}, selection={"families": ["linear"]}, **FAST)
    told = []
    assert rows.ranking(told.append).metric == "pinball_0.5"
    assert not [line for line in told if "tail" in line]
