"""The schema file: written after a collection, reviewed by a person, enforced from then on.

A contract fixes type, nullability, range, length, pattern, allowed values and uniqueness of
each column, and holds rules over the columns of a row::

    columns:
    - {name: tailnum, type: string, kind: categorical, pattern: '^N[0-9A-Z]+$', max_length: 6}
    - {name: flight_id, type: string, kind: categorical, nullable: false, unique: true}
    rules:
      arrives_after_departure: arr_time >= dep_time
      flies: {check: distance > 0, max_fraction: 0.001}

Rows that break it go to quarantine with every rule that they break. A rule is SQL as in ``data.derive`` and breaks
where it is false, not where it is null. If more rows than its own `max_fraction` break a rule, the run stops. Of rows
that repeat a unique value the first stays (``data.dedupe`` keeps the last instead). A column that the contract asks
for and nobody delivers stops the run; one that it does not know is left out. Without ``columns`` types are inferred,
and only the rules are checked. NaN counts as null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mlsys import errors, expressions
from mlsys.readers.conversion import without_nan
from mlsys.recipe.loading import KeysOnce
from mlsys.schema import ROW, Column, Schema, arrow_type
from mlsys.store import write_atomic

DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The same YAML, five times as fast where PyYAML was built with libyaml: tables may have 10,000 columns."""
HEADER = """\
# The columns of '{name}' as collected. Edit it (minimum, maximum, allowed, nullable, unique, pattern, min_length,
# max_length, kind, unit), add rules over several columns, e.g.  rules: {{arrives_later: arr_time >= dep_time}},
# and enforce it from then on with, in the recipe:   data: {{contract: {file}}}
"""
HINT = "a run without data.contract writes one: schema.yaml"


class CheckedColumn(Column):
    """A column, with checks of its texts.

    `pattern` is a regular expression (RE2) that has to match somewhere in the value, so ``^``
    and ``$`` belong to one for the whole of it; lengths are in characters, ends included.
    """

    pattern: str | None = None
    min_length: int | None = Field(None, ge=0)
    max_length: int | None = Field(None, ge=0)


class Rule(BaseModel):
    """A condition on the columns of a row, and the fraction of rows that may break it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    max_fraction: float | None = Field(None, ge=0, le=1)

    def text(self, name: str) -> str:
        """The name of the rule in reports and in the quarantine."""
        return f"rule '{name}': {self.check}"


def _spelt_out(value: Any) -> Any:
    return {"check": value} if isinstance(value, str) else value


class Contract(Schema):
    """A data contract: columns with their checks, and rules by name."""

    columns: tuple[CheckedColumn, ...] = ()
    rules: dict[str, Annotated[Rule, BeforeValidator(_spelt_out)]] = Field(default={})

    @property
    def limits(self) -> dict[str, float]:
        """The fraction of rows that may break a rule, by the rule's text."""
        fractions = {rule.text(name): rule.max_fraction for name, rule in self.rules.items()}
        return {text: fraction for text, fraction in fractions.items() if fraction is not None}


