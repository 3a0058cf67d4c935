"""Labels that came in late, each once, as every later run of the monitor takes them from their files."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import polars as pl

from mlsys.deploy import label_files
from mlsys.deploy.label_files import SAME, TIME, TYPES
from mlsys.monitor.labels import WrittenLabels
from mlsys.schema import Task
from mlsys.store import Store


@dataclass(frozen=True)
class Added:
    """Labels that were new, those that were there already, and those that replaced another one of the same id."""

    num_new: int
    num_known: int
    num_replaced: int


def add(store: Store, name: str, labels: WrittenLabels) -> Added:
    """Append the labels that are not there yet; of several for the same id and times the last one counts.

    Raises
    ------
    StoreError
        The store cannot be written; then nothing was added.
    """
    columns = labels.frame.with_columns(
        pl.lit(labels.key).alias("key_name"),
        pl.col("label").cast(pl.String),
        pl.lit(dt.datetime.now(dt.UTC), TIME).alias("received_at"),
    )
    last = columns.select(list(TYPES)).unique(SAME, keep="last", maintain_order=True)
    with label_files.writing(store, name):
        before = _latest(label_files.read(store, name))
        new = last.join(before, on=[*SAME, "label"], how="anti", nulls_equal=True)
        num_replaced = new.join(before, on=SAME, how="semi", nulls_equal=True).height
        label_files.append(store, name, new)
    return Added(new.height, columns.height - new.height, num_replaced)


def written(store: Store, name: str, task: Task) -> list[WrittenLabels]:
    """The labels of a model by the column that their ids are of, as a task takes them."""
    every = _latest(label_files.read(store, name))
    if not task.is_classification:
        every = every.with_columns(pl.col("label").cast(pl.Float64, strict=False))
    return [
        WrittenLabels(str(key), part.select("key", "label", "at", "known_at"))
        for (key,), part in every.group_by("key_name", maintain_order=True)
    ]


def _latest(labels: pl.DataFrame) -> pl.DataFrame:
    return labels.unique(SAME, keep="last", maintain_order=True)
