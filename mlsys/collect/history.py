"""The history of a recipe's collections, and checks against it: volume, freshness and columns.

It is kept as ``collections.json`` in the run's folder, an entry a collection that found something new.
Only entries of the same source, reading and columns are compared: a changed recipe begins anew.

Volume
    Rows (with ``data.incremental``, new rows) are compared on a log scale by the modified
    z-score ``0.6745 (ln n − median) / MAD`` over the earlier entries; beyond 3.5 the count is
    far outside: Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers, ASQC Quality
    Press. There must be `MIN_ENTRIES` of them, and the MAD is taken as no smaller than what
    lets changes of 10 % pass, for equal counts have none.
Freshness
    The age of the newest ``data.time`` when it was collected, by the same rule, on its old
    side alone; and against ``data.freshness`` where the recipe gives a limit.
Columns
    Accepted and reported are a new column, a type where there was no value, a wider type (integers →
    decimals, dates → times, lists likewise), and the narrower one of these, for in a file of text all
    decimals may be whole. A column that is gone and any other change of type are refused, unless
    ``data.evolution`` is ``accept``. With ``data.contract`` nothing is compared.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlsys import errors
from mlsys.collect.incremental import IncrementState
from mlsys.collect.storage_schema import RowCounts
from mlsys.limits import EPOCH, MICROSECOND
from mlsys.readers.conversion import LIST, TIME
from mlsys.recipe import DataSection
from mlsys.recipe.columns import span_us
from mlsys.schema import Schema
from mlsys.store import digest_json, read_json, write_json

FILE = "collections.json"
MAX_ENTRIES = 1000
MIN_ENTRIES = 5
"""Entries from which a median and a spread say something."""
MAX_Z = 3.5
MAX_AHEAD_S = 86_400
"""How far the newest time may lie ahead, for the clocks of all zones."""
MIN_CHANGE = 1.1
"""Factor by which a value may always differ from the median."""


@dataclass(frozen=True)
class CollectionRecord:
    """The record of one collection.

    `num_new` are the rows read that the collection before did not have (all without ``data.incremental``), `newest`
    is the latest value of ``data.time`` and `age_s` how old it was then, `seconds_since` counts from the entry before,
    and `types` are those of the columns as stored, None where no row has a value.
    """

    key: str
    snapshot: str
    collected_at: str
    num_read: int
    num_rows: int
    num_new: int
    newest: str | None
    age_s: float | None
    seconds_since: float | None
    nulls: dict[str, int] = field(default_factory=dict)
    types: dict[str, str | None] = field(default_factory=dict)


def key(data: DataSection, target: str | None) -> str:
    """The digest of everything in the recipe that decides which columns there are."""
    judged = {"contract", "evolution", "freshness", "max_bad_fraction", "volume"}
    return digest_json([data.model_dump(mode="json", exclude=judged), target])


def load(folder: Path | None) -> dict[str, Any]:
    """Read the notes of a folder: ``entries``, oldest first, and the state of ``incremental``."""
    if folder is None or not (folder / FILE).is_file():
        return {"entries": [], "incremental": None}
    return dict(read_json(folder / FILE))


def save(folder: Path, entries: Sequence[CollectionRecord], state: IncrementState | None) -> None:
    """Note entries and state together: a reader sees both or neither."""
    records = [asdict(entry) for entry in entries[-MAX_ENTRIES:]]
    write_json(folder / FILE, {"entries": records, "incremental": state and state.to_json()})


def make(
    before: Sequence[CollectionRecord],
    key: str,
    snapshot: str,
    schema: Schema,
    counts: RowCounts,
    num_new: int | None,
    now: dt.datetime,
) -> CollectionRecord:
    """Make the entry of a collection; `counts` are those of all fragments, `num_new` is None where all are new."""
    num_new = counts.num_read if num_new is None else num_new
    if num_new == 0 and before:  # the rows of the last collection: the same observation
        num_new = before[-1].num_new
    newest = None if counts.newest is None else EPOCH + counts.newest * MICROSECOND
    since = (now - dt.datetime.fromisoformat(before[-1].collected_at)).total_seconds() if before else None
    return CollectionRecord(
        key=key,
        snapshot=snapshot,
        collected_at=now.isoformat(timespec="seconds"),
        num_read=counts.num_read,
        num_rows=counts.num_rows,
        num_new=num_new,
        newest=None if newest is None else newest.isoformat(),
        age_s=None if newest is None else (now - newest).total_seconds(),
        seconds_since=since,
        nulls={name: rows for name, rows in counts.nulls.items() if rows},
        types={c.name: None if counts.nulls[c.name] == counts.num_rows else c.type for c in schema},
    )


def judge(
    before: Sequence[CollectionRecord], entry: CollectionRecord, data: DataSection, now: dt.datetime
) -> list[str]:
    """Say what is unusual about a collection, in sentences.

    Raises
    ------
    ContractError
        The rows are far fewer or more than before and ``data.volume`` is ``stop``, or the newest
        row is older than ``data.freshness``.
    """
    check_age(entry.newest, data, now)
    messages = []
    counts = [earlier.num_new for earlier in before]
    if (z := _z(entry.num_new, counts)) is not None and abs(z) > MAX_Z:
        usual = statistics.median(counts)
        if data.volume == "stop":
            raise errors.ContractError.unusual_volume(entry.num_new, usual, len(counts), z)
        how = f"(modified z {z:+.1f} over {len(counts)} runs)"
        messages.append(f"{entry.num_new:,} rows, where {usual:,.0f} are usual {how}")
    if entry.age_s is not None and entry.age_s < -MAX_AHEAD_S:
        messages.append(
            f"the newest '{data.time}' lies {_span(-entry.age_s)} ahead: how fresh the others are is not known"
        )
    ages = [earlier.age_s for earlier in before if earlier.age_s is not None]
    if entry.age_s is not None and (z := _z(entry.age_s, ages)) is not None and z > MAX_Z:
        usual, how = statistics.median(ages), f"(modified z {z:+.1f} over {len(ages)} runs)"
        messages.append(f"the newest row is {_span(entry.age_s)} old, where {_span(usual)} is usual {how}")
    return messages


def check_age(newest: str | None, data: DataSection, now: dt.datetime) -> None:
    """Raise a `ContractError` where the newest row is older than ``data.freshness``."""
    if data.freshness is None or newest is None:
        return
    age_s = (now - dt.datetime.fromisoformat(newest)).total_seconds()
    if age_s * 1e6 > span_us(data.freshness):
        raise errors.ContractError.stale(str(data.time), newest, _span(age_s), data.freshness)


def _z(value: float, before: Sequence[float]) -> float | None:
    """Modified z-score of ln(value); None where there is too little to compare with."""
    if len(before) < MIN_ENTRIES:
        return None
    logs = [math.log(max(earlier, 1.0)) for earlier in before]
    middle = statistics.median(logs)
    spread = statistics.median(abs(log - middle) for log in logs)
    least = 0.6745 * math.log(MIN_CHANGE) / MAX_Z
    return 0.6745 * (math.log(max(value, 1.0)) - middle) / max(spread, least)


def _span(seconds: float) -> str:
    """Seconds in words, in the largest unit of which there are two.

    >>> _span(200_000), _span(5400)
    ('56 hours', '90 minutes')
    """
    for name, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size and (name != "days" or seconds >= 3 * size):
            return f"{seconds / size:,.0f} {name}"
    return f"{seconds:,.0f} seconds"


WIDER = {(str(pa.int64()), str(pa.float64())), (str(pa.date32()), str(TIME)), (str(pa.list_(pa.int64())), str(LIST))}
"""Types whose values the second holds too."""


def check_columns(
    before: Mapping[str, str | None],
    now: pa.Schema,
    empty: Collection[str],
    misfits: Mapping[str, str],
    *,
    accept: bool,
) -> list[str]:
    """Say which columns changed, in sentences.

    `before` are the types by column, None where there was no value; `empty` the columns that have no value now;
    `misfits` the number of values of a column that do not have its earlier type, in words.

    Raises
    ------
    ContractError
        A column is gone or of another type, and that is not accepted.
    """
    refused, accepted = list(_refused(before, now, empty, misfits)), list(_accepted(before, now))
    if refused and not accept:  # a column that is new may be one that is gone, under another name
        raise errors.ContractError.evolved([*(text for _, text in refused), *accepted], refused[0][0])
    return [*accepted, *(f"{text}: accepted" for _, text in refused)]


def _accepted(before: Mapping[str, str | None], now: pa.Schema) -> Iterator[str]:
    for column in now:
        old, kind = before.get(column.name), str(column.type)
        if column.name not in before:
            yield f"column '{column.name}' ({kind}) is new"
        elif (old, kind) in WIDER:
            yield f"column '{column.name}': wider, {old} → {kind}"
        elif (kind, old) in WIDER:
            yield f"column '{column.name}': narrower, {old} → {kind}"
        elif old is None:
            yield f"column '{column.name}' had no value before: {kind}"


def _refused(
    before: Mapping[str, str | None], now: pa.Schema, empty: Collection[str], misfits: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    names = set(now.names)
    for name, old in before.items():
        if name not in names:
            yield name, f"column '{name}' ({old or 'without values'}) is gone"
        elif old is not None and name not in empty:
            kind = str(now.field(name).type)
            if kind != old and not {(old, kind), (kind, old)} & WIDER:
                why = f", for {misfits[name]} are not {old}" if name in misfits else ""
                yield name, f"column '{name}': {old} → {kind}{why}"
