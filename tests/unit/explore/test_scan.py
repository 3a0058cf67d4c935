import collections
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors, limits
from mlsys.explore import document, leakage, scan
from mlsys.features import plan, program
from mlsys.schema import ROW, Column, Kind, Schema, Task
from mlsys.statistics import TableStatistics

TASK = Task(kind="binary", target="y", classes=(0, 1))


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table({"x": rng.normal(size=n), "c": rng.choice(["a", "b"], n), "y": rng.integers(0, 2, n)})


def test_every_training_row_is_counted_once_in_its_fold(divide):
    train = rows(900)
    statistics = scan.profile(divide(train, test=rows(50, 1)), TASK).statistics
    assert {fold: table.num_rows for fold, table in statistics.folds.items()} == {0: 300, 1: 300, 2: 300}
    assert statistics.whole().columns["x"].result().mean == pytest.approx(np.mean(train["x"].to_numpy()))
    assert statistics.whole().class_counts() == dict(enumerate(np.bincount(train["y"]).tolist()))


def test_progress_is_told(divide):
    told = []
    scan.profile(divide(rows(100)), TASK, progress=told.append)
    assert told == ["1 of 2 fragments scanned", "2 of 2 fragments scanned"]


def test_derived_features_are_counted_with_the_others(divide):
    train = rows(300)
    split = divide(train)
    schema = Schema(columns=(*split.schema.columns, Column(name="double_x", type="double", kind=Kind.NUMERIC)))
    whole = scan.profile(split, TASK, schema=schema, derive={"double_x": "x * 2"}).statistics.whole()
    assert whole.columns["double_x"].result().mean == pytest.approx(2 * np.mean(train["x"].to_numpy()))


def test_pieces_depend_on_the_rows_alone(divide):
    split = divide(rows(500))
    found = scan.fragments(split.paths("train"))
    assert [piece.path.name for piece in found] == ["part-00000.parquet", "part-00001.parquet"]
    assert [piece.row_groups for piece in found] == [(0,), (0,)]


def test_pieces_of_a_wide_table_have_fewer_rows(tmp_path, monkeypatch):
    pq.write_table(rows(60), tmp_path / "a.parquet", row_group_size=10)
    assert [piece.row_groups for piece in scan.fragments([tmp_path / "a.parquet"])] == [(0, 1, 2, 3, 4, 5)]
    monkeypatch.setattr(limits, "TASK_CELLS", 20 * 3)
    assert [piece.row_groups for piece in scan.fragments([tmp_path / "a.parquet"])] == [(0, 1), (2, 3), (4, 5)]


def test_a_task_of_many_pieces_sees_what_their_own_tasks_would_see(divide, monkeypatch):
    split = divide(rows(3_000))
    told, alone = [], scan.profile(split, TASK)
    monkeypatch.setattr(scan, "MOST_TASKS", 1)
    together = scan.profile(split, TASK, progress=told.append)
    assert told == ["2 of 2 fragments scanned"]
    assert json.dumps(together.statistics.to_json()) == json.dumps(alone.statistics.to_json())
    assert together.sample.equals(alone.sample)
    assert together.records.tolist() == alone.records.tolist()


def test_the_same_split_gives_the_same_bytes(divide):
    split = divide(rows(3_000))
    one, two = (json.dumps(scan.profile(split, TASK).statistics.to_json()) for _ in range(2))
    assert one == two


def test_a_training_part_without_files_is_an_error(divide):
    split = divide(rows(10))
    shutil.rmtree(split.folder / "train")
    with pytest.raises(errors.TargetError, match="no rows with a target"):
        scan.profile(split, TASK)


def test_a_sample_is_of_about_the_wanted_size_and_always_the_same(divide, monkeypatch):
    monkeypatch.setattr(scan, "SAMPLE_ROWS", 2_000)
    split = divide(rows(20_000))
    one, two = (scan.profile(split, TASK).sample for _ in range(2))
    assert abs(one.num_rows - 2_000) < 5 * np.sqrt(2_000)
    assert one.equals(two)
    positions = np.asarray(one[ROW]) / 20_000
    assert np.mean(positions) == pytest.approx(0.5, abs=0.04)


def test_few_rows_are_all_in_the_sample(divide):
    assert scan.profile(divide(rows(77)), TASK).sample.num_rows == 77


def test_repeated_rows_are_counted_over_all_files(divide):
    train = rows(100)
    assert scan.profile(divide(pa.concat_tables([train, train.slice(3, 7)])), TASK).num_duplicates == 7


def test_images_are_in_the_sample_as_a_hash_of_their_bytes(divide, schema_of):
    train = rows(60).append_column("photo", pa.array([bytes([n % 50]) * 1_000 for n in range(60)]))
    kinds = {"photo": Kind.IMAGE}
    schema = Schema(columns=tuple(c.model_copy(update={"kind": kinds.get(c.name, c.kind)}) for c in schema_of(train)))
    photos = scan.profile(divide(train, schema), TASK).sample["photo"]
    assert photos.type == pa.uint64()
    assert len(photos.unique()) == 50


def test_one_reading_of_the_training_rows_is_enough_for_all_that_is_learned_from_them(divide, monkeypatch):
    """Report, leakage scan, the features of every choice of folds and the baseline of the monitor."""
    read, count = pq.ParquetFile.read_row_groups, collections.Counter()

    def counted(file, row_groups, columns=None, **more):
        count.update(row_groups)
        return read(file, row_groups, columns=columns, **more)

    split = divide(rows(900), test=rows(50, 1))
    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    profile = scan.profile(split, TASK)
    assert sum(count.values()) == sum(pq.read_metadata(path).num_row_groups for path in split.paths("train"))

    monkeypatch.undo()
    shutil.rmtree(split.folder / "train")  # from here on there is nothing to read again
    findings = leakage.scan(split, TASK, profile)
    assert document.describe(split, TASK, profile, findings)["overview"]["num_rows"] == 900
    for folds in ([0, 1, 2], *([k for k in range(3) if k != out] for out in range(3))):
        statistics = profile.statistics.of(folds)
        for encoding in ("codes", "dense"):
            fitted = program.fit(plan.choose(split.schema, statistics, encoding=encoding), statistics)
            assert fitted.transform(rows(5)).shape == (5, fitted.width)
    baseline = profile.statistics.whole().to_json()
    assert TableStatistics.from_json(baseline).columns["x"].result().num_rows == 900
