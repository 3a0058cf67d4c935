"""Verbs that follow a model back to what made it, and say why a run ended as it did."""

from __future__ import annotations

from typing import Annotated

import typer

from mlsys.cli.application import NAMES, AsJson, StoreRoot, app, show
from mlsys.cli.endings import opened


@app.command(rich_help_panel=NAMES)
def reproduce(
    target: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="or NAME@ALIAS, NAME@DIGEST")],
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Make a version again from its receipt; exit code 5 if that gives another bundle, and what differs."""
    from mlsys import operate

    done = operate.reproduce(target, store=opened(store))
    show(done.to_json(), done.summary, as_json=as_json)
    raise typer.Exit(done.exit_code)


@app.command(rich_help_panel=NAMES)
def why(
    run: Annotated[str, typer.Argument(metavar="NAME|RUN", help="a name, or the id of a run")],
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Explain a run that failed or is odd: which step, what it read, what to change, where more is."""
    from mlsys import operate

    explained = operate.why(run, store=opened(store))
    show(explained.to_json(), explained.summary, as_json=as_json)
