"""The rows for a retraining: are they sound, and new enough? A model of a broken feed is worse than an old one.

The rows are collected as step 1 does, with its contract, its quarantine and its history; what that refuses is refused
here. Beyond it, the rows since the champion was made are looked at by themselves: a share of bad rows that drowns in
years of good ones is the whole of last week.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import bundle, errors
from mlsys.dataset import Snapshot, Split
from mlsys.recipe import Recipe, override
from mlsys.registry import LedgerEntry
from mlsys.reports.formats import count, percent
from mlsys.schema import Role
from mlsys.store import Store, read_json
from mlsys.workflow.results import CollectResult
from mlsys.workflow.run import Run

MOST_EMPTIED = 0.5
"""Growth of the share of missing values of a column that a retraining bears."""

MADE_WITH = ("train", "validation", "test")
"""Parts of a split that a model was made and judged with."""


@dataclass(frozen=True)
class FeedReport:
    """The rows as they are now, and why no model should be made of them.

    Attributes
    ----------
    num_new
        Rows with a label that came since the champion was made.
    newest
        The latest time of a row; None without ``data.time``.
    problems
        Sentences; none if the rows are sound.
    """

    num_rows: int = 0
    num_new: int = 0
    newest: dt.datetime | None = None
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        newest = None if self.newest is None else self.newest.isoformat()
        return {"rows": self.num_rows, "new": self.num_new, "newest": newest, "problems": list(self.problems)}


def guarded(recipe: Recipe) -> Recipe:
    """The recipe with which rows are collected where nobody looks on: an unusual number of them stops it."""
    return override(recipe, ["data.volume=stop"])


def check(run: Run, collected: Any, champion: LedgerEntry | None) -> FeedReport:
    """Collect the rows of a run's recipe, and compare them with those that the champion was made with.

    Parameters
    ----------
    collected
        The step that collects.
    """
    before = _last_collection(run.store, run.recipe.name)
    try:
        with run.alone():
            rows: CollectResult = run.step(collected)
    except (errors.SourceError, errors.ContractError, errors.TargetError) as error:
        return FeedReport(problems=(_in_line(error),))
    whole = Snapshot.open(run.store, rows.snapshot)
    known = None if champion is None else _split_of(run.store, champion)
    time = whole.schema.name_of(Role.TIME)
    newest, before_newest = _newest(whole.paths, time), _newest_of(known, time)
    num_new = _num_new(run.store, rows, known, since=before_newest)
    problems = [*_too_few(run.recipe, num_new), *_stale(newest, before_newest), *_bad(run.recipe, rows, before)]
    if time is not None and before_newest is not None:
        problems += _emptied(whole, time, before_newest)
    return FeedReport(whole.num_rows, num_new, newest, tuple(problems))


def as_of(store: Store, recipe: Recipe, newest: dt.datetime | None, champion: LedgerEntry | None) -> Recipe:
    """The recipe with the dates of ``split.until`` moved by whole days, so that the newest rows are made use of.

    Parts keep their lengths in time. Rows after the test part, which were traffic, become rows to learn from.
    """
    until = recipe.split.until
    if not until or newest is None:
        return recipe
    dates = {part: dt.datetime.fromisoformat(text) for part, text in until.items()}
    end = dates.get("test")
    if end is None:
        known = None if champion is None else _split_of(store, champion)
        end = _newest_of(known, None if known is None else known.schema.name_of(Role.TIME))
    if end is None:
        return recipe
    after = newest.astimezone(dt.UTC).date() + dt.timedelta(days=1)
    days = (after - end.date()).days if "test" in dates else (newest.date() - end.date()).days
    if days <= 0:
        return recipe
    moved = {part: _written(time + dt.timedelta(days=days), until[part]) for part, time in dates.items()}
    return recipe.having({"split.until": moved})


def _written(time: dt.datetime, before: str) -> str:
    """A date or a time in the form in which the recipe had it."""
    return time.date().isoformat() if len(before) <= len("2020-01-01") else time.isoformat()


def _split_of(store: Store, champion: LedgerEntry) -> Split | None:
    """The rows that a version was made with; None where they are no longer in the store."""
    try:
        return Split.open(store, bundle.open(store, champion.digest).provenance["split"])
    except (errors.StoreError, errors.BundleError, KeyError):
        return None


def _newest_of(split: Split | None, time: str | None) -> dt.datetime | None:
    if split is None:
        return None
    return _newest([path for part in MADE_WITH if part in split.num_rows for path in split.paths(part)], time)


def _newest(paths: list[Path], time: str | None) -> dt.datetime | None:
    """The latest time in some files, a file after another."""
    if time is None:
        return None
    latest = [pc.max(pq.read_table(path, columns=[time])[time]).as_py() for path in paths]
    known = [value for value in latest if value is not None]
    return max(known) if known else None


def _num_new(store: Store, rows: CollectResult, known: Split | None, since: dt.datetime | None) -> int:
    """Count the rows with a label that the champion was not made with: by time, else by how many more there are."""
    whole = Snapshot.open(store, rows.snapshot)
    time = whole.schema.name_of(Role.TIME)
    if time is not None and since is not None:
        is_new = pc.field(time) > pa.scalar(since, whole.schema.arrow().field(time).type)
        labels = rows.task.labels or (rows.task.target,)
        for label in labels:
            is_new &= pc.field(label).is_valid()
        return int(_dataset(whole).count_rows(filter=is_new))
    num_labelled = sum(number for part, number in rows.num_rows.items() if part != "unlabelled")
    return num_labelled - (0 if known is None else sum(known.num_rows.get(part, 0) for part in MADE_WITH))


def _too_few(recipe: Recipe, num_new: int) -> list[str]:
    least = recipe.maintain.min_new_rows
    if num_new >= least:
        return []
    new = f"{max(num_new, 0):,} new rows with a label" if num_new >= 0 else f"{-num_new:,} rows fewer than before"
    return [f"{new}, where maintain.min_new_rows asks for {least:,}"]


def _stale(newest: dt.datetime | None, before: dt.datetime | None) -> list[str]:
    if newest is None or before is None or newest > before:
        return []
    return [f"the newest row is of {newest:%Y-%m-%d %H:%M}, as when the champion was made: the source stands still"]


def _bad(recipe: Recipe, rows: CollectResult, before: dict[str, Any]) -> list[str]:
    """Say if too many of the rows since the last collection are in quarantine."""
    num_read = rows.taken["num_read"] - before.get("num_read", 0)
    num_bad = rows.taken["num_quarantined"] - before.get("num_quarantined", 0)
    most = recipe.data.max_bad_fraction
    if num_read <= 0 or num_bad <= most * num_read:
        return []
    share = f"{percent(num_bad / num_read)} of the {count(num_read, 'row')} since"
    return [f"{share} are in quarantine; data.max_bad_fraction is {percent(most)}"]


def _emptied(whole: Snapshot, time: str, since: dt.datetime) -> list[str]:
    """Name the columns that have lost their values: the share of missing ones among the new rows grew by a half."""
    rows, names = _dataset(whole), [column.name for column in whole.schema.features]
    is_new = pc.field(time) > pa.scalar(since, whole.schema.arrow().field(time).type)
    (new, num_new), (old, num_old) = (_nulls(rows, names, rule) for rule in (is_new, ~is_new))
    if not num_new or not num_old:
        return []
    shares = {name: (new[name] / num_new, old[name] / num_old) for name in names}
    return [
        f"column '{name}' is missing in {percent(now)} of the new rows, in {percent(before)} of those before"
        for name, (now, before) in shares.items() if now - before > MOST_EMPTIED
    ]  # fmt: skip


def _dataset(whole: Snapshot) -> Any:
    """The files of a snapshot, to be read a batch at a time."""
    import pyarrow.dataset

    return pyarrow.dataset.dataset(whole.paths, format="parquet")


def _nulls(rows: Any, names: list[str], rule: Any) -> tuple[Counter[str], int]:
    """Missing values by column, and the number of rows, of those that a rule takes; a batch at a time."""
    nulls, num_rows = Counter[str](), 0
    for batch in rows.to_batches(columns=names, filter=rule):
        num_rows += batch.num_rows
        nulls.update({name: column.null_count for name, column in zip(names, batch.columns, strict=True)})
    return nulls, num_rows


def _last_collection(store: Store, name: str) -> dict[str, Any]:
    """The report of the collection of the last run; empty where there is none."""
    file = store.root / "runs" / name / "result.json"
    return dict(read_json(file).get("collect", {}).get("taken", {})) if file.is_file() else {}


def _in_line(error: errors.MlsysError) -> str:
    where, *facts = str(error).splitlines()
    return "; ".join([where, *(" ".join(fact.split()) for fact in facts[:2])])
