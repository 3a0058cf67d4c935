"""What a stored row looks like: decided between the two passes, completed after the second.

What each column is for, as the recipe says it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mlsys import errors, expressions
from mlsys.collect import contract as collect_contract
from mlsys.collect import type_inference
from mlsys.collect.contract import Contract
from mlsys.collect.type_inference import WordCounts
from mlsys.readers import conversion
from mlsys.readers.base import UNNAMED, BadRecord, TypeCounts
from mlsys.recipe import Data
from mlsys.schema import Column, Kind, Role, Schema, arrow_type

__all__ = [
    "FragmentScan",
    "RowCounts",
    "StorageSchema",
    "assign_roles",
    "check_roles",
    "check_stored",
    "decide",
    "schema",
]

ROW_INDEX = re.compile(rf"(__index_level_\d+__|Unnamed: \d+|{UNNAMED}\d+)")
"""Names that a row index gets: from pandas in Parquet and CSV, and from us where a CSV column has none."""


def check_roles(data: Data, target: str | None, split_column: str | None, known: Sequence[str]) -> None:
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


def assign_roles(
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


@dataclass
class FragmentScan:
    """What the first pass learned of a piece: records, sound and broken, and evidence by column.

    `damage` is the error of a piece that cannot be read, `changed` when it was last changed.
    """

    num_rows: int
    type_counts: dict[str, TypeCounts]
    bad_records: list[BadRecord]
    sha256: str | None
    damage: str | None = None
    changed: str = ""
    is_reused: bool = False


@dataclass(frozen=True)
class StorageSchema:
    """Types of the columns as read, then as stored with the derived ones.

    `columns` are those taken from the source; `stored` has the derived ones too. Of the
    columns, `images` are to be decoded, and are read first where they hold paths.
    """

    columns: dict[str, pa.DataType]
    derive: dict[str, str]
    stored: pa.Schema
    zone: str
    target: str | None
    contract: Contract | None
    images: frozenset[str] = frozenset()
    time: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything that decides what a stored row looks like."""
        return {
            "columns": [[name, str(kind)] for name, kind in self.columns.items()],
            "derive": list(self.derive.items()),
            "stored": [[column.name, str(column.type)] for column in self.stored],
            "zone": self.zone,
            "target": self.target,
            "time": self.time,
            "contract": None if self.contract is None else self.contract.model_dump(mode="json"),
            "images": sorted(self.images),
        }


@dataclass
class RowCounts:
    """Counts of the second pass, over one piece or all.

    Attributes
    ----------
    num_rows, num_bad, num_superseded
        Rows stored, set aside, and left out because a later row has their key.
    rules, samples
        Rows that break a rule, and some of them shown.
    nulls, words
        By stored column.
    classes
        Distinct labels with rows counted so far; complete only while there is one.
    newest
        The latest value of ``data.time``, in microseconds.
    damage
        The error of a piece that turned out to be unreadable.
    """

    num_rows: int = 0
    num_bad: int = 0
    num_superseded: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)
    nulls: Counter[str] = field(default_factory=Counter)
    words: dict[str, WordCounts] = field(default_factory=dict)
    classes: dict[Any, int] = field(default_factory=dict)
    newest: int | None = None
    damage: str | None = None

    @property
    def num_read(self) -> int:
        return self.num_rows + self.num_bad + self.num_superseded


def decide(
    data: Data,
    target: str | None,
    split_column: str | None,
    scans: Sequence[FragmentScan],
    rules: Contract | None,
    *,
    is_regression: bool,
) -> StorageSchema:
    """The types of all columns, from the contract if there is one, else from the evidence of all pieces.

    Raises
    ------
    RecipeError
        The recipe names a column that does not exist, or an expression is none.
    ContractError
        The contract asks for a column that the source does not have.
    SourceError
        A column changes its type between files.
    """
    evidence = merged(scans)
    known = [*evidence, *data.derive]
    check_roles(data, target, split_column, known)
    columns = _of_contract(rules, evidence, data) if rules else _of_evidence(evidence, data)  # rules alone fix no types
    if target in columns and target in evidence and not rules and not is_regression:
        columns[target] = _label_type(columns[target], evidence[target])
    if data.time in columns and pa.types.is_date(columns[data.time]):
        columns[data.time] = conversion.TIME
    images = frozenset(
        name for name, kind in columns.items() if pa.types.is_binary(kind) and _is_image(name, evidence, data, rules)
    )
    stored = _stored(columns, data)
    if rules is not None:
        collect_contract.validate_rows(rules, stored)
        _check_kinds(rules, stored)
        check_stored(data, target, split_column, stored.names)
    time = data.time if data.time and pa.types.is_timestamp(stored.field(data.time).type) else None
    return StorageSchema(columns, data.derive, stored, data.timezone, target, rules, images, time)


