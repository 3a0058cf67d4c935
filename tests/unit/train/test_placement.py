"""Shapes of workers: what fits on each machine, and what rows need."""

import pytest

from mlsys.cluster import Resources
from mlsys.train import placement
from mlsys.train.placement import place

GB = 1e9


@pytest.mark.parametrize(
    ("cpus", "workers", "shape"),
    [
        ((2,), None, (1, 2)),
        ((2,), 2, (2, 1)),
        ((2,), 4, (4, 0.5)),
        ((8,), None, (1, 8)),  # 16 CPUs of which 8 are reserved: two workers of 7 had no place
        ((8, 16), None, (2, 8)),
        ((8, 16), 3, (3, 8)),
        ((3, 3), 3, (3, 1)),  # not 2, of which each machine has room for one
        ((0, 4), None, (1, 4)),
        ((0,), 2, (2, 1)),  # nothing is free: Ray waits a while
    ],
)
def test_workers_have_what_each_machine_can_give(cpus, workers, shape):
    made = place([Resources(each, 64 * GB) for each in cpus], 10_000, 10, workers)
    assert (made.workers, made.cpus) == shape


def test_memory_is_that_of_a_workers_rows():
    made = place([Resources(4, 64 * GB)], 1_000_000, 100, workers=4)
    assert made.memory == placement.WORKER_BYTES + 250_000 * (100 * placement.CELL_BYTES + placement.ROW_BYTES)


def test_a_machine_with_little_memory_has_room_for_fewer():
    nodes = [Resources(8, 64 * GB), Resources(8, 0.2 * GB)]
    assert place(nodes, 1_000_000, 100, workers=2).cpus == 4
    assert place(nodes, 1_000_000, 100).workers == 2


def test_there_are_no_more_workers_than_rows():
    assert place([Resources(8, 64 * GB)], 3, 10, workers=5).workers == 3


def test_a_shape_is_read_as_it_was_written(tmp_path):
    assert placement.Placement.read(tmp_path) is None
    made = place([Resources(2, 8 * GB)], 1_000, 10, workers=4)
    made.write(tmp_path)
    assert placement.Placement.read(tmp_path) == made


def test_a_shape_fits_where_all_workers_have_room_at_once():
    made = place([Resources(8, 64 * GB)], 1_000, 10, workers=2)
    assert made.fits([Resources(4, 64 * GB), Resources(4, 64 * GB)])
    assert not made.fits([Resources(8, 0.6 * GB)])
    assert not made.fits([Resources(7, 64 * GB)])
