"""The first request of each key in a step of a trial: the records by which two versions are compared.

Requests of one key are alike, and one version has them all, so they are one observation and not many: a key that sends
half of the traffic would decide by itself. The first one counts, whose values no later one can change. A request of
several rows is one observation, too: the mean of its scores.

A replica remembers at most `MOST_KEYS` keys. When it has so many, it goes on with half of the keys, by a hash that
says nothing of the version or the answer, and forgets the others, which do not count any more (distinct sampling,
Gibbons 2001): memory is bounded, no key counts twice, and what comes late still counts.

::

    canaries/<name>/<trial>/<replica>-<step>-<outputs>.records    records of one size, one after another

A file only grows. The last record of a replica that is killed may be cut off, and readers pass over it. A key that
several replicas met counts where it came first.

References
----------
Gibbons (2001), "Distinct sampling for highly-accurate answers to distinct values queries and event reports", VLDB,
541-550.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlsys.store import Store

MOST_KEYS = 1 << 14
"""Keys that a replica remembers at most in a step."""

MOST_OUTPUTS = 1 << 17
"""Outputs of remembered keys at most: of a model with more than eight fewer keys are remembered."""

ANSWERED, FAILED, FELL_BACK = range(3)
"""Outcomes of a request: the version answered, it raised to the client, or stable answered in its place."""

STABLE, CANARY = range(2)

Records = NDArray[np.void]
"""Array of records, with the fields of `record_type`."""

_ALL_BITS = (1 << 32) - 1
"""The upper bits of a key, which choose the sample; the lower ones divide the traffic."""

_NAME = re.compile(r".+-(?P<step>\d+)-(?P<outputs>\d+)\.records")


class Observation(NamedTuple):
    """The facts of an answered request.

    Attributes
    ----------
    score
        Mean of the scores of its rows.
    latency
        A number that grows with the latency.
    row, entity
        Hashes of the id of its first row in the answer, and in the id column; 0 without one.
    outputs
        Of the first row, as `mlsys.deploy.row_losses.outputs_of`.
    """

    score: float = math.nan
    latency: float = math.nan
    row: int = 0
    entity: int = 0
    outputs: Sequence[float] = ()


def hash_of(text: str) -> int:
    """Hash a text to 64 bits, the same in every process.

    >>> hash_of("a") == hash_of("a") != hash_of("b")
    True
    """
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def record_type(num_outputs: int) -> np.dtype[np.void]:
    """The layout of a record, as it lies in a file."""
    facts: list[Any] = [("key", "<u8"), ("at", "<f8"), ("arm", "u1"), ("outcome", "u1"), ("score", "<f8")]
    facts += [("latency", "<f8"), ("row", "<u8"), ("entity", "<u8"), ("outputs", "<f8", (num_outputs,))]
    return np.dtype(facts)


class KeySample:
    """Keys that were met, as far as there is room for them; each is new once at most.

    >>> sample = KeySample(1_000)
    >>> sample.is_new(7), sample.is_new(7), sample.is_new(8)
    (True, False, True)
    """

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._mask = 0
        self._seen: set[int] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, key: int) -> bool:
        """Tell whether a key, a hash of 64 bits, is in the sample for the first time; then it is remembered."""
        if (key >> 32) & self._mask or key in self._seen or len(self._seen) >= self._most:
            return False
        self._seen.add(key)
        while len(self._seen) >= self._most and self._mask < _ALL_BITS:
            self._mask = (self._mask << 1) | 1
            self._seen = {each for each in self._seen if not (each >> 32) & self._mask}
        return True


class RecordFile:
    """The file in which a replica adds records of a step; what is not written yet waits in memory."""

    def __init__(self, folder: Path, replica: str, step: int, num_outputs: int) -> None:
        self.step = step
        self._path = folder / f"{replica}-{step}-{num_outputs}.records"
        self._type = record_type(num_outputs)
        most = max(1, min(MOST_KEYS, MOST_OUTPUTS // max(1, num_outputs)))
        self.answered, self.erred = KeySample(most), KeySample(most)
        self._waiting: list[tuple[Any, ...]] = []
        self._num_bytes = 0

    def add(self, key: int, at: float, arm: int, outcome: int, of: Observation) -> None:
        """Queue a record."""
        (width,) = self._type["outputs"].shape
        outputs = (*of.outputs, *[math.nan] * width)[:width]
        self._waiting.append((key, at, arm, outcome, of.score, of.latency, of.row, of.entity, outputs))

    def taken(self) -> list[tuple[Any, ...]]:
        """Take the records that wait."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def write(self, records: list[tuple[Any, ...]]) -> None:
        """Add records to the file.

        Raises
        ------
        OSError
            They are not written; what the file had is still there.
        """
        if not records:
            return
        packed = np.array(records, self._type).tobytes()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("r+b" if self._num_bytes else "wb") as file:
            file.seek(self._num_bytes)  # over what an earlier attempt may have left
            file.write(packed)
        self._num_bytes += len(packed)


def folder_of(store: Store, name: str, trial: str) -> Path:
    """The folder in which the replicas of a name count a trial."""
    return store.root / "canaries" / name / trial


def read(folder: Path, step: int) -> Records:
    """Read the records of a step by all replicas, in the order of time, of each key, version and kind the first."""
    parts = [_read(path, num_outputs) for path, number, num_outputs in _files(folder) if number == step]
    width = max((part.dtype["outputs"].shape[0] for part in parts), default=0)
    records = np.concatenate([np.zeros(0, record_type(width)), *(_widened(part, width) for part in parts)])
    records = records[np.argsort(records["at"], kind="stable")]
    return records[_first_of_each(records)]


def steps(folder: Path) -> list[int]:
    """Steps of which there are records."""
    return sorted({step for _, step, _ in _files(folder)})


def _files(folder: Path) -> list[tuple[Path, int, int]]:
    named = ((path, _NAME.fullmatch(path.name)) for path in sorted(folder.glob("*.records")))
    return [(path, int(match["step"]), int(match["outputs"])) for path, match in named if match]


def _read(path: Path, num_outputs: int) -> Records:
    """Whole records of a file."""
    layout, data = record_type(num_outputs), path.read_bytes()
    return np.frombuffer(data, layout, count=len(data) // layout.itemsize)


def _widened(records: Records, width: int) -> Records:
    """The records with as many outputs; NaN where they had none."""
    if records.dtype["outputs"].shape[0] == width:
        return records
    wide = np.zeros(len(records), record_type(width))
    for name in records.dtype.names or ():
        if name != "outputs":
            wide[name] = records[name]
    wide["outputs"] = np.nan
    wide["outputs"][:, : records.dtype["outputs"].shape[0]] = records["outputs"]
    return wide


def _first_of_each(records: Records) -> NDArray[np.bool_]:
    """True for the first record of each key in a version that answered it, and of each key that it failed."""
    kind = records["arm"].astype(np.uint64) * 2 + (records["outcome"] != ANSWERED)
    is_first = np.zeros(len(records), np.bool_)
    for number in range(4):
        places = np.flatnonzero(kind == number)
        is_first[places[np.unique(records["key"][places], return_index=True)[1]]] = True
    return is_first
