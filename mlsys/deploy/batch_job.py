"""A batch prediction as its tasks see it: what they are given, and what they give back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlsys.deploy.batch_roots import Roots
from mlsys.deploy.batch_runs import BatchRun
from mlsys.deploy.batch_staging import StagedFolder
from mlsys.readers.base import Fragment
from mlsys.recipe import ReadOptions
from mlsys.registry import LedgerEntry


@dataclass(frozen=True)
class BatchJob:
    """Everything that a task needs to know beside its fragments.

    `roots` bound the places that rows may name, such as paths of pictures; None bounds nothing. Rows are explained by
    `explain` columns, if that is not 0.
    """

    root: Path
    output: StagedFolder
    entry: LedgerEntry
    keys: tuple[str, ...]
    options: ReadOptions
    run: BatchRun
    roots: Roots | None = None
    explain: int = 0


@dataclass
class BatchCounts:
    """Counts of predicted and rejected rows.

    Attributes
    ----------
    first_reasons
        The reasons of the first rejected row.
    unseen, rare
        Values that training never saw, or too seldom to keep them apart, by column.
    lookup
        Join → status → rows: matched, missing, too_old, or given by the file.
    """

    num_rows: int = 0
    num_rejected: int = 0
    first_reasons: str = ""
    unseen: dict[str, int] = field(default_factory=dict)
    rare: dict[str, int] = field(default_factory=dict)
    lookup: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def total(cls, counts: Iterable[BatchCounts]) -> BatchCounts:
        """Counts of all rows together."""
        whole = cls()
        for count in counts:
            whole.num_rows += count.num_rows
            whole.num_rejected += count.num_rejected
            whole.first_reasons = whole.first_reasons or count.first_reasons
            whole.unseen = _sums(whole.unseen, count.unseen)
            whole.rare = _sums(whole.rare, count.rare)
            for name, statuses in count.lookup.items():
                whole.lookup[name] = _sums(whole.lookup.get(name, {}), statuses)
        return whole


def _sums(counts: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(counts) + Counter(others))


@dataclass(frozen=True)
class NumberedFragment:
    """A fragment with its place in the order of the rows, and the key of what it holds."""

    number: int
    fragment: Fragment
    key: str


@dataclass(frozen=True)
class FinishedFragment:
    """A fragment whose files are written: their names below the staging folder, and the counts of its rows."""

    number: int
    files: tuple[str, ...]
    counts: BatchCounts

    @classmethod
    def noted(cls, number: int, record: Mapping[str, Any]) -> FinishedFragment:
        """The fragment that an earlier attempt noted."""
        return cls(number, tuple(record["files"]), BatchCounts(**record["counts"]))


@dataclass(frozen=True)
class Share:
    """Bounds of a run and whom it tells: workers at most, and functions that may end it by raising.

    `on_begin` is called with the number of fragments, `on_finished` with each that is finished, `while_waiting` about
    once a second.
    """

    workers: int | None = None
    on_begin: Callable[[int], None] = lambda _: None
    on_finished: Callable[[FinishedFragment], None] = lambda _: None
    while_waiting: Callable[[], None] = lambda: None
