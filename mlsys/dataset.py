"""Snapshots and splits: the collected rows, and their division into parts and folds.

A part which a step may not see is not merely filtered out: it is a folder of its own, to which
the step holds no path. Training rows carry the number of their fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import errors
from mlsys.schema import FOLD, Schema
from mlsys.store import MANIFEST, Store, read_json

PARTS = ("train", "validation", "test", "production", "unlabelled")
"""Parts of a split. `production` comes after the test rows in time and stands for traffic;
`unlabelled` holds the rows without a target, which are counted and never trained on."""


@dataclass(frozen=True)
class Snapshot:
    """Checked rows at rest: ``objects/snapshot/<digest>/data/part-*.parquet``."""

    digest: str
    folder: Path
    schema: Schema
    num_rows: int

    @classmethod
    def open(cls, store: Store, digest: str) -> Snapshot:
        facts = store.facts("snapshot", digest)
        return cls(digest, store.path("snapshot", digest), Schema.model_validate(facts["schema"]), facts["num_rows"])

    @property
    def paths(self) -> list[Path]:
        return sorted((self.folder / "data").glob("part-*.parquet"))

    def table(self, columns: Sequence[str] | None = None, *, first: int = 0) -> pa.Table:
        """Read all rows, or those from file number `first` on, for work that was planned as one task."""
        return read_parquet(self.paths[first:], columns, self.schema.arrow())

    def digests(self) -> list[str]:
        """SHA-256 of each file of `paths`, as they were when they were stored."""
        stored = {entry["name"]: entry["sha256"] for entry in read_json(self.folder / MANIFEST)["files"]}
        return [stored[f"data/{path.name}"] for path in self.paths]


@dataclass(frozen=True)
class Split:
    """A stored division of a snapshot's rows: ``objects/split/<digest>/<part>/part-*.parquet``.

    `num_rows` are the rows of each part, `parts` those that may be read through this object. With `forward`, folds
    are numbered in order of time, and fold k is validated on a model of folds 0 … k - 1, not of all others.
    `rare_classes` are the rows of classes that cannot be learned, which are in the part ``unlabelled``, and `repeats`
    says which rows equal others (see `mlsys.collect.equal_rows.Repeats`); None if none do. `num_untimed`
    rows have a target and no time, by which this split divides, and are in the part ``unlabelled``.

    With a `horizon`, rows are forecast that far ahead, and folds have even numbers in order of time. The rows before a
    fold of which it was not known yet, a horizon before its first row, what they are, are a fold of their own, the one
    with the odd number below: later folds are fitted on it, that fold is not. `gaps` are those that have rows.
    `num_history` are the rows of the first horizon, before which nothing was known, and `num_embargoed` those between
    two parts; they are in the part ``unlabelled``, too.
    """

    digest: str
    folder: Path
    schema: Schema
    num_rows: dict[str, int]
    num_folds: int
    forward: bool
    parts: frozenset[str] = frozenset(PARTS)
    rare_classes: tuple[tuple[bool | int | str, int], ...] = ()
    repeats: dict[str, Any] | None = None
    num_untimed: int = 0
    horizon: str | None = None
    gaps: tuple[int, ...] = ()
    num_history: int = 0
    num_embargoed: int = 0

    @classmethod
    def open(cls, store: Store, digest: str) -> Split:
        facts = store.facts("split", digest)
        schema = Schema.model_validate(facts["schema"])
        folds = facts["num_folds"], facts["forward"]
        rare = tuple((label, rows) for label, rows in facts.get("rare_classes", ()))
        return cls(
            digest, store.path("split", digest), schema, facts["num_rows"], *folds, frozenset(PARTS), rare,
            facts.get("repeats"), facts.get("num_untimed", 0), facts.get("horizon"), tuple(facts.get("gaps", ())),
            facts.get("num_history", 0), facts.get("num_embargoed", 0),
        )  # fmt: skip

    def only(self, *parts: str) -> Split:
        """The same split with no way to the other parts."""
        num_rows = {part: rows for part, rows in self.num_rows.items() if part in parts}
        return replace(self, parts=self.parts & frozenset(parts), num_rows=num_rows)

    def paths(self, part: str) -> list[Path]:
        """Parquet files of a part.

        Raises
        ------
        SealedError
            The part may not be read here.
        """
        if part not in self.parts:
            raise errors.SealedError.part(part, self.parts)
        return sorted((self.folder / part).glob("part-*.parquet"))

    def table(self, part: str, columns: Sequence[str] | None = None, folds: Iterable[int] | None = None) -> pa.Table:
        """Read the rows of a part, of some folds only if `folds` is given (training part)."""
        if folds is None:
            return read_parquet(self.paths(part), columns, None)
        with_fold = None if columns is None else list(dict.fromkeys([*columns, FOLD]))
        table = read_parquet(self.paths(part), with_fold, None)
        rows = table.filter(pc.is_in(table[FOLD], pa.array(sorted(set(folds)), pa.int8())))
        return rows if columns is None or FOLD in columns else rows.drop_columns([FOLD])

    def rounds(self) -> list[tuple[tuple[int, ...], int]]:
        """Cross-validation rounds as (folds to fit on, fold to judge on)."""
        if self.horizon is not None:
            judges = range(2, 2 * self.num_folds, 2)
            return [(tuple(f for f in range(k - 1) if f % 2 == 0 or f in self.gaps), k) for k in judges]
        if self.forward:
            return [(tuple(range(k)), k) for k in range(1, self.num_folds)]
        return [(tuple(f for f in range(self.num_folds) if f != k), k) for k in range(self.num_folds)]

    def fold_words(self, fold: int) -> str:
        """The place of a fold among those that are judged, as ``fold 2/5``."""
        return f"fold {(fold if self.horizon is None else fold // 2) + 1}/{self.num_folds}"


def read_parquet(paths: Sequence[Path], columns: Sequence[str] | None, schema: pa.Schema | None) -> pa.Table:
    """Read files of one schema as one table, in order."""
    if not paths:
        if schema is None:
            raise errors.StoreError.build("dataset: no files", got="an empty part", expected="at least one row")
        empty = schema.empty_table()
        return empty if columns is None else empty.select(list(columns))
    names = None if columns is None else list(dict.fromkeys(columns))
    return pa.concat_tables([pq.read_table(path, columns=names) for path in paths])
