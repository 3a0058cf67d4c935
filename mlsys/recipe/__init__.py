"""The recipe that a user writes: one YAML file, read as one frozen tree of sections.

``name``, ``data.source`` and ``target`` are required; everything else has a default. The
resolved recipe, defaults filled in, is written beside each run and reproduces it.
"""

from __future__ import annotations

from mlsys.recipe.alert_section import AlertSection
from mlsys.recipe.deploy_section import BatchSection, DeploySection, LimitsSection, RolloutSection
from mlsys.recipe.evaluate_section import Behaviour, EvaluateSection, FairnessSection, Threshold
from mlsys.recipe.loading import dump, json_schema, load, override, parse, set_values
from mlsys.recipe.maintain_section import MaintainSection
from mlsys.recipe.reading import Reading
from mlsys.recipe.sections import (
    Aggregate,
    DataSection,
    Dedupe,
    FeaturesSection,
    Incremental,
    Join,
    MonitorSection,
    ReadOptions,
    Recipe,
    SelectionSection,
)

__all__ = [
    "Aggregate",
    "AlertSection",
    "BatchSection",
    "Behaviour",
    "DataSection",
    "Dedupe",
    "DeploySection",
    "EvaluateSection",
    "FairnessSection",
    "FeaturesSection",
    "Incremental",
    "Join",
    "LimitsSection",
    "MaintainSection",
    "MonitorSection",
    "ReadOptions",
    "Reading",
    "Recipe",
    "RolloutSection",
    "SelectionSection",
    "Threshold",
    "dump",
    "json_schema",
    "load",
    "override",
    "parse",
    "set_values",
]
