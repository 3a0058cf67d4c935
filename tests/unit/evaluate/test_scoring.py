"""A bundle judged on a stored split: the numbers, the seal, the ledger, the report."""

import json
import re
import shutil

import numpy as np
import pytest
from sklearn import metrics as sk

from mlsys import errors, evaluate, recipe
from mlsys.dataset import Split
from mlsys.evaluate import access_log
from mlsys.predict import Predictor


def score(world):
    return evaluate.score(world.store, world.bundle, world.split, world.recipe)


def test_metrics_are_those_of_the_predictor_on_the_test_rows(binary_world):
    table = binary_world.split.table("test")
    p = Predictor(binary_world.bundle).table(table.select(binary_world.bundle.schema.names)).probabilities[:, 1]
    y = np.array(table["y"].to_pylist())
    found = score(binary_world)["metrics"]
    assert found["roc_auc"]["value"] == pytest.approx(sk.roc_auc_score(y, p))
    assert found["f1"]["value"] == pytest.approx(sk.f1_score(y, p >= 0.5))
    assert found["roc_auc"]["dummy"] == 0.5
    assert found["roc_auc"]["low"] < found["roc_auc"]["value"] < found["roc_auc"]["high"]


def test_values_that_training_saw_too_seldom_are_counted(make_world):
    world = make_world("binary", columns={"origin": {"operation": "onehot", "min_rows": 10_000}})
    origins = world.split.table("test")["origin"]
    evaluation = score(world)
    assert evaluation["rare"] == {"origin": len(origins) - origins.null_count}
    assert evaluation["unseen"] == {}
    assert "or too seldom to keep them apart" in evaluate.report.page(evaluation)


def test_an_evaluation_is_strict_json_and_the_same_again(world):
    first, again = score(world), score(world)
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert {**first, "openings": None} == {**again, "openings": None}


def test_a_long_evaluation_says_where_its_time_went_and_keeps_that_out_of_its_values(binary_world, monkeypatch):
    monkeypatch.setattr(evaluate.scoring, "LONG_S", 0.0)
    lines = []
    world = binary_world
    found = evaluate.score(world.store, world.bundle, world.split, world.recipe, progress=lines.append)
    parts = ("responses", "predictions", "metrics", "slices", "what the model goes by", "the rest")
    assert re.fullmatch("evaluated: " + ", ".join(rf"{part} \d+\.\d s" for part in parts), lines[-1])
    assert "seconds" not in found


def test_a_model_that_learned_beats_the_dummy(world):
    assert score(world)["verdict"]["passed"]


def test_the_dummy_does_not_beat_itself(make_world, kind):
    found = score(make_world(kind, family="dummy"))
    assert found["dummy"]["gain"]["value"] == 0.0
    assert not found["verdict"]["passed"]


def test_the_gate_of_the_recipe_is_judged(binary_world):
    binary_world.recipe = binary_world.with_evaluate(gate={"roc_auc": recipe.Threshold(min=0.99)})
    checks = {check["name"]: check["passed"] for check in score(binary_world)["verdict"]["checks"]}
    assert checks == {"roc_auc": False, "beats the dummy": True}


def test_a_fault_in_the_recipe_leaves_the_test_rows_sealed(binary_world):
    for settings in ({"gate": {"auc": recipe.Threshold(min=0.5)}}, {"slices": ("orign",)}):
        binary_world.recipe = binary_world.with_evaluate(**settings)
        with pytest.raises(errors.RecipeError):
            score(binary_world)
    assert not (binary_world.store.root / "openings").exists()


def test_a_split_without_the_test_part_stays_sealed(binary_world):
    binary_world.split = binary_world.split.only("train", "validation")
    with pytest.raises(errors.SealedError):
        score(binary_world)
    assert not (binary_world.store.root / "openings").exists()


