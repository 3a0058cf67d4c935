"""Ids of the rows of a request: those that the client sent, and new ones for the others.

A new id begins with the time at which it was drawn, in milliseconds (UUID version 7 of RFC 9562): whoever looks for
its row in the prediction log knows the day, and ids that follow each other lie in one row group of a file. Its other 74
bits are random.
"""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys.deploy.requests import Request, check_ids
from mlsys.predict.validation import Faults, refuse
from mlsys.reports import formats

_VARIANTS = "89ab"
"""First digits of the fourth group: the variant of RFC 9562 and two random bits."""

_FEW = 32
"""Ids up to which they are put together one by one; of more, all digits are put in their places at once."""

_DIGIT_PLACES = [place for place in range(36) if place not in (8, 13, 18, 23)]
"""Places of the digits in the text of a UUID, between hyphens."""


def new_ids(count: int) -> list[str]:
    """Draw UUIDs of the present time (RFC 9562, version 7), with one call of the system for all.

    >>> [len(name) for name in new_ids(2)]
    [36, 36]
    """
    milliseconds = time.time_ns() // 1_000_000
    if count < _FEW:
        at, drawn = f"{milliseconds:012x}", os.urandom(10 * count).hex()
        digits = (drawn[start : start + 20] for start in range(0, 20 * count, 20))
        head = f"{at[:8]}-{at[8:]}-7"
        return [f"{head}{d[:3]}-{_VARIANTS[int(d[3], 16) & 3]}{d[4:7]}-{d[7:19]}" for d in digits]
    drawn_bytes = np.frombuffer(bytearray(os.urandom(16 * count)), np.uint8).reshape(count, 16)
    drawn_bytes[:, :6] = np.frombuffer(milliseconds.to_bytes(6, "big"), np.uint8)
    drawn_bytes[:, 6] = drawn_bytes[:, 6] & 0x0F | 0x70  # the version, in the four highest bits
    drawn_bytes[:, 8] = drawn_bytes[:, 8] & 0x3F | 0x80  # the variant, in the two highest
    letters = np.full((count, 36), ord("-"), np.uint8)
    letters[:, _DIGIT_PLACES] = np.frombuffer(drawn_bytes.tobytes().hex().encode(), np.uint8).reshape(count, 32)
    text = letters.tobytes().decode("ascii")
    return [text[start : start + 36] for start in range(0, 36 * count, 36)]


def time_of(row_id: str) -> dt.datetime | None:
    """The time that an id holds, in UTC; None where it holds none. The first is the example of RFC 9562, A.6.

    >>> time_of("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    datetime.datetime(2022, 2, 22, 19, 22, 22, tzinfo=datetime.timezone.utc)
    >>> time_of("order-7")
    """
    try:
        parsed = uuid.UUID(row_id)
    except ValueError:
        return None
    if parsed.version != 7:
        return None
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=parsed.int >> 80)


def of_rows(
    id_column: str | None, request: Request, rows: pa.Table | Sequence[Mapping[str, Any]], count: int
) -> list[str]:
    """Name each of `count` rows: by the ids beside them, by their id column, or anew.

    Raises
    ------
    RequestError
        There are more or fewer ids than rows, or one is no text that a log can hold.
    """
    if request.ids is not None:
        faults = Faults()
        if len(request.ids) != count:
            faults.add("all", "prediction_ids", formats.count(len(request.ids), "id"), f"{count}, one for each row")
        refuse(faults)
        return _completed(request.ids)
    if id_column is None:
        return new_ids(count)
    if isinstance(rows, pa.Table):
        sent = rows[id_column].to_pylist() if id_column in rows.column_names else [None] * count
    else:
        sent = [row.get(id_column) for row in rows]
    ids = _completed([None if value is None else str(value) for value in sent])
    faults = Faults()
    check_ids(ids, id_column, faults)
    refuse(faults)
    return ids


def _completed(ids: Sequence[str | None]) -> list[str]:
    """The ids with new ones in place of those that are missing or empty."""
    present = [name for name in ids if name]
    if len(present) == len(ids):
        return present
    absent = iter(new_ids(len(ids) - len(present)))
    return [name or next(absent) for name in ids]
