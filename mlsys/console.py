"""Output for a person while the steps run: one line for each finished step, and live progress.

On a terminal progress overwrites itself; in a file or a job log it is a line every few
seconds, so that a log stays readable and a long step is never silent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

PACE_S = 3.0
"""Seconds between progress lines where they cannot overwrite themselves."""


class Console:
    """A writer of lines and progress to a stream, standard output by default."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._last = time.monotonic()
        self._prefix = ""

    def line(self, text: str = "") -> None:
        """Write a line that stays."""
        self._clear()
        self._stream.write(text + "\n")
        self._stream.flush()
        self._last = time.monotonic()

    def progress(self, text: str) -> None:
        """Show what is going on now, until the next line or progress."""
        now = time.monotonic()
        if self._live:
            self._stream.write(f"\r\033[K  … {self._prefix}{text}"[:200])
        elif now - self._last >= PACE_S:
            self._stream.write(f"  … {self._prefix}{text}\n")
            self._last = now
        self._stream.flush()

    @contextmanager
    def during(self, work: str) -> Iterator[None]:
        """Prefix progress with the name of the work that it belongs to."""
        self._prefix = f"{work}: "
        try:
            yield
        finally:
            self._prefix = ""
            self._clear()

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\033[K")
