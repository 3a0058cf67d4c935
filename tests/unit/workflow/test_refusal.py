"""A model that fails its gate: what failed, by how much, what would change it, and where everything is."""

import json

import numpy as np
import pandas as pd
import pytest

import mlsys
from mlsys import errors
from mlsys.workflow import refusal
from mlsys.workflow.results import EvaluateResult, ExploreResult, TrainResult

BOUND = "0.1000 from the bound: a better model, or a bound that it keeps: evaluate.gate.roc_auc.min: 0.7"
CHECKS = [
    {
        "name": "roc_auc",
        "bound": "at least 0.8",
        "passed": False,
        "reason": "roc_auc is 0.7000, below 0.8",
        "advice": BOUND,
    },
    {"name": "beats the dummy", "bound": "a gain in roc_auc above 0", "passed": True, "reason": "yes", "advice": ""},
]
VERDICT = EvaluateResult("e", "roc_auc", {}, False, ("roc_auc is 0.7000, below 0.8",), CHECKS, "/r/evaluate.html", "…")
TRAINED = TrainResult("0123456789abcdef", "linear", "task", 3)


def test_the_message_of_a_failed_gate_says_what_a_person_can_do_next():
    by_hand = "`mlsys promote demo@3 --reason WHY` puts it into service"
    assert str(refusal.of_gate("demo", VERDICT, TRAINED.bundle, by_hand=by_hand)) == (
        "evaluate: model 'demo' did not pass its gate\n"
        "  got:      roc_auc is 0.7000, below 0.8\n"
        "  expected: roc_auc: at least 0.8\n"
        "  hint:     roc_auc: 0.1000 from the bound: a better model, or a bound that it keeps: "
        "evaluate.gate.roc_auc.min: 0.7\n"
        "            report /r/evaluate.html\n"
        '            the model is there: mlsys.load("0123456789ab") predicts with it\n'
        "            `mlsys promote demo@3 --reason WHY` puts it into service"
    )


def test_what_earlier_steps_suspected_is_repeated_where_the_gate_fails():
    explored = ExploreResult("s", "/r/explore.html", 10, 3, 1, 1, ("paid",), warnings=("'paid' may be known late.",))
    with pytest.raises(errors.GateError, match=r"\n {12}told before: 'paid' may be known late\.$"):
        refusal.check_gate("demo", {"explore": explored, "train": TRAINED, "evaluate": VERDICT})
    refusal.check_gate("demo", {"train": TRAINED})


def test_the_results_of_a_run_whose_model_fails_its_gate_are_written(tmp_path):
    rng = np.random.default_rng(0)
    pd.DataFrame({"x": rng.normal(size=300), "y": rng.integers(0, 2, 300)}).to_csv(tmp_path / "t.csv", index=False)
    recipe = {"name": "noise", "target": "y", "data": {"source": str(tmp_path / "t.csv")}}
    quick = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2, "train.family": "linear"}
    done = mlsys.run(recipe, "evaluate", set=quick, store=tmp_path / "store", cluster=False, quiet=True)
    assert done.passed is False
    written = json.loads((done.folder / "result.json").read_text())
    (check,) = written["evaluate"]["checks"]
    assert check["reason"].startswith("the gain over the dummy is ")
    assert (
        "test rows in place of 45 would tell it from chance" in check["advice"]
        or "nothing was learned" in check["advice"]
    )
