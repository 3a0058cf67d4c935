"""Recipes for tables of every form: those of the repository, and those that `mlsys init` writes."""

import json
import time
import urllib.request

import pandas as pd
import pytest
from sklearn import datasets

from mlsys.deploy import prediction_log
from mlsys.store import read_json

QUICK = ("--set", "tune.trials=1", "--set", "split.folds=2", "--set", "evaluate.bootstrap=50")

WRITERS = {
    "parquet": (lambda frame, path: frame.to_parquet(path, index=False), QUICK),
    "jsonl": (
        lambda frame, path: frame.to_json(path, orient="records", lines=True),
        (*QUICK, "--set", "tune.trials=0", "--set", "selection.families=[linear]"),
    ),
}
"""How a table is written, and the settings that make its run quick: all families are compared on one of the two."""


def test_the_regression_recipe_runs_to_its_endpoint(command, store_root):
    done = command("mlsys", "run", "jobs/recipes/diabetes.yaml", *QUICK, "--set", "deploy.port=0")
    assert "Traceback" not in done.stderr
    evaluated = read_json(store_root / "runs" / "diabetes" / "result.json")["evaluate"]
    assert evaluated["metric"] == "rmse"
    assert {"rmse", "mae", "mape", "r2", "median_absolute_error"} <= set(evaluated["metrics"])
    assert all(found["low"] <= found["value"] <= found["high"] for found in evaluated["metrics"].values())


def test_an_answer_of_the_endpoint_leads_back_to_its_run_and_its_rows(command, store_root):
    """The id that a client got is all that is typed; the log has its row a second later."""
    result = read_json(store_root / "runs" / "diabetes" / "result.json")
    row = read_json(store_root / "objects" / "bundle" / result["train"]["bundle"] / "example.json")
    body = json.dumps({"instances": [row]}).encode()
    url, headers = f"{result['deploy']['endpoint']['url']}/invocations", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        (name,) = json.load(answer)["prediction_ids"]
    log = store_root / "predictions" / "diabetes"
    while name not in {each for table in prediction_log.read(log) for each in table["prediction_id"].to_pylist()}:
        time.sleep(0.1)
    traced = json.loads(command("mlsys", "lineage", name, "--json").stdout)
    (version,) = traced["versions"]
    assert (traced["kind"], traced["model"], len(traced["rows"])) == ("prediction", "diabetes", 1)
    assert (version["version"], version["digest"]) == (1, result["train"]["bundle"])
    assert version["snapshot"] == result["collect"]["snapshot"]
    assert version["gone"] == ["rows of 'sklearn://diabetes' came from no file: there is no digest of them"]
    told = command("mlsys", "why", version["run"][:8]).stdout
    assert f"diabetes: run {version['run'][:8]} of " in told
    assert " until monitor finished after " in told


def test_a_rollback_puts_the_version_before_back_into_the_running_endpoint(command, store_root):
    """Another family is version 2, promoted within a wide margin, which a person takes out and puts in again."""
    changed = [word for each in ("train.family=forest", "tune.trials=0", "deploy.margin=1") for word in ("--set", each)]
    second = ("mlsys", "deploy", "jobs/recipes/diabetes.yaml", *QUICK, *changed)
    command(*second)
    url = read_json(store_root / "runs" / "diabetes" / "result.json")["deploy"]["endpoint"]["url"]
    assert version_at(url) == "2"
    rolled_back = command("mlsys", "rollback", "diabetes", "--reason", "odd").stdout
    assert "diabetes@champion is version 1" in rolled_back
    assert f"{url} answers with it" in rolled_back
    assert version_at(url) == "1"
    assert "version 2 is registered, champion stays version 1" in command(*second).stdout
    assert version_at(url) == "1"
    command("mlsys", "promote", "diabetes@2", "--reason", "it was the data")
    assert version_at(url) == "2"
    (served,) = json.loads(command("mlsys", "status", "--json").stdout)["endpoints"]
    assert (served["name"], served["version"], served["alias"], served["url"]) == ("diabetes", 2, "champion", url)
    moves = json.loads(command("mlsys", "history", "diabetes", "--alias", "champion", "--json").stdout)
    reasons = [line["reason"] for line in moves if line["kind"] in ("move", "rollback")]
    assert (reasons[0], *reasons[2:]) == ("passed its gate", "odd", "it was the data")
    assert reasons[1].startswith("passed its gate; ")
    assert "the champion" in reasons[1]


def version_at(url):
    with urllib.request.urlopen(f"{url}/v2/models/diabetes", timeout=60) as answer:
        return json.load(answer)["versions"][0]


@pytest.mark.parametrize("form", WRITERS)
def test_a_recipe_that_init_writes_runs_without_edits(command, store_root, tmp_path, form):
    frame = datasets.load_breast_cancer(as_frame=True).frame
    labels = frame["target"].map({0: "malignant", 1: "benign"})
    frame = pd.concat([frame.drop(columns="target").iloc[:, :8], labels.rename("diagnosis")], axis=1)
    write, quick = WRITERS[form]
    write(frame, tmp_path / f"cells.{form}")
    recipe = tmp_path / f"{form}.yaml"
    command("mlsys", "init", tmp_path / f"cells.{form}", "--target", "diagnosis", "--output", recipe)
    command("mlsys", "evaluate", recipe, *quick)
    records = read_json(store_root / "runs" / "cells" / "result.json")
    assert records["collect"]["task"]["classes"] == ["benign", "malignant"]
    assert records["evaluate"]["passed"]
