"""Statistics of the training rows that windows are compared with, and bins cut from them once for all windows.

A log's columns are the features, the prediction, the label and the measures of pictures.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys.bundle import Bundle
from mlsys.deploy.prediction_log import logged_name
from mlsys.predict import image_measures, probability_of
from mlsys.schema import Column, Kind, Schema, Task, TaskKind
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.arrays import Floats, as_floats, plain
from mlsys.statistics.numeric_statistics import NumericStatistics

PREDICTION, SCORE = "prediction", "score"
"""Columns of the log that are judged beside the features."""

MAX_CATEGORIES = 100
"""Categories with a bin of their own; rarer ones share a bin with those that the reference never had."""

MAX_COLUMNS = 64
"""Columns of which windows keep some rows side by side."""

FINE, COARSE = 100, 10
"""Quantile bins of a numeric column: percentiles for cumulative distances, deciles for the others."""

_Z99 = 2.5758
"""99.5 % quantile of the standard normal: sketches state their rank error at 99 % confidence, two-sided."""


@dataclass(frozen=True)
class ReferenceBins:
    """Bins of a column's values, and how many rows of the reference fell into each.

    A numeric column has the intervals between `edges`, closed on the right, with one below the
    reference's minimum and one above its maximum. A categorical one has a bin for each of its
    `categories`, then one for all others. The last bin is for nulls and NaN.

    Attributes
    ----------
    group
        Coarse bin of each bin: its decile, or the category itself.
    labels
        Names of the coarse bins for people.
    sketch_rows
        Size of a sample that would be as noisy as the sketch behind `reference`; infinite
        where the counts are exact.
    present_only
        Rows without a value are left out, because another column counts them.
    """

    name: str
    kind: Kind
    edges: Floats
    categories: pa.Array | None
    reference: NDArray[np.int64]
    group: NDArray[np.int64]
    sketch_rows: float
    labels: tuple[str, ...]
    present_only: bool = False

    @classmethod
    def of(cls, name: str, column: ColumnStatistics) -> ReferenceBins:
        """Cut the bins from the statistics of a column of the reference."""
        numbers = column.numbers
        return _of_categories(name, column) if numbers is None else _of_numbers(name, column, numbers)

    def of_present(self) -> ReferenceBins:
        """The same bins, counting only rows that have a value."""
        return replace(self, reference=np.append(self.reference[:-1], 0), present_only=True)

    @property
    def size(self) -> int:
        return len(self.reference)

    @property
    def ordered(self) -> bool:
        return self.categories is None

    @property
    def num_rows(self) -> int:
        return int(self.reference.sum())

    @property
    def effective_rows(self) -> float:
        """Rows of the reference, reduced by the noise of its sketch: ``1 / (1/n + 1/sketch_rows)``."""
        return 1 / (1 / max(self.num_rows, 1) + 1 / self.sketch_rows)

    def coarse(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts in the coarse bins, from counts in all bins along the last axis."""
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))
        return np.add.reduceat(counts, starts, axis=-1)

    def outside(self, counts: NDArray[np.int64]) -> float:
        """Fraction of the rows whose number lies outside the range of the reference; 0 for categories."""
        if not len(self.edges) or not counts.sum():
            return 0.0
        return float((counts[0] + counts[-2]) / counts.sum())

    def index(self, values: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
        """Bin of each value."""
        array = plain(values)
        null = self.size - 1
        if self.categories is None:
            numbers = as_floats(array)
            interval = np.searchsorted(self.edges, numbers, side="left")
            return np.where(np.isnan(numbers), null, interval).astype(np.int64)
        missing = np.asarray(array.is_null())
        if len(self.categories) and not pa.types.is_null(array.type):
            index = pc.fill_null(pc.index_in(array.cast(self.categories.type), value_set=self.categories), null - 1)
            category = np.asarray(index).astype(np.int64)
        else:
            category = np.full(len(array), null - 1, np.int64)
        return np.where(missing, null, category)


def _of_numbers(name: str, column: ColumnStatistics, numbers: NumericStatistics) -> ReferenceBins:
    finite = numbers.moments.n
    missing = column.num_nulls + numbers.nan
    if not finite:
        counts = np.array([numbers.positive_inf, missing])
        return ReferenceBins(name, column.kind, np.empty(0), None, counts, np.arange(2), np.inf, ("values", "null"))
    fine, deciles = (column.quantiles(np.arange(1, n) / n) for n in (FINE, COARSE))
    below = np.nextafter(numbers.minimum, -np.inf)
    edges = np.unique(np.concatenate([[below], fine, deciles, [numbers.maximum]]))
    rank = np.rint(column.cdf(edges) * finite).astype(np.int64)
    counts = np.concatenate([[numbers.negative_inf], np.diff(rank), [numbers.positive_inf], [missing]])
    cuts = np.unique(np.concatenate([[below], deciles, [numbers.maximum]]))
    group = np.append(np.searchsorted(cuts, edges, side="left"), [len(cuts), len(cuts) + 1])
    exact = column.counts_exact or numbers.rank_error == 0
    rank_sd = numbers.rank_error / _Z99
    sketch_rows = np.inf if exact else (1 / COARSE) * (1 - 1 / COARSE) / rank_sd**2
    return ReferenceBins(name, column.kind, edges, None, counts, group, sketch_rows, _interval_labels(cuts, numbers))


def _interval_labels(cuts: Floats, numbers: NumericStatistics) -> tuple[str, ...]:
    """Name the coarse bins by their ends; for integers, by the first and the last that a bin holds."""
    step = 1.0 if numbers.integral else 0.0
    left = [numbers.minimum, *(cuts[1:-1] + step)]
    ends = zip(left, cuts[1:], strict=True)
    inner = [f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}" for low, high in ends]
    return (f"below {numbers.minimum:.4g}", *inner, f"above {cuts[-1]:.4g}", "null")


def _of_categories(name: str, column: ColumnStatistics) -> ReferenceBins:
    present = column.num_rows - column.num_nulls
    table = column.frequencies
    frequent = table.order()[:MAX_CATEGORIES]
    counts = table.counts[frequent] + table.error  # the sketch undercounts a frequent value by exactly its error
    counts = np.diff(np.minimum(np.cumsum(counts), present), prepend=0)
    reference = np.concatenate([counts, [present - counts.sum(), column.num_nulls]])
    categories = table.keys.take(pa.array(frequent))
    labels = (*map(str, categories.to_pylist()), "other", "null")
    group = np.arange(len(reference))
    return ReferenceBins(name, column.kind, np.empty(0), categories, reference, group, np.inf, labels)


@dataclass(frozen=True)
class ReferenceRows:
    """Statistics and bins of the rows that windows are compared with.

    Attributes
    ----------
    columns
        Column of the log → its statistics in the reference; the target under its own name.
    bins
        The same columns in bins.
    watched
        Columns whose drift is judged. Times are not: they always move.
    pictures
        Columns of the log whose pictures are measured (`mlsys.predict.image_measures`), one
        column for each measure; of the bytes themselves only the lengths are kept.
    threshold
        Least probability of the positive class that is called positive; of several labels, that of each.
    """

    task: Task
    schema: Schema
    columns: dict[str, ColumnStatistics]
    bins: dict[str, ReferenceBins]
    watched: tuple[str, ...]
    pictures: tuple[str, ...] = ()
    threshold: float | Sequence[float] | None = None

    @classmethod
    def of(cls, bundle: Bundle) -> ReferenceRows:
        """Take a bundle's training rows, and its predictions on rows that it was not fitted on."""
        task, inputs = bundle.task, bundle.reference.inputs
        features = [column for column in bundle.schema.features if column.name in inputs.columns]
        named = [column.model_copy(update={"name": logged_name(column.name)}) for column in features]
        columns = {new.name: inputs.columns[old.name] for new, old in zip(named, features, strict=True)}
        answers = bundle.reference.predictions.columns if bundle.reference.predictions else {}
        of_labels = label_columns(task)
        own = {name: answers[name] for name in (PREDICTION, SCORE, *of_labels) if name in answers}
        columns |= {**own, task.target: inputs.target}
        bins = {name: ReferenceBins.of(name, column) for name, column in columns.items()}
        measured = _measures(bundle, columns)
        columns |= measured
        bins |= {name: ReferenceBins.of(name, column).of_present() for name, column in measured.items()}
        pseudo = PREDICTION if task.kind is TaskKind.MULTICLASS else SCORE
        moving = {column.name for column in named if column.kind is Kind.DATETIME}
        others = {*own, PREDICTION, SCORE, task.target}
        watched = tuple(name for name in columns if name not in moving and name not in others)
        watched += tuple(name for name in (of_labels or [pseudo]) if name in own)
        pictures = tuple(column.name for column in named if column.kind is Kind.IMAGE)
        measures = [column for name in pictures for column in image_measures.columns(name) if column.name in measured]
        as_bytes = {"kind": Kind.BYTES}  # pictures are decoded once, to be measured
        inputs_of_log = [each.model_copy(update=as_bytes) if each.kind is Kind.IMAGE else each for each in named]
        schema = Schema(columns=(*inputs_of_log, *measures, *_prediction_columns(task)))
        return cls(task, schema, columns, bins, watched, pictures if measured else (), bundle.threshold)

    @property
    def sampled(self) -> tuple[str, ...]:
        """Inputs of which windows keep some rows: the first `MAX_COLUMNS` that are numbers or categories."""
        others = {PREDICTION, SCORE, self.task.target, *label_columns(self.task)}
        kinds = {Kind.NUMERIC, Kind.CATEGORICAL, Kind.BOOLEAN}
        names = (name for name in self.watched if name not in others and not self.bins[name].present_only)
        return tuple(name for name in names if self.bins[name].kind in kinds)[:MAX_COLUMNS]

    def measured(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the measures of their pictures beside them."""
        if not self.pictures:
            return rows
        measures = image_measures.measured(rows.select(self.pictures).to_arrow(), self.pictures)
        known = [name for name in measures.column_names if name in self.columns]
        return rows.hstack(cast("pl.DataFrame", pl.from_arrow(measures.select(known))))


def _measures(bundle: Bundle, others: Container[str]) -> dict[str, ColumnStatistics]:
    """Measure of a picture under its name in the log → its statistics; without names that are taken."""
    known = bundle.reference.images.columns if bundle.reference.images else {}
    return {
        new.name: known[old.name]
        for name in image_measures.pictures(bundle.schema)
        for old, new in zip(image_measures.columns(name), image_measures.columns(logged_name(name)), strict=True)
        if old.name in known and new.name not in others
    }


def _prediction_columns(task: Task) -> tuple[Column, ...]:
    kind, name = (Kind.CATEGORICAL, "string") if task.is_classification else (Kind.NUMERIC, "double")
    numbers = (Column(name=each, type="double", kind=Kind.NUMERIC) for each in (SCORE, *label_columns(task)))
    return (Column(name=PREDICTION, type=name, kind=kind), *numbers)


def label_columns(task: Task) -> list[str]:
    """Name the columns with the probability of each of several labels, which are judged in place of the sets."""
    return [probability_of(name) for name in task.labels]
