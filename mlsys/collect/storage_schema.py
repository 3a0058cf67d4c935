"""The storage schema: types of the stored columns, decided between the two passes, and roles, known after the second.

`FragmentScan` is the result of the first pass over a fragment, `RowCounts` of the second. `decide` makes
the `StorageSchema` of all scans; `schema` completes it with kinds and roles once all values were counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mlsys import errors, expressions
from mlsys.collect import contract as contract_file
from mlsys.collect import notation_inference, type_inference
from mlsys.collect.contract import Contract
from mlsys.collect.notation_inference import InferredNotation
from mlsys.collect.type_inference import WordCounts
from mlsys.readers import conversion
from mlsys.readers.base import UNNAMED, BadRecord, TypeCounts
from mlsys.recipe import DataSection
from mlsys.schema import Column, Kind, Role, Schema, arrow_type

ROW_INDEX = re.compile(rf"(__index_level_\d+__|Unnamed: \d+|{UNNAMED}\d+)")
"""Names that a row index gets: from pandas in Parquet and CSV, and from us where a CSV column has none."""


MAX_UNREAD = 100
"""Different values of a column, read as missing, that are counted one by one and kept with its schema."""


def most_frequent(counts: Counter[str]) -> Counter[str]:
    """The `MAX_UNREAD` most frequent values, of equals the first in order."""
    return Counter(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_UNREAD]))


@dataclass
class FragmentScan:
    """The result of the first pass over a fragment: number of records, type counts by column, bad records.

    `damage` is the error of a fragment that cannot be read, `changed` when it was last changed, `is_partial` says that
    a survey left rows out.
    """

    num_rows: int
    type_counts: dict[str, TypeCounts]
    bad_records: list[BadRecord]
    sha256: str | None
    damage: str | None = None
    changed: str = ""
    is_reused: bool = False
    is_partial: bool = False
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StorageSchema:
    """Types of the `columns` as read, then as `stored` with the derived ones.

    Of the columns, `images` are to be decoded, and are read first where they hold paths; `strict` are those whose
    type the recipe or a contract states: a value that it does not read costs the row, elsewhere it is missing.
    """

    columns: dict[str, pa.DataType]
    derive: dict[str, str]
    stored: pa.Schema
    zone: str
    target: str | None
    contract: Contract | None
    images: frozenset[str] = frozenset()
    strict: frozenset[str] = frozenset()
    time: str | None = None
    notations: dict[str, InferredNotation] = field(default_factory=dict)

    def notation(self, name: str) -> str | None:
        """The notation of a column's texts, where it is not that of programming languages."""
        return self.notations[name].notation if name in self.notations else None

    def to_json(self) -> dict[str, Any]:
        """Everything that decides how a row is stored, for the key of the cache."""
        return {
            "columns": [[name, str(stored)] for name, stored in self.columns.items()],
            "derive": list(self.derive.items()),
            "stored": [[column.name, str(column.type)] for column in self.stored],
            "zone": self.zone,
            "target": self.target,
            "time": self.time,
            "contract": None if self.contract is None else self.contract.model_dump(mode="json"),
            "images": sorted(self.images),
            "strict": sorted(self.strict),
            "notations": {name: column.notation for name, column in self.notations.items()},
        }


@dataclass
class RowCounts:
    """Counts of the second pass, over one fragment or all.

    Rows are stored, bad (quarantined), or superseded by a later row of their key. `rules` counts the rows that break
    each rule, `samples` shows some; `nulls` and `words` are by stored column. `unread` counts by column the values that
    count as missing because its type does not read them, the `MAX_UNREAD` most frequent. `classes` counts rows by
    label, complete only while there is one. `num_unfit` are rows whose target is infinite or beyond 32-bit floats,
    which counts as no label. `newest` is the latest ``data.time`` in microseconds, `damage` the error of a fragment
    that turned out to be unreadable.
    """

    num_rows: int = 0
    num_bad: int = 0
    num_superseded: int = 0
    num_unfit: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)
    nulls: Counter[str] = field(default_factory=Counter)
    words: dict[str, WordCounts] = field(default_factory=dict)
    unread: dict[str, Counter[str]] = field(default_factory=dict)
    classes: dict[Any, int] = field(default_factory=dict)
    newest: int | None = None
    damage: str | None = None

    @property
    def num_read(self) -> int:
        """Rows of the source: stored, quarantined and superseded."""
        return self.num_rows + self.num_bad + self.num_superseded


