"""Our fit and transform of the flights table, or of numbers, to a float32 matrix.

A module of its own, for tasks of a cluster import it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd  # noqa: F401  (pyarrow imports it at first use; no import is to be timed)
import pyarrow.parquet as pq

from flights_table import CATEGORICAL, TARGET, TIME
from measured import local_cluster
from mlsys import cluster
from mlsys.features import plan, program
from mlsys.features.executors import transform_files
from mlsys.features.program import FeatureProgram
from mlsys.recipe import FeaturesSection
from mlsys.schema import Column, Kind, Schema, Task
from mlsys.statistics import TableStatistics

__all__ = ["CYCLES", "fit", "matrix_of", "ours", "ours_in_tasks", "scanned", "worker"]

Group = tuple[Path, int]
"""A row group of a file."""

TASK = Task(kind="binary", target=TARGET, classes=(False, True))
CYCLES = {"hour": 1440, "weekday": 7, "yearday": 366}
"""Parts of the time that are features, and their lengths in minutes or days."""

TREATMENT = {
    Kind.NUMERIC: {"operation": "numeric", "impute": "mean"},
    Kind.CATEGORICAL: "frequency",
    Kind.DATETIME: {"operation": "datetime", "parts": list(CYCLES)},
}
"""A number a column, imputed and standardised, as the peers have it; and more of the time than they read."""


STRIP_COLUMNS = 64
"""Columns of a row group that are read at once: of a thousand, the first would have left the cache."""


def ours(path: Path) -> dict[str, Any]:
    """Statistics, plan, program, matrix, with a thread a core."""
    return _timed(path, lambda groups: _on_threads(groups, os.cpu_count() or 1))


def ours_in_tasks(path: Path) -> dict[str, Any]:
    """The same of very many columns, a task a row group: threads of one process would wait for each other."""
    with local_cluster() as cpus:
        cluster.map(schema_of, [path] * cpus)  # the workers import what they need
        return _timed(path, lambda groups: cluster.map(_learn, groups))


def _timed(path: Path, learned: Callable[[list[Group]], list[TableStatistics]]) -> dict[str, Any]:
    began = perf_counter()
    first, *others = learned(_groups(path))
    fitted = fit(first.merge(*others))
    done = perf_counter()
    matrix = matrix_of(path, fitted)
    return {"fit_s": done - began, "transform_s": perf_counter() - done, "matrix_mb": matrix.nbytes / 2**20}


def worker(path: Path) -> dict[str, Any]:
    """The same on one thread, and no block of the matrix is kept."""
    began = perf_counter()
    fitted = fit(scanned(path))
    done = perf_counter()
    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        fitted.transform(file.read_row_group(group, columns=fitted.inputs))
    return {"fit_s": done - began, "transform_s": perf_counter() - done}


def matrix_of(path: Path, fitted: FeatureProgram) -> np.ndarray:
    return transform_files([path], fitted.inputs, fitted.transform, fitted.width)


def scanned(path: Path) -> TableStatistics:
    """Statistics of all rows, on one thread."""
    first, *others = _on_threads(_groups(path), 1)
    return first.merge(*others)


def _groups(path: Path) -> list[Group]:
    return [(path, group) for group in range(pq.read_metadata(path).num_row_groups)]


def _on_threads(groups: list[Group], threads: int) -> list[TableStatistics]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(_learn, groups))


def _learn(piece: Group) -> TableStatistics:
    path, group = piece
    schema = schema_of(path)
    names = [column.name for column in schema]
    statistics = TableStatistics.empty(schema, TASK)
    file = pq.ParquetFile(path, read_dictionary=[name for name in CATEGORICAL if name in schema])
    for at in range(0, len(names), STRIP_COLUMNS):
        strip = file.read_row_group(group, columns=names[at : at + STRIP_COLUMNS], use_threads=False)
        columns = dict(zip(strip.column_names, strip.columns, strict=True))
        statistics.take(columns, None, strip.num_rows if at == 0 else 0)
    return statistics


def fit(statistics: TableStatistics) -> FeatureProgram:
    schema = statistics.schema
    features = FeaturesSection(columns={column.name: TREATMENT[column.kind] for column in schema})
    return program.fit(plan.choose(schema, statistics, features, "dense"), statistics)


def schema_of(path: Path) -> Schema:
    kinds = {**dict.fromkeys(CATEGORICAL, Kind.CATEGORICAL), TIME: Kind.DATETIME}
    fields = [field for field in pq.read_schema(path) if field.name != TARGET]
    return Schema(
        columns=tuple(Column(name=f.name, type=str(f.type), kind=kinds.get(f.name, Kind.NUMERIC)) for f in fields)
    )
