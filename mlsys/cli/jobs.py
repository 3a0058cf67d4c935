"""Files of ``jobs/``: the verb of a file's name, with the recipe as ``--recipe``; the monitor also takes ``--name``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mlsys.cli.application import Labels, Settings, StoreRoot
from mlsys.cli.endings import exit_codes
from mlsys.cli.recipe_verbs import perform
from mlsys.cli.watch_verbs import MONITOR_MODEL, watch


def job(step: str) -> None:
    """Run a file of ``jobs/``; its exit code is that of the verb."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    single.command()(_monitor if step == "monitor" else _step(step))
    with exit_codes():
        single()


def _step(step: str) -> Callable[..., None]:
    def command(
        recipe: Annotated[Path, typer.Option("--recipe", help="the recipe, a YAML file")],
        settings: Settings = None,
        store: StoreRoot = None,
        labels: Labels = None,
    ) -> None:
        perform(step, recipe, settings, store, labels)

    return command


def _monitor(
    name: Annotated[str | None, typer.Option("--name", help=MONITOR_MODEL)] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="a recipe of the model, a YAML file")] = None,
    settings: Settings = None,
    store: StoreRoot = None,
    labels: Labels = None,
) -> None:
    if (name is None) == (recipe is None):
        raise typer.BadParameter("one of --name and --recipe")
    watch(str(name or recipe), settings, store, labels)
