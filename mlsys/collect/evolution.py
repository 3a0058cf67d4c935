"""Columns against those of the last collection of the same recipe: what may change unasked, and what not.

==================================  =============================================================
a new column                        accepted and told
a wider type                        accepted and told: integers → decimals, dates → times,
                                    lists of integers → lists of decimals
the narrower one of these           accepted and told: in a file of text all decimals may be whole
a type where there was no value     accepted and told
a column that is gone               refused
any other change of type            refused
==================================  =============================================================

``data.evolution: accept`` takes what would be refused; with ``data.contract`` the contract says
what must be there, and nothing is compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa

from mlsys import errors
from mlsys.collect.parsing import LIST, TIME

__all__ = ["check"]

WIDER = {
    (str(pa.int64()), str(pa.float64())),
    (str(pa.date32()), str(TIME)),
    (str(pa.list_(pa.int64())), str(LIST)),
}
"""Types whose values the second holds too."""


def check(
    before: Mapping[str, str | None],
    now: pa.Schema,
    empty: Collection[str],
    misfits: Mapping[str, str],
    *,
    accept: bool,
) -> list[str]:
    """What changed, as sentences.

    Parameters
    ----------
    before
        The types by column, None where there was no value.
    empty
        Columns that have no value now, and so no type that could be another.
    misfits
        How many values of a column have not the type that it had, in words.

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
