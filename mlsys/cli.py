"""The command line: ``mlsys run recipe.yaml``, one verb a step, and what a cluster needs.

A verb of a step runs the recipe up to and including that step; steps whose inputs did
not change are not run again. ``jobs/<step>.py`` does the same with ``--recipe``.

====  =============================================================================
exit  meaning
====  =============================================================================
0     done
1     the model did not pass its gate
2     something must be mended first: the recipe, the data, the cluster
3, 4  of ``monitor``: watch the model, or train it again (`mlsys.monitor.decision`)
70    a fault of mlsys itself; its traceback is kept in the store
130   interrupted
====  =============================================================================
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mlsys import errors

if TYPE_CHECKING:
    from mlsys.store import Store

app = typer.Typer(
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
StoreRoot = Annotated[
    Path | None, typer.Option("--store", envvar="MLSYS_STORE", help="folder of the store; .mlsys by default")
]
Labels = Annotated[
    str | None, typer.Option("--labels", help="labels by id, for the monitor: a source as data.source in a recipe")
]

FAULT = 70
"""Exit code of an error that nobody raised on purpose: ``EX_SOFTWARE`` of BSD's ``sysexits.h``."""

_stores: list[Store] = []
"""Stores that this process opened; the last one keeps the traceback of a fault."""


def main() -> None:
    """Entry point of the console script: errors become messages and exit codes, never tracebacks."""
    with exit_codes():
        app(standalone_mode=True)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Print an error as a message and leave with its code."""
    try:
        yield
    except errors.MlsysError as error:
        _leave(f"error: {error}", 1 if isinstance(error, errors.GateError) else 2)
    except KeyboardInterrupt:
        _leave("interrupted: finished steps are kept; the same command goes on from there", 130)
    except Exception as error:  # noqa: BLE001  (whatever it is, its traceback is kept)
        _leave(_keep_traceback(error), FAULT)


def _leave(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(f"\n{message}\n")
    raise SystemExit(code) from None


def _keep_traceback(error: Exception) -> str:
    """Write the traceback of a fault into the store; returns the sentence that says where, or the traceback."""
    from mlsys.store import write_atomic

    lines = "".join(traceback.format_exception(error))
    try:
        root = (_stores or [_store(None)])[-1].root
        file = root / "faults" / f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H-%M-%S}-{os.getpid()}.txt"
        write_atomic(file, lines.encode())
    except errors.MlsysError:
        return lines
    name = type(error).__name__
    return f"fault: mlsys failed with {name}, which is its own mistake and not yours; the traceback is in {file}"


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
    from mlsys.workflow import summary

    run = workflow.Run(load(recipe, settings or ()), _store(store), labels=labels)
    run.console.progress("starting Ray")
    how = cluster.connect(run.store)
    run.console.line(f"mlsys {run.recipe.name}: {cluster.num_cpus()} CPUs, cluster {how}, store {run.store.root}")
    workflow.run(run, "monitor" if step == "workflow" else step)
    if step == "workflow":
        run.console.line(summary.text(run))
    return exit_code(step, run.results)


def exit_code(step: str, results: Mapping[str, Any]) -> int:
    """Exit code of a run that reached its last step: that of the decision for ``monitor``, else 0."""
    return int(results["monitor"].exit_code) if step == "monitor" else 0


def job(step: str) -> None:
    """Run a file of ``jobs/``: the verb of its name, with the recipe as ``--recipe``."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @single.command()
    def command(
        recipe: Annotated[Path, typer.Option("--recipe", help="the recipe, a YAML file")],
        settings: Settings = None,
        store: StoreRoot = None,
        labels: Labels = None,
    ) -> None:
        perform(step, recipe, settings, store, labels)

    with exit_codes():
        single()


def _verb(step: str, text: str) -> None:
    @app.command(step, help=text)
    def command(recipe: RecipeFile, settings: Settings = None, store: StoreRoot = None) -> None:
        perform(step, recipe, settings, store)


@app.command()
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
    "deploy": "8: register the model and serve it.",
}.items():
    _verb(_step, _text)


