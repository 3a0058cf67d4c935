"""Check labels that come in against the ids of all predictions of a model, whichever version answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.bundle import Bundle
from mlsys.deploy import prediction_log
from mlsys.deploy.prediction_log import logged_name
from mlsys.monitor import label_match
from mlsys.monitor.label_match import LabelCounts
from mlsys.monitor.label_store import Added
from mlsys.monitor.labels import Labels, WrittenLabels
from mlsys.monitor.log_rows import ENTITY
from mlsys.monitor.log_state import LogState
from mlsys.reports import formats
from mlsys.schema import Role
from mlsys.store import Store


@dataclass(frozen=True)
class Received:
    """Labels that were taken in: how many were new, and which of them belong to predictions."""

    added: Added
    counts: LabelCounts

    @property
    def summary(self) -> str:
        """One line for the console."""
        added, counts = self.added, self.counts
        replaced = f", of which {added.num_replaced:,} replace another one" if added.num_replaced else ""
        known = f"; {added.num_known:,} were there already" if added.num_known else ""
        new = formats.count(added.num_new, "new label")
        return f"{new}{replaced}{known}; {counts.num_matched:,} of {counts.num_rows:,} belong to predictions in the log"

    def to_json(self) -> dict[str, Any]:
        """Keys: new, known and replaced labels; rows that were given, matched ones, and messages."""
        added, counts = self.added, self.counts
        numbers = {"new": added.num_new, "known": added.num_known, "replaced": added.num_replaced}
        return {**numbers, "rows": counts.num_rows, "matched": counts.num_matched, "messages": counts.messages}


def check(store: Store, name: str, written: WrittenLabels, bundle: Bundle, id_column: str | None) -> LabelCounts:
    """Count the labels by what they belong to.

    Raises
    ------
    ContractError
        No label is a class of the model.
    """
    labels = Labels.of(written, bundle.task, id_column)
    entity = bundle.schema.name_of(Role.ID)
    is_whole = entity is not None and bundle.schema[entity].type == "int64"
    state = LogState(frames=_ids(store, name, None if entity is None else logged_name(entity)))
    return label_match.join([labels], state, is_whole_number=is_whole).counts


def _ids(store: Store, name: str, entity: str | None) -> list[pl.DataFrame]:
    """Ids and times of all rows of the log; files that cannot be read are passed over."""
    frames, types = [], LogState().types
    columns = ("prediction_id", "event_at", "logged_at", entity)
    for log_file in prediction_log.files(prediction_log.folder_of(store, name)):
        names = [column for column in columns if log_file.schema is not None and column in log_file.schema.names]
        try:
            table = pq.ParquetFile(log_file.path).read(columns=names)
            frame = cast("pl.DataFrame", pl.from_arrow(table))
            if "prediction_id" not in frame.columns:
                continue
            if entity in frame.columns:
                frame = frame.with_columns(pl.col(str(entity)).alias(ENTITY))
            frame = frame.with_columns(pl.lit(None).alias(name) for name in types if name not in frame.columns)
            frames.append(frame.select(pl.col(name).cast(kind, strict=False) for name, kind in types.items()))
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError):
            continue
    return frames
