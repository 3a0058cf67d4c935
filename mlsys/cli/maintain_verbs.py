"""The verb that maintains a model: once, or again and again."""

from __future__ import annotations

from typing import Annotated

import typer

from mlsys import errors
from mlsys.cli.application import RECIPES, AsJson, Settings, StoreRoot, app, show
from mlsys.cli.endings import opened


@app.command(rich_help_panel=RECIPES)
def maintain(
    model: Annotated[
        str, typer.Argument(metavar="NAME|RECIPE", help="a model, as its recipe was run last; or a recipe")
    ],
    settings: Settings = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="SPAN", help="again and again, on the cluster, e.g. 1d")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="of a name: no longer again and again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")] = False,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Labels, monitor, and a new model where one is due and its rows are sound; its gate decides what is served."""
    from mlsys import operate

    given = [option for option, value in (("--every", every), ("--stop", stop), ("--dry-run", dry_run)) if value]
    if len(given) > 1:
        raise errors.RecipeError.build("maintain: options", got=" and ".join(given), expected="one of them")
    home = opened(store)
    if stop:
        was_scheduled = operate.end_maintenance(model, store=home)
        text = f"{model} is no longer maintained by itself" if was_scheduled else f"{model} had no schedule"
        show({"name": model, "ended": was_scheduled}, text, as_json=as_json)
    elif every is not None:
        schedule = operate.schedule_maintenance(model, every, set=settings or (), store=home)
        show(schedule.to_json(), schedule.summary, as_json=as_json)
    else:
        result = operate.maintain(model, set=settings or (), dry_run=dry_run, quiet=as_json, store=home)
        lines = [f"  {line}" for line in result.messages]
        show(result.to_json(), "\n".join([result.summary, *lines]), as_json=as_json)
        raise typer.Exit(result.exit_code)
