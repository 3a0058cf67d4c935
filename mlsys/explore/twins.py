"""Rows that stand in two parts: equal on every feature.

A copied row lets the model recite an answer that it was shown. But rows may also be equal
by chance, in a table of few and coarse columns. They are told apart by how surprising a
twin is: if the columns were independent, a row whose values have the shares p1 … pk among
n other training rows would find n p1 … pk of them equal to it. A twin where that number is
below `SURPRISE` counts as a copy. Columns do depend on each other, so the number is too
low; the bound leaves room for it.

The share of a value that no other row has is not zero. It is taken from the rows whose
value at most one other has: the fraction of them that have one, spread over all rows, as
in Good (1953), "The population frequencies of species", Biometrika 40, section 2,
doi:10.1093/biomet/40.3-4.237.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys import cluster
from mlsys.dataset import Split
from mlsys.explore.scan import Piece, Profile, light, pieces, read
from mlsys.reports.formats import percent
from mlsys.schema import Schema
from mlsys.statistics.hashing import combine, hash_array

__all__ = ["SURPRISE", "Overlap", "overlaps", "row_hashes"]

UInt64 = npt.NDArray[np.uint64]

SURPRISE = 0.01
"""Training rows that may be expected to equal a row by chance, for its twin to count as a copy."""

MAX_JUDGED = 2_000
"""Twins judged one by one; of more, the share of copies is that of these."""


@dataclass(frozen=True)
class Overlap:
    """Rows of a part that are equal to a training row on all features.

    Attributes
    ----------
    twins
        How many there are.
    copies
        How many of them chance does not explain.
    """

    part: str
    num_rows: int
    twins: int
    copies: int

    def said(self, num_features: int) -> str:
        """One sentence of it."""
        where = "the only feature" if num_features == 1 else f"all {num_features} features"
        chance = self.twins - self.copies
        if not self.copies:
            by_chance = "no more than chance gives: training rows equal one another, too"
            return f"{self._of(chance)} equal a training row on {where}; {by_chance}"
        more = f"; {chance:,} more are equal, as may happen by chance" if chance else ""
        return f"{self._of(self.copies)} are copies of training rows on {where}{more}"

    def _of(self, rows: int) -> str:
        return f"{rows:,} of {self.num_rows:,} {self.part} rows ({percent(rows / self.num_rows)})"


def overlaps(split: Split, names: Sequence[str], parts: Sequence[str], profile: Profile) -> list[Overlap]:
    """Twins of the training rows, which `profile` has seen, in other parts.

    Row hashes are compared in this process: 8 bytes a row.
    """
    train = np.unique(profile.features)
    found = []
    for part in parts:
        keys = row_hashes(split, part, names)
        twins = keys[np.isin(keys, train)]
        judged = np.unique(twins)[:MAX_JUDGED]
        copies = 0
        if len(judged):
            rows = _rows_with(split, part, names, judged)
            surprising = _expected(profile.sample, rows, split.num_rows["train"], names) < SURPRISE
            copies = round(len(twins) * float(surprising.mean()))
        found.append(Overlap(part, len(keys), len(twins), copies))
    return found


def row_hashes(split: Split, part: str, names: Sequence[str]) -> UInt64:
    """A hash of each row over the named columns, in the order of the rows."""
    work = [(piece, tuple(names)) for piece in pieces(split.paths(part))]
    return np.concatenate([np.empty(0, np.uint64), *cluster.map(_row_hashes, work)])


def _row_hashes(work: tuple[Piece, tuple[str, ...]]) -> UInt64:
    table = read(work[0], list(work[1]), {})
    return combine([hash_array(table[name]) for name in work[1]])


def _rows_with(split: Split, part: str, names: Sequence[str], keys: UInt64) -> pa.Table:
    work = [(piece, tuple(names), keys, split.schema) for piece in pieces(split.paths(part))]
    return pa.concat_tables(cluster.map(_pick, work))


def _pick(work: tuple[Piece, tuple[str, ...], UInt64, Schema]) -> pa.Table:
    piece, names, keys, schema = work
    table = read(piece, list(names), {})
    return light(table.filter(pa.array(np.isin(combine([hash_array(table[name]) for name in names]), keys))), schema)


def _expected(sample: pa.Table, rows: pa.Table, num_train: int, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Training rows that equal each row by chance, if the columns were independent."""
    expected = np.full(rows.num_rows, float(num_train))
    for name in names:
        values, counts = np.unique(hash_array(sample[name]), return_counts=True)
        wanted = hash_array(rows[name])
        at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
        others = np.where(values[at] == wanted, counts[at] - 1, 0)
        alone, paired = int((counts == 1).sum()), 2 * int((counts == 2).sum())
        rare = (paired + 1) / (alone + paired + 1)
        expected *= np.where(others > 0, others, rare) / sample.num_rows
    return expected
