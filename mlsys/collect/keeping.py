"""Rows put to a contract: which of them break which of its rules. NaN is no value here either."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors, expressions
from mlsys.collect.contract import Checked, Contract
from mlsys.collect.convert import without_nan
from mlsys.schema import ROW

__all__ = ["broken", "check"]


def check(contract: Contract, stored: pa.Schema) -> None:
    """Refuse rules that the columns of the snapshot cannot be put into, or that are neither true nor false.

    Raises
    ------
    ContractError
    """
    for name, rule in contract.rules.items():
        try:
            (kind,) = expressions.types(stored, {name: rule.check}, "contract: rule").values()
        except errors.RecipeError as error:
            raise errors.ContractError(str(error)) from None
        if not pa.types.is_boolean(kind):
            raise errors.ContractError.build(
                f"contract: rule '{name}' = {rule.check}",
                got=f"a value of type {kind}",
                expected="a comparison, true or false for each row",
                hint="e.g. arr_time >= dep_time",
                field=name,
            )


def broken(table: pa.Table, contract: Contract) -> Iterator[tuple[list[str], str, pa.Array]]:
    """Rules that some rows break: the columns, the rule's text, and a mask of the rows (never null)."""
    there = frozenset(table.column_names)
    for column in contract.columns:
        if column.name not in there:
            continue
        values = without_nan(table[column.name].combine_chunks())
        for text, mask in _rules(column, values):
            filled = mask.fill_null(False)
            if filled.true_count:
                yield [column.name], f"column '{column.name}': {text}", filled
    for name, rule in contract.rules.items():
        read = list(expressions.parse(name, rule.check, "contract: rule").inputs)
        columns = {name: without_nan(table[name].combine_chunks()) for name in [*read, ROW]}
        kept = expressions.add(pa.table(columns), {name: rule.check}, "contract: rule")[name].combine_chunks()
        mask = pc.invert(kept).fill_null(False)
        if mask.true_count:
            yield read, rule.text(name), mask


def _rules(column: Checked, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
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
