"""What a source string names, found wherever a task stands."""

from __future__ import annotations

import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.collect import snapshot
from mlsys.readers import parquet, registry
from mlsys.readers.base import texts_of
from mlsys.readers.parquet import ParquetReader
from mlsys.recipe import DataSection, Reading


def test_a_missing_file_names_the_nearest(take, tmp_path, write):
    write("flights.csv", "x,y\n1,0\n")
    with pytest.raises(errors.SourceError, match=r"did you mean 'flights.csv'\?"):
        take(tmp_path / "flihgts.csv")


def test_rows_of_a_database_query_are_collected_without_its_path(take, tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("create table t (x real, name text, at text, y int)")
        db.executemany(
            "insert into t values (?, ?, ?, ?)", [(i / 2, f"n{i % 3}", "2013-01-01 10:00:00", i % 2) for i in range(10)]
        )
    db.close()
    taken = take(f"sqlite:///{tmp_path}/a.db", reading=Reading(query="select * from t where x > 0"))
    assert {c.name: c.type for c in taken.snapshot.schema} == {
        "x": "double", "name": "string", "at": "timestamp[us, tz=UTC]", "y": "int64",
    }  # fmt: skip
    assert taken.snapshot.num_rows == 9
    assert taken.report["sources"] == [{"name": "sqlite:///a.db", "bytes": None, "sha256": None}]
    with pytest.raises(errors.SourceError, match=r"no such table: u"):
        take(f"sqlite:///{tmp_path}/a.db", reading=Reading(query="select * from u"))
    with pytest.raises(errors.RecipeError, match=r"data.reading.query"):
        take(f"sqlite:///{tmp_path}/a.db")
    with pytest.raises(errors.SourceError, match=r"did you mean 'a.db'"):
        take(f"sqlite:///{tmp_path}/aa.db", reading=Reading(query="select 1"))
    assert not (tmp_path / "aa.db").exists()


def test_built_in_sets_and_package_files_are_found_without_importing_the_package(take):
    assert take("sklearn://iris", target="target").snapshot.num_rows == 150
    taken = take("package://palmerpenguins/data/penguins.csv", target="species")
    assert taken.snapshot.num_rows == 344
    with pytest.raises(errors.SourceError, match=r"did you mean 'iris'"):
        take("sklearn://irris", target="target")
    with pytest.raises(errors.SourceError, match="no package 'no_such_package'"):
        take("package://no_such_package/x.csv")


def test_file_uris_are_read(take, tmp_path, write):
    folder = tmp_path / "in"
    folder.mkdir()
    write("in/a.csv", "x,y\n1,0\n2,1\n")
    for source in (f"file://{folder}/a.csv", f"file://{folder}", f"file://{folder}/*.csv"):
        assert [s["name"] for s in take(source).report["sources"]] == ["a.csv"]
    with pytest.raises(errors.SourceError, match=r"did you mean 'a.csv'"):
        take(f"file://{folder}/b.csv")


def test_a_source_is_found_from_another_folder(store, tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write("a.csv", "x,y\n1,0\n2,1\n")
    with sqlite3.connect("a.db") as db:
        db.execute("create table t as select 1 as x, 0 as y union select 2, 1")
    db.close()
    for source, reading in (("a.csv", Reading()), ("sqlite:///a.db", Reading(query="select * from t"))):
        (piece,) = registry.find(source, reading)
        assert str(tmp_path) in piece.location
        assert str(tmp_path) not in piece.name
        taken = snapshot.take(store, DataSection(source=source, reading=reading), target="y", folder=tmp_path / "run")
        assert taken.snapshot.num_rows == 2


def test_a_fingerprint_changes_with_the_files_alone(write):
    file = write("a.csv", "x,y\n1,0\n")
    before = registry.fingerprint(str(file), Reading())
    assert registry.fingerprint(str(file), Reading()) == before
    write("a.csv", "x,y\n1,0\n2,1\n")
    assert registry.fingerprint(str(file), Reading()) != before


def test_a_database_password_is_not_shown():
    (piece,) = registry.find("postgresql://me:secret@host/db", Reading(query="select 1"))
    assert piece.name == "postgresql://me:***@host/db"


@pytest.fixture
def database(tmp_path):
    """Make a database of one table ``t``, and ask it."""

    def run(create, *rows):
        with sqlite3.connect(tmp_path / "a.db") as db:
            db.execute(create)
            db.executemany(f"insert into t values ({', '.join('?' * len(rows[0]))})", rows)
        db.close()
        return f"sqlite:///{tmp_path}/a.db"

    return run


def test_a_query_is_what_the_database_reads_colons_and_comments_too(take, database):
    source = database("create table t (x int, y int)", (1, 0), (2, 1))
    query = "select x, y, ' :x' as a, '12:30' as b from t -- all: of it"
    for _ in range(2):  # the second time the query stands in another one
        taken = take(source, reading=Reading(query=query), incremental={"cursor": "x"})
    assert taken.snapshot.table()["a"].to_pylist() == [" :x", " :x"]


def test_bytes_of_a_database_are_refused_and_not_written_as_python_shows_them(take, database):
    source = database("create table t (x blob, y int)", (None, 0), (b"\x00", 1))
    with pytest.raises(errors.SourceError, match=r"(?s)column 'x' in 'sqlite:///a.db'.*got: +bytes.*hex"):
        take(source, reading=Reading(query="select * from t"))


def test_a_row_in_the_write_ahead_log_changes_the_fingerprint(database, tmp_path):
    source, reading = database("create table t (x int, y int)", (1, 0)), Reading(query="select * from t")
    db = sqlite3.connect(tmp_path / "a.db")
    db.execute("pragma journal_mode = wal")
    before = registry.fingerprint(source, reading)
    assert registry.fingerprint(source, reading) == before
    db.execute("insert into t values (2, 1)")
    db.commit()
    after = registry.fingerprint(source, reading)
    db.close()
    assert after != before


def test_a_folder_without_data_is_said_to_be_one(take, tmp_path, write):
    (tmp_path / "in").mkdir()
    with pytest.raises(errors.SourceError, match=r"got: +an empty folder"):
        take(tmp_path / "in")
    write("in/a.dat", "x")
    with pytest.raises(errors.SourceError, match=r"(?s)got: +a folder with a\.dat.*data\.reading\.format"):
        take(tmp_path / "in")


def test_a_version_or_a_query_without_effect_is_refused(take, write, database):
    file = write("a.csv", "x,y\n1,0\n2,1\n")
    with pytest.raises(errors.RecipeError, match=r"'data.reading.version'"):
        take(file, reading=Reading(version=3))
    with pytest.raises(errors.RecipeError, match=r"'data.reading.query'"):
        take(file, reading=Reading(query="select 1"))
    source = database("create table t (x int, y int)", (1, 0), (2, 1))
    with pytest.raises(errors.RecipeError, match=r"'data.reading.version'"):
        take(source, reading=Reading(query="select * from t", version=3))


def test_a_driver_that_is_not_installed_is_named(take):
    with pytest.raises(errors.SourceError, match=r"no package 'psycopg2?'.*\n.*\n.*uv pip install psycopg"):
        take("postgresql://me:secret@127.0.0.1/db", reading=Reading(query="select 1"))


@pytest.mark.parametrize("encoding", ["rot13", "base64", "utf-9"])
def test_what_is_no_encoding_of_text_is_refused(take, write, encoding):
    with pytest.raises(errors.RecipeError, match=r"'data.reading.encoding'"):
        take(write("a.csv", "x,y\n1,0\n"), reading=Reading(encoding=encoding))


def test_columns_of_folder_names_ask_for_the_schema_of_a_file_once(tmp_path, monkeypatch):
    folder = tmp_path / "region=north"
    folder.mkdir()
    pq.write_table(pa.table({"n": range(6), "t": list("abcdef")}), folder / "a.parquet", row_group_size=1)
    (fragment,) = registry.find(tmp_path, Reading())
    asked, schema = [], ParquetReader.schema
    monkeypatch.setattr(ParquetReader, "schema", lambda reader, each: asked.append(each) or schema(reader, each))
    monkeypatch.setattr(parquet, "BATCH_ROWS", 1)
    batches = list(registry.batches(fragment, Reading(), []))
    assert [batch.table["region"].to_pylist() for batch in batches] == [["north"]] * 6
    assert len(asked) == 1


@pytest.mark.parametrize("values", [
    pa.array([1.5, 1.5, 2.0], pa.float16()),
    pa.array([[1], [1], [2]]),
    pa.array(["a", "a", "b"]).dictionary_encode(),
    pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]),
    pa.UnionArray.from_sparse(pa.array([0, 0, 0], pa.int8()), [pa.array([1, 1, 2])]),
])  # fmt: skip
def test_values_of_every_type_are_counted_as_texts(values):
    assert sum(rows for _, rows in texts_of(values)) == 3
