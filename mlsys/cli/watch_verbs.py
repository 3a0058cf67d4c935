"""Verbs that watch a registered model: the monitor, and labels that come in late."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mlsys.cli.application import NAMES, Labels, ReadSettings, Settings, StoreRoot, app
from mlsys.cli.endings import exit_codes, open_store

MONITOR_MODEL = "name, name@alias or name@version; or a recipe, which means the model of its name and its settings"


@app.command(rich_help_panel=NAMES)
def monitor(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MONITOR_MODEL)],
    settings: Settings = None,
    store: StoreRoot = None,
    labels: Labels = None,
) -> None:
    """9: judge a model's logged predictions; the exit code says what to do."""
    watch(model, settings, store, labels)


@app.command("labels", rich_help_panel=NAMES)
def take_labels(
    model: Annotated[str, typer.Argument(metavar="NAME", help="the model")],
    source: Annotated[str, typer.Argument(help="labels by id: a source as data.source in a recipe")],
    settings: ReadSettings = None,
    store: StoreRoot = None,
) -> None:
    """Take labels in that come after the predictions, for every later run of the monitor."""
    from mlsys.workflow import watch as work

    received = work.receive_labels(open_store(store), model, source, settings or ())
    typer.echo(received.summary)
    for message in received.counts.messages:
        typer.echo(message)


def watch(
    model: str, settings: list[str] | None = None, store: Path | None = None, labels: str | None = None
) -> NoReturn:
    """Judge a model's predictions, print the result, and leave with the code of the decision."""
    with exit_codes():
        raise SystemExit(_watch(model, settings or [], store, labels))


def _watch(model: str, settings: list[str], root: Path | None, labels: str | None) -> int:
    from mlsys.workflow import watch as work

    recipe: Any = None
    if model.endswith((".yaml", ".yml")) or Path(model).is_file():
        from mlsys.recipe import load

        recipe = load(model, settings)
        model = f"{recipe.name}@{recipe.deploy.alias}"
    result = work.monitor(open_store(root), model, settings, labels, recipe)
    typer.echo(f"9 monitor    {result.summary}")
    for message in result.messages:
        typer.echo(f"            {message}")
    if result.report:
        typer.echo(f"            report {result.report}")
    return result.exit_code
