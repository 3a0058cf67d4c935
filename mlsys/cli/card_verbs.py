"""Verbs that say what is known of a version: its model card, and its behavioural tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsys.cli.application import NAMES, AsJson, StoreRoot, app, show
from mlsys.cli.endings import opened


@app.command(rich_help_panel=NAMES)
def card(
    target: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@ALIAS, NAME@VERSION, NAME@DIGEST")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="a file to write the Markdown to; printed by default")
    ] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Print the model card of a version: what it predicts, from what, how well and for whom."""
    from mlsys import operate

    made = operate.card(target, output, store=opened(store))
    text = made.text.rstrip("\n") if output is None else f"wrote {output}"
    show(made.values, text, as_json=as_json)


@app.command(rich_help_panel=NAMES)
def behaviours(
    target: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@ALIAS, NAME@VERSION, NAME@DIGEST")],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="a recipe whose behaviours are asked for; by default its own")
    ] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Put the behavioural tests of its recipe, or of another, to a version; exit code 1 if one fails."""
    from mlsys import operate

    results = operate.behaviours(target, recipe, store=opened(store))
    show(results.to_json(), results.summary, as_json=as_json)
    raise typer.Exit(0 if results.is_passed else 1)
