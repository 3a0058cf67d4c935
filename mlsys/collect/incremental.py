"""``data.incremental``: a source that only grows, of which each collection takes the rows beyond the last.

The rows taken are stored as they were written, an *increment* a source piece and collection,
content-addressed in the store; a snapshot is made of all increments in order, so types are
decided over all of them and a row is never taken from the source again. The high-water mark
is the largest value of the cursor column so far. Rows beyond it are new. So are rows at it, or
below it by no more than ``lookback``, that are not in the increments (compared by content,
each as often as it comes): what is written within one tick of the cursor may come in two
parts, and what is written by several hands may come late. Rows that came late are counted and
told. Below the lookback none is taken: choose as cursor what grows with each write.

Of a file whose last line has no end yet, that line is left for the next collection, and told; a
whole JSON object needs no end.

A row whose cursor is missing or cannot be read is set aside once. A file that cannot be read
stops the collection; its rows are taken when it is mended.

The mark moves only when the snapshot is stored (`history.save` writes both at once), so a
killed collection is taken again from the old mark, and gives the same.

The cursor of an incremental source: its values as numbers, the mark, and which rows are new.

New are rows beyond the mark, the largest value of the collections before; and those at it or
below it by no more than the lookback that were not taken.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import feather

from mlsys import errors
from mlsys.collect.collected_rows import Seen, contents
from mlsys.readers import conversion, increments, registry
from mlsys.readers.base import BadRecord, Batch, CursorBound, Fragment, Growth, TypeCounts
from mlsys.recipe import Data, Incremental, Reading
from mlsys.recipe.durations import span_us
from mlsys.schema import ROW
from mlsys.store import Store, digest_json

__all__ = ["KINDS", "Advance", "Cursor", "IncrementState", "advance"]

KINDS: dict[str, pa.DataType] = {"int64": pa.int64(), "double": pa.float64(), "timestamp": conversion.TIME}
"""What a cursor may be, in the order in which texts are tried."""


class Cursor:
    """Where the collections before ended, and where this one gets to.

    Attributes
    ----------
    kind, mark
        One of `KINDS`, and the largest value so far (microseconds for times); None before the first row.
    before
        The mark of the collections before.
    floor
        The least value of a row that may be new; None at the first collection.
    seen
        Rows from the floor to the mark that were taken before.
    """

    def __init__(self, asked: Incremental, zone: str, kind: str | None, mark: float | None) -> None:
        self.name, self.kind, self.mark, self.before = asked.cursor, kind, mark, mark
        self.floor = None if mark is None else mark - _reach(asked, str(kind))
        self.seen = Seen()
        self._asked, self._zone = asked, zone
        self._num_late, self._most_late = 0, 0.0

    def values(self, written: pa.Array) -> pa.Array:
        """The cursor as integers or decimals; null where it cannot be read."""
        if written.null_count == len(written):
            return pa.nulls(len(written), pa.int64())
        if self.kind is None:
            self.kind = _kind(written, self.name, self._zone)
            _reach(self._asked, self.kind)
        kind = KINDS[self.kind]
        values = _read(written, kind, self._zone)
        if pa.types.is_floating(kind):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        return values.cast(pa.int64()) if pa.types.is_timestamp(kind) else values

    def keep(self, table: pa.Table, values: pa.Array) -> NDArray[np.bool_]:
        """Which rows are new; the mark moves on with them."""
        keep = np.array(pc.is_valid(values))
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
        if self.before is not None:
            near = np.flatnonzero(keep & (numbers >= self.floor) & (numbers <= self.before))
            keep &= numbers > self.before
            fresh = near[self.seen.strike(table.take(pa.array(near)))]
            keep[fresh] = True
            late = self.before - numbers[fresh]
            self._num_late += int((late > 0).sum())
            self._most_late = max(self._most_late, *late.tolist(), 0.0)
        if keep.any():
            latest = numbers[keep].max().item()
            self.mark = latest if self.mark is None else max(self.mark, latest)
        return keep

    def told(self) -> str:
        """How many rows came late, and by how much; empty if none did."""
        if not self._num_late:
            return ""
        is_time = self.kind == "timestamp"
        behind = str(dt.timedelta(microseconds=self._most_late)) if is_time else f"{self._most_late:g}"
        rows = "1 late row" if self._num_late == 1 else f"{self._num_late:,} late rows"
        return f"{rows}: '{self.name}' up to {behind} below what was taken before"


def _reach(asked: Incremental, kind: str) -> float:
    """The lookback in the unit of the cursor.

    Raises
    ------
    RecipeError
        It is a span of time for a cursor of numbers, or a number for one of times.
    """
    lookback = asked.lookback
    if lookback is None:
        return 0
    is_time = kind == "timestamp"
    if isinstance(lookback, str) != is_time:
        raise errors.RecipeError.build(
            "recipe: 'data.incremental.lookback'",
            got=f"{lookback!r} for a cursor of {'times' if is_time else 'numbers'}",
            expected="a span such as 36h" if is_time else "a number",
            field="data.incremental.lookback",
        )
    if isinstance(lookback, str):
        return span_us(lookback)
    return lookback if kind == "double" else math.ceil(lookback)


def _kind(written: pa.Array, cursor: str, zone: str) -> str:
    """What all values of the first batch can be read as."""
    for name, kind in KINDS.items():
        if pa.types.is_temporal(written.type) and not pa.types.is_timestamp(kind):
            continue
        values = _read(written, kind, zone)
        if not conversion.misfits(written, values).true_count:
            return name
    raise errors.RecipeError.build(
        f"recipe: 'data.incremental.cursor': column '{cursor}'",
        got=str(written.drop_null()[0]),
        expected="numbers or times, which grow with each write",
        field="data.incremental.cursor",
    )


def _read(written: pa.Array, kind: pa.DataType, zone: str) -> pa.Array:
    if pa.types.is_string(written.type):
        return conversion.read_text(written, kind, zone)
    return conversion.to_stored(pa.chunked_array([written]), kind, zone)


@dataclass
class IncrementState:
    """What was taken so far.

    Attributes
    ----------
    key
        Digest of the source and how it is read; another one begins anew.
    kind, mark
        Of the cursor, see `mlsys.collect.incremental`.
    aside
        Digests of records that were set aside.
    increments
        Digest and name of each, in order.
    """

    key: str
    kind: str | None = None
    mark: float | None = None
    aside: list[str] = field(default_factory=list)
    increments: list[list[str]] = field(default_factory=list)

    @classmethod
    def of(cls, noted: Any) -> Self:
        """Of its JSON, which may hold what no longer counts."""
        return cls(**{one.name: noted[one.name] for one in fields(cls) if one.name in noted})


@dataclass(frozen=True)
class Advance:
    """What a collection took.

    Attributes
    ----------
    state
        To be noted once the snapshot is stored.
    pieces
        All increments.
    num_new
        Rows, sound and broken, that are new.
    told
        How many of them came late, and which files end within a line, in words.
    """

    state: IncrementState
    pieces: list[Fragment]
    num_new: int
    told: list[str]


def advance(store: Store, data: Data, pieces: Sequence[Fragment], noted: Any) -> Advance:
    """Take what is new into the store, by ``data.incremental``."""
    asked = data.incremental
    if asked is None:
        raise TypeError(data)
    key = digest_json([data.source, data.reading.model_dump(mode="json"), data.timezone, asked.cursor])
    state = IncrementState.of(noted) if noted and noted["key"] == key else IncrementState(key)
    cursor = Cursor(asked, data.timezone, state.kind, state.mark)
    if cursor.floor is not None:
        folders = [store.path("increment", digest) for digest, _ in state.increments]
        cursor.seen = Seen.of(folders, cursor.name, cursor.floor, cursor.values)
    aside, num_new, told = set(state.aside), 0, list[str]()
    for piece in pieces:
        new = _New(piece, data.reading, cursor, aside)
        changed = piece.changed()
        with store.staging() as folder:
            facts = new.write(folder)
            piece.check_unchanged(changed)  # half a line would be kept for good
            if facts["num_rows"]:
                name = f"{piece.name} ({len(state.increments) + 1})" if state.increments else piece.name
                state.increments.append([store.commit("increment", folder, facts), name])
                num_new += facts["num_rows"]
        state.aside += new.aside
        if new.unfinished:
            told.append(f"'{piece.name}' ends within a line, which is left for the next collection")
    state.kind, state.mark = cursor.kind, cursor.mark
    taken = [_piece(store, *one) for one in state.increments]
    return Advance(state, taken, num_new, [*filter(None, [cursor.told()]), *told])


class _New:
    """The rows of one piece that are new.

    Attributes
    ----------
    aside
        Digests of the records that were set aside, and were not before.
    latest
        The largest cursor of the rows.
    unfinished
        The last line, if its end is not written yet.
    """

    def __init__(self, piece: Fragment, reading: Reading, cursor: Cursor, before: Container[str]) -> None:
        self.piece, self.reading, self.cursor, self.before = piece, reading, cursor, before
        self.broken: list[BadRecord] = []
        self.aside: list[str] = []
        self.latest: float | None = None
        self.unfinished: list[str] = []

    def write(self, folder: Path) -> dict[str, Any]:
        """Store the rows of each batch, and return what is known of them."""
        is_typed = registry.schema(self.piece) is not None
        num_rows, types = 0, list[dict[str, Any]]()
        for batch in self._batches():
            if batch.table.num_rows:
                table = batch.table.append_column(ROW, pa.array(batch.rows))
                feather.write_feather(table, str(folder / f"{len(types):05d}.arrow"), compression="zstd")
                types.append({name: vars(found) for name, found in batch.json.items()})
                num_rows += table.num_rows
        fresh = [record for record in self.broken if self._digest(record) not in self.before]
        self.aside = [self._digest(record) for record in fresh]
        records = [[record.row, record.reason, record.content] for record in sorted(fresh, key=lambda one: one.row)]
        return {
            "typed": is_typed,
            "num_rows": num_rows + len(records),
            "latest": self.latest,
            "broken": records,
            "json": types,
        } | self._numbers()

    def _numbers(self) -> dict[str, Any]:
        """The marks of the numbers in the texts, if they are not the usual ones."""
        numbers = registry.numbers(self.piece, self.reading)
        return {} if numbers == conversion.PLAIN else {"numbers": [numbers.decimal, numbers.thousands]}

    def _batches(self) -> Iterator[Batch]:
        cursor, after = self.cursor, None
        if cursor.floor is not None:
            after = CursorBound(cursor.name, str(cursor.kind), cursor.floor)
        for batch in registry.batches(self.piece, self.reading, self.broken, Growth(after, self.unfinished)):
            if cursor.name not in batch.table.column_names:
                raise errors.RecipeError.unknown_column(
                    "recipe: 'data.incremental.cursor'", cursor.name, batch.table.column_names
                )
            yield self._of(batch)

    def _of(self, batch: Batch) -> Batch:
        """The rows of a batch that are new."""
        written = batch.table[self.cursor.name].combine_chunks()
        values = self.cursor.values(written)
        if self.piece.format == "sql" and self.cursor.kind != "timestamp" and batch.json[self.cursor.name].quoted:
            raise _of_text(self.cursor.name)
        unread = pc.indices_nonzero(pc.is_null(values))
        for at, content in zip(unread.to_pylist(), contents(batch.table.take(unread)), strict=True):
            fault = f"not {self.cursor.kind}" if written[at].is_valid else "no value"
            self.broken.append(BadRecord(int(batch.rows[at]), f"cursor '{self.cursor.name}': {fault}", content))
        keep = self.cursor.keep(batch.table, values)
        if keep.any():
            latest = pc.max(values.filter(pa.array(keep))).as_py()
            self.latest = latest if self.latest is None else max(self.latest, latest)
        kept = batch.table.filter(pa.array(keep))
        json_types = {name: _of_fewer(found, batch.table[name], kept[name]) for name, found in batch.json.items()}
        return Batch(kept, batch.rows[keep], json_types)

    def _digest(self, record: BadRecord) -> str:
        return digest_json([self.piece.name, record.row, record.reason, record.content])


def _of_text(cursor: str) -> errors.RecipeError:
    """As text, 10 comes before 9: a database asked for what lies beyond 9 would leave it out."""
    return errors.RecipeError.build(
        f"recipe: 'data.incremental.cursor': column '{cursor}'",
        got="numbers that the database holds as text",
        expected="numbers or times, which the database orders as such",
        hint=f"CAST({cursor} AS BIGINT) AS {cursor} in data.reading.query",
        field="data.incremental.cursor",
    )


def _of_fewer(found: TypeCounts, all_: pa.ChunkedArray, kept: pa.ChunkedArray) -> TypeCounts:
    """JSON types of some of the rows: all, none, or a mixture as before."""
    before, now = int(len(all_) - all_.null_count), int(len(kept) - kept.null_count)

    def count(value: int) -> int:
        return now if value == before else min(value, max(now - 1, 0))

    return TypeCounts(quoted=count(found.quoted), lists=count(found.lists), objects=count(found.objects))


def _piece(store: Store, digest: str, name: str) -> Fragment:
    folder = store.path("increment", digest)
    num_bytes = sum(file.stat().st_size for file in increments.batch_files(folder))
    return Fragment(name, str(folder), "increment", num_bytes, identity=digest)
