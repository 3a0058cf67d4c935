"""Find the predictions that labels belong to, and say which labels belong to none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import label_sets
from mlsys.monitor.labels import Labels
from mlsys.monitor.log_rows import ENTITY, REASON
from mlsys.monitor.log_scan import BLOCK, GROUP, START, class_values, model_output, slice_column
from mlsys.monitor.log_state import LogState
from mlsys.monitor.windows import Window
from mlsys.predict.class_labels import UNKNOWN
from mlsys.reports import formats
from mlsys.schema import Task
from mlsys.statistics.hashing import hash_array

LABEL, VOID, KNOWN_AT, WHOLE = "__label", "__void", "__known_at", "__whole"
"""Columns that `join` adds to index rows; their names leave ``y`` and ``label`` to features."""

UTILITY_OF_ROW = "__utility"
"""What the prediction of a row was worth, where the evaluation says it (`mlsys.monitor.realised_utility`)."""

MAX_EXAMPLES = 3
"""Ids of each side that are shown where labels belong to no prediction."""

_WHOLE = r"^([+-]?\d+)\.0+$"


@dataclass
class LabelCounts:
    """Labels by what became of them.

    Attributes
    ----------
    num_rows, num_matched
        Labels that were given, and those that belong to a prediction of this bundle.
    num_repeated
        Those of them that a later label of the same prediction replaced.
    num_other, num_early, num_unmatched
        Labels of predictions of other versions; labels from before each of several predictions of their entity; and
        labels with an id that no prediction has.
    num_respelled, respelled
        Ids such as 20001.0 that were read as the whole number, and one of them.
    examples, logged
        Ids of labels that no prediction has, and ids of the log.
    """

    num_rows: int = 0
    num_matched: int = 0
    num_repeated: int = 0
    num_other: int = 0
    num_early: int = 0
    num_unmatched: int = 0
    num_respelled: int = 0
    respelled: str = ""
    examples: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    @property
    def messages(self) -> list[str]:
        """Sentences about labels that belong to no prediction, with ids of both sides to compare."""
        lines = []
        if self.num_unmatched:
            verb = "belongs" if self.num_unmatched == 1 else "belong"
            count = f"{self.num_unmatched:,} of {formats.count(self.num_rows, 'label')}"
            logged = f"; ids of the log are such as {_quoted(self.logged)}" if self.logged else ""
            lines.append(f"{count} {verb} to no prediction in the log, such as {_quoted(self.examples)}{logged}.")
        if self.num_early:
            count = formats.count(self.num_early, "label")
            lines.append(f"{count} left out: earlier than every prediction of an entity that was scored several times.")
        if self.num_respelled:
            count = formats.count(self.num_respelled, "id")
            verb = "is a decimal" if self.num_respelled == 1 else "are decimals"
            such = f"{count} of labels {verb} such as {self.respelled}"
            lines.append(f"{such}; they were read as whole numbers, as the log has them.")
        return lines


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


@dataclass(frozen=True)
class LabelMatch:
    """Index rows with their label, `VOID` and `KNOWN_AT`, each at most once, and what became of the labels."""

    rows: pl.DataFrame
    counts: LabelCounts


def join(labels: Sequence[Labels], state: LogState, *, is_whole_number: bool = False) -> LabelMatch:
    """Give each prediction the last of the labels that belong to it; later `labels` come after earlier ones.

    With `is_whole_number` the ids of entities are integers, and a label's ``20001.0`` means ``20001``.
    """
    counts = LabelCounts()
    every = pl.concat([_numbered(each, is_whole_number, counts) for each in labels], how="vertical_relaxed")
    every = every.with_row_index("label_number")
    candidates = _candidates(every["key"].unique(), state)
    by_entity, by_prediction = (every.filter(pl.col("join_on") == name) for name in (ENTITY, "prediction_id"))
    pairs = [_pairs(by_entity, candidates, ENTITY), _pairs(by_prediction, candidates, "prediction_id")]
    left = every.filter(~pl.col("label_number").is_in(pl.concat(pairs)["label_number"].implode()))
    pairs += [
        _pairs(left.filter(pl.col("join_on") == ENTITY), candidates, "prediction_id"),
        _pairs(left.filter(pl.col("join_on") == "prediction_id"), candidates, ENTITY),
    ]
    matched = pl.concat(pairs)
    _count(every, matched, candidates, state, counts)
    order = every.select("label_number", "known_at", "y", "void")
    latest = (
        matched.join(order, on="label_number")
        .sort("known_at", "label_number", nulls_last=False)
        .unique("row_number", keep="last", maintain_order=True)
    )
    counts.num_repeated = counts.num_matched - latest["label_number"].n_unique()
    named = latest.select(
        "row_number", pl.col("y").alias(LABEL), pl.col("void").alias(VOID), pl.col("known_at").alias(KNOWN_AT)
    )
    return LabelMatch(candidates.join(named, on="row_number").sort("row_number"), counts)


def _numbered(labels: Labels, is_whole_number: bool, counts: LabelCounts) -> pl.DataFrame:  # noqa: FBT001
    """Labels of one source with the column that their key names."""
    frame, is_entity = labels.frame, labels.join_on != "prediction_id"
    if is_whole_number and is_entity:
        whole = frame["key"].str.extract(_WHOLE)
        counts.num_respelled += whole.count()
        counts.respelled = next(iter(frame.filter(whole.is_not_null())["key"].head(1)), counts.respelled)
        frame = frame.with_columns(pl.coalesce(whole, "key").alias("key"))
    return frame.with_columns(pl.lit(ENTITY if is_entity else "prediction_id").alias("join_on"))


def _candidates(keys: pl.Series, state: LogState) -> pl.DataFrame:
    """Index rows that have one of the keys, numbered."""
    named = [pl.col(name).is_in(keys.implode()).fill_null(value=False) for name in ("prediction_id", ENTITY)]
    usable = (named[0] | named[1]) & pl.col(REASON).is_null()
    parts = [part.filter(usable) for part in state.index(list(state.types))] or [pl.DataFrame(schema=state.types)]
    return pl.concat(parts, how="vertical_relaxed").with_row_index("row_number")


def _pairs(labels: pl.DataFrame, rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Numbers of labels and of the index rows that they belong to by this column."""
    named = rows.select("row_number", "event_at", pl.col(column).alias("key")).drop_nulls("key")
    timed = labels.select("label_number", "key", pl.coalesce("at", "known_at").alias("time"))
    several = named["key"].value_counts(name="count").filter(pl.col("count") > 1)["key"]
    decides = pl.col("time").is_not_null() & pl.col("key").is_in(several.implode())
    every = timed.filter(~decides).join(named, on="key").select("label_number", "row_number")
    latest = (
        timed.filter(decides)
        .sort("time")
        .join_asof(named.sort("event_at"), left_on="time", right_on="event_at", by="key", check_sortedness=False)
        .drop_nulls("row_number")
        .select("label_number", "row_number")
    )
    return pl.concat([every, latest])


