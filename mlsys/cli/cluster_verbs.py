"""Verbs of the cluster that a store starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsys.cli.application import CLUSTER, AsJson, StoreRoot, app, show
from mlsys.cli.endings import open_store, opened


@app.command(rich_help_panel=CLUSTER)
def up(
    store: StoreRoot = None,
    num_cpus: Annotated[int | None, typer.Option(help="CPUs that Ray may use; all by default")] = None,
) -> None:
    """Start a cluster on this machine; mlsys run does it by itself."""
    from mlsys import cluster
    from mlsys.workflow import maintenance_schedule

    home = open_store(store)
    typer.echo(f"cluster at {cluster.up(home, num_cpus)}")
    maintenance_schedule.resume(home)


@app.command(rich_help_panel=CLUSTER)
def down(store: StoreRoot = None) -> None:
    """End the cluster and the endpoints that were started from this store, and nothing else."""
    from mlsys import cluster
    from mlsys.deploy import shutdown

    home = open_store(store)
    lost = shutdown.drain(home)
    typer.echo("stopped" if cluster.down(home) else "nothing was running")
    if lost:
        typer.echo(f"{lost:,} rows were answered and are not in the prediction log; predictions/*/losses say why")


@app.command(rich_help_panel=CLUSTER)
def status(as_json: AsJson = False, store: StoreRoot = None) -> None:
    """Say what runs: cluster, endpoints with version and requests, work in progress, last decisions."""
    from mlsys import operate
    from mlsys.workflow import inventory

    state = operate.status(store=opened(store))
    show(state, inventory.status_text(state), as_json=as_json)


@app.command(rich_help_panel=CLUSTER)
def console(
    host: Annotated[str, typer.Option(help="address to listen on; beyond this machine only with keys")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 for any that is free")] = 8050,
    store: StoreRoot = None,
) -> None:
    """Show the store in a browser: models, versions, windows, runs, batch jobs; Ctrl-C ends it."""
    from mlsys.web_console import server

    server.serve(open_store(store), host, port, typer.echo)


@app.command(rich_help_panel=CLUSTER)
def env(store: StoreRoot = None) -> None:
    """Print what `ray`, `serve` and jobs need: eval "$(mlsys env)"."""
    import shlex

    from mlsys import cluster

    for name, value in cluster.client_environment(open_store(store)).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command(rich_help_panel=CLUSTER)
def logs(
    name: Annotated[
        str | None, typer.Argument(help="a model: the logs of its replicas; the cluster's by default")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", min=1, help="lines of each file, from its end")] = 20,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Show the ends of log files: of the cluster, of the replicas of a model, and of faults."""
    from mlsys.workflow import inventory

    ends = inventory.logs(open_store(store), name, lines)
    text = "\n\n".join(f"{path}\n{end}" for path, end in ends.items()) or "no logs: nothing ran here"
    show(ends, text, as_json=as_json)


@app.command(rich_help_panel=CLUSTER)
def gc(
    outputs: Annotated[
        list[Path] | None, typer.Argument(help="folders of `mlsys predict`: what a killed one left beside them goes")
    ] = None,
    days: Annotated[float, typer.Option("--days", min=0, help="what is younger stays")] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="delete; without it the list is shown")] = False,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """List what no alias, no recent line of the ledger and no run needs; with --yes, delete it."""
    from mlsys import operate

    rows = operate.gc(outputs or (), days=days, delete=yes, store=opened(store))
    num_bytes = sum(row.num_bytes for row in rows)
    listed = [{"kind": row.kind, "path": str(row.path), "bytes": row.num_bytes} for row in rows]
    ending = "deleted" if yes else "can go: `mlsys gc --yes` deletes them" if rows else "can go"
    text = "\n".join([*(f"{row.kind:<8} {row.num_bytes:>12,}  {row.path}" for row in rows)])
    summary = f"{len(rows)} leftovers, {num_bytes / 1e6:,.1f} MB, {ending}"
    show({"deleted": yes, "bytes": num_bytes, "leftovers": listed}, f"{text}\n{summary}".lstrip(), as_json=as_json)
