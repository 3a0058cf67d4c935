"""The folder of predictions: whole or not at all, here and in a storage without renames of folders."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.deploy import batch_output
from mlsys.deploy.batch_output import RESULT, OutputFolder
from mlsys.readers import files


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A storage behind ``s3://``: a subtree of this machine that is no local file system to anybody."""
    (tmp_path / "bucket").mkdir()
    storage = pafs.SubTreeFileSystem(str(tmp_path / "bucket"), pafs.LocalFileSystem())
    monkeypatch.setattr(files, "filesystem", lambda uri: (storage, uri.removeprefix("s3://")))
    return tmp_path / "bucket"


@pytest.fixture(params=["path", "uri"])
def place(request, tmp_path, bucket):
    """An output by its path or URI, and where it lies."""
    return (
        (str(tmp_path / "out"), tmp_path / "out") if request.param == "path" else ("s3://b/out", bucket / "b" / "out")
    )


def fill(location, values, numbers=(0,), run=None):
    with OutputFolder(location).staging(run) as staged:
        for number in numbers:
            with staged.create(f"part-{number:05d}.parquet") as file:
                pq.write_table(pa.table({"x": values}), file)
        with staged.create("_rejected/part-00000.parquet") as file:
            pq.write_table(pa.table({"row": [1]}), file)
        staged.write_json(RESULT, {"rows": len(values)})


def fill_half(location):
    with OutputFolder(location).staging() as staged, staged.create("part-00000.parquet") as file:
        file.write(b"half")
        raise errors.ContractError("too many")


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_output_is_complete_and_replaced_as_a_whole(place):
    location, folder = place
    fill(location, [1, 2], numbers=(0, 1))
    assert contents(folder) == ["_rejected/part-00000.parquet", RESULT, "part-00000.parquet", "part-00001.parquet"]
    fill(location, [3])
    assert contents(folder) == ["_rejected/part-00000.parquet", RESULT, "part-00000.parquet"]
    assert pq.read_table(folder)["x"].to_pylist() == [3]
    assert json.loads((folder / RESULT).read_text()) == {"rows": 1}


def test_a_failure_leaves_the_old_output_and_nothing_of_the_new_one(place):
    location, folder = place
    fill(location, [1])
    before = contents(folder)
    with pytest.raises(errors.ContractError, match="too many"):
        fill_half(location)
    assert contents(folder) == before
    assert pq.read_table(folder)["x"].to_pylist() == [1]
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_something_else_is_not_replaced(place):
    location, folder = place
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.StoreError, match="something else is there"):
        OutputFolder(location)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_the_result_comes_last_and_goes_first_in_a_storage_without_renames(bucket, monkeypatch):
    """Who waits for it never reads a mixture of two outputs."""
    fill("s3://b/out", [1], numbers=(0, 1))
    steps, storage = [], files.filesystem("s3://b")[0]

    class Watched:
        def __getattr__(self, name):
            def call(*args, **kwargs):
                if name in {"move", "delete_file"}:
                    steps.append((name, args[-1].rpartition("/")[2]))
                return getattr(storage, name)(*args, **kwargs)

            return call

    monkeypatch.setattr(files, "filesystem", lambda uri: (Watched(), uri.removeprefix("s3://")))
    fill("s3://b/out", [2])
    assert steps[0] == ("delete_file", RESULT)
    assert steps[-1] == ("move", RESULT)


def test_what_was_left_of_an_interrupted_call_is_replaced(bucket):
    fill("s3://b/out", [1])
    (bucket / "b" / "out" / RESULT).unlink()
    (bucket / "b" / "out" / "_staging-0123abcd").mkdir()
    fill("s3://b/out", [2])
    assert pq.read_table(bucket / "b" / "out")["x"].to_pylist() == [2]


def test_a_scheme_that_nothing_writes_to_is_named(tmp_path):
    with pytest.raises(errors.StoreError, match="ftp://"):
        OutputFolder("ftp://host/out")


def test_a_relative_path_counts_from_where_the_command_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = OutputFolder("out")
    monkeypatch.chdir("/")
    with output.staging() as staged:
        staged.write_json(RESULT, {})
    assert (tmp_path / "out" / RESULT).is_file()


def test_whatever_move_is_interrupted_the_next_attempt_does_the_rest(bucket, monkeypatch):
    """The old output is replaced by the new one, of which no file is lost and none is of another run."""
    storage = files.filesystem("s3://b")[0]
    left = [0]

    class Interrupted:
        def __getattr__(self, name):
            def call(*args, **kwargs):
                if name in {"move", "delete_file"}:
                    if not left[0]:
                        raise KeyboardInterrupt
                    left[0] -= 1
                return getattr(storage, name)(*args, **kwargs)

            return call

    monkeypatch.setattr(files, "filesystem", lambda uri: (Interrupted(), uri.removeprefix("s3://")))
    steps, is_done = 0, False
    while not is_done:
        left[0] = 99
        fill("s3://b/out", [1], numbers=(0, 1, 2))
        left[0] = steps
        try:
            fill("s3://b/out", [2], numbers=(0, 1), run="0123abcd")
            is_done = True
        except KeyboardInterrupt:
            left[0] = 99
            with OutputFolder("s3://b/out").staging("0123abcd") as staged:
                assert staged.is_committed()
        names = ["_rejected/part-00000.parquet", RESULT, "part-00000.parquet", "part-00001.parquet"]
        assert contents(bucket / "b" / "out") == names
        assert pq.read_table(bucket / "b" / "out")["x"].to_pylist() == [2, 2]
        steps += 1
    assert steps > 5


def test_an_output_is_exchanged_or_renamed_with_the_same_result(tmp_path, monkeypatch):
    for is_able in (True, False):
        with monkeypatch.context() as patch:
            if not is_able:
                patch.setattr(batch_output, "_exchanged", lambda *_: False)
            fill(str(tmp_path / "out"), [1])
            fill(str(tmp_path / "out"), [2])
        assert pq.read_table(tmp_path / "out")["x"].to_pylist() == [2]
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_only_folders_of_runs_may_stand_beside_an_appended_run(place):
    location, folder = place
    (folder / "run=a").mkdir(parents=True)
    assert OutputFolder(location, "run=b").location.endswith("run=b")
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.StoreError, match="one to which runs were appended"):
        OutputFolder(location, "run=b")
