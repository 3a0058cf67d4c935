from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.collect import incremental, snapshot
from mlsys.readers import records
from mlsys.readers.base import CursorBound
from mlsys.recipe import DataSection, Reading
from mlsys.store import Store

CURSOR = {"incremental": {"cursor": "at"}}


@pytest.fixture
def database(tmp_path):
    """A growing table; call it with rows to insert."""
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("create table t (k integer, at text, y integer)")
    db.close()

    def insert(*rows):
        with sqlite3.connect(tmp_path / "a.db") as db:
            db.executemany("insert into t values (?, ?, ?)", rows)
        db.close()

    return insert


@pytest.fixture
def collect(take, tmp_path):
    def run(**data):
        return take(f"sqlite:///{tmp_path}/a.db", reading=Reading(query="select * from t;"), **{**CURSOR, **data})

    return run


def keys(taken):
    return taken.snapshot.table()["k"].to_pylist()


def test_a_second_collect_takes_the_rows_beyond_the_first(collect, database, tmp_path):
    database((1, "2024-01-01 10:00:00", 0), (2, "2024-01-02 10:00:00", 1))
    assert keys(collect()) == [1, 2]
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("delete from t")  # what was taken is kept
    db.close()
    database((3, "2024-01-03T09:00:00+00:00", 0))
    taken = collect()
    assert keys(taken) == [1, 2, 3]
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 1, 2]
    assert [one["name"] for one in taken.report["sources"]] == ["sqlite:///a.db", "sqlite:///a.db (2)"]


def test_nothing_new_is_the_same_snapshot(collect, database):
    database((1, "2024-01-01", 0), (2, "2024-01-02", 1))
    first = collect().snapshot.digest
    assert collect().snapshot.digest == first
    assert collect().report["num_reused"] == 1


def test_rows_at_the_mark_that_came_late_are_taken_once_each(collect, database):
    database((1, "2024-01-01", 0), (2, "2024-01-02", 1))
    collect()
    database((3, "2024-01-02", 1), (2, "2024-01-02", 1))  # one new, and the same row a second time
    assert keys(collect()) == [1, 2, 3, 2]
    assert keys(collect()) == [1, 2, 3, 2]


def test_a_row_without_cursor_is_set_aside_once_and_a_late_one_is_not_taken(collect, database):
    database((1, "2024-01-01", 0), (2, "2024-01-05", 1), (3, None, 1))
    taken = collect(max_bad_fraction=0.5)
    assert taken.report["quarantine"] == {
        "cursor 'at': no value": {"rows": 1, "samples": ['\'{"k": "3", "y": "1"}\' in \'sqlite:///a.db\' row 2']}
    }
    database((4, "2024-01-03", 0), (5, "2024-01-06", 0))
    taken = collect(max_bad_fraction=0.5)
    assert (keys(taken), taken.report["num_quarantined"]) == ([1, 2, 5], 1)


def test_a_growing_file_gives_its_new_lines(take, write, tmp_path):
    head = "k,at,y\n1,1,0\n2,2,1\nbroken\n"
    take(write("a.csv", head), max_bad_fraction=0.5, **CURSOR)
    file = write("a.csv", head + "3,3,0\nworse\n")
    taken = take(file, max_bad_fraction=0.5, **CURSOR)
    assert keys(taken) == [1, 2, 3]
    assert taken.report["num_quarantined"] == 2
    assert taken.snapshot.table()["__row"].to_pylist() == [0, 1, 3]
    write("a.csv", "k,at,y\n4,4,1\n")  # the log was rotated
    assert keys(take(file, max_bad_fraction=0.5, **CURSOR)) == [1, 2, 3, 4]


def test_types_are_decided_over_all_increments(take, write):
    file = write("a.csv", "x,at,y\n1,1,0\n02,2,1\n")
    take(file, max_bad_fraction=0.5, **CURSOR)
    taken = take(write("a.csv", "x,at,y\n2.5,3,1\n"), max_bad_fraction=0.5, **CURSOR)
    assert taken.snapshot.table()["x"].to_pylist() == [1.0, 2.0, 2.5]
    assert "column 'x': wider, int64 → double" in taken.report["notes"]


def test_json_lines_keep_what_is_text_and_what_is_a_list(take, write):
    def lines(*rows):
        return "\n".join(json.dumps(row) for row in rows)

    first = [{"at": 1, "s": "1", "v": [1, 2], "y": 0}, {"at": 2, "s": "2", "v": [3], "y": 1}]
    file = write("a.jsonl", lines(*first))
    take(file, **CURSOR)
    taken = take(write("a.jsonl", lines(*first, {"at": 3, "s": "3", "v": [], "y": 0, "z": 1})), **CURSOR)
    assert {c.name: c.type for c in taken.snapshot.schema} == {
        "at": "int64", "s": "string", "v": "list<item: double>", "y": "int64", "z": "int64",
    }  # fmt: skip
    assert taken.snapshot.num_rows == 3


