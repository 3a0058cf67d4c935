"""Labels that arrive while a canary runs: the losses of both versions on rows that they answered.

A label belongs to the first row of the first request of a key (`mlsys.deploy.first_requests`), by the row's id in the
answer or in the id column, and counts in the step in which that was answered, whenever it comes. Of several labels of
a row the first one counts, so that nothing that was counted changes. Each file of labels is read once, and of it what
came after the first answer of the trial; no more is kept than there are records.

Where both versions computed the same rows, in the step of a shadow, their losses are compared row by row.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlsys import bundle
from mlsys.deploy import first_requests, label_files, row_losses, tallies
from mlsys.deploy.first_requests import ANSWERED, CANARY, STABLE, Records, hash_of
from mlsys.registry import LedgerEntry
from mlsys.registry.canaries import CanaryTrial
from mlsys.schema import Task
from mlsys.statistics.arrays import Floats
from mlsys.statistics.sequential import SampleMoments
from mlsys.store import Store

SETTLE_S = 3.0
"""Seconds for which a file of labels is left alone: records of what they belong to are written once a second."""

_NONE = SampleMoments()


@dataclass(frozen=True)
class LossTally:
    """Losses of labelled rows in a step; `pairs` are the canary's less those of stable, where both had each row."""

    stable: SampleMoments = _NONE
    canary: SampleMoments = _NONE
    pairs: SampleMoments | None = None


class LabelReader:
    """Reads the labels of the trials of a name, file by file; it begins anew with each trial, and after a crash."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._begin("")

    def _begin(self, trial: str) -> None:
        """Know nothing of a trial yet."""
        self._trial = trial
        self._last, self._is_new = 0, False
        self._labels: dict[int, str] = {}
        self._losses: dict[int, LossTally] = {}
        self._sides: dict[str, tuple[Task, float]] = {}

    def losses(self, trial: CanaryTrial, now: float | None = None) -> Mapping[int, LossTally]:
        """The losses of all labels so far, by step.

        Raises
        ------
        StoreError, BundleError
            There are labels, and a bundle of the trial is damaged or missing.
        """
        self._update(trial, now)
        if self._is_new:
            records = self._records(trial)
            self._losses = {step: self._compared(trial, step, of_step) for step, of_step in records.items()}
            self._is_new = False
        return self._losses

    def counts(self, trial: CanaryTrial, now: float | None = None) -> dict[str, int]:
        """Number of labelled rows of each version, as the ledger names them."""
        self._update(trial, now)
        labelled = [self._labelled(records) for records in self._records(trial).values()]
        arms = [int((each["arm"] == arm).sum()) for arm in (STABLE, CANARY) for each in labelled]
        half = len(labelled)
        return {"stable_labels": sum(arms[:half]), "canary_labels": sum(arms[half:])}

    def _update(self, trial: CanaryTrial, now: float | None) -> None:
        """Read the files of labels that are new and old enough."""
        if trial.id != self._trial:
            self._begin(trial.id)
        latest = (time.time() if now is None else now) - SETTLE_S
        files = label_files.newer(self._store, self._name, self._last)
        records = self._records(trial) if files else {}
        if not any(map(len, records.values())):
            return
        answered = _answered_at(records)
        for number, file in files:
            if not self._read(file, latest, answered):
                break
            self._last, self._is_new = number, True

    def _read(self, file: Path, latest: float, answered: Mapping[int, float]) -> bool:
        """Take the labels of a file that belong to a record; false if it is too new, or was merged meanwhile."""
        try:
            if file.stat().st_mtime > latest:
                return False
            frame = label_files.received_since(file, min(answered.values()))
        except FileNotFoundError:
            return False
        for key, label, received in frame.select("key", "label", pl.col("received_at").dt.timestamp("us")).iter_rows():
            hashed = hash_of(key)
            if hashed not in self._labels and answered.get(hashed, np.inf) <= received / 1e6:
                self._labels[hashed] = label
        return True

    def _records(self, trial: CanaryTrial) -> dict[int, Records]:
        """Records of answered requests, by step."""
        folder = first_requests.folder_of(self._store, self._name, trial.id)
        records = {step: first_requests.read(folder, step) for step in first_requests.steps(folder)}
        return {step: of_step[of_step["outcome"] == ANSWERED] for step, of_step in records.items()}

    def _labelled(self, records: Records) -> Records:
        return records[[self._label(row, entity) is not None for row, entity in _ids(records)]]

    def _label(self, row: int, entity: int) -> str | None:
        label = self._labels.get(row)
        return self._labels.get(entity) if label is None else label

    def _compared(self, trial: CanaryTrial, step: int, records: Records) -> LossTally:
        """Losses of both versions in a step."""
        records = self._labelled(records)
        if not len(records):
            return LossTally()
        arms = [records[records["arm"] == arm] for arm in (STABLE, CANARY)]
        losses = [self._of_arm(entry, arm) for entry, arm in zip((trial.stable, trial.entry), arms, strict=True)]
        known = [np.isfinite(each) for each in losses]
        stable, canary = (_moments(each[is_known]) for each, is_known in zip(losses, known, strict=True))
        if not (trial.plan.shadow and step == 0):
            return LossTally(stable, canary)
        _, first, second = np.intersect1d(arms[0]["key"], arms[1]["key"], return_indices=True)
        differences = losses[1][second] - losses[0][first]
        return LossTally(stable, canary, _moments(differences[np.isfinite(differences)]))

    def _of_arm(self, entry: LedgerEntry, records: Records) -> Floats:
        """Losses of the rows of a version; NaN where its label is none of the task."""
        if entry.digest not in self._sides:
            opened = bundle.open(self._store, entry.digest)
            self._sides[entry.digest] = opened.task, row_losses.target_spread(opened)
        task, spread = self._sides[entry.digest]
        texts = pl.Series([self._label(row, entity) for row, entity in _ids(records)], dtype=pl.String)
        labels = row_losses.label_numbers(task, texts)
        losses = np.full(len(records), np.nan)
        is_known = np.isfinite(labels)
        losses[is_known] = row_losses.of_rows(task, records["outputs"][is_known], labels[is_known], spread)
        return losses


def counts(store: Store, trial: CanaryTrial, reader: LabelReader | None = None) -> dict[str, int]:
    """The counts that a line of the ledger names: of the present step, and of all labels of the trial."""
    name = trial.entry.name
    reader = LabelReader(store, name) if reader is None else reader
    return {**tallies.total(store, name, trial.id, trial.step).summary, **reader.counts(trial)}


def _answered_at(records: Mapping[int, Records]) -> dict[int, float]:
    """Map each id, as its hash, to the time of its first answer."""
    answered: dict[int, float] = {}
    for of_step in records.values():
        for (row, entity), at in zip(_ids(of_step), of_step["at"].tolist(), strict=True):
            for hashed in (row, entity):
                if hashed:
                    answered[hashed] = min(at, answered.get(hashed, np.inf))
    return answered


def _ids(records: Records) -> list[tuple[int, int]]:
    return list(zip(records["row"].tolist(), records["entity"].tolist(), strict=True))


def _moments(values: NDArray[np.float64]) -> SampleMoments:
    return SampleMoments(len(values), float(values.sum()), float((values**2).sum()))
