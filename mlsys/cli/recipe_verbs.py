"""Recipe verbs: ``mlsys run recipe.yaml``, a verb a step, and what makes and describes recipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mlsys import errors
from mlsys.cli import name_verbs
from mlsys.cli.application import RECIPES, AsJson, Labels, ReadSettings, RecipeFile, Settings, StoreRoot, app
from mlsys.cli.endings import exit_codes, open_store


def perform(
    step: str, recipe: Path, settings: list[str] | None = None, store: Path | None = None, labels: str | None = None
) -> NoReturn:
    """Run a recipe up to a step, or all nine as ``workflow``, and leave with the exit code.

    This is what every verb of a step and every file in ``jobs/`` does.
    """
    with exit_codes():  # here too: typer answers Ctrl-C by itself, without a word
        raise SystemExit(_run(step, recipe, settings, store, labels))


def _run(step: str, recipe: Path, settings: list[str] | None, store: Path | None, labels: str | None) -> int:
    from mlsys import cluster, workflow
    from mlsys.recipe import load
    from mlsys.workflow import maintenance_schedule, refusal, summary

    run = workflow.Run(load(recipe, settings or ()), open_store(store), labels=labels, mirrors=True)
    run.console.progress("starting Ray")
    how = cluster.connect(run.store)
    maintenance_schedule.resume(run.store)
    run.console.line(f"mlsys {run.recipe.name}: {cluster.num_cpus()} CPUs, cluster {how}, store {run.store.root}")
    workflow.run(run, "monitor" if step == "workflow" else step)
    if step == "workflow":
        run.console.line(summary.text(run))
    if step == "evaluate":
        refusal.check_gate(run.recipe.name, run.results)
    if step in ("deploy", "workflow"):
        refusal.check_champion(run.results)
    return exit_code(step, run.results)


def exit_code(step: str, results: Mapping[str, Any]) -> int:
    """Exit code of a run that reached its last step: that of the decision for ``monitor``, else 0."""
    return int(results["monitor"].exit_code) if step == "monitor" else 0


def _verb(step: str, text: str) -> None:
    @app.command(step, help=text, rich_help_panel=RECIPES)
    def command(recipe: RecipeFile, settings: Settings = None, store: StoreRoot = None) -> None:
        perform(step, recipe, settings, store)


@app.command(rich_help_panel=RECIPES)
def run(recipe: RecipeFile, settings: Settings = None, store: StoreRoot = None, labels: Labels = None) -> None:
    """Run all nine steps, from the source to a monitored endpoint."""
    perform("workflow", recipe, settings, store, labels)


for _step, _text in {
    "collect": "1: read, check, join and divide the rows.",
    "explore": "2: profile the training rows; alerts, leakage scan, report.",
    "features": "3: choose features, with a reason for each.",
    "selection": "4: compare families by cross-validation.",
    "tune": "7: search parameters, judged on validation rows.",
    "train": "5: fit the model and store its bundle.",
    "evaluate": "6: open the test rows; metrics with intervals, gate.",
}.items():
    _verb(_step, _text)


@app.command(rich_help_panel=RECIPES)
def deploy(
    target: Annotated[str, typer.Argument(metavar="RECIPE|NAME", help="a recipe, or NAME[@ALIAS|@VERSION|@DIGEST]")],
    settings: Settings = None,
    alias: Annotated[str | None, typer.Option("--alias", help="of a name: the alias to move, champion")] = None,
    reason: Annotated[str, typer.Option("--reason", help="of a name: why, for the ledger")] = "",
    canary: Annotated[
        str | None, typer.Option("--canary", metavar="PERCENT", help="of a name: begin with a share of the requests")
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="PERCENT,…", help="of a canary: its shares; 5,25,50,100 by default")
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="SPAN", help="of a canary: how long a step lasts; 10m by default")
    ] = None,
    *,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="of a canary: first a step in which it answers nothing")
    ] = False,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="of a canary: in a process of its own, whose end hurts nobody else")
    ] = False,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """8: register the model of a recipe and serve it, or serve a version of a name."""
    from mlsys.operate import is_recipe

    rollout = {"--canary": canary, "--steps": steps, "--every": every, "--shadow": shadow, "--isolate": isolate}
    if is_recipe(target):
        _refuse("a recipe", "a name", {"--alias": alias, "--reason": reason, "--json": as_json, **rollout})
        perform("deploy", Path(target), settings, store)
    _refuse("a name", "a recipe", {"--set": settings})
    begun = name_verbs.rollout_of(canary, steps, every, shadow=shadow, isolate=isolate)
    name_verbs.deploy(target, alias, reason, begun, store, as_json=as_json)


def _refuse(given: str, needed: str, options: Mapping[str, Any]) -> None:
    """Refuse options of ``deploy`` that would do nothing with what they were given with."""
    for option, value in options.items():
        if value:
            of_recipe = "--set deploy.rollout.steps=[5,25,50,100]"
            hints = {"--alias": "--set deploy.alias=…", "--set": "it is served as it was deployed last"}
            hints |= dict.fromkeys(("--canary", "--steps", "--every", "--shadow"), of_recipe)
            hints["--isolate"] = "--set deploy.rollout.isolation=process"
            where = f"deploy: {option}"
            raise errors.RecipeError.build(
                where, got=given, expected=f"{needed} with this option", hint=hints.get(option)
            )


@app.command(rich_help_panel=RECIPES)
def init(
    table: Annotated[str, typer.Argument(help="as data.source in a recipe: path, folder, glob or URI")],
    target: Annotated[str | None, typer.Option("--target", help="column to predict; proposed if not given")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="where to write; <name>.yaml by default")
    ] = None,
    settings: ReadSettings = None,
    forecast: Annotated[
        str | None, typer.Option("--forecast", help="how far ahead the target is to be forecast, e.g. 14d")
    ] = None,
) -> None:
    """Write a recipe for a table that nobody has seen, with a reason for each choice; it runs without edits."""
    from mlsys.collect import recipe_template
    from mlsys.console import Console

    console = Console()
    how: dict[str, Any] = {"settings": settings or (), "forecast": forecast, "progress": console.progress}
    drafted = recipe_template.draft(table, target, **how)
    path = output or Path(f"{drafted.name}.yaml")
    recipe_template.save(drafted.text, path)
    for message in drafted.messages:
        console.line(message)
    console.line(f"wrote {path}\nnext:  mlsys run {path}")


@app.command(rich_help_panel=RECIPES)
def materialize(
    recipe: RecipeFile,
    settings: Settings = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="begin anew; otherwise rows stay that the sources no longer have"),
    ] = False,
    store: StoreRoot = None,
) -> None:
    """Read the feature tables again and publish what is new to the endpoint, without training."""
    from mlsys import cluster, workflow
    from mlsys.recipe import load

    run = workflow.Run(load(recipe, settings or ()), open_store(store))
    cluster.connect(run.store)
    for published in workflow.tables.materialize(run.context(), rebuild=rebuild):
        typer.echo(published.summary)


@app.command(rich_help_panel=RECIPES)
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from mlsys.evaluate.metrics import METRICS, OF_FORECASTS, UTILITY
    from mlsys.models import FAMILIES
    from mlsys.readers import registry
    from mlsys.recipe import json_schema

    typer.echo(json_schema(FAMILIES, METRICS, registry.formats(), (*OF_FORECASTS, UTILITY)), nl=False)