def _count(
    every: pl.DataFrame, matched: pl.DataFrame, candidates: pl.DataFrame, state: LogState, counts: LabelCounts
) -> None:
    """Count the labels by what became of them."""
    counts.num_rows = every.height
    counts.num_matched = matched["label_number"].n_unique()
    lost = every.filter(~pl.col("label_number").is_in(matched["label_number"].implode()))
    known = pl.concat([candidates["prediction_id"], candidates[ENTITY]]).drop_nulls().unique()
    early = lost.filter(pl.col("key").is_in(known.implode()))
    unknown = lost.filter(~pl.col("key").is_in(known.implode()).fill_null(value=False))
    is_others = state.is_of_others(hash_array(unknown["key"].to_arrow())) if unknown.height else np.empty(0, np.bool_)
    counts.num_early, counts.num_other = early.height, int(is_others.sum())
    nowhere = unknown.filter(pl.Series(~is_others, dtype=pl.Boolean))
    counts.num_unmatched = nowhere.height
    counts.examples = nowhere["key"].drop_nulls().head(MAX_EXAMPLES).to_list()
    if nowhere.height:
        for part in state.index(["prediction_id", ENTITY]):
            shown = part.select(pl.coalesce(ENTITY, "prediction_id")).to_series().drop_nulls()
            counts.logged = shown.head(MAX_EXAMPLES).to_list()
            break


