"""Serve the console of a store from this machine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from mlsys import errors
from mlsys.deploy import api_keys
from mlsys.store import Store

PORT = 8050
"""Where the console listens, if nothing else is said."""

LOOPBACK = "127.0.0.1"


def serve(store: Store, host: str = LOOPBACK, port: int = PORT, tell: Callable[[str], None] = print) -> None:
    """Serve the console until Ctrl-C.

    Raises
    ------
    RecipeError
        The host is not this machine's loopback, and the store has no API keys.
    ClusterError
        The port is taken, or the host is no address of this machine.
    """
    import uvicorn

    from mlsys.web_console.routes import app

    if host not in (LOOPBACK, "localhost", "::1") and not api_keys.exist(store):
        raise errors.RecipeError.build(
            "console: --host", got=host, expected=f"{LOOPBACK}, as the store has no API keys",
            hint="`mlsys keys add --scope admin` makes one, without which nobody beyond this machine is answered",
        )  # fmt: skip
    config = uvicorn.Config(app(store), host=host, port=port, log_level="warning", lifespan="off", access_log=False)
    try:
        bound = config.bind_socket()
    except SystemExit:  # uvicorn has logged why, and would end the process
        raise errors.ClusterError.build(
            "console: --port", got=f"{host}:{port}, on which this process cannot listen", expected="a free port",
            hint="`mlsys console --port 0` takes any",
        ) from None  # fmt: skip
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    shown = f"[{host}]" if ":" in host else host
    with bound:
        tell(f"console of {store.root}: http://{shown}:{bound.getsockname()[1]}/   (Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):  # it has ended in order before it says so
            uvicorn.Server(config).run(sockets=[bound])
