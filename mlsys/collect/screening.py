"""Screen the collected rows for columns that no model should get: known only with the answer, or personal.

Three kinds are certain enough to be left out without a word in the recipe, and are told with the line that keeps them:

copy
    Each value of the column stands for one class and each class for one value, or, where the target is a number, both
    are equal, in all rows with a label. A column that merely predicts the target well is not certain; it is kept, and
    the leakage scan of explore tells it.
filled after
    The column is null in at most `FILLED` of the rows with a label and in at least `UNFILLED` of those without: it is
    written when the answer is known (Kaufman et al. 2012, section 3). Where that holds for most columns, the rows
    without a label are broken and no column is to blame.
personal
    Addresses, numbers and names of people, as `mlsys.personal_data` recognises them in some thousand values.

References
----------
Kaufman, Rosset, Perlich & Stitelman (2012), "Leakage in data mining: formulation, detection, and avoidance", ACM TKDD
6(4), doi:10.1145/2382577.2382579.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import cluster, personal_data
from mlsys.dataset import Snapshot
from mlsys.reports.formats import percent
from mlsys.schema import Kind, Role, Task

FILLED, UNFILLED = 0.05, 0.5
MIN_ROWS, MIN_CLASS_ROWS = 30, 10
"""Rows with and without a label, and rows of two classes, below which agreement may be chance."""

MAX_SENTENCES, NUM_NAMED = 10, 2
"""Columns that know the answer that have a sentence each, and those of more that are described in the one for all."""

HEAD_ROWS = 2_000
"""Rows in which nearly every column differs from the target; the others are read to the end."""

COMPARED = frozenset(Kind) - {Kind.IMAGE, Kind.BYTES, Kind.LIST}


PERSONAL_ROWS, PERSONAL_GROUPS = 20_000, 8
"""Rows that are looked at for personal data, and row groups that they are taken from, spread over the table."""

LOGGED = (
    "as data.id it stands in clear in the prediction log and in what mlsys predict writes; take a number that means "
    "nothing elsewhere as data.id, or no data.id and data.ignore: [{name}], and labels name the prediction_id of an "
    "answer; deploy.log: false logs nothing, data.allow_personal: [{name}] ends this message"
)
"""The repair for a column of personal data that is ``data.id``."""


@dataclass(frozen=True)
class Screened:
    """A column that the screening names: its role if it is no feature after all, else None, and why.

    `action` is what is done and the line of the recipe that does otherwise.
    """

    kind: str
    role: Role | None
    detail: str
    action: str


def screen(snapshot: Snapshot, task: Task, named: Collection[str] = ()) -> dict[str, Screened]:
    """Screen the features of a snapshot; columns in `named` are the recipe's own choice and stay what they are.

    A column ``data.id`` that is personal stays what it is and is told, because it is logged with each prediction.
    """
    names = [column.name for column in snapshot.schema.features if column.name not in {*named, task.target}]
    ids = [column.name for column in snapshot.schema.with_role(Role.ID) if column.name not in named]
    return cluster.call(_screen, snapshot, task, names, ids, threads=1) if names or ids else {}


def messages(screened: Mapping[str, Screened]) -> list[str]:
    """Sentences about columns that are left out, and about one that is logged; one for many that know the answer."""
    left_out = {name: each for name, each in screened.items() if each.role is not None}
    after = {name: each.detail for name, each in left_out.items() if each.kind == "known_after"}
    if len(after) <= MAX_SENTENCES:
        return [f"column '{name}' {each.detail}: {each.action}" for name, each in left_out.items()]
    first = "; ".join(f"'{name}' {detail}" for name, detail in list(after.items())[:NUM_NAMED])
    together = (
        f"{len(after):,} columns are known only with the answer ({first}; and {len(after) - NUM_NAMED:,} more): "
        f"taken as data.known_after; explore.allow: [{', '.join(after)}] keeps them"
    )
    others = [f"column '{name}' {each.detail}: {each.action}" for name, each in left_out.items() if name not in after]
    return [*others, together]


def _screen(snapshot: Snapshot, task: Task, names: Sequence[str], ids: Sequence[str]) -> dict[str, Screened]:
    compared = [name for name in names if snapshot.schema[name].kind in COMPARED]
    reasons = {**_filled_after(snapshot, task.target, names), **_copies(snapshot, task, compared)}
    known_after = {
        name: Screened(
            "known_after", Role.AFTER, reason, f"taken as data.known_after; explore.allow: [{name}] keeps it"
        )
        for name, reason in reasons.items()
    }
    return {**_personal(snapshot, compared, ids), **known_after}


def _personal(snapshot: Snapshot, names: Sequence[str], ids: Sequence[str]) -> dict[str, Screened]:
    rows = _spread_rows(snapshot, [*names, *ids])
    personal: dict[str, Screened] = {}
    for name in (*names, *ids):
        kind = personal_data.detect(name, rows[name])
        if kind is None:
            continue
        role: Role | None = Role.IGNORE
        action = f"not used as a feature; data.allow_personal: [{name}] uses it"
        if name in ids:
            role, action = Role.ID, LOGGED.format(name=name)
        elif kind.is_feature:
            role, action = None, "kept as a feature; data.ignore leaves it out"
        personal[name] = Screened("personal_data", role, f"holds {kind.detail}", action)
    return personal


def _spread_rows(snapshot: Snapshot, names: Sequence[str]) -> pa.Table:
    """Rows at equal distances from row groups that are spread over the files, which are read one after the other."""
    groups = [(path, group) for path in snapshot.paths for group in range(pq.read_metadata(path).num_row_groups)]
    chosen = groups[:: max(1, -(-len(groups) // PERSONAL_GROUPS))]
    most = max(1, PERSONAL_ROWS // len(chosen))
    tables = (pq.ParquetFile(path).read_row_group(group, columns=list(names)) for path, group in chosen)
    return pa.concat_tables(t.take(np.arange(0, t.num_rows, max(1, t.num_rows // most))) for t in tables)


def _filled_after(snapshot: Snapshot, target: str, names: Sequence[str]) -> dict[str, str]:
    nulls = _num_nulls(snapshot)
    unlabelled = nulls[target]
    labelled = snapshot.num_rows - unlabelled
    if unlabelled < MIN_ROWS or not labelled:
        return {}
    candidates = [name for name in names if nulls[name] >= UNFILLED * unlabelled]
    without = Counter[str]()
    for frame in _frames(snapshot, candidates, target):
        rows = frame.filter(pl.col(target).is_null())
        without.update({name: rows[name].null_count() for name in candidates})
    empty = {name: without[name] / unlabelled for name in candidates}
    filled = {name: (nulls[name] - without[name]) / labelled for name in candidates}
    suspects = [name for name in candidates if empty[name] >= UNFILLED and filled[name] <= FILLED]
    if 2 * len(suspects) > len(names):
        return {}
    return {
        name: f"is null in {percent(empty[name])} of the rows without a label,"
        f" {percent(filled[name])} of those with one"
        for name in suspects
    }


def _num_nulls(snapshot: Snapshot) -> Counter[str]:
    """Nulls by column, as the files themselves state them."""
    nulls = Counter[str]()
    for path in snapshot.paths:
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            columns = (metadata.row_group(group).column(number) for number in range(metadata.num_columns))
            nulls.update({
                each.path_in_schema: each.statistics.null_count for each in columns if each.statistics is not None
            })  # fmt: skip
    return nulls


@dataclass
class _Agreement:
    """Agreement of a column with the target in the rows so far; `broken` once a row contradicts it."""

    num_classes: int
    pairs: set[tuple[Any, Any]] = field(default_factory=set)
    broken: bool = False

    def add(self, values: pl.Series, answers: pl.Series) -> None:
        """Add rows with a label: one value for each class and one class for each value, or equal numbers."""
        if not self.num_classes:
            self.broken |= not bool((values.cast(pl.Float64) == answers.cast(pl.Float64)).fill_null(value=False).all())
            return
        plain = values.fill_nan(None) if values.dtype.is_float() else values
        self.pairs |= set(pl.DataFrame([plain.alias("value"), answers.alias("answer")]).unique().rows())
        sides = (len({value for value, _ in self.pairs}), len({answer for _, answer in self.pairs}))
        self.broken |= sides != (len(self.pairs), len(self.pairs)) or len(self.pairs) > self.num_classes


def _copies(snapshot: Snapshot, task: Task, names: Sequence[str]) -> dict[str, str]:
    numbers = {column.name for column in snapshot.schema if column.kind is Kind.NUMERIC}
    compared = [name for name in names if task.is_classification or name in numbers]
    return copies(_frames(snapshot, compared, task.target), task, compared)


def copies(frames: Iterable[pl.DataFrame], task: Task, names: Sequence[str]) -> dict[str, str]:
    """Columns that say the same as the target in all rows, with the words that say so; numbers where that is one."""
    alike = {name: _Agreement(len(task.classes)) for name in names}
    answers = Counter[Any]()
    for rows in frames:
        labelled = rows.filter(pl.col(task.target).is_not_null())
        answers.update(_counts(labelled[task.target], task))
        for name in list(alike):
            if not _agrees(alike[name], labelled, name, task.target):
                del alike[name]
        if not alike:
            return {}
    enough = MIN_CLASS_ROWS if task.is_classification else 1
    if answers.total() < MIN_ROWS or sum(count >= enough for count in answers.values()) < 2:
        return {}
    what = "names the classes of" if task.is_classification else "equals"
    return dict.fromkeys(alike, f"{what} the target '{task.target}' in all {answers.total():,} rows with a label")


def _counts(answers: pl.Series, task: Task) -> dict[Any, int]:
    """Rows by class; of a number, rows that equal the first one and the others."""
    values = answers if task.is_classification else answers == answers.first()
    return dict(values.alias("value").value_counts().iter_rows())


def _agrees(agreement: _Agreement, rows: pl.DataFrame, name: str, target: str) -> bool:
    for part in (rows.head(HEAD_ROWS), rows):
        if not agreement.broken:
            agreement.add(part[name], part[target])
    return not agreement.broken


def _frames(snapshot: Snapshot, names: Sequence[str], target: str) -> Iterator[pl.DataFrame]:
    for path in snapshot.paths if names else ():
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            yield _polars(file.read_row_group(group, columns=[*names, target]))


def _polars(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))
