"""The gate: bounds and the dummy; whatever is missing does not pass."""

import json
import math

import pytest

from mlsys import errors
from mlsys.evaluate import gate
from mlsys.recipe import Threshold

ROWS = {"num_resamples": 200, "unit": "rows", "num_units": 1000}
BOUND = "from the bound: a better model, or a bound that it keeps: evaluate.gate.roc_auc"
GAIN = {"metric": "roc_auc", "gain": {"value": 0.2, "low": 0.15, "high": 0.25}}


def evaluation(dummy=GAIN, resampling=ROWS, **metrics):
    return {
        "num_rows": 1000,
        "task": {"kind": "binary"},
        "metrics": {name: dict(zip(("value", "low", "high"), found, strict=True)) for name, found in metrics.items()},
        "dummy": dummy,
        "resampling": resampling,
    }


def verdict(found, **bounds):
    return gate.judge(found, {name: Threshold(**bound) for name, bound in bounds.items()})


@pytest.mark.parametrize(
    ("bound", "passed", "reason"),
    [
        ({"min": 0.7}, True, "roc_auc is 0.7500, at least 0.7"),
        ({"min": 0.75}, True, "roc_auc is 0.7500, at least 0.75"),
        ({"min": 0.76}, False, "roc_auc is 0.7500, below 0.76"),
        ({"max": 0.7}, False, "roc_auc is 0.7500, above 0.7"),
        ({"min": 0.7, "strict": True}, True, "roc_auc is 0.7500, its interval begins at 0.7200, at least 0.7"),
        ({"min": 0.74, "strict": True}, False, "roc_auc is 0.7500, its interval begins at 0.7200, below 0.74"),
        ({"max": 0.77, "strict": True}, False, "roc_auc is 0.7500, its interval ends at 0.7800, above 0.77"),
    ],
)
def test_a_bound_says_what_it_saw(bound, passed, reason):
    check = verdict(evaluation(roc_auc=(0.75, 0.72, 0.78)), roc_auc=bound).checks[0]
    assert (check.passed, check.reason) == (passed, reason)


def test_both_sides_of_a_bound_are_checked():
    assert [c.passed for c in verdict(evaluation(ece=(0.05, 0.04, 0.06)), ece={"min": 0.0, "max": 0.01}).checks] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.9", True])
def test_a_value_that_is_no_number_does_not_pass(value):
    check = verdict(evaluation(roc_auc=(value, None, None)), roc_auc={"min": 0.0}).checks[0]
    assert (check.passed, check.reason) == (False, "roc_auc is not defined on these rows")


def test_a_metric_that_is_missing_does_not_pass():
    assert not verdict(evaluation(), roc_auc={"min": 0.0}).checks[0].passed


def test_a_strict_bound_without_an_interval_does_not_pass():
    found = evaluation(roc_auc=(0.9, None, None))
    found["metrics"]["roc_auc"]["reason"] = "10 rows; an interval needs 20"
    check = verdict(found, roc_auc={"min": 0.1, "strict": True}).checks[0]
    assert (check.passed, check.reason, check.advice) == (
        False,
        "roc_auc is 0.9000 and has no interval: 10 rows; an interval needs 20",
        "bring more rows, or give the test part more of them under split; or a bound without strict",
    )


@pytest.mark.parametrize(
    ("bound", "advice"),
    [
        (
            {"min": 0.76},
            f"0.0100 {BOUND}.min: 0.75",
        ),
        (
            {"max": 0.7},
            f"0.0500 {BOUND}.max: 0.75",
        ),
        (
            {"min": 0.74, "strict": True},
            (
                "the value keeps the bound: about 9,000 test rows in place of 1,000 would do if it stays, or a bound "
                "without strict"
            ),
        ),
        (
            {"min": 0.8, "strict": True},
            f"0.0800 {BOUND}.min: 0.72",
        ),
    ],
)
def test_a_bound_that_is_not_kept_says_by_how_much_and_what_would_change_it(bound, advice):
    assert verdict(evaluation(roc_auc=(0.75, 0.72, 0.78)), roc_auc=bound).checks[0].advice == advice


