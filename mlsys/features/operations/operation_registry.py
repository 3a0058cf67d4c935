"""The one table of operations: by the word of the recipe, and by the tag of a stored program.

To add an operation: its options in `mlsys.recipe.columns`, its file beside this one, a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys import errors
from mlsys.features.domains import Domain
from mlsys.features.operations import categorical, datetimes, image, lists, numeric, pixels, target, terms, text
from mlsys.features.operations.operation import FitInputs, Operation, OperationChoice, OperationSpec
from mlsys.statistics import TableStatistics

OPERATIONS: dict[str, OperationSpec] = {
    spec.name: spec
    for spec in (
        numeric.NUMERIC,
        categorical.CODES,
        categorical.KEYS,
        categorical.ONEHOT,
        categorical.FREQUENCY,
        target.TARGET,
        categorical.HASH,
        categorical.BOOLEAN,
        datetimes.DATETIME,
        datetimes.ELAPSED,
        datetimes.TREND,
        lists.LIST,
        text.TEXT,
        text.TFIDF,
        terms.TERMS,
        image.IMAGE,
        pixels.PIXELS,
    )
}
"""Word of the recipe → operation; `drop`, which reads nothing, is none."""

FITTED: dict[str, type[Operation]] = {kind.name: kind for spec in OPERATIONS.values() for kind in spec.fitted}
"""Tag of a stored program → class of the fitted operation."""


def fitting_operations(domain: Domain | None) -> list[str]:
    """Words of the recipe for a column of a domain, `drop` at the end."""
    names = [name for name, spec in OPERATIONS.items() if domain is not None and domain.name in spec.domains]
    return [*names, "drop"]


def fit_operation(
    choice: OperationChoice, domains: Mapping[str, Domain], statistics: TableStatistics, *, dense: bool
) -> Operation:
    """Fit the operation of a choice; this does not fail on a column without values."""
    inputs = FitInputs(choice, tuple(domains[column] for column in choice.reads), statistics, dense)
    return OPERATIONS[choice.operation].fit(inputs)


def read_operation(value: Mapping[str, Any]) -> Operation:
    """Read the operation that `Operation.to_json` wrote; `BundleError` if its tag is not known."""
    fields = dict(value)
    name = fields.pop("operation")
    if name not in FITTED:
        got, hint = f"operation {name!r}", errors.did_you_mean(str(name), FITTED)
        raise errors.BundleError.build("features: program", got=got, expected="a known one", hint=hint)
    return FITTED[name].from_json(fields)
