"""Start, update and stop endpoints on Ray Serve, and wait until they are ready.

Versions differ in the ``user_config`` alone, which Serve hands to the running replicas; those that follow their alias
need no configuration for another version (`mlsys.deploy.ledger_swap`). ``serve.run``
would start new replicas on each call, because it draws a new code version, so the whole configuration
is applied as ``serve deploy`` does it, with the other applications carried over.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlsys import bundle, cluster, errors, locks, recipe
from mlsys.cluster.priority import SERVING
from mlsys.deploy import api_keys, ledger_swap, openapi, readiness
from mlsys.recipe.columns import span_us
from mlsys.recipe.names import GATEWAY, model_name
from mlsys.store import Store, write_json

MODEL_APP = "mlsys.deploy.online:app"
TOGETHER_APP = "mlsys.deploy.together:app"
"""Applications of one model, and of many, which has the address ``/`` in place of the gateway."""

LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""Serve's access log would cost as much as an answer, and the prediction log has every request already.

Without the level Serve makes a record of each request, which is thrown away behind it."""

DRAIN_S = 20.0
"""Longest wait for a replica that ends: its requests are answered and its log is written, which takes a second."""

LOOK_BACK_S = (11.0, 30.0)
"""Least and usual seconds over which Serve counts requests in progress; replicas report them every ten."""


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint: its address, a command that sends an example row, and the proxy in front of the replicas.

    `was_served` is true if the same bundle was served there before.
    """

    url: str
    curl: str
    proxy: str
    was_served: bool


def start(
    store: Store, name: str, digest: str, version: int, settings: recipe.DeploySection, *, follow: bool = False
) -> Endpoint:
    """Serve a bundle in place of the one that is served, if any; return when it answers.

    With `follow`, the replicas take later moves of the alias from the ledger. If they run and nothing but the version
    is another, the ledger says already that the alias is about to mean it, and nothing is configured.

    Ray must be connected. If the bundle is served already, nothing changes. Serve has one
    address for the cluster: where it runs already, host and port of `settings` are ignored.

    Raises
    ------
    ClusterError
        The port is in use, or the endpoint does not become ready; what was served before stays.
    BundleError, StoreError
        The bundle is damaged or missing.
    """
    bundle.open(store, digest)  # a damaged one is refused before anything changes
    app, answers = application(store, name, digest, version, settings, follow=follow), 2 * settings.max_replicas
    with _locked(store):
        client = _client(store, settings)
        root = _root(client)
        _mark(store)
        was_served = readiness.get(f"{root}/{name}/ready", "model", "digest") == digest
        before = _running(client).get(name)
    if not (ledger_swap.is_same_but_version(before, app) and readiness.has_taken(client, root, name, digest, answers)):
        _configure(store, client, app)
        try:
            readiness.wait_until_served(client, root, name, digest, answers=answers)
        except errors.ClusterError:
            if before is not None:  # what answers is what replicas that start later are to load, too
                _configure(store, client, before)
            raise
    return _described(store, root, name, was_served=was_served)


def _configure(store: Store, client: Any, app: dict[str, Any]) -> None:
    """Give Serve the configuration of an application, and those of the others as they are."""
    with _locked(store):
        _apply(client, [app], without=())


def endpoint(store: Store, name: str) -> Endpoint | None:
    """Describe the endpoint of a name that is served already; None if none answers. Ray must be connected."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None or name not in _running(client):
        return None
    try:
        return _described(store, _root(client), name, was_served=True)
    except OSError:
        return None


def _described(store: Store, root: str, name: str, *, was_served: bool) -> Endpoint:
    url = f"{root}/{name}"
    example: dict[str, Any] = readiness.get(
        f"{url}/openapi.json", "components", "schemas", "Record", "example", headers=api_keys.owner_headers(store)
    )
    return Endpoint(url, openapi.curl(url, example), readiness.proxy(root), was_served)


def put(
    store: Store, app: dict[str, Any], settings: recipe.DeploySection, obstacle: Callable[[str], str | None]
) -> str:
    """Serve an application, and return the cluster's address for clients once nothing stands in its way any more.

    Raises
    ------
    ClusterError
        Its address is taken, or it does not become ready; then what was served before stays.
    """
    with _locked(store):
        client = _client(store, settings)
        root, name = _root(client), app["name"]
        _mark(store)
        before = _running(client).get(name)
        _apply(client, [app], without=(GATEWAY,))
    try:
        readiness.wait_until_none(lambda: readiness.state(client, root, name) or obstacle(root), root, name)
    except errors.ClusterError:
        with _locked(store):
            _apply(client, [] if before is None else [before], without=(name,))
        raise
    return root


def stop(store: Store, name: str) -> bool:
    """Stop one model's endpoint and leave the others; return false if there was none."""
    from ray.serve.context import _get_global_client

    with _locked(store):
        client = _get_global_client(raise_if_no_controller_running=False)
        if client is None or name not in _running(client):
            return False
        _apply(client, [], without=(name,))
    readiness.wait_until_gone(client, _root(client), name)
    return True


