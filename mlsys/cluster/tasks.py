"""Run functions as tasks of the cluster: one task with `call`, one task an item with `map`.

This module is the only one that starts tasks. Where there is no cluster, and inside of a task, the
same calls run in this process, one after another, with the same results.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from mlsys import errors
from mlsys.cluster.priority import give_way
from mlsys.cluster.resources import is_connected, node_cpus, nodes, num_cpus

T = TypeVar("T")

TASK_BYTES = 1 << 30
"""Tables below this many bytes in memory are worked on by one task with all threads: a shuffle or
a worker group costs 5 to 30 s to start, which one core spends on about a gigabyte."""

_SETTLE_S = 0.1

_WAIT_S = 1.0


@dataclass(frozen=True)
class ExecutionPlan:
    """The way in which work of a size runs, with the reason; printed and stored with the result."""

    kind: Literal["task", "cluster", "stream"]
    reason: str

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function` as one task, or here, from where its maps go over the cluster."""
        return function(*args) if self.kind == "cluster" else call(function, *args)


def plan(num_rows: int, num_bytes: int, override: str = "auto") -> ExecutionPlan:
    """One task below a gigabyte, the cluster above, unless the recipe says otherwise."""
    size = f"{num_rows:,} rows, {num_bytes / 1e6:,.0f} MB"
    if override in ("task", "cluster"):
        return ExecutionPlan("task" if override == "task" else "cluster", f"{size}: the recipe asks for it")
    if num_bytes < TASK_BYTES:
        return ExecutionPlan(
            "task", f"{size}: below {TASK_BYTES >> 20} MiB, one task with all threads is faster than starting workers"
        )
    return ExecutionPlan("cluster", f"{size}: at or above {TASK_BYTES >> 20} MiB, spread over the cluster")


def call(
    function: Callable[..., T],
    *args: Any,
    threads: int | None = None,
    memory: int | None = None,
    gpus: int = 0,
    **kwargs: Any,
) -> T:
    """Run `function` as one task with `threads` CPUs (all of a node by default) and return its result.

    It waits for a node with so many bytes of `memory`, or with all of the largest node's if that has fewer, and for
    so many GPUs, which no other task has meanwhile. An
    `MlsysError` raised there is raised here as itself.
    """
    if _runs_here():
        return function(*args, **kwargs)
    if memory is not None:
        memory = int(min(memory, max(node.memory for node in nodes())))
    submitted = _submit(function, *args, cpus=threads or node_cpus(), memory=memory, gpus=gpus, **kwargs)
    return _result(submitted)  # type: ignore[no-any-return]


def warm(modules: Sequence[str]) -> None:
    """Have a worker a CPU of this machine import modules, which takes seconds, while this process does other work.

    Ray gives tasks and actors the workers that are there. A module that cannot be imported is told where it is used.
    """
    if not _runs_here():
        for _ in range(os.cpu_count() or 1):
            remote(_import).options(num_cpus=0, max_retries=0).remote(list(modules))


def _import(modules: list[str]) -> None:
    give_way()
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    time.sleep(_SETTLE_S)  # so that the other import gets a worker of its own


def share(function: Callable[..., T], *args: Any, **kwargs: Any) -> Shared[T]:
    """Start `function` as one task whose result stays in the object store, for other tasks to read there.

    Arrays are read in place: they are never in this process, and once on a machine, however many tasks read them.
    """
    if _runs_here():
        return Shared(make=functools.cache(functools.partial(function, *args, **kwargs)))
    return Shared(reference=_submit(function, *args, **kwargs))


@dataclass(frozen=True)
class Shared(Generic[T]):
    """A value that several tasks use and one makes; without a cluster it is made when it is first asked for."""

    reference: Any = None
    make: Callable[[], T] | None = None

    def wait(self) -> None:
        """Wait until the value is made, wherever it lies.

        An actor keeps its CPU while it waits, so actors on all CPUs that wait for tasks would wait for ever.
        """
        if self.reference is not None:
            import ray

            ray.wait([self.reference], fetch_local=False)

    def get(self) -> T:
        """The value; it is waited for. An `MlsysError` raised where it is made is raised here as itself."""
        return _result(self.reference) if self.make is None else self.make()


def _submit(
    function: Callable[..., Any], *args: Any, cpus: int = 1, memory: int | None = None, gpus: int = 0, **kwargs: Any
) -> Any:
    """Start `function` as one task and return Ray's reference to its result."""
    name = f"{function.__module__}.{function.__qualname__}"
    wish = {"num_gpus": gpus} if gpus else {}
    task = remote(_run_with_threads).options(num_cpus=cpus, memory=memory, max_retries=1, name=name, **wish)
    return task.remote(function, args, kwargs, cpus)


