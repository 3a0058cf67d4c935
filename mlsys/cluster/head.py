"""Start, find, join and stop a cluster; the only module that calls ``ray.init``.

A head node that `up` starts has a session of its own, so it outlives the command that started it;
`down` ends exactly the processes of that session.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mlsys import errors, locks
from mlsys.cluster import haproxy, ports, priority, settings
from mlsys.cluster.resources import is_connected
from mlsys.cluster.settings import environment
from mlsys.store import Store, read_json, write_json

_STATE = "state.json"
_START_S = 120.0

_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Linux's name of this boot."""

ANSWER_S = 20.0
"""Longest wait for the first byte of a cluster whose address is given."""

REFUSED_S = 3.0
"""Longest wait for a machine to say that nobody listens at a port of it."""


def up(store: Store, num_cpus: int | None = None) -> str:
    """Start a head node on this machine for this store and return its address; one that is up is left as it is.

    Of several processes that ask at once, one starts it and the others wait.

    Raises
    ------
    ClusterError
        It does not start; the message holds the end of its log.
    """
    with locks.hold(store.root / "cluster" / "lock", "starting the cluster"):
        running = status(store)
        return _start(store, num_cpus) if running is None else str(running["address"])


def _start(store: Store, num_cpus: int | None) -> str:
    _forget(store)
    with ports.choose(settings.temporary_folder().parent / "ports") as chosen:
        return _start_at(store, chosen, num_cpus)


def _start_at(store: Store, chosen: ports.Ports, num_cpus: int | None) -> str:
    # 1. Start a head node in a session of its own, on ports and in folders that no other cluster has.
    folder, home = store.root / "cluster", haproxy.folder()
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={chosen.gcs}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={chosen.dashboard}",
        f"--dashboard-agent-listen-port={chosen.agent}", f"--ray-client-server-port={chosen.client}",
        "--min-worker-port=0", "--max-worker-port=0",
        f"--temp-dir={settings.temporary_folder()}", "--disable-usage-stats", "--log-style=record",
    ]  # fmt: skip
    if num_cpus is not None:
        command.append(f"--num-cpus={num_cpus}")
    log = folder / "head.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=_environment(store, home, chosen),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    # 2. Note how it is found again, and wait until it answers.
    address, dashboard = f"127.0.0.1:{chosen.gcs}", f"http://127.0.0.1:{chosen.dashboard}"
    state = {"address": address, "dashboard": dashboard, "pid": process.pid, "haproxy": str(home)}
    write_json(folder / _STATE, state | {"started": _process_start(process.pid)})
    _wait(process, chosen.dashboard, log, store)
    process.returncode = 0  # it outlives this object on purpose, of which Python would warn
    return address


def status(store: Store) -> dict[str, Any] | None:
    """Find the address, dashboard and process id of the cluster that this store started, if it runs."""
    file = store.root / "cluster" / _STATE
    if not file.is_file():
        return None
    state: dict[str, Any] = read_json(file)
    return state if _process_start(state["pid"]) == state["started"] else None


def is_serving(store: Store) -> bool:
    """True if something is served on the cluster that this store started, and the cluster runs."""
    running, marker = status(store), store.root / "cluster" / priority.SERVING
    return running is not None and marker.is_file() and _port(read_json(marker)) == _port(running)


def is_gone(address: str) -> bool:
    """True if the machine of a cluster's head is there and nobody listens at the head's address any more."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REFUSED_S).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _port(state: dict[str, Any]) -> str:
    """The port of a cluster's address, of which Ray and `up` name different interfaces of this machine."""
    return str(state.get("address")).rpartition(":")[2]


def down(store: Store) -> bool:
    """Stop the cluster that this store started: its own processes, by id. False if none runs."""
    with contextlib.suppress(ImportError):
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
    state = status(store)
    if state is not None:
        if "haproxy" in state:
            haproxy.end(Path(state["haproxy"]))
        _end(_session(int(state["pid"])))
    _forget(store)
    return state is not None


def _forget(store: Store) -> None:
    """End and remove what a cluster left behind whose head has ended: processes, its HAProxy's folder, the note of it.

    A head that was killed leaves HAProxy, which keeps the port of the endpoint, and perhaps the others, too.
    """
    file = store.root / "cluster" / _STATE
    if not file.is_file():
        return
    state = read_json(file)
    home = state.get("haproxy")
    if home is not None:
        _end(_leftovers(Path(home), int(state["pid"])))
        haproxy.end(Path(home))
        shutil.rmtree(home, ignore_errors=True)
    file.unlink()


def _leftovers(home: Path, leader: int) -> list[Any]:
    """Processes of a cluster whose head may have ended, by the folder that their environment names.

    The others of their session belong to it, too: Ray's Python processes write their titles over their environment.
    """
    import psutil

    left, file = [], str(home / "haproxy.cfg")
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC") == file:
                left.append(process)
    if any(_is_in_session(process, leader) for process in left):
        left += _session(leader)
    return [process for process in left if process.pid != os.getpid()]


def client_environment(store: Store) -> dict[str, str]:
    """The variables of :func:`environment`, and the address of the cluster of this store if it runs."""
    state = status(store)
    if state is None:
        return environment(store)
    where = {"RAY_ADDRESS": state["address"]}  # for drivers; the next for `ray job`, the last for `serve`
    where |= {"RAY_API_SERVER_ADDRESS": state["dashboard"], "RAY_DASHBOARD_ADDRESS": state["dashboard"]}
    return {**environment(store), **where}


