"""Which columns are compared, and in which categories and bins: decided once, then fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.schema import Kind, Role, Schema, Task
from mlsys.statistics.values import as_floats, plain

__all__ = ["MOST_CATEGORICAL", "MOST_GAPS", "MOST_LEVELS", "MOST_NUMBERS", "NUM_BINS", "Categories", "Layout", "Number"]

Floats = npt.NDArray[np.float64]

MOST_NUMBERS, MOST_CATEGORICAL, MOST_GAPS = 100, 20, 128
"""Columns compared at most: numbers (4,950 pairs), categories (190 pairs), and those with gaps."""

MOST_LEVELS = 48
"""Categories with a row of their own in a table of two columns; the rest are one."""

NUM_BINS = 16
"""Bins of a number, of equally many rows where its values allow it."""

NAMES_ROWS = 0.9
"""A column with this fraction of different values names rows: it is not compared as a category."""


@dataclass(frozen=True)
class Number:
    """A number: `shift` lies among its values, `edges` part it into bins that are closed on the right."""

    name: str
    shift: float
    edges: tuple[float, ...]


@dataclass(frozen=True)
class Categories:
    """A category column: its levels, the most frequent first. Two more follow: all others, and none.

    Attributes
    ----------
    values
        The levels as an Arrow array; None for the target, whose levels are the classes of the task.
    """

    name: str
    values: pa.Array | None
    num_levels: int

    @property
    def size(self) -> int:
        """Levels with those for all others and for none."""
        return self.num_levels + 2


@dataclass(frozen=True)
class Layout:
    """The columns that take part; equal layouts are what makes statistics addable.

    Attributes
    ----------
    numbers, categories
        In the order of the schema; the target is the last of its kind.
    gaps
        Columns whose missing values are compared: first those that have some in the look.
    time
        The column with the time of a row, if there is one.
    left_out
        Columns beyond the limits, and categories that name rows.
    """

    task: Task
    numbers: tuple[Number, ...]
    categories: tuple[Categories, ...]
    gaps: tuple[str, ...]
    time: str | None
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, look: pa.Table, schema: Schema, task: Task) -> Self:
        """Decide from some rows, which should come from everywhere in the table."""
        columns = [column for column in schema.features if column.name != task.target]
        names = [c.name for c in columns if c.kind in {Kind.NUMERIC, Kind.DATETIME}]
        words = [c.name for c in columns if c.kind in {Kind.CATEGORICAL, Kind.BOOLEAN}]
        words = [name for name in words if not _names_rows(look, name)]
        numbers = [_number(name, look) for name in names[:MOST_NUMBERS]]
        categories = [_categories(name, look) for name in words[:MOST_CATEGORICAL]]
        if task.is_classification:
            categories.append(Categories(task.target, None, len(task.classes)))
        else:
            numbers.append(_number(task.target, look))
        there = frozenset(look.column_names)
        gaps = sorted((c.name for c in columns), key=lambda name: name in there and -_num_gaps(look, name))
        taken = {*(column.name for column in numbers), *(column.name for column in categories)}
        compared = {Kind.NUMERIC, Kind.DATETIME, Kind.CATEGORICAL, Kind.BOOLEAN}
        left = tuple(c.name for c in columns if c.kind in compared and c.name not in taken)
        time = schema.one(Role.TIME)
        if time is not None and schema[time].kind is not Kind.DATETIME:
            time = None
        return cls(task, tuple(numbers), tuple(categories), tuple(gaps[:MOST_GAPS]), time, left)

    @property
    def names(self) -> list[str]:
        """Every column that is read."""
        time = [] if self.time is None else [self.time]
        found = [*(c.name for c in self.numbers), *(c.name for c in self.categories), *self.gaps, *time]
        return list(dict.fromkeys([*found, self.task.target]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.numbers, self.gaps, self.time))

    def _key(self) -> tuple[object, ...]:
        levels = [None if c.values is None else c.values.to_pylist() for c in self.categories]
        return self.task, self.numbers, [c.name for c in self.categories], levels, self.gaps, self.time


def _names_rows(look: pa.Table, name: str) -> bool:
    values = look[name].drop_null()
    return len(values) > MOST_LEVELS and pc.count_distinct(values).as_py() >= NAMES_ROWS * len(values)


def _num_gaps(look: pa.Table, name: str) -> int:
    return int(look[name].null_count)


def _finite(look: pa.Table, name: str) -> Floats:
    values = as_floats(plain(look[name]))
    found: Floats = np.sort(values[np.isfinite(values)])
    return found


def _number(name: str, look: pa.Table) -> Number:
    """The median is a value of the column, so that a constant lies exactly at its shift."""
    values = _finite(look, name)
    if len(values) == 0:
        return Number(name, 0.0, ())
    places = (len(values) * np.arange(1, NUM_BINS)) // NUM_BINS
    edges = np.unique(values[np.minimum(places, len(values) - 1)])
    edges = edges[edges < values[-1]]  # nothing lies right of the greatest value: no bin there
    return Number(name, float(values[len(values) // 2]), tuple(edges.tolist()))


def _categories(name: str, look: pa.Table) -> Categories:
    counted = plain(look[name]).drop_null().value_counts()
    keys, counts = counted.field("values"), np.asarray(counted.field("counts"))
    order = sorted(range(len(keys)), key=_by_count(counts, keys))[:MOST_LEVELS]
    values = keys.take(pa.array(order, pa.int64()))
    return Categories(name, values, len(values))


def _by_count(counts: npt.NDArray[np.int64], keys: pa.Array) -> Callable[[int], tuple[int, str]]:
    """Most frequent first, equal ones by their text: the order of the rows decides nothing."""
    texts = [str(key) for key in keys.to_pylist()]
    return lambda place: (-int(counts[place]), texts[place])
