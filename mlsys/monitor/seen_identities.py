"""Identities of all rows of a log that were counted, as sorted runs of hashes on disk: a row that comes again is known.

What a look-up costs goes with the rows that are new. Runs are mapped one after another, so that memory holds one of
them at most, and runs of similar length are merged, as long as they are short: there are few, and no merge rewrites
more than `MAX_RUN` hashes.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from mlsys.monitor.log_rows import IDENTITY
from mlsys.statistics.arrays import Bools, UInt64
from mlsys.store import write_atomic

MAX_RUN = 4_000_000
"""Hashes of a run that is never merged with another one: 32 MB."""


class SeenIdentities:
    """Identities so far: runs on disk that were there, and runs in memory that are new.

    Attributes
    ----------
    names
        Files of the runs in `folder`, the longest first.
    runs
        Sorted runs that are in memory alone.
    """

    def __init__(self, folder: Path | None, names: Sequence[str] = (), runs: Sequence[UInt64] = ()) -> None:
        self.folder, self.names = folder, list(names)
        self.runs: list[UInt64] = []
        for run in runs:
            self._add(np.unique(run))

    def first(self, rows: pl.DataFrame) -> pl.Series:
        """Mark the rows whose identity did not occur before; rows without an id always count."""
        hashes = rows[IDENTITY].to_numpy()
        fresh = rows[IDENTITY].is_first_distinct().to_numpy() & ~self._has(hashes)
        null = rows["prediction_id"].is_null().to_numpy()
        self._add(np.sort(hashes[fresh & ~null]))
        return pl.Series(fresh | null, dtype=pl.Boolean)

    def _has(self, hashes: UInt64) -> Bools:
        """Mark hashes that are in a run; looked up in rising order, which goes through each run once."""
        order = np.argsort(hashes)
        rising = hashes[order]
        seen = np.zeros(len(hashes), bool)
        for run in self._every():
            position = np.minimum(np.searchsorted(run, rising), len(run) - 1)
            seen[order] |= run[position] == rising
        return seen

    def _every(self) -> Iterator[UInt64]:
        for name in self.names:
            yield self._mapped(name)
        yield from self.runs

    def _mapped(self, name: str) -> UInt64:
        run: UInt64 = np.load((self.folder or Path()) / name, mmap_mode="r", allow_pickle=False)
        return run

    def _add(self, run: UInt64) -> None:
        if not len(run):
            return
        self.runs.append(run)
        while len(self.runs) > 1 and len(self.runs[-2]) <= 2 * len(self.runs[-1]):
            last, before = self.runs.pop(), self.runs.pop()
            self.runs.append(np.sort(np.concatenate([before, last]), kind="stable"))

    def save(self) -> list[str]:
        """Write what is in memory beside the runs that are there; returns the names of all files."""
        new = np.sort(np.concatenate([np.empty(0, np.uint64), *self.runs]), kind="stable")
        self.runs = []
        while self.names and len(new):
            last = self._mapped(self.names[-1])
            if len(last) > 2 * len(new) or len(last) + len(new) > MAX_RUN:
                break
            new = np.sort(np.concatenate([last, new]), kind="stable")
            self.names.pop()
        for first in range(0, len(new), MAX_RUN):
            name, sink = f"identities-{uuid.uuid4().hex}.npy", io.BytesIO()
            np.save(sink, new[first : first + MAX_RUN])
            write_atomic((self.folder or Path()) / name, sink.getvalue())
            self.names.append(name)
        return self.names
