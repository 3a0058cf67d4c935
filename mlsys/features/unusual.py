"""Count the categories of a table that training never saw, or too seldom to keep apart, beside its features.

The number of a category, by which its features are looked up, is `OTHER` for those alone. So only the rows with that
number are looked at, of mostly a few, and no column is read or searched a second time.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import polars as pl

from mlsys.features.operations.categorical import Categorical
from mlsys.features.operations.operation import Operation
from mlsys.features.row_program import rare_operations, unseen_operations

OTHER = 0
"""The number of rare and unknown categories, as `Categorical.raw` gives it."""

Counts = tuple[dict[str, int], dict[str, int]]
"""Column → rows with a category that training never saw, and with one that it saw too seldom; without zeros."""


class UnusualCategories:
    """The tests of a program's categories, made once; safe to share between threads."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        places = {id(operation): place for place, operation in enumerate(operations)}

        def tests(of: Mapping[str, Categorical], count: str) -> list[tuple[str, int, Callable[[], pl.Expr]]]:
            pairs = of.items()
            return [(column, places[id(each)], functools.cache(getattr(each, count))) for column, each in pairs]

        self._unseen = tests(unseen_operations(operations), "num_unseen")
        self._rare = tests(rare_operations(operations), "num_rare")

    def count(self, frame: pl.DataFrame, raw: Sequence[Sequence[pl.Series]]) -> Counts:
        """Count in a block of rows, of which `raw` are the columns of each operation's `Operation.raw`."""
        others: dict[int, pl.DataFrame | None] = {}
        counts: Counts = {}, {}
        for tests, counted in zip((self._unseen, self._rare), counts, strict=True):
            for column, place, expression in tests:
                if place not in others:
                    is_other = raw[place][0] == OTHER
                    others[place] = frame.select(column).filter(is_other) if is_other.any() else None
                rows = others[place]
                number = 0 if rows is None else int(rows.select(expression()).item())
                if number:
                    counted[column] = number
        return counts

    def total(self, blocks: Iterable[Counts]) -> Counts:
        """The counts of all blocks, their columns in the order of the program."""
        sums: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        for block in blocks:
            for whole, counted in zip(sums, block, strict=True):
                whole.update(counted)
        unseen, rare = (
            {column: whole[column] for column, *_ in tests if whole[column]}
            for tests, whole in zip((self._unseen, self._rare), sums, strict=True)
        )
        return unseen, rare
