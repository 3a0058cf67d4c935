"""Verbs of the cluster that a store starts."""

from __future__ import annotations

from typing import Annotated

import typer

from mlsys.cli.application import CLUSTER, AsJson, StoreRoot, app, show
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
def status(as_json: AsJson = False, store: StoreRoot = None) -> None:
    """Say what runs: cluster, endpoints with version and requests, work in progress, last decisions."""
    from mlsys.workflow import inventory

    home = open_store(store)
    state = inventory.status(home)
    if state["unfinished"]:
        from mlsys.deploy import by_name

        by_name.recover(home, state["unfinished"])
        state = inventory.status(home)
    show(state, inventory.status_text(state), as_json=as_json)


@app.command(rich_help_panel=CLUSTER)
def env(store: StoreRoot = None) -> None:
    """Print what `ray`, `serve` and jobs need: eval "$(mlsys env)"."""
    import shlex

    from mlsys import cluster

    for name, value in cluster.client_environment(open_store(store)).items():
        typer.echo(f"export {name}={shlex.quote(value)}")
