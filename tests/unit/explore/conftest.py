"""A split on disk, made by hand: what `collect` writes, without running it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys.dataset import PARTS, Split
from mlsys.schema import FOLD, ROW, Column, Kind, Role, Schema

KINDS = {"double": Kind.NUMERIC, "int64": Kind.NUMERIC, "bool": Kind.BOOLEAN, "string": Kind.CATEGORICAL}


def make_schema(table, target="y", **roles):
    """Columns of a table with roles by name; the rest are features."""
    roles = {target: Role.TARGET, **roles}
    return Schema(
        columns=tuple(
            Column(
                name=field.name,
                type=str(field.type),
                kind=KINDS.get(str(field.type), Kind.DATETIME),
                role=roles.get(field.name, Role.FEATURE),
            )
            for field in table.schema
        )
    )


@pytest.fixture
def divide(tmp_path):
    """``divide(train, test=…, schema=…)``: a split with these rows in its parts, two files for training."""

    def build(train, schema=None, *, forward=False, folds=3, **parts):
        schema = schema or make_schema(train)
        first = 0
        tables = {"train": train, **parts}
        for part in PARTS:
            table = tables.get(part, train.slice(0, 0))
            rows = np.arange(first, first + table.num_rows)
            first += table.num_rows
            fold = rows % folds if part == "train" else np.full(len(rows), -1)
            full = table.append_column(ROW, pa.array(rows, pa.int64())).append_column(FOLD, pa.array(fold, pa.int8()))
            folder = tmp_path / part
            folder.mkdir()
            half = full.num_rows // 2 if part == "train" else full.num_rows
            for number, piece in enumerate([full.slice(0, half), full.slice(half)][: 2 if part == "train" else 1]):
                pq.write_table(piece, folder / f"part-{number:05}.parquet")
        num_rows = {part: tables[part].num_rows if part in tables else 0 for part in PARTS}
        return Split("0" * 64, tmp_path, schema, num_rows, folds, forward)

    return build


@pytest.fixture
def schema_of():
    """``schema_of(table, target="y", name=Role…)``: every other column is a feature."""
    return make_schema
