"""Ids of rows that are sent again."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.dataset import Split
from mlsys.deploy import replay_rows
from mlsys.schema import Column, Kind, Role, Schema

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
