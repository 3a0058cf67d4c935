from __future__ import annotations

import asyncio
import base64
import json
import pickle
import threading
import time

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import batches
from bundles import stored
from mlsys import errors, images
from mlsys.deploy import asgi, batch_worker, bodies
from mlsys.deploy.batch_job import BatchCounts
from mlsys.deploy.batch_worker import predict_fragments
from mlsys.deploy.openapi import document
from mlsys.deploy.service import Service, load
from mlsys.readers import folders
from mlsys.readers import registry as readers
from mlsys.recipe import LimitsSection, Reading
from mlsys.registry import LedgerEntry
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.store import Store
from pictures import encoded, striped

LIMIT = 200_000
BROKEN = encoded(striped(upright=True))[:-40]
LARGE = encoded(Image.new("1", (6000, 6000)))
SCHEMA = Schema(
    columns=(
        Column(name="photo", type="binary", kind=Kind.IMAGE),
        Column(name="standing", type="bool", kind=Kind.CATEGORICAL, role=Role.TARGET),
    )
)


def photos(count, first=0):
    return [encoded(striped(n % 2 == 0, seed=first + n), "PNG" if n % 3 else "JPEG") for n in range(count)]


def stripes(store, family):
    """A stored model of stripes that stand or lie."""
    data = photos(80)
    table = pa.table({"photo": data, "standing": [n % 2 == 0 for n in range(80)]}, schema=SCHEMA.arrow())
    task = Task(kind=TaskKind.BINARY, target="standing", classes=(False, True))
    return stored(store, table, SCHEMA, task, family, example={"photo": base64.b64encode(data[0]).decode()})


@pytest.fixture(scope="module", params=["linear", "xgboost"])
def loaded(tmp_path_factory, request):
    store = Store.open(tmp_path_factory.mktemp("pictures"))
    return load(store, LedgerEntry("stripes", 1, stripes(store, request.param).digest))


@pytest.fixture
def post(loaded):
    service = Service("stripes", log=None)
    service.model = loaded
    app = asgi.app(asgi.RequestHandler(service, LimitsSection(body_bytes=LIMIT)))

    async def send(path, body):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, json=body)

    return lambda path, body: asyncio.run(send(path, body))


def forms(data):
    texts = [base64.b64encode(one).decode() for one in data]
    tensor = {"name": "photo", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return {
        "dataframe_records": {"dataframe_records": [{"photo": text} for text in texts]},
        "dataframe_split": {"dataframe_split": {"columns": ["photo"], "data": [[text] for text in texts]}},
        "instances": {"instances": [[text] for text in texts]},
        "inputs": {"inputs": {"photo": texts}},
        "infer": {"inputs": [tensor]},
    }


@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "instances", "inputs", "infer"])
@pytest.mark.parametrize("num_rows", [1, 30])
def test_pictures_are_sent_as_base64_in_every_form(loaded, post, form, num_rows):
    data = photos(num_rows, first=100)
    path = "/v2/models/stripes/infer" if form == "infer" else "/invocations"
    answer = post(path, forms(data)[form])
    assert answer.status_code == 200
    body = answer.json()
    predictions = body["outputs"][0]["data"] if form == "infer" else body["predictions"]
    assert predictions == [n % 2 == 0 for n in range(num_rows)]
    assert predictions == loaded.predictor.table(pa.table({"photo": data})).prediction.tolist()


@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "instances", "inputs", "infer"])
def test_pictures_of_more_pixels_than_allowed_are_refused_by_their_headers(loaded, form, monkeypatch):
    service = Service("stripes", log=None)
    service.model = loaded
    handler = asgi.RequestHandler(service, LimitsSection(pixels=10_000))
    monkeypatch.setattr(images, "decode", lambda *_: pytest.fail("decoded"))
    small = encoded(striped(True, seed=1), "PNG")
    body = bodies.Body(json.dumps(forms([small] * 40)[form]).encode())
    protocol = asgi.OPEN_INFERENCE if form == "infer" else asgi.MLFLOW
    answer = asyncio.run(handler.answer(protocol, body, time.monotonic()))
    assert answer.status_code == 413
    assert "deploy.limits.pixels" in bytes(answer.body).decode()


