"""Files of windows, and windows that are read from them when somebody asks for what is large.

A window is judged by what the last run computed from it, as long as it stays the same; then its sketches are not read.
A file holds a window with its slices and is named by the digest of its bytes, which therefore says whether it is whole
and stands for its content (`Window.stamp`).
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from mlsys.monitor.windows import Window, WindowKey, head_of, sketch_of
from mlsys.statistics import TableStatistics
from mlsys.store import write_atomic

SKETCHED = frozenset({"statistics", "counts", "scores", "sample"})
"""Attributes of a window that are large."""


class StoredWindow(Window):
    """A window of which what is large is read when it is first asked for."""

    def __init__(self, head: Mapping[str, Any], stamp: str, read: Callable[[WindowKey], Mapping[str, Any]]) -> None:
        super().__init__(**head_of(head), statistics=cast("TableStatistics", None), stamp=stamp)
        for name in SKETCHED:
            delattr(self, name)
        self._read, self._labels = read, list[tuple[str, pa.Array]]()

    def __getattr__(self, name: str) -> Any:
        if name not in SKETCHED:
            raise AttributeError(name)
        vars(self).update(self._read(self.key))
        for labels in self._labels:
            super().take_labels(*labels)
        return vars(self)[name]

    def take_labels(self, target: str, values: pa.Array) -> None:
        """Add labels to the statistics of the target, at once or when they are read."""
        if "statistics" in vars(self):
            super().take_labels(target, values)
        else:
            self._labels.append((target, values))


class WindowFile:
    """A file with a window and its slices."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def write(cls, folder: Path, windows: Sequence[Window]) -> str:
        """Write a window and its slices; returns the name of the file."""
        text = json.dumps([window.to_json() for window in windows])
        data = gzip.compress(text.encode(), 1, mtime=0)
        name = _name(data)
        write_atomic(folder / name, data)
        return name

    def windows(self, heads: Sequence[Mapping[str, Any]]) -> list[Window]:
        """The windows with these heads.

        Raises
        ------
        ValueError
            The file does not have the bytes that its name says.
        """
        if _name(self._path.read_bytes()) != self._path.name:
            raise ValueError(self._path.name)
        return [StoredWindow(head, self._path.name, self._sketch) for head in heads]

    def _sketch(self, key: WindowKey) -> Mapping[str, Any]:
        return sketch_of(self._values.pop(key))

    @functools.cached_property
    def _values(self) -> dict[WindowKey, Any]:
        values = json.loads(gzip.decompress(self._path.read_bytes()))
        heads = [head_of(value) for value in values]
        keys = [(head["start"], head["slice_key"], head["slice_value"]) for head in heads]
        return dict(zip(keys, values, strict=True))


def _name(data: bytes) -> str:
    return f"windows-{hashlib.sha256(data).hexdigest()[:32]}.json.gz"
