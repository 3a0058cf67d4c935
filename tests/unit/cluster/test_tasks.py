"""Without a cluster the same calls run in this process: one after another, or in threads."""

import threading
import time

import pytest

from mlsys import cluster
from mlsys.cluster import tasks


def slow_square(number):
    time.sleep(0.05 if number == 0 else 0.0)
    return number * number


@pytest.mark.parametrize("in_threads", [False, True])
def test_results_have_the_order_of_the_items(monkeypatch, in_threads):
    monkeypatch.setattr(tasks, "_threads", 3)
    ended = []
    results = cluster.map(
        slow_square, list(range(6)), in_threads=in_threads, on_result=lambda *call: ended.append(call)
    )
    assert results == [0, 1, 4, 9, 16, 25]
    assert sorted(result for result, _, _ in ended) == results
    assert [(done, total) for _, done, total in ended] == [(number, 6) for number in range(1, 7)]


def test_threads_share_the_state_and_run_at_once(monkeypatch):
    monkeypatch.setattr(tasks, "_threads", 2)
    made, both = [], threading.Barrier(2)

    def state():
        made.append(1)
        return both

    assert len(cluster.map(lambda barrier, _: barrier.wait(10), [1, 2], state=state, in_threads=True)) == 2
    assert made == [1]


@pytest.mark.parametrize("in_threads", [False, True])
def test_the_first_error_ends_the_rest(monkeypatch, in_threads):
    monkeypatch.setattr(tasks, "_threads", 2)
    called = []

    def fail(number):
        called.append(number)
        time.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cluster.map(fail, list(range(100)), in_threads=in_threads)
    assert len(called) < 100


def test_what_is_raised_while_waiting_ends_the_rest():
    called = []

    def stop():
        if called:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster.map(called.append, [1, 2, 3], while_waiting=stop)
    assert called == [1]
