"""A canary in a process of its own: whatever it does to that process, the replica and the version beside it go on.

With ``deploy.rollout.isolation: process`` each replica starts a process for the canary, and passes it the requests
that are drawn for it, one at a time, over a pair of sockets: parsed requests there, predictions back. Those of stable
pass nothing of it. The process writes the log of its answers itself, since it has the model.

A process that ends, that does not answer within `LONGEST_S`, or that takes more memory than `room` says, is given up:
stable answers what was asked, the canary gets no more requests of this replica, and the tallies say why. It asks the
kernel to be the first to end where memory is short, and ends with the replica.

What goes over the sockets is pickled, as what Ray's own processes say to each other; both ends are this program, and
nothing else can reach them. The bundle is read by the process alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.prediction_log import folder_of
from mlsys.deploy.requests import Request
from mlsys.deploy.service import Answer, Service, check_finite, load
from mlsys.registry import LedgerEntry
from mlsys.schema import Task
from mlsys.store import Store

LOAD_S = 300.0
"""Longest time in which a canary loads."""

LONGEST_S = 10.0
"""Longest time for an answer. Large requests wait for it, too, in threads of which there are few."""

LOOK_S = 0.25
"""Seconds between two looks of the process at its memory, and at whether the replica is there."""

MOST_GROWTH = 2 << 30
"""Bytes of memory that a process may take beyond what it took once it had loaded; half of what is free, if less."""

TOO_LARGE = 77
"""Exit code of a process that took more memory."""

LENGTH = struct.Struct("<Q")

MAIN = "import sys; from mlsys.deploy import canary_process; sys.exit(canary_process.main(*sys.argv[1:]))"
"""The program of the process; as ``-m`` this module would be another one there, and its classes others."""


class CanaryFailedError(RuntimeError):
    """A canary raised something; the message is what."""


class CanaryGoneError(CanaryFailedError):
    """The process of a canary ended or was ended; the message says how."""


@dataclass(frozen=True)
class RemoteModel:
    """A model that another process has: what answers and tallies say of it."""

    entry: LedgerEntry
    task: Task
    id_column: str | None

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.entry.name, "version": self.entry.version, "digest": self.entry.digest}


class CanaryProcess:
    """The process of a canary, as its replica sees it; requests are answered one after another.

    Parameters
    ----------
    log
        Arguments of the `PredictionLog` of its answers; None for no log.

    Raises
    ------
    CanaryFailedError
        The canary does not load.
    """

    def __init__(
        self, store: Store, entry: LedgerEntry, lookup: str = "none", log: dict[str, Any] | None = None
    ) -> None:
        facts = {"root": str(store.root), "entry": list(entry), "lookup": lookup, "log": log, "parent": os.getpid()}
        self._ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-P", "-c", MAIN, str(number), json.dumps(facts)]
            self._process = subprocess.Popen(command, pass_fds=[number], stdin=subprocess.DEVNULL)
        self._lock = threading.Lock()
        self._gone: str | None = None
        try:
            self.model: RemoteModel = self._asked(None, LOAD_S)
        except CanaryFailedError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def compute(self, request: Request, *, is_shown: bool = True) -> Answer:
        """Have a request computed, and logged if the client gets the answer.

        Raises
        ------
        CanaryFailedError
            The canary raised something, or its process is gone.
        """
        facts = self._asked(packed((request, is_shown)), LONGEST_S)
        return Answer(self.model, request=request, **facts)

    def close(self) -> None:
        """Let the process write its log and end; it is not waited for."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
        threading.Thread(target=self._end, daemon=True, name="canary-end").start()

    def _end(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LONGEST_S)
        self._process.kill()
        self._process.wait()
        self._ours.close()

    def _asked(self, sent: bytes | None, longest_s: float) -> Any:
        """The answer to a message; None sends none, and takes what the process says first."""
        with self._lock:
            if self._gone is not None:
                raise CanaryGoneError(self._gone)
            try:
                self._ours.settimeout(longest_s)
                if sent is not None:
                    self._ours.sendall(sent)
                kind, value = received(self._ours)
            except TimeoutError:
                self._process.kill()
                self._gone = f"its process gave no answer within {longest_s:g} s"
            except (OSError, EOFError, pickle.UnpicklingError):
                self._gone = self._ending()
            if self._gone is not None:
                raise CanaryGoneError(self._gone)
        if kind == "failed":
            raise CanaryFailedError(value)
        return value

    def _ending(self) -> str:
        """The way in which the process ended, in words."""
        try:
            code = self._process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "its process closed its connection"
        if code == TOO_LARGE:
            return "its process took too much memory"
        return f"its process ended by {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"


def packed(message: Any) -> bytes:
    """Bytes of a message, its length first."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(content)) + content


def received(connection: socket.socket) -> Any:
    """The next message.

    Raises
    ------
    EOFError
        The other end closed the connection.
    """
    (length,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
    return pickle.loads(_exactly(connection, length))  # noqa: S301 - of our own process, see above


def _exactly(connection: socket.socket, length: int) -> bytearray:
    content = bytearray(length)
    view = memoryview(content)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return content


def serve(connection: socket.socket, service: Service) -> None:
    """Answer requests until the other end closes the connection."""
    model = service.model
    if model is None:
        raise RuntimeError("no model is loaded")
    connection.sendall(packed(("answer", RemoteModel(model.entry, model.predictor.task, model.id_column))))
    while True:
        try:
            request, is_shown = received(connection)
        except (EOFError, ConnectionError):
            return
        try:
            answer = service.compute(model, request)
            check_finite(answer)
            reply = packed(("answer", _facts(answer)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the replica is told, whatever it is
            connection.sendall(packed(("failed", _text(error))))
            continue
        connection.sendall(reply)
        if is_shown:
            service.finish(answer)


def _facts(answer: Answer) -> dict[str, Any]:
    """The part of an answer that the replica needs; rows for the log stay here."""
    names = ("predictions", "ids", "looked", "latency_ms", "explanations")
    return {name: getattr(answer, name) for name in names}


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def room() -> int:
    """Bytes of memory that this process may have in all from now on."""
    growth = min(MOST_GROWTH, psutil.virtual_memory().available // 2)
    return psutil.Process().memory_info().rss + int(growth)


def watch(parent: int, most_bytes: int) -> None:
    """End this process when it takes more memory, or when the replica is gone and it does not end by itself."""
    own = psutil.Process()
    while True:
        if os.getppid() != parent:
            time.sleep(LONGEST_S)  # the connection is closed, after which the log is written
            os._exit(0)
        if own.memory_info().rss > most_bytes:
            os._exit(TOO_LARGE)
        time.sleep(LOOK_S)


def main(number: str, text: str) -> int:
    """Be the process: load the model, say so, and answer."""
    facts = json.loads(text)
    with contextlib.suppress(OSError):  # where there is no such file, the kernel decides by itself
        Path("/proc/self/oom_score_adj").write_text("1000")
    connection = socket.socket(fileno=int(number))
    entry = LedgerEntry(*facts["entry"])
    try:
        store = Store.open(facts["root"])
        log = None if facts["log"] is None else PredictionLog(folder_of(store, entry.name), **facts["log"])
        service = Service(entry.name, log)
        service.model = load(store, entry, facts["lookup"])
    except Exception as error:  # noqa: BLE001 - whatever it is, the canary does not load
        connection.sendall(packed(("failed", _text(error))))
        return 1
    threading.Thread(target=watch, args=(facts["parent"], room()), daemon=True, name="canary-watch").start()
    try:
        serve(connection, service)
    finally:
        service.close()
    return 0
