"""Tables in Arrow's IPC stream format as bodies: the answers of JSON, and no bytes that harm."""

import gzip
import io

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import fit, rows
from mlsys import errors, recipe
from mlsys.deploy import arrow_bodies, asgi
from mlsys.deploy.bodies import ARROW
from mlsys.deploy.requests import Bounds
from mlsys.deploy.service import Service, load
from mlsys.registry import LedgerEntry
from mlsys.schema import TaskKind
from mlsys.store import Store

LIMIT = 1 << 20


def stream(table, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parse(body, **changes):
    return arrow_bodies.parse(
        body, changes.pop("bounds", Bounds(1_000, 50)), changes.pop("most_bytes", LIMIT), **changes
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("arrow"))
    service = Service("late", log=None)
    service.model = load(store, LedgerEntry("late", 3, fit(store, TaskKind.BINARY).digest))
    return service


@pytest.fixture(scope="module")
def post(service):
    app = asgi.app(asgi.RequestHandler(service, recipe.LimitsSection(body_bytes=LIMIT)))

    async def send(body, path="/invocations", **headers):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, content=body, headers={"Content-Type": ARROW, **headers})

    import asyncio

    return lambda *args, **how: asyncio.run(send(*args, **how))


def table_of(service, num_rows):
    """Rows as a client has them: the model's columns alone, texts as a dictionary."""
    table = rows(num_rows, 7).select(service.model.predictor.contract.order)
    for name in table.column_names:
        if pa.types.is_string(table.schema.field(name).type):
            table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    return table


@pytest.mark.parametrize("num_rows", [1, 16, 17, 200])
def test_a_table_is_answered_with_the_bits_of_the_process(service, post, num_rows):
    table = table_of(service, num_rows)
    answer = post(stream(table))
    assert answer.status_code == 200, answer.text
    expected = service.model.predictor.table(table)
    assert np.array(answer.json()["probabilities"]).tobytes() == expected.probabilities.tobytes()
    assert len(set(answer.json()["prediction_ids"])) == num_rows


def test_a_table_may_be_packed_as_a_whole(service, post):
    body = gzip.compress(stream(table_of(service, 50)))
    assert post(body, **{"Content-Encoding": "gzip"}).status_code == 200


@pytest.mark.parametrize("num_rows", [2, 40])
def test_a_column_names_the_rows(service, post, num_rows):
    names = [f"row {number}" for number in range(num_rows)]
    table = table_of(service, num_rows).append_column("prediction_id", pa.array(names))
    assert post(stream(table)).json()["prediction_ids"] == names


def test_rows_that_do_not_fit_are_named(service, post):
    name = service.model.predictor.contract.order[0]
    table = table_of(service, 20).set_column(0, name, pa.array(["many"] * 20))
    answer = post(stream(table))
    assert answer.status_code == 422
    assert answer.json()["error"]["violations"][0]["field"] == name


def test_tensors_have_no_such_form(post, service):
    assert post(stream(table_of(service, 1)), path="/v2/models/late/infer").status_code == 415


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize(
    "table", [pa.table({"x": [0.0] * 4_000}), pa.table({"x": pa.array(["a"] * 9).dictionary_encode()})]
)
def test_packed_buffers_are_refused_before_they_are_unpacked(table, codec):
    with pytest.raises(errors.PayloadError, match="pack the body by Content-Encoding"):
        parse(stream(table, compression=codec), bounds=Bounds(10_000, 9))


def test_a_dictionary_of_long_texts_is_measured_before_it_is_written_out():
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 900, pa.int32()), pa.array(["x" * 10_000]))
    body = stream(pa.table({"x": texts}))
    assert len(body) < 20_000
    with pytest.raises(errors.PayloadError, match="larger body") as caught:
        parse(body)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    ("table", "limits", "got"),
    [
        (pa.table({"x": range(1_001)}), {}, "1,001 rows"),
        (pa.table({f"x{k}": [1] for k in range(51)}), {}, "51 columns"),
        (pa.table({"x": [0.0] * 900}), {"most_bytes": 7_000}, "a larger body"),
    ],
)
def test_more_than_allowed_is_too_large(table, limits, got):
    with pytest.raises(errors.PayloadError, match=got) as caught:
        parse(stream(table), **limits)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    ("table", "field", "got"),
    [
        (pa.table({"x": [{"a": 1}]}), "x", "struct<a: int64>"),
        (pa.table({"x": pa.array(["a"], pa.string_view())}), "x", "string_view"),
        (pa.table({"x": pa.RunEndEncodedArray.from_arrays([3], ["a"])}), "x", "run_end_encoded"),
        (pa.table([[1], [2]], names=["x", "x"]), "x", "2 columns of this name"),
        (pa.table({"x": [1], "prediction_id": [7]}), "prediction_id", "a number"),
    ],
)
def test_columns_that_no_model_has_are_named(table, field, got):
    with pytest.raises(errors.RequestError) as caught:
        parse(stream(table))
    (violation,) = caught.value.violations
    assert violation["field"] == field
    assert violation["got"].startswith(got)


WHOLE = stream(
    pa.table({"x": [1.0, None, 3.0], "y": pa.array(["a", "b", None]).dictionary_encode(), "z": ["p", "q", "r"]})
)


@pytest.mark.parametrize("body", [b"", b"{}", b"ARROW1\0\0", WHOLE[: len(WHOLE) // 2], b"\xff" * 64, WHOLE[8:]])
def test_other_bytes_are_no_table(body):
    with pytest.raises(errors.PayloadError, match="Arrow IPC stream"):
        parse(body)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_are_a_table_or_a_fault_of_the_client(changes):
    damaged = bytearray(WHOLE)
    for place, byte in changes:
        damaged[place] = byte
    try:
        request = parse(bytes(damaged))
    except (errors.PayloadError, errors.RequestError):
        return
    assert all(len(column) == request.num_rows for column in request.columns.values())
    assert len(request.as_records()) == request.num_rows
