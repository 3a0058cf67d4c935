"""A recipe under a second name, and what is lost of a store, on a running cluster: the next run makes it again."""

import json
import shutil
import urllib.request

import pytest

import mlsys
from mlsys import registry
from mlsys.store import Store, read_json

WINE = {"name": "wine", "target": "target", "data": {"source": "sklearn://wine"}, "deploy": {"port": 0}}
QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2, "deploy.max_replicas": 1}


@pytest.fixture(scope="module")
def own(endpoints, tmp_path_factory):
    """A store that did not start the cluster; nothing here needs MLflow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        yield Store.open(tmp_path_factory.mktemp("rebuilt"))


def deployed(own, **values):
    """Run the recipe up to its endpoint; the name, version and digest of the answers."""
    done = mlsys.run({**WINE, **values}, "deploy", set=QUICK, store=own.root, quiet=True)
    with urllib.request.urlopen(f"{done.url}/ready", timeout=30) as answer:
        model = json.load(answer)["model"]
    assert model["digest"] == done.bundle
    return model["name"], model["version"], model["digest"]


@pytest.fixture(scope="module")
def digest(own):
    """That of the model which the first run made and serves."""
    name, version, digest = deployed(own)
    assert (name, version) == ("wine", 1)
    return digest


def test_the_same_recipe_under_a_second_name_is_served_beside_the_first(own, digest):
    assert deployed(own, name="again") == ("again", 1, digest)
    assert deployed(own) == ("wine", 1, digest)


@pytest.mark.parametrize("lost", ["registry", "runs/wine", "runs", "steps"])
def test_a_folder_that_is_lost_is_made_again_by_the_next_run(own, digest, lost):
    shutil.rmtree(own.root / lost)
    assert deployed(own) == ("wine", 1, digest)
    assert registry.resolve(own, "wine").digest == digest
    assert read_json(own.root / "runs" / "wine" / "result.json")["deploy"]["bundle"] == digest
    assert (own.root / "runs" / "wine" / "reports" / "evaluate.html").is_file()
