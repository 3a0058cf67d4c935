"""Derived features: SQL over the columns of a request, computed in batch and online alike.

`mlsys.expressions` says which SQL is allowed. An expression may read what a request has: features, and the row's time,
id and group; not the target, and nothing that is known only after the event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from mlsys import errors, expressions
from mlsys.schema import Column, Kind, Role, Schema

WHERE = "recipe: features.derive"

READABLE = (Role.FEATURE, Role.TIME, Role.ID, Role.GROUP)


def extend(schema: Schema, derive: Mapping[str, str]) -> Schema:
    """Append the derived features to a schema.

    Raises
    ------
    RecipeError
        An expression is wrong, has the name of a column, or reads what a request cannot have.
    """
    if not derive:
        return schema
    for name, sql in derive.items():
        if name in schema:
            got = f"the name of a column of the table, = {sql}"
            raise errors.RecipeError.build(f"{WHERE}: '{name}'", got=got, expected="a new name", field=name)
    _refuse_unreadable(schema, derive)
    types = expressions.types(readable(schema).arrow(), derive, WHERE)
    texts = _texts(schema, derive)
    kinds = {name: kind_of(type_, from_text=name in texts) for name, type_ in types.items()}
    new = (Column(name=name, type=str(types[name]), kind=kind) for name, kind in kinds.items())
    return Schema(columns=(*schema.columns, *new))


def add(table: pa.Table, derive: Mapping[str, str]) -> pa.Table:
    """Append the derived features to a table."""
    return expressions.add(table, derive, WHERE)


def inputs(derive: Mapping[str, str]) -> list[str]:
    """Columns that the expressions read and do not make themselves, sorted."""
    read = {column for name, sql in derive.items() for column in expressions.parse(name, sql, WHERE).inputs}
    return sorted(read - set(derive))


def needed(derive: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The expressions of these features and of the derived ones that they read, in order."""
    needed_names = set(names)
    for name, sql in reversed(list(derive.items())):
        if name in needed_names:
            needed_names.update(expressions.parse(name, sql, WHERE).inputs)
    return {name: sql for name, sql in derive.items() if name in needed_names}


def readable(schema: Schema) -> Schema:
    """The columns that a request has."""
    return Schema(columns=tuple(column for column in schema if column.role in READABLE))


def kind_of(kind: pa.DataType, *, from_text: bool = False) -> Kind:
    """Kind of a derived feature: a string is a category unless it is made of a text."""
    if pa.types.is_boolean(kind):
        return Kind.BOOLEAN
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return Kind.DATETIME
    if pa.types.is_string(kind):
        return Kind.TEXT if from_text else Kind.CATEGORICAL
    return Kind.NUMERIC


def _texts(schema: Schema, derive: Mapping[str, str]) -> set[str]:
    """Names of texts, and of derived features that read one; each reads only what stands before it."""
    texts = {column.name for column in schema if column.kind is Kind.TEXT}
    for name, sql in derive.items():
        if texts & set(expressions.parse(name, sql, WHERE).inputs):
            texts.add(name)
    return texts


def _refuse_unreadable(schema: Schema, derive: Mapping[str, str]) -> None:
    for name, sql in derive.items():
        for column in expressions.parse(name, sql, WHERE).inputs:
            if column in schema and schema[column].role not in READABLE:
                got = f"column '{column}', whose role is {schema[column].role.value}"
                hint = "what is made of it would tell the model the answer, or cannot be computed online"
                raise errors.RecipeError.build(
                    f"{WHERE}: '{name}' = {sql}", got=got, expected="columns that a request has", hint=hint, field=name
                )
