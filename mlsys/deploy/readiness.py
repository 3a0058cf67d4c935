"""Wait until the replicas of an endpoint answer as they are to, and ask an endpoint what it says.

A version has to answer several times in a row at the cluster's address, and then at the address of each replica that
can be asked from here: an answer speaks for one replica alone.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from mlsys import errors

READY_S = 120.0
"""Longest wait for an endpoint: a replica starts in seconds, on a busy laptop in tens of seconds."""

TAKEN_S = 20.0
"""Seconds in which replicas have to take a version from the ledger; then Serve is given it as a configuration.

Replicas of an earlier version of mlsys do not look for it, and a large model takes its time."""

POLL_S = 0.05
"""Seconds between two requests that ask whether an endpoint is ready."""

AWAY = ("URLError", "TimeoutError", "ConnectionResetError", "RemoteDisconnected")
"""Errors of a replica that has ended, or whose address leads nowhere from here."""


def state(client: Any, root: str, name: str) -> str | None:
    """Why an application does not run yet; None if it does.

    Raises
    ------
    ClusterError
        Serve could not start it.
    """
    app = client.get_serve_status(name).app_status
    if app.status == "DEPLOY_FAILED":
        raise not_ready(root, name, app.message)
    return None if app.status == "RUNNING" else f"{app.status}: {app.message}"


def wait_until_served(client: Any, root: str, name: str, digest: str, *, answers: int) -> None:
    """Wait until all replicas answer with this bundle, so many times in a row, and the gateway lists it.

    Raises
    ------
    ClusterError
        A replica cannot load it, or it takes too long.
    """
    of_versions = _obstacle_of_versions(client, root, name, digest, answers)

    def obstacle() -> str | None:
        got = state(client, root, name) or of_versions()
        if got is not None:
            return got
        known = get(f"{root}/v2/models/{name}/ready", "ready")
        return None if known is True else f"the gateway says {known}"

    wait_until_none(obstacle, root, name)


def has_taken(client: Any, root: str, name: str, digest: str, answers: int) -> bool:
    """Wait until running replicas have taken a version from the ledger; false if they do not in some seconds.

    Raises
    ------
    ClusterError
        A replica cannot load it.
    """
    if client.get_serve_status(name).app_status.status != "RUNNING":
        return False
    obstacle, end = _obstacle_of_versions(client, root, name, digest, answers), time.monotonic() + TAKEN_S
    while obstacle() is not None:
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def _obstacle_of_versions(client: Any, root: str, name: str, digest: str, answers: int) -> Callable[[], str | None]:
    """Say at each call which replica does not answer with a version yet; None once all do.

    It has to answer so many times in a row, and then each replica by itself.
    """
    in_a_row = 0

    def obstacle() -> str | None:
        nonlocal in_a_row
        while in_a_row < answers:
            other = _other_version(root, f"{root}/{name}", digest)
            if other is not None:
                in_a_row = 0
                return other
            in_a_row += 1
        return next((other for url in replicas(client, name) if (other := _late(root, url, digest))), None)

    return obstacle


def _other_version(root: str, url: str, digest: str) -> str | None:
    """Say with which version the replica at a URL answers, or why it does not; None if it is this one.

    Raises
    ------
    ClusterError
        It says that it cannot load the version.
    """
    ready = get(f"{url}/ready")
    if not isinstance(ready, dict):
        return f"{url}/ready says {ready}"
    if (ready.get("refused") or {}).get("digest") == digest:
        raise not_ready(root, url.rpartition("/")[2], f"a replica cannot load it: {ready['refused']['error']}")
    served = ready["model"]["digest"]
    return None if served == digest else f"{url}/ready says {served}"


def _late(root: str, url: str, digest: str) -> str | None:
    """Say which other version a replica answers with; None also if it cannot be reached from here."""
    other = _other_version(root, url, digest)
    is_away = other is not None and other.startswith(tuple(f"{url}/ready says {kind}: " for kind in AWAY))
    return None if is_away else other


def replicas(client: Any, name: str) -> list[str]:
    """Addresses at which the running replicas of an application answer themselves; none behind Ray's Python proxy.

    Those of this machine listen on its loopback interface, as HAProxy asks them.
    """
    import ray

    here = ray.util.get_node_ip_address()
    groups = ray.get(client._controller.get_target_groups.remote(name, True))  # noqa: SLF001 - Serve has no public way
    own = [group for group in groups if group.app_name == name and group.protocol == "HTTP"]
    places = [(target.ip, target.port) for group in own for target in group.targets]
    return [f"http://{'127.0.0.1' if ip == here else ip}:{port}/{name}" for ip, port in places]


def wait_until_gone(client: Any, root: str, name: str) -> None:
    """Wait until the model's application has ended and the gateway no longer lists it."""

    def obstacle() -> str | None:
        status = client.get_serve_status(name).app_status.status
        if status != "NOT_STARTED":
            return str(status)
        known = get(f"{root}/v2/models/{name}/ready", "ready")
        return f"the gateway says {known}" if known is True else None

    wait_until_none(obstacle, root, name)


def wait_until_none(obstacle: Callable[[], str | None], root: str, name: str) -> None:
    """Wait until nothing stands in an endpoint's way any more.

    Raises
    ------
    ClusterError
        It takes too long; the message says what stood in the way last.
    """
    end = time.monotonic() + READY_S
    while (got := obstacle()) is not None:
        if time.monotonic() > end:
            raise not_ready(root, name, got)
        time.sleep(POLL_S)


def not_ready(root: str, name: str, got: str) -> errors.ClusterError:
    """The error of an endpoint that does not answer as it is to."""
    where = f"deploy: endpoint '{name}'"
    expected = f"{root}/{name} answers within {READY_S:.0f} s"
    hint = "`serve status` and the replica's log in Ray's dashboard say more"
    return errors.ClusterError.build(where, got=got.strip().split("\n")[-1], expected=expected, hint=hint)


def proxy(root: str) -> str:
    """Name the proxy in front of the replicas: only Ray's Python proxy names uvicorn as its server."""
    with urllib.request.urlopen(f"{root}/-/healthz", timeout=5) as answer:  # noqa: S310 - http, by construction
        return "Ray's Python proxy" if answer.headers.get("server") == "uvicorn" else "HAProxy"


def get(url: str, *path: str, headers: Mapping[str, str] = MappingProxyType({})) -> Any:
    """Value at a path in the JSON document at a URL, or a description of the failure."""
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - http, by construction
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            value = json.load(answer)
        for key in path:
            value = value[key]
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return value
