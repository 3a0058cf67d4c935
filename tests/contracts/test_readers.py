"""What every reader of sources promises; a reader from outside is held to it too."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import re
import sqlite3
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.collect import snapshot
from mlsys.plugins import Plugins
from mlsys.readers import records, registry
from mlsys.readers.base import Batch, Reader
from mlsys.recipe import DataSection, Reading
from mlsys.store import Store
from pictures import encoded, striped

TYPED = pa.table({"k": [1, 2, 3, 4], "t": ["a", "b", None, "ü"], "x": [0.5, None, -1.0, 2.0]})
TEXTS = {"k": ["1", "2", "3", "4"], "t": ["a", "b", None, "ü"], "x": ["0.5", None, "-1.0", "2.0"]}


@dataclass
class Source:
    """A source with known rows.

    Attributes
    ----------
    columns
        Values of its rows in order, texts or typed values.
    bad
        Number → content of the records that are no rows.
    numbers
        Numbers of the rows.
    change
        Writes other contents.
    is_ordered
        Whether rows come in a stated order over all fragments.
    """

    location: str
    format: str
    columns: dict[str, list]
    reading: Reading = field(default_factory=Reading)
    bad: dict[int, str] = field(default_factory=dict)
    change: Callable[[], object] | None = None
    is_file: bool = True
    is_ordered: bool = True


class LetterReader(Reader):
    """A format from outside: a letter a row."""

    format = "letters"
    suffixes = (".letters",)

    def batches(self, fragment, reading, bad_records, growth=None):
        with fragment.open() as file:
            letters = file.read().decode(reading.encoding)
        yield Batch(pa.table({"letter": list(letters)}), np.arange(len(letters)))


@pytest.fixture(autouse=True)
def letters():
    registry.register(LetterReader())
    yield
    registry.READERS.unregister("letters")


def csv(folder):
    file = folder / "a.csv"
    file.write_text("k,t,x\n1,a,0.5\n2,b,\nshort\n3,,-1.0\n4,ü,2.0\nlong,1,2,3\n")
    bad = {2: "short", 5: "long,1,2,3"}
    return Source(str(file), "csv", TEXTS, bad=bad, change=lambda: file.write_text("k,t,x\n9,z,1\n"))


def packed_csv(folder):
    text = "k;t;x\n1;a;0,5\n2;b;-\n3;-;-1,0\n4;ü;2,0\n".encode("latin-1")
    with zipfile.ZipFile(folder / "b.csv.zip", "w") as archive:
        archive.writestr("inside.csv", text)
    (folder / "a.csv.gz").write_bytes(gzip.compress(text))
    reading = Reading(delimiter=";", encoding="latin-1", null_values=("-",), decimal=",")
    columns = {"k": TEXTS["k"] * 2, "t": TEXTS["t"] * 2, "x": ["0,5", None, "-1,0", "2,0"] * 2}
    return Source(f"{folder}/*.csv.*", "csv", columns, reading)


def tsv(folder):
    file = folder / "a.tsv"
    file.write_text("k\tt\tx\n1\ta\t0.5\n2\tb\t\n3\t\t-1.0\n4\tü\t2.0\n")
    return Source(str(file), "csv", TEXTS, change=lambda: file.write_text("k\n1\n"))


def jsonl(folder):
    file = folder / "a.jsonl"
    nested, half = "[" * 100_000, '{"k": "\\ud800"}'
    rows = [dict(zip(TYPED.column_names, row, strict=True)) for row in zip(*TYPED.to_pydict().values(), strict=True)]
    lines = [json.dumps(rows[0]), nested, json.dumps(rows[1]), "", half, *map(json.dumps, rows[2:]), "[1]"]
    file.write_text("\n".join(lines))
    bad = {1: nested, 3: half, 6: "[1]"}
    return Source(str(file), "jsonl", TEXTS, bad=bad, change=lambda: file.write_text("{}\n"))


def parquet(folder):
    file = folder / "a.parquet"
    pq.write_table(TYPED, file, row_group_size=2)
    change = lambda: pq.write_table(TYPED.slice(1), file)  # noqa: E731
    return Source(str(file), "parquet", TYPED.to_pydict(), change=change)


def partitions(folder):
    for number in range(3):
        (folder / f"part{2 - number}").mkdir()
        pq.write_table(TYPED.slice(number, 1), folder / f"part{2 - number}" / "rows.pq")
    (folder / "_SUCCESS").write_text("")
    columns = {name: values[:3][::-1] for name, values in TYPED.to_pydict().items()}
    return Source(folder.as_uri(), "parquet", columns)


def sql(folder):
    with sqlite3.connect(folder / "a.db") as database:
        database.execute("create table t (k integer, t text, x real)")
        database.executemany("insert into t values (?, ?, ?)", list(zip(*TYPED.to_pydict().values(), strict=True)))
    database.close()
    reading = Reading(query="select * from t order by k;  -- all :of them")
    return Source(f"sqlite:///{folder}/a.db", "sql", TEXTS, reading, is_file=False)


def json_array(folder):
    file = folder / "a.json"
    rows = [dict(zip(TYPED.column_names, row, strict=True)) for row in zip(*TYPED.to_pydict().values(), strict=True)]
    file.write_text(json.dumps([*rows[:2], [1], *rows[2:]], indent=1))
    return Source(str(file), "jsonl", TEXTS, bad={2: "[1]"}, change=lambda: file.write_text("{}\n"))


def hive(folder):
    columns = {name: values[:2] * 2 for name, values in TYPED.to_pydict().items()}
    for year in (2023, 2024):
        for number, region in enumerate(("n", "s%20e")):
            at = folder / f"year={year}" / f"region={region}"
            at.mkdir(parents=True)
            pq.write_table(TYPED.slice(number, 1), at / "part-0.parquet")
    columns |= {"year": [2023, 2023, 2024, 2024], "region": ["n", "s e"] * 2}
    return Source(str(folder), "parquet", columns)


def archive(folder):
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        packed.writestr("a.csv", "k,t,x\n1,a,0.5\n2,b,\n")
        packed.writestr("in/b.csv", "k,t,x\nshort\n3,,-1.0\n4,ü,2.0\n")
    return Source(str(folder / "a.zip"), "csv", TEXTS, bad={0: "short"})


def excel(folder):
    import openpyxl

    book = openpyxl.Workbook()
    for row in [["The table"], ["k", "t", "x"], *zip(*TYPED.to_pydict().values(), strict=True)]:
        book.active.append(row)
    book.save(folder / "a.xlsx")

    def change():
        book.active.append([5, "more", 1.5])
        book.save(folder / "a.xlsx")

    columns = {**TEXTS, "x": ["0.5", None, "-1", "2"]}
    return Source(str(folder / "a.xlsx"), "excel", columns, change=change)


def unusual_csv(folder):
    file = folder / "a.csv"
    text = "sep=;\r\nReport\r\n\r\nk;t;x;\r\n1;a;0.5;\r\n2;b;;\r\n3;;-1.0;\r\n4;ü;2.0;\r\n"
    file.write_bytes(text.encode("utf-16"))
    return Source(str(file), "csv", TEXTS, change=lambda: file.write_text("k,t,x\n9,z,1\n"))


def image(folder):
    pictures = {f"{name}.png": encoded(striped(upright=name < "b")) for name in "cab"}
    for name, data in pictures.items():
        (folder / "of").mkdir(exist_ok=True)
        (folder / "of" / name).write_bytes(data)
    names = sorted(pictures)
    columns = {
        "file": [f"of/{name}" for name in names],
        "label": ["of"] * 3,
        "image": [pictures[name] for name in names],
    }
    change = lambda: (folder / "of" / "a.png").write_bytes(pictures["c.png"])  # noqa: E731
    return Source(str(folder), "image", columns, change=change)


def text(folder):
    for name, data in {"a.txt": b"So it goes", "b.txt": "naïve".encode("latin-1"), "c.txt": b"On"}.items():
        (folder / name).write_bytes(data)
    columns = {"file": ["a.txt", "c.txt"], "label": [None, None], "text": ["So it goes", "On"]}
    change = lambda: (folder / "c.txt").write_text("Off")  # noqa: E731
    return Source(str(folder), "text", columns, Reading(format="text"), {1: "naïve"}, change)


def sklearn(folder):
    del folder
    from sklearn.datasets import load_iris

    columns = pa.Table.from_pandas(load_iris(as_frame=True).frame, preserve_index=False).to_pydict()
    return Source("sklearn://iris", "sklearn", columns, is_file=False)


def delta(folder):
    from deltalake import write_deltalake

    write_deltalake(folder / "t", TYPED)
    write_deltalake(folder / "t", TYPED.slice(0, 1), mode="append")
    columns = {name: [*values, values[0]] for name, values in TYPED.to_pydict().items()}
    return Source(f"delta://{folder}/t", "delta", columns, is_file=False)


def iceberg(folder):
    from pyiceberg.catalog import sql as catalogs

    catalog = catalogs.SqlCatalog("local", uri=f"sqlite:///{folder}/c.db", warehouse=f"file://{folder}/wh")
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=TYPED.schema)
    table.append(TYPED)
    location = catalog.load_table("ns.t").metadata_location
    catalog.engine.dispose()
    return Source(f"iceberg://{location.removeprefix('file://')}", "iceberg", TYPED.to_pydict(), is_file=False)


def outside(folder):
    file = folder / "a.letters"
    file.write_text("abc")
    return Source(str(file), "letters", {"letter": ["a", "b", "c"]}, change=lambda: file.write_text("xyz"))


SOURCES = [
    csv,
    packed_csv,
    unusual_csv,
    archive,
    tsv,
    jsonl,
    json_array,
    hive,
    excel,
    parquet,
    partitions,
    sql,
    image,
    text,
    sklearn,
    delta,
    iceberg,
    outside,
]


@pytest.fixture(params=SOURCES, ids=lambda made: made.__name__)
def source(request, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return request.param(folder)


def fragments(source):
    return registry.find(source.location, source.reading)


def read(source, listed):
    """Values by column, row numbers by fragment, and bad records."""
    columns, numbers, bad = {}, [], []
    for fragment in listed:
        records, rows = [], []
        for batch in registry.batches(fragment, source.reading, records):
            rows += batch.rows.tolist()
            for name, values in batch.table.to_pydict().items():
                columns.setdefault(name, []).extend(values)
        numbers.append(rows)
        bad.append(records)
    return columns, numbers, bad


def test_fragments_are_the_same_each_time_sorted_by_name_and_of_this_reader(source):
    listed = fragments(source)
    stamps = [replace(fragment, stamp=None) for fragment in listed]
    assert stamps == [replace(fragment, stamp=None) for fragment in fragments(source)]
    assert {fragment.format for fragment in listed} == {source.format}
    assert len({fragment.name for fragment in listed}) == len(listed)
    if source.format not in {"delta", "iceberg"}:  # whose files come in the order in which they were written
        assert [fragment.name for fragment in listed] == sorted(fragment.name for fragment in listed)


def test_batches_together_are_the_rows_of_the_source(source):
    columns, _, _ = read(source, fragments(source))
    assert columns == source.columns


def test_row_numbers_count_every_record_and_bad_ones_are_named(source):
    _, numbers, bad = read(source, fragments(source))
    for rows, bad_records in zip(numbers, bad, strict=True):
        assert sorted([*rows, *(record.row for record in bad_records)]) == list(range(len(rows) + len(bad_records)))
        assert all(record.reason for record in bad_records)
    assert {record.row: record.content for records in bad for record in records} == source.bad


def test_a_schema_is_that_of_the_batches_with_the_number_of_records(source):
    for fragment in fragments(source):
        shape = registry.schema(fragment)
        tables = [batch.table for batch in registry.batches(fragment, source.reading, [])]
        if shape is None:
            assert {str(kind) for table in tables for kind in table.schema.types} == {"string"}
            continue
        assert [table.schema.remove_metadata() for table in tables] == [shape[0]] * len(tables)
        assert sum(table.num_rows for table in tables) == shape[1]
        for name in shape[0].names:
            column = pa.chunked_array(list(registry.column(fragment, name)), shape[0].field(name).type)
            assert column.to_pylist() == [value for table in tables for value in table[name].to_pylist()]


def test_smaller_fragments_hold_the_same_rows(source, monkeypatch):
    monkeypatch.setattr("mlsys.readers.parquet.SPLIT_ROWS", 1)
    listed = fragments(source)
    parts = [part for fragment in listed for part in registry.split(fragment)]
    assert read(source, parts)[0] == source.columns
    assert len(parts) >= len(listed)
    numbers = [row for rows in read(source, [part for part in parts if part.name == listed[0].name])[1] for row in rows]
    assert numbers == read(source, listed[:1])[1][0]


def test_a_digest_tells_contents_apart(source):
    first = fragments(source)[0]
    assert first.digest() == fragments(source)[0].digest()
    assert first.is_file is source.is_file
    if source.change is None:
        assert (first.digest() is None) == (source.format in {"sql", "sklearn"})
        return
    digest, changed = first.digest(), first.changed()
    source.change()
    _make_newer(source.location)
    assert fragments(source)[0].digest() != digest
    assert fragments(source)[0].changed() != changed
    with pytest.raises(errors.SourceError, match="a file that changed while it was read"):
        first.check_unchanged(changed)


def _make_newer(location):
    paths = [Path(location)] if Path(location).is_file() else list(Path(location).rglob("*"))
    for path in paths:
        os.utime(path, ns=(time.time_ns() + 10**9, time.time_ns() + 10**9))


def test_a_fragment_travels_to_another_process(source):
    listed = fragments(source)
    again = pickle.loads(pickle.dumps(listed))
    assert again == listed
    assert read(source, again) == read(source, listed)


def test_a_source_is_found_from_another_folder(source, tmp_path, monkeypatch):
    if "://" in source.location:
        assert registry.absolute(source.location) == source.location
        return
    monkeypatch.chdir(tmp_path)
    listed = registry.find(os.path.relpath(source.location), source.reading)
    monkeypatch.chdir("/")
    assert read(source, listed)[0] == source.columns


def test_a_file_that_is_gone_is_named(source):
    listed = fragments(source)
    if not source.is_file:
        return
    for fragment in listed:
        for location in [file.location for file in fragment.files] or [fragment.location]:
            Path(location.removeprefix("file://")).unlink(missing_ok=True)
    name = listed[0].files[0].name if listed[0].files else listed[0].name
    with pytest.raises(errors.SourceError, match=re.escape(name)):
        read(source, listed)


def test_an_increment_is_read_as_its_source_was(tmp_path):
    """The reader of what `data.incremental` has taken keeps the rows, the bad records and the marks of numbers."""
    file = tmp_path / "a.csv"
    file.write_text("k;x;y\n1;1.000,5;0\nshort\n2;2,5;1\n3;3;1\n")
    reading = Reading(delimiter=";", decimal=",", thousands=".")
    data = DataSection(source=str(file), reading=reading, incremental={"cursor": "k"}, max_bad_fraction=0.5)
    store = Store.open(tmp_path / "store")
    taken = snapshot.take(store, data, target="y", folder=tmp_path / "run")
    assert taken.snapshot.table()["x"].to_pylist() == [1000.5, 2.5, 3.0]
    assert taken.report["num_quarantined"] == 1


def test_a_name_that_is_taken_is_refused_and_an_unknown_one_has_a_near_one():
    class Other(LetterReader):
        format = "csv"

    with pytest.raises(ValueError, match="'csv' is the name of a part of mlsys"):
        registry.register(Other())
    with pytest.raises(errors.RecipeError, match="did you mean 'letters'"):
        registry.find("a.csv", Reading(format="leters"))


def test_a_reader_is_found_by_an_entry_point(tmp_path, monkeypatch):
    """As in a worker of a cluster, which has imported nothing of it."""
    package = tmp_path / "package"
    (package / "pebbles-1.0.dist-info").mkdir(parents=True)
    (package / "pebbles-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pebbles\nVersion: 1.0\n")
    entry = "[mlsys.readers]\npebbles = pebbles:PEBBLES\n"
    (package / "pebbles-1.0.dist-info" / "entry_points.txt").write_text(entry)
    (package / "pebbles.py").write_text(
        "import numpy as np, pyarrow as pa\n"
        "from mlsys.readers.base import Batch, Fragment, Reader\n"
        "class PebbleReader(Reader):\n"
        "    format, schemes = 'pebbles', ('pebbles',)\n"
        "    def fragments(self, source, reading):\n"
        "        return [Fragment(source, source, 'pebbles', 0, stamp='')]\n"
        "    def batches(self, fragment, reading, bad_records, growth=None):\n"
        "        yield Batch(pa.table({'n': ['1', '2']}), np.arange(2))\n"
        "PEBBLES = PebbleReader()\n"
    )
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setattr(registry, "READERS", Plugins("mlsys.readers", dict(registry.READERS), {}))
    (fragment,) = registry.find("pebbles://beach", Reading())
    assert fragment.module == "pebbles"
    assert [batch.table["n"].to_pylist() for batch in registry.batches(fragment, Reading(), [])] == [["1", "2"]]


def test_csv_written_by_arrow_is_read_back(tmp_path):
    pacsv.write_csv(TYPED, tmp_path / "a.csv")
    columns, _, _ = read(Source("", "csv", {}), registry.find(tmp_path / "a.csv", Reading()))
    assert columns["t"] == TEXTS["t"]


@pytest.mark.parametrize("given", [pa.table({"letter": ["a"]}), Batch(pa.table({"letter": [1]}), np.arange(1))])
def test_a_reader_from_outside_that_breaks_the_protocol_is_named(tmp_path, monkeypatch, given):
    (tmp_path / "a.letters").write_text("a")
    monkeypatch.setattr(LetterReader, "batches", lambda *_: iter([given]))
    (fragment,) = registry.find(tmp_path / "a.letters", Reading())
    with pytest.raises(errors.SourceError, match="correct the reader of 'letters'"):
        list(registry.batches(fragment, Reading(), []))


def test_a_reader_of_whole_sources_without_fragments_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match=r"^Half takes whole sources .* and so has to define `fragments`$"):

        class Half(Reader):
            format = "half"
            schemes = ("half",)


def test_a_reader_without_batches_cannot_be_made():
    class Empty(Reader):
        format = "empty"

    with pytest.raises(TypeError, match=r"abstract method '?batches"):
        Empty()


@pytest.mark.parametrize("kind", ["lines", "array", "database"])
def test_records_with_long_texts_are_read_a_few_at_a_time(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(records, "RECORD_BYTES", 10_000)
    monkeypatch.setattr(records, "FETCHED", 2)
    rows = [{"n": str(number), "note": "x" * 1_000} for number in range(40)]
    reading = Reading()
    if kind == "database":
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as database:
            database.execute("CREATE TABLE notes (n TEXT, note TEXT)")
            database.executemany("INSERT INTO notes VALUES (:n, :note)", rows)
            database.commit()
        source, reading = f"sqlite:///{tmp_path}/a.db", Reading(query="SELECT * FROM notes ORDER BY CAST(n AS INTEGER)")
    else:
        source = tmp_path / "a.json"
        lines = [json.dumps(row) for row in rows]
        source.write_text("\n".join(lines) if kind == "lines" else "[" + ",".join(lines) + "]")
    (fragment,) = registry.find(str(source), reading)
    batches = list(registry.batches(fragment, reading, []))
    assert [row for batch in batches for row in batch.table.to_pylist()] == rows
    assert [number for batch in batches for number in batch.rows] == list(range(40))
    assert max(batch.table.num_rows for batch in batches) <= 12
