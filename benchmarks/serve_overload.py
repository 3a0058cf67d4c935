"""Ten times the load that an endpoint can take, slow clients among them, and how it is afterwards.

Claim: for a minute of overload every request is answered: with predictions, or at once with 503 or 429; the memory of
the replica is flat; and within 5 seconds after the overload p99 is back where it was.

The load comes from ``wrk`` on the same machine with ten times the connections that an endpoint answers at once
(``deploy.max_ongoing_requests`` and ``limits.queue`` of the recipe), each of which sends its next request as soon as it
has an answer. Beside it, some clients announce a body and send a byte of it a second. The model is that of
`serve_online.py`. One loop answers in the order of arrival, so that p99 during the overload is the connections times
the time of an answer, and it ends with the last of them.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from measured import median, options, say
from serve_online import Case, Load, drive, endpoint, ours

CLAIM = "ten times the load that it can take"
TIMES, CONNECTIONS = 10, 64
"""Connections of the overload: so many times those that a replica answers at once by default."""

SLOW_CLIENTS = 16
BACK_WITHIN, CALM = 1.5, 1.0
"""p99 is back when it is at most so many times the one before; it is asked for in runs of so many seconds."""

COUNTED = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "application/json"
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function init(args) counts = {{}} end
function response(status) counts[status] = (counts[status] or 0) + 1 end
done = function(summary)
  local total = {{}}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("counts")) do total[status] = (total[status] or 0) + count end
  end
  for status, count in pairs(total) do io.write(string.format("STATUS %d %d\\n", status, count)) end
  local failed = summary.errors
  io.write(string.format("STATUS 0 %d\\n", failed.connect + failed.read + failed.write + failed.timeout))
end
"""
"""Program of wrk that counts answers by status; 0 is a connection that broke or was not answered within 20 seconds."""


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--seconds", type=int, default=60, help="length of the overload (60)")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with endpoint(folder / "store", folder, flights=False) as served:
            case = ours(served)[0]
            before = [drive(case, folder, 8, 2) for _ in range(wanted.repeats)]
            with _slow_clients(case) as slow, _memory() as sizes:
                statuses = _overload(case, folder, wanted.seconds)
            seconds, after = _until_back(case, folder, median(load.p99 for load in before))
    _report(before, statuses, slow, sizes, seconds, after, as_json=wanted.json)


def _overload(case: Case, folder: Path, seconds: int) -> Counter[int]:
    (folder / "body.json").write_bytes(case.body)
    (folder / "count.lua").write_text(COUNTED.format(body=folder / "body.json"))
    how = ["-t1", f"-c{TIMES * CONNECTIONS}", f"-d{seconds}s", "--timeout", "20s", "-s", str(folder / "count.lua")]
    done = subprocess.run(["wrk", *how, case.url], capture_output=True, text=True, check=True)
    pairs = (line.split()[1:] for line in done.stdout.splitlines() if line.startswith("STATUS"))
    return Counter({int(status): int(count) for status, count in pairs})


def _until_back(case: Case, folder: Path, usual: float) -> tuple[float, Load]:
    """Seconds until the load before has its p99 again, at most a minute, and the last run."""
    began = time.monotonic()
    while True:
        asked = time.monotonic() - began
        load = drive(case, folder, 8, CALM)
        if load.p99 <= BACK_WITHIN * usual or asked > 60:
            return asked, load


class _slow_clients:  # noqa: N801 - a context manager
    """Clients that announce a body of 64 KB and send a byte a second; `Counter` of what they are answered."""

    def __init__(self, case: Case) -> None:
        self._address = urlsplit(case.url)
        self._ending = threading.Event()
        self.answers: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(SLOW_CLIENTS)]

    def __enter__(self) -> Counter[str]:
        for thread in self._threads:
            thread.start()
        return self.answers

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(10)

    def _client(self) -> None:
        while not self._ending.is_set():
            self.answers[self._one()] += 1

    def _one(self) -> str:
        host, port = str(self._address.hostname), int(self._address.port or 80)
        head = f"POST {self._address.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        try:
            with socket.create_connection((host, port), timeout=20) as opened:
                opened.sendall(f"{head}Content-Length: 65536\r\n\r\n".encode())
                opened.settimeout(1.0)
                while not self._ending.is_set():
                    opened.sendall(b" ")
                    try:
                        answer = opened.recv(64)
                    except TimeoutError:
                        continue
                    return answer.split(b" ")[1].decode() if answer else "closed"
        except OSError as error:
            return type(error).__name__
        return "ended with the overload"


class _memory:  # noqa: N801 - a context manager
    """Megabytes of the model's replicas each half second."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self.sizes: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> list[float]:
        self._thread.start()
        return self.sizes

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(10)

    def _run(self) -> None:
        found = [each for each in psutil.process_iter(["cmdline"]) if "ServeReplica:generated" in _title(each)]
        while not self._ending.wait(0.5):
            self.sizes.append(sum(each.memory_info().rss for each in found) / 1e6)


def _title(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or [])


def _report(
    before: list[Load], statuses: Counter[int], slow: Counter[str], sizes: list[float], seconds: float, after: Load,
    *, as_json: bool,
) -> None:  # fmt: skip
    usual = median(load.p99 for load in before)
    total = statuses.total()
    print(f"{CLAIM}: {total:,} requests of {TIMES * CONNECTIONS} connections")
    for status, count in sorted(statuses.items()):
        print(f"  {status or 'no answer':>10}{count:>10,}  {count / max(1, total):.2%}")
    print(f"  slow clients were answered: {json.dumps(dict(sorted(slow.items())))}")
    early, late = median(sizes[: max(1, len(sizes) // 5)]), median(sizes[-max(1, len(sizes) // 5) :])
    print(
        f"  memory of the replica {early:,.0f} MB in the first fifth, {late:,.0f} MB in the last, {max(sizes):,.0f} MB"
    )
    print(f"  p99 {usual:.1f} ms before; {after.p99:.1f} ms {seconds:.1f} s after the overload")
    if as_json:
        facts = {"statuses": dict(statuses), "slow": dict(slow), "memory_mb": [early, late, max(sizes)]}
        say(CLAIM, {"memory": early / late}, 0.0, total, {**facts, "back_after_s": seconds, "p99_ms": after.p99})


if __name__ == "__main__":
    main()
