"""Directions along columns that predictions have to keep, as signs of features.

A tree keeps a direction along a feature that rises with the column. That is the number itself: whatever else a column
is made into (categories, parts of a time, terms of a text, two features) has no direction, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mlsys import errors
from mlsys.features.operations.numeric import Numeric, QuantileBins
from mlsys.features.operations.operation import Operation
from mlsys.features.program import FeatureProgram

SIGNS = {"increasing": 1, "decreasing": -1}


def signs(program: FeatureProgram, monotone: Mapping[str, Literal["increasing", "decreasing"]]) -> tuple[int, ...]:
    """The sign of each feature of a program; empty where no direction is asked for.

    Raises
    ------
    RecipeError
        A column is not there, is not used, or is no single number among the features.
    """
    made: dict[str, list[Operation]] = {name: [] for name in monotone}
    for operation in program.operations:
        if operation.column in made:
            made[operation.column].append(operation)
    for name, operations in made.items():
        if (
            len(operations) != 1
            or not isinstance(operations[0], Numeric | QuantileBins)
            or len(operations[0].types) > 1
        ):
            raise _refused(name, operations, program)
    if not monotone:
        return ()
    return tuple(
        SIGNS[monotone[operation.column]] if operation.column in monotone else 0
        for operation in program.operations
        for _ in operation.types
    )


def _refused(name: str, operations: list[Operation], program: FeatureProgram) -> errors.RecipeError:
    where, expected = f"recipe: train.monotone '{name}'", "a column that is one number among the features"
    if not operations:
        known = sorted({operation.column for operation in program.operations})
        hint = errors.did_you_mean(name, known)
        return errors.RecipeError.build(
            where, got="no feature of that column", expected=expected, hint=hint, field=name
        )
    named = ", ".join(operation.name for operation in operations)
    hint = f"features.columns: {{{name}: numeric}} makes it one, if its values are numbers"
    return errors.RecipeError.build(
        where, got=f"a column that becomes: {named}", expected=expected, hint=hint, field=name
    )
