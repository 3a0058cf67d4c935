"""Verbs of the registry itself: a bundle that comes back, and MLflow brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsys.cli.application import NAMES, AsJson, Name, StoreRoot, app, show
from mlsys.cli.endings import open_store, opened

registry = typer.Typer(
    help="Add a bundle by hand, and bring MLflow up to date.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(registry, name="registry", rich_help_panel=NAMES)


@registry.command()
def sync(as_json: AsJson = False, store: StoreRoot = None) -> None:
    """Replay the ledger into MLflow: versions and aliases that it lacks are added, the rest stays."""
    from mlsys.registry import mlflow_mirror

    added = mlflow_mirror.sync(open_store(store))
    text = ", ".join([*added.versions, *added.aliases]) or "nothing, it was up to date"
    show({"versions": added.versions, "aliases": added.aliases}, f"MLflow was told of {text}", as_json=as_json)


@registry.command()
def add(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="folder of a bundle")],
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Register a bundle from its folder, such as a backup; no alias moves."""
    from mlsys import operate

    entry = operate.add(name, folder, store=opened(store))
    text = f"{name} version {entry.version} is bundle {entry.digest[:12]}"
    show(entry._asdict(), f"{text}; `mlsys deploy {name}@{entry.version}` serves it", as_json=as_json)