@app.command()
def monitor(recipe: RecipeFile, settings: Settings = None, store: StoreRoot = None, labels: Labels = None) -> None:
    """9: judge the logged predictions; the exit code says what to do."""
    perform("monitor", recipe, settings, store, labels)


@app.command()
def init(
    table: Annotated[str, typer.Argument(help="as data.source in a recipe: path, folder, glob or URI")],
    target: Annotated[str, typer.Option("--target", help="column to predict")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="where to write; <name>.yaml by default")
    ] = None,
) -> None:
    """Write a recipe for a table that nobody has seen; it runs without edits."""
    from mlsys.collect import recipe_template
    from mlsys.recipe import parse

    text = recipe_template.write(table, target)
    path = output or Path(f"{parse(text).name}.yaml")
    recipe_template.save(text, path)
    typer.echo(f"wrote {path}\nnext:  mlsys run {path}")


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="name@alias, name@version or name, which means name@champion")],
    source: Annotated[
        str, typer.Argument(help="as data.source in a recipe: path, folder, glob, URI, table of a lake or database")
    ],
    output: Annotated[str, typer.Argument(help="folder for the predictions, or the URI of one")],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="COLUMN", help="column to carry over, may be repeated; the id and time columns by default"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="how the source is read, if not as in training: reading.delimiter=';', reading.query=…, timezone=UTC",
        ),
    ] = None,
    store: StoreRoot = None,
) -> None:
    """Batch: a source in, files out: keys, prediction, probabilities, model version."""
    from mlsys import cluster
    from mlsys.deploy import batch

    home = _store(store)
    cluster.connect(home)
    result = batch.predict(home, model, source, output, keys=tuple(key or ()), settings=settings or ())
    typer.echo(result.summary)


@app.command()
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

    run = workflow.Run(load(recipe, settings or ()), _store(store))
    cluster.connect(run.store)
    for published in workflow.tables.materialize(run.context(), rebuild=rebuild):
        typer.echo(published.summary)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="the model")],
    alias: Annotated[str, typer.Option(help="the alias to move")] = "champion",
    store: StoreRoot = None,
) -> None:
    """Give the alias back to the version that had it before, and serve that one if an endpoint runs."""
    from mlsys import cluster, registry
    from mlsys.recipe import load

    home = _store(store)
    entry = registry.rollback(home, name, alias)
    typer.echo(f"{name}@{alias} is version {entry.version} again")
    if cluster.status(home) is not None:
        from mlsys.deploy import serving

        cluster.connect(home)
        settings = load(home.run_folder(name) / "resolved.yaml").deploy
        endpoint = serving.start(home, name, entry.digest, entry.version, settings)
        typer.echo(f"{endpoint.url} answers with it")


@app.command()
def up(
    store: StoreRoot = None,
    num_cpus: Annotated[int | None, typer.Option(help="CPUs that Ray may use; all by default")] = None,
) -> None:
    """Start a cluster on this machine; mlsys run does it by itself."""
    from mlsys import cluster

    typer.echo(f"cluster at {cluster.up(_store(store), num_cpus)}")


@app.command()
def down(store: StoreRoot = None) -> None:
    """End the cluster and the endpoints that were started from this store, and nothing else."""
    from mlsys import cluster

    typer.echo("stopped" if cluster.down(_store(store)) else "nothing was running")


@app.command()
def status(store: StoreRoot = None) -> None:
    """Say what runs: the cluster of this store."""
    from mlsys import cluster

    state = cluster.status(_store(store))
    typer.echo(
        f"cluster at {state['address']}, dashboard {state['dashboard']}"
        if state
        else "nothing runs; mlsys up starts a cluster"
    )


@app.command()
def env(store: StoreRoot = None) -> None:
    """Print what `ray`, `serve` and jobs need: eval "$(mlsys env)"."""
    import shlex

    from mlsys import cluster

    for name, value in cluster.client_environment(_store(store)).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from mlsys.evaluate.metrics import METRICS
    from mlsys.models import FAMILIES
    from mlsys.readers import registry
    from mlsys.recipe import json_schema

    typer.echo(json_schema(FAMILIES, METRICS, registry.formats()), nl=False)


def _store(root: Path | None) -> Store:
    from mlsys.store import Store

    _stores.append(Store.open(root))
    return _stores[-1]