def with_whole_groups(rows: pl.DataFrame, state: LogState) -> pl.DataFrame:
    """Mark the rows of groups of which every prediction in the window has its label: of others no order is known."""
    key = [START, GROUP]
    parts = [part.filter(pl.col(REASON).is_null()).select(key) for part in state.index([*key, REASON])]
    sizes = pl.concat(parts).drop_nulls().group_by(key).agg(pl.len().alias("logged"))
    is_known = pl.col(LABEL).cast(pl.Float64).is_finite().fill_null(value=False)
    labelled = pl.when(pl.col(GROUP).is_not_null()).then(is_known.sum().over(key))
    joined = rows.join(sizes, on=key, how="left", maintain_order="left")
    return joined.with_columns((labelled == pl.col("logged")).fill_null(value=False).alias(WHOLE)).drop("logged")


def fill(windows: dict[Any, Window], rows: pl.DataFrame, task: Task, slices: Sequence[str]) -> NDArray[np.float64]:
    """Give windows and slices their labelled rows; returns the seconds from event to label where they are known."""
    for (start,), own in rows.group_by(START, maintain_order=True):
        _fill(windows[start, None, None], own, task)
        for number, key in enumerate(slices):
            for (value,), part in own.group_by(slice_column(number), maintain_order=True):
                if value is not None:
                    _fill(windows[start, key, value], part, task)
    return _delays(rows.filter(pl.col(KNOWN_AT).is_not_null()))


def _delays(rows: pl.DataFrame) -> NDArray[np.float64]:
    """Seconds from event to label, NaN where that is not said."""
    delays = (rows[KNOWN_AT] - rows["event_at"]).dt.total_microseconds().cast(pl.Float64).fill_null(float("nan"))
    return np.asarray(delays.to_numpy() / 1e6, np.float64)


def _fill(window: Window, rows: pl.DataFrame, task: Task) -> None:
    truth = rows[LABEL].to_numpy().astype(np.float64)
    known = np.isfinite(truth) & (truth != UNKNOWN)
    window.unknown_labels += int((truth == UNKNOWN).sum())
    window.num_void += int(rows[VOID].sum())
    window.num_resolved += int(known.sum())
    block = rows[BLOCK].to_numpy().astype(np.int64)
    window.labelled.void_block.append(block[~known])
    if not known.any():
        return
    judged = known & rows[WHOLE].to_numpy() if task.is_ranking else known
    window.num_divided += int((known & ~judged).sum())
    window.labelled.divided.append(truth[known & ~judged])
    window.labelled.y.append(truth[judged])
    window.labelled.output.append(model_output(rows, task)[judged])
    window.labelled.block.append(block[judged])
    window.labelled.time.append(rows["event_at"].dt.timestamp("us").to_numpy()[judged] / 1e6)
    window.labelled.delay.append(_delays(rows)[judged])
    if UTILITY_OF_ROW in rows.columns:
        window.labelled.utility.append(rows[UTILITY_OF_ROW].to_numpy()[judged])
    if task.is_ranking:
        window.labelled.group.append(rows[GROUP].fill_null(0).to_numpy()[judged])
    if task.labels:
        values = label_sets.texts(truth[known], task.labels)
    else:
        values = class_values(truth[known], task.classes) if task.is_classification else pa.array(truth[known])
    waiting = pa.nulls(window.num_rows - len(values), values.type)
    window.take_labels(task.target, pa.concat_arrays([values, waiting]))
