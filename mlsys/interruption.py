"""Ctrl-C ends a run even where a library swallows it: what was asked for once is raised again at the next step.

Python turns Ctrl-C into an exception in whatever the main thread does at that moment. While modules are imported, or
in callbacks from compiled code, that may be a place that catches everything, and the person at the keyboard would see
a run that goes on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()


@contextmanager
def noted() -> Iterator[None]:
    """Note Ctrl-C during the block, beside raising `KeyboardInterrupt` as always.

    Python tells the main thread alone of a signal, and a handler that somebody else has set stays in place.
    """
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    _asked.clear()
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _asked.clear()


def heed() -> None:
    """Raise `KeyboardInterrupt` if Ctrl-C was pressed and the run is still at work."""
    if _asked.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    _asked.set()
    signal.default_int_handler(number, frame)
