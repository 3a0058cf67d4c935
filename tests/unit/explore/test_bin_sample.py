import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys.explore import scan
from mlsys.schema import Column, Kind, Role, Schema, Task
from mlsys.statistics.pairwise.layout import NUM_BINS

TASK = Task(kind="binary", target="y", classes=(0, 1))


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table({"x": np.arange(n) / n, "c": rng.choice(["a", "b"], n), "y": rng.integers(0, 2, n)})


def test_the_look_covers_rows_that_are_in_order_from_the_first_to_the_last(divide, monkeypatch):
    monkeypatch.setattr(scan, "BIN_SAMPLE_ROWS", 1_000)
    split = divide(rows(20_000))
    seen = scan.bin_sample(scan.fragments(split.paths("train")), ["x", "y"], {})["x"].to_numpy()
    assert len(seen) == 1_000
    assert np.quantile(seen, [0.0, 0.25, 0.5, 0.75, 1.0]) == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.01)


def test_the_look_is_into_a_few_row_groups_however_many_there_are(tmp_path, monkeypatch):
    pq.write_table(rows(5_000), tmp_path / "a.parquet", row_group_size=50)
    opened = []
    read = pq.ParquetFile.iter_batches

    def counted(file, batch_size, row_groups, columns):
        opened.extend(row_groups)
        return read(file, batch_size, row_groups, columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    seen = scan.bin_sample(scan.fragments([tmp_path / "a.parquet"]), ["x"], {})["x"].to_numpy()
    assert len(opened) == scan.MOST_GROUPS
    assert opened == sorted(opened)
    assert (seen.min(), seen.max()) == pytest.approx((0, 1), abs=0.13)


def test_of_a_very_wide_table_fewer_rows_are_looked_at(divide, monkeypatch):
    monkeypatch.setattr(scan, "MOST_CELLS", 600)
    split = divide(rows(20_000))
    assert scan.bin_sample(scan.fragments(split.paths("train")), ["x", "c", "y"], {}).num_rows == 200


def test_bins_decided_from_the_look_hold_equally_many_of_all_rows(divide):
    split = divide(rows(4_000))
    layout = scan.layout(split, split.schema, TASK, {})
    assert len(layout.numbers[0].edges) == NUM_BINS - 1
    counts = scan.profile(split, TASK).pairwise.tables.numbers[0].sum(axis=1)
    assert counts[:-1].tolist() == pytest.approx([250] * NUM_BINS, abs=2)


def test_derived_features_are_compared_too_and_the_time_of_a_row_is_the_axis(divide, schema_of):
    train = rows(500).append_column("at", pa.array(np.arange(500) * 3_600_000_000, pa.timestamp("us")))
    split = divide(train, schema_of(train, at=Role.TIME))
    more = Column(name="half", type="double", kind=Kind.NUMERIC)
    schema = Schema(columns=(*split.schema.columns, more))
    pairwise = scan.profile(split, TASK, schema=schema, derive={"half": "x / 2"}).pairwise
    names, strengths = pairwise.associations()
    assert names == ["x", "half", "c", "y"]
    assert strengths[0, 1] == pytest.approx(1)
    assert pairwise.timeline.rows.sum() == 500


def test_without_training_rows_there_is_nothing_to_look_at(divide):
    split = divide(rows(10))
    for path in split.paths("train"):
        path.unlink()
    assert scan.layout(split, split.schema, TASK, {}) is None
