"""A staging folder remembers what attempts of one run finished."""

import pyarrow.fs as pafs
import pytest

from mlsys import errors
from mlsys.deploy.batch_staging import COMMIT, PLAN, PROGRESS, StagedFolder, attempt_name, final_name
from mlsys.readers import files

PLANNED = {"run": "r1", "predicted_at": "2026-01-01T00:00:00+00:00", "fragments": ["a", "b"]}


@pytest.fixture(params=["path", "uri"])
def staged(request, tmp_path, monkeypatch):
    """A staging folder on this machine, and one in a storage that is no local file system to anybody."""
    if request.param == "path":
        return StagedFolder(str(tmp_path / "out"))
    storage = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    monkeypatch.setattr(files, "filesystem", lambda uri: (storage, uri.removeprefix("s3://")))
    return StagedFolder("s3://out")


def write(staged, number):
    name = attempt_name(number)
    with staged.create(name) as file:
        file.write(b"rows")
    return name


def test_a_note_counts_while_the_fragment_is_the_same_and_its_files_are_there(staged):
    assert staged.begin(PLANNED) == PLANNED
    names = [write(staged, number) for number in range(2)]
    for number, key in enumerate("ab"):
        staged.note(number, {"key": key, "files": [names[number]], "counts": {"num_rows": number}})
    assert {number: note["counts"]["num_rows"] for number, note in staged.notes(["a", "b"]).items()} == {0: 0, 1: 1}
    assert set(staged.notes(["a", "changed"])) == {0}
    storage, root = staged._place(names[0])
    storage.delete_file(root)
    assert set(staged.notes(["a", "b"])) == {1}


def test_a_file_without_a_note_is_not_finished(staged):
    staged.begin(PLANNED)
    write(staged, 0)
    assert staged.notes(["a", "b"]) == {}


def test_the_next_attempt_has_the_time_of_the_first_one(staged):
    staged.begin(PLANNED)
    assert staged.begin({**PLANNED, "predicted_at": "2027-01-01T00:00:00+00:00"}) == PLANNED


def test_what_a_run_with_other_fragments_left_is_deleted(staged):
    staged.begin(PLANNED)
    staged.note(0, {"key": "a", "files": [], "counts": {}})
    other = {**PLANNED, "fragments": ["c"]}
    assert staged.begin(other) == other
    assert staged.names() == [PLAN]


def test_a_damaged_note_or_plan_is_none(staged):
    staged.begin(PLANNED)
    for name in (PLAN, f"{PROGRESS}/00000.json"):
        with staged.create(name) as file:
            file.write(b'{"run": ')
    assert staged.read_json(PLAN) is None
    assert staged.notes(["a", "b"]) == {}
    assert staged.begin(PLANNED) == PLANNED


def test_a_commit_names_the_files_of_the_output(staged):
    staged.begin(PLANNED)
    assert not staged.is_committed()
    staged.commit(["part-00000-0123abcd.parquet"])
    assert staged.is_committed()
    assert staged.committed() == ["part-00000-0123abcd.parquet"]
    assert staged.names() == [COMMIT, PLAN]


def test_a_file_that_is_not_finished_is_deleted(staged):
    staged.begin(PLANNED)
    with pytest.raises(ZeroDivisionError), staged.create("part-00000-0123abcd.parquet"):
        raise ZeroDivisionError
    assert staged.names() == [PLAN]


def test_no_two_attempts_have_a_name_in_common():
    names = {attempt_name(3) for _ in range(100)}
    assert len(names) == 100
    assert {final_name(name) for name in names} == {"part-00003.parquet"}


def test_a_scheme_that_nothing_writes_to_is_named():
    with pytest.raises(errors.StoreError, match="ftp://"):
        StagedFolder("ftp://host/out").names()