def merged(scans: Iterable[FragmentScan]) -> dict[str, TypeCounts]:
    """Evidence of all pieces, columns in the order of their first appearance."""
    whole: dict[str, TypeCounts] = {}
    for scan in scans:
        for name, found in scan.type_counts.items():
            whole[name] = whole[name].merged(found) if name in whole else found
    return whole


def schema(layout: StorageSchema, data: Data, split_column: str | None, counts: RowCounts) -> Schema:
    """The schema with kinds and roles, once all values were seen."""
    columns = [_column(name, layout, data, counts) for name in layout.stored.names]
    empty = [name for name in layout.stored.names if counts.nulls[name] == counts.num_rows]
    return assign_roles(columns, data, layout.target, split_column, empty)


def _of_contract(rules: Contract, evidence: dict[str, TypeCounts], data: Data) -> dict[str, pa.DataType]:
    for column in rules:
        if column.name not in evidence and column.name not in data.derive:
            raise errors.ContractError.build(
                f"collect: column '{column.name}' of the contract",
                got="no such column in the source",
                expected=f"a column of type {column.type}",
                hint=errors.did_you_mean(column.name, evidence),
                field=column.name,
            )
    return {column.name: arrow_type(column.type) for column in rules if column.name in evidence}


def _of_evidence(evidence: dict[str, TypeCounts], data: Data) -> dict[str, pa.DataType]:
    types = {
        name: type_inference.type_of(name, found, data.kinds.get(name), data.max_bad_fraction)
        for name, found in evidence.items()
    }
    return {name: pa.float64() if pa.types.is_null(kind) else kind for name, kind in types.items()}


def _is_image(name: str, evidence: dict[str, TypeCounts], data: Data, rules: Schema | None) -> bool:
    kind = rules[name].kind if rules is not None and name in rules else None
    return type_inference.is_image(evidence[name], data.kinds.get(name, kind))


def _label_type(kind: pa.DataType, found: TypeCounts) -> pa.DataType:
    """Labels 0.0 and 1.0, as pandas writes integers with gaps, are the classes 0 and 1."""
    return pa.int64() if pa.types.is_floating(kind) and not found.fractions else kind


def _stored(columns: dict[str, pa.DataType], data: Data) -> pa.Schema:
    read = pa.schema(list(columns.items()))
    derived = expressions.types(read, data.derive, "recipe: data.derive") if data.derive else {}
    for name, kind in derived.items():
        found = conversion.stored_type(kind, name, "data.derive")
        columns_type = conversion.TIME if name == data.time and pa.types.is_date(found) else found
        at = read.get_field_index(name)
        read = read.append(pa.field(name, columns_type)) if at < 0 else read.set(at, pa.field(name, columns_type))
    return read


def _check_kinds(rules: Contract, stored: pa.Schema) -> None:
    for column in rules:
        kind = stored.field(column.name).type
        if not _can_be(kind, column.kind):
            raise errors.ContractError.build(
                f"contract: column '{column.name}'",
                got=f"kind {column.kind} for values of type {kind}",
                expected=f"a kind for them, e.g. {type_inference.kind_of(kind, WordCounts())}",
                field=column.name,
            )


def _column(name: str, layout: StorageSchema, data: Data, counts: RowCounts) -> Column:
    kind = layout.stored.field(name).type
    if layout.contract is not None and name in layout.contract:
        facts = layout.contract[name].model_dump(include=set(Column.model_fields))
        return Column.model_validate(facts | {"type": str(kind), "kind": data.kinds.get(name, facts["kind"])})
    found = type_inference.kind_of(kind, counts.words.get(name, WordCounts()))
    demanded = data.kinds.get(name, found)
    if not _can_be(kind, demanded):
        raise errors.RecipeError.build(
            f"recipe: 'data.kinds.{name}'",
            got=f"{demanded} for values of type {kind}",
            expected=f"a kind for them, e.g. {found}",
            hint="derive a column of another type from it",
            field=name,
        )
    return Column(name=name, type=str(kind), kind=demanded, nullable=counts.nulls[name] > 0)


def _can_be(kind: pa.DataType, demanded: Kind) -> bool:
    """Whether values of a stored type can be treated as a kind."""
    return any(test(kind) for test in _TYPES_OF[demanded])


_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_TYPES_OF = {
    Kind.NUMERIC: _NUMBERS,
    Kind.CATEGORICAL: (*_NUMBERS, pa.types.is_boolean, pa.types.is_string),
    Kind.BOOLEAN: (pa.types.is_boolean,),
    Kind.DATETIME: (pa.types.is_timestamp, pa.types.is_date),
    Kind.TEXT: (pa.types.is_string,),
    Kind.IMAGE: (pa.types.is_binary,),
    Kind.BYTES: (pa.types.is_binary,),
    Kind.LIST: (pa.types.is_list,),
}
