"""Which columns are compared, and in which categories and bins: decided once, then fixed.

Rows as the arrays that are counted: numbers about their shifts, levels of categories, gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.limits import ID_LIKE_FRACTION
from mlsys.schema import Kind, Role, Schema, Task
from mlsys.statistics.arrays import as_floats, plain
from mlsys.statistics.encoding import EncodedCategories, EncodedColumn, EncodedNumbers

__all__ = [
    "MOST_CATEGORICAL",
    "MOST_GAPS",
    "MOST_LEVELS",
    "MOST_NUMBERS",
    "NUM_BINS",
    "Block",
    "Categories",
    "Number",
    "PairLayout",
    "blocks",
]

Floats = npt.NDArray[np.float64]

MOST_NUMBERS, MOST_CATEGORICAL, MOST_GAPS = 100, 20, 128
"""Columns compared at most: numbers (4,950 pairs), categories (190 pairs), and those with gaps."""

MOST_LEVELS = 48
"""Categories with a row of their own in a table of two columns; the rest are one."""

NUM_BINS = 16
"""Bins of a number, of equally many rows where its values allow it."""


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
class PairLayout:
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
        return isinstance(other, PairLayout) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.numbers, self.gaps, self.time))

    def _key(self) -> tuple[object, ...]:
        levels = [None if c.values is None else c.values.to_pylist() for c in self.categories]
        return self.task, self.numbers, [c.name for c in self.categories], levels, self.gaps, self.time


def _names_rows(look: pa.Table, name: str) -> bool:
    values = look[name].drop_null()
    return len(values) > MOST_LEVELS and pc.count_distinct(values).as_py() >= ID_LIKE_FRACTION * len(values)


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


Ints = npt.NDArray[np.int64]

ROWS = 16_384
"""Rows of a block: 100 numbers of them take 13 MB, and one column stays in the cache."""


@dataclass(frozen=True)
class Block:
    """Some rows of the columns of a layout.

    Attributes
    ----------
    numbers
        ``(rows, numbers)``, finite values less their shift, and 0 where there is none.
    known
        ``(rows, 1 + columns with gaps)`` of 0 and 1: a column of ones, then where each column with
        gaps has a value.
    both
        `numbers` and `known` side by side; they are views of it.
    squares
        Of `numbers`.
    known_of
        Column of `known` for each number; 0 for those without gaps.
    levels
        Level of each row, one array a category column.
    bins
        Bin of each row, one array a number; the last bin is for missing ones.
    """

    numbers: Floats
    known: Floats
    both: Floats
    squares: Floats
    known_of: Ints
    levels: list[Ints]
    bins: list[Ints]


def blocks(
    columns: Mapping[str, EncodedColumn], layout: PairLayout, y: npt.NDArray[Any]
) -> Iterator[tuple[int, Block]]:
    """Blocks of encoded columns, each with the number of its first row; `y` is their target as `encode_target` says."""
    numbers = [_number_block(columns, column, layout, y) for column in layout.numbers]
    levels = [_levels(columns, column, y) for column in layout.categories]
    for start in range(0, len(y), ROWS):
        rows = slice(start, start + ROWS)
        some = [(values[rows], bins[rows]) for values, bins in numbers]
        yield start, _block(some, [level[rows] for level in levels], layout)


def _number_block(
    columns: Mapping[str, EncodedColumn], column: Number, layout: PairLayout, y: npt.NDArray[Any]
) -> tuple[Floats, Ints]:
    """Values and bins; what is not finite has the last bin."""
    missing = len(column.edges) + 1
    if column.name == layout.task.target:
        return y, _compared(y, column, missing)
    encoded = columns[column.name]
    if not isinstance(encoded, EncodedNumbers):
        raise TypeError(f"column {column.name!r} is not encoded as numbers")
    if encoded.shared is not None:
        return encoded.floats, _compared(encoded.floats, column, missing)
    bins = np.searchsorted(np.array(column.edges), encoded.keys, side="left")
    return encoded.floats, np.append(bins, missing)[encoded.codes]


def _compared(values: Floats, column: Number, missing: int) -> Ints:
    """Edges below each value: comparing with all of them is quicker than searching for one."""
    found = np.zeros(len(values), np.uint8)
    for edge in column.edges:
        found += (values > edge).view(np.uint8)
    return np.where(np.isfinite(values), found, missing)


def _block(numbers: list[tuple[Floats, Ints]], levels: list[Ints], layout: PairLayout) -> Block:
    rows = len(numbers[0][0]) if numbers else len(levels[0])
    known_of, known, away = np.zeros(len(numbers), np.int64), [], []
    for at, ((values, bins), column) in enumerate(zip(numbers, layout.numbers, strict=True)):
        with np.errstate(over="ignore", invalid="ignore"):
            away.append(values - column.shift)
        finite = np.isfinite(away[-1])
        if not finite.all():
            away[-1][~finite] = 0.0
            bins[~finite] = len(column.edges) + 1
            known.append(finite)
            known_of[at] = len(known)
    both = np.empty((rows, len(numbers) + 1 + len(known)))
    for at, part in enumerate((*away, np.ones(rows), *known)):
        both[:, at] = part
    centred = both[:, : len(numbers)]
    with np.errstate(over="ignore", under="ignore"):
        squares = centred * centred
    return Block(centred, both[:, len(numbers) :], both, squares, known_of, levels, [bins for _, bins in numbers])


def _levels(columns: Mapping[str, EncodedColumn], column: Categories, y: npt.NDArray[Any]) -> Ints:
    others = column.num_levels
    if column.values is None:
        return np.where(y >= 0, y, others + 1)
    encoded = columns[column.name]
    if not isinstance(encoded, EncodedCategories):
        raise TypeError(f"column {column.name!r} is not encoded as words")
    known = column.values.cast(encoded.keys.type)
    places = np.asarray(pc.index_in(encoded.keys, value_set=known).fill_null(others)).astype(np.int64)
    return np.append(places, others + 1)[encoded.codes]
