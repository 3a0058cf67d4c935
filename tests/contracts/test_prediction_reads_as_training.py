"""A file that a model was trained on is predicted with the same values and the same rejected rows, in every format."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import sqlite3
import zipfile
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundles import stored
from mlsys import bundle, registry
from mlsys.collect import snapshot
from mlsys.deploy import batch
from mlsys.predict import Predictor
from mlsys.recipe import DataSection, Reading, ReadOptions
from mlsys.schema import ROW, Task, TaskKind
from mlsys.store import Store
from pictures import encoded, striped

NUM_ROWS = 60
RNG = np.random.default_rng(4)
START = dt.datetime(2018, 10, 5, 12, 35, 48, 768_000)  # noqa: DTZ001  (local in the zone of each recipe)
NAMES = ["n", "d", "flag", "at", "day", "word", "y"]


def values():
    """Rows of Python values; every column counts for the answer."""
    n, d = RNG.integers(-5_000, 5_000, NUM_ROWS).tolist(), np.round(RNG.normal(size=NUM_ROWS), 3).tolist()
    rows = []
    for row in range(NUM_ROWS):
        time = START + dt.timedelta(hours=int(RNG.integers(0, 9_000)))
        word = ["NA", "Zürich", "Bern"][row % 3]
        y = int(n[row] / 5_000 + d[row] + (word == "NA") + time.hour / 12 > 1.5)
        rows.append([n[row], d[row], row % 2 == 0, time, time.date(), word, y])
    for row, place in ((3, 0), (5, 1), (8, 2), (9, 3), (12, 4)):
        rows[row][place] = None
    return rows


ROWS = values()
WRONG = {7: (0, "many"), 17: (1, "1_000"), 13: (3, "yesterday"), 23: (2, "perhaps"), 29: (4, "2018-13-01")}
"""Row → the place and the text of a value that does not fit."""


def texts(decimal=".", thousands="", null=""):
    def text(value):
        if value is None:
            return null
        if isinstance(value, bool):
            return "01"[value] if decimal == "," else str(value)
        if isinstance(value, int) and thousands:
            return f"{value:,}".replace(",", thousands)
        return str(value).replace(".", decimal) if isinstance(value, float) else str(value)

    rows = [[text(value) for value in row] for row in ROWS]
    for row, (place, wrong) in WRONG.items():
        rows[row][place] = wrong
    return rows


def lines(rows, delimiter=","):
    return "\n".join(delimiter.join(row) for row in [NAMES, *rows]) + "\n"


def csv(folder):
    text = lines(texts()).split("\n")
    (folder / "a.csv").write_text("\n".join([*text[:31], "too,short", *text[31:]]))
    return {"source": str(folder / "a.csv"), "reading": {"null_values": [""]}}


def marked_csv(folder):
    (folder / "a.csv").write_text(lines(texts(null=" ? ")))
    return {"source": str(folder / "a.csv"), "reading": {"null_values": [""]}}


def german_csv(folder):
    rows = texts(decimal=",", thousands=".", null="-")
    (folder / "a.csv.gz").write_bytes(gzip.compress(lines(rows, ";").encode("cp1252")))
    reading = {"delimiter": ";", "encoding": "cp1252", "null_values": ["-"], "decimal": ",", "thousands": "."}
    return {"source": str(folder / "a.csv.gz"), "reading": reading, "timezone": "Europe/Berlin"}


def notated_csv(folder):
    """Numbers with marks and dates in another order, which no recipe names."""
    rows = texts(decimal=",", thousands=".")
    for row, (n, d, _, at, day, *_) in enumerate(ROWS):
        rows[row][0] = f"€ {rows[row][0]}" if n is not None and row not in WRONG else rows[row][0]
        rows[row][1] = f"{rows[row][1]} %" if d is not None and row not in WRONG else rows[row][1]
        if at is not None and row not in WRONG:
            rows[row][3] = at.strftime("%d/%m/%Y %H:%M:%S.%f")
        if day is not None and row not in WRONG:
            rows[row][4] = day.strftime("%d.%m.%y")
    (folder / "a.csv").write_text(lines(rows, ";"))
    return {
        "source": str(folder / "a.csv"),
        "reading": {"delimiter": ";", "null_values": [""]},
        "timezone": "Asia/Tokyo",
    }


def excel(folder):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(NAMES)
    for number, row in enumerate(records()):
        cells = [ROWS[number][3] if place == 3 and number not in WRONG else cell for place, cell in enumerate(row)]
        book.active.append(cells)
    book.save(folder / "a.xlsx")
    return {"source": str(folder / "a.xlsx"), "reading": {"null_values": [""]}, "timezone": "America/New_York"}


def packed_tsv(folder):
    with zipfile.ZipFile(folder / "a.tsv.zip", "w") as archive:
        archive.writestr("a.tsv", lines(texts(), "\t"))
    return {"source": (folder / "a.tsv.zip").as_uri(), "reading": {"null_values": [""]}, "timezone": "America/New_York"}


def package(folder):
    (folder / "pebbledata" / "data").mkdir(parents=True)
    (folder / "pebbledata" / "__init__.py").write_text("raise RuntimeError('never imported')")
    (folder / "pebbledata" / "data" / "a.csv").write_text(lines(texts()))
    return {"source": "package://pebbledata/data/*.csv", "path": folder, "reading": {"null_values": [""]}}


def records():
    rows = [[str(value) if isinstance(value, dt.date) else value for value in row] for row in ROWS]
    for row, (place, wrong) in WRONG.items():
        rows[row][place] = wrong
    return rows


def jsonl(folder):
    rows = [json.dumps(dict(zip(NAMES, row, strict=True))) for row in records()]
    rows[31:31] = ["[" * 100_000, "{", '{"n": "\\ud800"}']
    (folder / "a.jsonl").write_text("\n".join(rows))
    return {"source": str(folder / "a.jsonl")}


def sql(folder):
    with sqlite3.connect(folder / "a.db") as database:
        database.execute(f"create table t ({', '.join(NAMES)})")
        database.executemany("insert into t values (?, ?, ?, ?, ?, ?, ?)", records())
    database.close()
    return {"source": f"sqlite:///{folder}/a.db", "reading": {"query": "select * from t order by rowid"}}


def arrow():
    columns = [list(values) for values in zip(*ROWS, strict=True)]
    table = pa.table(dict(zip(NAMES, columns, strict=True)))
    never = pa.array(
        [10**15 if row == 41 else None for row in range(NUM_ROWS)], pa.timestamp("s")
    )  # beyond the calendar
    at = pa.chunked_array([table["at"].combine_chunks().cast(pa.timestamp("s"), safe=False)])
    at = pa.array([never[row].value if row == 41 else at[row].value for row in range(NUM_ROWS)], pa.timestamp("s"))
    return table.set_column(3, "at", at).set_column(0, "n", table["n"].cast(pa.float64()))


def parquet(folder):
    pq.write_table(arrow(), folder / "a.parquet", row_group_size=11)
    return {"source": str(folder), "timezone": "America/New_York"}


def delta(folder):
    from deltalake import write_deltalake

    table = arrow()
    write_deltalake(
        folder / "t", table.set_column(3, "at", pa.array([row[3] for row in ROWS], pa.timestamp("us", "UTC")))
    )
    return {"source": f"delta://{folder}/t"}


def iceberg(folder):
    from pyiceberg.catalog import sql as catalogs

    table = arrow().set_column(3, "at", pa.array([row[3] for row in ROWS], pa.timestamp("us")))
    catalog = catalogs.SqlCatalog("local", uri=f"sqlite:///{folder}/c.db", warehouse=f"file://{folder}/wh")
    catalog.create_namespace("ns")
    catalog.create_table("ns.t", schema=table.schema).append(table)
    location = catalog.load_table("ns.t").metadata_location
    catalog.engine.dispose()
    return {"source": f"iceberg://{location.removeprefix('file://')}", "timezone": "Asia/Tokyo"}


def pictures(folder):
    for number in range(20):
        data = encoded(striped(number % 2 == 0, seed=number))
        at = folder / ("up" if number % 2 == 0 else "flat") / f"{number:02}.png"
        at.parent.mkdir(exist_ok=True)
        at.write_bytes(data[:-40] if number == 5 else data)
    return {"source": str(folder), "target": "label"}


def letters(folder):
    words = {"warm": "sun and sand and heat", "cold": "snow and ice and wind"}
    for number in range(20):
        kind = ("warm", "cold")[number % 2]
        (folder / kind).mkdir(exist_ok=True)
        text = f"{words[kind]} of day {number} in the north"
        (folder / kind / f"{number:02}.txt").write_bytes(text.encode() if number != 7 else "Öl".encode("latin-1"))
    return {"source": str(folder), "reading": {"format": "text"}, "target": "label"}


def picture_paths(folder):
    rows = ["photo,y"]
    for number in range(20):
        (folder / f"{number}.png").write_bytes(encoded(striped(number % 2 == 0, seed=number)))
        rows.append(f"{'missing' if number == 3 else number}.png,{number % 2}")
    (folder / "a.csv").write_text("\n".join(rows))
    return {"source": str(folder / "a.csv"), "kinds": {"photo": "image"}}


FORMATS = [
    csv, marked_csv, german_csv, notated_csv, excel, packed_tsv, package, jsonl, sql, parquet, delta, iceberg, pictures,
    letters,
    picture_paths,
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Store.open(tmp_path_factory.mktemp("store"))


def trained(store, name, data, target, folder):
    """A model that learned from a source; its rows, and the numbers of those in quarantine."""
    taken = snapshot.take(store, data, target=target, folder=folder)
    table = taken.snapshot.table().sort_by(ROW)
    classes = tuple(sorted(set(table[target].to_pylist())))
    task = Task(kind=TaskKind.BINARY, target=target, classes=classes)
    rows = table.drop_columns([ROW])
    options = ReadOptions.of(data, taken.snapshot.schema)
    made = stored(store, rows, taken.snapshot.schema, task, "linear", example={}, read_options=options)
    registry.set_alias(store, name, "champion", registry.register(store, name, made), "test")
    quarantine = folder / "quarantine.parquet"
    rejected = pq.read_table(quarantine)["row"].to_pylist() if quarantine.is_file() else []
    return made, rows, sorted(rejected)


def predicted(store, name, source, out, settings=()):
    result = batch.predict(store, name, source, out, settings=settings, max_rejected_fraction=1)
    folder = out / "_rejected"
    rejected = pq.read_table(folder)["row"].to_pylist() if folder.is_dir() else []
    assert result.num_rejected == len(rejected)
    return pq.read_table(out), sorted(rejected)


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_the_file_of_training_is_predicted_with_its_values_and_its_rejected_rows(store, tmp_path, write, monkeypatch):
    folder = tmp_path / "source"
    folder.mkdir()
    settings = write(folder)
    target = settings.pop("target", "y")
    if path := settings.pop("path", None):
        monkeypatch.syspath_prepend(str(path))
    data = DataSection(**settings, max_bad_fraction=0.3)
    name = write.__name__.replace("_", "-")
    made, rows, quarantined = trained(store, name, data, target, tmp_path / "run")
    query = [f"reading.query={data.reading.query}"] if data.reading.query else []
    table, rejected = predicted(store, name, data.source, tmp_path / "out", query)
    assert rejected == quarantined
    has_null_values = any(column.null_values for column in made.schema)
    assert (bool(rejected) or has_null_values) is (write not in {delta, iceberg})
    truth = Predictor(bundle.open(store, made.digest)).table(rows)
    probabilities = table[f"probability_{made.task.classes[1]}"].to_pylist()
    assert probabilities == truth.probabilities[:, 1].tolist()
    assert len(set(probabilities)) > (3 if made.task.target == "label" else NUM_ROWS / 4)  # every column counts


def test_numbers_of_a_contract_are_whole_however_they_are_written(store, tmp_path):
    """3.0 and 1e3 of an int64 column are 3 and 1000 in training, in a file to predict and in a request."""
    contract = "columns:\n- {name: n, type: int64, kind: numeric}\n- {name: y, type: int64, kind: categorical}\n"
    (tmp_path / "contract.yaml").write_text(contract)
    written = ["3.0", "1e3", "3.5", "9007199254740993.0", "+4", "-2.50e1", "x", "1e999"]
    (tmp_path / "a.csv").write_text("n,y\n" + "".join(f"{n},{row % 2}\n" for row, n in enumerate([*written, "7", "8"])))
    data = DataSection(source=str(tmp_path / "a.csv"), contract=str(tmp_path / "contract.yaml"), max_bad_fraction=0.9)
    made, rows, quarantined = trained(store, "whole", data, "y", tmp_path / "run")
    assert rows["n"].to_pylist() == [3, 1000, 4, -25, 7, 8]
    assert quarantined == [2, 3, 6, 7]
    assert predicted(store, "whole", data.source, tmp_path / "out")[1] == quarantined
    assert Predictor(made).conform([{"n": 3.0}, {"n": 1e3}]) == [{"n": 3}, {"n": 1000}]


def test_a_flag_of_a_contract_is_one_or_zero_and_no_other_number(store, tmp_path):
    contract = "columns:\n- {name: b, type: bool, kind: boolean}\n- {name: y, type: int64, kind: categorical}\n"
    (tmp_path / "contract.yaml").write_text(contract)
    pq.write_table(pa.table({"b": [1, 0, 2, 1, 0], "y": [1, 0, 1, 1, 0]}), tmp_path / "a.parquet")
    data = DataSection(
        source=str(tmp_path / "a.parquet"), contract=str(tmp_path / "contract.yaml"), max_bad_fraction=0.9
    )
    _, rows, quarantined = trained(store, "flags", data, "y", tmp_path / "run")
    assert (rows["b"].to_pylist(), quarantined) == ([True, False, True, False], [2])
    assert predicted(store, "flags", data.source, tmp_path / "out")[1] == [2]


def test_nan_of_a_typed_file_is_a_missing_value_of_training_and_of_prediction(store, tmp_path):
    table = pa.table({"d": [0.5, float("nan"), 2.0, 3.0, 1.0, 4.0], "y": [0, 1, 0, 1, 0, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    data = DataSection(source=str(tmp_path / "a.parquet"))
    made, _, quarantined = trained(store, "nan", data, "y", tmp_path / "run")
    assert made.schema["d"].nullable
    assert predicted(store, "nan", data.source, tmp_path / "out")[1] == quarantined == []


def test_a_time_of_int96_beyond_nanoseconds_is_the_time_that_was_written(store, tmp_path):
    never = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
    times = [never, dt.datetime(2020, 1, 1, 8, tzinfo=dt.UTC)] * 3
    table = pa.table({"at": pa.array(times, pa.timestamp("us")), "y": [0, 1] * 3})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    data = DataSection(source=str(tmp_path / "a.parquet"))
    _, rows, quarantined = trained(store, "int96", data, "y", tmp_path / "run")
    assert (rows["at"].to_pylist(), quarantined) == (times, [])


@pytest.mark.parametrize(("type_", "kind", "bad"), [
    ("decimal128(10, 2)", "numeric", ["1.555", "x", "[1, 2]"]),
    ("list<item: int64>", "list", ["1.5", "2", "x", "[1.5]"]),
])  # fmt: skip
def test_texts_that_do_not_fit_a_rare_type_of_a_contract_are_rejected(store, tmp_path, type_, kind, bad):
    good = [" 1.50", "1e3", "+2"] if kind == "numeric" else ["[1, 2]", "[3.0]", "[]"]
    cells = [*good, *bad]
    contract = (
        f"columns:\n- {{name: x, type: '{type_}', kind: {kind}}}\n- {{name: y, type: int64, kind: categorical}}\n"
    )
    (tmp_path / "contract.yaml").write_text(contract)
    (tmp_path / "a.csv").write_text("x;y\n" + "".join(f"{cell};{row % 2}\n" for row, cell in enumerate(cells)))
    data = DataSection(
        source=str(tmp_path / "a.csv"), contract=str(tmp_path / "contract.yaml"), max_bad_fraction=0.9,
        reading=Reading(delimiter=";"),
    )  # fmt: skip
    taken = snapshot.take(store, data, target="y", folder=tmp_path / "run").snapshot.table()
    stored = [[Decimal("1.50"), Decimal("1000.00"), Decimal("2.00")], [[1, 2], [3], []]][kind == "list"]
    assert taken["x"].to_pylist() == stored


def test_columns_of_folder_names_are_those_of_a_file_to_predict_too(store, tmp_path):
    for region, y in (("north", 1), ("south", 0)):
        (tmp_path / "sales" / f"region={region}").mkdir(parents=True)
        rows = "".join(f"{n % 7},{y if n % 9 else 1 - y}\n" for n in range(40))
        (tmp_path / "sales" / f"region={region}" / "part-0.csv").write_text("n,y\n" + rows)
    (tmp_path / "sales" / "region=south" / "part-1.csv").write_text("")
    made, rows, _ = trained(store, "hive", DataSection(source=str(tmp_path / "sales")), "y", tmp_path / "run")
    assert set(rows["region"].to_pylist()) == {"north", "south"}
    truth = Predictor(made).table(rows).probabilities[:, 1].tolist()
    assert predicted(store, "hive", tmp_path / "sales", tmp_path / "all")[0]["probability_1"].to_pylist() == truth
    south = tmp_path / "sales" / "region=south" / "part-0.csv"
    assert predicted(store, "hive", south, tmp_path / "part")[0]["probability_1"].to_pylist() == truth[40:]