def withdraw(store: Store, name: str) -> None:
    """Take a model's application out of the configuration, and wait for nothing: a replica may do so with its own."""
    from ray.serve.context import _get_global_client

    with _locked(store):
        client = _get_global_client(raise_if_no_controller_running=False)
        if client is not None and name in _running(client):
            _apply(client, [], without=(name,))


@dataclass(frozen=True)
class Configured:
    """The version that Serve is told to serve under a name, by its alias; digest and version are None if unsaid.

    `canary` is the version that gets a part of the requests, as `mlsys.deploy.online.CanaryChoice` has it. `follows`
    is the store whose ledger its replicas follow, if they do.
    """

    alias: str
    digest: str | None
    version: int | None
    url: str
    canary: Mapping[str, Any] | None = None
    follows: str | None = None


def configured(name: str) -> Configured | None:
    """Find the version that the cluster serves under a name; None if it serves none. Ray must be connected."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    app = None if client is None else _running(client).get(name)
    if app is None or app.get("import_path") != MODEL_APP:
        return None
    (deployment,) = app["deployments"]
    choice = {**((app.get("args") or {}).get("choice") or {}), **(deployment.get("user_config") or {})}
    url = f"{_root(client)}/{name}"
    known = (choice.get("alias", "champion"), choice.get("digest"), choice.get("version"))
    follows = (app.get("args") or {}).get("store") if choice.get("follow") else None
    return Configured(*known, url, choice.get("canary"), follows)


def route(store: Store, name: str, canary: Mapping[str, Any] | None) -> None:
    """Give a canary a part of the requests of a name that is served, or none; its replicas hear of it in a second.

    Raises
    ------
    ClusterError
        The name is not served.
    """
    from ray.serve.context import _get_global_client

    with _locked(store):
        client = _get_global_client(raise_if_no_controller_running=False)
        app = None if client is None else _running(client).get(name)
        if app is None:
            where, expected = f"deploy: endpoint '{name}'", "a model that is served"
            raise errors.ClusterError.build(where, got="nothing", expected=expected, hint=f"mlsys deploy {name}")
        (deployment,) = app["deployments"]
        config = {key: value for key, value in (deployment.get("user_config") or {}).items() if key != "canary"}
        config |= {} if canary is None else {"canary": dict(canary)}
        _apply(client, [{**app, "deployments": [{**deployment, "user_config": config}]}], without=())


def answered_digest(url: str) -> str | None:
    """The digest of the bundle with which the endpoint at a URL answers now, or None."""
    identity = readiness.get(f"{url}/ready", "model")
    return identity.get("digest") if isinstance(identity, dict) else None


def application(
    store: Store, name: str, digest: str, version: int, settings: recipe.DeploySection, *, follow: bool = False
) -> dict[str, Any]:
    """Build the model's application in Serve's configuration.

    Raises
    ------
    RecipeError
        The name is the gateway's.
    """
    try:
        model_name(name)
    except ValueError as error:
        raise errors.RecipeError.build("recipe: 'name'", got=name, expected=str(error)) from None
    args, options = of_settings(store, settings)
    choice = {"alias": settings.alias, "digest": digest, "version": version}
    model = {"name": "Model", "user_config": choice | ({"follow": True} if follow else {}), **options}
    own = {"name": name, "choice": None}  # user_config names the version
    return application_of(name, f"/{name}", MODEL_APP, own | args, model)


def _autoscaling(settings: recipe.DeploySection) -> dict[str, Any]:
    """Serve's autoscaling: an endpoint that may sleep begins awake, and sleeps when `deploy.idle` is over.

    Serve counts requests in progress over a window, which has to pass first; the delay is what is left of the time.
    """
    scaling = {
        "min_replicas": settings.min_replicas,
        "max_replicas": max(settings.min_replicas, settings.max_replicas),
        "target_ongoing_requests": settings.target_ongoing_requests,
    }
    if settings.min_replicas > 0:
        return scaling
    idle_s = span_us(settings.idle) / 1e6
    window_s = min(LOOK_BACK_S[1], max(LOOK_BACK_S[0], idle_s / 2))
    delay_s = max(0.0, idle_s - window_s)
    return scaling | {"initial_replicas": 1, "look_back_period_s": window_s, "downscale_to_zero_delay_s": delay_s}


def of_settings(store: Store, settings: recipe.DeploySection) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of replicas and the options of a deployment that a recipe's settings mean."""
    args = {
        "store": str(store.root),
        "log": {"enabled": settings.log, "max_pending_rows": max(100_000, settings.limits.rows)},
        "lookup": settings.lookup,
        "limits": settings.limits.model_dump(mode="json"),
        "batch": settings.batch.model_dump(mode="json"),
    }
    options = {
        "max_ongoing_requests": settings.max_ongoing_requests,
        "max_queued_requests": settings.limits.queue,
        "backpressure_config": {"status_code": 503, "retry_after_s": 1},
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": DRAIN_S,
        "autoscaling_config": _autoscaling(settings),
        "ray_actor_options": {"num_cpus": settings.num_cpus},
    }
    return args, options


