"""Rows of the prediction log as they come in: typed, each with an identity and a reason if it cannot be judged.

A prediction is counted once, however often it was sent. Where it has an id of its own, from the client or the
endpoint, that is its identity. Where the client sent the id of an entity alone (``data.id``), the entity may be
scored again: then its own time and its score, or the hour of the answer and the score, belong to the identity.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.deploy import prediction_log
from mlsys.deploy.prediction_log import OWN, RowSpans, logged_name
from mlsys.readers.conversion import as_type, misfits
from mlsys.schema import Role, Schema, Task
from mlsys.statistics.arrays import UInt64
from mlsys.statistics.hashing import hash_array, mix

BATCH_ROWS, BATCH_BYTES = 100_000, 1 << 28
"""Small files are read together up to these limits: an update of statistics has a fixed cost, pictures are large."""

NEEDED = ("prediction_id", "logged_at", "bundle", "prediction", "score")
"""Columns without which a file is no log of an endpoint."""

ENTITY, IDENTITY, REASON = "__entity", "__identity", "__reason"
"""Columns that are added: the id of the row's entity as text, its identity, and why it is left out, if it is."""

EARLIEST, LATEST = dt.datetime(1900, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)
"""Range of times that windows are cut from."""

MAX_AHEAD = dt.timedelta(days=3_653)
"""The largest distance of a row's own time behind the answer: ten years, longer than flights are sold ahead."""

NO_TIME, UNREADABLE_TIME, FAR_TIME = (
    "neither event_at nor logged_at",
    "event_at is no time",
    "event_at is not between 1900 and ten years after the answer",
)
NO_SCORE, NO_PROBABILITIES = "no finite score", "not one probability for each class"
"""Reasons for which a row is left out."""


