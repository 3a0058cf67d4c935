"""The device of a fit: a GPU where the recipe asks for one or the cluster has one that the library can use, or the CPU.

A comparison and a search fit samples, several at a time, on CPUs; the fit of the model of step 5 is the one that a GPU
makes shorter, and the one that asks Ray for it. A GPU that is asked for and not there is refused before the first fit;
where there is none and none is asked for, nothing is different.
"""

from __future__ import annotations

from typing import Any

from mlsys import cluster, errors, models
from mlsys.models.families.ensemble import EnsembleParams
from mlsys.models.interface import Device, DistributedFamily, FamilyParams
from mlsys.recipe import Recipe
from mlsys.schema import Task


def check(recipe: Recipe) -> None:
    """Refuse a GPU that is not there, or that the family which the recipe names cannot use, before rows are collected.

    Raises
    ------
    ClusterError
        `train.device` is cuda, and no machine of the cluster has a GPU.
    RecipeError
        The family of the recipe cannot be fitted on one here.
    """
    if recipe.train.device != "cuda":
        return
    if cluster.num_gpus() < 1:
        machines = cluster.num_nodes()
        raise errors.ClusterError.build(
            "recipe: train.device",
            got=f"cuda, and no GPU on {'the one machine' if machines == 1 else f'any of the {machines} machines'} of "
            "the cluster",
            expected="a machine that Ray knows a GPU of (`ray status` lists them)",
            hint="train.device: auto takes a GPU where there is one, or add a machine that has one",
        )
    if recipe.train.family != "auto":
        lacks = models.family(recipe.train.family).lacks_cuda()
        if lacks is not None:
            raise errors.RecipeError.build(
                "recipe: train.device",
                got=f"cuda for family '{recipe.train.family}': {lacks}",
                expected="a family whose library can use a GPU here",
                hint="train.device: auto, or another train.family",
            )


def choose(
    recipe: Recipe, family: str, task: Task, params: FamilyParams, signs: tuple[int, ...] = (), plan: str = "task"
) -> Device:
    """Choose the device of a fit: a GPU where there is one that the family, or a member of a mean, can use."""
    if recipe.train.device == "cpu" or cluster.num_gpus() < 1:
        return "cpu"
    names = [member.family for member in params.members] if isinstance(params, EnsembleParams) else [family]
    return "cuda" if any(why_not(name, task, signs, plan) is None for name in names) else "cpu"


def note(
    recipe: Recipe, device: Device, family: str, task: Task, signs: tuple[int, ...] = (), plan: str = "task"
) -> str | None:
    """Say which device a fit takes, where it is a GPU or one was asked for."""
    if device == "cuda":
        return "on a GPU"
    return f"on the CPU: {why_not(family, task, signs, plan)}" if recipe.train.device == "cuda" else None


def why_not(family: str, task: Task, signs: tuple[int, ...] = (), plan: str = "task") -> str | None:
    """Say why a family is not fitted on a GPU here; None where it can be."""
    chosen = models.family(family)
    if plan == "cluster" and isinstance(chosen, DistributedFamily) and not chosen.workers_on_gpus:
        return "its workers sum between CPUs"
    return chosen.lacks_cuda(task, is_monotone=any(signs))


def gpus(device: Device) -> int:
    """GPUs that a fit on a device asks Ray for."""
    return 1 if device == "cuda" else 0


def facts(device: Device) -> dict[str, Any]:
    """The device for the provenance of a model; nothing for the CPU, which goes without saying."""
    return {} if device == "cpu" else {"device": device}
