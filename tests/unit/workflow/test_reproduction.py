"""A version is made again from its receipt: the same digest, or what differs and how much that does."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

import mlsys
from mlsys import bundle, registry
from mlsys.cli import app
from mlsys.dataset import Split
from mlsys.evaluate import access_log
from mlsys.predict import Predictor
from mlsys.registry import ledger
from mlsys.store import Store
from mlsys.workflow import receipts, reproduction
from mlsys.workflow.reproduction import Difference, Origin

RECIPE = {"name": "wine", "target": "target", "data": {"source": "sklearn://wine"}}
QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with one version of `wine`."""
    root = tmp_path_factory.mktemp("store")
    done = mlsys.run(RECIPE, "train", set=QUICK, store=root, cluster=False, quiet=True)
    store = Store.open(root)
    registry.register(store, "wine", bundle.open(store, done.bundle))
    return root


@pytest.fixture
def store(trained, tmp_path):
    """A copy of it, which a test may change."""
    shutil.copytree(trained, tmp_path / "store")
    return Store.open(tmp_path / "store")


def changed(store, change):
    """Change the receipt of the version."""
    file = store.path("bundle", registry.resolve(store, "wine", 1).digest) / receipts.FILE
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def reproduce(store):
    return reproduction.reproduce(store, Origin.resolve(store, "wine@1"))


def test_the_same_digest_comes_back_and_nothing_that_serves_is_touched(store):
    before = ledger.path(store).read_bytes()
    done = reproduce(store)
    assert done.is_equal, done.summary
    assert (done.exit_code, done.differences, done.unequal_files) == (0, (), ())
    assert done.replay.num_fits == 4  # two candidates on two folds
    assert done.summary == (f"wine version 1, bundle {done.digest[:12]}: made again from its receipt, it is the same")
    assert ledger.path(store).read_bytes() == before
    assert not (store.root / "openings").exists()  # the same bundle gives the same predictions: nobody looked


def test_other_code_and_libraries_are_listed_also_where_they_change_nothing(store):
    def change(receipt):
        receipt["code"]["mlsys.models.families.linear"] = "0" * 16
        receipt["code"]["mlsys.gone"] = "1" * 16
        receipt["libraries"]["numpy"] = "0.1"

    changed(store, change)
    done = reproduce(store)
    assert done.is_equal
    assert [(each.kind, each.where, each.then) for each in done.differences] == [
        ("code", "mlsys.gone", "1" * 16),
        ("code", "mlsys.models.families.linear", "0" * 16),
        ("library", "numpy", "0.1"),
    ]
    assert (done.differences[0].now, done.differences[2].now) == ("none", np.__version__)
    assert done.summary.splitlines()[0].endswith("it is the same; what differs has no effect on it")
    line = f"  library  {'numpy':<28}  {'0.1':<16}  {np.__version__}"
    assert line in done.summary.splitlines()


def test_another_schedule_gives_another_bundle_with_files_and_the_largest_difference(store):
    changed(store, lambda receipt: receipt["steps"]["tune"]["params"].update(l2=77.0))
    done = reproduce(store)
    assert (done.is_equal, done.exit_code) == (False, 5)
    assert "bundle.json" in done.unequal_files
    assert any(name.startswith("model/") for name in done.unequal_files)
    assert Difference("result", "params.l2", "1.0", "77.0") in done.differences
    split = Split.open(store, bundle.open(store, done.digest).provenance["split"]).only("test")
    table = split.table("test")
    outputs = [
        Predictor(bundle.open(store, each)).table(table).probabilities for each in (done.digest, done.reproduced)
    ]
    largest = max(abs(a - b) for left, right in zip(*outputs, strict=True) for a, b in zip(left, right, strict=True))
    assert done.largest_difference == largest > 0.01
    assert done.num_test_rows == table.num_rows == 27
    assert f"predictions of 27 test rows differ by {largest:.3g} at most" in done.summary
    (opening,) = access_log.read(store, access_log.digest_of_rows(split))
    assert opening.reason == f"a reproduction of bundle {done.digest[:12]}"
    assert [entry.version for entry in registry.versions(store, "wine")] == [1]


def test_a_snapshot_that_is_gone_is_listed_and_the_divided_rows_are_enough(store):
    (snapshot,) = (store.root / "objects" / "snapshot").iterdir()
    shutil.rmtree(snapshot)
    done = reproduce(store)
    assert done.is_equal
    assert done.differences == (Difference("object", "snapshot", snapshot.name, "not in the store"),)


def test_without_its_rows_a_version_cannot_be_made_again(store):
    (split,) = (store.root / "objects" / "split").iterdir()
    shutil.rmtree(split)
    done = reproduce(store)
    assert (done.reproduced, done.exit_code, done.replay) == (None, 5, None)
    assert done.summary == (
        f"wine version 1, bundle {done.digest[:12]}: cannot be made again: what is missing stands below\n"
        "  differs         then          now\n"
        f"  object   split  {split.name[:12]}  not in the store"
    )


def test_a_recipe_that_this_version_cannot_read_is_said_to_be_one(store):
    def change(receipt):
        receipt["recipe"] = receipt["recipe"].replace("\nbudget:", "\nbugdet:")

    changed(store, change)
    done = reproduce(store)
    assert done.reproduced is None
    (difference,) = done.differences
    assert (difference.kind, difference.where) == ("recipe", "unknown key 'bugdet'")
    assert "did you mean 'budget'?" in difference.now


def test_a_value_that_the_recipe_did_not_have_then_is_listed_with_todays_default(store):
    def change(receipt):
        receipt["recipe"] = receipt["recipe"].replace("seed: 0\n", "", 1)

    changed(store, change)
    done = reproduce(store)
    assert done.is_equal
    assert done.differences == (Difference("recipe", "seed", "none", "0"),)


def test_the_verb_ends_with_5_and_prints_the_same_as_json(store):
    shutil.rmtree(store.root / "objects" / "split")
    done = CliRunner().invoke(app, ["reproduce", "wine@1", "--json", "--store", str(store.root)])
    assert done.exit_code == 5
    value = json.loads(done.stdout)
    assert (value["name"], value["version"], value["equal"], value["reproduced"]) == ("wine", 1, False, None)
    assert [each["where"] for each in value["differences"]] == ["split"]
    text = CliRunner().invoke(app, ["reproduce", "wine@1", "--store", str(store.root)])
    assert "cannot be made again" in text.stdout
