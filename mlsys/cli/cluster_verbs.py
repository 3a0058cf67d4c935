"""Verbs of the cluster that a store starts."""

from __future__ import annotations

from typing import Annotated

import typer

from mlsys.cli.application import CLUSTER, StoreRoot, app
from mlsys.cli.endings import open_store


@app.command(rich_help_panel=CLUSTER)
def up(
    store: StoreRoot = None,
    num_cpus: Annotated[int | None, typer.Option(help="CPUs that Ray may use; all by default")] = None,
) -> None:
    """Start a cluster on this machine; mlsys run does it by itself."""
    from mlsys import cluster

    typer.echo(f"cluster at {cluster.up(open_store(store), num_cpus)}")


@app.command(rich_help_panel=CLUSTER)
def down(store: StoreRoot = None) -> None:
    """End the cluster and the endpoints that were started from this store, and nothing else."""
    from mlsys import cluster

    typer.echo("stopped" if cluster.down(open_store(store)) else "nothing was running")


@app.command(rich_help_panel=CLUSTER)
def status(store: StoreRoot = None) -> None:
    """Say what runs: the cluster of this store."""
    from mlsys import cluster

    state = cluster.status(open_store(store))
    typer.echo(
        f"cluster at {state['address']}, dashboard {state['dashboard']}"
        if state
        else "nothing runs; mlsys up starts a cluster"
    )


@app.command(rich_help_panel=CLUSTER)
def env(store: StoreRoot = None) -> None:
    """Print what `ray`, `serve` and jobs need: eval "$(mlsys env)"."""
    import shlex

    from mlsys import cluster

    for name, value in cluster.client_environment(open_store(store)).items():
        typer.echo(f"export {name}={shlex.quote(value)}")
