"""What an endpoint says of itself over HTTP: waited for when it is started, exchanged or stopped."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from mlsys import errors

__all__ = ["example", "proxy", "serves", "until_gone", "until_served"]

READY_S = 120.0
"""Longest wait for an endpoint: a replica starts in seconds, on a busy laptop in tens of them."""

LOOK_S = 0.05


def until_served(client: Any, root: str, name: str, digest: str, *, looks: int) -> None:
    """Return when the model answers with this bundle and the gateway knows it.

    The bundle has to answer `looks` times in a row: one answer is one replica's.

    Raises
    ------
    ClusterError
        Serve gave the deployment up, or it took too long.
    """
    seen = 0

    def obstacle() -> str | None:
        nonlocal seen
        app = client.get_serve_status(name).app_status
        if app.status == "DEPLOY_FAILED":
            raise _failed(root, name, app.message)
        if app.status != "RUNNING":
            return f"{app.status}: {app.message}"
        while seen < looks:
            got = _at(f"{root}/{name}/ready", "model", "digest")
            if got != digest:
                seen = 0
                return f"{root}/{name}/ready says {got}"
            seen += 1
        models = _at(f"{root}/", "models")
        return None if name in models else f"the gateway says {models}"

    _until(obstacle, root, name)


def until_gone(client: Any, root: str, name: str) -> None:
    """Return when the model's application has ended and the gateway has forgotten it.

    Raises
    ------
    ClusterError
        It took too long.
    """

    def obstacle() -> str | None:
        status = client.get_serve_status(name).app_status.status
        if status != "NOT_STARTED":
            return str(status)
        models = _at(f"{root}/", "models")
        return f"the gateway says {models}" if name in models else None

    _until(obstacle, root, name)


def serves(root: str, name: str, digest: str) -> bool:
    """Whether the model answers with this bundle now."""
    return bool(_at(f"{root}/{name}/ready", "model", "digest") == digest)


def example(root: str, name: str) -> dict[str, Any]:
    """A row that the model would answer now, as its own description has it."""
    row: dict[str, Any] = _at(f"{root}/{name}/openapi.json", "components", "schemas", "Record", "example")
    return row


def proxy(root: str) -> str:
    """What takes the requests in: HAProxy answers this path itself, the Python proxy says that it is uvicorn."""
    with urllib.request.urlopen(f"{root}/-/healthz", timeout=5) as answer:  # noqa: S310 - http, by construction
        return "Ray's Python proxy" if answer.headers.get("server") == "uvicorn" else "HAProxy"


def _until(obstacle: Callable[[], str | None], root: str, name: str) -> None:
    end = time.monotonic() + READY_S
    got = obstacle()
    while got is not None:
        if time.monotonic() > end:
            raise _failed(root, name, got)
        time.sleep(LOOK_S)
        got = obstacle()


def _failed(root: str, name: str, got: str) -> errors.ClusterError:
    return errors.ClusterError.build(
        f"deploy: endpoint '{name}'",
        got=got.strip().split("\n")[-1],
        expected=f"{root}/{name} answers within {READY_S:.0f} s",
        hint="`serve status` and the replica's log in Ray's dashboard say more",
    )


def _at(url: str, *path: str) -> Any:
    """Value in the JSON document at a URL, or what stood in the way."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http, by construction
            value = json.load(answer)
        for key in path:
            value = value[key]
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return value
