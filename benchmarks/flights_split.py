"""The flights as the parts of a split, and what a fit of them needs; cancelled ones, which have no label, are left out.

Files are written copy by copy, so that ten million rows are never in memory at once.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flights_table import CATEGORICAL, FEATURES, ROW_GROUP, TARGET, TIME, flight_copies
from mlsys.dataset import Split
from mlsys.features.training import TrainingProgram
from mlsys.recipe import Recipe
from mlsys.schema import FOLD, ROW, Column, Kind, Role, Schema, Task
from mlsys.statistics import TrainStatistics
from mlsys.train import training_job
from mlsys.train.training_job import TrainingJob

__all__ = ["TASK", "divided", "job_of", "program_of"]

FOLDS = 5
TASK = Task(kind="binary", target=TARGET, classes=(False, True))


def divided(folder: Path, scale: int, *, held_out: float = 0.0) -> Split:
    """Write the flights as the training part of a split, and a fraction of them as its validation part."""
    num_rows = {"train": 0, "validation": 0}
    for part in num_rows:
        (folder / part).mkdir()
    for number, table in enumerate(flight_copies(scale)):
        labelled = table.filter(pc.field(TARGET).is_valid())
        judged = np.random.default_rng(number).random(labelled.num_rows) < held_out
        for part, chosen in (("train", ~judged), ("validation", judged)):
            rows = labelled.filter(pa.array(chosen))
            if not rows.num_rows:
                continue
            rows = _numbered(rows, num_rows[part], is_train=part == "train")
            path = folder / part / f"part-{number:05d}.parquet"
            pq.write_table(rows, path, compression="zstd", row_group_size=ROW_GROUP)
            num_rows[part] += rows.num_rows
    kinds = pq.read_schema(folder / "train" / "part-00000.parquet")
    return Split("0" * 64, folder, _schema(kinds), num_rows, FOLDS, forward=False)


def job_of(split: Split, program: TrainingProgram, *, family: str = "xgboost", **train: Any) -> TrainingJob:
    """A fit of a family, with the values of a recipe's section `train`."""
    recipe = _recipe(**{"family": family, **train})
    return TrainingJob(split, program, recipe, TASK, family, training_job.params_of(recipe, family))


def program_of(split: Split, family: str = "xgboost") -> TrainingProgram:
    """The features of a family, fitted on the statistics of all rows: what a fit needs of the scan of a run."""
    groups = [
        (path, number) for path in split.paths("train") for number in range(pq.read_metadata(path).num_row_groups)
    ]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        first, *others = pool.map(lambda group: _statistics(group[0], group[1], split.schema), groups)
    return training_job.fit_program(split.schema, first.merge(*others), _recipe(), family)


def _statistics(path: Path, group: int, schema: Schema) -> TrainStatistics:
    with pq.ParquetFile(path, read_dictionary=CATEGORICAL) as file:
        return TrainStatistics.of_table(file.read_row_group(group, use_threads=False), schema, TASK)


def _recipe(**train: object) -> Recipe:
    section = {"family": "xgboost", **train}
    return Recipe.model_validate({"name": "flights", "target": TARGET, "data": {"source": "flights"}, "train": section})


def _numbered(rows: pa.Table, first: int, *, is_train: bool) -> pa.Table:
    numbers = np.arange(first, first + rows.num_rows)
    folds = numbers % FOLDS if is_train else np.full(rows.num_rows, -1)
    return rows.append_column(ROW, pa.array(numbers)).append_column(FOLD, pa.array(folds, pa.int8()))


def _schema(kinds: pa.Schema) -> Schema:
    def column(name: str) -> Column:
        kind = Kind.CATEGORICAL if name in CATEGORICAL else Kind.DATETIME if name == TIME else Kind.NUMERIC
        return Column(name=name, type=str(kinds.field(name).type), kind=kind)

    target = Column(name=TARGET, type="bool", kind=Kind.BOOLEAN, role=Role.TARGET)
    return Schema(columns=(*map(column, FEATURES), target))
