"""Scan the training rows in one pass: each fragment of the files is a task, and their profiles merge.

Everything that a later step needs to know of the training rows is taken in this pass: the statistics of each fold, from
which the features of any choice of folds are fitted and which are the baseline of the monitor; a sample; a hash of each
row; the time and the groups that later parts are compared with. Nothing reads the rows again but the fit of a model.

Before the pass, a sample of rows from everywhere in the training part decides the layout of the pairwise statistics:
which categories have a row of their own, and where the bins of a number lie. Nothing in the report is estimated from
it. It reads at most eight row groups, a batch at a time, and holds at most some ten thousand rows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import cluster, errors, expressions
from mlsys.dataset import Split
from mlsys.limits import rows_per_task
from mlsys.schema import FOLD, ROW, Kind, Role, Schema, Task
from mlsys.statistics import TableStatistics, TrainStatistics, encode_target, univariate
from mlsys.statistics.arrays import UInt64
from mlsys.statistics.hashing import combine, hash_array, hash_rows, mix
from mlsys.statistics.numeric_statistics import Distributions
from mlsys.statistics.pairwise import PairLayout, PairwiseStatistics
from mlsys.statistics.table import encode_columns
from mlsys.statistics.univariate import Strength

MOST_TASKS = 64
"""Tasks at most: the profiles of all are merged in one process, those of the fragments of a task in the task."""

DERIVE = "recipe: features.derive"

SAMPLE_ROWS = 20_000
"""Rows of the sample: an AUC near 0.98 is then known to ±0.002 (Hanley & McNeil 1982)."""

BIN_SAMPLE_ROWS = 65_536
"""Rows of the sample that decides the bins: their quantiles are then known to ± 0.5 % (99 % confidence)."""

MOST_CELLS = 16_000_000
"""Values of that sample at most, 128 MB: of a table of thousands of columns it has fewer rows."""

MOST_GROUPS = 8
"""Row groups that it is read from."""

PAIRWISE_KINDS = frozenset({Kind.NUMERIC, Kind.DATETIME, Kind.CATEGORICAL, Kind.BOOLEAN})
"""Kinds of columns that are compared in pairs."""


@dataclass(frozen=True)
class Profile:
    """Profile of the training rows from one pass; parts merge in the order of the rows.

    Attributes
    ----------
    statistics
        Statistics of each fold.
    sample
        About `SAMPLE_ROWS` rows, or all if there are fewer: features (derived ones too), the
        target and ``ROW``. Images are in it as the hash of their bytes.
    features, records
        Hashes of each row over its stored features, and over these and the target (8 bytes a row each).
    groups
        Distinct hashes of the group column; empty where there is none.
    latest
        Greatest value of the time column; None where there is none.
    pairwise
        Pairs of columns, missing values and time, for the report; None if there was no layout.
    distributions
        Distribution of each number in each class, for the report.
    """

    statistics: TrainStatistics
    sample: pa.Table
    features: UInt64
    records: UInt64
    groups: UInt64
    latest: Any
    pairwise: PairwiseStatistics | None = None
    distributions: Distributions = field(default_factory=lambda: Distributions({}))

    def merge(self, *others: Profile) -> Profile:
        parts = (self, *others)
        times = [part.latest for part in parts if part.latest is not None]
        pairwise = [part.pairwise for part in parts if part.pairwise is not None]
        return Profile(
            self.statistics.merge(*(part.statistics for part in others)),
            pa.concat_tables([part.sample for part in parts]),
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.records for part in parts]),
            np.unique(np.concatenate([part.groups for part in parts])),
            max(times, default=None),
            reduce(PairwiseStatistics.merge, pairwise) if len(pairwise) == len(parts) else None,
            self.distributions.merge(*(part.distributions for part in others)),
        )

    @cached_property
    def whole(self) -> TableStatistics:
        """Statistics of all training rows, merged once."""
        return self.statistics.whole()

    @cached_property
    def strengths(self) -> dict[str, Strength]:
        """Strength of each feature alone as a predictor of the target, measured once, on the sample."""
        return univariate.measure(self.sample, self.whole.schema, self.whole.task)

    @property
    def num_duplicates(self) -> int:
        """Number of rows that repeat an earlier one on all features and the target."""
        return len(self.records) - len(np.unique(self.records))


@dataclass(frozen=True)
class ScanFragment:
    """Row groups of one file that one task reads."""

    path: Path
    row_groups: tuple[int, ...]


def fragments(paths: list[Path]) -> list[ScanFragment]:
    """Divide the files into fragments of similar size, in order.

    The division depends on the rows alone, not on the cluster: sketches remember how their
    input was divided, and a profile must not differ from one machine to the next.
    """
    divided: list[ScanFragment] = []
    for path in paths:
        metadata = pq.read_metadata(path)
        num_rows = enough = rows_per_task(metadata.num_columns)
        for number in range(metadata.num_row_groups):
            if num_rows >= enough:
                divided.append(ScanFragment(path, ()))
                num_rows = 0
            divided[-1] = ScanFragment(path, (*divided[-1].row_groups, number))
            num_rows += metadata.row_group(number).num_rows
    return divided


def profile(
    split: Split,
    task: Task,
    *,
    schema: Schema | None = None,
    derive: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Profile:
    """Scan the training rows once: statistics by fold and of pairs of columns, a sample, a hash of each row.

    Parameters
    ----------
    schema
        The schema with derived features, if there are any; by default that of the split.
    derive
        Derived features as SQL, computed before they are counted.
    """
    schema, derive = schema or split.schema, derive or {}
    pairs, share = layout(split, schema, task, derive), SAMPLE_ROWS / max(split.num_rows.get("train", 0), 1)
    work = [
        _ScanTask(fragment, split.schema, schema, task, tuple(derive.items()), share, pairs)
        for fragment in fragments(split.paths("train"))
    ]
    if not work:
        got = "no rows with a target"
        hint = "look at the split: its fractions or dates may leave no row for training"
        raise errors.TargetError.build("explore: training part", got=got, expected="at least one", hint=hint)
    size = -(-len(work) // MOST_TASKS)
    tasks = [work[start : start + size] for start in range(0, len(work), size)]

    def report(_: Profile, done: int, __: int) -> None:
        progress(f"{min(done * size, len(work))} of {len(work)} fragments scanned")

    return _merged(cluster.map(_scan_all, tasks, on_result=report))


def _scan_all(tasks: list[_ScanTask]) -> Profile:
    return _merged([_scan(task) for task in tasks])


def _merged(parts: list[Profile]) -> Profile:
    return parts[0].merge(*parts[1:]) if len(parts) > 1 else parts[0]


@dataclass(frozen=True)
class _ScanTask:
    """Scan of a fragment; `stored` is the schema of the files, `schema` has the derived features too."""

    fragment: ScanFragment
    stored: Schema
    schema: Schema
    task: Task
    derive: tuple[tuple[str, str], ...]
    share: float
    layout: PairLayout | None


def _scan(work: _ScanTask) -> Profile:
    # 1. Read the columns and encode them
    target = work.task.target
    features = [column.name for column in work.schema.features if column.name != target]
    time, group = work.stored.name_of(Role.TIME), work.stored.name_of(Role.GROUP)
    extra = [name for name in (time, group) if name]
    names = list(dict.fromkeys([*features, target, FOLD, ROW, *extra]))
    coded = [name for name in features if work.schema[name].kind is Kind.CATEGORICAL]
    table = read(work.fragment, names, dict(work.derive), coded)
    columns = encode_columns(table, work.schema, work.task)
    # 2. Hash the rows over the stored features
    row_hashes = combine([columns[name].row_hashes() for name in features if name in work.stored])
    if not len(row_hashes):  # no stored feature
        row_hashes = np.zeros(table.num_rows, np.uint64)
    # 3. Count everything
    y = encode_target(table[target], work.task)
    classes = len(work.task.classes) if work.task.is_classification else None
    return Profile(
        TrainStatistics.of_columns(columns, table, work.schema, work.task),
        light(sampled(table.select([*features, target, ROW]), work.share), work.schema),
        row_hashes,
        combine([row_hashes, columns[target].row_hashes()]),
        np.unique(hash_rows(table, [group])) if group else np.empty(0, np.uint64),
        pc.max(table[time]).as_py() if time else None,
        None if work.layout is None else PairwiseStatistics.of(columns, table, work.layout, y),
        Distributions.of({name: columns[name] for name in features}, y, classes),
    )


def sampled(table: pa.Table, share: float) -> pa.Table:
    """Sample about this share of the rows: those whose number has a small hash, the same on every run."""
    if share >= 1:
        return table
    place = mix(np.asarray(table[ROW]).astype(np.uint64)).astype(np.float64) / 2.0**64
    return table.filter(pa.array(place < share))


def light(table: pa.Table, schema: Schema) -> pa.Table:
    """Replace images by the hash of their bytes, 8 bytes that tell them apart, and decode dictionaries."""
    for position, name in enumerate(table.column_names):
        if name in schema and schema[name].kind is Kind.IMAGE:
            table = table.set_column(position, name, pa.array(hash_array(table[name])))
        elif pa.types.is_dictionary(table.schema.field(position).type):
            table = table.set_column(position, name, table[name].cast(table.schema.field(position).type.value_type))
    return table


def read(fragment: ScanFragment, names: list[str], derive: Mapping[str, str], coded: Sequence[str] = ()) -> pa.Table:
    """Read columns of a fragment and compute derived ones; those in `coded` keep the dictionaries of the file."""
    file = pq.ParquetFile(fragment.path, read_dictionary=[name for name in coded if not derive])
    columns = stored(names, derive)
    table = file.read_row_groups(list(fragment.row_groups), columns=columns, use_threads=pa.cpu_count() > 1)
    return expressions.add(table, derive, DERIVE) if derive else table


def stored(names: list[str], derive: Mapping[str, str]) -> list[str]:
    """Names of the stored columns that these columns are or are derived from."""
    inputs = [name for key, sql in derive.items() for name in expressions.parse(key, sql, DERIVE).inputs]
    return [name for name in dict.fromkeys([*names, *inputs]) if name not in derive]


def layout(split: Split, schema: Schema, task: Task, derive: Mapping[str, str]) -> PairLayout | None:
    """Layout of the pairwise statistics, decided from a sample of rows; None without training rows.

    `schema` may hold derived features; the row's time comes from the split.
    """
    groups = fragments(split.paths("train"))
    if not groups:
        return None
    columns = [column for column in schema if column.role is not Role.TIME]
    known = Schema(columns=(*columns, *(column for column in split.schema if column.role is Role.TIME)))
    names = [column.name for column in known.features if column.kind in PAIRWISE_KINDS]
    return PairLayout.of(bin_sample(groups, [*names, task.target], derive), known, task)


def bin_sample(groups: Sequence[ScanFragment], names: Sequence[str], derive: Mapping[str, str]) -> pa.Table:
    """Sample rows at equal distances from row groups spread evenly over the files; derived columns are computed."""
    single = [ScanFragment(fragment.path, (number,)) for fragment in groups for number in fragment.row_groups]
    chosen = single[:: max(1, -(-len(single) // MOST_GROUPS))]
    most = max(1, min(BIN_SAMPLE_ROWS, MOST_CELLS // len(names)) // len(chosen))
    return pa.concat_tables(cluster.map(_spread_rows, [(group, tuple(names), dict(derive), most) for group in chosen]))


def _spread_rows(work: tuple[ScanFragment, tuple[str, ...], dict[str, str], int]) -> pa.Table:
    """Rows from the whole group: they are often in the order of their time, and the first are its beginning."""
    group, names, derive, most = work
    file, columns = pq.ParquetFile(group.path), stored(list(names), derive)
    step = max(1, -(-file.metadata.row_group(group.row_groups[0]).num_rows // most))
    batches, start = [], 0
    for batch in file.iter_batches(max(1, MOST_CELLS // len(names)), list(group.row_groups), columns):
        batches.append(batch.take(np.arange(-start % step, batch.num_rows, step)))
        start += batch.num_rows
    table = pa.Table.from_batches(batches)
    return expressions.add(table, derive, DERIVE) if derive else table
