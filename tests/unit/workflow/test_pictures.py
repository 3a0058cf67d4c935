from __future__ import annotations

import json

import pytest

from mlsys import bundle, recipe, workflow
from mlsys.predict import Predictor
from mlsys.store import Store
from mlsys.workflow import Run
from pictures import folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A recipe of three lines over a folder of pictures, from the files to the judged bundle."""
    at = tmp_path_factory.mktemp("run")
    photos = folder(at / "photos", 100)
    (photos / "lying" / "0001.png").write_bytes(b"a page that says 404")
    text = f"""
    name: stripes
    target: label
    data: {{source: {photos}}}
    selection: {{families: [dummy, linear]}}
    tune: {{trials: 0}}
    evaluate: {{bootstrap: 20}}
    """
    return workflow.run(Run(recipe.parse(text), Store.open(at / "store")), until="evaluate")


def test_a_folder_of_pictures_becomes_a_judged_model_with_a_recipe_of_three_lines(run):
    assert run.records["collect"]["taken"]["num_quarantined"] == 1
    assert run.records["features"]["used"] == ["image"]
    assert run.records["selection"]["preferred"] == "linear"
    assert run.records["evaluate"]["metrics"]["roc_auc"]["value"] > 0.95
    assert run.records["evaluate"]["passed"]


def test_the_report_of_the_pictures_is_plain_json(run):
    profile = json.loads((run.folder / "reports" / "explore.json").read_text())
    column = next(column for column in profile["columns"] if column["name"] == "image")
    assert column["kind"] == "image"


@pytest.fixture(scope="module")
def trained(run):
    return bundle.open(run.store, run.results["train"].bundle)


def test_the_bundle_knows_what_its_pictures_look_like(run, trained):
    looks = trained.reference.images
    assert looks.columns["image: width"].num_rows == run.results["collect"].num_rows["train"]
    assert looks.columns["image: width"].numbers.minimum == looks.columns["image: height"].numbers.maximum == 24


def test_the_example_of_the_bundle_can_be_sent(trained):
    example = trained.example
    assert set(example) == {"file", "image"}
    assert Predictor(trained).rows([example]).prediction.tolist()[0] in {"lying", "standing"}