def test_parquet_files_that_come_and_go_add_up(take, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        for old in (tmp_path / "in").iterdir():
            old.unlink()
        at = pa.array([number * 10**6, number * 10**6 + 1], pa.timestamp("us", "UTC"))
        table = pa.table({"k": [number, number], "at": at, "y": [0, 1]})
        pq.write_table(table, tmp_path / f"in/{number}.parquet")
        pq.write_table(table.slice(0, 0), tmp_path / "in/-none.parquet")
        taken = take(tmp_path / "in", **CURSOR)
    assert keys(taken) == [0, 0, 1, 1, 2, 2]


def test_the_last_of_a_key_stays_across_increments(collect, database):
    database((1, "2024-01-01", 0), (2, "2024-01-02", 1))
    collect(dedupe={"keys": ("k",), "order": "at"})
    database((1, "2024-01-03", 1), (3, "2024-01-03", 0))
    taken = collect(dedupe={"keys": ("k",), "order": "at"})
    assert (keys(taken), taken.report["num_superseded"]) == ([2, 1, 3], 1)


@pytest.mark.parametrize(
    ("cursor", "message"),
    [("att", r"'data.incremental.cursor': no column 'att'(.|\n)*did you mean 'at'"), ("c", "numbers or times")],
)
def test_a_cursor_that_cannot_be_one_is_refused(take, write, cursor, message):
    with pytest.raises(errors.RecipeError, match=message):
        take(write("a.csv", "c,at,y\nx,1,0\nz,2,1\n"), incremental={"cursor": cursor})


def test_a_number_beside_a_time_is_set_aside(take, write):
    take(write("a.csv", "x,at,y\n1,2024-01-01,0\n2,2024-01-02,1\n"), **CURSOR)
    taken = take(write("a.csv", "x,at,y\n3,soon,1\n4,2024-01-03,1\n"), max_bad_fraction=0.5, **CURSOR)
    assert (taken.snapshot.num_rows, list(taken.report["quarantine"])) == (3, ["cursor 'at': not timestamp"])


def test_a_refused_collection_is_taken_again(collect, database):
    database((1, "2024-01-01", 0), (2, "2024-01-02", 1))
    collect()
    database((3, "2024-01-03", "oops"), (4, "2024-01-04", 1))
    with pytest.raises(errors.ContractError, match="1 of 4 rows"):
        collect(kinds={"y": "numeric"})
    assert keys(collect(kinds={"y": "numeric"}, max_bad_fraction=0.5)) == [1, 2, 4]


class Killed(BaseException):
    """What no handler of ours catches."""


def test_killed_at_any_write_each_row_is_taken_exactly_once(monkeypatch, write, tmp_path):
    data = DataSection(
        source=str(write("a.csv", "k,at,y\n1,1,0\n2,2,1\n")), incremental={"cursor": "at", "lookback": 1}
    )
    left = [0]

    def dying(real):
        def step(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*args, **kwargs)

        return step

    def run(number):
        return snapshot.take(Store.open(tmp_path / f"s{number}"), data, target="y", folder=tmp_path / f"run{number}")

    digests = []
    write("a.csv", "k,at,y\n1,1,0\n2,2,1\n")
    digests.append(run(0).snapshot.digest)
    write("a.csv", "k,at,y\n1,1,0\n2,2,1\n3,2,1\n4,3,0\n5,1,1\n")
    digests.append(run(0).snapshot.digest)
    for name in ("commit", "remember", "staging"):
        monkeypatch.setattr(Store, name, dying(getattr(Store, name)))
    monkeypatch.setattr("mlsys.collect.history.write_json", dying(snapshot.history.write_json))
    for number in range(1, 60):
        left[0], survived = number, True
        for content, digest in zip(("", "3,2,1\n4,3,0\n5,1,1\n"), digests, strict=True):
            write("a.csv", "k,at,y\n1,1,0\n2,2,1\n" + content)
            try:
                run(number)
            except Killed:
                survived = False
            until, left[0] = left[0], 0
            assert run(number).snapshot.digest == digest
            left[0] = until
        if survived:
            break
    assert number > 10


def test_a_process_killed_while_it_collects_leaves_nothing_half_done(write, tmp_path):
    head = "k,at,y\n" + "".join(f"{i},{i},{i % 2}\n" for i in range(30_000))
    file, folder = write("a.csv", head), tmp_path / "run"
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from mlsys.collect import pipeline, snapshot
        from mlsys.recipe import DataSection
        from mlsys.store import Store
        real = pipeline.write
        def write(job):
            made = real(job)
            print("written", flush=True)
            sys.stdin.read()
            return made
        pipeline.write = write
        data = DataSection(source=sys.argv[1], incremental={"cursor": "at"})
        snapshot.take(Store.open(sys.argv[2]), data, target="y", folder=Path(sys.argv[3]))
    """)
    command = [sys.executable, "-c", script, str(file), str(tmp_path / "store"), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    data = DataSection(source=str(file), incremental={"cursor": "at"})
    again = snapshot.take(Store.open(tmp_path / "store"), data, target="y", folder=folder)
    assert again.report["num_reused"] == 1  # what the killed process had finished
    undisturbed = snapshot.take(Store.open(tmp_path / "other"), data, target="y", folder=tmp_path / "run2")
    assert again.snapshot.digest == undisturbed.snapshot.digest


def test_a_file_that_grows_while_it_is_read_is_refused_and_nothing_of_it_kept(take, write, monkeypatch):
    file, real = write("a.csv", "k,at,y\n1,1,0\n2,2,1\n"), incremental._Increment.write

    def grown(self, folder):
        facts = real(self, folder)
        with file.open("a") as out:
            out.write("3,3")
        return facts

    monkeypatch.setattr(incremental._Increment, "write", grown)
    with pytest.raises(errors.SourceError, match="changed while it was read"):
        take(file, **CURSOR)
    monkeypatch.undo()
    write("a.csv", "k,at,y\n1,1,0\n2,2,1\n3,3,1\n")
    assert keys(take(file, **CURSOR)) == [1, 2, 3]


def test_only_the_rows_beyond_are_asked_of_a_database(tmp_path):
    query = records._beyond("select * from t;", CursorBound("at", "timestamp", 1_704_189_600_000_000), '"at"')
    assert query == (
        'SELECT * FROM (select * from t\n) AS collected WHERE "at" >= :beyond_mark',
        {"beyond_mark": "2024-01-01"},
    )
    query = records._beyond("select * from t", CursorBound("k", "int64", 7), "k")
    assert query[1] == {"beyond_mark": 7}


def test_numbers_that_a_database_holds_as_text_are_no_cursor_for_it_would_lose_rows(take, tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("create table t (k text, y integer)")
        db.executemany("insert into t values (?, ?)", [("8", 0), ("9", 1), ("10", 0)])
    db.close()
    data = {"incremental": {"cursor": "k"}}
    with pytest.raises(errors.RecipeError, match=r"(?s)'data.incremental.cursor'.*CAST\(k AS BIGINT\) AS k"):
        take(f"sqlite:///{tmp_path}/a.db", reading=Reading(query="select * from t"), **data)
    query = "select cast(k as bigint) as k, y from t"
    assert keys(take(f"sqlite:///{tmp_path}/a.db", reading=Reading(query=query), **data)) == [8, 9, 10]


@pytest.mark.parametrize(
    ("name", "head", "half", "rest"),
    [
        ("a.csv", "k,at,y\n1,1,0\n2,2,1\n", "3,3,1", "0\n"),
        ("a.jsonl", '{"k": 1, "at": 1, "y": 0}\n{"k": 2, "at": 2, "y": 1}\n', '{"k": 3, "at": 3, "y": 1', "0}\n"),
        ("a.csv", 'k,at,y\n1,1,0\n2,2,"1"\n', '3,3,"1', '0"\n'),
    ],
)
def test_half_a_line_is_left_until_its_end_is_written(take, write, name, head, half, rest):
    taken = take(write(name, head + half), **CURSOR)
    assert keys(taken) == [1, 2]
    assert taken.report["notes"] == [f"'{name}' ends within a line, which is left for the next collection"]
    taken = take(write(name, head + half + rest), **CURSOR)
    assert taken.snapshot.table()["y"].to_pylist() == [0, 1, 10]
    assert (taken.report["notes"], taken.report["num_quarantined"]) == ([], 0)


def test_a_whole_json_object_needs_no_line_end(take, write):
    text = '{"k": 1, "at": 1, "y": 0}\n{"k": 2, "at": 2, "y": 1}'
    for more, found in (("", [1, 2]), ("\n", [1, 2]), ('\n{"k": 3, "at": 3, "y": 1}\n', [1, 2, 3])):
        taken = take(write("a.jsonl", text + more), **CURSOR)
        assert (keys(taken), taken.report["notes"]) == (found, [])


def test_a_line_end_over_the_border_of_two_chunks_ends_its_line(take, write, monkeypatch):
    monkeypatch.setattr("mlsys.readers.decoding.CHUNK_BYTES", 7)
    text = "k,at,y\n" + "".join(f"{i},{i},{i % 2}\n" for i in range(50))
    assert keys(take(write("a.csv", text + "50,5"), **CURSOR)) == list(range(50))
