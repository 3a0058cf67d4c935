from __future__ import annotations

import datetime as dt
import gzip
import json
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors, recipe
from mlsys.collect import recipe_template, snapshot, split, task
from mlsys.schema import Kind, Role, TaskKind
from mlsys.store import Store
from pictures import folder


def rows(count=120):
    return [
        {
            "Order-Id": f"o{i:04d}",
            "n": i,
            "bought at": f"2024-01-{i % 28 + 1:02d}T10:00:00Z",
            "size": i * 7 % 13,
            "kind": "abc"[i % 3],
            "y": "rare" if i == 5 else ["low", "high", "mid"][i % 3],
        }
        for i in range(count)
    ]


def as_csv(path, delimiter=",", encoding="utf-8"):
    table = rows()
    lines = [table[0].keys(), *(row.values() for row in table)]
    path.write_text("\n".join(delimiter.join(map(str, line)) for line in lines), encoding=encoding)


def as_jsonl(path):
    path.write_text("\n".join(json.dumps(row) for row in rows()))


def as_parquet(path):
    pq.write_table(pa.Table.from_pylist(rows()), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("my table.csv", as_csv),
        ("2024-orders.csv", lambda path: as_csv(path, ";")),
        ("t.tsv", lambda path: as_csv(path, "\t")),
        ("u.csv", lambda path: as_csv(path, ",", "utf-16")),
        ("t.jsonl", as_jsonl),
        ("t.parquet", as_parquet),
    ],
)
def test_a_drafted_recipe_collects_divides_and_decides_without_edits(tmp_path, name, write):
    write(tmp_path / name)
    drafted = recipe.parse(recipe_template.write(str(tmp_path / name), "y"))
    store = Store.open(tmp_path / "store")
    taken = snapshot.take(store, drafted.data, target=drafted.target, folder=tmp_path / "run")
    what = task.decide(taken.snapshot, drafted)
    parts = split.divide(store, taken.snapshot, drafted, what)
    what = task.decide(taken.snapshot, drafted, [label for label, _ in parts.rare_classes])
    assert (what.kind, what.classes) == (TaskKind.MULTICLASS, ("high", "low", "mid"))
    assert parts.num_rows["unlabelled"] == 1
    roles = {column.name: column.role for column in taken.snapshot.schema}
    assert (roles["Order-Id"], roles["n"], roles["size"]) == (Role.ID, Role.IGNORE, Role.FEATURE)


def test_what_may_be_wanted_stands_as_a_comment(tmp_path):
    as_csv(tmp_path / "t.csv")
    text = recipe_template.write(str(tmp_path / "t.csv"), "y", name="orders")
    assert "name: orders\n" in text
    assert "  # time: bought at " in text
    assert "5 classes" not in text
    assert "4 classes: multiclass" in text


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S.%f"])
def test_times_that_a_typed_table_holds_as_text_are_no_identifiers(tmp_path, form):
    begin = dt.datetime(2011, 1, 1, tzinfo=dt.UTC)
    times = [(begin + dt.timedelta(days=day)).strftime(form) for day in range(60)]
    pq.write_table(pa.table({"at once": times, "y": list(range(60))}), tmp_path / "t.parquet")
    text = recipe_template.write(str(tmp_path / "t.parquet"), "y")
    assert "ignore" not in text
    drafted = recipe.parse(text.replace("# time: at once", "time: at once"))
    taken = snapshot.take(Store.open(tmp_path / "store"), drafted.data, target="y", folder=tmp_path / "run")
    assert taken.snapshot.schema["at once"].role is Role.TIME
    assert taken.snapshot.schema["at once"].kind is Kind.DATETIME


def test_a_misspelt_target_is_named(tmp_path):
    as_csv(tmp_path / "t.csv")
    with pytest.raises(errors.RecipeError, match="did you mean 'size'"):
        recipe_template.write(str(tmp_path / "t.csv"), "sise")


def test_bytes_that_are_not_utf8_are_read_as_what_they_are(tmp_path):
    (tmp_path / "t.csv").write_bytes("x,y\ncafé,1\nthé,0\n".encode("cp1252"))
    drafted = recipe.parse(recipe_template.write(str(tmp_path / "t.csv"), "y"))
    assert drafted.data.reading.encoding == "cp1252"


def test_a_folder_of_pictures_is_drafted_by_the_names_of_all_its_files(tmp_path):
    at = folder(tmp_path / "photos", 60)
    (at / "odd").mkdir()
    (at / "odd" / "1.png").write_bytes((at / "lying" / "0001.png").read_bytes())
    text = recipe_template.write(str(at), "label")
    drafted = recipe.parse(text)
    assert "3 classes: multiclass" in text
    assert drafted.data.id == "file"
    taken = snapshot.take(Store.open(tmp_path / "store"), drafted.data, target=drafted.target, folder=tmp_path / "run")
    what = task.decide(taken.snapshot, drafted)
    assert dict(split.divide(Store.open(tmp_path / "store"), taken.snapshot, drafted, what).rare_classes) == {"odd": 1}


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv.gz", gzip.compress(b"x,y\n1,0\n", mtime=0)[:-9], "end-of-stream"),
    ],
)
def test_a_file_that_no_encoding_makes_a_table_is_named(write, name, content, what):
    with pytest.raises(errors.SourceError, match=what):
        recipe_template.write(str(write(name, content)), "y")


def test_a_query_is_read_as_the_settings_say_and_stands_in_the_recipe(tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER, size REAL, kind TEXT)")
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", [(i, i % 7 + 0.5, "ab"[i % 2]) for i in range(100)])
    database.close()
    source = f"sqlite:///{tmp_path}/shop.db"
    drafted = recipe_template.draft(source, settings=["reading.query=SELECT * FROM orders WHERE id < 90"])
    assert recipe.parse(drafted.text).data.reading.query == "SELECT * FROM orders WHERE id < 90"
    assert drafted.messages[0] == f"looked at the 90 rows of {source}"


def test_every_choice_is_told_with_its_reason(tmp_path):
    as_csv(tmp_path / "t.csv")
    assert recipe_template.draft(str(tmp_path / "t.csv")).messages == (
        f"looked at the 120 rows of {tmp_path}/t.csv",
        "target 'y': its name says so; 4 classes: multiclass",
        "id 'Order-Id': a value of its own in every row",
        "ignored 'n': a value of its own in every row: nothing to learn from",
        "to be checked 'kind': it alone predicts the target with an AUC of 0.989; kept until you say so",
        "time 'bought at', in a comment: every row has one, 2024-01-01 to 2024-01-28",
    )


def test_many_columns_of_one_reason_are_one_sentence(tmp_path):
    columns = {f"p{i}": [0] * 100 for i in range(40)}
    pq.write_table(pa.table({**columns, "x": range(100), "y": [0, 1] * 50}), tmp_path / "t.parquet")
    drafted = recipe_template.draft(str(tmp_path / "t.parquet"))
    assert "ignored 40 columns (p0, p1, p2, …): the same value in every row" in drafted.messages
    assert len(recipe.parse(drafted.text).data.ignore) == 41
