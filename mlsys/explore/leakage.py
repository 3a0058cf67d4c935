"""Scan for leakage: rows in two parts, columns that know the answer, parts in the wrong order of time.

==============  ==========================================================  ===============
finding         what it says                                                what follows
==============  ==========================================================  ===============
``twins``       rows of a part are copies of training rows                  over a stated one
                                                                            the run stops
``identical``   a column equals the target in every row                     suspected
``proxy``       a column alone predicts the target almost perfectly         suspected above
                                                                            a bound
``group``       a group of rows that belong together stands in two parts    the run stops
``time``        training rows are later than rows that are to be predicted  the run stops
==============  ==========================================================  ===============

A suspicion about a column is ours and may be wrong, so it stops nothing: the run goes on with the column, and says so
here, at the gate and in the report. With ``explore.suspects: stop`` the recipe asks for a stop. A column under
``explore.allow`` has been checked and is no longer suspected. Columns that are certain to be known only with the answer
never come here: `mlsys.collect.screening` takes them out before the rows are divided.

A copied row lets the model recite an answer that it was shown. But rows may also be equal by chance, in a table of
few and coarse columns. Chance is judged as if the columns were independent: a row whose values have the shares p1 …
pk among n other training rows then has n p1 … pk duplicates to expect. A duplicate where that number is below
`SURPRISE` counts as a copy. Columns do depend on each other, so the number is too low; the bound leaves room for it.
The share of a value that no other row has is not zero. It is taken from the rows whose value at most one other has:
the fraction of them that have one, spread over all rows (Good 1953).

References
----------
Kaufman, Rosset, Perlich & Stitelman (2012), "Leakage in data mining: formulation, detection, and avoidance", ACM TKDD
6(4), doi:10.1145/2382577.2382579: a legitimate feature is one that is observable before the target.
Good (1953), "The population frequencies of species and the estimation of population parameters", Biometrika 40,
section 2, doi:10.1093/biomet/40.3-4.237.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import cluster, errors
from mlsys.dataset import Split
from mlsys.explore.scan import Profile, ScanFragment, fragments, light, read
from mlsys.reports.formats import percent
from mlsys.schema import Role, Schema, Task
from mlsys.statistics import univariate
from mlsys.statistics.arrays import Floats, UInt64
from mlsys.statistics.hashing import hash_array, hash_rows
from mlsys.statistics.ranking import Z_95_LOWER, wilson_interval

T = TypeVar("T")

SURPRISE = 0.01
"""Expected number of training rows that equal a row by chance, below which a duplicate counts as a copy."""

MAX_JUDGED = 2_000
"""Duplicates judged one by one; of more, the share of copies is that of these."""

SUSPICIOUS = {"auc": 0.98, "r2": 0.98}
NOTABLE = {"auc": 0.95, "r2": 0.9}
"""Strength of a single column: it is reported where the estimate is above the second, and suspected
where the lower end of its 95 % interval is above the first. The strongest honest columns of
well-known tables stay below: 0.976 ± 0.013 in scikit-learn's breast cancer, 0.986 ± 0.025 in iris."""

ALLOWED = "; allowed by the recipe"

LATER = ("validation", "test", "production")


@dataclass(frozen=True)
class Overlap:
    """Rows of a part that are equal to a training row on all features.

    `copies` are those of the `duplicates` that chance does not explain.
    """

    part: str
    num_rows: int
    duplicates: int
    copies: int

    def sentence(self, num_features: int) -> str:
        """Sentence for the report."""
        where = "the only feature" if num_features == 1 else f"all {num_features} features"
        chance = self.duplicates - self.copies
        if not self.copies:
            by_chance = "no more than expected by chance: training rows equal one another, too"
            return f"{self._of(chance)} equal a training row on {where}; {by_chance}"
        more = f"; {chance:,} more are equal, as may happen by chance" if chance else ""
        return f"{self._of(self.copies)} are copies of training rows on {where}{more}"

    def _of(self, rows: int) -> str:
        return f"{rows:,} of {self.num_rows:,} {self.part} rows ({percent(rows / self.num_rows)})"


def overlaps(split: Split, names: Sequence[str], parts: Sequence[str], profile: Profile) -> list[Overlap]:
    """Find the rows of other parts that are duplicates of training rows, whose hashes `profile` holds.

    Row hashes are compared in this process: 8 bytes a row.
    """
    train = np.unique(profile.features)
    counted = []
    for part in parts:
        keys = row_hashes(split, part, names)
        duplicates = keys[np.isin(keys, train)]
        judged = np.unique(duplicates)[:MAX_JUDGED]
        copies = 0
        if len(judged):
            rows = pa.concat_tables(_each(_matching_rows, split, part, names, judged, split.schema))
            surprising = _expected(profile.sample, rows, split.num_rows["train"], names) < SURPRISE
            copies = round(len(duplicates) * float(surprising.mean()))
        counted.append(Overlap(part, len(keys), len(duplicates), copies))
    return counted