def test_each_opening_is_counted_and_told(binary_world):
    assert score(binary_world)["openings"] == {"earlier": 0, "other_bundles": 0}
    again = score(binary_world)
    assert again["openings"] == {"earlier": 1, "other_bundles": 0}
    assert "opened 1 time before, for this same model" in evaluate.report.page(again)
    rows = access_log.digest_of_rows(binary_world.split)
    access_log.record(binary_world.store, rows, name="x", split="s", bundle="another", reason="evaluate")
    third = score(binary_world)
    assert third["openings"] == {"earlier": 3, "other_bundles": 1}
    assert "The test rows are no longer new" in evaluate.report.page(third)


def test_openings_are_counted_by_rows_whatever_the_name_and_the_folds(binary_world):
    score(binary_world)
    renamed = binary_world.recipe.model_copy(update={"name": "other"})
    facts = {**binary_world.store.facts("split", binary_world.split.digest), "num_folds": 3}
    folder = binary_world.split.folder
    same_rows = Split.open(
        binary_world.store,
        binary_world.store.put(
            "split",
            lambda to: shutil.copytree(folder, to, dirs_exist_ok=True, ignore=lambda *_: ["manifest.json"]) and facts,
        ),
    )
    assert same_rows.digest != binary_world.split.digest
    again = evaluate.score(binary_world.store, binary_world.bundle, same_rows, renamed)
    assert again["openings"] == {"earlier": 1, "other_bundles": 0}


def test_other_rows_are_counted_by_themselves(make_world):
    few, more = (make_world("binary", num_test=n).split for n in (50, 51))
    assert access_log.digest_of_rows(few) != access_log.digest_of_rows(more)


def test_groups_are_resampled_whole(make_world):
    world = make_world("binary", grouped=True)
    assert score(world)["resampling"]["unit"] == "groups of 'carrier'"


def test_named_slices_are_the_only_ones(binary_world):
    binary_world.recipe = binary_world.with_evaluate(slices=("origin",))
    assert {(r["column"], r["slice"]) for r in score(binary_world)["slices"]["rows"]} == {
        ("origin", v) for v in ("EWR", "JFK", "LGA")
    }


def test_an_empty_test_part_is_an_error(make_world):
    world = make_world("binary", num_test=0)
    with pytest.raises(errors.TargetError) as raised:
        score(world)
    assert str(raised.value) == (
        "evaluate: the test part\n  got:      no rows\n  expected: at least one row with a label\n"
        "  hint:     give it a larger fraction or other dates under split"
    )


def test_one_class_in_the_test_part_fails_the_gate_and_still_reports(make_world):
    world = make_world("binary", num_test=2)
    found = score(world)
    page = evaluate.report.page(found)
    if found["metrics"]["roc_auc"]["value"] is None:
        assert "not defined on these rows" in page
    assert not found["verdict"]["passed"]
    assert "No slice has enough rows" in page


def test_without_resamples_the_report_says_that_there_are_no_intervals(world):
    world.recipe = world.with_evaluate(bootstrap=0)
    found = score(world)
    assert all(m["low"] is None for m in found["metrics"].values())
    assert "Without intervals: the recipe asks for no resamples." in evaluate.report.page(found)


def test_the_report_needs_no_network_and_holds_no_row(world):
    page = evaluate.report.page(json.loads(json.dumps(score(world))))
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert page.count("<circle") < 200


def test_the_report_of_a_classification_has_its_parts(make_world):
    page = evaluate.report.page(score(make_world("multiclass")))
    for part in (
        "Confusion matrix",
        "Calibration",
        "ROC curve",
        "Precision and recall",
        "Beats the dummy".lower(),
        "Chinstrap",
    ):
        assert part in page


def test_the_summary_is_one_line(binary_world):
    assert re.fullmatch(
        r"600 test rows, ROC AUC 0\.\d{4} \[0\.\d{4}, 0\.\d{4}\], gate passed", evaluate.summary(score(binary_world))
    )


def test_an_evaluation_holds_what_performance_is_estimated_from_without_labels(world, kind):
    facts = score(world)["estimation"]
    if kind == "ranking":
        assert facts is None
    elif kind == "regression":
        assert list(facts["metrics"]) == ["rmse", "mae"]
        assert next(iter(facts["columns"])) == "score"
    else:
        assert len(facts["classes"]) == {"binary": 1}.get(kind, len(world.bundle.task.output_names))
