"""Name verbs: they operate what is registered, and never run a step of a recipe."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlsys.cli.application import (
    NAMES,
    Alias,
    Append,
    AsJson,
    KeyColumns,
    Name,
    Output,
    ReadSettings,
    RunId,
    Source,
    StoreRoot,
    app,
    show,
)
from mlsys.cli.endings import open_store, opened

if TYPE_CHECKING:
    from mlsys.deploy.by_name import NameChange


@app.command(rich_help_panel=NAMES)
def predict(
    model: Annotated[str, typer.Argument(help="name@alias, name@version or name, which means name@champion")],
    source: Source,
    output: Output,
    *,
    key: KeyColumns = None,
    append: Append = False,
    run_id: RunId = None,
    settings: ReadSettings = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Batch: a source in, files out: keys, prediction, probabilities, model version, time and id of the run."""
    from mlsys import operate

    how: dict[str, Any] = {"keys": tuple(key or ()), "append": append, "run_id": run_id, "set": settings or ()}
    result = operate.predict(model, source, output, **how, store=opened(store))
    show(asdict(result), result.summary, as_json=as_json)


@app.command(rich_help_panel=NAMES)
def promote(
    target: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="the version to put into service")],
    reason: Annotated[str, typer.Option("--reason", help="why, for the ledger")],
    alias: Alias = "champion",
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Let the alias mean a version, also one that a gate or a rollback keeps out; its endpoint follows."""
    from mlsys import operate

    _say(operate.promote(target, alias=alias, reason=reason, store=opened(store)), as_json=as_json)


@app.command(rich_help_panel=NAMES)
def rollback(
    name: Name,
    alias: Alias = "champion",
    reason: Annotated[str, typer.Option("--reason", help="why, for the ledger")] = "rollback",
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Give the alias back to the version before; its endpoint follows, and no run promotes the other again."""
    from mlsys import operate

    _say(operate.rollback(name, alias=alias, reason=reason, store=opened(store)), as_json=as_json)


@app.command(rich_help_panel=NAMES)
def undeploy(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="why, for the ledger")] = "undeploy",
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """End the endpoint of a name; its versions and aliases stay."""
    from mlsys import operate

    is_ended = operate.undeploy(name, reason=reason, store=opened(store))
    line = f"the endpoint of '{name}' was ended" if is_ended else f"no endpoint of '{name}' runs"
    show({"name": name, "ended": is_ended}, line, as_json=as_json)


@app.command(rich_help_panel=NAMES)
def models(
    name: Annotated[str | None, typer.Argument(help="one model; all by default")] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """List versions, aliases, metrics, and where each name is served."""
    from mlsys import operate
    from mlsys.workflow import inventory

    listed = operate.models(name, store=opened(store))
    show(listed, inventory.models_text(listed), as_json=as_json)


@app.command(rich_help_panel=NAMES)
def history(
    name: Name,
    alias: Annotated[str | None, typer.Option(help="one alias; all by default")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="what served then: ISO 8601, UTC")] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Say who put which version into service, when and why; with --at, what served then."""
    from mlsys import operate
    from mlsys.workflow import inventory

    listed = operate.history(name, alias=alias, at=at, store=opened(store))
    show(listed, inventory.history_text(listed), as_json=as_json)


@app.command(rich_help_panel=NAMES)
def replay(name: Name, as_json: AsJson = False, store: StoreRoot = None) -> None:
    """Fit what the last run of a name tried again, without a clock; exit code 1 if that gives another bundle."""
    from mlsys import operate

    done = operate.replay(name, store=opened(store))
    show(done.to_json(), done.summary, as_json=as_json)
    raise typer.Exit(0 if done.is_equal else 1)


@app.command(rich_help_panel=NAMES)
def code(
    target: Annotated[str, typer.Argument(metavar="NAME", help="NAME, or NAME@ALIAS, NAME@VERSION, NAME@DIGEST")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="the file to write; NAME.py by default")] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Write a model as one Python file that fits it again from the stored rows, without mlsys."""
    from mlsys import operate

    written = operate.code(target, output, store=opened(store))
    show(written.to_json(), written.summary, as_json=as_json)


@app.command("open", rich_help_panel=NAMES)
def open_reports(
    name: Annotated[str | None, typer.Argument(help="one model; all by default")] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Show the reports in a browser, or their paths where there is none."""
    from mlsys.workflow import inventory

    pages = inventory.reports(open_store(store), name)
    show(pages, "\n".join(page for each in pages.values() for page in each.values()) or "no reports", as_json=as_json)
    if not as_json:
        _browse([page for each in pages.values() for page in each.values()])


def deploy(target: str, alias: str | None, reason: str, store: Path | None, *, as_json: bool) -> None:
    """Serve a registered version: the verb ``deploy`` with a name in place of a recipe."""
    from mlsys import operate

    _say(operate.deploy(target, alias=alias or "champion", reason=reason, store=opened(store)), as_json=as_json)


def _say(change: NameChange, *, as_json: bool) -> None:
    show(change.to_json() | {"warning": change.warning}, change.summary, as_json=as_json)
    if change.warning:
        typer.echo(change.warning, err=True)


def _browse(pages: list[str]) -> None:
    """Open pages in a graphical browser, if a person sits there."""
    import sys
    import webbrowser

    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.name != "posix"):
        for page in pages:
            webbrowser.open(Path(page).as_uri())
