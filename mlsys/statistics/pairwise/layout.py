"""Layout of the pairwise statistics: the columns compared, their levels and bins, and rows as arrays to be counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlsys.limits import ID_LIKE_FRACTION
from mlsys.schema import Kind, Role, Schema, Task
from mlsys.statistics.arrays import Floats, Ints, as_floats, plain
from mlsys.statistics.encoding import EncodedCategories, EncodedColumn, EncodedNumbers

MOST_NUMBERS, MOST_CATEGORICAL, MOST_NULLABLE = 100, 20, 128
"""Columns compared at most: numbers (4,950 pairs), categories (190 pairs), and those with missing values."""

MOST_LEVELS = 48
"""Categories with a row of their own in a table of two columns; the others share one."""

NUM_BINS = 16
"""Bins of a number, of equally many rows where its values allow it."""

BLOCK_ROWS = 16_384
"""Rows of a block: 100 numbers of them take 13 MB, and one column stays in the cache."""


@dataclass(frozen=True)
class BinnedNumber:
    """A column of numbers: `shift` lies among its values, `edges` part it into bins that are closed on the right."""

    name: str
    shift: float
    edges: tuple[float, ...]


@dataclass(frozen=True)
class CategoryLevels:
    """A category column: its levels, the most frequent first, then one for all others and one for none.

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
    """Layout of the pairwise statistics: statistics of equal layouts can be added.

    Attributes
    ----------
    numbers, categories
        In the order of the schema; the target is the last of its kind.
    nullable
        Columns whose missing values are compared: first those with most of them in the sample.
    time
        The column with the time of a row, if there is one.
    left_out
        Columns beyond the limits, and categories that identify rows.
    """

    task: Task
    numbers: tuple[BinnedNumber, ...]
    categories: tuple[CategoryLevels, ...]
    nullable: tuple[str, ...]
    time: str | None
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, sample: pa.Table, schema: Schema, task: Task) -> Self:
        """Decide the layout from a sample of rows, which should come from everywhere in the table."""
        columns = [column for column in schema.features if column.name != task.target]
        names = [c.name for c in columns if c.kind in {Kind.NUMERIC, Kind.DATETIME}]
        words = [
            c.name for c in columns if c.kind in {Kind.CATEGORICAL, Kind.BOOLEAN} and not _is_id_like(sample, c.name)
        ]
        numbers = [_number(name, sample) for name in names[:MOST_NUMBERS]]
        categories = [_categories(name, sample) for name in words[:MOST_CATEGORICAL]]
        if task.is_classification:
            categories.append(CategoryLevels(task.target, None, len(task.classes)))
        else:
            numbers.append(_number(task.target, sample))
        present = frozenset(sample.column_names)
        nullable = sorted((c.name for c in columns), key=lambda name: name in present and -sample[name].null_count)
        taken = {*(column.name for column in numbers), *(column.name for column in categories)}
        compared = {Kind.NUMERIC, Kind.DATETIME, Kind.CATEGORICAL, Kind.BOOLEAN}
        left = tuple(c.name for c in columns if c.kind in compared and c.name not in taken)
        time = next((c.name for c in schema if c.role is Role.TIME and c.kind is Kind.DATETIME), None)
        return cls(task, tuple(numbers), tuple(categories), tuple(nullable[:MOST_NULLABLE]), time, left)

    @property
    def names(self) -> list[str]:
        """Names of all columns that are read."""
        time = [] if self.time is None else [self.time]
        compared = [*(c.name for c in self.numbers), *(c.name for c in self.categories)]
        return list(dict.fromkeys([*compared, *self.nullable, *time, self.task.target]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PairLayout) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.numbers, self.nullable, self.time))

    def _key(self) -> tuple[object, ...]:
        levels = [None if c.values is None else c.values.to_pylist() for c in self.categories]
        return self.task, self.numbers, [c.name for c in self.categories], levels, self.nullable, self.time


def _is_id_like(sample: pa.Table, name: str) -> bool:
    values = sample[name].drop_null()
    return len(values) > MOST_LEVELS and pc.count_distinct(values).as_py() >= ID_LIKE_FRACTION * len(values)


