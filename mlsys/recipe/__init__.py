"""What a user writes: one YAML file, one frozen tree of sections.

``name``, ``data.source`` and ``target`` are required; everything else has a default. The
resolved recipe, defaults filled in, is written beside each run and reproduces it.
"""

from __future__ import annotations

from mlsys.recipe.files import dump, json_schema, load, parse
from mlsys.recipe.sections import (
    Deploy,
    Evaluate,
    Explore,
    Features,
    Monitor,
    Recipe,
    Selection,
    Split,
    Threshold,
    Train,
    Tune,
)
from mlsys.recipe.tables import Aggregate, Data, Dedupe, Incremental, Join, Reading

__all__ = [
    "Aggregate",
    "Data",
    "Dedupe",
    "Deploy",
    "Evaluate",
    "Explore",
    "Features",
    "Incremental",
    "Join",
    "Monitor",
    "Reading",
    "Recipe",
    "Selection",
    "Split",
    "Threshold",
    "Train",
    "Tune",
    "dump",
    "json_schema",
    "load",
    "parse",
]
