"""``data.incremental``: a source that only grows, of which each collection takes the rows beyond the last.

The rows taken are stored as they were written, an *increment* a source piece and collection,
content-addressed in the store; a snapshot is made of all increments in order, so types are
decided over all of them and a row is never taken from the source again. The high-water mark
is the largest value of the cursor column so far. Rows beyond it are new. So are rows at it, or
below it by no more than ``lookback``, that are not in the increments (compared by content,
each as often as it comes): what is written within one tick of the cursor may come in two
parts, and what is written by several hands may come late. Rows that came late are counted and
told. Below the lookback none is taken: choose as cursor what grows with each write.

A row whose cursor is missing or cannot be read is set aside once. A file that cannot be read
stops the collection; its rows are taken when it is mended.

The mark moves only when the snapshot is stored (`history.save` writes both at once), so a
killed collection is taken again from the old mark, and gives the same.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import feather

from mlsys import errors
from mlsys.collect import convert, read, records, sources, spans, stored, taken
from mlsys.collect.batch import Batch, Broken
from mlsys.collect.inference import Evidence
from mlsys.collect.sources import Piece
from mlsys.recipe import Data
from mlsys.schema import ROW
from mlsys.store import Store, digest_json

__all__ = ["KINDS", "Advance", "State", "advance"]

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
    late
        Those of them below the mark, in words; empty if there are none.
    """

    state: State
    pieces: list[Piece]
    num_new: int
    late: str


def advance(store: Store, data: Data, pieces: Sequence[Piece], noted: Any) -> Advance:
    """Take what is new into the store."""
    cursor = data.incremental.cursor if data.incremental else ""
    key = digest_json([data.source, data.reading.model_dump(mode="json"), data.timezone, cursor])
    before = State.of(noted) if noted and noted["key"] == key else State(key)
    state = replace(before, aside=list(before.aside), increments=list(before.increments))
    rule = _Rule(data, cursor, before, state)
    if rule.floor is not None:
        folders = [store.path("increment", digest) for digest, _ in before.increments]
        rule.seen = taken.of_increments(folders, cursor, rule.floor, rule.values)
    num_new = 0
    for piece in pieces:
        reading = _Reading(piece, rule)
        changed = sources.changed(piece)
        with store.staging() as folder:
            facts = reading.write(folder)
            sources.check_unchanged(piece, changed)  # half a line would be kept for good
            if facts["num_rows"]:
                name = f"{piece.name} ({len(state.increments) + 1})" if state.increments else piece.name
                state.increments.append([store.commit("increment", folder, facts), name])
                num_new += facts["num_rows"]
    return Advance(state, [_piece(store, *one) for one in state.increments], num_new, rule.told())


class _Rule:
    """Which rows are new; `state` moves on with them.

    Attributes
    ----------
    floor
        The least cursor of a row that may be new; None at the first collection.
    seen
        Rows from the floor to the mark that were taken before.
    """

    def __init__(self, data: Data, cursor: str, before: State, state: State) -> None:
        self.data, self.cursor, self.before, self.state = data, cursor, before, state
        self.floor = None if before.mark is None else before.mark - _reach(data, str(before.kind))
        self.seen: Counter[bytes] = Counter()
        self.num_late, self.most_late = 0, 0.0

    def values(self, written: pa.Array) -> pa.Array:
        """The cursor as integers or decimals; null where it cannot be read."""
        if written.null_count == len(written):
            return pa.nulls(len(written), pa.int64())
        if self.state.kind is None:
            self.state.kind = _kind(written, self.cursor, self.data.timezone)
            _reach(self.data, self.state.kind)
        kind = KINDS[self.state.kind]
        values = _read(written, kind, self.data.timezone)
        if pa.types.is_floating(kind):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        return values.cast(pa.int64()) if pa.types.is_timestamp(kind) else values

    def keep(self, table: pa.Table, values: pa.Array) -> NDArray[np.bool_]:
        """The rows that are beyond the mark, or not far below it and not seen."""
        keep = np.array(pc.is_valid(values))
        mark = self.before.mark
        if mark is None or self.floor is None:
            return keep
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
        near = np.flatnonzero(keep & (numbers >= self.floor) & (numbers <= mark))
        keep &= numbers > mark
        fresh = taken.unseen(table, near, self.seen)
        keep[fresh] = True
        late = mark - numbers[fresh]
        self.num_late += int((late > 0).sum())
        self.most_late = max(self.most_late, *late.tolist(), 0.0)
        return keep

    def told(self) -> str:
        """How many rows came late, and by how much."""
        if not self.num_late:
            return ""
        behind = (
            str(dt.timedelta(microseconds=self.most_late)) if self.state.kind == "timestamp" else f"{self.most_late:g}"
        )
        rows = "1 late row" if self.num_late == 1 else f"{self.num_late:,} late rows"
        return f"{rows}: '{self.cursor}' up to {behind} below what was taken before"