@dataclass
class LogRows:
    """Rows that one bundle answered and that were not read before, in batches.

    Attributes
    ----------
    seen
        Rows of the log that were read; grows.
    files_read
        Files of which all rows were read; changes with them.
    faults
        File that was passed over → the reason.
    others
        Rows that other bundles answered, by version.
    other_keys
        Hashes of the ids of these rows.
    misread
        Values of a column that are not of its type and count as null.
    other_types
        Columns that have another type in rows of another version → that type.
    """

    folder: Path
    schema: Schema
    task: Task
    bundle: str
    seen: RowSpans = field(default_factory=RowSpans)
    files_read: set[str] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    other_keys: list[UInt64] = field(default_factory=list)
    misread: Counter[str] = field(default_factory=Counter)
    other_types: dict[str, str] = field(default_factory=dict)

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read the log's own columns, the features, `ENTITY`, `IDENTITY` and `REASON`."""
        frames: list[pl.DataFrame] = []
        num_rows, size = 0, 0.0
        for table in prediction_log.read(self.folder, self.seen, self.faults, NEEDED, self.files_read):
            frame = self._own(table)
            if not frame.height:
                continue
            frames.append(frame)
            num_rows, size = num_rows + frame.height, size + frame.estimated_size()
            if num_rows >= BATCH_ROWS or size >= BATCH_BYTES:
                yield pl.concat(frames, how="vertical_relaxed")
                frames, num_rows, size = [], 0, 0.0
        if frames:
            yield pl.concat(frames, how="vertical_relaxed")

    def _own(self, table: pa.Table) -> pl.DataFrame:
        """Keep the rows of this bundle, typed; count the others."""
        is_own = pc.fill_null(pc.equal(table["bundle"].cast(pa.string()), self.bundle), False)
        own = table.filter(is_own)
        if own.num_rows < table.num_rows:
            self._count_others(table.filter(pc.invert(is_own)))
        return self._typed(own)

    def _count_others(self, table: pa.Table) -> None:
        column = "model_version" if "model_version" in table.column_names else "bundle"
        self.others.update(str(version) for version in table[column].to_pylist())
        names = [name for name in ("prediction_id", self._entity) if name in table.column_names]
        self.other_keys += [np.unique(hash_array(table[name].cast(pa.string()))) for name in names]
        for feature in self.schema.arrow():
            name = logged_name(feature.name)
            if name in table.column_names and table.schema.field(name).type != feature.type:
                self.other_types[name] = str(table.schema.field(name).type)

    @property
    def _entity(self) -> str | None:
        column = self.schema.name_of(Role.ID)
        return None if column is None else logged_name(column)

    def _typed(self, table: pa.Table) -> pl.DataFrame:
        """The log's own columns and the features in their types; columns that are not there are null."""
        number = pa.string() if self.task.is_classification else pa.float64()
        own = {name: number if kind is None else kind for name, kind in OWN.items()}
        types = {**own, **{logged_name(column.name): column.type for column in self.schema.arrow()}}
        arrays = {name: self._column(table, name, kind) for name, kind in types.items()}
        is_unread = _unread_times(table, arrays["event_at"])
        frame = cast("pl.DataFrame", pl.from_arrow(pa.table(arrays)))
        entity = pl.lit(None, pl.String) if self._entity is None else pl.col(self._entity).cast(pl.String)
        frame = frame.with_columns(
            entity.alias(ENTITY), pl.coalesce("event_at", "logged_at").alias("event_at"), is_unread.alias("__unread")
        )
        has_entity = self._entity is not None and self._entity in table.column_names
        identity = _identities(frame, may_repeat=self._entity is not None, has_entity=has_entity)
        reason = _reason(self.task).alias(REASON)
        return frame.with_columns(pl.Series(IDENTITY, identity, pl.UInt64), reason).drop("__unread")

    def _column(self, table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
        if name not in table.column_names:
            return pa.nulls(table.num_rows, kind)
        values = table[name].combine_chunks()
        if values.type == kind:
            return values
        try:
            return values.cast(kind)
        except pa.ArrowException:
            read = _read(values, kind)
            count = misfits(values, read).true_count
            if count and name != "event_at":
                self.misread[name] += count
            return read


def _read(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values of another type as their texts or numbers say; null where one does not fit."""
    wide = {pa.float32(): pa.float64(), pa.int32(): pa.int64()}.get(kind, kind)
    try:
        return as_type(values, wide).cast(kind, safe=False)
    except (pa.ArrowException, errors.MlsysError):
        return pa.nulls(len(values), kind)


def _unread_times(table: pa.Table, read: pa.Array) -> pl.Series:
    """Mark the rows whose own time is there and cannot be read."""
    if "event_at" not in table.column_names:
        return pl.Series([False] * table.num_rows, dtype=pl.Boolean)
    unread = pc.and_(pc.is_valid(table["event_at"].combine_chunks()), pc.is_null(read))
    return pl.Series(unread.to_numpy(zero_copy_only=False), dtype=pl.Boolean)


def _identities(frame: pl.DataFrame, *, may_repeat: bool, has_entity: bool) -> UInt64:
    """Hash what makes a prediction the same as another one: its id, for an entity's id with time and score."""
    own = hash_array(frame["prediction_id"].to_arrow())
    if not may_repeat:
        return own
    is_entitys = pl.col("prediction_id") == pl.col(ENTITY) if has_entity else pl.lit(value=True)
    hour = pl.col("logged_at").dt.truncate("1h")
    columns = frame.select(
        is_entitys.fill_null(value=False).alias("is"),
        pl.when(pl.col("event_at") == pl.col("logged_at")).then(hour).otherwise("event_at").alias("time"),
        "score",
    )
    time, score = hash_array(columns["time"].to_physical().to_arrow()), hash_array(columns["score"].to_arrow())
    again = mix(mix(own ^ mix(time)) ^ score)
    return np.where(columns["is"].to_numpy(), again, own)


def _reason(task: Task) -> pl.Expr:
    """The first reason for which a row cannot be judged; null where there is none."""
    event_at, ends = pl.col("event_at"), pl.lit(LATEST)
    latest = pl.min_horizontal((pl.col("logged_at").cast(pl.Int64) + _microseconds(MAX_AHEAD)), ends.cast(pl.Int64))
    is_far = ~event_at.cast(pl.Int64).is_between(pl.lit(EARLIEST).cast(pl.Int64), latest)
    reason = (
        pl.when("__unread").then(pl.lit(UNREADABLE_TIME))
        .when(event_at.is_null()).then(pl.lit(NO_TIME))
        .when(is_far.fill_null(value=False)).then(pl.lit(FAR_TIME))
        .when(~pl.col("score").is_finite().fill_null(value=False)).then(pl.lit(NO_SCORE))
    )  # fmt: skip
    if task.is_classification:
        count, filled = pl.col("probabilities").list.len(), pl.col("probabilities").list.drop_nulls().list.len()
        is_whole = (count == len(task.output_names)) & (filled == count)
        reason = reason.when(~is_whole.fill_null(value=False)).then(pl.lit(NO_PROBABILITIES))
    return reason.otherwise(pl.lit(None, pl.String))


def _microseconds(span: dt.timedelta) -> int:
    return span // dt.timedelta(microseconds=1)
