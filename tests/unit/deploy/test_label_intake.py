"""Labels that clients send to an endpoint: on disk before the answer, and each once."""

import asyncio
import datetime as dt
import os

import httpx
import pytest

from bundles import fit
from mlsys import errors, recipe
from mlsys.deploy import asgi, label_files, label_intake
from mlsys.deploy.service import Service, load
from mlsys.monitor import label_store
from mlsys.registry import LedgerEntry
from mlsys.schema import TaskKind
from mlsys.store import Store


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("labels"))
    return {kind: load(store, LedgerEntry("late", 1, fit(store, kind).digest)) for kind in TaskKind}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(label_intake, "GATHER_S", 0.0)
    return Store.open(tmp_path)


@pytest.fixture
def client(store, bundles):
    return client_of(store, bundles[TaskKind.BINARY])


def client_of(store, model, **limits):
    service = Service("late", log=None)
    service.model = model
    bounds = recipe.LimitsSection(**limits)
    app = asgi.app(asgi.RequestHandler(service, bounds), [label_intake.route(store, service, bounds)])

    async def send(bodies):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
            return await asyncio.gather(*(opened.post("/labels", json=body) for body in bodies))

    return lambda *bodies: asyncio.run(send(bodies))


def labels(*rows):
    return {"labels": [dict(zip(("prediction_id", "label"), row, strict=True)) for row in rows]}


def test_labels_are_there_for_the_monitor_once_they_are_answered(store, client, bundles):
    (answer,) = client(labels(("a-1", True), ("a-2", "false"), ("a-3", None)))
    assert answer.status_code == 200
    assert answer.json()["received"] == 3
    (written,) = label_store.written(store, "late", bundles[TaskKind.BINARY].predictor.task)
    assert written.key == "prediction_id"
    assert dict(written.frame.select("key", "label").iter_rows()) == {"a-1": "true", "a-2": "false", "a-3": None}


def test_labels_that_come_twice_count_once_and_the_last_one_counts(store, client, bundles):
    for _ in range(2):
        client(labels(("a-1", True), ("a-2", True)))
    client(labels(("a-2", False)))
    (written,) = label_store.written(store, "late", bundles[TaskKind.BINARY].predictor.task)
    assert dict(written.frame.select("key", "label").iter_rows()) == {"a-1": "true", "a-2": "false"}


def test_times_and_ids_of_rows_are_kept(store, client, bundles):
    rows = [{"flight": 17, "label": True, "known_at": "2026-03-01T12:00:00+01:00", "at": "2026-02-28"}]
    (answer,) = client({"labels": rows})
    assert answer.status_code == 200, answer.text
    (written,) = label_store.written(store, "late", bundles[TaskKind.BINARY].predictor.task)
    assert (written.key, written.frame["key"].to_list()) == ("flight", ["17"])
    assert written.frame["known_at"].to_list() == [dt.datetime(2026, 3, 1, 11, tzinfo=dt.UTC)]
    assert written.frame["at"].to_list() == [dt.datetime(2026, 2, 28, tzinfo=dt.UTC)]


def test_requests_that_come_together_are_one_file(store, client):
    answers = client(*(labels((f"a-{number}", True)) for number in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert label_files.read(store, "late").height == 20
    assert len(list(label_files.folder_of(store, "late").glob("*.parquet"))) <= 3


def test_numbers_are_kept_to_the_bit(store, bundles):
    client = client_of(store, bundles[TaskKind.REGRESSION])
    values = [0.1, 1e-300, -2.5, 7, 123456789012345680.0]
    (answer,) = client(labels(*((str(place), value) for place, value in enumerate(values))))
    assert answer.status_code == 200
    (written,) = label_store.written(store, "late", bundles[TaskKind.REGRESSION].predictor.task)
    assert written.frame["label"].to_list() == values


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"prediction_id": "a"}, "labels"),
        ({"label": True}, "labels"),
        ({"prediction_id": "a", "flight": 1, "label": True}, "labels"),
        ({"prediction_id": "", "label": True}, "prediction_id"),
        ({"prediction_id": "x" * 257, "label": True}, "prediction_id"),
        ({"prediction_id": 1.5, "label": True}, "prediction_id"),
        ({"prediction_id": "a", "label": "maybe"}, "label"),
        ({"prediction_id": "a", "label": {"a": 1}}, "label"),
        ({"prediction_id": "a", "label": True, "known_at": "yesterday"}, "known_at"),
        ({"prediction_id": "a", "label": True, "at": 5}, "at"),
        ({"prediction_id": "a", "label": True, "lable": 5}, "lable"),
        (7, "labels"),
    ],
)
def test_what_is_no_label_is_refused_with_its_row_and_nothing_is_written(store, bundles, row, field):
    send = client_of(store, bundles[TaskKind.BINARY])
    (answer,) = send({"labels": [{"prediction_id": "a", "label": True}, row]})
    assert answer.status_code == 422, answer.text
    assert [(each["row"], each["field"]) for each in answer.json()["error"]["violations"]] == [(1, field)]
    assert label_files.read(store, "late").height == 0