def _each(function: Callable[..., T], split: Split, part: str, names: Sequence[str], *more: object) -> list[T]:
    """Results of a function for each fragment of a part, which takes it with the names of columns and `more`."""
    return cluster.map(function, [(fragment, list(names), *more) for fragment in fragments(split.paths(part))])


def row_hashes(split: Split, part: str, names: Sequence[str]) -> UInt64:
    """Hash each row over the named columns, in the order of the rows."""
    return np.concatenate([np.empty(0, np.uint64), *_each(_row_hashes, split, part, names)])


def _row_hashes(work: tuple[ScanFragment, list[str]]) -> UInt64:
    return hash_rows(read(*work, {}), work[1])


def _matching_rows(work: tuple[ScanFragment, list[str], UInt64, Schema]) -> pa.Table:
    fragment, names, keys, schema = work
    table = read(fragment, names, {})
    return light(table.filter(pa.array(np.isin(hash_rows(table, names), keys))), schema)


def _expected(sample: pa.Table, rows: pa.Table, num_train: int, names: Sequence[str]) -> Floats:
    """Expected number of training rows that equal each row by chance, were the columns independent."""
    expected = np.full(rows.num_rows, float(num_train))
    for name in names:
        values, counts = np.unique(hash_array(sample[name]), return_counts=True)
        hashes = hash_array(rows[name])
        place = np.minimum(np.searchsorted(values, hashes), len(values) - 1)
        others = np.where(values[place] == hashes, counts[place] - 1, 0)
        alone, paired = int((counts == 1).sum()), 2 * int((counts == 2).sum())
        rare = (paired + 1) / (alone + paired + 1)
        expected *= np.where(others > 0, others, rare) / sample.num_rows
    return expected


@dataclass(frozen=True)
class Finding:
    """Finding of the scan: something that leaks, or may.

    Attributes
    ----------
    evidence
        Measured fraction of copies, AUC or R², fraction of nulls, of groups, of rows.
    blocking
        True if the run stops unless the recipe allows the fraction or the column.
    suspected
        True for a column that very likely knows the answer; the run goes on, and its gate repeats it.
    """

    kind: str
    column: str | None
    detail: str
    evidence: float
    blocking: bool
    suspected: bool = False

    @property
    def sentence(self) -> str:
        """Sentence for the console about a suspected column: what was found, what is done, and what to do."""
        return (
            f"{self.detail}: it may be known only with the answer. It is kept; data.known_after: [{self.column}] leaves"
            f" it out, explore.allow: [{self.column}] says that it is known in time"
        )


def scan(
    split: Split,
    task: Task,
    profile: Profile,
    allow: Iterable[str] = (),
    max_duplicate_fraction: float | None = None,
    suspects: str = "warn",
) -> list[Finding]:
    """Scan for leakage; blocking findings come first, then suspected columns, which block if `suspects` is ``stop``.

    The training rows are not read again: `profile` is their scan. Of the rows of later parts only features, groups
    and times are read, never the target. Parts that `split` does not open are left out.
    """
    findings = [
        *_duplicates(split, task, profile, max_duplicate_fraction),
        *_identical(profile.sample, split, task),
        *_proxies(profile, split),
        *_groups(split, profile),
        *_times(split, profile),
    ]
    allowed = set(allow)
    known = {finding.column for finding in findings if finding.kind == "identical"}
    shown = [f for f in findings if f.kind != "proxy" or f.column not in known]
    for place, finding in enumerate(shown):
        if finding.column in allowed:
            detail = finding.detail + ALLOWED
            shown[place] = replace(finding, detail=detail, blocking=False, suspected=False)
        elif finding.suspected and suspects == "stop":
            shown[place] = replace(finding, blocking=True)
    return sorted(shown, key=lambda finding: (not finding.blocking, not finding.suspected, -finding.evidence))


