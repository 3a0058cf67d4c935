"""Name verbs: they operate what is registered, and never run a step of a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from mlsys.cli.application import NAMES, StoreRoot, app
from mlsys.cli.endings import open_store


@app.command(rich_help_panel=NAMES)
def predict(
    model: Annotated[str, typer.Argument(help="name@alias, name@version or name, which means name@champion")],
    source: Annotated[
        str, typer.Argument(help="as data.source in a recipe: path, folder, glob, URI, table of a lake or database")
    ],
    output: Annotated[str, typer.Argument(help="folder for the predictions, or the URI of one")],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="COLUMN", help="column to carry over, may be repeated; the id and time columns by default"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="how the source is read, if not as in training: reading.delimiter=';', reading.query=…, timezone=UTC",
        ),
    ] = None,
    store: StoreRoot = None,
) -> None:
    """Batch: a source in, files out: keys, prediction, probabilities, model version."""
    from mlsys import cluster
    from mlsys.deploy import batch

    home = open_store(store)
    cluster.connect(home)
    result = batch.predict(home, model, source, output, keys=tuple(key or ()), settings=settings or ())
    typer.echo(result.summary)


@app.command(rich_help_panel=NAMES)
def rollback(
    name: Annotated[str, typer.Argument(help="the model")],
    alias: Annotated[str, typer.Option(help="the alias to move")] = "champion",
    store: StoreRoot = None,
) -> None:
    """Give the alias back to the version that had it before, and serve that one if an endpoint runs."""
    from mlsys import cluster, registry
    from mlsys.recipe import load

    home = open_store(store)
    entry = registry.rollback(home, name, alias)
    typer.echo(f"{name}@{alias} is version {entry.version} again")
    if cluster.status(home) is not None:
        from mlsys.deploy import serving

        cluster.connect(home)
        settings = load(home.run_folder(name) / "resolved.yaml").deploy
        endpoint = serving.start(home, name, entry.digest, entry.version, settings)
        typer.echo(f"{endpoint.url} answers with it")