@pytest.mark.parametrize("body", [{}, {"labels": 5}, {"labels": [], "more": 1}, []])
def test_a_body_of_another_form_is_refused(client, body):
    (answer,) = client(body)
    assert answer.status_code in (400, 422)


def test_a_label_that_no_file_can_hold_is_refused(bundles):
    body = b'{"labels": [{"prediction_id": "a", "label": "\\ud800"}]}'
    with pytest.raises(errors.RequestError) as caught:
        label_intake.parsed(body, bundles[TaskKind.BINARY], 10)
    assert [(each["field"], each["got"]) for each in caught.value.violations] == [("label", r"'\ud800'")]


@pytest.mark.parametrize("number", ["1" + "0" * 309, "-1" + "0" * 4000])
def test_an_integer_beyond_a_double_is_no_label(bundles, number):
    body = b'{"labels": [{"prediction_id": "a", "label": %s}]}' % number.encode()
    with pytest.raises(errors.RequestError) as caught:
        label_intake.parsed(body, bundles[TaskKind.REGRESSION], 10)
    assert [each["field"] for each in caught.value.violations] == ["label"]


@pytest.mark.parametrize("label", ['"many"', "true", "[1]", "1e999", "{}"])
def test_a_regression_takes_numbers_alone(bundles, label):
    body = b'{"labels": [{"prediction_id": "a", "label": %s}]}' % label.encode()
    with pytest.raises(errors.RequestError) as caught:
        label_intake.parsed(body, bundles[TaskKind.REGRESSION], 10)
    assert [each["field"] for each in caught.value.violations] == ["label"]


def test_more_labels_than_a_request_may_carry_are_413(store, bundles):
    client = client_of(store, bundles[TaskKind.BINARY], rows=2)
    (answer,) = client(labels(("a", True), ("b", True), ("c", True)))
    assert answer.status_code == 413


def test_a_disk_that_is_full_is_told_and_the_same_request_may_come_again(store, client, monkeypatch):
    whole = os.fsync

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    (answer,) = client(labels(("a", True)))
    assert answer.status_code == 503
    monkeypatch.setattr(os, "fsync", whole)
    (answer,) = client(labels(("a", True)))
    assert answer.status_code == 200
    assert label_files.read(store, "late").height == 1


def test_many_files_are_merged_and_say_the_same(store, bundles):
    task = bundles[TaskKind.BINARY].predictor.task
    frame = label_intake.parsed(b'{"labels": [{"prediction_id": "a", "label": true}]}', bundles[TaskKind.BINARY], 10)
    for number in range(label_files.MERGE_FILES + 3):
        key = frame.with_columns(key=frame["key"] + str(number % 40))
        said = "true" if number >= 40 else "false"
        label_files.append(store, "late", key.with_columns(label=frame["label"].replace("true", said)))
    assert len(list(label_files.folder_of(store, "late").glob("*.parquet"))) < 5
    (written,) = label_store.written(store, "late", task)
    found = dict(written.frame.select("key", "label").iter_rows())
    assert found == {f"a{number}": "true" if number < 27 else "false" for number in range(40)}
