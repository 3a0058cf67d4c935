"""Verbs of tables that need no model and no recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsys import errors
from mlsys.cli.application import RECIPES, AsJson, Source, app, show

ProfileSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="how the tables are read: reading.delimiter=';', timezone=Europe/Berlin; and when there is an alarm: "
        "monitor.false_alarm_rate=0.01, monitor.min_js_distance, monitor.min_rows",
    ),
]


@app.command(rich_help_panel=RECIPES)
def profile(
    table: Source,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="TABLE", help="compare with this table, such as last month's")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="COLUMN", help="profile windows of this time, not all rows at once")
    ] = None,
    granularity: Annotated[
        str | None, typer.Option("--granularity", help="length of a window: '1 hour', '1 day', '1 week', '1 month'")
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option(
            "--slice", metavar="COLUMN|CONDITION", help="also each value of a column, or a condition; may be repeated"
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME=SQL", help="also e.g. margin='avg(price) / avg(cost)'; may be repeated"),
    ] = None,
    *,
    against: Annotated[
        str, typer.Option("--against", help="without a baseline, compare a window with the previous or the first one")
    ] = "previous",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for report and tables; <name>-profile by default")
    ] = None,
    settings: ProfileSettings = None,
    as_json: AsJson = False,
) -> None:
    """Profile any table without a model; the exit code is 3 if a column drifted."""
    from mlsys import operate
    from mlsys.monitor.table_profile import default_folder

    made = operate.profile(
        table,
        baseline=baseline,
        time=time,
        granularity=granularity,
        slices=slices or (),
        metrics=_metrics(metrics or []),
        against=against,
        output=output or default_folder(table),
        set=settings or (),
    )
    lines = [made.summary, *made.value["messages"], f"report {made.folder}/report.html"]
    show(made.to_json(), "\n".join(lines), as_json=as_json)
    raise typer.Exit(made.exit_code)


def _metrics(texts: list[str]) -> dict[str, str]:
    """Names and expressions of ``NAME=SQL``."""
    metrics = {}
    for text in texts:
        name, sign, sql = text.partition("=")
        if not sign or not sql.strip():
            expected = "NAME=SQL, such as margin='avg(price) / avg(cost)'"
            raise errors.RecipeError.build("profile: --metric", got=text, expected=expected)
        metrics[name.strip()] = sql.strip()
    return metrics
