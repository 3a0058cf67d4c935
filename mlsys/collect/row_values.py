"""Check the numbers of the collected rows that a loss is made of, before anything is fitted to them.

A count cannot be negative, an amount of a gamma distribution is above 0. Where a library would end with an error of its
own, after minutes, or silently fit something else, the run ends here and says how many rows are to blame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from mlsys import cluster, errors
from mlsys.dataset import Snapshot
from mlsys.schema import Task
from mlsys.statistics import encode_target


@dataclass
class _Counts:
    """Rows with a label; those of a value that is not taken, and the first such value."""

    labelled: int = 0
    bad: int = 0
    example: float | None = None

    def add(self, values: np.ndarray, is_bad: np.ndarray) -> None:
        self.labelled += values.size
        self.bad += int(is_bad.sum())
        if self.example is None and is_bad.any():
            self.example = float(values[is_bad.argmax()])

    def shown(self) -> str:
        return f"{self.example:g} in {self.bad:,} of {self.labelled:,} rows with a label"


def check(snapshot: Snapshot, task: Task) -> None:
    """Refuse targets that the loss of the task does not take.

    Raises
    ------
    TargetError
        A target is negative, or for gamma not above 0.
    """
    if task.loss is None or not task.loss.has_log_link:
        return
    counts = cluster.call(_count, snapshot, task, threads=1)
    if counts.bad:
        above = task.loss.name == "gamma"
        raise errors.TargetError.build(
            f"collect: target '{task.target}'",
            got=counts.shown(),
            expected=f"{'numbers above 0' if above else 'numbers of 0 and above'}, for loss: {task.loss}",
            hint=f"{'loss: tweedie takes zeros, too; ' if above else ''}data.derive can correct the rows, or make them "
            "null; loss: auto takes any number",
        )


def _count(snapshot: Snapshot, task: Task) -> _Counts:
    counts, is_gamma = _Counts(), task.loss is not None and task.loss.name == "gamma"
    for path in snapshot.paths:
        for batch in pq.ParquetFile(path).iter_batches(columns=[task.target]):
            y = np.asarray(encode_target(batch.column(0), task), np.float64)
            y = y[~np.isnan(y)]
            counts.add(y, y <= 0 if is_gamma else y < 0)
    return counts
