"""Rows of a part as they are sent to an endpoint again: JSON values, and ids that are the same each time.

A replay that was cut off, or that comes again after another model, sends rows which were answered before. Their
ids are made of their values, so the monitor knows them and counts each once.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import images
from mlsys.dataset import Split
from mlsys.deploy import sizes
from mlsys.recipe import LimitsSection
from mlsys.schema import Role, Schema

ROWS_PER_REQUEST = 500
"""As few as a client might send, and enough that the overhead of HTTP does not dominate."""

ID_BYTES = 64
"""Bytes of a row's id in a body, with what stands around it and the row, at most."""


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


def chunks(
    split: Split,
    part: str,
    schema: Schema,
    others: Sequence[str] = (),
    limits: LimitsSection = LimitsSection(),  # noqa: B008 - it is frozen
) -> Iterator[ReplayChunk]:
    """Divide the rows of a part into requests within an endpoint's limits; each file is sorted by time if it has one.

    An id is the digest of a row's values with its number among rows of equal values. `schema` has the columns of a
    request, `others` names further ones to read.
    """
    names, time_column = schema.names, schema.name_of(Role.TIME)
    seen: Counter[str] = Counter()
    for path in split.paths(part):
        table = pq.read_table(path, columns=[*names, *others])
        if time_column:
            table = table.sort_by(time_column)
        data = list(zip(*(_json_values(table[name]) for name in names), strict=True))
        texts = [json.dumps(row) for row in data]
        ids = [_id(text, seen) for text in texts]
        for start, stop in _requests(table, texts, names, limits):
            yield ReplayChunk(
                names, data[start:stop], ids[start:stop], table.slice(start, stop - start).select(list(others))
            )


def _requests(
    table: pa.Table, texts: Sequence[str], names: Sequence[str], limits: LimitsSection
) -> Iterator[tuple[int, int]]:
    """First and last row, exclusive, of each request, so that the endpoint takes its rows, bytes and pixels."""
    lengths = np.array([len(text) for text in texts], np.int64) + ID_BYTES
    pixels = np.zeros(table.num_rows, np.int64)
    for name in names:
        if pa.types.is_binary(table.schema.field(name).type):
            pixels += [0 if value is None else images.stated_pixels(value) for value in table[name].to_pylist()]
    around = len(ReplayChunk(list(names), [], [], table).body)
    return sizes.spans(
        (np.ones(table.num_rows, np.int64), min(ROWS_PER_REQUEST, limits.rows)),
        (lengths, limits.body_bytes - around),
        (pixels, limits.pixels),
    )


def _id(text: str, seen: Counter[str]) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    seen[digest] += 1
    return f"{digest}-{seen[digest]}"


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    """Convert values to those of JSON: times to ISO text in UTC, dates to ISO text, bytes to base64, NaN to null."""
    if pa.types.is_binary(column.type):
        return [None if value is None else base64.b64encode(value).decode() for value in column.to_pylist()]
    if pa.types.is_decimal(column.type):
        return [None if value is None else float(value) for value in column.to_pylist()]
    if pa.types.is_date(column.type):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ").to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.to_pylist()  # type: ignore[no-any-return]
