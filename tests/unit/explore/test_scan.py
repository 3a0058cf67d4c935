import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from mlsys import errors, explore
from mlsys.explore import sample, scan
from mlsys.schema import ROW, Column, Kind, Schema, Task

TASK = Task(kind="binary", target="y", classes=(0, 1))


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table({"x": rng.normal(size=n), "c": rng.choice(["a", "b"], n), "y": rng.integers(0, 2, n)})


def test_every_training_row_is_counted_once_in_its_fold(divide):
    train = rows(900)
    statistics = explore.profile(divide(train, test=rows(50, 1)), TASK)
    assert {fold: table.num_rows for fold, table in statistics.folds.items()} == {0: 300, 1: 300, 2: 300}
    assert statistics.whole().columns["x"].result().mean == pytest.approx(np.mean(train["x"].to_numpy()))
    assert statistics.whole().class_counts() == dict(enumerate(np.bincount(train["y"]).tolist()))


def test_progress_is_told(divide):
    told = []
    explore.profile(divide(rows(100)), TASK, progress=told.append)
    assert told == ["1 of 2 pieces scanned", "2 of 2 pieces scanned"]


def test_derived_features_are_counted_with_the_others(divide):
    train = rows(300)
    split = divide(train)
    schema = Schema(columns=(*split.schema.columns, Column(name="double_x", type="double", kind=Kind.NUMERIC)))
    whole = explore.profile(split, TASK, schema=schema, derive={"double_x": "x * 2"}).whole()
    assert whole.columns["double_x"].result().mean == pytest.approx(2 * np.mean(train["x"].to_numpy()))


def test_pieces_depend_on_the_rows_alone(divide):
    split = divide(rows(500))
    found = scan.pieces(split.paths("train"))
    assert [piece.path.name for piece in found] == ["part-00000.parquet", "part-00001.parquet"]
    assert [piece.row_groups for piece in found] == [(0,), (0,)]


def test_the_same_split_gives_the_same_bytes(divide):
    split = divide(rows(3_000))
    one, two = (json.dumps(explore.profile(split, TASK).to_json()) for _ in range(2))
    assert one == two


def test_a_training_part_without_files_is_an_error(divide):
    split = divide(rows(10))
    shutil.rmtree(split.folder / "train")
    with pytest.raises(errors.TargetError, match="no rows with a target"):
        explore.profile(split, TASK)


def test_a_sample_is_of_about_the_wanted_size_and_always_the_same(divide):
    split = divide(rows(20_000))
    one, two = (sample.draw(split, "train", max_rows=2_000) for _ in range(2))
    assert abs(one.num_rows - 2_000) < 5 * np.sqrt(2_000)
    assert one.equals(two)
    positions = np.asarray(one[ROW]) / 20_000
    assert np.mean(positions) == pytest.approx(0.5, abs=0.04)


def test_few_rows_are_all_in_the_sample(divide):
    assert sample.draw(divide(rows(77)), "train").num_rows == 77