class _Reading:
    """One piece, of which the rows that are new are stored."""

    def __init__(self, piece: Piece, rule: _Rule) -> None:
        self.piece, self.rule, self.data, self.cursor = piece, rule, rule.data, rule.cursor
        self.broken: list[Broken] = []
        self.latest: float | None = None

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
        aside = set(self.rule.before.aside)
        fresh = [record for record in [*broken, *self.broken] if self._digest(record) not in aside]
        self.rule.state.aside += [self._digest(record) for record in fresh]
        rows = sum(feather.read_table(str(file), columns=[ROW]).num_rows for file in stored.files(folder))
        records = [[record.row, record.reason, record.content] for record in sorted(fresh, key=lambda one: one.row)]
        return {
            "typed": is_typed,
            "num_rows": rows + len(records),
            "latest": self.latest,
            "broken": records,
            "json": types,
        }

    def _batches(self, broken: list[Broken]) -> Iterator[Batch]:
        after, floor = None, self.rule.floor
        if floor is not None:
            after = records.After(self.cursor, str(self.rule.state.kind), floor)
        for batch in read.batches(self.piece, self.data.reading, broken, after):
            if self.cursor not in batch.table.column_names:
                raise errors.RecipeError.unknown_column(
                    "recipe: 'data.incremental.cursor'", self.cursor, batch.table.column_names
                )
            yield self._beyond(batch)

    def _beyond(self, batch: Batch) -> Batch:
        """The rows of a batch that are new."""
        written = batch.table[self.cursor].combine_chunks()
        values = self.rule.values(written)
        unread = pc.indices_nonzero(pc.is_null(values))
        for at, content in zip(unread.to_pylist(), taken.contents(batch.table.take(unread)), strict=True):
            fault = f"not {self.rule.state.kind}" if written[at].is_valid else "no value"
            self.broken.append(Broken(int(batch.rows[at]), f"cursor '{self.cursor}': {fault}", content))
        keep = self.rule.keep(batch.table, values)
        if keep.any():
            self._move(pc.max(values.filter(pa.array(keep))).as_py())
        kept = batch.table.filter(pa.array(keep))
        json_types = {name: _of_fewer(found, batch.table[name], kept[name]) for name, found in batch.json.items()}
        return Batch(kept, batch.rows[keep], json_types)

    def _move(self, latest: float) -> None:
        state = self.rule.state
        self.latest = latest if self.latest is None else max(self.latest, latest)
        state.mark = latest if state.mark is None else max(state.mark, latest)

    def _digest(self, record: Broken) -> str:
        return digest_json([self.piece.name, record.row, record.reason, record.content])


def _reach(data: Data, kind: str) -> float:
    """The lookback in the unit of the cursor.

    Raises
    ------
    RecipeError
        It is a span of time for a cursor of numbers, or a number for one of times.
    """
    lookback = data.incremental.lookback if data.incremental else None
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
        return spans.span_s(lookback) * 1_000_000
    return lookback if kind == "double" else math.ceil(lookback)


def _kind(written: pa.Array, cursor: str, zone: str) -> str:
    """What all values of the first batch can be read as."""
    for name, kind in KINDS.items():
        if pa.types.is_temporal(written.type) and not pa.types.is_timestamp(kind):
            continue
        values = _read(written, kind, zone)
        if not convert.misfits(written, values).true_count:
            return name
    raise errors.RecipeError.build(
        f"recipe: 'data.incremental.cursor': column '{cursor}'",
        got=str(written.drop_null()[0]),
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


def _piece(store: Store, digest: str, name: str) -> Piece:
    folder = store.path("increment", digest)
    num_bytes = sum(file.stat().st_size for file in stored.files(folder))
    return Piece(name, str(folder), "increment", num_bytes, identity=digest)
