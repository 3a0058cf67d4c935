"""Start, exchange and end endpoints on Ray Serve.

An application's code and arguments stay the same from version to version; only the
``user_config`` changes, which Serve hands to the running replicas. `serve.run` would start
new ones each time (a new code version is drawn on each call), so the configuration is
applied as ``serve deploy`` does it, and the other applications are carried over.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import bundle, errors, recipe
from mlsys.deploy import gateway, openapi, readiness
from mlsys.store import Store

__all__ = ["Endpoint", "application", "check_port", "start", "stop"]


QUIET = {"enable_access_log": False}
"""A line a request is written by the prediction log; Serve's own would cost as much as an answer."""


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint.

    Attributes
    ----------
    url
        Of the model: ``http://host:port/<name>``.
    curl
        A command that sends it the bundle's example row.
    proxy
        What takes the requests in: ``HAProxy`` or ``Ray's Python proxy``.
    was_served
        The bundle answered there before.
    """

    url: str
    curl: str
    proxy: str
    was_served: bool


def start(store: Store, name: str, digest: str, version: int, settings: recipe.Deploy) -> Endpoint:
    """Serve a bundle, or exchange the one that is served; returns when it answers.

    Ray must be connected. Serving what is served already changes nothing. Serve has one
    address for the cluster: where it runs already, host and port of `settings` are not used.

    Raises
    ------
    ClusterError
        The port is in use, or the model does not come up.
    BundleError, StoreError
        The bundle is damaged or missing.
    """
    bundle.open(store, digest)  # a damaged one is refused before anything changes
    with _one_at_a_time(store):
        client = _client(settings)
        was_served = readiness.serves(_root(client), name, digest)
        _apply(client, [application(store, name, digest, version, settings)], without=())
    root = _root(client)
    readiness.until_served(client, root, name, digest, looks=2 * settings.max_replicas)
    url = f"{root}/{name}"
    return Endpoint(url, openapi.curl(url, readiness.example(root, name)), readiness.proxy(root), was_served)


def stop(store: Store, name: str) -> bool:
    """End one model's endpoint; False if there was none. Others go on."""
    from ray.serve.context import _get_global_client

    with _one_at_a_time(store):
        client = _get_global_client(raise_if_no_controller_running=False)
        if client is None or name not in _running(client):
            return False
        _apply(client, [], without=(name,))
    readiness.until_gone(client, _root(client), name)
    return True


def application(store: Store, name: str, digest: str, version: int, settings: recipe.Deploy) -> dict[str, Any]:
    """The model's entry in Serve's configuration.

    Raises
    ------
    RecipeError
        The name is the gateway's.
    """
    if name == gateway.NAME:
        raise errors.RecipeError.build(
            "recipe: 'name'", got=name, expected="another name: this one is the gateway's", field="name"
        )
    args = {
        "name": name,
        "store": str(store.root),
        "choice": {"alias": settings.alias},
        "log": {"enabled": settings.log},
        "lookup": settings.lookup,
        "max_body_bytes": settings.max_body_bytes,
    }
    model = {
        "name": "Model",
        "user_config": {"alias": settings.alias, "digest": digest, "version": version},
        "max_ongoing_requests": settings.max_ongoing_requests,
        "autoscaling_config": {
            "min_replicas": settings.min_replicas,
            "max_replicas": max(settings.min_replicas, settings.max_replicas),
            "target_ongoing_requests": settings.target_ongoing_requests,
        },
        "ray_actor_options": {"num_cpus": settings.num_cpus},
    }
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "mlsys.deploy.online:app",
        "args": args,
        "logging_config": QUIET,
        "deployments": [model],
    }


def _gateway(models: Sequence[str]) -> dict[str, Any]:
    return {
        "name": gateway.NAME,
        "route_prefix": "/",
        "import_path": "mlsys.deploy.gateway:app",
        "args": {},
        "logging_config": QUIET,
        "deployments": [{"name": "Gateway", "user_config": {"models": sorted(models)}}],
    }


def _apply(client: Any, applications: Sequence[dict[str, Any]], without: Sequence[str]) -> None:
    """Hand Serve the whole configuration: what runs, with these applications added or replaced."""
    from ray.serve.schema import ServeDeploySchema

    merged = {name: app for name, app in _running(client).items() if name not in without}
    merged |= {app["name"]: app for app in applications}
    ours = [name for name, app in merged.items() if app.get("import_path") == "mlsys.deploy.online:app"]
    merged[gateway.NAME] = _gateway(ours)
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": list(merged.values())}))


def _running(client: Any) -> dict[str, dict[str, Any]]:
    """Configuration of each application that was deployed by configuration, by name."""
    import ray

    configs = ray.get(client._controller.get_app_configs.remote())  # noqa: SLF001 - Serve has no public way
    return {name: config.model_dump(exclude_unset=True) for name, config in configs.items()}


def _client(settings: recipe.Deploy) -> Any:
    """Serve's client; Serve is started if it does not run."""
    from ray import serve
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        port = settings.port or _free_port(settings.host)
        check_port(settings.host, port)
        serve.start(proxy_location="HeadOnly", http_options={"host": settings.host, "port": port})
        client = _get_global_client()
    return client


def _root(client: Any) -> str:
    """Address of Serve's front end as a client on this machine writes it."""
    import ray

    options = ray.get(client._controller.get_http_config.remote())  # noqa: SLF001 - as above
    host = "127.0.0.1" if options.host in ("0.0.0.0", "", None) else options.host  # noqa: S104 - it is replaced
    return f"http://{host}:{options.port}"


def _free_port(host: str) -> int:
    with socket.socket() as opened:
        opened.bind((host, 0))
        return int(opened.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Refuse a port that something listens on.

    Raises
    ------
    ClusterError
        Names it, and how to take another.
    """
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((host, port))
        except OSError as error:
            raise errors.ClusterError.build(
                f"deploy: {host}:{port}",
                got=error.strerror,
                expected="a free port",
                hint="--set deploy.port=0 takes any free one",
            ) from None


@contextlib.contextmanager
def _one_at_a_time(store: Store) -> Iterator[None]:
    """Two deployments at once would each carry over what the other is about to replace."""
    folder = store.root / "cluster"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "deploy.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
