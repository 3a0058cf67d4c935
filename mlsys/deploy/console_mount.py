"""The console of a store within another server: at ``/console``, and its gauges for Prometheus at ``/metrics``."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route

from mlsys.deploy.guard import CONSOLE

CONSOLE_APP = "mlsys.web_console.routes:served"
"""The console: it shows the layers above this one, so it is found by name, and imported when somebody asks for it."""

METRICS = "/metrics"


class LateConsole:
    """The console of a store as an ASGI app that is imported and built by its first request."""

    def __init__(self) -> None:
        self._root: str | None = None
        self._app: Any = None

    def routes(self) -> list[BaseRoute]:
        """Routes of a server with the console below its own path, and the gauges of the models at ``/metrics``."""
        return [Mount(CONSOLE, self), Route(METRICS, self)]

    def of(self, root: str | None) -> None:
        """Show the store with this folder from now on; ``$MLSYS_STORE`` of this process for None."""
        if root != self._root:
            self._root, self._app = root, None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._app = await asyncio.to_thread(self._built)
        await self._app(scope, receive, send)

    def _built(self) -> Any:
        module, _, function = CONSOLE_APP.partition(":")
        return getattr(importlib.import_module(module), function)(self._root)


def is_browser(request: Request) -> bool:
    """Tell whether a person with a browser asks."""
    return "text/html" in request.headers.get("accept", "")
