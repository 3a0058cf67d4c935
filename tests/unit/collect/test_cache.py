from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.collect import pipeline
from mlsys.readers import registry
from mlsys.recipe import Reading
from mlsys.store import Store


@pytest.fixture
def elsewhere(tmp_path):
    """A store that has seen nothing."""
    return Store.open(tmp_path / "elsewhere")


@pytest.fixture
def parsed(monkeypatch):
    """Names of the pieces that were read, in order."""
    names, real = [], registry.batches

    def batches(piece, reading, broken):
        names.append(piece.name)
        return real(piece, reading, broken)

    monkeypatch.setattr(registry, "batches", batches)
    return names


def lines(first, count):
    return "x,c,y\n" + "".join(f"{i},{'ab'[i % 2]},{i % 2}\n" for i in range(first, first + count))


@pytest.fixture
def folder(write, tmp_path):
    for name, first in (("b", 0), ("d", 50), ("f", 100)):
        write(f"in/{name}.csv", lines(first, 50))
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["a", "c", "g"])
def test_a_new_file_is_the_only_one_parsed_and_the_digest_is_that_of_a_first_collect(
    take, write, folder, parsed, elsewhere, name
):
    take(folder)
    parsed.clear()
    write(f"in/{name}.csv", lines(1000, 20) + "only one cell\n")
    taken = take(folder, max_bad_fraction=0.1)
    assert parsed == [f"{name}.csv"]
    assert (taken.report["num_pieces"], taken.report["num_reused"]) == (4, 3)
    whole = take(folder, into=elsewhere, max_bad_fraction=0.1)
    assert whole.report["num_reused"] == 0
    assert taken.snapshot.digest == whole.snapshot.digest
    assert taken.report["quarantine"] == whole.report["quarantine"]


def test_a_file_that_is_gone_or_changed_is_gone_or_changed_in_the_snapshot(take, write, folder, parsed, elsewhere):
    take(folder)
    (folder / "b.csv").unlink()
    write("in/f.csv", lines(100, 51))
    parsed.clear()
    taken = take(folder)
    assert parsed == ["f.csv"]
    assert taken.snapshot.num_rows == 101
    assert taken.snapshot.digest == take(folder, into=elsewhere).snapshot.digest


def test_parts_of_unchanged_files_are_the_same_file_on_disk(take, write, folder):
    first = take(folder).snapshot
    write("in/g.csv", lines(1000, 20))
    second = take(folder).snapshot
    assert [p.stat().st_ino for p in second.paths[:3]] == [p.stat().st_ino for p in first.paths]


def test_a_wider_type_in_a_new_file_rewrites_the_old_parts(take, write, folder, elsewhere):
    take(folder)
    write("in/g.csv", "x,c,y\n0.5,a,1\n")
    taken = take(folder)
    assert taken.snapshot.schema["x"].type == "double"
    assert taken.report["num_reused"] == 0
    assert taken.snapshot.digest == take(folder, into=elsewhere).snapshot.digest


def test_other_reading_settings_are_another_reading(take, write, parsed):
    file = write("a.csv", "x,y\n1,0\nabsent,1\n3,1\n")
    assert take(file).snapshot.table()["x"].to_pylist() == ["1", "absent", "3"]
    taken = take(file, reading=Reading(null_values=("absent",)), evolution="accept")
    assert taken.snapshot.table()["x"].to_pylist() == [1, None, 3]


def test_a_renamed_file_is_named_in_the_quarantine_by_its_new_name(take, write, tmp_path):
    write("in/a.csv", lines(0, 200) + "1\n")
    take(tmp_path / "in")
    (tmp_path / "in/a.csv").rename(tmp_path / "in/z.csv")
    taken = take(tmp_path / "in")
    assert taken.report["quarantine"]["cells: 1 in a table of 3 columns"]["samples"] == ["'1' in 'z.csv' row 200"]


class Killed(BaseException):
    """What no handler of ours catches."""


def test_a_collection_killed_at_any_write_ends_as_an_undisturbed_one(
    take, write, folder, elsewhere, monkeypatch, tmp_path
):
    undisturbed = take(folder, into=elsewhere).snapshot.digest
    write("in/g.csv", lines(1000, 20))
    grown = take(folder, into=elsewhere).snapshot.digest
    (folder / "g.csv").unlink()
    steps = ("commit", "remember", "staging")
    real = {name: getattr(Store, name) for name in steps}
    countdown = [0]

    def dying(name):
        def step(*args, **kwargs):
            countdown[0] -= 1
            if countdown[0] == 0:
                raise Killed
            return real[name](*args, **kwargs)

        return step

    for name in steps:
        monkeypatch.setattr(Store, name, dying(name))
    for number in range(1, 100):
        store = Store.open(tmp_path / f"store-{number}")
        (folder / "g.csv").unlink(missing_ok=True)
        countdown[0] = number
        try:
            take(folder, into=store)
        except Killed:
            countdown[0] = 0
            assert take(folder, into=store).snapshot.digest == undisturbed
        write("in/g.csv", lines(1000, 20))
        try:
            take(folder, into=store)
        except Killed:
            countdown[0] = 0
            assert take(folder, into=store).snapshot.digest == grown
        if countdown[0] > 0:  # all of it was done before this step was reached
            break
    assert number > 15


def test_a_file_written_to_while_it_is_read_is_refused_and_not_remembered(take, write, monkeypatch, parsed):
    file = write("a.csv", lines(0, 50))
    real = pipeline._scan

    def grown(job, sha256):
        found = real(job, sha256)
        with file.open("a") as out:
            out.write("7,a,1\n")
        return found

    monkeypatch.setattr(pipeline, "_scan", grown)
    with pytest.raises(errors.SourceError, match="changed while it was read"):
        take(file)
    monkeypatch.setattr(pipeline, "_scan", real)
    assert take(file).snapshot.num_rows == 51


def test_typed_files_are_reused_too(take, tmp_path, parsed):
    (tmp_path / "in").mkdir()
    for name in "ab":
        pq.write_table(pa.table({"x": [1, 2], "y": [0, 1]}), tmp_path / f"in/{name}.parquet")
    take(tmp_path / "in")
    parsed.clear()
    pq.write_table(pa.table({"x": [3], "y": [0]}), tmp_path / "in/c.parquet")
    assert take(tmp_path / "in").snapshot.table()["x"].to_pylist() == [1, 2, 1, 2, 3]
    assert parsed == ["c.parquet"]


def test_a_piece_remembers_nothing_of_what_is_no_file(take, store):
    take("sklearn://iris", target="target")
    (found,) = registry.find("sklearn://iris", Reading())
    assert found.digest() is None
    assert take("sklearn://iris", target="target").report["num_reused"] == 0
