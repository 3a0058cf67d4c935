"""Results that the last run computed from single windows, so that the next one computes only what has changed.

A result is kept under the stamp of its window, which is another one as soon as a row comes into it, with all else that
it was computed from: its own inputs, such as the labels of the window, and a key for what is the same for all windows
(evaluation, metric, code). What needs all windows, such as the noise of a column, is computed in every run, from small
results. A result comes back with the same bits, so a judgement is the same with these results and without them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlsys.monitor.windows import Window
from mlsys.store import write_atomic

FILE = "results.jsonl"
"""Name of the file in the folder of a state: a line with the key and the digest of the rest, then one a window."""


class WindowResults:
    """Results of windows, as JSON values, of which those that a run asks for are kept for the next one.

    `key` stands for all that results of all windows depend on. Without a `folder` nothing is kept.

    Attributes
    ----------
    damage
        A sentence about results that could not be read and are computed again; empty without.
    """

    def __init__(self, folder: Path | None = None, key: str = "") -> None:
        self._path, self._key, self.damage = None if folder is None else folder / FILE, key, ""
        self._known: dict[str, dict[str, list[Any]]] = self._load()
        self._used: dict[str, dict[str, list[Any]]] = {}

    def of(self, window: Window, name: str, make: Callable[[], Any], inputs: Any = None) -> Any:
        """The result of this name of a window; it is made where it is not known, or was made of other `inputs`."""
        key = json.dumps([window.stamp, window.slice_key, window.slice_value])
        known = self._known.get(key, {}).get(name)
        result = known if known is not None and known[0] == inputs else [inputs, make()]
        if window.stamp:
            self._used.setdefault(key, {})[name] = result
        return result[1]

    def save(self) -> None:
        """Keep the results that were asked for, if they are others than before."""
        if self._path is None or self._is_same():
            return
        lines = [json.dumps(entry) for entry in self._used.items()]
        data = "\n".join(lines).encode()
        head = json.dumps({"key": self._key, "sha256": hashlib.sha256(data).hexdigest()})
        write_atomic(self._path, head.encode() + b"\n" + data)

    def _is_same(self) -> bool:
        known, used = ({key: set(results) for key, results in each.items()} for each in (self._known, self._used))
        return known == used and all(
            result is self._known[key][name] for key, some in self._used.items() for name, result in some.items()
        )

    def _load(self) -> dict[str, dict[str, list[Any]]]:
        """Read the file; nothing comes of one of another key, and of a damaged one, which is told."""
        if self._path is None or not self._path.is_file():
            return {}
        try:
            head, _, data = self._path.read_bytes().partition(b"\n")
            facts = json.loads(head)
            is_whole = facts["sha256"] == hashlib.sha256(data).hexdigest()
            if is_whole:
                return dict(map(json.loads, data.splitlines())) if facts["key"] == self._key else {}
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.damage = f"Results of earlier runs ({FILE}) cannot be read: all windows were judged anew."
        return {}
