"""Who is promoted by a run: the first on its gate, later ones if they beat the champion, none that was rolled back."""

import io

import numpy as np
import pandas as pd
import pytest

import mlsys
from mlsys import bundle, errors, registry
from mlsys.console import Console
from mlsys.dataset import Split
from mlsys.store import Store
from mlsys.workflow import promotion, refusal
from mlsys.workflow.results import DeployResult
from mlsys.workflow.run import Run

QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2, "train.family": "linear"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on a table of two features, and the same without the second one: a store with a good and a poor model."""
    folder = tmp_path_factory.mktemp("promotion")
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 2_000))
    y = (x + 2 * z + rng.normal(size=2_000) > 0).astype(int)
    pd.DataFrame({"x": x, "z": z, "y": y}).to_csv(folder / "t.csv", index=False)
    recipe = {"name": "demo", "target": "y", "data": {"source": str(folder / "t.csv")}}
    runs = [
        mlsys.run(recipe, "evaluate", set=QUICK | more, store=folder / "store", cluster=False, quiet=True)
        for more in ({}, {"features.columns": {"z": "drop"}})
    ]
    return Store.open(folder / "store"), *runs


@pytest.fixture
def names(made, request):
    """A name of its own for each test, with the good model as version 1 and the poor one as version 2."""
    store, good, poor = made
    name = request.node.name.replace("[", "-").replace("]", "")[:60].lower()
    entries = [
        registry.resolve(store, name, registry.register(store, name, bundle.open(store, run.bundle)))
        for run in (good, poor)
    ]
    return store, name, *entries, good.recipe


def decide(names, entry, **deploy):
    store, name, *_, recipe = names
    section = recipe.deploy.model_copy(update=deploy)
    run = Run(recipe.model_copy(update={"name": name, "deploy": section}), store, Console(io.StringIO()))
    split = Split.open(store, bundle.open(store, entry.digest).provenance["split"])
    return promotion.decide(run.context(), entry, split)


def test_the_first_version_is_promoted_on_its_gate(names):
    assert decide(names, names[3]) == promotion.Promotion(is_promoted=True, reason="passed its gate")


def test_a_version_that_beats_the_champion_is_promoted_and_the_ledger_says_by_what(names):
    store, name, good, poor, _ = names
    registry.set_alias(store, name, "champion", poor.version, reason="first")
    decision = decide(names, good)
    assert decision.is_promoted
    assert decision.reason.startswith("passed its gate; better than the champion: ROC AUC 0.9")
    assert decision.reason.endswith(", by rows (version 2)")
    assert decision.comparison.num_rows == 300
    assert decision.comparison.gain["low"] > 0


def test_a_version_that_does_not_beat_the_champion_stays_out_and_a_person_may_promote_it(names):
    store, name, good, poor, _ = names
    registry.set_alias(store, name, "champion", good.version, reason="first")
    decision = decide(names, poor)
    assert (decision.is_promoted, decision.comparison.outcome) == (False, "worse")
    assert decision.reason.endswith(f"(version 1); `mlsys promote {name}@2 --reason WHY` puts it into service")
    assert decide(names, poor, margin=0.9).is_promoted
    assert decide(names, good).reason == "is champion already"


def test_another_alias_asks_the_gate_alone(names):
    store, name, good, poor, _ = names
    registry.set_alias(store, name, "champion", good.version, reason="first")
    registry.set_alias(store, name, "challenger", good.version, reason="first")
    assert decide(names, poor, alias="challenger").reason == "passed its gate"


def test_what_was_rolled_back_is_not_promoted_again_by_itself(names):
    store, name, good, poor, _ = names
    registry.set_alias(store, name, "champion", poor.version, reason="first")
    registry.set_alias(store, name, "champion", good.version, reason="better")
    registry.rollback(store, name, "champion", reason="complaints")
    decision = decide(names, good)
    assert not decision.is_promoted
    assert decision.comparison is None
    assert "rolled back at" in decision.reason
    assert "(complaints)" in decision.reason


def test_a_champion_that_cannot_be_opened_is_not_compared_with(names):
    store, name, good, _, _ = names
    gone = bundle.Bundle("f" * 64, store.root, bundle.open(store, good.digest).manifest)
    registry.set_alias(store, name, "champion", registry.register(store, name, gone), reason="from elsewhere")
    decision = decide(names, good)
    assert (decision.is_promoted, decision.comparison.outcome) == (False, "not comparable")
    assert decision.reason.startswith("not comparable: the champion cannot be opened: store: bundle 'ffffffffffff'")


def test_a_run_whose_model_does_not_beat_the_champion_ends_as_a_gate_that_failed():
    comparison = {"promotes": False, "reason": "not shown to be better than the champion: …", "margin": 0.0}
    comparison["advice"] = ("about 9,000 test rows in place of 1,000 would show it",)
    result = DeployResult(
        "demo", 4, "champion", "0123456789abcdef", None, (), None, True, 3, "…", comparison, "/r/deploy.html"
    )
    with pytest.raises(errors.GateError) as raised:
        refusal.check_champion({"deploy": result})
    assert str(raised.value) == (
        "deploy: model 'demo' version 4 does not take the champion's place\n"
        "  got:      not shown to be better than the champion: …\n"
        "  expected: a gain whose interval is above 0\n"
        "  hint:     version 3 stays the champion; `mlsys promote demo@4 --reason WHY` puts the new one into service\n"
        "            about 9,000 test rows in place of 1,000 would show it\n"
        "            report /r/deploy.html\n"
        '            the model is there: mlsys.load("0123456789ab") predicts with it'
    )
    refusal.check_champion({})