def test_a_gain_that_chance_may_explain_says_how_many_rows_or_blocks_would_tell():
    gain = {"metric": "roc_auc", "gain": {"value": 0.02, "low": -0.02, "high": 0.06, "error": 0.02}}
    by_rows = verdict(evaluation(gain)).checks[-1].advice
    assert by_rows == "about 4,000 test rows in place of 1,000 would tell it from chance, if it is no chance"
    by_days = (
        verdict(evaluation(gain, {"num_resamples": 30, "unit": "blocks of 1 day", "num_units": 30})).checks[-1].advice
    )
    assert by_days == (
        "about 4,000 test rows in place of 1,000 (120 in place of 30 blocks of 1 day) would tell it from chance, "
        "if it is no chance"
    )


def test_a_gain_that_never_moves_beats_the_dummy_if_it_is_one():
    gain = {"value": 0.5, "low": None, "high": None, "error": 0.0, "reason": "the same in every resample"}
    check = verdict(evaluation({"metric": "roc_auc", "gain": gain})).checks[-1]
    assert (check.passed, check.reason) == (True, "the gain over the dummy is 0.5000, the same in every resample")
    none = verdict(evaluation({"metric": "roc_auc", "gain": {**gain, "value": 0.0}})).checks[-1]
    assert not none.passed
    assert none.advice.startswith("nothing was learned")


@pytest.mark.parametrize(
    ("gain", "passed", "reason"),
    [
        (
            {"value": 0.2, "low": 0.15, "high": 0.3},
            True,
            "the gain over the dummy is 0.2000, its interval begins at 0.1500, above 0",
        ),
        (
            {"value": 0.2, "low": -0.01, "high": 0.3},
            False,
            "the gain over the dummy is 0.2000, its interval begins at -0.0100, not clear of 0",
        ),
        (
            {"value": 0.0, "low": 0.0, "high": 0.0},
            False,
            "the gain over the dummy is 0.0000, its interval begins at 0.0000, not clear of 0",
        ),
        (
            {"value": 0.2, "low": math.nan, "high": math.nan},
            False,
            "the gain over the dummy is 0.2000 and has no interval",
        ),
        ({}, False, "the comparison with the dummy is not defined on these rows"),
    ],
)
def test_the_dummy_is_beaten_only_if_the_interval_of_the_gain_is_above_zero(gain, passed, reason):
    check = verdict(evaluation({"metric": "roc_auc", "gain": gain})).checks[-1]
    assert (check.passed, check.reason) == (passed, reason)


def test_an_evaluation_without_a_dummy_does_not_pass():
    assert not verdict(evaluation(None)).passed


def test_without_resamples_the_gain_itself_decides():
    gain = {"metric": "roc_auc", "gain": {"value": 0.1, "low": None, "high": None}}
    assert verdict(evaluation(gain, {"num_resamples": 0})).passed


def test_nothing_checked_is_not_passed():
    assert not gate.Verdict(()).passed


def test_a_misspelt_metric_is_answered_with_the_nearest():
    with pytest.raises(errors.RecipeError) as raised:
        verdict(evaluation(), roc_aux={"min": 0.5})
    assert str(raised.value) == (
        "recipe: evaluate.gate\n  got:      roc_aux\n  expected: a metric of a binary task\n"
        "  hint:     did you mean 'roc_auc'?"
    )


def test_a_bound_without_ends_is_refused():
    with pytest.raises(errors.RecipeError) as raised:
        gate.check_names({"rmse": Threshold()}, "regression")
    assert str(raised.value) == (
        "recipe: evaluate.gate.rmse\n  got:      no bound\n  expected: min, max or both\n  hint:     rmse: { min: 0.7 }"
    )


def test_a_verdict_is_strict_json():
    found = verdict(evaluation(roc_auc=(math.nan, None, None)), roc_auc={"min": 0.5})
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["passed"] is False


def test_a_check_beside_the_bounds_has_to_pass_as_well():
    beside = gate.Check("statistical_parity by sex", 0.3, "at most 0.1", passed=False, reason="too far apart")
    assert gate.judge(evaluation(), {}).passed
    found = gate.judge(evaluation(), {}, [beside])
    assert not found.passed
    assert [check.name for check in found.checks] == ["statistical_parity by sex", "beats the dummy"]
