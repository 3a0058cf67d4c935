"""What each column is for, as the recipe says it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from mlsys import errors
from mlsys.collect.batch import UNNAMED
from mlsys.recipe import Data
from mlsys.schema import Column, Kind, Role, Schema

__all__ = ["assign", "check", "check_stored"]

ROW_INDEX = re.compile(rf"(__index_level_\d+__|Unnamed: \d+|{UNNAMED}\d+)")
"""Names that a row index gets: from pandas in Parquet and CSV, and from us where a CSV column has none."""


def check(data: Data, target: str | None, split_column: str | None, known: Sequence[str]) -> None:
    """Refuse names in the recipe that no column has.

    Raises
    ------
    RecipeError
        Names the key of the recipe, and the column that may be meant.
    """
    cursor = data.incremental.cursor if data.incremental else None
    named = [*_needed(data, target, split_column), *([("data.incremental.cursor", cursor)] if cursor else [])]
    many = {"data.known_after": data.known_after, "data.ignore": data.ignore, "data.kinds": tuple(data.kinds)}
    named += [(key, name) for key, names in many.items() for name in names]
    there = set(known)
    for key, name in named:
        if name not in there:
            raise errors.RecipeError.unknown_column(f"recipe: '{key}'", name, known)


def check_stored(data: Data, target: str | None, split_column: str | None, stored: Sequence[str]) -> None:
    """Refuse a contract that leaves out what the recipe works with.

    Raises
    ------
    ContractError
    """
    for key, name in _needed(data, target, split_column):
        if name not in stored:
            raise errors.ContractError.build(
                f"recipe: '{key}'",
                got=f"column '{name}', which the contract leaves out",
                expected="a column of the contract",
                hint=f"add '{name}' to the columns of the contract",
                field=name,
            )


def _needed(data: Data, target: str | None, split_column: str | None) -> list[tuple[str, str]]:
    """Columns whose values are used, by the key of the recipe that names them."""
    one = {
        "target": target,
        "data.id": data.id,
        "data.time": data.time,
        "data.group": data.group,
        "split.column": split_column,
        "data.dedupe.order": data.dedupe.order if data.dedupe else None,
    }
    named = [(key, name) for key, name in one.items() if name is not None]
    return named + [("data.dedupe.keys", name) for name in (data.dedupe.keys if data.dedupe else ())]


def assign(
    columns: Iterable[Column], data: Data, target: str | None, split_column: str | None, empty: Iterable[str]
) -> Schema:
    """The schema with roles; a column with several takes the first of target, id, time, group, split, after, ignore.

    Columns without a value in any row (`empty`), and row indices, are ignored. `known_after` and
    `ignore` of a contract stay.
    """
    without_value = set(empty)
    roles: dict[str | None, Role] = dict.fromkeys(without_value.union(data.ignore), Role.IGNORE)
    roles |= dict.fromkeys(data.known_after, Role.AFTER)
    roles |= {split_column: Role.SPLIT, data.group: Role.GROUP}
    roles |= {data.time: Role.TIME, data.id: Role.ID, target: Role.TARGET}
    schema = Schema(columns=tuple(column.model_copy(update={"role": _role(column, roles)}) for column in columns))
    _check_time(schema, without_value)
    return schema


def is_row_index(name: str) -> bool:
    """Whether a column is a row index by its name."""
    return ROW_INDEX.fullmatch(name) is not None


def _role(column: Column, roles: dict[str | None, Role]) -> Role:
    if column.name in roles:
        return roles[column.name]
    if column.role in (Role.AFTER, Role.IGNORE):
        return column.role
    return Role.IGNORE if is_row_index(column.name) else Role.FEATURE


def _check_time(schema: Schema, empty: Collection[str]) -> None:
    name = schema.one(Role.TIME)
    if name in empty:
        raise errors.RecipeError.build(
            f"recipe: 'data.time': column '{name}'",
            got="no value in any row",
            expected="dates or times",
            hint="look at the source; or leave data.time out",
            field="data.time",
        )
    if name and schema[name].kind is not Kind.DATETIME:
        raise errors.RecipeError.build(
            f"recipe: 'data.time': column '{name}'",
            got=f"{schema[name].kind} ({schema[name].type})",
            expected="dates or times",
            hint=f"derive one, e.g. derive: {{at: \"TIMESTAMP '1970-01-01' + {name} * INTERVAL '1 second'\"}}",
            field="data.time",
        )
