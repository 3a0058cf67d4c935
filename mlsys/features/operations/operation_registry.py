"""The operations of a stored program: which there are, and how each is read back from plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys import errors
from mlsys.features.domains import Domain
from mlsys.features.operations.categorical import Boolean, Codes, Frequency, Hashed, OneHot, QuantileBins
from mlsys.features.operations.datetimes import Datetime, Elapsed
from mlsys.features.operations.encoders import ImageEncoding
from mlsys.features.operations.image import Image
from mlsys.features.operations.lists import NumberList
from mlsys.features.operations.numeric import Numeric, Operation, Scaling
from mlsys.features.operations.target import Target
from mlsys.features.operations.text import Text, Tfidf

__all__ = ["OPERATIONS", "operation"]

OPERATIONS: dict[str, type[Operation]] = {
    kind.name: kind
    for kind in (
        Numeric,
        QuantileBins,
        Text,
        Tfidf,
        Boolean,
        Codes,
        OneHot,
        Frequency,
        Target,
        Hashed,
        Datetime,
        Elapsed,
        NumberList,
        Image,
        ImageEncoding,
    )
}


def operation(value: Mapping[str, Any]) -> Operation:
    """The operation that `Operation.to_json` wrote.

    Raises
    ------
    BundleError
        Its name is not known.
    """
    facts = dict(value)
    name = facts.pop("operation")
    if name not in OPERATIONS:
        hint = errors.did_you_mean(str(name), OPERATIONS)
        raise errors.BundleError.build(
            "features: program", got=f"operation {name!r}", expected="a known one", hint=hint
        )
    for key, inner in facts.items():
        if key in {"domain", "since_domain"}:
            facts[key] = Domain(**inner)
        elif key in {"scaling", "scalings"}:
            facts[key] = Scaling(**inner) if isinstance(inner, dict) else tuple(Scaling(**each) for each in inner)
        elif isinstance(inner, list):
            facts[key] = tuple(tuple(row) if isinstance(row, list) else row for row in inner)
    return OPERATIONS[name](**facts)
