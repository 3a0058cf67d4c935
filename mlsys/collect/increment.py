"""``data.incremental``: a source that only grows, of which each collection takes the rows beyond the last.

The rows taken are stored as they were written, an *increment* a source piece and collection,
content-addressed in the store; a snapshot is made of all increments in order, so types are
decided over all of them and a row is never taken from the source again. The high-water mark
is the largest value of the cursor column so far. Rows beyond it are new; so are rows *at* it
that were not there before (compared by content, each as often as it comes), for what is
written within one tick of the cursor may come in two parts.

A row whose cursor is missing or cannot be read is set aside once. A row that arrives late,
with a cursor below the mark, is not taken: choose as cursor what grows with each write. A
file that cannot be read stops the collection; its rows are taken when it is mended.

The mark moves only when the snapshot is stored (`history.save` writes both at once), so a
killed collection is taken again from the old mark, and gives the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import feather

from mlsys import errors
from mlsys.collect import convert, read, records, sources, stored
from mlsys.collect.batch import Batch, Broken
from mlsys.collect.inference import Evidence
from mlsys.collect.sources import Piece
from mlsys.recipe import Data
from mlsys.schema import ROW
from mlsys.store import Store, digest_json

__all__ = ["KINDS", "State", "advance"]

KINDS: dict[str, pa.DataType] = {"int64": pa.int64(), "double": pa.float64(), "timestamp": convert.TIME}
"""What a cursor may be, in the order in which texts are tried."""


@dataclass
class State:
    """What was taken so far.

    Attributes
    ----------
    key
        Digest of the source and how it is read; another one begins anew.
    kind, mark
        Of the cursor: one of `KINDS`, and its largest value (microseconds for times).
    at_mark
        Digest of each row at the mark → how often it was taken.
    aside
        Digests of records that were set aside.
    increments
        Digest and name of each, in order.
    """

    key: str
    kind: str | None = None
    mark: float | None = None
    at_mark: dict[str, int] = field(default_factory=dict)
    aside: list[str] = field(default_factory=list)
    increments: list[list[str]] = field(default_factory=list)


def advance(store: Store, data: Data, pieces: Sequence[Piece], noted: Any) -> tuple[State, list[Piece], int]:
    """Take what is new into the store.

    Returns
    -------
    State
        To be noted once the snapshot is stored.
    list of Piece
        All increments.
    int
        How many rows, sound and broken, are new.
    """
    cursor = data.incremental.cursor if data.incremental else ""
    key = digest_json([data.source, data.reading.model_dump(mode="json"), data.timezone, cursor])
    before = State(**noted) if noted and noted["key"] == key else State(key)
    state = replace(before, at_mark=dict(before.at_mark), aside=list(before.aside), increments=list(before.increments))
    marks = Counter(before.at_mark)
    num_new = 0
    for piece in pieces:
        taken = _Taken(piece, data, cursor, before, state, marks)
        changed = sources.changed(piece)
        with store.staging() as folder:
            facts = taken.write(folder)
            sources.check_unchanged(piece, changed)  # half a line would be kept for good
            if facts["num_rows"]:
                name = f"{piece.name} ({len(state.increments) + 1})" if state.increments else piece.name
                state.increments.append([store.commit("increment", folder, facts), name])
                num_new += facts["num_rows"]
    return state, [_piece(store, *one) for one in state.increments], num_new


class _Taken:
    """The rows of one piece that are new; `state` moves on with them."""

    def __init__(self, piece: Piece, data: Data, cursor: str, before: State, state: State, marks: Counter[str]) -> None:
        self.piece, self.data, self.cursor = piece, data, cursor
        self.before, self.state, self.marks = before, state, marks
        self.broken: list[Broken] = []

    def write(self, folder: Path) -> dict[str, Any]:
        """Store the new rows of each batch, and return what is known of them."""
        is_typed = read.typed_shape(self.piece) is not None
        numbers, types = 0, []
        broken: list[Broken] = []
        for batch in self._batches(broken):
            if batch.table.num_rows:
                table = batch.table.append_column(ROW, pa.array(batch.rows))
                feather.write_feather(table, str(folder / f"{numbers:05d}.arrow"), compression="zstd")
                types.append({name: vars(found) for name, found in batch.json.items()})
                numbers += 1
        aside = set(self.before.aside)
        fresh = [record for record in [*broken, *self.broken] if self._digest(record) not in aside]
        self.state.aside += [self._digest(record) for record in fresh]
        rows = sum(feather.read_table(str(file), columns=[ROW]).num_rows for file in stored.files(folder))
        records = [[record.row, record.reason, record.content] for record in sorted(fresh, key=lambda one: one.row)]
        return {"typed": is_typed, "num_rows": rows + len(records), "broken": records, "json": types}

    def _batches(self, broken: list[Broken]) -> Iterator[Batch]:
        after = None
        if self.before.mark is not None:
            after = records.After(self.cursor, str(self.before.kind), self.before.mark)
        for batch in read.batches(self.piece, self.data.reading, broken, after):
            if self.cursor not in batch.table.column_names:
                raise errors.RecipeError.unknown_column(
                    "recipe: 'data.incremental.cursor'", self.cursor, batch.table.column_names
                )
            yield self._beyond(batch)

    def _beyond(self, batch: Batch) -> Batch:
        """The rows of a batch beyond the mark, or at it and not seen."""
        written = batch.table[self.cursor].combine_chunks()
        values = self._values(written)
        for at in pc.indices_nonzero(pc.is_null(values)).to_pylist():
            fault = f"not {self.state.kind}" if written[at].is_valid else "no value"
            self.broken.append(
                Broken(int(batch.rows[at]), f"cursor '{self.cursor}': {fault}", _content(batch.table, at))
            )
        mark = self.before.mark
        keep = np.array(pc.is_valid(values))
        if mark is not None:
            keep = np.array(pc.greater(values, pa.scalar(mark, values.type)).fill_null(False))
            for at in np.flatnonzero(pc.equal(values, pa.scalar(mark, values.type)).fill_null(False)).tolist():
                keep[at] = self._is_unseen(_content(batch.table, at))
        self._move_mark(batch.table, values, keep)
        kept = batch.table.filter(pa.array(keep))
        json_types = {name: _of_fewer(found, batch.table[name], kept[name]) for name, found in batch.json.items()}
        return Batch(kept, batch.rows[keep], json_types)

    def _values(self, written: pa.Array) -> pa.Array:
        """The cursor as integers or decimals; null where it cannot be read."""
        if written.null_count == len(written):
            return pa.nulls(len(written), pa.int64())
        if self.state.kind is None:
            self.state.kind = _kind(written, self.cursor, self.piece, self.data.timezone)
        kind = KINDS[self.state.kind]
        values = _read(written, kind, self.data.timezone)
        if pa.types.is_floating(kind):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        return values.cast(pa.int64()) if pa.types.is_timestamp(kind) else values

    def _is_unseen(self, content: str) -> bool:
        digest = digest_json(content)
        if self.marks[digest]:
            self.marks[digest] -= 1
            return False
        return True

    def _move_mark(self, table: pa.Table, values: pa.Array, keep: NDArray[np.bool_]) -> None:
        taken = values.filter(pa.array(keep))
        if not len(taken):
            return
        highest = pc.max(taken).as_py()
        if self.state.mark is None or highest > self.state.mark:
            self.state.mark, self.state.at_mark = highest, {}
        at_mark = Counter(self.state.at_mark)
        is_at = pc.and_(pc.equal(values, pa.scalar(self.state.mark, values.type)).fill_null(False), pa.array(keep))
        at_mark.update(digest_json(_content(table, at)) for at in pc.indices_nonzero(is_at).to_pylist())
        self.state.at_mark = dict(at_mark)

    def _digest(self, record: Broken) -> str:
        return digest_json([self.piece.name, record.row, record.reason, record.content])


def _kind(written: pa.Array, cursor: str, piece: Piece, zone: str) -> str:
    """What all values of the first batch can be read as."""
    for name, kind in KINDS.items():
        if pa.types.is_temporal(written.type) and not pa.types.is_timestamp(kind):
            continue
        values = _read(written, kind, zone)
        if not convert.misfits(written, values).true_count:
            return name
    raise errors.RecipeError.build(
        f"recipe: 'data.incremental.cursor': column '{cursor}'",
        got=f"{written.drop_null()[0]} in '{piece.name}'",
        expected="numbers or times, which grow with each write",
        field="data.incremental.cursor",
    )


def _read(written: pa.Array, kind: pa.DataType, zone: str) -> pa.Array:
    if pa.types.is_string(written.type):
        return convert.read_text(written, kind, zone)
    return convert.stored(pa.chunked_array([written]), kind, zone)


def _of_fewer(found: Evidence, all_: pa.ChunkedArray, kept: pa.ChunkedArray) -> Evidence:
    """JSON types of some of the rows: all, none, or a mixture as before."""
    before, now = int(len(all_) - all_.null_count), int(len(kept) - kept.null_count)

    def count(value: int) -> int:
        return now if value == before else min(value, max(now - 1, 0))

    return Evidence(quoted=count(found.quoted), lists=count(found.lists), objects=count(found.objects))


def _content(table: pa.Table, at: int) -> str:
    """A row as text; values that are missing do not count, for JSON lines have the keys of their batch."""
    row = {name: value for name, value in table.slice(at, 1).to_pylist()[0].items() if value is not None}
    return json.dumps(row, ensure_ascii=False, sort_keys=True, default=str)


def _piece(store: Store, digest: str, name: str) -> Piece:
    folder = store.path("increment", digest)
    num_bytes = sum(file.stat().st_size for file in stored.files(folder))
    return Piece(name, str(folder), "increment", num_bytes, identity=digest)