def _number(name: str, sample: pa.Table) -> BinnedNumber:
    """Bins of a number; its shift is the median, a value of the column, so that a constant lies exactly there."""
    values = as_floats(plain(sample[name]))
    values = np.sort(values[np.isfinite(values)])
    if len(values) == 0:
        return BinnedNumber(name, 0.0, ())
    places = (len(values) * np.arange(1, NUM_BINS)) // NUM_BINS
    edges = np.unique(values[np.minimum(places, len(values) - 1)])
    edges = edges[edges < values[-1]]  # nothing lies right of the greatest value: no bin there
    return BinnedNumber(name, float(values[len(values) // 2]), tuple(edges.tolist()))


def _categories(name: str, sample: pa.Table) -> CategoryLevels:
    counted = plain(sample[name]).drop_null().value_counts()
    keys, counts = counted.field("values"), counted.field("counts").to_pylist()
    texts = [str(key) for key in keys.to_pylist()]  # equally frequent levels are ordered by their text, not by the rows
    order = sorted(range(len(keys)), key=lambda place: (-counts[place], texts[place]))[:MOST_LEVELS]
    values = keys.take(pa.array(order, pa.int64()))
    return CategoryLevels(name, values, len(values))


@dataclass(frozen=True)
class Block:
    """Some rows of the columns of a layout, as arrays.

    Attributes
    ----------
    numbers
        Finite values less their shift, and 0 where there is none, ``(rows, numbers)``.
    known
        A column of ones, then one a number with missing values: 1 where it has a value, else 0.
    both
        `numbers` and `known` side by side; they are views of it.
    squares
        Squares of `numbers`.
    known_column
        Column of `known` for each number; 0 for those without missing values.
    levels
        Level of each row, one array a category column.
    bins
        Bin of each row, one array a number; the last bin is for missing ones.
    """

    numbers: Floats
    known: Floats
    both: Floats
    squares: Floats
    known_column: Ints
    levels: list[Ints]
    bins: list[Ints]


def blocks(
    columns: Mapping[str, EncodedColumn], layout: PairLayout, y: npt.NDArray[Any]
) -> Iterator[tuple[int, Block]]:
    """Divide encoded columns into blocks, each with its first row; `y` is their target as `encode_target` says."""
    numbers = [_number_block(columns, column, layout, y) for column in layout.numbers]
    levels = [_levels(columns, column, y) for column in layout.categories]
    for start in range(0, len(y), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        some = [(values[rows], bins[rows]) for values, bins in numbers]
        yield start, _block(some, [level[rows] for level in levels], layout)


def _number_block(
    columns: Mapping[str, EncodedColumn], column: BinnedNumber, layout: PairLayout, y: npt.NDArray[Any]
) -> tuple[Floats, Ints]:
    """Values and bins of a number; what is not finite has the last bin."""
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


def _compared(values: Floats, column: BinnedNumber, missing: int) -> Ints:
    """Bin of each value, the number of edges below it: comparing with all is quicker than a search."""
    bins = np.zeros(len(values), np.uint8)
    for edge in column.edges:
        bins += (values > edge).view(np.uint8)
    return np.where(np.isfinite(values), bins, missing)


def _block(numbers: list[tuple[Floats, Ints]], levels: list[Ints], layout: PairLayout) -> Block:
    rows = len(numbers[0][0]) if numbers else len(levels[0])
    known_column, known, centred = np.zeros(len(numbers), np.int64), [], []
    for number, ((values, bins), column) in enumerate(zip(numbers, layout.numbers, strict=True)):
        with np.errstate(over="ignore", invalid="ignore"):
            centred.append(values - column.shift)
        finite = np.isfinite(centred[-1])
        if not finite.all():
            centred[-1][~finite] = 0.0
            bins[~finite] = len(column.edges) + 1
            known.append(finite)
            known_column[number] = len(known)
    both = np.empty((rows, len(numbers) + 1 + len(known)))
    for place, part in enumerate((*centred, np.ones(rows), *known)):
        both[:, place] = part
    shifted = both[:, : len(numbers)]
    with np.errstate(over="ignore", under="ignore"):
        squares = shifted * shifted
    return Block(shifted, both[:, len(numbers) :], both, squares, known_column, levels, [bins for _, bins in numbers])


def _levels(columns: Mapping[str, EncodedColumn], column: CategoryLevels, y: npt.NDArray[Any]) -> Ints:
    others = column.num_levels
    if column.values is None:
        return np.where(y >= 0, y, others + 1)
    encoded = columns[column.name]
    if not isinstance(encoded, EncodedCategories):
        raise TypeError(f"column {column.name!r} is not encoded as categories")
    known = column.values.cast(encoded.keys.type)
    places = np.asarray(pc.index_in(encoded.keys, value_set=known).fill_null(others)).astype(np.int64)
    return np.append(places, others + 1)[encoded.codes]
