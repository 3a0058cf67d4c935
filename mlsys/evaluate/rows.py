"""The test rows after prediction through `Predictor`, and what the dummy says about them.

Rows are read file by file; kept are the truth, the model's output, and the columns that rows
are sliced or grouped by.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import errors, models
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.models.matrix import Matrix
from mlsys.predict import Predictor
from mlsys.schema import Role, Task
from mlsys.statistics import encode_target

__all__ = ["Scored", "dummy", "read"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Test rows after prediction: truth, model output, and what to slice and group by.

    `unseen` and `rare` count values that training never saw, or too seldom, by column.
    """

    y: Floats
    output: Floats
    unseen: dict[str, int]
    rare: dict[str, int]
    context: pa.Table
    groups: NDArray[np.int64] | None


def read(bundle: Bundle, split: Split, timezone: str, sliced: list[str]) -> Scored:
    """Predict the test part; `sliced` are the columns kept as context.

    Raises
    ------
    TargetError
        There are no test rows, or one has no label.
    """
    predictor = Predictor(bundle, timezone)
    target, group = bundle.task.target, split.schema.one(Role.GROUP)
    context = list(dict.fromkeys([*sliced, *([group] if group else [])]))
    request = [name for name in bundle.schema.names if name in split.schema]
    truth: list[Floats] = []
    outputs: list[Floats] = []
    kept: list[pa.Table] = []
    unseen: Counter[str] = Counter()
    rare: Counter[str] = Counter()
    for path in split.paths("test"):
        table = pq.read_table(path, columns=list(dict.fromkeys([*request, target, *context])))
        predictions = predictor.table(table.select(request))
        outputs.append(predictions.score if predictions.probabilities is None else predictions.probabilities)
        truth.append(_labels(table[target], bundle.task, "test"))
        kept.append(table.select(context))
        unseen.update(predictions.unseen)
        rare.update(predictions.rare)
    if not sum(map(len, truth)):
        raise errors.TargetError.build(
            "evaluate: the test part",
            got="no rows",
            expected="at least one row with a label",
            hint="give it a larger fraction or other dates under split",
        )
    whole = pa.concat_tables(kept)
    groups = _codes(whole[group]) if group else None
    return Scored(np.concatenate(truth), np.concatenate(outputs), dict(unseen), dict(rare), whole, groups)


def dummy(split: Split, task: Task, num_rows: int) -> Floats:
    """What the dummy, fitted on the labels of the training rows, says about `num_rows` rows."""
    y = _labels(split.table("train", [task.target])[task.target], task, "train")
    family = models.family("dummy")
    fitted = family.fit(
        Matrix(np.empty((len(y), 0), np.float32), y, (), ()), None, task, family.Params(), seed=0, threads=1
    )
    return np.asarray(family.predict(fitted, np.empty((num_rows, 0), np.float32)), np.float64)


def _labels(values: pa.ChunkedArray, task: Task, part: str) -> Floats:
    y = np.asarray(encode_target(values, task), np.float64)
    absent = int(np.sum(y < 0) if task.is_classification else np.sum(~np.isfinite(y)))
    if absent:
        raise errors.TargetError.build(
            f"evaluate: target '{task.target}' in the {part} part",
            got=f"no label in {absent} rows",
            expected="a class of the task" if task.is_classification else "a finite number",
            hint="run `mlsys collect` again: it sets rows without a label apart",
            field=task.target,
        )
    return y


def _codes(values: pa.ChunkedArray) -> NDArray[np.int64]:
    encoded = values.combine_chunks().dictionary_encode("encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