def _environment(store: Store, home: Path, chosen: ports.Ports) -> dict[str, str]:
    """Variables of the head node and its workers; bytecode goes into the store, or each would compile all of Ray."""
    env = {**os.environ, **environment(store), **haproxy.settings(home, *chosen.haproxy), **chosen.serving}
    env.pop("RAY_ADDRESS", None)
    if env.pop("PYTHONDONTWRITEBYTECODE", None):
        env["PYTHONPYCACHEPREFIX"] = str(store.root / "cache" / "bytecode")
    return env


def _wait(process: subprocess.Popen[bytes], dashboard: int, log: Path, store: Store) -> None:
    """Wait until the dashboard answers, which is the last to start."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", dashboard), timeout=1):
            return
        time.sleep(0.1)
    tail = log.read_text(errors="replace").strip().splitlines()[-3:]
    down(store)
    where = "cluster: starting a head node"
    got = " | ".join(tail) or "no answer"
    expected = f"a node within {_START_S:.0f} s"
    raise errors.ClusterError.build(where, got=got, expected=expected, hint=f"the whole log is in {log}")


def _process_start(pid: int) -> str | None:
    """The boot and the clock tick at which a process started: with the id they name one process for ever.

    The time of day would not do, for a clock that is set moves it.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not _BOOT.is_file():  # not Linux
            return f"{process.create_time():.2f}"
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (psutil.NoSuchProcess, OSError):
        return None
    return f"{_BOOT.read_text(encoding='utf-8').strip()} {ticks}"


def _session(leader: int) -> list[Any]:
    """Every process of a session, and their children."""
    import psutil

    by_pid = {}
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if _is_in_session(process, leader):
                by_pid[process.pid] = process
                by_pid.update((child.pid, child) for child in process.children(recursive=True))
    return list(by_pid.values())


def _is_in_session(process: Any, leader: int) -> bool:
    try:
        return os.getsid(process.pid) == leader
    except ProcessLookupError:
        return False


def _end(processes: list[Any]) -> None:
    """Ask processes to end, wait, then insist."""
    import psutil

    alive = processes
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        alive = _alive_after(alive, 3.0)


def _alive_after(processes: list[Any], seconds: float) -> list[Any]:
    """Wait for processes to end, so many seconds at most, and return the others."""
    import psutil

    try:
        return list(psutil.wait_procs(processes, timeout=seconds)[1])
    except FileNotFoundError:  # psutil opens a process that has just gone; it finds the next time that it has
        return list(psutil.wait_procs(processes, timeout=seconds)[1])


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
        _check_address(os.environ["RAY_ADDRESS"])
        return _join(os.environ["RAY_ADDRESS"], "joined")
    how = "running" if status(store) else "started"
    address = up(store)
    _set(store, own=True)
    return _join(address, how)


def _set(store: Store, *, own: bool) -> None:
    """Apply Ray's settings to this process; variables that are set stay, but for the token of our own cluster."""
    for name, value in environment(store).items():
        if name not in TOKEN:
            os.environ.setdefault(name, value)
        elif own:
            os.environ[name] = value


HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""First bytes of a client of gRPC: HTTP/2's preface and empty settings (RFC 9113, 3.4 and 6.5)."""

FRAME_HEADER = 9
"""Bytes with which each frame of HTTP/2 begins (RFC 9113, 4.1)."""

SETTINGS_FRAME = 4
"""Type of the first frame of a gRPC server's answer."""


def _check_address(address: str) -> None:
    """Refuse an address at which no gRPC server answers, for which Ray would wait minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdigit() or os.environ.get("RAY_USE_TLS") == "1":  # "auto", or a server that speaks TLS first
        return
    where = f"cluster: RAY_ADDRESS is {address}"
    expected = "a running Ray cluster"
    hint = "`unset RAY_ADDRESS` lets mlsys find or start its own cluster; or start the one that it names"
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S) as connection,
            connection.makefile("rb") as received,
        ):
            connection.sendall(HELLO)
            answer = received.read(FRAME_HEADER)  # all of it, in however many pieces it comes
    except OSError as error:
        raise errors.ClusterError.build(where, got=str(error), expected=expected, hint=hint) from None
    if len(answer) < FRAME_HEADER or answer[3] != SETTINGS_FRAME:
        raise errors.ClusterError.build(where, got="another kind of server", expected=expected, hint=hint)


def _join(address: str, how: str) -> str:
    import ray
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

    # Ray read the token's mode and place when it was imported, perhaps before `connect` set them.
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, namespace="mlsys")
    except Exception as error:
        where = f"cluster: joining {address}"
        expected = "a running Ray cluster and its token"
        hint = 'eval "$(mlsys env)" sets the address and the token of a cluster that mlsys started'
        raise errors.ClusterError.build(where, got=str(error).splitlines()[0], expected=expected, hint=hint) from error
    _log_warnings()
    return how


def _log_warnings() -> None:
    """Send what Ray's node tells every driver, such as the number of its workers, to the log instead of the console."""
    from ray._private import worker

    def log(data: dict[str, Any], *_: Any, **__: Any) -> None:
        logging.getLogger("mlsys.cluster").info("%s", "\n".join(data["lines"]))

    worker.print_to_stdstream = log
