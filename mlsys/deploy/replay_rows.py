"""Rows of a part as they are sent to an endpoint again: JSON values, and ids that are the same each time.

A replay that was cut off, or that comes again after another model, sends rows which were answered before. Their
ids are made of their values, so the monitor knows them and counts each once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys.dataset import Split
from mlsys.schema import Role, Schema

ROWS_PER_REQUEST = 500
"""As few as a client might send, and enough that the overhead of HTTP does not dominate."""


@dataclass(frozen=True)
class ReplayChunk:
    """Rows of one request: values by row in the order of `names`, an id for each, and the `others` that were read."""

    names: list[str]
    data: list[tuple[Any, ...]]
    ids: list[str]
    others: pa.Table

    @property
    def body(self) -> bytes:
        """The request in the form ``dataframe_split``."""
        split = {"columns": self.names, "data": self.data}
        return json.dumps({"dataframe_split": split, "params": {"prediction_ids": self.ids}}).encode()


def chunks(split: Split, part: str, schema: Schema, others: Sequence[str] = ()) -> Iterator[ReplayChunk]:
    """Divide the rows of a part into requests; each file is sorted by time if it has one.

    An id is the digest of a row's values with its number among rows of equal values. `schema` has the columns of a
    request, `others` names further ones to read.
    """
    names, time_column = schema.names, schema.name_of(Role.TIME)
    seen: Counter[str] = Counter()
    for path in split.paths(part):
        table = pq.read_table(path, columns=[*names, *others])
        if time_column:
            table = table.sort_by(time_column)
        for start in range(0, table.num_rows, ROWS_PER_REQUEST):
            chunk = table.slice(start, ROWS_PER_REQUEST)
            data = list(zip(*(_json_values(chunk[name]) for name in names), strict=True))
            yield ReplayChunk(names, data, [_id(row, seen) for row in data], chunk.select(list(others)))


def _id(row: tuple[Any, ...], seen: Counter[str]) -> str:
    digest = hashlib.sha256(json.dumps(row).encode()).hexdigest()[:32]
    seen[digest] += 1
    return f"{digest}-{seen[digest]}"


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    """Convert values to those of JSON: times to ISO text in UTC, dates to ISO text, NaN to null."""
    if pa.types.is_date(column.type):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ").to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.to_pylist()  # type: ignore[no-any-return]
