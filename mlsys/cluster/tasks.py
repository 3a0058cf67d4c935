"""Work sent to the cluster, or done here where there is none: the same result either way."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mlsys import errors

__all__ = ["ExecutionPlan", "call", "is_connected", "map", "node_cpus", "num_cpus", "num_nodes", "plan"]

T = TypeVar("T")

TASK_BYTES = 1 << 30
"""Tables below this many bytes in memory are worked on by one task with all threads: a shuffle or
a worker group costs 5 to 30 s to start, which one core spends on about a gigabyte."""

_SETTLE_TRIES, _SETTLE_S = 5, 0.1  # a task that just ended gives its CPUs back a moment later


@dataclass(frozen=True)
class ExecutionPlan:
    """How work of a size runs, and why; printed and stored with the result."""

    kind: Literal["task", "cluster"]
    reason: str


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


def is_connected() -> bool:
    """Whether this process talks to a cluster; never imports Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def num_cpus() -> int:
    """CPUs of the cluster, or of this machine without one."""
    if is_connected():
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return os.cpu_count() or 1


def num_nodes() -> int:
    """Machines of the cluster that are alive; 1 without one."""
    if not is_connected():
        return 1
    import ray

    return sum(node["Alive"] for node in ray.nodes())


def node_cpus() -> int:
    """CPUs of the largest node that are free: what one task can have now.

    Replicas of endpoints keep theirs, so work beside a served model gets the rest.
    """
    if not is_connected():
        return os.cpu_count() or 1
    import ray

    largest = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=1)
    free = 1
    for _ in range(_SETTLE_TRIES):
        free = max(free, min(largest, int(ray.available_resources().get("CPU", 0))))
        if free >= largest:
            break
        time.sleep(_SETTLE_S)
    return free


def call(function: Callable[..., T], *args: Any, threads: int | None = None, **kwargs: Any) -> T:
    """Run `function` as one task with `threads` CPUs (all of a node by default) and return its result.

    An `MlsysError` raised there is raised here as itself.
    """
    if not is_connected():
        return function(*args, **kwargs)
    import ray

    cpus = threads or node_cpus()
    task: Any = ray.remote(_with_threads).options(num_cpus=cpus, max_retries=1, name=_name(function))
    return _get(task.remote(function, args, kwargs, cpus))  # type: ignore[no-any-return]


def map(  # noqa: A001  (cluster.map reads as what it is)
    function: Callable[[Any], T],
    items: Sequence[Any],
    *,
    cpus_each: int = 1,
    progress: Callable[[int, int], None] | None = None,
    ended: Callable[[T, int, int], None] | None = None,
) -> list[T]:
    """Run `function(item)` as one task an item; results in the order of `items`.

    `progress(done, total)` and `ended(result, done, total)` are called as tasks end.
    """

    def tell(result: T, done: int) -> None:
        if progress is not None:
            progress(done, len(items))
        if ended is not None:
            ended(result, done, len(items))

    if not is_connected():
        results = []
        for done, item in enumerate(items, 1):
            results.append(function(item))
            tell(results[-1], done)
        return results
    import ray

    task: Any = ray.remote(_with_threads).options(num_cpus=cpus_each, max_retries=1, name=_name(function))
    references = [task.remote(function, (item,), {}, cpus_each) for item in items]
    waiting, found = list(references), {}
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=1)
        try:
            found[ready[0]] = _get(ready[0])
        except BaseException:
            for reference in waiting:
                ray.cancel(reference)
            raise
        tell(found[ready[0]], len(found))
    return [found[reference] for reference in references]


def _with_threads(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], threads: int) -> T:
    """Run in a worker with its share of threads: Ray sets one for BLAS and OpenMP by default."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads):
        return function(*args, **kwargs)


def _get(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, errors.MlsysError):
            raise error.cause from None
        raise


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
