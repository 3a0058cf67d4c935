"""Finished trials of a search, one JSON line each, appended and synced as they end.

A killed search leaves whole lines and at most one torn last line, which is cut off. The
next run replays the lines into the searcher and goes on from there.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys.store import storage_error, write_atomic

__all__ = ["Journal", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes
    ----------
    number
        0 is the default parameters, searched ones count from 1 in the order in which they ended.
    params
        The searched parameters only; empty for the default.
    score
        The metric on validation; of a trial that was stopped, at its last report.
    rounds
        Boosting rounds kept, or seen when it was stopped; None for families without rounds.
    finished
        False for a trial that was stopped as hopeless.
    elapsed_s
        Seconds that the search had run, over all its runs, when the trial ended.
    """

    number: int
    params: dict[str, Any]
    score: float
    rounds: int | None
    finished: bool
    fit_s: float
    elapsed_s: float


class Journal:
    """The file of trials of one search."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.trials = self._read()

    @property
    def elapsed_s(self) -> float:
        """Seconds that earlier runs of the search took."""
        return max((trial.elapsed_s for trial in self.trials), default=0.0)

    def append(self, trial: Trial) -> None:
        """Add a trial; it is on disk when this returns.

        Raises
        ------
        StoreError
            The disk is full or the folder cannot be written.
        """
        line = json.dumps(dataclasses.asdict(trial), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(self.file, error) from error
        self.trials.append(trial)

    def _read(self) -> list[Trial]:
        if not self.file.is_file():
            return []
        data = self.file.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_atomic(self.file, whole)
        return [Trial(**json.loads(line)) for line in whole.splitlines()]
