"""Late labels that the store keeps: each once, whatever comes in."""

from __future__ import annotations

import concurrent.futures
import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from mlsys.deploy import label_files
from mlsys.monitor import label_store
from mlsys.monitor.labels import Labels, WrittenLabels
from mlsys.schema import Task, TaskKind
from mlsys.store import Store

BINARY = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))
NUMBER = Task(kind=TaskKind.REGRESSION, target="y")


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path)


def labels(task=BINARY, **columns):
    return WrittenLabels.read(pa.table(columns), task, "id")


def counts(added):
    return added.num_new, added.num_known, added.num_replaced


def test_labels_are_kept_once_and_the_last_one_counts(store):
    assert counts(label_store.add(store, "m", labels(id=["a", "b", "a"], late=[True, False, False]))) == (2, 1, 0)
    assert counts(label_store.add(store, "m", labels(id=["a", "b"], late=[False, False]))) == (0, 2, 0)
    assert counts(label_store.add(store, "m", labels(id=["b", "c"], late=[True, None]))) == (2, 0, 1)
    (written,) = label_store.written(store, "m", BINARY)
    coded = Labels.of(written, BINARY, "id").frame.sort("key")
    assert coded["key"].to_list() == ["a", "b", "c"]
    assert coded["y"].to_list()[:2] == [0.0, 1.0]
    assert coded["void"].to_list() == [False, False, True]
    assert label_store.written(store, "other", BINARY) == []


def test_numbers_come_back_as_they_were(store):
    values = [0.1, 1e-300, -2.5, float("nan")]
    label_store.add(store, "m", labels(NUMBER, id=["a", "b", "c", "d"], y=values))
    (written,) = label_store.written(store, "m", NUMBER)
    frame = Labels.of(written, NUMBER, "id").frame
    assert np.array_equal(frame["y"].to_numpy(), values, equal_nan=True)
    assert frame["void"].to_list() == [False, False, False, True]


def test_labels_by_prediction_and_by_entity_are_kept_apart(store):
    at = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]
    label_store.add(store, "m", labels(prediction_id=["a"], label=[True]))
    label_store.add(store, "m", labels(id=["a"], late=["0"], known_at=at))
    assert {each.key: each.frame["known_at"].to_list() for each in label_store.written(store, "m", BINARY)} == {
        "prediction_id": [None],
        "id": at,
    }


def test_a_damaged_file_costs_no_other(store):
    for name in "abc":
        label_store.add(store, "m", labels(id=[name], late=[True]))
    first = min(label_files.folder_of(store, "m").glob("*.parquet"))
    first.write_bytes(b"PAR1")
    assert label_files.read(store, "m")["key"].to_list() == ["b", "c"]


def test_labels_that_come_at_once_from_several_sides_are_all_kept(store):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda k: label_store.add(store, "m", labels(id=[f"{k}"], late=[True])), range(12)))
    assert [counts(each) for each in added] == [(1, 0, 0)] * 12
    assert label_files.read(store, "m").height == 12
    assert len({path.name[:6] for path in label_files.folder_of(store, "m").glob("*.parquet")}) == 12
