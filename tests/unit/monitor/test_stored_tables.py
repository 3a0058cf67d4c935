"""Rows of tables are made anew only for windows that rows came into."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys.monitor import judge
from mlsys.monitor.metric_tables import DRIFT
from mlsys.monitor.stored_tables import FILES, EarlierRows, StoredTables
from traffic import MONDAY, WEEK, Traffic, World, logged


@pytest.fixture
def kept(made, tmp_path):
    """A world whose state lies in a store of its own."""
    store, bundle = made
    copy = type(store).open(tmp_path / "store")
    shutil.copytree(store.path("bundle", bundle.digest), copy.root / "objects" / "bundle" / bundle.digest)
    return World(copy, bundle, tmp_path / "log", {})


def judged(world, number):
    traffic = Traffic.draw(400, number, shift=0.5 * (number == 1))
    world.add(logged(traffic, MONDAY + WEEK * number, digest=world.bundle.digest))
    return again(world)


def again(world, labels=None):
    recipe = world.recipe(slices=["colour"])
    return judge.compare(world.store, "world", world.bundle, world.folder, labels, recipe, is_stored=True)


def state_of(world):
    (folder,) = (world.store.root / "monitor" / "world" / "log").iterdir()
    return folder


def test_tables_with_earlier_rows_are_those_that_are_made_anew(kept):
    for number in range(4):
        last = judged(kept, number)
    for name in FILES:
        (state_of(kept) / name).unlink()
    assert again(kept).digest == last.digest


def test_rows_of_windows_that_did_not_change_are_not_made_again(kept):
    judged(kept, 0)
    judged(kept, 1)
    path = state_of(kept) / "drift.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("tv_distance")
    marked = table.set_column(place, table.schema.field(place), pa.array([0.125] * table.num_rows))
    pq.write_table(marked, path)
    drift = pl.read_parquet(judged(kept, 2).folder / "drift.parquet")
    marks = drift.filter(pl.col("column_name") != ":table").with_columns(pl.col("window").struct.field("start"))
    is_old = pl.col("start") < MONDAY + 2 * WEEK
    assert set(marks.filter(is_old)["tv_distance"]) == {0.125}
    assert 0.125 not in set(marks.filter(~is_old)["tv_distance"])


def test_late_rows_make_the_rows_of_their_window_and_of_the_next_anew(kept):
    for number in range(3):
        judged(kept, number)
    kept.add(logged(Traffic.draw(50, 9), MONDAY, digest=kept.bundle.digest))
    last = again(kept)
    for name in FILES:
        (state_of(kept) / name).unlink()
    assert again(kept).digest == last.digest


def test_labels_that_come_later_are_in_the_tables(kept):
    for number in range(3):
        judged(kept, number)
    labels = pa.concat_tables([Traffic.draw(400, number, shift=0.5 * (number == 1)).labels() for number in range(3)])
    last = again(kept, labels)
    profile = pl.read_parquet(last.folder / "profile.parquet")
    of_target = profile.filter((pl.col("column_name") == "late") & (pl.col("log_type") == "INPUT"))
    assert of_target.filter(pl.col("slice_key").is_null())["count"].to_list() == [400, 400, 400]
    for name in FILES:
        (state_of(kept) / name).unlink()
    assert again(kept, labels).digest == last.digest


@pytest.mark.parametrize("damage", ["torn", "flipped", "other code", "other columns", "no stamps"])
def test_a_table_that_cannot_be_trusted_is_as_if_it_were_not_there(tmp_path, damage):
    stamps = {"2024-01-01T00:00:00+00:00": "windows-1"}
    table = pa.table({"window": pa.nulls(5_000, pa.struct([("start", pa.timestamp("us", "UTC"))]))})
    table = table.append_column("tv_distance", pa.array(np.random.default_rng(0).random(5_000)))
    for name in ("slice_key", "slice_value"):
        table = table.append_column(name, pa.nulls(5_000, pa.string()))
    StoredTables(tmp_path, stamps, "code").save("drift.parquet", table, EarlierRows())
    assert StoredTables(tmp_path, stamps, "code").earlier("drift.parquet", table.schema).table is not None
    path = tmp_path / "drift.parquet"
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:40])
    if damage == "flipped":  # in the middle of 40,000 bytes of random numbers
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    if damage == "no stamps":
        pq.write_table(table, path)
    code = "other" if damage == "other code" else "code"
    schema = DRIFT if damage == "other columns" else table.schema
    assert StoredTables(tmp_path, stamps, code).earlier("drift.parquet", schema).table is None