def map(  # noqa: A001  (cluster.map reads as what it is)
    function: Callable[..., T],
    items: Sequence[Any],
    *,
    cpus_each: int = 1,
    gpus_each: int = 0,
    state: Callable[[], Any] | None = None,
    on_result: Callable[[T, int, int], None] = lambda *_: None,
    at_most: int | None = None,
    while_waiting: Callable[[], None] = lambda: None,
    in_threads: bool = False,
) -> list[T]:
    """Run `function` on each item, in parallel on the cluster, and return the results in the order of the items.

    The first error ends the rest; an `MlsysError` is raised here as itself. A task whose worker
    dies runs once more, so it must be able to write again what it wrote before.

    Parameters
    ----------
    state
        Makes something costly, e.g. loads a model: called once a worker, which then serves many
        items. `function` takes it before the item.
    on_result
        Called as ``on_result(result, done, total)`` whenever an item is done, in the order in which they end.
    at_most
        Workers with a state at a time; as many as the cluster has CPUs for by default.
    while_waiting
        Called about once a second; what it raises ends the rest.
    in_threads
        Where the calls run in this process, they run in as many threads as it has CPUs: `function` lets go of the
        interpreter while it computes, and `state` may be shared.
    """
    if _runs_here():
        here = functools.partial(function, state()) if state is not None and items else function
        return _map_here(here, items, on_result, while_waiting, _threads if in_threads else 1)
    by_number: dict[int, T] = {}
    tasks = (function, items, cpus_each)
    first = functools.partial(_first_ready, while_waiting=while_waiting)
    calls = _end_of_calls(*tasks, state, at_most, first) if state else _end_of_tasks(*tasks, gpus_each, first)
    with contextlib.closing(calls) as ended:
        for number, result in ended:
            by_number[number] = result
            on_result(result, len(by_number), len(items))
    return [by_number[number] for number in range(len(items))]


def _map_here(
    function: Callable[..., T],
    items: Sequence[Any],
    on_result: Callable[[T, int, int], None],
    while_waiting: Callable[[], None],
    threads: int,
) -> list[T]:
    """Call a function on each item in this process, one after another or in some threads."""
    results: list[T] = []
    if min(threads, len(items)) < 2:
        for item in items:
            while_waiting()
            results.append(function(item))
            on_result(results[-1], len(results), len(items))
        return results
    with ThreadPoolExecutor(threads) as pool:
        calls = [pool.submit(function, item) for item in items]
        try:
            for done, ended in enumerate(as_completed(calls), 1):
                while_waiting()
                on_result(ended.result(), done, len(items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [call.result() for call in calls]


def _first_ready(references: Sequence[Any], while_waiting: Callable[[], None]) -> Any:
    """The first reference whose task ends; meanwhile a function is called again and again."""
    import ray

    while True:
        ready, _ = ray.wait(list(references), num_returns=1, timeout=_WAIT_S)
        while_waiting()
        if ready:
            return ready[0]


def _end_of_tasks(
    function: Callable[..., T], items: Sequence[Any], cpus: int, gpus: int, first: Callable[[Sequence[Any]], Any]
) -> Generator[tuple[int, T]]:
    """Start a task for each item, and yield numbers of items with their results as the tasks end."""
    import ray

    numbers = {_submit(function, item, cpus=cpus, gpus=gpus): number for number, item in enumerate(items)}
    try:
        while numbers:
            reference = first(list(numbers))
            yield numbers.pop(reference), _result(reference)
    finally:
        for reference in numbers:
            ray.cancel(reference)


def _end_of_calls(
    function: Callable[..., T],
    items: Sequence[Any],
    cpus: int,
    state: Callable[[], Any],
    at_most: int | None,
    first: Callable[[Sequence[Any]], Any],
) -> Generator[tuple[int, T]]:
    """Start actors that keep a state, give each free one the next item, and yield results as they come.

    An actor gets its first item once it has its CPUs, so one that never gets them holds up nothing.
    """
    import ray

    actor = remote(_Worker).options(num_cpus=cpus, max_restarts=1, max_task_retries=1)
    most = max(1, min(num_cpus() // cpus, at_most or num_cpus()))
    workers = [actor.remote(function, state, cpus) for _ in range(min(len(items), most))]
    running = {worker.open.remote(): (worker, -1) for worker in workers}
    next_item, num_ended = 0, 0
    try:
        while num_ended < len(items):
            reference = first(list(running))
            worker, number = running.pop(reference)
            result = _result(reference)
            if next_item < len(items):
                running[worker.run.remote(items[next_item])] = (worker, next_item)
                next_item += 1
            if number >= 0:
                num_ended += 1
                yield number, result
    finally:
        for worker in workers:
            ray.kill(worker)


class _Worker:
    """An actor that holds a state, made when it is first needed: also when Ray starts the actor again."""

    def __init__(self, function: Callable[..., Any], state: Callable[[], Any], cpus: int) -> None:
        self._function, self._state, self._cpus = function, functools.cache(state), cpus

    def open(self) -> None:
        give_way()
        with _as_task(self._cpus):
            self._state()

    def run(self, item: Any) -> Any:
        give_way()
        with _as_task(self._cpus):
            return self._function(self._state(), item)


_is_task = False
"""True while this process runs a task of ours."""

_threads = os.cpu_count() or 1
"""CPUs of the task that this process runs; those of the machine while it runs none."""


def _runs_here() -> bool:
    return _is_task or not is_connected()


@contextlib.contextmanager
def _as_task(threads: int) -> Iterator[None]:
    """Give a task its share of threads, for Ray sets one for BLAS and OpenMP; its own calls and maps run in it."""
    from threadpoolctl import threadpool_limits

    global _is_task, _threads
    _is_task, _threads = True, threads
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        _is_task, _threads = False, os.cpu_count() or 1


def _run_with_threads(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], threads: int) -> T:
    give_way()
    with _as_task(threads):
        return function(*args, **kwargs)


@functools.cache
def remote(function: Any) -> Any:
    """The remote function or class, made once: Ray exports each one that is made anew."""
    import ray

    return ray.remote(function)


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, errors.MlsysError):
            raise error.cause from None
        raise
