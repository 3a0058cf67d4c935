"""The recipe that a user writes: one YAML file, read as one frozen tree of sections.

``name``, ``data.source`` and ``target`` are required; everything else has a default. The
resolved recipe, defaults filled in, is written beside each run and reproduces it.
"""

from __future__ import annotations

from mlsys.recipe.loading import dump, json_schema, load, override, parse
from mlsys.recipe.sections import (
    Aggregate,
    Data,
    Dedupe,
    Deploy,
    Evaluate,
    Explore,
    Features,
    Incremental,
    Join,
    Monitor,
    Reading,
    ReadOptions,
    Recipe,
    Selection,
    SplitSection,
    Threshold,
    Train,
    Tune,
)

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
    "ReadOptions",
    "Reading",
    "Recipe",
    "Selection",
    "SplitSection",
    "Threshold",
    "Train",
    "Tune",
    "dump",
    "json_schema",
    "load",
    "override",
    "parse",
]
