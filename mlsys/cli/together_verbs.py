"""Verbs of many models in one application."""

from __future__ import annotations

from typing import Annotated

import typer

from mlsys.cli.application import NAMES, AsJson, StoreRoot, app, show
from mlsys.cli.endings import opened

together = typer.Typer(
    help="Many models in the replicas of one application.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(together, name="together", rich_help_panel=NAMES)


@together.command()
def serve(
    targets: Annotated[list[str], typer.Argument(metavar="NAME", help="registered models: NAME, or NAME@ALIAS")],
    most_bytes: Annotated[
        int, typer.Option("--most-bytes", min=1, help="memory of a replica for all models; the least used go")
    ] = 4 << 30,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="as in a recipe, for all models: deploy.port=0; may be repeated"
        ),
    ] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Serve models in one application, each loaded when it is first asked for; replaces those served before."""
    from mlsys import operate

    served = operate.serve_together(targets, most_bytes=most_bytes, set=settings or (), store=opened(store))
    first = next(iter(served.models))
    ask = f"curl -s {served.url}/{first}/docs says how to ask {first}"
    show(served.to_json(), f"{served.summary}\n{ask}", as_json=as_json)


@together.command("show")
def show_together(as_json: AsJson = False, store: StoreRoot = None) -> None:
    """Say which models are served together, and which are in memory."""
    from mlsys import operate

    served = operate.served_together(store=opened(store))
    text = "no models are served together; `mlsys together serve NAME…` does" if served is None else served.summary
    show(None if served is None else served.to_json(), text, as_json=as_json)


@together.command()
def stop(as_json: AsJson = False, store: StoreRoot = None) -> None:
    """End the application; versions and aliases stay."""
    from mlsys import operate

    is_ended = operate.stop_together(store=opened(store))
    text = "the application of many models was ended" if is_ended else "no application of many models runs"
    show({"ended": is_ended}, text, as_json=as_json)
