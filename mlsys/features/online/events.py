"""A feature table as the events that the store keeps of each key, and back.

The events of a key are one Arrow record batch, in the order of the look-up: time, then when the event was known, then
the table's order. The store keeps what a look-up at or after `since` can depend on, and no more:

* events within the view's horizon (lookback, longest window) before `since`;
* where the last value counts however old it is: of the earlier events those that are the last known at some moment from
  `since` on. An event is not if another of the same or a later time was known no later, or by `since`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.features.joins import asof
from mlsys.features.joins.spec import JoinKeys, times_of
from mlsys.features.online.online_store import Change, StoreState
from mlsys.features.online.views import KINDS, KNOWN, TIME, FeatureView

KEY = "__key"


@dataclass(frozen=True)
class ViewFacts:
    """Facts of a view that are stored beside its events; times are microseconds since 1970.

    Attributes
    ----------
    newest_us
        Time of the newest event when it was published, events of the future apart.
    oldest_us
        Time of the oldest event that was ever published.
    since_us
        Look-ups at earlier moments can depend on events that are no longer kept; None: none are missing.
    table
        Digest of the table that a deployment brought last; later ones may have come since.
    taken
        Record of the files that the events are from, see `mlsys.features.online.publishing`;
        empty if that cannot be said.
    """

    newest_us: int | None = None
    oldest_us: int | None = None
    since_us: int | None = None
    table: str = ""
    taken: str = ""


def arrange(view: FeatureView, table: pa.Table) -> pa.Table:
    """Select key, times and stored columns of the rows that can be looked up: those without null key or time.

    It raises what `mlsys.features.online.publishing.publish` does.
    """
    asof.check_table(table, view.join, view.name)
    index = _keyed_rows(view, table)
    rows = table.take(pa.array(index["__at"].to_numpy()))
    for name, kind in view.stored.items():
        if name not in rows.column_names:
            raise _changed(view, name, "no such column", kind, errors.did_you_mean(name, rows.column_names))
    columns = {KEY: index[KEY].to_arrow().cast(pa.string())}
    columns |= {name: index[name].to_arrow() for name in (TIME, KNOWN) if name in index.columns}
    fields = list(view.schema)[len(view.schema) - len(view.stored) :]
    return pa.table(columns | {field.name: _cast(view, rows[field.name], field) for field in fields})


def _keyed_rows(view: FeatureView, table: pa.Table) -> pl.DataFrame:
    """Key, times and row number of the rows that have all of them."""
    join, times = view.join, times_of(view.join)
    types = tuple(KINDS[key.kind]() for key in view.keys)
    join_keys = JoinKeys({key.column: key.of_table for key in view.keys}, types, view.clock, times)
    index = join_keys.table(table).drop([] if join.known_at else [KNOWN]).drop([] if times else [TIME])
    by = join_keys.by
    distinct = index.select(by).unique(maintain_order=True)
    texts = pl.Series(KEY, [view.key(values[: len(view.keys)]) for values in distinct.rows()], pl.String)
    return index.join(distinct.with_columns(texts), on=by, how="left", maintain_order="left").drop_nulls(KEY)


def keys_of(events: pa.Table) -> list[str]:
    """The distinct keys of arranged rows."""
    return events[KEY].unique().to_pylist()  # type: ignore[no-any-return]


def read_events(view: FeatureView, value: bytes) -> pa.RecordBatch:
    """Read the events of a key; nothing is copied."""
    return pa.ipc.read_record_batch(pa.py_buffer(value), view.schema)


def merge(
    view: FeatureView,
    state: StoreState,
    events: pa.Table,
    *,
    history_us: int,
    until_us: int,
    whole: bool,
    appended: bool = False,
    table: str = "",
    files: str = "",
) -> Change | None:
    """Merge the events of a table into a view; None if that changes nothing.

    Events at a key, time and time of knowledge that the table has are replaced by the table's; all others stay. So
    writing a table twice is writing it once, and tables may come in any order unless they contradict each other.

    Parameters
    ----------
    history_us, until_us, whole
        Those of `mlsys.features.online.publishing.publish`. Events after `until_us` do not move the history,
        or one wrong date in the future would make the store forget everything.
    appended
        The events are rows of a table behind those that came before: none replaces another,
        and of several at one moment all count, as in one table.
    table
        Digest of the table, if it is to be remembered.
    files
        Record of the files, kept if the events are those of these files and no others, and
        if none lies in the future: what is newest would be another later.
    """
    # 1. The events of before and the new ones; only those that a look-up can depend on.
    known = ViewFacts(**(state.facts or {}))
    before = ViewFacts(table=known.table) if whole else known
    old = {} if whole else state.values
    facts = _facts(view, before, events, history_us, until_us)
    together = pa.concat_tables([*(_unpacked(view, key, value) for key, value in old.items()), events])
    num_old = 0 if appended else together.num_rows - events.num_rows
    retained = _retained(view, _index(view, together, num_old), facts.since_us)
    put = _packed(view, together, retained)
    # 2. The keys whose events changed, and the facts.
    changed = {key: value for key, value in put.items() if old.get(key) != value[1]}
    latest = pc.max(events[TIME]).as_py() if view.clock is not None and events.num_rows else 0
    if not (whole or appended or state.facts is None or not view.windows) or latest > until_us:
        files = ""
    plain = asdict(replace(facts, table=table or facts.table, taken=files))
    expire = None if facts.since_us is None or view.keeps_last else facts.since_us - view.horizon_us
    if not changed and not whole and plain == state.facts:
        return None
    return Change(plain, changed, whole, expire)


def _cast(view: FeatureView, values: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        return values.cast(field.type)
    except pa.ArrowException as error:
        hint = "mend the source; or train again, and the new type is the model's"
        raise _changed(view, field.name, f"{values.type}: {error}", str(field.type), hint) from None


def _changed(view: FeatureView, column: str, got: str, kind: str, hint: str) -> errors.ContractError:
    where = f"features: join '{view.name}': column '{column}'"
    expected = f"{kind}, as when the model was trained"
    return errors.ContractError.build(where, got=got, expected=expected, hint=hint, field=column)


def _facts(view: FeatureView, before: ViewFacts, events: pa.Table, history_us: int, until_us: int) -> ViewFacts:
    """Bounds with the events of a table; they only grow, for what was dropped does not come back."""
    if view.clock is None or not events.num_rows:
        return before
    times = pl.Series(events[TIME].to_numpy())
    past = times.filter(times <= until_us)
    newest = max((int(t) for t in (before.newest_us, past.max()) if t is not None), default=None)  # type: ignore[arg-type]
    oldest = min(int(t) for t in (before.oldest_us, times.min()) if t is not None)  # type: ignore[arg-type]
    bounds = [] if before.since_us is None else [before.since_us]
    if newest is not None and newest - history_us > oldest:
        bounds.append(newest - history_us)
    return ViewFacts(newest, oldest, max(bounds, default=None), before.table)


def _unpacked(view: FeatureView, key: str, value: bytes) -> pa.Table:
    batch = read_events(view, value)
    return pa.table({KEY: pa.repeat(key, batch.num_rows), **dict(zip(view.schema.names, batch.columns, strict=True))})


def _index(view: FeatureView, together: pa.Table, num_old: int) -> pl.DataFrame:
    """Key, ``__time``, ``__known``, ``new`` and the row ``__at`` of each event."""
    frame = pl.DataFrame({KEY: pl.from_arrow(together[KEY])})
    time = pl.Series(together[TIME].to_numpy()) if view.clock else pl.zeros(together.num_rows, pl.Int64, eager=True)
    known = pl.Series(together[KNOWN].to_numpy()) if KNOWN in together.column_names else time
    return frame.with_columns(
        time.cast(pl.Int64).alias("__time"), known.cast(pl.Int64).alias("__known")
    ).with_row_index("__at").with_columns(new=pl.col("__at") >= num_old)  # fmt: skip


def _retained(view: FeatureView, index: pl.DataFrame, since_us: int | None) -> pl.DataFrame:
    """Select the rows to keep, sorted by key and in the order of the look-up."""
    event = [KEY, "__time", "__known"]
    index = index.filter(pl.col("new") == pl.col("new").any().over(event)).sort([*event, "__at"])
    if not view.windows:  # of several known at once the last one is looked up; windows count each
        index = index.unique(event, keep="last", maintain_order=True)
    if since_us is None:
        return index
    within = pl.col("__time") >= since_us - view.horizon_us
    if not view.keeps_last:
        return index.filter(within)
    known = pl.when(pl.col("__time") <= since_us).then(pl.col("__known").clip(lower_bound=since_us))
    later = known.reverse().cum_min().shift(1).reverse().over(KEY)
    return index.filter(within | (pl.col("__time") > since_us) | later.is_null() | (known < later))


def _packed(view: FeatureView, together: pa.Table, retained: pl.DataFrame) -> dict[str, tuple[int, bytes]]:
    """Key → time of its newest event, and its events as bytes."""
    rows = together.select(view.schema.names).cast(view.schema).take(pa.array(retained["__at"].to_numpy()))
    if not rows.num_rows:
        return {}
    batch = rows.combine_chunks().to_batches()[0]
    groups = retained.group_by(KEY, maintain_order=True).agg(pl.len(), pl.col("__time").max())
    packed: dict[str, tuple[int, bytes]] = {}
    start = 0
    for key, length, newest in groups.rows():
        packed[key] = (newest, batch.slice(start, length).serialize().to_pybytes())
        start += length
    return packed