def application_of(
    name: str, prefix: str, builder: str, args: dict[str, Any], deployment: dict[str, Any]
) -> dict[str, Any]:
    """An application of one deployment in Serve's configuration."""
    return {
        "name": name,
        "route_prefix": prefix,
        "import_path": builder,
        "args": args,
        "runtime_env": cluster.ENDPOINTS,
        "logging_config": LOGGING,
        "deployments": [deployment],
    }


def _apply(client: Any, applications: Sequence[dict[str, Any]], without: Sequence[str]) -> None:
    """Give Serve the whole configuration: the running applications, with these added or replaced."""
    from ray.serve.schema import ServeDeploySchema

    merged = {name: app for name, app in _running(client).items() if name not in without}
    merged |= {app["name"]: app for app in applications}
    models = {
        name: app.get("args", {}).get("limits", {})
        for name, app in sorted(merged.items())
        if app.get("import_path") == MODEL_APP
    }
    stores = {name: store for name in models if (store := merged[name].get("args", {}).get("store"))}
    together = [name for name, app in merged.items() if app.get("import_path") == TOGETHER_APP]
    if models and together:
        raise errors.ClusterError.build(
            "deploy: address '/'", got=f"models together, and applications of {', '.join(models)}",
            expected="one or the other on a cluster, for both have this address",
            hint="`mlsys together stop` ends the first, `mlsys undeploy NAME` one of the others",
        )  # fmt: skip
    deployment = {"name": "Gateway", "user_config": {"models": models, "stores": stores}}
    if models or GATEWAY in merged:
        merged[GATEWAY] = application_of(GATEWAY, "/", "mlsys.deploy.gateway:app", {}, deployment)
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": list(merged.values())}))


def _running(client: Any) -> dict[str, dict[str, Any]]:
    """Name → configuration of each application that was deployed by configuration."""
    import ray

    configs = ray.get(client._controller.get_app_configs.remote())  # noqa: SLF001 - Serve has no public way
    return {name: config.model_dump(exclude_unset=True) for name, config in configs.items()}


def _client(store: Store, settings: recipe.DeploySection) -> Any:
    """Serve's client, after starting Serve if it does not run."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        check_host(store, settings.host)
        _start_serve(settings.host, check_port(settings.host, settings.port))
        client = _get_global_client()
    return client


def _start_serve(host: str, port: int) -> None:
    """Start Serve's controller, and HAProxy or the Python proxy by way of it.

    Ray gives up if a proxy dies while it starts, or takes more than a minute. The controller runs by then and starts
    another one, so whoever waits for an endpoint may go on waiting.
    """
    import ray
    from ray import serve
    from ray.serve.context import _get_global_client

    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port},
            controller_options={"runtime_env": cluster.ENDPOINTS},
        )
    except (ray.exceptions.RayActorError, TimeoutError) as error:
        if _get_global_client(raise_if_no_controller_running=False) is None:
            raise errors.ClusterError.build(
                f"deploy: {host}:{port}", got=f"Serve does not start: {str(error).splitlines()[0]}",
                expected="its controller and a proxy", hint="ray's logs say more; `mlsys down` and try again",
            ) from None  # fmt: skip


def _mark(store: Store) -> None:
    """Note beside the cluster's state that something is served on it, for `mlsys.deploy.shutdown`."""
    import ray

    write_json(store.root / "cluster" / SERVING, {"address": ray.get_runtime_context().gcs_address})


def _root(client: Any) -> str:
    """Address of Serve's proxy for a client on this machine."""
    import ray

    options = ray.get(client._controller.get_http_config.remote())  # noqa: SLF001 - as above
    host = "127.0.0.1" if options.host in ("0.0.0.0", "", None) else options.host  # noqa: S104 - it is replaced
    return f"http://{host}:{options.port}"


def check_host(store: Store, host: str) -> None:
    """Refuse an address that other machines reach, where no API key is asked for.

    Raises
    ------
    ClusterError
        It is not of the loopback interface, and the store has no key.
    """
    try:
        addresses = {each[4][0] for each in socket.getaddrinfo(host, None)}
    except OSError as error:
        where = f"deploy: host {host}"
        raise errors.ClusterError.build(where, got=str(error.strerror), expected="an address of this machine") from None
    is_local = all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses)
    if not is_local and not api_keys.exist(store):
        raise errors.ClusterError.build(
            f"deploy: host {host}", got="an address that others reach, and no API key",
            expected="127.0.0.1, or at least one key", hint="mlsys keys add --scope predict",
        )  # fmt: skip


def check_port(host: str, port: int) -> int:
    """Refuse a port on which another process listens; return it, or a free one in place of 0.

    Raises
    ------
    ClusterError
        The port is in use; the message says how to take another.
    """
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((host, port))
        except OSError as error:
            raise errors.ClusterError.build(
                f"deploy: {host}:{port}", got=error.strerror, expected="a free port",
                hint="--set deploy.port=0 takes any free one",
            ) from None  # fmt: skip
        return int(opened.getsockname()[1])


def _locked(store: Store) -> contextlib.AbstractContextManager[None]:
    """Exclude other deployments, which would carry over what this one is about to replace."""
    return locks.hold(store.root / "cluster" / "deploy.lock", "deploying")
