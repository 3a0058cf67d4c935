"""The operations of a stored program: which there are, and how each is read back from plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys import errors
from mlsys.features.bins import Bins
from mlsys.features.elapsed import Elapsed
from mlsys.features.encoders import Encoded
from mlsys.features.hashed import Hashed
from mlsys.features.image import Image
from mlsys.features.lists import Numbers
from mlsys.features.lookups import Boolean, Codes, Frequency, OneHot
from mlsys.features.operations import Numeric, Operation, Scaling
from mlsys.features.target import Target
from mlsys.features.text import Text, Tfidf
from mlsys.features.times import Datetime
from mlsys.features.values import Domain

__all__ = ["OPERATIONS", "operation"]

OPERATIONS: dict[str, type[Operation]] = {
    kind.name: kind
    for kind in (
        Numeric,
        Bins,
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
        Numbers,
        Image,
        Encoded,
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
