"""A recipe with pictures whose classes only a convolution tells apart, from the files to the answers of an endpoint."""

from __future__ import annotations

import asyncio
import base64

import httpx
import numpy as np
import pyarrow as pa
import pytest

from mlsys import bundle, errors, recipe, workflow
from mlsys.deploy import asgi
from mlsys.deploy.service import Service, load
from mlsys.predict import Predictor
from mlsys.recipe import LimitsSection
from mlsys.registry import LedgerEntry
from mlsys.store import Store
from mlsys.workflow import Run
from pictures import encoded, folder, paired

SIDE, NUM_PICTURES = 16, 700
PRESENT = ("linear", "xgboost")
"""Families that take pictures as levels, gradients and pixels."""


def run(at, text, until):
    return workflow.run(Run(recipe.parse(text), Store.open(at / "store")), until=until)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    at = tmp_path_factory.mktemp("run")
    photos = folder(at / "photos", NUM_PICTURES, SIDE, draw=paired)
    (photos / "lying" / "0001.png").write_bytes(b"a page that says 404")
    text = f"""
    name: dots
    target: label
    budget: none
    data: {{source: {photos}}}
    split: {{folds: 2}}
    selection: {{families: [{", ".join(PRESENT)}, convolution]}}
    train: {{params: {{epochs: 16, width: 8}}, family: convolution}}
    tune: {{trials: 0}}
    evaluate: {{bootstrap: 20}}
    """
    return run(at, text, "evaluate")


def test_it_is_preferred_where_neighbours_tell_the_classes_apart(done):
    entries = done.results["selection"].leaderboard["entries"]
    scores = {entry["family"]: entry["mean"] for entry in entries}
    assert done.results["selection"].preferred == "convolution"
    assert scores["convolution"] > max(scores[name] for name in PRESENT) + 0.1


def test_the_features_are_pixels_for_it_alone_and_a_picture_that_is_none_is_left_out(done):
    assert done.records["collect"]["taken"]["num_quarantined"] == 1
    widths = done.results["features"].num_features
    assert widths["pixels"] == 3 * SIDE * SIDE
    assert "pixels" not in done.records["features"]["used"]


def test_the_model_is_judged_and_passes(done):
    measured = done.records["evaluate"]["metrics"]
    assert measured["roc_auc"]["value"] > 0.95
    assert done.records["evaluate"]["passed"]


@pytest.fixture(scope="module")
def stored(done):
    return bundle.open(done.store, done.results["train"].bundle)


def test_the_bundle_says_what_fitted_it(stored):
    assert stored.family == "convolution"
    assert stored.provenance["versions"]["torch"]
    assert 1 <= stored.provenance["rounds"] <= 16


def test_the_endpoint_answers_as_the_table_and_as_each_row_alone(done, stored):
    service = Service("dots", log=None)
    service.model = load(done.store, LedgerEntry("dots", 1, stored.digest))
    app = asgi.app(asgi.RequestHandler(service, LimitsSection()))
    data = [encoded(paired(n % 2 == 0, SIDE, 50_000 + n)) for n in range(40)]
    body = {"instances": [{"image": base64.b64encode(each).decode()} for each in data]}

    async def post():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            return await client.post("/invocations", json=body)

    answers = asyncio.run(post()).json()["predictions"]
    predicted = Predictor(stored).table(pa.table({"image": data}))
    assert answers == predicted.prediction.tolist()
    assert np.mean([(answer == "standing") == (n % 2 == 0) for n, answer in enumerate(answers)]) > 0.85
    alone = [Predictor(stored).rows([{"image": each}]).score.tolist()[0] for each in data[:5]]
    assert alone == predicted.score.tolist()[:5]


@pytest.mark.parametrize("where", ["selection: {families: [convolution]}", "train: {family: convolution}"])
def test_a_table_without_pictures_is_refused_before_the_first_fit(tmp_path, where):
    rows = "\n".join(f"{n % 7},{n % 3},{n % 2}" for n in range(200))
    (tmp_path / "rows.csv").write_text(f"a,b,y\n{rows}\n")
    text = f"""
    name: plain
    target: y
    data: {{source: {tmp_path / "rows.csv"}}}
    tune: {{trials: 0}}
    {where}
    """
    with pytest.raises(errors.FeatureError) as raised:
        run(tmp_path, text, "train")
    assert str(raised.value).splitlines()[0] == "models: family 'convolution'"
    assert "no column of pictures in use (a: " in str(raised.value)
    assert "data.kinds: {column: image}" in str(raised.value)
