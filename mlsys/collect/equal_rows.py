"""Find rows that are equal on all features: one group wherever chance divides, for a model could recite the twin.

Rows are told apart by a 64-bit hash over their stored features, as in the leakage scan; target, id, time and columns
that are no features are left out. Among a billion different rows two share a hash with a chance of 3 %.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mlsys.dataset import Snapshot
from mlsys.limits import rows_per_task
from mlsys.reports.formats import percent
from mlsys.schema import Kind, Role, Schema
from mlsys.statistics.arrays import UInt64
from mlsys.statistics.hashing import combine, hash_exactly, hash_rows

Groups = NDArray[np.int64]

MIN_GROUPS = 10
"""Different rows for each part or fold from which equal ones can stay together: below, the table is too coarse."""

COPIED = 0.5
"""Fraction of rows that repeat an earlier one on features and target, from which a table looks copied."""

SAME_TARGET = 1.05
"""Different rows of features and target for each different row of features, up to which equal rows look copied."""

LARGEST = 0.5
"""Fraction of the smallest part up to which groups of the recipe may grow together by rows that they share."""


@dataclass(frozen=True)
class RowHashes:
    """Hashes of the labelled rows over their features, over these and the target, and over ids and times as well."""

    features: UInt64
    records: UInt64
    copies: UInt64

    @cached_property
    def groups(self) -> Groups:
        """The group of each row, 0 … number of different rows - 1; rows that are equal on all features share one."""
        return np.unique(self.features, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class Repeats:
    """Rows with a label that are equal to an earlier one.

    Attributes
    ----------
    num_equal, num_records, num_copies
        Rows that repeat one on all features; on the target, too; on id and time besides.
    num_different
        Different rows of features.
    times
        How often each row of features and target is there, if all are equally often; else None.
    num_parted
        How many different rows stand in several parts or folds all the same; None where time or a column divides.
    has_names
        Whether there is an id or a time, which tells a copy from another row of the same values.
    """

    num_rows: int
    num_equal: int
    num_records: int
    num_copies: int
    num_different: int
    times: int | None
    num_parted: int | None
    has_names: bool

    @property
    def have_same_target(self) -> bool:
        """Tell whether nearly all equal rows have the same target, as copies have."""
        return self.num_rows - self.num_records <= SAME_TARGET * self.num_different

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def hashes(snapshot: Snapshot, schema: Schema, target: str, labelled: NDArray[np.int64]) -> RowHashes | None:
    """Hash the rows of a snapshot at these places by the features of `schema`; None where there is none."""
    features = [column.name for column in schema.features if column.name != target]
    names = [column.name for role in (Role.ID, Role.TIME) for column in schema.with_role(role)]
    if not features:
        return None
    texts = [column.name for column in schema if column.kind is Kind.CATEGORICAL and column.type == "string"]
    parts: list[list[UInt64]] = [[], [], []]
    for path in snapshot.paths:
        file = pq.ParquetFile(path, read_dictionary=texts)
        for batch in file.iter_batches(rows_per_task(len(schema)), columns=[*features, target, *names]):
            of_features = hash_rows(batch, features)
            of_records = combine([of_features, hash_exactly(batch[target])])
            of_copies = combine([of_records, *(hash_exactly(batch[name]) for name in names)])
            for part, values in zip(parts, (of_features, of_records, of_copies), strict=True):
                part.append(values)
    return RowHashes(*(np.concatenate(part)[labelled] for part in parts))


def counted(rows: RowHashes, *, num_parted: int | None, has_names: bool) -> Repeats:
    """Count the rows that are equal to an earlier one; there is one at least."""
    number, num_different = len(rows.features), int(rows.groups.max()) + 1
    times = np.unique(rows.records, return_counts=True)[1]
    return Repeats(
        num_rows=number,
        num_equal=number - num_different,
        num_records=number - len(times),
        num_copies=number - len(np.unique(rows.copies)),
        num_different=num_different,
        times=int(times[0]) if times.min() == times.max() else None,
        num_parted=num_parted,
        has_names=has_names,
    )


def num_parted(groups: Groups, parts: NDArray[np.int8], folds: NDArray[np.int8]) -> int:
    """Number of different rows that stand in several parts or folds."""
    places = parts.astype(np.int64) << 8 | folds.view(np.uint8)
    lowest, highest = np.full(int(groups.max()) + 1, np.iinfo(np.int64).max), np.full(int(groups.max()) + 1, -1)
    np.minimum.at(lowest, groups, places)
    np.maximum.at(highest, groups, places)
    return int((lowest < highest).sum())


def sentences(repeats: Repeats) -> list[str]:
    """Say how many rows repeat, what that means for parts and folds, and whether the table looks copied."""
    number, equal = repeats.num_rows, repeats.num_equal
    text = f"{equal:,} of {number:,} rows ({percent(equal / number)}) repeat an earlier one on all features"
    if repeats.num_parted is None:
        text += "; they stand where time or a column puts them: the leakage scan counts those in two parts"
    elif repeats.num_parted:
        text += f"; {repeats.num_parted:,} of {repeats.num_different:,} different ones are in several parts or folds,"
        text += " for there are too few to divide them, or groups would become one"
    else:
        text += ": equal rows share part and fold"
    lines = [text]
    if repeats.times and repeats.times > 1:
        lines.append(f"every row is there {repeats.times} times: the table looks copied; its copies teach nothing more")
    elif repeats.has_names and repeats.num_copies:
        text = f"{repeats.num_copies:,} rows are copies of an earlier one, id and time included: the source holds rows"
        lines.append(f"{text} twice; data.dedupe: {{keys: […]}} keeps one of each")
    elif repeats.num_records >= COPIED * number and repeats.have_same_target:
        share = percent(repeats.num_records / number)
        lines.append(f"{share} of the rows repeat an earlier one, target included: the table looks copied in part")
    return lines


def divisible(groups: Groups, num_bins: int) -> Groups | None:
    """The groups of equal rows; None where no row repeats, or too few are different to divide them."""
    num_different = int(np.count_nonzero(np.bincount(groups)))
    return None if num_different == len(groups) or num_different < MIN_GROUPS * num_bins else groups


def together(groups: Groups, of_rows: Groups, smallest_share: float) -> Groups:
    """Groups of the recipe, those that have equal rows made one; as they are where one would become too large."""
    _, of_groups = np.unique(groups, return_inverse=True)
    num_groups, size = int(of_groups.max()) + 1, int(of_groups.max()) + int(of_rows.max()) + 2
    edges = coo_array((np.ones(len(groups), np.int8), (of_groups, num_groups + of_rows)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    merged = component[of_groups].astype(np.int64)
    largest = int(np.bincount(merged).max())
    limit = max(LARGEST * smallest_share * len(groups), int(np.bincount(of_groups).max()))
    return merged if largest <= limit else groups