class _ContractLoader(KeysOnce, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which a key may stand only once: one of two checks would be lost."""


def save(schema: Schema, path: Path, name: str, contract: Contract | None = None) -> None:
    """Write a schema for review, with what `contract` checks beyond it; `load` reads it back."""
    rows = []
    for column in schema:
        row = column.model_dump(mode="json", exclude_defaults=True)
        if contract is not None and column.name in contract:
            checks = contract[column.name].model_dump(mode="json", exclude_defaults=True)
            row |= {key: value for key, value in checks.items() if key not in Column.model_fields}
        rows.append(f"- {_line(row)}")
    rules = [f"  {_line({key: _written(rule)})[1:-1]}" for key, rule in (contract.rules if contract else {}).items()]
    lines = ["columns:", *rows, *(["rules:", *rules] if rules else [])]
    write_atomic(path, (HEADER.format(name=name, file=path.name) + "\n".join(lines) + "\n").encode())


def load(path: str | Path) -> Contract:
    """Read a schema file.

    Raises
    ------
    ContractError
        It is missing, not YAML, names a column twice, a column has an unknown key, type or kind, or
        a check that values of its type cannot have, or that none can keep, or a rule is no expression.
    """
    where = f"contract '{path}'"
    try:
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), _ContractLoader)  # noqa: S506  (a safe loader)
        contract = Contract.model_validate(tree)
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ContractError.build(where, got=str(error), expected="a schema file", hint=HINT) from None
    except yaml.YAMLError as error:
        raise errors.ContractError.build(where, got=" ".join(str(error).split()), expected="YAML") from None
    except ValidationError as error:
        raise _explained(where, error, tree) from None
    twice = [name for name, times in Counter(contract.names).items() if times > 1]
    if twice:
        raise errors.ContractError.build(where, got=f"column '{twice[0]}' twice", expected="each column once")
    for column in contract.columns:
        _check_column(where, column)
    try:
        for name, rule in contract.rules.items():
            expressions.parse(name, rule.check, f"{where}, rule")
    except errors.RecipeError as error:
        raise errors.ContractError(str(error)) from None
    return contract


def _line(row: dict[str, Any]) -> str:
    text = yaml.dump(row, None, DUMPER, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return str(text).strip()


def _written(rule: Rule) -> Any:
    return rule.check if rule.max_fraction is None else rule.model_dump()


def _check_column(where: str, column: CheckedColumn) -> None:
    """Refuse a type that snapshots do not store, and checks that values of the type cannot be put to."""
    where = f"{where}, column '{column.name}'"
    # 1. The type is one that snapshots store.
    try:
        kind = arrow_type(column.type)
    except ValueError as error:
        raise errors.ContractError.build(
            where, got=str(error), expected="Arrow types, e.g. int64, double, string", field="type"
        ) from None
    # 2. Each check fits the type, and lower bounds lie below upper ones.
    is_number, is_text = pa.types.is_integer(kind) or pa.types.is_floating(kind), pa.types.is_string(kind)
    fitting = {"minimum": is_number, "maximum": is_number, "pattern": is_text}
    for key, fits in (fitting | dict.fromkeys(("min_length", "max_length"), is_text)).items():
        if getattr(column, key) is not None and not fits:
            got = f"'{key}' for values of type {column.type}"
            expected = "minimum and maximum for numbers; pattern, min_length and max_length for text"
            hint = f"rules: {{a_name: {expressions.quoted_name(column.name)} …}} says it in SQL"
            raise errors.ContractError.build(where, got=got, expected=expected, hint=hint, field=key)
    for low, high in (("minimum", "maximum"), ("min_length", "max_length")):
        bounds = getattr(column, low), getattr(column, high)
        if None not in bounds and bounds[0] > bounds[1]:
            raise errors.ContractError.build(
                where, got=f"{low} {bounds[0]:g}, {high} {bounds[1]:g}", expected=f"{low} up to {high}", field=low
            )
    # 3. The pattern is a regular expression, and the allowed values have the type.
    try:
        pc.match_substring_regex(pa.array([""]), column.pattern or "")
        pa.array(column.allowed or ()).cast(kind)
    except pa.ArrowException as error:
        key = "pattern" if "regular expression" in str(error) else "allowed"
        got = f"{key}: {' '.join(str(error).split())}"
        expected = "a regular expression (RE2)" if key == "pattern" else f"values of type {column.type}"
        raise errors.ContractError.build(where, got=got, expected=expected, field=key) from None


def _explained(where: str, error: ValidationError, tree: Any) -> errors.ContractError:
    fault = error.errors()[0]
    path = fault["loc"]
    if not path:
        got = "nothing" if tree is None else f"a YAML {type(tree).__name__}"
        return errors.ContractError.build(where, got=got, expected="columns: and rules:", hint=HINT)
    known: type[BaseModel] = Contract
    what = "schema file"
    if len(path) > 1 and path[0] == "columns":
        row, known, what = tree["columns"][path[1]], CheckedColumn, "column"
        where = f"{where}, column '{row.get('name', path[1]) if isinstance(row, dict) else path[1]}'"
    elif len(path) > 1:
        where, known, what = f"{where}, rule '{path[1]}'", Rule, "rule"
    key = str(path[-1])
    if fault["type"] == "extra_forbidden":
        hint = errors.did_you_mean(key, known.model_fields)
        return errors.ContractError.build(
            where, got=f"key '{key}'", expected=f"a key of a {what}", hint=hint, field=key
        )
    return errors.ContractError.build(where, got=f"{key}: {fault['input']!r}", expected=fault["msg"], field=key)


def check_rules(contract: Contract, stored: pa.Schema) -> None:
    """Raise a `ContractError` for a rule that the stored columns cannot give, or that is neither true nor false."""
    for name, rule in contract.rules.items():
        try:
            (kind,) = expressions.types(stored, {name: rule.check}, "contract: rule").values()
        except errors.RecipeError as error:
            raise errors.ContractError(str(error)) from None
        if not pa.types.is_boolean(kind):
            where = f"contract: rule '{name}' = {rule.check}"
            expected = "a comparison, true or false for each row"
            raise errors.ContractError.build(
                where, got=f"a value of type {kind}", expected=expected, hint="e.g. arr_time >= dep_time", field=name
            )


def violated_rules(table: pa.Table, contract: Contract) -> Iterator[tuple[list[str], str, pa.Array]]:
    """Yield for each rule that some rows break its columns, its text, and the mask of the rows (never null)."""
    names = frozenset(table.column_names)
    for column in contract.columns:
        if column.name not in names:
            continue
        values = without_nan(table[column.name].combine_chunks())
        for text, mask in _checks(column, values):
            is_broken = mask.fill_null(False)
            if is_broken.true_count:
                yield [column.name], f"column '{column.name}': {text}", is_broken
    for name, rule in contract.rules.items():
        read = list(expressions.parse(name, rule.check, "contract: rule").inputs)
        columns = {name: without_nan(table[name].combine_chunks()) for name in [*read, ROW]}
        holds = expressions.add(pa.table(columns), {name: rule.check}, "contract: rule")[name].combine_chunks()
        is_broken = pc.invert(holds).fill_null(False)
        if is_broken.true_count:
            yield read, rule.text(name), is_broken


def _checks(column: CheckedColumn, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if not column.nullable:
        yield "null", pc.is_null(values)
    if column.minimum is not None:
        yield f"below the minimum {column.minimum:g}", pc.less(values, column.minimum)
    if column.maximum is not None:
        yield f"above the maximum {column.maximum:g}", pc.greater(values, column.maximum)
    if column.allowed is not None:
        allowed = pa.array(column.allowed).cast(values.type)
        yield "not among the allowed values", pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, allowed)))
    if column.pattern is not None:
        yield f"does not match {column.pattern}", pc.invert(pc.match_substring_regex(values, column.pattern))
    if column.min_length is not None:
        yield f"shorter than {column.min_length} characters", pc.less(pc.utf8_length(values), column.min_length)
    if column.max_length is not None:
        yield f"longer than {column.max_length} characters", pc.greater(pc.utf8_length(values), column.max_length)
