"""Ids of rows that are sent again."""

import base64
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from mlsys.dataset import Split
from mlsys.deploy import replay_rows
from mlsys.recipe import LimitsSection
from mlsys.schema import Column, Kind, Role, Schema
from pictures import encoded, noise

SCHEMA = Schema(
    columns=(
        Column(name="at", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME, role=Role.TIME),
        Column(name="x", type="double", kind=Kind.NUMERIC),
    )
)


def split(folder, rows):
    """A part of these (time, x, y) rows in files of two."""
    (folder / "production").mkdir(parents=True)
    for start in range(0, len(rows), 2):
        at, x, y = zip(*rows[start : start + 2], strict=True)
        table = pa.table({"at": pa.array(at, pa.timestamp("us", "UTC")), "x": pa.array(x, pa.float64()), "y": y})
        pq.write_table(table, folder / "production" / f"part-{start}.parquet")
    return Split("d", folder, SCHEMA, {"production": len(rows)}, 2, forward=True)


def sent(division):
    return list(replay_rows.chunks(division, "production", SCHEMA, ["y"]))


def ids(division):
    return [name for chunk in sent(division) for name in chunk.ids]


def test_a_row_that_is_sent_again_has_the_same_id_whatever_part_it_is_in(tmp_path):
    rows = [(1, 0.5, 0), (2, None, 1), (3, 0.5, 1)]
    first, again = ids(split(tmp_path / "a", rows)), ids(split(tmp_path / "b", [(0, 9.0, 1), *rows]))
    assert len(set(again)) == 4
    assert set(first) < set(again)


def test_equal_rows_have_ids_of_their_own(tmp_path):
    division = split(tmp_path / "a", [(1, 0.5, 0)] * 5)
    assert len(set(ids(division))) == 5
    assert ids(division) == ids(division)


def test_the_body_carries_the_ids_and_the_values_of_the_request_alone(tmp_path):
    (first, second) = sent(split(tmp_path / "a", [(2, float("nan"), 0), (1, 0.5, 1), (3, 1.0, 1)]))
    body = json.loads(first.body)
    assert body["dataframe_split"] == {
        "columns": ["at", "x"],
        "data": [["1970-01-01T00:00:00.000001Z", 0.5], ["1970-01-01T00:00:00.000002Z", None]],
    }
    assert body["params"]["prediction_ids"] == first.ids
    assert first.others["y"].to_pylist() == [1, 0]
    assert len(second.ids) == 1


def bodies(folder, values, kind, **limits):
    column = Column(name="x", type=str(kind), kind=Kind.IMAGE if kind == pa.binary() else Kind.TEXT)
    schema = Schema(columns=(column,))
    (folder / "production").mkdir(parents=True)
    pq.write_table(pa.table({"x": pa.array(values, kind)}), folder / "production" / "part-0.parquet")
    division = Split("d", folder, schema, {"production": len(values)}, 2, forward=True)
    chunks = list(replay_rows.chunks(division, "production", schema, limits=LimitsSection(**limits)))
    rows = [row for chunk in chunks for row in json.loads(chunk.body)["dataframe_split"]["data"]]
    return chunks, rows


@given(st.lists(st.text(max_size=300), min_size=1, max_size=30), st.integers(1, 10))
def test_a_request_keeps_the_limits_of_the_endpoint(values, most):
    """Letters that JSON writes as six bytes count as six."""
    with tempfile.TemporaryDirectory() as folder:
        chunks, rows = bodies(Path(folder), values, pa.string(), body_bytes=4_096, rows=most)
    assert rows == [[value] for value in values]
    assert max(len(chunk.body) for chunk in chunks) <= 4_096
    assert max(len(chunk.ids) for chunk in chunks) <= most


def test_pictures_are_sent_as_base64_and_no_more_pixels_than_the_endpoint_takes(tmp_path):
    pictures = [encoded(noise(20, 30))] * 5
    chunks, rows = bodies(tmp_path, [*pictures, None], pa.binary(), pixels=1_200)
    assert [len(chunk.ids) for chunk in chunks] == [2, 2, 2]
    assert rows == [[base64.b64encode(picture).decode()] for picture in pictures] + [[None]]
