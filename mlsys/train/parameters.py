"""Parameters of a family as the recipe sets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys import models
from mlsys.recipe import Recipe

__all__ = ["of"]

_SHARED = ("rounds", "early_stopping")
"""Fields of the recipe's train section that are parameters of families with rounds."""


def of(recipe: Recipe, family: str, values: Mapping[str, Any] | None = None) -> models.Params:
    """Defaults of the family, over them the recipe, over that `values`.

    ``train.params`` count for the family that the recipe names; with ``auto`` a caller that
    knows the family passes them as `values`.

    Raises
    ------
    RecipeError
        The family does not know a name, or a value does not fit.
    """
    known = models.family(family).Params.model_fields
    shared = {name: getattr(recipe.train, name) for name in _SHARED if name in known}
    own = recipe.train.params if recipe.train.family == family else {}
    return models.params_of(family, {**shared, **own, **(values or {})})
