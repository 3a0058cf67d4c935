"""Verbs of batch jobs: predictions that the cluster makes, whether or not anybody waits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlsys.cli.application import (
    NAMES,
    Append,
    AsJson,
    Explain,
    KeyColumns,
    Output,
    ReadSettings,
    RunId,
    Source,
    StoreRoot,
    app,
    show,
)
from mlsys.cli.endings import opened

if TYPE_CHECKING:
    from mlsys.deploy.batch_queue import QueuedJob

POLL_S = 0.5

batch = typer.Typer(
    help="Have the cluster predict files, and follow its jobs.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(batch, name="batch", rich_help_panel=NAMES)

JobId = Annotated[str, typer.Argument(metavar="ID", help="the job")]
Wait = Annotated[bool, typer.Option("--wait", help="return when the job is over; exit code 2 if it did not succeed")]


@batch.command()
def submit(
    model: Annotated[str, typer.Argument(help="name@alias, name@version or name, which means name@champion")],
    source: Source,
    output: Output,
    *,
    key: KeyColumns = None,
    append: Append = False,
    run_id: RunId = None,
    explain: Explain = 0,
    settings: ReadSettings = None,
    wait: Wait = False,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """Put a prediction of files into the queue; arguments are those of `mlsys predict`."""
    from mlsys import operate

    root = opened(store)
    how: dict[str, Any] = {"keys": tuple(key or ()), "append": append, "run_id": run_id, "explain": explain}
    job = operate.submit(model, source, output, **how, set=settings or (), store=root)
    _say(job, root, wait=wait, as_json=as_json)


@batch.command("list")
def list_jobs(
    name: Annotated[str | None, typer.Argument(help="one model; all by default")] = None,
    as_json: AsJson = False,
    store: StoreRoot = None,
) -> None:
    """List the newest jobs with state and progress, newest first."""
    from mlsys import operate
    from mlsys.deploy.batch_endpoint import described

    jobs = operate.jobs(name, store=opened(store))
    show([described(job) for job in jobs], "\n".join(map(_line, jobs)) or "no jobs", as_json=as_json)


@batch.command("show")
def show_job(job_id: JobId, wait: Wait = False, as_json: AsJson = False, store: StoreRoot = None) -> None:
    """Say how far a job is, and what came of it."""
    from mlsys import operate

    root = opened(store)
    _say(operate.job(job_id, store=root), root, wait=wait, as_json=as_json)


@batch.command()
def cancel(job_id: JobId, as_json: AsJson = False, store: StoreRoot = None) -> None:
    """Give a job up; one that is over stays as it is."""
    from mlsys import operate

    root = opened(store)
    _say(operate.cancel(job_id, store=root), root, wait=False, as_json=as_json)


def _say(job: QueuedJob, root: Path, *, wait: bool, as_json: bool) -> None:
    from mlsys import operate
    from mlsys.deploy.batch_endpoint import described

    while wait and not job.is_over:
        time.sleep(POLL_S)
        job = operate.job(job.id, store=root)
    show(described(job), _line(job), as_json=as_json)
    if wait and job.state != "succeeded":
        raise typer.Exit(2)


def _line(job: QueuedJob) -> str:
    from mlsys.recipe.secrets import shown

    progress = f"{job.done:,} of {job.total:,} fragments" if job.total is not None else "not begun"
    state = "canceling" if job.is_canceling else job.state
    line = f"{job.id}  {state:<9}  {job.spec.name}@{job.spec.version}  {progress}, {job.num_rows:,} rows"
    return f"{line}  {shown(job.spec.input)} → {shown(job.spec.output)}" + (f"\n{job.error}" if job.error else "")
