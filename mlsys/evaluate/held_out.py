"""The test rows, read file by file: the truth, what models say of them, and what is known of them beside.

The truth, the models' output and a few columns stay in memory, the rows do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import errors, label_sets
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate.resampling import RowContext
from mlsys.predict import Predictor
from mlsys.schema import Role, Task
from mlsys.statistics import encode_target
from mlsys.statistics.arrays import Floats, numbers_of
from mlsys.statistics.hashing import hash_exactly


class RowFilter(Protocol):
    """Rows to judge: `columns` are what it has to see of them."""

    @property
    def columns(self) -> Sequence[str]: ...

    def __call__(self, table: pa.Table) -> NDArray[np.bool_]:
        """Tell of each row of a table whether it is judged."""


@dataclass(frozen=True)
class HeldOut:
    """The test rows after prediction.

    Attributes
    ----------
    outputs
        Of each bundle, the values (n,) or the probabilities (n, classes) or (n, labels).
    unseen, rare
        Values that training of the first bundle never saw, or saw too seldom, counted by column.
    context
        The columns that were asked for.
    rows
        What is known of the rows for intervals.
    weight, exposure
        How much each row counts, and what its expected value goes with; None where the task says nothing of it.
    groups
        The group that a row is ranked in, by a hash of its name; None for other tasks.
    """

    y: Floats
    outputs: tuple[Floats, ...]
    unseen: dict[str, int]
    rare: dict[str, int]
    context: pa.Table
    rows: RowContext
    weight: Floats | None = None
    exposure: Floats | None = None
    groups: NDArray[np.uint64] | None = None


def predict(
    bundles: Sequence[Bundle],
    split: Split,
    timezone: str,
    columns: Sequence[str] = (),
    keep: RowFilter | None = None,
) -> HeldOut:
    """Predict the test part with the `Predictor` of each bundle; the named columns stay as context.

    Raises
    ------
    TargetError
        There are no test rows, or one has no label.
    RequestError
        A bundle cannot predict these rows.
    """
    task, predictors = bundles[0].task, [Predictor(each, timezone) for each in bundles]
    beside = _beside(split)
    context = list(dict.fromkeys([*columns, *beside, *task.beside]))
    requests = [[name for name in each.schema.names if name in split.schema] for each in bundles]
    named = [name for request in requests for name in request]
    to_read = list(dict.fromkeys([*named, task.target, *context, *(keep.columns if keep else ())]))
    truth: list[Floats] = []
    outputs: list[list[Floats]] = [[] for _ in bundles]
    contexts: list[pa.Table] = []
    unseen, rare = Counter[str](), Counter[str]()
    for path in split.paths("test"):
        table = pq.read_table(path, columns=to_read)
        table = table if keep is None else table.filter(pa.array(keep(table)))
        for number, predictor in enumerate(predictors):
            predictions = predictor.table(table.select(requests[number]))
            output = predictions.score if predictions.probabilities is None else predictions.probabilities
            outputs[number].append(output)
            if number == 0:
                unseen.update(predictions.unseen)
                rare.update(predictions.rare)
        truth.append(labels(table[task.target], task, "test"))
        contexts.append(table.select(context))
    if not sum(map(len, truth)):
        where = "evaluate: the test part"
        hint = "give it a larger fraction or other dates under split"
        raise errors.TargetError.build(where, got="no rows", expected="at least one row with a label", hint=hint)
    whole = pa.concat_tables(contexts)
    rows = _row_context(split, whole, timezone)
    stacked = tuple(np.concatenate(each) for each in outputs)
    weight, exposure = (None if name is None else numbers_of(whole[name]) for name in (task.weight, task.exposure))
    groups = None if task.group is None else hash_exactly(whole[task.group])
    counts = dict(unseen), dict(rare)
    return HeldOut(np.concatenate(truth), stacked, *counts, whole, rows, weight, exposure, groups)


def labels(values: pa.ChunkedArray, task: Task, part: str) -> Floats:
    """Encode the labels of a part as class numbers, numbers of sets of labels, or values; each row needs one."""
    encoded = label_sets.numbers(values, task.labels) if task.labels else encode_target(values, task)
    y = np.asarray(encoded, np.float64)
    absent = int(np.sum(~(y >= 0)) if task.is_classification else np.sum(~np.isfinite(y)))
    if absent:
        where = f"evaluate: target '{task.target}' in the {part} part"
        expected = "a class of the task" if task.is_classification else "a finite number"
        hint = "run `mlsys collect` again: it puts rows without a label into a part of their own"
        raise errors.TargetError.build(where, got=f"no label in {absent} rows", expected=expected, hint=hint)
    return y


def _beside(split: Split) -> list[str]:
    """Columns of time and group, by which rows may depend on each other."""
    names = (split.schema.name_of(Role.TIME), split.schema.name_of(Role.GROUP))
    return [name for name in names if name is not None]


def _row_context(split: Split, table: pa.Table, timezone: str) -> RowContext:
    time, group = split.schema.name_of(Role.TIME), split.schema.name_of(Role.GROUP)
    times = None
    if time is not None and table[time].null_count == 0:
        times = _microseconds(table[time])
        times = times if split.forward or _follows_training(split, time, times) else None
    groups = None if group is None else _group_numbers(table[group])
    return RowContext(table.num_rows, times, groups, group, timezone)


def _follows_training(split: Split, time: str, times: NDArray[np.int64]) -> bool:
    """Tell whether all test rows come after all training rows, as where a column of the table divides by time."""
    if "train" not in split.parts or not split.num_rows.get("train"):
        return False
    trained = split.table("train", [time])[time]
    return trained.null_count == 0 and int(_microseconds(trained).max()) < int(times.min(initial=2**62))


def _microseconds(values: pa.ChunkedArray) -> NDArray[np.int64]:
    return pl.Series(values).cast(pl.Datetime("us", "UTC")).to_physical().to_numpy()


def _group_numbers(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """Number the groups; a row without group is a group of its own, as in the split."""
    encoded = values.combine_chunks().dictionary_encode("mask")
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    alone = np.isnan(codes.astype(np.float64))
    numbers = np.where(alone, 0, codes).astype(np.int64)
    numbers[alone] = len(encoded.dictionary) + np.arange(int(alone.sum()))
    return numbers
