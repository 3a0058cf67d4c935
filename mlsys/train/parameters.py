"""Parameters of a family as the recipe sets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys import models
from mlsys.recipe import Recipe

__all__ = ["LANDMARKS", "of", "said", "to_compare"]

_SHARED = ("rounds", "early_stopping")
"""Fields of the recipe's train section that are parameters of families with rounds."""

LANDMARKS = 2_000
"""Landmarks of a kernel machine that is only compared, with other families or another width."""


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


def to_compare(params: models.Params) -> models.Params:
    """Parameters whose scores say as well which is better, for a fraction of the cost; the final fit has `params`.

    A fit takes time in proportion to the square of the landmarks.
    """
    given: Any = params
    if "landmarks" not in type(params).model_fields or given.landmarks <= LANDMARKS:
        return params
    return params.model_copy(update={"landmarks": LANDMARKS})


def said(params: models.Params) -> list[str]:
    """What a reader of scores has to know where `to_compare` changed the parameters."""
    given: Any = params
    if to_compare(params) is params:
        return []
    return [f"kernel: scores are of fits with {LANDMARKS:,} landmarks; the final one has {given.landmarks:,}"]
