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
    Explain,
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
    explain: Explain = 0,
    settings: ReadSettings = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Batch: a source in, files out: keys, prediction, probabilities, model version, time and id of the run."""
    from mlsys import operate

    how: dict[str, Any] = {"keys": tuple(key or ()), "append": append, "run_id": run_id, "explain": explain}
    result = operate.predict(model, source, output, **how, set=settings or (), store=opened(store))
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
    together = None if is_ended else operate.served_together(store=opened(store))
    if together is not None and name in together.models:
        line += f"; it is served with others at {together.url}: `mlsys together serve` with those that are to stay"
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


@app.command(rich_help_panel=NAMES)
def rollout(name: Name, as_json: AsJson = False, store: StoreRoot = None) -> None:
    """Say how the canary of a name fares, or how the last one ended; `mlsys rollback NAME` takes one back."""
    from mlsys import operate
    from mlsys.deploy.by_name import canary_text

    trial = operate.rollout(name, store=opened(store))
    text = f"{name} never had a canary; `mlsys deploy {name}@VERSION --canary 5%` begins one"
    show(trial, text if trial is None else canary_text(name, trial), as_json=as_json)


def deploy(
    target: str, alias: str | None, reason: str, canary: dict[str, Any] | None, store: Path | None, *, as_json: bool
) -> None:
    """Serve a registered version: the verb ``deploy`` with a name in place of a recipe; `canary` as ``rollout_of``."""
    from mlsys import operate

    how: dict[str, Any] = {"alias": alias or "champion", "reason": reason, "rollout": canary}
    _say(operate.deploy(target, **how, store=opened(store)), as_json=as_json)


def rollout_of(
    canary: str | None, steps: str | None, every: str | None, *, shadow: bool, isolate: bool = False
) -> dict[str, Any] | None:
    """Keys of ``deploy.rollout`` that options of the command line mean; None without any of them.

    >>> rollout_of("5%", None, "1h", shadow=False)
    {'steps': [5.0, 25.0, 50.0, 100.0], 'every': '1h'}
    >>> rollout_of("10", "50,100", None, shadow=True)
    {'steps': [10.0, 50.0, 100.0], 'shadow': True}
    >>> rollout_of(None, None, None, shadow=False, isolate=True)["isolation"]
    'process'
    """
    if not (canary or steps or every or shadow or isolate):
        return None
    shares = _percents("--steps", steps) if steps else [5.0, 25.0, 50.0, 100.0]
    if canary:
        (first,) = _percents("--canary", canary)[:1]
        shares = [first, *(share for share in shares if share > first)]
    keys = {"steps": shares} | ({"every": every} if every else {}) | ({"shadow": True} if shadow else {})
    return keys | ({"isolation": "process"} if isolate else {})


def _percents(option: str, text: str) -> list[float]:
    from mlsys import errors

    try:
        return [float(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        where, expected = f"deploy: {option}", "percent of the requests, e.g. 5% or 5,25,50,100"
        raise errors.RecipeError.build(where, got=text, expected=expected) from None


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
