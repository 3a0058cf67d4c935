"""Actors that outlive whoever starts them: one of a name on the whole cluster, restarted by Ray when it dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlsys.cluster.tasks import remote

NAMESPACE = "mlsys"


def start_detached(name: str, make: Callable[..., Any], *args: Any) -> None:
    """Start the actor of this name, unless it runs: a process that calls ``make(*args)`` and keeps what that returns.

    It reserves no CPU and is independent of the driver, the replica or the task that started it. When its process or
    its machine dies, Ray starts another one, which calls `make` again.
    """
    options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    remote(_Keeper).options(num_cpus=0, max_restarts=-1, **options).remote(make, args)


def detached_process(name: str) -> int:
    """The process of the actor of this name."""
    import ray

    actor: Any = ray.get_actor(name, namespace=NAMESPACE)
    process: Any = ray.get(actor.process_id.remote())
    return int(process)


def stop_detached(name: str) -> bool:
    """End the actor of this name for good; false if there is none."""
    import ray

    try:
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
    except ValueError:
        return False
    return True


class _Keeper:
    """An actor that keeps what a function makes alive."""

    def __init__(self, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._made = make(*args)

    def process_id(self) -> int:
        import os

        return os.getpid()