def warnings(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Sentences for the console and the gate: one for each suspect, and one for the other strong columns together."""
    listed = list(findings)
    suspects = [finding.sentence for finding in listed if finding.suspected]
    strong = [f for f in listed if f.kind == "proxy" and not f.suspected and not f.detail.endswith(ALLOWED)]
    if strong:
        others = f", others nearly so ({', '.join(str(f.column) for f in strong[1:6])})" if len(strong) > 1 else ""
        suspects.append(f"{strong[0].detail}{others}: check that this is known when the prediction is made")
    return tuple(suspects)


def enforce(findings: Iterable[Finding]) -> None:
    """Raise a `LeakageError` if findings block: the first, with the number of others and how to go on."""
    blocking = [finding for finding in findings if finding.blocking]
    if not blocking:
        return
    first = blocking[0]
    others = "".join(f"\n            also {f.kind}: {f.detail}" for f in blocking[1:5])
    more = f"\n            and {len(blocking) - 5} more" if len(blocking) > 5 else ""
    columns = ", ".join(sorted({f.column for f in blocking if f.column is not None}))
    hint = "remove the copies, or raise explore.max_duplicate_fraction, which is the bound"
    if columns:
        hint = f"put {columns} under data.known_after or data.ignore; if you have checked them, under explore.allow"
    where = f"explore: leakage scan, {first.kind}" + (f" '{first.column}'" if first.column else "")
    expected = "training rows and features that know nothing of the answer"
    got = first.detail + others + more
    raise errors.LeakageError.build(where, got=got, expected=expected, hint=hint, field=first.column)


def _features(split: Split, task: Task) -> list[str]:
    return [column.name for column in split.schema.features if column.name != task.target]


def _open(split: Split, parts: Sequence[str]) -> list[str]:
    return [part for part in parts if part in split.parts and split.num_rows.get(part, 0)]


def _duplicates(split: Split, task: Task, profile: Profile, limit: float | None) -> list[Finding]:
    names = _features(split, task)
    if not names:
        return []
    findings = []
    for overlap in overlaps(split, names, _open(split, LATER), profile):
        if not overlap.duplicates:
            continue
        share = overlap.copies / overlap.num_rows
        certain = limit is not None and wilson_interval(overlap.copies, overlap.num_rows, Z_95_LOWER)[0] > limit
        blocks = certain and overlap.part != "production"  # traffic may repeat what was seen
        findings.append(Finding("twins", None, overlap.sentence(len(names)), share, blocks))
    return findings


def _identical(rows: pa.Table, split: Split, task: Task) -> list[Finding]:
    target = rows[task.target]
    known = rows.filter(pc.is_valid(target))
    if known.num_rows < univariate.MIN_ROWS or pc.count_distinct(known[task.target]).as_py() < 2:
        return []
    answer = known[task.target]
    findings = []
    for name in _features(split, task):
        if known[name].null_count == 0 and _equal(known[name], answer):
            detail = f"'{name}' equals the target '{task.target}' in all {known.num_rows:,} rows of the sample"
            findings.append(Finding("identical", name, detail, 1.0, blocking=False, suspected=True))
    return findings


def _equal(values: pa.ChunkedArray, answer: pa.ChunkedArray) -> bool:
    """Compare values with the answer in its type; values that it cannot hold are not equal."""
    try:
        return bool(pc.all(pc.equal(values.cast(answer.type), answer)).as_py())
    except pa.ArrowException:
        return False


def _proxies(profile: Profile, split: Split) -> list[Finding]:
    findings = []
    for name, strength in profile.strengths.items():
        measure = strength.measure
        if strength.weakest < NOTABLE[measure] or name not in split.schema:
            continue
        shown = {"auc": "an AUC of", "r2": "an R² of"}[measure]
        worst = " for the class that it tells apart worst" if len(strength.by_class) > 2 else ""
        if profile.whole.task.labels:
            best = max(strength.by_class, key=lambda index: strength.by_class[index])
            worst = f" for the label '{profile.whole.task.labels[best]}'"
        detail = f"'{name}' alone predicts the target with {shown} {strength.weakest:.3f}{worst}"
        is_suspected = strength.low > SUSPICIOUS[measure]
        findings.append(Finding("proxy", name, detail, strength.weakest, blocking=False, suspected=is_suspected))
    return findings


def _groups(split: Split, profile: Profile) -> list[Finding]:
    name = split.schema.name_of(Role.GROUP)
    if name is None:
        return []
    findings = []
    alone = hash_rows(pa.table({name: pa.nulls(1)}), [name])  # a row without a group is one of its own
    for part in _open(split, ("validation", "test")):
        groups = np.setdiff1d(row_hashes(split, part, [name]), alone)
        shared = int(np.isin(groups, profile.groups).sum())
        if shared:
            detail = f"{shared:,} of {len(groups):,} groups of '{name}' in the {part} part are in the training part too"
            detail += "; natural where parts follow each other in time" if split.forward else ""
            findings.append(Finding("group", name, detail, shared / len(groups), not split.forward))
    return findings


def _times(split: Split, profile: Profile) -> list[Finding]:
    name = split.schema.name_of(Role.TIME)
    if name is None:
        return []
    findings, last = [], profile.latest
    for before, after in itertools.pairwise(_open(split, ("train", "validation", "test"))):
        times = split.table(after, [name])[name].drop_null()
        early = 0 if last is None else pc.sum(pc.less(times, pa.scalar(last, times.type))).as_py() or 0
        if early:
            share = early / len(times)
            detail = f"{percent(share)} of the {after} rows are earlier than the last {before} row by '{name}'"
            if not split.forward:
                detail += "; the parts are not divided by time: the past is predicted from the future"
            findings.append(Finding("time", name, detail, share, split.forward))
        last = pc.max(times).as_py()
    return findings
