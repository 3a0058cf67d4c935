from __future__ import annotations

import datetime as dt
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import sql

from mlsys import errors
from mlsys.collect import snapshot
from mlsys.readers import lake
from mlsys.recipe import DataSection, Reading

FIRST = pa.table({"x": [1, 2, 3], "p": ["a", "b", "a"], "y": [0, 1, 1]})
SECOND = pa.table({"x": [4], "p": ["b"], "y": [0], "new": ["n"]})


@pytest.fixture
def delta(tmp_path):
    """A partitioned Delta table of two versions; the second has one column more."""
    write_deltalake(tmp_path / "t", FIRST, partition_by=["p"])
    write_deltalake(tmp_path / "t", SECOND, mode="append", schema_mode="merge")
    return f"delta://{tmp_path}/t"


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    """A SQLite catalog named ``local``, described by the environment as its users do."""
    uri, warehouse = f"sqlite:///{tmp_path}/c.db", f"file://{tmp_path}/wh"
    monkeypatch.setenv("PYICEBERG_CATALOG__LOCAL__URI", uri)
    monkeypatch.setenv("PYICEBERG_CATALOG__LOCAL__WAREHOUSE", warehouse)
    made = sql.SqlCatalog("local", uri=uri, warehouse=warehouse)
    made.create_namespace("ns")
    yield made
    made.engine.dispose()


@pytest.fixture
def iceberg(catalog):
    table = catalog.create_table("ns.t", schema=FIRST.schema)
    table.append(FIRST)
    with table.update_schema() as update:
        update.union_by_name(SECOND.schema)
    table.append(SECOND)
    return catalog.load_table("ns.t")


def rows(taken):
    table = taken.snapshot.table()
    return sorted(zip(table["x"].to_pylist(), table["p"].to_pylist(), table["y"].to_pylist(), strict=True))


ALL = [(1, "a", 0), (2, "b", 1), (3, "a", 1), (4, "b", 0)]


def test_a_delta_table_is_collected_with_its_partition_columns_and_its_version(take, store, delta, tmp_path):
    taken = take(delta)
    assert rows(taken) == ALL
    assert {c.name: c.type for c in taken.snapshot.schema} == {
        "x": "int64",
        "p": "string",
        "y": "int64",
        "new": "string",
    }
    found = store.facts("snapshot", taken.snapshot.digest)["sources"]
    assert {one["version"] for one in found} == {"1"}
    assert all(one["name"].startswith("delta://t/p=") and str(tmp_path) not in one["name"] for one in found)


def test_an_older_version_is_collected_by_number_or_time(take, tmp_path):
    write_deltalake(tmp_path / "t", FIRST)
    time.sleep(0.05)
    between = dt.datetime.now(dt.UTC).isoformat()
    time.sleep(0.05)
    write_deltalake(tmp_path / "t", SECOND, mode="append", schema_mode="merge")
    for version in (0, "0", between):
        assert rows(take(f"delta://{tmp_path}/t", reading=Reading(version=version))) == ALL[:3]


def test_of_a_new_version_only_the_new_files_are_read(store, tmp_path):
    write_deltalake(tmp_path / "t", FIRST)
    data, folder = DataSection(source=f"delta://{tmp_path}/t"), tmp_path / "run"
    snapshot.take(store, data, target="y", folder=folder)
    write_deltalake(tmp_path / "t", FIRST, mode="append")
    taken = snapshot.take(store, data, target="y", folder=folder)
    assert (taken.report["num_pieces"], taken.report["num_reused"], taken.snapshot.num_rows) == (2, 1, 6)


def test_a_file_that_a_version_drops_is_gone(take, delta, tmp_path):
    DeltaTable(tmp_path / "t").delete("p = 'a'")
    assert rows(take(delta)) == [(2, "b", 1), (4, "b", 0)]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("t", 7, r"source 'delta://.*/t'\n.*\n.*at a version that it has"),
        ("u", None, r"does not exist"),
        ("t", "yesterday", r"recipe: 'data.reading.version'\n.*'yesterday'"),
    ],
)
def test_what_is_not_there_is_said(take, delta, tmp_path, name, version, message):
    with pytest.raises(errors.MlsysError, match=message):
        take(f"delta://{tmp_path}/{name}", reading=Reading(version=version))


def test_an_iceberg_table_is_collected_from_its_catalog_or_its_metadata(take, store, iceberg):
    taken = take("iceberg://local/ns.t")
    assert rows(taken) == ALL
    assert taken.snapshot.table()["new"].to_pylist().count(None) == 3
    found = store.facts("snapshot", taken.snapshot.digest)["sources"]
    assert {one["version"] for one in found} == {str(iceberg.current_snapshot().snapshot_id)}
    assert rows(take(f"iceberg://{iceberg.metadata_location.removeprefix('file://')}")) == ALL


def test_an_older_iceberg_snapshot_is_collected_by_id_time_or_tag(take, iceberg):
    first = iceberg.snapshots()[0]
    iceberg.manage_snapshots().create_tag(first.snapshot_id, "start").commit()
    at = dt.datetime.fromtimestamp(first.timestamp_ms / 1000, dt.UTC).isoformat()
    for version in (first.snapshot_id, at, "start"):
        assert rows(take("iceberg://local/ns.t", reading=Reading(version=version))) == ALL[:3]
    with pytest.raises(errors.SourceError, match=f"no snapshot 7\n.*{first.snapshot_id}"):
        take("iceberg://local/ns.t", reading=Reading(version=7))


def test_only_new_files_of_an_iceberg_table_are_read(take, catalog):
    table = catalog.create_table("ns.u", schema=FIRST.schema)
    table.append(FIRST)
    take("iceberg://local/ns.u")
    table.append(FIRST)
    taken = take("iceberg://local/ns.u")
    assert (taken.report["num_pieces"], taken.report["num_reused"], taken.snapshot.num_rows) == (2, 1, 6)


def test_a_damaged_data_file_is_named(take, tmp_path):
    write_deltalake(tmp_path / "t", FIRST)
    (file,) = (tmp_path / "t").glob("*.parquet")
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(errors.SourceError, match=rf"source 'delta://t/{file.name}'"):
        take(f"delta://{tmp_path}/t")


def test_without_the_extra_the_hint_installs_it(take, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
    with pytest.raises(errors.SourceError, match=r"uv pip install 'mlsys\[lake\]'"):
        lake.DeltaReader().fragments(f"delta://{tmp_path}/t", Reading())


def test_a_folder_of_files_beside_is_another_source(take, tmp_path):
    (tmp_path / "plain").mkdir()
    pq.write_table(FIRST, tmp_path / "plain/a.parquet")
    assert rows(take(tmp_path / "plain")) == ALL[:3]


def test_a_delta_table_divided_by_texts_of_any_kind_is_read(take, tmp_path):
    names = ["a b", "c/d", "ä:%", "x=y", None]
    table = pa.table({"p": names, "x": [1, 2, 3, 4, 5], "y": [0, 1, 0, 1, 0]})
    write_deltalake(tmp_path / "t", table, partition_by=["p"])
    found = take(f"delta://{tmp_path}/t").snapshot.table()
    assert dict(zip(found["x"].to_pylist(), found["p"].to_pylist(), strict=True)) == dict(
        zip([1, 2, 3, 4, 5], names, strict=True)
    )
