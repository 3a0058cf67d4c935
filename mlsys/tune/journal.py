"""The trials of a search, kept in a file as they end."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlsys.store import digest_json, storage_error, write_atomic


@dataclass(frozen=True)
class Trial:
    """A trial that has ended; number 0 is the first one, the others count from 1 in the order in which they ended.

    Attributes
    ----------
    params
        What it was given over the family's defaults; nothing for the defaults themselves.
    score, rounds
        The metric on the judged rows, and boosting rounds kept (None for families without rounds): their mean where
        there were several fits.
    finished
        It ended by itself; otherwise its time ended it.
    elapsed_s
        Seconds that the search had run, over all its runs, when the trial ended.
    cut
        Parameters of which its time ended it at less than was asked for: their mean where there were several fits.
    fits
        The rounds of each of its fits and what its time has cut, in their order (`FoldResult.reached`).
    latency_us, num_bytes
        Microseconds a row of features and prediction, the median of its fits, and bytes of its largest model as it
        is stored, where the recipe sets a limit to them.
    """

    number: int
    family: str
    params: dict[str, Any]
    score: float
    rounds: int | None
    finished: bool
    fit_s: float
    elapsed_s: float
    cut: dict[str, int] = field(default_factory=dict)
    fits: tuple[dict[str, int], ...] = ()
    latency_us: float | None = None
    num_bytes: int | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Trial:
        """The trial of its JSON; one from before `fits` were journalled has none."""
        return cls(**{**value, "fits": tuple(value.get("fits", ()))})

    @property
    def key(self) -> str:
        """Name of what was tried, the same in every process."""
        return key(self.family, self.params)


def key(family: str, params: dict[str, Any]) -> str:
    """Name of a point of a search, the same in every process."""
    return digest_json({"family": family, "params": params})[:16]


class Journal:
    """The file of finished trials of a search, one JSON line each, synced as they end; predictions lie beside it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.trials = self._read()

    @property
    def elapsed_s(self) -> float:
        """Seconds that earlier runs of the search took."""
        return max((trial.elapsed_s for trial in self.trials), default=0.0)

    @property
    def folder(self) -> Path:
        """Folder of the predictions of the judged rows, a file a trial."""
        return self.file.parent / "predictions"

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

    def note_failure(self, config: dict[str, Any], traceback: str) -> None:
        """Keep the whole traceback of a trial that failed, in a line of ``failures.jsonl`` beside the trials."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({**config, "traceback": traceback}, ensure_ascii=False, default=str) + "\n"
        with self.failures.open("ab") as file:
            file.write(line.encode())

    @property
    def failures(self) -> Path:
        """The file of the trials that failed."""
        return self.file.with_name("failures.jsonl")

    def has_predictions(self, trial: Trial) -> bool:
        return (self.folder / f"{trial.key}.npy").is_file()

    def predictions(self, trial: Trial) -> np.ndarray:
        """Predictions of the judged rows."""
        return np.asarray(np.load(self.folder / f"{trial.key}.npy", allow_pickle=False))

    def keep(self, trials: list[Trial]) -> None:
        """Delete the predictions of all other trials."""
        names = {f"{trial.key}.npy" for trial in trials}
        for file in self.folder.glob("*.npy"):
            if file.name not in names:
                file.unlink(missing_ok=True)

    def _read(self) -> list[Trial]:
        if not self.file.is_file():
            return []
        data = self.file.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_atomic(self.file, whole)
        return [Trial.from_json(json.loads(line)) for line in whole.splitlines()]