def decide(
    data: DataSection,
    target: str | None,
    split_column: str | None,
    scans: Sequence[FragmentScan],
    contract: Contract | None,
    *,
    is_regression: bool,
) -> StorageSchema:
    """Decide the types of all columns, by the contract if it has columns, else by the counts of all fragments.

    Raises
    ------
    RecipeError
        The recipe names a column that does not exist, or an expression is not valid.
    ContractError
        The contract asks for a column that the source does not have.
    SourceError
        A column changes its type between files.
    """
    # 1. Types of the columns as read.
    counts = merged(scans)
    _check_names(data, target, split_column, [*counts, *data.derive])
    # A contract may hold rules alone.
    keys = {name for key, name in _needed(data, None, split_column) if key not in {"data.time", "data.dedupe.order"}}
    columns = _types_by_contract(contract, counts, data) if contract else _types_by_counts(counts, data, keys)
    inferred = notation_inference.infer(counts, data, contract, keys)
    if not contract:
        columns |= {name: column.type for name, column in inferred.items()}
    are_classes = target in columns and target in counts and not contract and not is_regression
    has_fractions = are_classes and bool(
        not inferred[str(target)].is_whole if target in inferred else counts[str(target)].fractions
    )
    if are_classes and pa.types.is_floating(columns[str(target)]) and not has_fractions:
        columns[str(target)] = pa.int64()  # 0.0 and 1.0, as pandas writes integers with gaps, are the classes 0 and 1
    if data.time in columns and pa.types.is_date(columns[data.time]):
        columns[data.time] = conversion.TIME
    images = frozenset(
        name
        for name, stored in columns.items()
        if pa.types.is_binary(stored) and _is_image(name, counts[name], data, contract)
    )

    # 2. Types of the stored columns, derived ones included, and whether the contract fits them.
    stored = _with_derived(columns, data)
    if contract is not None:
        contract_file.check_rules(contract, stored)
        _check_kinds(contract, stored)
        _check_not_left_out(data, target, split_column, stored.names)
    time = data.time if data.time and pa.types.is_timestamp(stored.field(data.time).type) else None
    stated = {*(contract.names if contract else ()), *data.kinds, *data.reading.notations, *data.derive}
    strict = frozenset({*stated, *([data.time] if data.time else [])} - set(data.ignore))
    types = columns, data.derive, stored, data.timezone
    return StorageSchema(*types, target, contract, images, strict, time, inferred)


def merged(scans: Iterable[FragmentScan]) -> dict[str, TypeCounts]:
    """The type counts of all fragments, columns in the order of their first appearance."""
    whole: dict[str, TypeCounts] = {}
    for scan in scans:
        for name, counts in scan.type_counts.items():
            whole[name] = whole[name].merged(counts) if name in whole else counts
    return whole


def schema(storage: StorageSchema, data: DataSection, split_column: str | None, counts: RowCounts) -> Schema:
    """The schema with kinds and roles, once all values were counted."""
    # 1. A column with several roles takes the first of target, id, time, group, split, known_after, ignore.
    empty = {name for name in storage.stored.names if counts.nulls[name] == counts.num_rows}
    roles: dict[str | None, Role] = dict.fromkeys({*empty, *data.ignore}, Role.IGNORE)
    roles |= dict.fromkeys(data.known_after, Role.AFTER)
    roles |= {split_column: Role.SPLIT, data.group: Role.GROUP}
    roles |= {data.time: Role.TIME, data.id: Role.ID, storage.target: Role.TARGET}

    # 2. Those that a contract gives stay where the recipe gives none.
    columns = [_column(name, storage, data, counts) for name in storage.stored.names]
    schema = Schema(columns=[column.model_copy(update={"role": _role(column, roles)}) for column in columns])
    _check_time(schema, empty)
    return schema


def is_row_index(name: str) -> bool:
    """True for a column that is a row index by its name."""
    return ROW_INDEX.fullmatch(name) is not None


def _types_by_contract(contract: Contract, counts: dict[str, TypeCounts], data: DataSection) -> dict[str, pa.DataType]:
    for column in contract:
        if column.name not in counts and column.name not in data.derive:
            where = f"collect: column '{column.name}' of the contract"
            got = "no such column in the source"
            hint = errors.did_you_mean(column.name, counts)
            raise errors.ContractError.build(where, got=got, expected=f"a column of type {column.type}", hint=hint)
    return {column.name: arrow_type(column.type) for column in contract if column.name in counts}


def _types_by_counts(counts: dict[str, TypeCounts], data: DataSection, keys: Collection[str]) -> dict[str, pa.DataType]:
    types = {
        name: type_inference.type_of(name, of, data.kinds.get(name), data.max_bad_fraction, is_key=name in keys)
        for name, of in counts.items()
    }
    return {name: pa.float64() if pa.types.is_null(stored) else stored for name, stored in types.items()}


def _is_image(name: str, counts: TypeCounts, data: DataSection, contract: Schema | None) -> bool:
    """True for a column of pictures: by its kind, or because more than half of its bytes begin as one."""
    kind = data.kinds.get(name, contract[name].kind if contract is not None and name in contract else None)
    return kind is Kind.IMAGE or (kind is None and 2 * counts.pictures > counts.count)


def _with_derived(columns: dict[str, pa.DataType], data: DataSection) -> pa.Schema:
    """The columns as read and the derived ones, a derived one in place of one of its name."""
    table = pa.schema(list(columns.items()))
    derived = expressions.types(table, data.derive, "recipe: data.derive") if data.derive else {}
    for name, computed in derived.items():
        stored = conversion.stored_type(computed, name, "data.derive")
        column = pa.field(name, conversion.TIME if name == data.time and pa.types.is_date(stored) else stored)
        place = table.get_field_index(name)
        table = table.append(column) if place < 0 else table.set(place, column)
    return table


