"""A registered model of the flights, and files of flights for it to predict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flights_table import CATEGORICAL, FEATURES, ROW_GROUP, TARGET, TIME, flight_copies, flights
from mlsys import bundle, models, registry
from mlsys.bundle import Bundle
from mlsys.features import plan, program
from mlsys.models.matrix import Matrix
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics, encode_target
from mlsys.store import Store

__all__ = ["DEPTH", "RATE", "ROUNDS", "fitted", "flights_model", "registered", "write_flights"]

ROUNDS, DEPTH, RATE = 100, 6, 0.1
TASK = Task(kind=TaskKind.BINARY, target=TARGET, classes=(False, True))


def flights_model(store: Store, folder: Path, files: int, rows: int) -> Path:
    """Register a small model, and write a folder of so many files of flights."""
    registered(store, rounds=8, num_rows=20_000)
    table = flights().select(FEATURES).slice(0, files * rows)
    folder.mkdir()
    for number in range(files):
        pq.write_table(table.slice(number * rows, rows), folder / f"{number:03d}.parquet")
    return folder


def registered(store: Store, *, rounds: int = ROUNDS, num_rows: int | None = None) -> Bundle:
    """Fit XGBoost to the flights, or the first of them, and register the model as version 1 of ``flights``."""
    written = fitted(store, "xgboost", {"rounds": rounds, "max_depth": DEPTH, "learning_rate": RATE}, num_rows)
    registry.register(store, "flights", written)
    return written


def fitted(store: Store, family: str, settings: Mapping[str, Any], num_rows: int | None = None) -> Bundle:
    """Fit a family with these parameters to the flights, or the first of them; the stored bundle."""
    table = flights().filter(pc.field(TARGET).is_valid()).slice(0, num_rows)
    schema = _schema(table.schema)
    statistics = TableStatistics.empty(schema, TASK)
    statistics.update(table)
    learner, params = models.learner(family, TASK), models.family(family).params
    if learner.encoding == "none":
        raise ValueError(f"{family} takes no columns")
    features = program.fit(plan.choose(schema, statistics, None, learner.encoding), statistics)
    y = encode_target(table[TARGET], TASK).astype(np.float64)
    matrix = Matrix(features.transform(table), y, tuple(features.names), tuple(features.types))
    chosen = params(**settings)
    return bundle.write(
        store,
        task=TASK,
        schema=schema,
        program=features,
        family=family,
        model=learner.fit(matrix, None, TASK, chosen, seed=0, threads=2),
        params=chosen.model_dump(mode="json"),
        threshold=0.4,
        reference=bundle.Reference(statistics),
        provenance={"seed": 0},
        example=_example(table),
    )


def write_flights(path: Path, scale: int) -> int:
    """Write so many copies of the flights as one file; their number."""
    num_rows = 0
    writer = None
    for table in flight_copies(scale):
        rows = table.select(FEATURES)
        writer = writer or pq.ParquetWriter(path, rows.schema, compression="zstd")
        writer.write_table(rows, row_group_size=ROW_GROUP)
        num_rows += rows.num_rows
    if writer is not None:
        writer.close()
    return num_rows


def _example(table: pa.Table) -> dict[str, object]:
    (row,) = table.select(FEATURES).slice(0, 1).to_pylist()
    return {**row, TIME: row[TIME].isoformat()}


def _schema(types: pa.Schema) -> Schema:
    def column(name: str) -> Column:
        kind = Kind.CATEGORICAL if name in CATEGORICAL else Kind.DATETIME if name == TIME else Kind.NUMERIC
        return Column(name=name, type=str(types.field(name).type), kind=kind)

    target = Column(name=TARGET, type="bool", kind=Kind.BOOLEAN, role=Role.TARGET)
    return Schema(columns=(*map(column, FEATURES), target))
