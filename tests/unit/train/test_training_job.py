"""Samples and hold-outs depend on the rows alone."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.features import executors
from mlsys.schema import FOLD, ROW, Column, Kind, Role, Schema
from mlsys.train import samples, training_job


def numbered(num_rows, **columns):
    return pa.table({ROW: pa.array(np.arange(num_rows)), **columns})


def schema_with(role, name, kind=Kind.CATEGORICAL, type_="string"):
    return Schema(columns=(Column(name=name, type=type_, kind=kind, role=role),))


def test_the_hash_is_splitmix64():
    # First outputs of the published generator for seed 1234567 (prng.di.unimi.it/splitmix64.c).
    state, gamma, mask = 1234567, 0x9E3779B97F4A7C15, 2**64 - 1
    states = np.array([(state + i * gamma) & mask for i in range(3)], dtype=np.uint64).astype(np.int64)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert samples._hash(states, 0).tolist() == expected


def test_a_small_table_is_not_sampled():
    table = numbered(50)
    assert samples.sampled(table, None, 0) is table
    assert samples.sampled(table, 50, 0) is table


def test_a_sample_keeps_the_order_and_is_the_same_however_the_rows_lie():
    table = numbered(1_000)
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(1_000)))
    sample = samples.sampled(table, 100, 7)[ROW].to_pylist()
    assert len(sample) == 100
    assert sample == sorted(sample)
    assert set(sample) == set(samples.sampled(shuffled, 100, 7)[ROW].to_pylist())


def test_a_larger_sample_holds_the_smaller_one_and_another_seed_draws_other_rows():
    table = numbered(1_000)
    small, large, other = (
        set(samples.sampled(table, n, seed)[ROW].to_pylist()) for n, seed in ((100, 0), (300, 0), (100, 1))
    )
    assert small < large
    assert small != other


@pytest.mark.parametrize("folds", [None, [0, 2]])
@pytest.mark.parametrize("most", [None, 37, 10_000])
def test_a_sample_that_is_drawn_while_reading_is_that_of_the_whole_table(make_split, most, folds):
    split = make_split(num_rows=1_000)[0]
    columns = ["colour", ROW, "a", FOLD]
    drawn = samples.read_sample(split, "train", columns, most, 7, folds)
    assert drawn.equals(samples.sampled(split.table("train", columns, folds), most, 7))


def test_about_a_tenth_is_held_out():
    out = samples.held_out(numbered(10_000), Schema(), forward=False, seed=0)
    assert 900 <= out.sum() <= 1_100  # binomial, 3.3 standard deviations


def test_the_latest_tenth_is_held_out_where_time_divides_the_rows():
    minutes = np.random.default_rng(0).permutation(100)
    table = numbered(100, at=pa.array(minutes, pa.timestamp("us")))
    schema = schema_with(Role.TIME, "at", Kind.DATETIME, "timestamp[us]")
    out = samples.held_out(table, schema, forward=True, seed=0)
    assert sorted(minutes[out].tolist()) == list(range(90, 100))


def test_groups_are_held_out_whole_wherever_their_rows_lie():
    group = pa.array([f"g{n % 200}" for n in range(2_000)]).take(pa.array(np.random.default_rng(0).permutation(2_000)))
    out = samples.held_out(numbered(2_000, g=group), schema_with(Role.GROUP, "g"), forward=False, seed=0)
    names = np.array(group.to_pylist())
    assert 0 < out.sum() < 2_000
    assert not set(names[out]) & set(names[~out])


def test_a_row_without_a_target_is_refused_by_its_value(make_split):
    split, statistics, recipe, task = make_split()
    fitted = training_job.fit_program(split.schema, statistics, recipe, "xgboost")
    table = split.table("train")
    holed = table.set_column(
        table.schema.get_field_index("y"), "y", pa.array([None, "perhaps", *table["y"].to_pylist()[2:]])
    )
    with pytest.raises(errors.TargetError) as caught:
        training_job.matrix(holed, fitted, task)
    assert str(caught.value) == (
        "train: target 'y'\n"
        "  got:      None in 2 rows\n"
        "  expected: one of 'no', 'yes'\n"
        "  hint:     run `mlsys collect` again: it puts rows without a label into a part of their own"
    )


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_part_read_block_by_block_is_the_matrix_of_its_table(make_split, part, monkeypatch):
    monkeypatch.setattr(executors, "BLOCK_ROWS", 17)
    split, statistics, recipe, task = make_split()
    fitted = training_job.fit_program(split.schema, statistics, recipe, "linear")
    made, whole = training_job.read(split, part, fitted, task), training_job.matrix(split.table(part), fitted, task)
    assert len(split.paths(part)) > 1
    np.testing.assert_array_equal(made.X.view(np.uint32), whole.X.view(np.uint32))
    np.testing.assert_array_equal(made.y, whole.y)


def test_a_part_is_refused_by_its_rows_without_a_target(make_split):
    split, statistics, recipe, task = make_split()
    fitted = training_job.fit_program(split.schema, statistics, recipe, "xgboost")
    path = split.paths("train")[-1]
    table = pq.read_table(path)
    values = pa.array([None, *table["y"].to_pylist()[1:]], table["y"].type)
    pq.write_table(table.set_column(table.schema.get_field_index("y"), "y", values), path)
    with pytest.raises(errors.TargetError, match="None in 1 rows"):
        training_job.read(split, "train", fitted, task)


def test_rows_read_block_by_block_get_the_encoding_of_the_other_folds(make_split):
    split, statistics, recipe, task = make_split(features={"columns": {"colour": "target"}})
    fitted = training_job.fit_program(split.schema, statistics, recipe, "xgboost")
    table = split.table("train")
    assert fitted.held_out
    whole = training_job.matrix(table, fitted, task)
    np.testing.assert_array_equal(
        training_job.read(split, "train", fitted, task).X.view(np.uint32), whole.X.view(np.uint32)
    )