def _check_kinds(contract: Contract, stored: pa.Schema) -> None:
    for column in contract:
        type_ = stored.field(column.name).type
        if not _can_be(type_, column.kind):
            got = f"kind {column.kind} for values of type {type_}"
            expected = f"a kind for them, e.g. {type_inference.kind_of(type_, WordCounts())}"
            raise errors.ContractError.build(f"contract: column '{column.name}'", got=got, expected=expected)


def _column(name: str, storage: StorageSchema, data: DataSection, counts: RowCounts) -> Column:
    type_ = storage.stored.field(name).type
    null_values = tuple(sorted(counts.unread.get(name, ())))
    if storage.contract is not None and name in storage.contract:
        facts = storage.contract[name].model_dump(include=set(Column.model_fields))
        facts |= {"type": str(type_), "kind": data.kinds.get(name, facts["kind"]), "notation": storage.notation(name)}
        facts["null_values"] = tuple(sorted({*null_values, *storage.contract[name].null_values}))
        return Column.model_validate(facts)
    inferred = type_inference.kind_of(type_, counts.words.get(name, WordCounts()))
    kind = data.kinds.get(name, inferred)
    if not _can_be(type_, kind):
        got = f"{kind} for values of type {type_}"
        hint = "derive a column of another type from it"
        raise errors.RecipeError.build(
            f"recipe: 'data.kinds.{name}'", got=got, expected=f"a kind for them, e.g. {inferred}", hint=hint, field=name
        )
    facts = {"nullable": counts.nulls[name] > 0, "null_values": null_values, "notation": storage.notation(name)}
    return Column(name=name, type=str(type_), kind=kind, **facts)


def _can_be(type_: pa.DataType, kind: Kind) -> bool:
    return any(test(type_) for test in _TYPES_OF[kind])


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


def _check_names(data: DataSection, target: str | None, split_column: str | None, known: Sequence[str]) -> None:
    """Refuse names in the recipe that no column has; the error names the key, and the column that may be meant."""
    cursor = data.incremental.cursor if data.incremental else None
    named = [*_needed(data, target, split_column), *([("data.incremental.cursor", cursor)] if cursor else [])]
    many = {"data.known_after": data.known_after, "data.ignore": data.ignore, "data.kinds": tuple(data.kinds)}
    many["data.allow_personal"] = data.allow_personal
    named += [(key, name) for key, names in many.items() for name in names]
    columns = set(known)
    for key, name in named:
        if name not in columns:
            raise errors.RecipeError.unknown_column(f"recipe: '{key}'", name, known)


def _check_not_left_out(data: DataSection, target: str | None, split_column: str | None, stored: Sequence[str]) -> None:
    """Refuse a contract that leaves out what the recipe works with."""
    for key, name in _needed(data, target, split_column):
        if name not in stored:
            where = f"recipe: '{key}'"
            got = f"column '{name}', which the contract leaves out"
            hint = f"add '{name}' to the columns of the contract"
            raise errors.ContractError.build(where, got=got, expected="a column of the contract", hint=hint, field=name)


def _needed(data: DataSection, target: str | None, split_column: str | None) -> list[tuple[str, str]]:
    """Columns whose values are used, by the key of the recipe that names them."""
    named = {
        "target": target,
        "data.id": data.id,
        "data.time": data.time,
        "data.group": data.group,
        "split.column": split_column,
        "data.dedupe.order": data.dedupe.order if data.dedupe else None,
    }
    keys = data.dedupe.keys if data.dedupe else ()
    return [(key, name) for key, name in named.items() if name is not None] + [("data.dedupe.keys", n) for n in keys]


def _role(column: Column, roles: dict[str | None, Role]) -> Role:
    if column.name in roles:
        return roles[column.name]
    if column.role in (Role.AFTER, Role.IGNORE):
        return column.role
    return Role.IGNORE if is_row_index(column.name) else Role.FEATURE


def _check_time(schema: Schema, empty: Collection[str]) -> None:
    name = schema.name_of(Role.TIME)
    if name in empty:
        where = f"recipe: 'data.time': column '{name}'"
        hint = "look at the source; or leave data.time out"
        raise errors.RecipeError.build(where, got="no value in any row", expected="dates or times", hint=hint)
    if name and schema[name].kind is not Kind.DATETIME:
        quoted = expressions.quoted_name(name)
        read = f"TIMESTAMP '1970-01-01' + {quoted} * INTERVAL '1 second'"
        if schema[name].type == "string":
            read = f"STRPTIME({quoted}, '%Y-%m-%d %H:%M:%S')"
        where = f"recipe: 'data.time': column '{name}'"
        got = f"{schema[name].kind} ({schema[name].type})"
        hint = f"derive one, e.g. derive: {{at: {json.dumps(read, ensure_ascii=False)}}}"
        raise errors.RecipeError.build(where, got=got, expected="dates or times", hint=hint)
