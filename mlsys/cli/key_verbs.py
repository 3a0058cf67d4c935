"""Verbs of the API keys with which clients ask the endpoints of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from mlsys.cli.application import CLUSTER, AsJson, StoreRoot, app, show
from mlsys.cli.endings import open_store

keys = typer.Typer(help="API keys of the endpoints.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys, name="keys", rich_help_panel=CLUSTER)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="the id of a key, as `mlsys keys list` has it")]


@keys.command()
def add(
    scope: Annotated[list[str], typer.Option("--scope", help="predict, batch, labels or admin; may be repeated")],
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="a model that it may ask; all by default")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="requests a second that a replica takes of it; any number by default")
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", metavar="SPAN", help="e.g. 90d; never by default")] = None,
    note: Annotated[str, typer.Option("--note", help="whose it is, or what for")] = "",
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Make a key, which is shown this once; from the first one on the endpoints ask for a key."""
    from mlsys.deploy import api_keys

    home = open_store(store)
    new = api_keys.add(home, scope, models=model or (), requests_per_second=rate, expires=expires, note=note)
    show({**new.key.to_json(), "text": new.text}, new.text, as_json=as_json)


@keys.command("list")
def list_keys(as_json: AsJson = False, store: StoreRoot = None) -> None:
    """List the keys, without their secrets."""
    from mlsys.deploy import api_keys

    listed = api_keys.listed(open_store(store))
    text = "\n".join(api_keys.described(key) for key in listed) or "no keys: `mlsys keys add --scope predict` makes one"
    show([key.to_json() for key in listed], text, as_json=as_json)


@keys.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[str, typer.Option("--grace", metavar="SPAN", help="how long the old one is still valid")] = "1d",
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Make a key that may do the same, and let the old one end after a while."""
    from mlsys.deploy import api_keys

    new = api_keys.rotate(open_store(store), key_id, grace)
    show({**new.key.to_json(), "text": new.text}, new.text, as_json=as_json)


@keys.command()
def revoke(key_id: KeyId, as_json: AsJson = False, store: StoreRoot = None) -> None:
    """End a key: the endpoints refuse it a second later."""
    from mlsys.deploy import api_keys

    gone = api_keys.revoke(open_store(store), key_id)
    show(gone.to_json(), f"key {gone.id} is not valid any more", as_json=as_json)
