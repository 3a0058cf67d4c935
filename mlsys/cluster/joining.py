"""Which cluster is meant, and joining it: the only place that calls ``ray.init``."""

from __future__ import annotations

import os

from mlsys import errors
from mlsys.cluster.head import status, up
from mlsys.cluster.settings import environment
from mlsys.cluster.work import is_connected
from mlsys.store import Store

__all__ = ["connect"]

TOKEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")


def connect(store: Store) -> str:
    """Join the cluster that is meant: a job's own, ``$RAY_ADDRESS``, this store's, or a new one.

    Returns
    -------
    str
        One of ``job``, ``joined``, ``running`` and ``started``.

    Raises
    ------
    ClusterError
        Ray cannot be started or reached.
    """
    if is_connected():
        return "running"
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        _set(store, own=False)
        return _join("auto", "job")
    if os.environ.get("RAY_ADDRESS"):
        _set(store, own=False)
        return _join(os.environ["RAY_ADDRESS"], "joined")
    how = "running" if status(store) else "started"
    address = up(store)
    _set(store, own=True)
    return _join(address, how)


def _set(store: Store, *, own: bool) -> None:
    """Ray's settings for this process; what is set already stays, but for the token of a cluster of our own."""
    for name, value in environment(store).items():
        if name not in TOKEN:
            os.environ.setdefault(name, value)
        elif own:
            os.environ[name] = value


def _join(address: str, how: str) -> str:
    import ray
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

    # Ray read the token's mode and place when it was imported, perhaps before `connect` set them.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="mlsys")
    except Exception as error:
        raise errors.ClusterError.build(
            f"cluster: joining {address}",
            got=str(error).splitlines()[0],
            expected="a running Ray cluster and its token",
            hint='eval "$(mlsys env)" sets the address and the token of a cluster that mlsys started',
        ) from error
    return how
