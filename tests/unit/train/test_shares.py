"""Shares of workers: every row once, nearly as many for each, always the same ones."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys.train import shares


def stored(folder, *sizes, group=1_000):
    """Files of so many rows, in row groups of `group`, with the number of each row."""
    first = 0
    for number, size in enumerate(sizes):
        table = pa.table({"row": np.arange(first, first + size)})
        pq.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=group)
        first += size
    return sorted(folder.glob("part-*"))


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("sizes", [(3_001,), (10, 2_500, 1, 999)])
def test_every_row_is_in_one_share_and_shares_are_nearly_equal(tmp_path, workers, sizes):
    paths = stored(tmp_path, *sizes)
    rows = [shares.column(shares.share(paths, 5, rank, workers), "row").to_pylist() for rank in range(workers)]
    assert sorted(row for each in rows for row in each) == list(range(sum(sizes)))
    assert max(map(len, rows)) - min(map(len, rows)) <= -(-sum(sizes) // (shares.BLOCKS * workers))


def test_a_share_is_the_same_whenever_it_is_asked_for_and_not_one_stretch_of_time(tmp_path):
    paths = stored(tmp_path, 4_000)
    shared = [shares.column(shares.share(paths, 5, 1, 2), "row").to_pylist() for _ in range(2)]
    assert shared[0] == shared[1] == sorted(shared[0])
    assert min(shared[0]) < 500
    assert max(shared[0]) > 3_500


def test_as_many_workers_as_rows_have_a_row_each(tmp_path):
    paths = stored(tmp_path, 2, 1)
    assert [shares.column(shares.share(paths, 5, rank, 3), "row").to_pylist() for rank in range(3)] == [[0], [1], [2]]
