"""Verbs that follow a model back to what made it, and say why a run ended as it did."""

from __future__ import annotations

from typing import Annotated, Literal

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


@app.command(rich_help_panel=NAMES)
def lineage(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="the id of a prediction or batch prediction, NAME@VERSION, or a file: path, URI, SHA-256",
        ),
    ],
    kind: Annotated[
        Literal["prediction", "version", "source", "batch"] | None, typer.Option("--kind", help="which of these it is")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="of a prediction: the model; all by default")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="of a prediction: near which it was answered, ISO 8601")
    ] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Follow a prediction or a version back to its files, recipe and code, or a file to all that was made of it."""
    from mlsys import operate

    traced = operate.lineage(target, kind=kind, model=model, at=at, store=opened(store))
    show(traced.to_json(), traced.summary, as_json=as_json)
