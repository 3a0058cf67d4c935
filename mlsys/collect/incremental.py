"""Collect from a source that only grows (``data.incremental``): each collection takes the rows beyond the last.

The rows taken are stored as they were written, an *increment* a fragment and collection. A snapshot is made of all
increments in order, so types are decided over all of them and a row is never taken from the source again.

The high-water mark is the largest value of the cursor column so far. Rows beyond it are new. So are rows at it, or
below it by no more than ``lookback``, that are not in the increments (compared by content, each as often as it
comes): writes of one tick of the cursor may come in two parts, and those of several hands may come late.

The last line of a file is left for the next collection while it has no end; a whole JSON object needs none. A row
whose cursor cannot be read is quarantined once. A file that cannot be read stops the collection. The mark moves only
when the snapshot is stored, so a killed collection is taken again from the old mark, and gives the same.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import feather

from mlsys import errors
from mlsys.collect.duplicates import CollectedRows, contents
from mlsys.readers import conversion, increments, registry
from mlsys.readers.base import BadRecord, Batch, CursorBound, Fragment, Growth, TypeCounts, refuse_reserved
from mlsys.recipe import DataSection, Incremental, Reading
from mlsys.recipe.columns import span_us
from mlsys.schema import ROW
from mlsys.store import Store, digest_json

KINDS: dict[str, pa.DataType] = {"int64": pa.int64(), "double": pa.float64(), "timestamp": conversion.TIME}
"""Types that a cursor may have, in the order in which texts are tried."""


@dataclass
class IncrementState:
    """Everything that was taken so far: the digest and name of each increment, in order.

    `key` is the digest of the source and how it is read; another one begins anew. `kind` and `mark` are those of
    `Cursor`, `rejected` the digests of records that were quarantined.
    """

    key: str
    kind: str | None = None
    mark: float | None = None
    rejected: list[str] = field(default_factory=list)
    increments: list[list[str]] = field(default_factory=list)

    @classmethod
    def from_json(cls, noted: Any) -> Self:
        """Read what `to_json` made, or an older version with keys that no longer count."""
        return cls(noted["key"], noted["kind"], noted["mark"], noted.get("aside", []), noted["increments"])

    def to_json(self) -> dict[str, Any]:
        """The state as it is noted in the history."""
        return {"aside" if name == "rejected" else name: value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Advance:
    """The result of taking new rows: all increments, the number of rows, sound and broken, that are new, and messages.

    `state` is to be noted once the snapshot is stored.
    """

    state: IncrementState
    fragments: list[Fragment]
    num_new: int
    messages: list[str]


def advance(store: Store, data: DataSection, fragments: Sequence[Fragment], noted: Any) -> Advance:
    """Take what is new into the store, by ``data.incremental``; `noted` is the JSON of the last state."""
    asked = data.incremental
    if asked is None:
        raise TypeError(data)
    # 1. Go on from the last collection, unless the recipe reads something else now.
    key = digest_json([data.source, data.reading.model_dump(mode="json"), data.timezone, asked.cursor])
    state = IncrementState.from_json(noted) if noted and noted["key"] == key else IncrementState(key)
    cursor = Cursor(asked, data.timezone, state.kind, state.mark)
    if cursor.floor is not None:
        folders = [store.path("increment", digest) for digest, _ in state.increments]
        cursor.collected = CollectedRows.of(folders, cursor.name, cursor.floor, cursor.values)

    # 2. Store the new rows of each fragment as an increment.
    rejected, num_new, messages = set(state.rejected), 0, list[str]()
    for fragment in fragments:
        increment = _Increment(fragment, data.reading, cursor, rejected)
        changed = fragment.changed()
        with store.staging() as folder:
            facts = increment.write(folder)
            fragment.check_unchanged(changed)  # half a line would be kept for good
            if facts["num_rows"]:
                number = len(state.increments) + 1
                name = f"{fragment.name} ({number})" if state.increments else fragment.name
                state.increments.append([store.commit("increment", folder, facts), name])
                num_new += facts["num_rows"]
        state.rejected += increment.rejected
        if increment.unfinished:
            messages.append(f"'{fragment.name}' ends within a line, which is left for the next collection")

    # 3. Move the mark, and read all increments from now on.
    state.kind, state.mark = cursor.kind, cursor.mark
    increments = [_fragment(store, digest, name) for digest, name in state.increments]
    return Advance(state, increments, num_new, [*filter(None, [cursor.message()]), *messages])


class Cursor:
    """The column that grows: the mark of earlier collections, and the mark that this one gets to.

    `kind` is one of `KINDS`, `mark` the largest value so far (microseconds for times), both None before the first row.
    `before` is the mark of the collections before, and `floor` the least value of a row that may be new, None at the
    first collection. `collected` are the rows from the floor to the mark that were taken before.
    """

    def __init__(self, asked: Incremental, zone: str, kind: str | None, mark: float | None) -> None:
        self.name, self.kind, self.mark, self.before = asked.cursor, kind, mark, mark
        self.floor = None if mark is None else mark - _lookback(asked, str(kind))
        self.collected = CollectedRows()
        self._asked, self._zone = asked, zone
        self._num_late, self._most_late = 0, 0.0

    def values(self, written: pa.Array) -> pa.Array:
        """The cursor as integers or decimals; null where it cannot be read."""
        if written.null_count == len(written):
            return pa.nulls(len(written), pa.int64())
        if self.kind is None:
            self.kind = _kind(written, self.name, self._zone)
            _lookback(self._asked, self.kind)
        kind = KINDS[self.kind]
        values = conversion.to_stored(written, kind, self._zone)
        if pa.types.is_floating(kind):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        return values.cast(pa.int64()) if pa.types.is_timestamp(kind) else values

    def new_rows(self, table: pa.Table, values: pa.Array) -> NDArray[np.bool_]:
        """The mask of the rows that are new; the mark moves on with them."""
        is_new = np.array(pc.is_valid(values))
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
        if self.before is not None:
            near = np.flatnonzero(is_new & (numbers >= self.floor) & (numbers <= self.before))
            is_new &= numbers > self.before
            fresh = near[self.collected.subtract(table.take(pa.array(near)))]
            is_new[fresh] = True
            late = self.before - numbers[fresh]
            self._num_late += int((late > 0).sum())
            self._most_late = max(self._most_late, *late.tolist(), 0.0)
        if is_new.any():
            latest = numbers[is_new].max().item()
            self.mark = latest if self.mark is None else max(self.mark, latest)
        return is_new

    def message(self) -> str:
        """Say how many rows came late, and by how much; empty if none did."""
        if not self._num_late:
            return ""
        is_time = self.kind == "timestamp"
        behind = str(dt.timedelta(microseconds=self._most_late)) if is_time else f"{self._most_late:g}"
        rows = "1 late row" if self._num_late == 1 else f"{self._num_late:,} late rows"
        return f"{rows}: '{self.name}' up to {behind} below what was taken before"


def _lookback(asked: Incremental, kind: str) -> float:
    """The lookback in the unit of the cursor, which must fit the kind of the cursor."""
    lookback = asked.lookback
    if lookback is None:
        return 0
    is_time = kind == "timestamp"
    if isinstance(lookback, str) != is_time:
        where = "recipe: 'data.incremental.lookback'"
        got = f"{lookback!r} for a cursor of {'times' if is_time else 'numbers'}"
        raise errors.RecipeError.build(where, got=got, expected="a span such as 36h" if is_time else "a number")
    if isinstance(lookback, str):
        return span_us(lookback)
    return lookback if kind == "double" else math.ceil(lookback)


def _kind(written: pa.Array, cursor: str, zone: str) -> str:
    """The first type as which all values of the first batch can be read."""
    for name, kind in KINDS.items():
        if pa.types.is_temporal(written.type) and not pa.types.is_timestamp(kind):
            continue
        values = conversion.to_stored(written, kind, zone)
        if not conversion.misfits(written, values).true_count:
            return name
    where = f"recipe: 'data.incremental.cursor': column '{cursor}'"
    got = str(written.drop_null()[0])
    raise errors.RecipeError.build(where, got=got, expected="numbers or times, which grow with each write")


class _Increment:
    """The rows of one fragment that are new, with the largest cursor among them.

    `rejected` are digests of records that are quarantined for the first time, `unfinished` holds the last line, if its
    end is not written yet.
    """

    def __init__(self, fragment: Fragment, reading: Reading, cursor: Cursor, before: Container[str]) -> None:
        self.fragment, self.reading, self.cursor, self.before = fragment, reading, cursor, before
        self.bad_records: list[BadRecord] = []
        self.rejected: list[str] = []
        self.latest: float | None = None
        self.unfinished: list[str] = []

    def write(self, folder: Path) -> dict[str, Any]:
        """Store the new rows of each batch, and return the facts about them."""
        is_typed = registry.schema(self.fragment) is not None
        num_rows, types = 0, list[dict[str, Any]]()
        for batch in self._batches():
            if batch.table.num_rows:
                table = batch.table.append_column(ROW, pa.array(batch.rows))
                feather.write_feather(table, str(folder / f"{len(types):05d}.arrow"), compression="zstd")
                types.append({name: vars(counts) for name, counts in batch.json.items()})
                num_rows += table.num_rows
        fresh = [record for record in self.bad_records if self._digest(record) not in self.before]
        self.rejected = [self._digest(record) for record in fresh]
        in_order = sorted(fresh, key=lambda record: record.row)
        return {
            "typed": is_typed,
            "num_rows": num_rows + len(fresh),
            "latest": self.latest,
            "broken": [[record.row, record.reason, record.content] for record in in_order],
            "json": types,
        } | self._number_marks()

    def _number_marks(self) -> dict[str, Any]:
        numbers = registry.numbers(self.fragment, self.reading)
        return {} if numbers == conversion.PLAIN else {"numbers": [numbers.decimal, numbers.thousands]}

    def _batches(self) -> Iterator[Batch]:
        cursor, after = self.cursor, None
        if cursor.floor is not None:
            after = CursorBound(cursor.name, str(cursor.kind), cursor.floor)
        for batch in registry.batches(self.fragment, self.reading, self.bad_records, Growth(after, self.unfinished)):
            refuse_reserved(self.fragment, batch.table.column_names)
            if cursor.name not in batch.table.column_names:
                where, known = "recipe: 'data.incremental.cursor'", batch.table.column_names
                raise errors.RecipeError.unknown_column(where, cursor.name, known)
            yield self._new_rows(batch)

    def _new_rows(self, batch: Batch) -> Batch:
        """The rows of a batch that are new; those whose cursor cannot be read become bad records."""
        written = batch.table[self.cursor.name].combine_chunks()
        values = self.cursor.values(written)
        if self.fragment.format == "sql" and self.cursor.kind != "timestamp" and batch.json[self.cursor.name].quoted:
            raise _error_of_text(self.cursor.name)
        unread = pc.indices_nonzero(pc.is_null(values))
        for index, content in zip(unread.to_pylist(), contents(batch.table.take(unread)), strict=True):
            fault = f"not {self.cursor.kind}" if written[index].is_valid else "no value"
            reason = f"cursor '{self.cursor.name}': {fault}"
            self.bad_records.append(BadRecord(int(batch.rows[index]), reason, content))
        is_new = self.cursor.new_rows(batch.table, values)
        if is_new.any():
            latest = pc.max(values.filter(pa.array(is_new))).as_py()
            self.latest = latest if self.latest is None else max(self.latest, latest)
        rows = batch.table.filter(pa.array(is_new))
        json_types = {name: _of_fewer(counts, batch.table[name], rows[name]) for name, counts in batch.json.items()}
        return Batch(rows, batch.rows[is_new], json_types)

    def _digest(self, record: BadRecord) -> str:
        return digest_json([self.fragment.name, record.row, record.reason, record.content])


def _error_of_text(cursor: str) -> errors.RecipeError:
    """A cursor of text in a database: there 10 comes before 9, and rows beyond 9 would leave it out."""
    where = f"recipe: 'data.incremental.cursor': column '{cursor}'"
    expected = "numbers or times, which the database orders as such"
    hint = f"CAST({cursor} AS BIGINT) AS {cursor} in data.reading.query"
    return errors.RecipeError.build(where, got="numbers that the database holds as text", expected=expected, hint=hint)


def _of_fewer(counts: TypeCounts, values: pa.ChunkedArray, some: pa.ChunkedArray) -> TypeCounts:
    """JSON types of some of the values: all, none, or a mixture as before."""
    before, now = int(len(values) - values.null_count), int(len(some) - some.null_count)

    def count(value: int) -> int:
        return now if value == before else min(value, max(now - 1, 0))

    quoted, lists, objects = count(counts.quoted), count(counts.lists), count(counts.objects)
    return TypeCounts(quoted=quoted, lists=lists, objects=objects, is_json=counts.is_json)


def _fragment(store: Store, digest: str, name: str) -> Fragment:
    folder = store.path("increment", digest)
    num_bytes = sum(file.stat().st_size for file in increments.batch_files(folder))
    return Fragment(name, str(folder), "increment", num_bytes, identity=digest)
