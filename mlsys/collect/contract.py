"""The schema file: written after a collection, reviewed by a person, enforced from then on.

A contract fixes type, nullability, range, allowed values and uniqueness of each column. Rows
that break it go to quarantine with the rule that they break. A column that the contract asks
for and nobody delivers stops the run; one that it does not know is left out, and the report
says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import ValidationError

from mlsys import errors
from mlsys.schema import Column, Schema, arrow_type
from mlsys.store import write_atomic

__all__ = ["broken_rules", "load", "save"]

HEADER = """\
# The columns of '{name}' as collected. Edit it (minimum, maximum, allowed, nullable, unique, kind, unit) and
# enforce it from then on with, in the recipe:   data: {{contract: {file}}}
"""


def save(schema: Schema, path: Path, name: str) -> None:
    """Write a schema for review; `load` reads it back."""
    rows = [column.model_dump(mode="json", exclude_defaults=True) for column in schema]
    lines = [
        f"- {yaml.safe_dump(row, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000).strip()}"
        for row in rows
    ]
    text = HEADER.format(name=name, file=path.name) + "columns:\n" + "\n".join(lines) + "\n"
    write_atomic(path, text.encode())


def load(path: str | Path) -> Schema:
    """Read a schema file.

    Raises
    ------
    ContractError
        It is missing, not YAML, or a column has an unknown key, type or kind.
    """
    where = f"contract '{path}'"
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        schema = Schema.model_validate(tree)
        for column in schema:
            arrow_type(column.type)
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ContractError.build(
            where, got=str(error), expected="a schema file", hint="a run without data.contract writes one: schema.yaml"
        ) from None
    except yaml.YAMLError as error:
        raise errors.ContractError.build(where, got=" ".join(str(error).split()), expected="YAML") from None
    except ValidationError as error:
        raise _explained(where, error, tree) from None
    except ValueError as error:
        raise errors.ContractError.build(
            where, got=str(error), expected="Arrow types, e.g. int64, double, string"
        ) from None
    return schema


def broken_rules(table: pa.Table, contract: Schema) -> Iterator[tuple[str, str, pa.Array]]:
    """Rules that some rows break: the column, the rule's text, and a mask of the rows (never null)."""
    for column in contract:
        if column.name not in table.column_names:
            continue
        values = table[column.name].combine_chunks()
        for rule, mask in _rules(column, values):
            filled = mask.fill_null(False)
            if filled.true_count:
                yield column.name, f"column '{column.name}': {rule}", filled


def _rules(column: Column, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if not column.nullable:
        yield "null", pc.is_null(values)
    if column.minimum is not None:
        yield f"below the minimum {column.minimum:g}", pc.less(values, column.minimum)
    if column.maximum is not None:
        yield f"above the maximum {column.maximum:g}", pc.greater(values, column.maximum)
    if column.allowed is not None:
        allowed = pa.array(column.allowed).cast(values.type)
        yield "not among the allowed values", pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, allowed)))


def _explained(where: str, error: ValidationError, tree: Any) -> errors.ContractError:
    """The first fault, with the name of its column."""
    fault = error.errors()[0]
    path = fault["loc"]
    if len(path) > 1 and isinstance(path[1], int):
        row = tree["columns"][path[1]]
        where = f"{where}, column '{row.get('name', path[1]) if isinstance(row, dict) else path[1]}'"
    key = str(path[-1]) if path else ""
    if fault["type"] == "extra_forbidden":
        hint = errors.did_you_mean(key, Column.model_fields)
        return errors.ContractError.build(where, got=f"key '{key}'", expected="a key of a column", hint=hint, field=key)
    return errors.ContractError.build(where, got=f"{key}: {fault['input']!r}", expected=fault["msg"], field=key)
