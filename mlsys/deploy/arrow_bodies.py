"""Read the body of a request that is a table in Arrow's IPC stream format.

A client that has columns sends them as they are, ``Content-Type: application/vnd.apache.arrow.stream``: nothing is
written as text and read again. The rules for values are those of every table (`mlsys.predict.validation`); a column
``prediction_id`` names the rows where the model has no column of that name. The answer is JSON, with probabilities.

Nobody's bytes are trusted: offsets are checked before a value is read, a packed stream is refused (the body itself may
be packed by ``Content-Encoding``), and columns that would grow when they are read, such as dictionaries of long texts,
are measured first. Source: Apache Arrow, "Columnar format", *IPC streaming format* and *Security considerations*.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.deploy.requests import Bounds, Request, check_ids
from mlsys.deploy.tensors import ID
from mlsys.predict.validation import Faults, cut, refuse

EXPECTED = "numbers, flags, texts, bytes, times, dates, lists of numbers, or a dictionary of texts"

_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
"""Kinds of the header of a message (``Message.fbs``)."""


def parse(body: bytes, bounds: Bounds, most_bytes: int, own: Sequence[str] = (), *, as_lists: bool = False) -> Request:
    """Read a table.

    Parameters
    ----------
    most_bytes
        Bytes that the columns may take.
    own
        Names of the model's columns.
    as_lists
        Give lists of Python values instead of Arrow's arrays.

    Raises
    ------
    PayloadError
        The body is no such stream, or has too many rows, columns or bytes.
    RequestError
        A name stands twice, a column is of a type that no model has, or an id is none.
    """
    try:
        table = _table(body, bounds, most_bytes)
    except (pa.ArrowException, OSError, ValueError, struct.error, IndexError) as error:
        if isinstance(error, errors.MlsysError):
            raise
        raise errors.PayloadError.not_arrow(cut(" ".join(str(error).split()), 200)) from None
    columns: dict[str, Any] = dict(zip(table.column_names, table.columns, strict=True))
    ids = None if ID in own else columns.pop(ID, None)
    if as_lists:
        columns = {name: column.to_pylist() for name, column in columns.items()}
    return Request(columns=columns, ids=None if ids is None else _checked_ids(ids.to_pylist()), num_bytes=len(body))


def _table(body: bytes, bounds: Bounds, most_bytes: int) -> pa.Table:
    # 1. Nothing that is packed: how much it would become is known only when it is there
    for message in pa.ipc.MessageReader.open_stream(body):
        if _is_packed(memoryview(message.metadata)):
            raise ValueError("a packed record batch; pack the body by Content-Encoding instead")
    # 2. Rows and columns within bounds, and offsets that lie inside the body
    reader = pa.ipc.open_stream(body)
    _check_schema(reader.schema)
    bounds.check(columns=len(reader.schema.names))
    batches, rows = [], 0
    for batch in reader:
        rows += batch.num_rows
        bounds.check(rows=rows)
        batch.validate(full=True)
        batches.append(batch)
    table = pa.Table.from_batches(batches, reader.schema)
    # 3. Columns of values, no larger together than a body may be
    coded = [column for column in table.columns if pa.types.is_dictionary(column.type)]
    if table.get_total_buffer_size() + sum(map(_decoded_bytes, coded)) > most_bytes:
        raise errors.PayloadError.too_large(most_bytes)
    if not coded:
        return table
    return pa.table({name: _decoded(column) for name, column in zip(table.column_names, table.columns, strict=True)})


def _check_schema(schema: pa.Schema) -> None:
    faults = Faults()
    for name, count in sorted(Counter(schema.names).items()):
        if count > 1:
            faults.add("all", name, f"{count} columns of this name", "one")
    for field in schema:
        if not _is_known(field.type):
            faults.add("all", field.name, cut(str(field.type)), EXPECTED)
    refuse(faults)


def _is_known(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    if types.is_list(kind):
        return bool(types.is_integer(kind.value_type) or types.is_floating(kind.value_type))
    is_number = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    is_time = types.is_timestamp(kind) or types.is_date(kind)
    return bool(is_number or is_time or types.is_null(kind) or _is_text(kind))


def _is_text(kind: pa.DataType) -> bool:
    return kind in {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}


def _decoded_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of the texts of a column with a dictionary, each as often as it is used."""
    lengths = (pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() for chunk in column.chunks)
    return sum(length or 0 for length in lengths)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _checked_ids(ids: list[Any]) -> list[Any]:
    faults = Faults()
    check_ids(ids, ID, faults)
    refuse(faults)
    return ids


def _is_packed(metadata: memoryview) -> bool:
    """Tell whether the buffers of a message are compressed, by its header, a table of FlatBuffers.

    Field 1 of a message is the kind of its header and field 2 the header; field 1 of a dictionary batch is a record
    batch, of which field 3, if it is there, says how the buffers are compressed.
    """
    message = _follow(metadata, 0)
    kind, header = _field(metadata, message, 1), _field(metadata, message, 2)
    if kind is None or header is None or metadata[kind] not in {_RECORD_BATCH, _DICTIONARY_BATCH}:
        return False
    batch = _follow(metadata, header)
    if metadata[kind] == _DICTIONARY_BATCH:
        data = _field(metadata, batch, 1)
        if data is None:
            return False
        batch = _follow(metadata, data)
    return _field(metadata, batch, 3) is not None


def _follow(data: memoryview, place: int) -> int:
    """The place of the table to which the offset at a place points."""
    return int(place + struct.unpack_from("<I", data, place)[0])


def _field(data: memoryview, table: int, number: int) -> int | None:
    """The place of a field of a table, or None if it has its default."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    slot = 4 + 2 * number
    if layout < 0 or slot + 2 > struct.unpack_from("<H", data, layout)[0]:
        return None
    offset = struct.unpack_from("<H", data, layout + slot)[0]
    return table + offset if offset else None
