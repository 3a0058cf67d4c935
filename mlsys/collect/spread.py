"""The same function over many jobs: here one by one, or on the cluster, a job a block of Ray Data."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from mlsys import cluster, errors

__all__ = ["Here", "OnCluster", "Spread"]

S = TypeVar("S")
T = TypeVar("T")


class Spread(Protocol):
    """Where work is done."""

    def each(self, function: Callable[[S], T], jobs: Sequence[S]) -> list[T]:
        """Results in the order of the jobs; the first error that is ours is raised as itself."""

    def once(self, function: Callable[..., T], *args: Any) -> T:
        """The result of one call that needs more memory than the driver should give."""


class Here:
    """In this process."""

    def each(self, function: Callable[[S], T], jobs: Sequence[S]) -> list[T]:
        return [function(job) for job in jobs]

    def once(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)


class OnCluster:
    """In tasks of their own."""

    def each(self, function: Callable[[S], T], jobs: Sequence[S]) -> list[T]:
        if not jobs:
            return []
        import ray

        def run(batch: Any) -> Any:
            return {"number": batch["number"], "result": [_packed(function, job) for job in batch["job"]]}

        items = [{"number": number, "job": pickle.dumps(job)} for number, job in enumerate(jobs)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(run, batch_size=1)
        rows = sorted(dataset.take_all(), key=lambda row: int(row["number"]))
        return [_unpacked(row["result"]) for row in rows]

    def once(self, function: Callable[..., T], *args: Any) -> T:
        return cluster.call(function, *args)


def _packed(function: Callable[[Any], Any], job: bytes) -> bytes:
    """What the function gives, or our error as a result: Ray Data would wrap it and stop the other pieces."""
    try:
        return pickle.dumps(function(pickle.loads(job)))  # noqa: S301  (made a moment ago by the driver)
    except errors.MlsysError as error:
        return pickle.dumps(error)


def _unpacked(result: bytes) -> Any:
    value = pickle.loads(result)  # noqa: S301  (made a moment ago by our own task)
    if isinstance(value, errors.MlsysError):
        raise value
    return value
