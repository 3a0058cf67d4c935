"""The threads that this process may use, and calls that go on side by side in them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def count() -> int:
    """Threads that this process may use: the CPUs of its task, or those of the machine where it is no task.

    Ray sets ``OMP_NUM_THREADS`` to the CPUs of a task or of an endpoint's replica, and people set it to bound a
    process. Of a list, which bounds nested levels (OpenMP 5.2, 21.1.2), the first number counts.
    """
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(stated)) if stated.isdecimal() else os.cpu_count() or 1


def each(function: Callable[[S], T], items: Sequence[S], *, few: int = 1) -> list[T]:
    """Call a function on each item, side by side in all threads, and return the results in the order of the items.

    That is faster where the function lets go of the interpreter, as calls of libraries in C do. Up to `few` items one
    thread does by itself: starting others would cost more. The first error, in the order of the items, is raised.

    >>> each(abs, [-2, 1, -3])
    [2, 1, 3]
    """
    threads = min(count(), len(items))
    if threads < 2 or len(items) <= few:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def blocks(num_rows: int, least: int) -> list[slice]:
    """Cut rows into a block for each thread, of at least so many rows each; few rows are one block.

    >>> blocks(3, 1_000)
    [slice(0, 3, None)]
    """
    parts = max(1, min(count(), num_rows // least))
    edges = [num_rows * part // parts for part in range(parts + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]
