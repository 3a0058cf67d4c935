"""The application, its groups of verbs, and the arguments that verbs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

GROUPS = RECIPES, NAMES, CLUSTER = (
    "A recipe makes models",
    "A name serves them",
    "Cluster and store",
)
"""Headings of the groups of verbs, in the order in which help shows them."""


class _Grouped(TyperGroup):
    """The application's help, with its verbs under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        width = max(len(name) for name, _ in commands)
        for heading in GROUPS:
            rows = [
                (name.ljust(width), command.get_short_help_str(formatter.width - width - 6))
                for name, command in commands
                if command is not None and getattr(command, "rich_help_panel", None) == heading
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=_Grouped,
    name="mlsys",
    help="The complete machine-learning workflow on one Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="the recipe, a YAML file")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="override a value of the recipe, e.g. train.rounds=200; may be repeated"
    ),
]
ReadSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="how the source is read, if not by default (of a model: as in training): "
        "reading.delimiter=';', reading.query=…, timezone=UTC",
    ),
]
StoreRoot = Annotated[
    Path | None, typer.Option("--store", envvar="MLSYS_STORE", help="folder of the store; .mlsys by default")
]
Labels = Annotated[
    str | None, typer.Option("--labels", help="labels by id, for the monitor: a source as data.source in a recipe")
]
Source = Annotated[
    str, typer.Argument(help="as data.source in a recipe: path, folder, glob, URI, table of a lake or database")
]
Output = Annotated[str, typer.Argument(help="folder for the predictions, or the URI of one")]
KeyColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="COLUMN", help="column to carry over, may be repeated; the id and time columns by default"
    ),
]
Append = Annotated[bool, typer.Option("--append", help="add the rows to those of other runs, as OUTPUT/run=ID")]
RunId = Annotated[
    str | None,
    typer.Option("--run-id", metavar="ID", help="of the run; by default the same for the same model and files"),
]
Explain = Annotated[
    int,
    typer.Option("--explain", metavar="K", min=0, help="also the K columns that contributed most to each prediction"),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="the model")]
Alias = Annotated[str, typer.Option("--alias", help="the alias to move")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, with the keys that docs/operating.md names")]


def show(value: Any, text: str, *, as_json: bool) -> None:
    """Print a value as JSON, or its text for people."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str) if as_json else text)
