"""Check the numbers of the collected rows that a loss is made of, before anything is fitted to them.

A count cannot be negative, an amount of a gamma distribution and an exposure are above 0, a weight is 0 or above.
Where a library would end with an error of its own, after minutes, or silently fit something else, the run ends here and
says how many rows are to blame.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq

from mlsys import cluster, errors
from mlsys.dataset import Snapshot
from mlsys.schema import Kind, Role, Task
from mlsys.statistics import encode_target
from mlsys.statistics.arrays import Floats, numbers_of

OTHER_ROLES = (Role.TARGET, Role.ID, Role.TIME, Role.GROUP, Role.SPLIT)
"""Roles of columns that cannot say how rows count as well."""


@dataclass
class _Counts:
    """Rows with a label; those of a value that is not taken, the first such value, and the sum of the others."""

    labelled: int = 0
    bad: int = 0
    missing: int = 0
    example: float | None = None
    total: float = 0.0

    def add(self, values: Floats, is_good: np.ndarray) -> None:
        """Count the rows of a batch; a NaN is missing."""
        is_missing = np.isnan(values)
        is_bad = ~is_good & ~is_missing
        self.labelled += values.size
        self.bad += int(is_bad.sum())
        self.missing += int(is_missing.sum())
        self.total += float(values[is_good].sum())
        if self.example is None and is_bad.any():
            self.example = float(values[is_bad.argmax()])

    def shown(self) -> str:
        """Say what is wrong with how many rows."""
        bad = f"{self.example:g} in {self.bad:,}" if self.bad else ""
        missing = f"none in {self.missing:,}" if self.missing else ""
        return f"{' and '.join(filter(None, (bad, missing)))} of {self.labelled:,} rows with a label"


@dataclass
class _RowValues:
    """Counts of the columns that a loss is made of."""

    target: _Counts = field(default_factory=_Counts)
    weight: _Counts = field(default_factory=_Counts)
    exposure: _Counts = field(default_factory=_Counts)


def check(snapshot: Snapshot, task: Task) -> None:
    """Refuse targets, weights and exposures that the loss of the task does not take.

    Raises
    ------
    RecipeError
        A column of weights or exposures is not there, is no number, or has another role; exposure is for losses on
        the scale of the logarithm alone.
    TargetError
        A target is negative, or for gamma not above 0; a weight is negative, missing or infinite, or all are 0; an
        exposure is not above 0.
    """
    _check_columns(snapshot, task)
    is_log = task.loss is not None and task.loss.has_log_link
    if not is_log and not task.beside:
        return
    checked = cluster.call(_count, snapshot, task, threads=1)
    if is_log and checked.target.bad:
        _refuse_target(task, checked.target)
    if checked.weight.bad or checked.weight.missing:
        hint = f"data.derive: {{{task.weight}: ...}} can correct it; 0 leaves a row out"
        raise _refused("weight", task.weight, checked.weight.shown(), "numbers of 0 and above", hint)
    if task.weight is not None and not checked.weight.total:
        got = f"0 in all {checked.weight.labelled:,} rows with a label"
        raise _refused("weight", task.weight, got, "rows that count", "leave train.weight out: all count alike then")
    if checked.exposure.bad or checked.exposure.missing:
        hint = f"data.derive: {{{task.exposure}: ...}} can correct it, or make the target of such rows null"
        raise _refused("exposure", task.exposure, checked.exposure.shown(), "numbers above 0", hint)


def _check_columns(snapshot: Snapshot, task: Task) -> None:
    if task.exposure is not None and (task.loss is None or not task.loss.has_log_link):
        got = "loss: auto" if task.loss is None else f"loss: {task.loss}"
        hint = "loss: poisson for counts; or leave train.exposure out"
        where, expected = "recipe: 'train.exposure'", "loss: poisson, tweedie or gamma"
        raise errors.RecipeError.build(where, got=got, expected=expected, hint=hint)
    for key, name in (("train.weight", task.weight), ("train.exposure", task.exposure)):
        if name is None:
            continue
        if name not in snapshot.schema:
            raise errors.RecipeError.unknown_column(f"recipe: '{key}'", name, snapshot.schema.names)
        column = snapshot.schema[name]
        if column.role in OTHER_ROLES or column.kind is not Kind.NUMERIC or name == task.target:
            role = f", the {column.role.value}" if column.role in OTHER_ROLES else ""
            got = f"column '{name}'{role}: {column.kind.value}"
            hint = f"data.kinds: {{{name}: numeric}}, or derive another column from it"
            raise errors.RecipeError.build(f"recipe: '{key}'", got=got, expected="a column of numbers", hint=hint)


def _refuse_target(task: Task, counts: _Counts) -> None:
    above = task.loss is not None and task.loss.name == "gamma"
    zeros = "loss: tweedie takes zeros, too; " if above else ""
    raise errors.TargetError.build(
        f"collect: target '{task.target}'",
        got=counts.shown(),
        expected=f"{'numbers above 0' if above else 'numbers of 0 and above'}, for loss: {task.loss}",
        hint=f"{zeros}data.derive can correct the rows, or make them null; loss: auto takes any number",
    )


def _refused(key: str, column: str | None, got: str, expected: str, hint: str) -> errors.TargetError:
    return errors.TargetError.build(
        f"collect: train.{key}: column '{column}'", got=got, expected=expected, hint=hint, field=column
    )


def _count(snapshot: Snapshot, task: Task) -> _RowValues:
    checked, is_gamma = _RowValues(), task.loss is not None and task.loss.name == "gamma"
    for path in snapshot.paths:
        for batch in pq.ParquetFile(path).iter_batches(columns=[task.target, *task.beside]):
            encoded = np.asarray(encode_target(batch.column(task.target), task), np.float64)
            is_labelled = encoded >= 0 if task.is_classification else ~np.isnan(encoded)
            y = encoded[is_labelled]
            checked.target.add(y, y > 0 if is_gamma else y >= 0)
            if task.weight is not None:
                weight = numbers_of(batch.column(task.weight))[is_labelled]
                checked.weight.add(weight, np.isfinite(weight) & (weight >= 0))
            if task.exposure is not None:
                exposure = numbers_of(batch.column(task.exposure))[is_labelled]
                checked.exposure.add(exposure, np.isfinite(exposure) & (exposure > 0))
    return checked
