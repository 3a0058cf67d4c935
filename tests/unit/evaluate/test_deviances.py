"""Pinball loss and deviances against scikit-learn, under weights too, and by hand where they are not defined."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from mlsys import errors
from mlsys.evaluate import metrics
from mlsys.evaluate.deviances import tweedie
from mlsys.evaluate.metrics import METRICS, measure
from mlsys.recipe import DataSection, Recipe
from mlsys.schema import TargetLoss, Task

THEIRS = {
    "pinball_0.9": lambda y, p, w: sk.mean_pinball_loss(y, p, sample_weight=w, alpha=0.9),
    "pinball_0.05": lambda y, p, w: sk.mean_pinball_loss(y, p, sample_weight=w, alpha=0.05),
    "poisson_deviance": lambda y, p, w: sk.mean_poisson_deviance(y, p, sample_weight=w),
    "tweedie_deviance_1.5": lambda y, p, w: sk.mean_tweedie_deviance(y, p, sample_weight=w, power=1.5),
    "tweedie_deviance_1.9": lambda y, p, w: sk.mean_tweedie_deviance(y, p, sample_weight=w, power=1.9),
    "gamma_deviance": lambda y, p, w: sk.mean_gamma_deviance(y, p, sample_weight=w),
}
ZEROS = [name for name in THEIRS if name != "gamma_deviance"]


def drawn(seed, *, zeros):
    rng = np.random.default_rng(seed)
    y = rng.gamma(2.0, 30.0, 200)
    y[:: 3 if zeros else 1000] = 0.0 if zeros else 1.0
    return y, rng.gamma(5.0, 12.0, 200), rng.random(200)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", THEIRS)
def test_they_equal_those_of_scikit_learn(name, seed):
    y, predicted, weight = drawn(seed, zeros=name in ZEROS)
    assert measure(name, y, predicted) == pytest.approx(THEIRS[name](y, predicted, None), rel=1e-12)
    statistic = METRICS[name].prepare(y, predicted)
    assert statistic(weight) == pytest.approx(THEIRS[name](y, predicted, weight), rel=1e-12)


@pytest.mark.parametrize("name", THEIRS)
def test_a_perfect_prediction_has_none(name):
    y, _, _ = drawn(0, zeros=False)
    assert measure(name, y, y) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_a_deviance_of_a_multiple_is_the_deviance_times_a_power_of_it(power):
    y, mean, size = drawn(1, zeros=False)
    np.testing.assert_allclose(
        tweedie(size * y, size * mean, power), size ** (2 - power) * tweedie(y, mean, power), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("y", "mean", "power"), [(1.0, 0.0, 1.0), (1.0, -1.0, 1.5), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0), (1.0, 0.0, 2.0)]
)
def test_a_deviance_that_is_not_defined_is_nan(y, mean, power):
    assert math.isnan(tweedie(np.array([y]), np.array([mean]), power)[0])


def test_the_metric_of_a_task_is_that_of_its_loss():
    losses = [{"quantile": 0.25}, "poisson", "tweedie", {"tweedie": 1.9}, "gamma", "auto"]
    tasks = [Task(kind="regression", target="y", loss=TargetLoss.of(loss)) for loss in losses]
    assert [metrics.usual(task) for task in tasks] == [
        "pinball_0.25",
        "poisson_deviance",
        "tweedie_deviance_1.5",
        "tweedie_deviance_1.9",
        "gamma_deviance",
        "rmse",
    ]


def test_a_metric_of_a_loss_is_known_by_its_name_and_is_in_no_list_of_all():
    assert METRICS["pinball_0.9"].loss == TargetLoss.of({"quantile": 0.9})
    assert "tweedie_deviance_1.01" in METRICS
    assert not {name for name in METRICS if METRICS[name].loss is not None}
    named = [metric.name for metric in metrics.all_for("regression", "gamma_deviance", "rmse")]
    assert named == ["gamma_deviance", *(metric.name for metric in metrics.all_for("regression"))]


@pytest.mark.parametrize(
    "name",
    ["pinball_1.0", "pinball_0", "pinball_0.90", "pinball_", "pinball_x", "tweedie_deviance_2.0", "normal_deviance"],
)
def test_a_name_with_a_number_out_of_range_or_written_otherwise_is_no_metric(name):
    assert name not in METRICS
    with pytest.raises(errors.RecipeError, match="a metric of a regression task"):
        metrics.find(name, "regression")


def recipe(**values):
    return Recipe(name="t", target="y", data=DataSection(source="a.csv"), **values)


def test_comparing_by_a_loss_that_nothing_is_fitted_to_is_refused():
    with pytest.raises(errors.RecipeError) as refused:
        metrics.check_names(recipe(selection={"metric": "pinball_0.9"}))
    assert str(refused.value) == (
        "recipe: selection.metric\n"
        "  got:      pinball_0.9 of models that are fitted to squared errors\n"
        "  expected: loss: {quantile: 0.9}\n"
        "  hint:     loss: {quantile: 0.9} fits it and compares by it; leave selection.metric out"
    )
    with pytest.raises(errors.RecipeError, match=r"expected: loss: \{quantile: 0\.9\}"):
        metrics.check_names(recipe(selection={"metric": "pinball_0.9"}, loss={"quantile": 0.8}))


def test_deviances_compare_models_of_another_one_and_any_gate_may_name_them():
    metrics.check_names(recipe(selection={"metric": "gamma_deviance"}, loss="poisson"))
    metrics.check_names(recipe(evaluate={"gate": {"pinball_0.9": {"max": 3}}}))
