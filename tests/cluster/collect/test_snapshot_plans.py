"""Many files over the cluster: the same snapshot as in one task, and the same errors."""

from __future__ import annotations

import pytest

from mlsys import errors
from mlsys.cluster import tasks
from mlsys.collect import snapshot
from mlsys.recipe import DataSection


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        lines = "".join(f"{number * 100 + i},{i % 2}\n" for i in range(100))
        (tmp_path / f"{number}.csv").write_text("x,y\n" + lines)
    return tmp_path


def test_both_plans_take_the_same_snapshot(store, folder, tmp_path_factory, monkeypatch):
    data = DataSection(source=str(folder), derive={"double": "x * 2"})
    run = tmp_path_factory.mktemp("run")
    in_a_task = snapshot.take(store, data, target="y", folder=run)
    monkeypatch.setattr(tasks, "TASK_BYTES", 1)
    spread = snapshot.take(store, data, target="y", folder=run)
    assert (in_a_task.report["plan"]["kind"], spread.report["plan"]["kind"]) == ("task", "cluster")
    assert spread.snapshot.digest == in_a_task.snapshot.digest
    assert spread.snapshot.table()["__row"].to_pylist() == list(range(300))


def test_an_error_in_a_piece_arrives_as_itself(store, folder, monkeypatch):
    monkeypatch.setattr(tasks, "TASK_BYTES", 1)
    (folder / "1.csv").write_bytes(b"x,y\n\xff,1\n")
    with pytest.raises(errors.SourceError, match=r"source '1.csv', line 2"):
        snapshot.take(store, DataSection(source=str(folder)), target="y", folder=folder / "run")


def test_both_plans_drop_the_same_repeats_and_take_only_what_is_new(store, folder, tmp_path_factory, monkeypatch):
    (folder / "2.csv").write_text("x,y\n7,0\n500,1\n501,0\n")
    data = DataSection(source=str(folder), dedupe={"keys": ("x",)}, incremental={"cursor": "x"})
    runs = [tmp_path_factory.mktemp("task"), tmp_path_factory.mktemp("spread")]
    in_a_task = snapshot.take(store, data, target="y", folder=runs[0])
    monkeypatch.setattr(tasks, "TASK_BYTES", 1)
    spread = snapshot.take(store, data, target="y", folder=runs[1])
    assert spread.snapshot.digest == in_a_task.snapshot.digest
    assert spread.report["num_superseded"] == 1
    (folder / "3.csv").write_text("x,y\n502,0\n")
    more = snapshot.take(store, data, target="y", folder=runs[1])
    assert (more.report["num_pieces"], more.report["plan"]["kind"]) == (4, "cluster")
    assert more.snapshot.table()["x"].to_pylist()[-3:] == [500, 501, 502]
