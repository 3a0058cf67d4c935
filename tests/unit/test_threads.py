"""Threads are counted as the task says, and what goes on in them keeps its order, its bits and its errors."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import images, threads


@pytest.mark.parametrize(
    ("stated", "expected"),
    [("3", 3), ("4,2", 4), (" 2 ", 2), ("0", 1), ("", None), ("many", None), ("-1", None), (None, None)],
)
def test_the_first_number_of_openmp_is_what_a_process_may_use_else_the_machine_has(monkeypatch, stated, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if stated is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert threads.count() == (expected or os.cpu_count())


@pytest.mark.parametrize("call", [threads.each, images.each], ids=["threads", "images"])
@pytest.mark.parametrize("count", ["1", "3"])
def test_results_come_in_the_order_of_the_items(monkeypatch, call, count):
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    assert call(abs, range(-20, 20)) == [abs(number) for number in range(-20, 20)]


def test_calls_go_on_side_by_side_unless_they_are_few(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    both = threading.Barrier(2)  # nobody passes it alone
    assert sorted(threads.each(lambda _: both.wait(timeout=30), [0, 0])) == [0, 1]
    here = threading.get_ident()
    assert threads.each(lambda _: threading.get_ident(), [0, 0], few=2) == [here, here]


def test_the_first_error_is_raised(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        threads.each(lambda number: 1.0 / number, [1.0, 0.0, 2.0])


@given(num_rows=st.integers(0, 10_000), least=st.integers(1, 500), count=st.integers(1, 9))
def test_blocks_cover_all_rows_once_each_of_at_least_so_many(num_rows, least, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(count))
        blocks = threads.blocks(num_rows, least)
    rows = np.arange(num_rows)
    assert np.concatenate([rows[block] for block in blocks]).tolist() == rows.tolist()
    assert 1 <= len(blocks) <= count
    assert len(blocks) == 1 or min(len(rows[block]) for block in blocks) >= least