def test_pictures_are_decoded_outside_of_the_event_loop(loaded, monkeypatch):
    service = Service("stripes", log=None)
    service.model = loaded
    decode, threads = images.decode, []
    monkeypatch.setattr(
        images, "decode", lambda *args, **how: threads.append(threading.get_ident()) or decode(*args, **how)
    )
    handler = asgi.RequestHandler(service, LimitsSection())
    body = bodies.Body(json.dumps(forms(photos(1))["instances"]).encode())
    assert len(body.sent) < asgi.SMALL_BODY_BYTES
    answer = asyncio.run(handler.answer(asgi.MLFLOW, body, time.monotonic()))
    assert answer.status_code == 200
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "instances", "inputs", "infer"])
def test_a_picture_that_does_not_decode_is_a_422_that_names_it(post, form):
    path = "/v2/models/stripes/infer" if form == "infer" else "/invocations"
    answer = post(path, forms([photos(1)[0], BROKEN, b"no picture", LARGE])[form])
    assert answer.status_code == 422
    body = answer.json()
    expected = "base64 text of a PNG or JPEG"
    assert (body if form == "infer" else body["error"])["violations"] == [
        {"row": 1, "field": "photo", "got": f"{len(BROKEN)} bytes: cut short or damaged", "expected": expected},
        {"row": 2, "field": "photo", "got": "10 bytes: neither PNG nor JPEG", "expected": expected},
        {"row": 3, "field": "photo", "got": f"{len(LARGE):,} bytes: more than 33,554,432 pixels", "expected": expected},
    ]


def test_what_is_no_base64_is_a_422_too(post):
    fault = post("/invocations", {"instances": [{"photo": "photo.png"}]}).json()["error"]["violations"][0]
    assert (fault["got"], fault["expected"]) == ("text 'photo.png'", "base64 text of a PNG or JPEG")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(post):
    assert post("/invocations", {"instances": [{"photo": "A" * LIMIT}]}).status_code == 413


def test_the_document_says_what_a_picture_is(loaded):
    found = document(loaded, "")["components"]["schemas"]["Record"]["properties"]["photo"]
    assert found == {
        "type": ["string", "null"],
        "contentEncoding": "base64",
        "description": "a PNG or JPEG of at most 33,554,432 pixels",
    }


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("batch"))
    return store, LedgerEntry("stripes", 1, stripes(store, "linear").digest)


@pytest.mark.parametrize("form", ["parquet", "jsonl", "folder"])
def test_files_of_pictures_are_predicted_and_broken_ones_set_aside(champion, tmp_path, monkeypatch, form):
    monkeypatch.setattr(folders, "IMAGE_ROWS", 4)
    data = [*photos(9, first=200), BROKEN]
    source = tmp_path / f"in.{form}"
    names = [f"{number}.png" for number in range(10)]
    if form == "parquet":
        pq.write_table(pa.table({"photo": data, "file": names}), source)
    elif form == "jsonl":
        rows = zip(forms(data)["instances"]["instances"], names, strict=True)
        source.write_text("".join(json.dumps({"photo": text, "file": name}) + "\n" for (text,), name in rows))
    else:
        (source / "of" / "photos").mkdir(parents=True)
        names = [f"of/photos/{name}" for name in names]
        for name, one in zip(names, data, strict=True):
            (source / name).write_bytes(one)
    store, entry = champion
    job = batches.job_of(store, entry, readers.find(source, Reading()), tmp_path / "out", ("file",))
    finished = predict_fragments(*pickle.loads(pickle.dumps(job)))  # as a worker gets it
    count = BatchCounts.total(each.counts for each in finished)
    assert (count.num_rows, count.num_rejected) == (10, 1)
    found = pq.read_table(tmp_path / "out" / finished[0].files[0])
    assert found["file"].to_pylist() == names[:9]
    assert found["prediction"].to_pylist() == [n % 2 == 0 for n in range(9)]
    rejected = pq.read_table(tmp_path / "out" / "_rejected").to_pylist()[0]
    assert rejected["reasons"].startswith(f"photo: got {len(BROKEN)} bytes: cut short or damaged")
    assert rejected["row"] == 9
    content = json.loads(rejected["content"])
    assert content["file"] == names[9]
    if form != "folder":
        assert base64.b64decode(content["photo"]) == BROKEN


def test_a_folder_of_pictures_needs_a_model_of_one_column_of_images(tmp_path):
    (tmp_path / "a.png").write_bytes(photos(1)[0])
    (fragment,) = readers.find(tmp_path, Reading())
    assert batch_worker._column_names(fragment, SCHEMA, ["file", "label", "image"]) == {"photo": "image"}
    with pytest.raises(errors.SourceError, match="a model that reads no columns of images"):
        batch_worker._column_names(fragment, Schema(columns=(SCHEMA["standing"],)), ["file", "label", "image"])


def test_pictures_beside_tables_are_no_rows_but_what_the_tables_name(champion, tmp_path):
    (tmp_path / "a.png").write_bytes(photos(1)[0])
    (tmp_path / "a.csv").write_text("photo\na.png\nb.png\n")
    (fragment,) = readers.find(tmp_path, Reading())
    store, entry = champion
    (finished,) = predict_fragments(*batches.job_of(store, entry, [fragment], tmp_path / "out"))
    count = finished.counts
    assert (count.num_rows, count.num_rejected) == (2, 1)
    assert count.first_reasons.startswith("photo: got text 'b.png': no file there that can be read")
