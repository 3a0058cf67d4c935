"""`take`: a source becomes checked, content-addressed Parquet, a schema file, a quarantine and a report."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mlsys import cluster, errors, recipe
from mlsys.collect import contract, documents, gathering, history, increment, pictures, sources
from mlsys.collect.gathering import Found, Taken, Wanted
from mlsys.collect.history import Entry
from mlsys.collect.piece import Piece
from mlsys.collect.spread import Here, OnCluster
from mlsys.schema import Kind, TaskKind
from mlsys.store import Store

__all__ = ["Taken", "take", "take_table"]

KEYS_OF_A_JOIN = re.compile(r"\bdata\.(?=(?:reading|derive|time)\b)(\w+)")

PACKED_RATIO = 4
"""Bytes in memory of a byte at rest, for Parquet and packed text; the choice of plan needs no better."""


def take(
    store: Store,
    data: recipe.Data,
    *,
    target: str,
    folder: Path,
    split_column: str | None = None,
    task: TaskKind | str = "auto",
    now: dt.datetime | None = None,
) -> Taken:
    """Collect the rows to learn from.

    Writes ``schema.yaml`` and, if rows were set aside, ``quarantine.parquet`` (source, row,
    reason, content) into `folder`. Files of the snapshot hold the columns of its schema and
    ``__row``, the number of the row counted from 0 over all records of all pieces in order,
    those in quarantine included. Rows without a target are kept. What earlier collections into
    `folder` found is compared (see `history` and `evolution`); nothing else depends on `now`.

    Returns
    -------
    Taken
        The report says how many rows were read, kept, set aside (by rule, with samples) and
        without label, which columns are empty, how many ids repeat, warnings, and notes: what
        changed since the last collection or is unusual.

    Raises
    ------
    SourceError
        Nothing is there, or a piece is damaged.
    RecipeError
        A column that the recipe names does not exist, or an expression is none.
    ContractError
        More than ``data.max_bad_fraction`` of the rows do not fit; a column is gone or of another
        type than before; or ``data.freshness`` or ``data.volume`` stops the run.
    TargetError
        The target has no value, or one class only.
    """
    _check_zone(data.timezone)
    if data.freshness and not data.time:
        raise errors.RecipeError.build(
            "recipe: 'data.freshness'",
            got="no 'data.time'",
            expected="the column that says when",
            field="data.freshness",
        )
    rules = contract.load(data.contract) if data.contract else None
    is_regression = task == TaskKind.REGRESSION
    when = now or dt.datetime.now(dt.UTC)
    return _start(store, Wanted(data, target, split_column, rules, folder.absolute(), is_regression, when))


def take_table(
    store: Store,
    name: str,
    join: recipe.Join,
    *,
    timezone: str = "UTC",
    folder: Path | None = None,
    evolution: Literal["refuse", "accept"] = "refuse",
    max_bad_fraction: float = 0.01,
) -> Taken:
    """Collect a feature table: as `take`, without target; the columns that the join `name` names must be there."""
    data = recipe.Data(
        source=join.source,
        reading=join.reading,
        derive=join.derive,
        time=join.time,
        timezone=timezone,
        evolution=evolution,
        max_bad_fraction=max_bad_fraction,
    )
    at, when = folder.absolute() if folder else None, dt.datetime.now(dt.UTC)
    with _keys_of_the_join(name):
        taken = _start(store, Wanted(data, None, None, None, at, is_regression=False, now=when))
    keys = join.keys.values() if isinstance(join.keys, dict) else join.keys
    read = [join.known_at, *(aggregate.column for aggregate in join.aggregates.values())]
    for column in [*keys, *(join.columns or ()), *read]:
        if column is not None and column not in taken.snapshot.schema:
            where = f"recipe: 'features.joins.{name}'"
            raise errors.RecipeError.unknown_column(where, column, taken.snapshot.schema.names)
    return taken


@contextmanager
def _keys_of_the_join(name: str) -> Iterator[None]:
    """A join says how its table is read with the keys of ``data``, so what is wrong with one is said of the join's."""
    try:
        yield
    except errors.MlsysError as error:
        told = type(error)(KEYS_OF_A_JOIN.sub(rf"features.joins.{name}.\1", str(error)))
        told.field = error.field
        raise told from None


def _start(store: Store, wanted: Wanted) -> Taken:
    """Find what there is to read, and read it here, in one task or all over the cluster."""
    pieces, noted = sources.find(wanted.data.source, wanted.data.reading), history.load(wanted.folder)
    if wanted.data.id is None and any(one.files for one in pieces):
        wanted = replace(wanted, data=wanted.data.model_copy(update={"id": pictures.FILE}))
    if any(one.format == "text" for one in pieces):
        kinds = {documents.TEXT: Kind.TEXT, **wanted.data.kinds}
        wanted = replace(wanted, data=wanted.data.model_copy(update={"kinds": kinds}))
    state, num_new, new_told = None, None, list[str]()
    if wanted.data.incremental is not None:
        ahead = cluster.call(increment.advance, store, wanted.data, pieces, noted["incremental"])
        state, pieces, num_new, new_told = ahead.state, ahead.pieces, ahead.num_new, ahead.told
    before = history.last(noted, history.key(wanted.data, wanted.target))
    entries = [Entry(**one) for one in noted["entries"]]
    found = Found(pieces, _plan(pieces), before, entries, state, num_new, new_told)
    if found.plan.kind == "cluster":
        return gathering.collect(store, wanted, found, OnCluster())
    return cluster.call(gathering.collect, store, wanted, found, Here())


def _check_zone(name: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise errors.RecipeError.build(
            "recipe: 'data.timezone'",
            got=repr(name),
            expected="a time zone of the IANA data base, e.g. Europe/Berlin",
            hint=errors.did_you_mean(name, zoneinfo.available_timezones()),
            field="data.timezone",
        ) from None


def _plan(pieces: Sequence[Piece]) -> cluster.Plan:
    packed = sum(
        p.num_bytes * (PACKED_RATIO if p.format == "parquet" or p.location.endswith(sources.PACKED) else 1)
        for p in pieces
    )
    if len(pieces) == 1:
        return cluster.Plan("task", "one piece, which one task reads from its beginning to its end")
    return cluster.plan(0, packed)
