"""Stretches of time: rows to judge on that are later than all that were fitted on, of rows that no time divides.

In a log, a row that was drawn at random has its neighbours of the same hour among those that were fitted on, and a
model that remembers them looks better than it is on what comes later. Where the rows came in the order of a time, and
selection found that the target moves with it, a search judges on the latest rows, by models of those before: a rolling
origin, with several origins because one stretch of time is one sample of the future.

References
----------
Tashman: Out-of-sample tests of forecasting accuracy, International Journal of Forecasting 16(4), 2000,
doi:10.1016/S0169-2070(00)00065-0.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys.dataset import Split
from mlsys.limits import EPOCH, MICROSECOND
from mlsys.recipe import Recipe
from mlsys.schema import ROW, Role, Schema, Task
from mlsys.statistics import TrainStatistics
from mlsys.train import samples, training_job
from mlsys.train.fold import Prepared

BEGINS = (0.55, 0.7, 0.85)
"""Shares of the training rows before each stretch, in order of time; a stretch ends where the next one begins."""

LEAST_ROWS = 1_000
"""Training rows from which on a stretch says something: it has 150 of them."""

IN_ORDER = 0.99
"""Rank correlation of the time with the place of a row, from which on the rows came in the order of the time."""


@dataclass(frozen=True)
class TimeStretch:
    """Rows whose time in `column` is from `begin` to before `end`, in microseconds since 1970.

    `share` of the training rows lie before it.
    """

    column: str
    begin: int
    end: int
    share: float

    def __str__(self) -> str:
        begin = EPOCH + self.begin * MICROSECOND
        return f"{self.column} from {begin:%Y-%m-%d %H:%M}"


def time_column(schema: Schema, recipe: Recipe, task: Task) -> str | None:
    """The one time that features follow as a trend, where rows are divided neither by time nor by group."""
    if task.is_ranking or any(schema.name_of(role) for role in (Role.TIME, Role.GROUP)):
        return None
    ways = recipe.features.columns.items()
    columns = [name for name, treated in ways if any(way.operation == "trend" for way in treated)]
    return columns[0] if len(columns) == 1 else None


def find(split: Split, column: str) -> tuple[TimeStretch, ...]:
    """The stretches of a column of times; none where the rows did not come in its order, or it has gaps."""
    table = split.table("train", [ROW, column])
    if table[column].null_count or table.num_rows < LEAST_ROWS:
        return ()
    times, rows = _microseconds(table[column]), np.asarray(table[ROW])
    if abs(_rank_correlation(times, rows)) < IN_ORDER:
        return ()
    ordered = np.sort(times)
    begins = [int(ordered[int(share * len(ordered))]) for share in BEGINS]
    edges = [int(ordered[0]), *begins, int(ordered[-1]) + 1]
    if any(later <= earlier for earlier, later in pairwise(edges)):
        return ()
    ends = edges[2:]
    return tuple(TimeStretch(column, *each) for each in zip(begins, ends, BEGINS, strict=True))


def prepare(
    split: Split,
    statistics: TrainStatistics,
    recipe: Recipe,
    task: Task,
    family: str,
    stretch: TimeStretch,
    *,
    max_rows: int | None = None,
) -> Prepared:
    """Rows before the stretch to fit on, and those in it to judge on and to stop by.

    The features are those of all training rows, which must not read the target.
    """
    fitted = training_job.fit_program(split.schema, statistics, recipe, family)
    columns = list(dict.fromkeys([*training_job.columns(fitted, split.schema, task), stretch.column]))
    table = samples.read_sample(split, "train", columns, max_rows, recipe.seed)
    times = _microseconds(table[stretch.column])
    before, within = times < stretch.begin, (times >= stretch.begin) & (times < stretch.end)
    began = time.perf_counter()
    judged_table = table.filter(pa.array(within))
    judged = training_job.matrix(judged_table, fitted, task)
    per_row = 1e6 * (time.perf_counter() - began) / max(1, judged.num_rows)
    train = training_job.matrix(table.filter(pa.array(before)), fitted, task)
    return Prepared(train, judged, judged, per_row, np.asarray(judged_table[ROW]))


def _microseconds(times: pa.ChunkedArray) -> NDArray[np.int64]:
    zone = getattr(times.type, "tz", None)
    return np.asarray(times.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()))


def _rank_correlation(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Spearman's correlation; 0 where one of them is the same everywhere."""
    from scipy import stats

    value = float(stats.spearmanr(first, second).statistic)
    return value if np.isfinite(value) else 0.0
