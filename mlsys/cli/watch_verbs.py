"""Verbs that watch a registered model: the monitor, its alerts, and labels that come in late."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mlsys.cli.application import NAMES, AsJson, Labels, Name, ReadSettings, Settings, StoreRoot, app, show
from mlsys.cli.endings import exit_codes, opened

MONITOR_MODEL = "name, name@alias or name@version; or a recipe, which means the model of its name and its settings"


@app.command(rich_help_panel=NAMES)
def monitor(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MONITOR_MODEL)],
    settings: Settings = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
    labels: Labels = None,
    compare: Annotated[
        tuple[str, str], typer.Option("--compare", metavar="A B", help="also compare two windows, by label or date")
    ] = ("", ""),
) -> None:
    """9: judge a model's logged predictions; the exit code says what to do."""
    watch(model, settings, store, labels, as_json=as_json, compare=compare if all(compare) else None)


@app.command("labels", rich_help_panel=NAMES)
def take_labels(
    model: Annotated[str, typer.Argument(metavar="NAME", help="the model")],
    source: Annotated[str, typer.Argument(help="labels by id: a source as data.source in a recipe")],
    settings: ReadSettings = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Take labels in that come after the predictions, for every later run of the monitor."""
    from mlsys import operate

    received = operate.labels(model, source, set=settings or (), store=opened(store))
    show(received.to_json(), "\n".join([received.summary, *received.counts.messages]), as_json=as_json)


@app.command("alerts", rich_help_panel=NAMES)
def list_alerts(
    name: Name,
    ack: Annotated[str | None, typer.Option("--ack", metavar="ID", help="somebody knows: it is not sent again")] = None,
    mute: Annotated[
        str | None, typer.Option("--mute", metavar="ID|KIND|all", help="send nothing of it until the time of --until")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="of --mute: ISO 8601, UTC, or a span such as 8h")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="send a message that tries every place")] = False,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """List the alerts of a model; acknowledge or mute them, or try where they go."""
    from mlsys import operate

    listed = operate.alerts(name, ack=ack, mute=mute, until=until, test=test, store=opened(store))
    show(listed.to_json(), listed.summary, as_json=as_json)


def watch(
    model: str,
    settings: list[str] | None = None,
    store: Path | None = None,
    labels: str | None = None,
    *,
    as_json: bool = False,
    compare: tuple[str, str] | None = None,
) -> NoReturn:
    """Judge a model's predictions, print the result, and leave with the code of the decision."""
    with exit_codes():
        raise SystemExit(_watch(model, settings or [], store, labels, compare, as_json=as_json))


def _watch(
    model: str,
    settings: list[str],
    root: Path | None,
    labels: str | None,
    compare: tuple[str, str] | None,
    *,
    as_json: bool,
) -> int:
    from mlsys import operate

    result = operate.monitor(model, set=settings, labels=labels, compare=compare, store=opened(root))
    report = [f"report {result.report}"] if result.report else []
    lines = [
        f"            {line}"
        for line in (*result.alarms, *result.messages, *compared_lines(result.comparison), *report)
    ]
    show(result.to_json(), "\n".join([f"9 monitor    {result.summary}", *lines]), as_json=as_json)
    return result.exit_code


def compared_lines(comparison: dict[str, Any] | None) -> list[str]:
    """A line for each column of two windows that are compared, the largest shift first."""
    if comparison is None:
        return []
    first, second = comparison["windows"]
    lines = [f"{second} compared with {first}, Jensen-Shannon distance:"]
    for column in comparison["columns"]:
        low, high = column["low"], column["high"]
        ends = "" if low is None else f" ({low:.3f} to {high:.3f})"
        mark = "alarm" if column["alarmed"] else f"p {column['adjusted']:.2g}"
        lines.append(f"  {column['column']} {column['js_distance']:.3f}{ends}, {mark}: {column['detail']}")
    return lines
