"""Operate registered models from Python: the verbs of the command line that take a name, as functions.

Each function does what the verb with its name does, on the same store, and raises an error of `mlsys.errors` where the
command would end with a message. `store` is the folder of the store; ``$MLSYS_STORE`` or ``.mlsys`` by default.
What a function returns says itself in one line by ``summary``, where it has one.

Examples
--------
>>> from tempfile import mkdtemp
>>> models(store=mkdtemp())
[]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mlsys import cluster, registry
from mlsys.console import Console
from mlsys.deploy import batch, batch_jobs, by_name, together_endpoint
from mlsys.deploy.batch import BatchResult
from mlsys.deploy.batch_queue import JobQueue, JobSpec, QueuedJob
from mlsys.deploy.by_name import NameChange
from mlsys.deploy.together_endpoint import ServedTogether
from mlsys.provenance import lineage as lineage  # noqa: PLC0414  (operations like those below)
from mlsys.provenance import reproduce as reproduce  # noqa: PLC0414
from mlsys.provenance import why as why  # noqa: PLC0414
from mlsys.readers import registry as readers
from mlsys.recipe import DeploySection, override, set_values
from mlsys.recipe import load as load_recipe
from mlsys.registry import LedgerEntry
from mlsys.store import Store
from mlsys.workflow import inventory, maintenance_schedule, replays, retention, scripts, watch
from mlsys.workflow.alerting import alerts as alerts  # noqa: PLC0414  (operations like those below)
from mlsys.workflow.behaviour_tests import behaviours as behaviours  # noqa: PLC0414
from mlsys.workflow.maintenance import maintain as maintain  # noqa: PLC0414
from mlsys.workflow.maintenance_schedule import end_maintenance as end_maintenance  # noqa: PLC0414
from mlsys.workflow.maintenance_schedule import schedule_maintenance as schedule_maintenance  # noqa: PLC0414
from mlsys.workflow.model_card import card as card  # noqa: PLC0414
from mlsys.workflow.replays import Replay
from mlsys.workflow.results import MonitorResult
from mlsys.workflow.retention import Leftover
from mlsys.workflow.scripts import WrittenScript

if TYPE_CHECKING:
    from mlsys.monitor.incoming import Received
    from mlsys.monitor.labels import LabelSource
    from mlsys.monitor.table_profile import TableProfile

Settings: TypeAlias = Mapping[str, Any] | Iterable[str]
"""Values by dotted key, ``{"reading.delimiter": ";"}``, or settings of the command line, ``["seed=7"]``."""


def models(name: str | None = None, *, store: Path | str | None = None) -> list[dict[str, Any]]:
    """List models with their versions, aliases, metrics, and where each is served.

    Returns
    -------
    A mapping a name with ``name``, ``aliases`` (alias to version), ``endpoint`` (None where none was started),
    ``together`` (its address where it is served with others, or None) and ``versions``, newest first, each with
    ``version``, ``digest``, ``at``, ``who``, ``family``, ``metrics``, ``aliases``, ``rolled_back`` (from which aliases)
    and ``stored``.

    Raises
    ------
    RegistryError
        There is no such model.
    """
    return inventory.models(Store.open(store), name)


def history(
    name: str, *, alias: str | None = None, at: str | None = None, store: Path | str | None = None
) -> list[dict[str, Any]]:
    """List who put which version into service, when and why, oldest first; with `at`, what each alias meant then.

    Parameters
    ----------
    alias
        One alias; all by default.
    at
        A time in ISO 8601, in UTC if it names no offset.

    Returns
    -------
    Mappings with ``at``, ``kind``, ``version``, ``digest``, ``alias``, ``who``, ``reason`` and ``url``.

    Raises
    ------
    RegistryError, RecipeError
        There is no such model, or `at` is no time.
    """
    home = Store.open(store)
    return inventory.history(home, name, alias) if at is None else inventory.served_then(home, name, at, alias)


def status(*, store: Path | str | None = None) -> dict[str, Any]:
    """Say what runs; what a process began and did not end is settled or taken back first.

    Returns
    -------
    ``store``, ``cluster``, ``endpoints``, ``together`` (many models in one application, or None), ``at_work`` (who
    changes a name now), ``unfinished``, ``canaries`` (as `rollout`, by name) and ``decisions`` (the monitor's last, by
    name).
    """
    home = Store.open(store)
    state = inventory.status(home)
    if state["unfinished"]:
        by_name.recover(home, state["unfinished"])
        state = inventory.status(home)
    for name in state["canaries"]:
        by_name.resume_judge(home, name)
    maintenance_schedule.resume(home)
    return state


def deploy(
    target: str,
    *,
    alias: str = "champion",
    reason: str = "",
    rollout: Mapping[str, Any] | None = None,
    store: Path | str | None = None,
) -> NameChange:
    """Serve a registered version and let the alias mean it; a cluster is started if none runs.

    Parameters
    ----------
    target
        ``NAME`` serves what the alias means; ``NAME@WHICH`` an alias, a version or a digest.
    reason
        Why, for the ledger.
    rollout
        Begin with a canary beside the version that is served: keys of ``deploy.rollout`` of a recipe, such as
        ``{"steps": [5, 25, 50, 100], "every": "10m"}``. By default as the recipe said that was deployed last.

    Raises
    ------
    RegistryError, BundleError, ParityError, ClusterError
        There is no such version, it does not load or gives other numbers on another path, no endpoint answers with
        it, or there is none that a canary could be compared with; then nothing changed.
    RecipeError
        `rollout` is none.
    """
    plan = None if rollout is None else by_name.plan(rollout)
    return by_name.deploy(Store.open(store), target, alias=alias, reason=reason, plan=plan)


def rollout(name: str, *, store: Path | str | None = None) -> dict[str, Any] | None:
    """Say how the last canary of a name fares, or how it ended; None if it never had one.

    Returns
    -------
    ``trial``, ``version``, ``digest``, ``stable``, ``alias``, ``step``, ``steps``, ``percent``, ``shadow``, ``since``,
    ``ended`` (``promoted``, ``taken_back`` or None), ``reason`` and ``counts``; while it runs also ``verdict``.

    Raises
    ------
    RegistryError
        There is no such model.
    """
    return by_name.trial(Store.open(store), name)


def promote(target: str, *, reason: str, alias: str = "champion", store: Path | str | None = None) -> NameChange:
    """Let the alias mean ``NAME@VERSION``, also one that a gate or a rollback keeps out; its endpoint follows.

    Raises
    ------
    RegistryError, BundleError, ClusterError
        As `deploy`; also if `target` names no version.
    """
    return by_name.promote(Store.open(store), target, alias=alias, reason=reason)


def rollback(
    name: str, *, alias: str = "champion", reason: str = "rollback", store: Path | str | None = None
) -> NameChange:
    """Give the alias back to the version before; its endpoint follows, and no run promotes the other again.

    While a canary runs, it is taken back, and the alias stays.

    Raises
    ------
    RegistryError, BundleError, ClusterError
        There is no version before, it does not load, or the endpoint does not answer with it.
    """
    return by_name.rollback(Store.open(store), name, alias=alias, reason=reason)


def undeploy(name: str, *, reason: str = "undeploy", store: Path | str | None = None) -> bool:
    """End the endpoint of a name; its versions and aliases stay. False if none ran.

    Raises
    ------
    RegistryError, ClusterError
        There is no such model, or its cluster cannot be reached.
    """
    return by_name.undeploy(Store.open(store), name, reason=reason)


def serve_together(
    targets: Sequence[str],
    *,
    most_bytes: int = together_endpoint.MOST_BYTES,
    set: Settings = (),  # noqa: A002  (as --set on the command line)
    store: Path | str | None = None,
) -> ServedTogether:
    """Serve many models in the replicas of one application, in place of those that it served before.

    Parameters
    ----------
    targets
        ``NAME``, or ``NAME@ALIAS``.
    most_bytes
        Memory of a replica for all models; of more, the least used of late go.
    set
        Keys of ``deploy`` of a recipe, for all models: ``{"deploy.port": 0}``.

    Raises
    ------
    RegistryError, BundleError, ParityError, ClusterError, RecipeError
        There is no such model, it does not load, models have applications of their own on the cluster, or a key is
        unknown; nothing changed then.
    """
    settings = override(DeploySection(), [each.removeprefix("deploy.") for each in set_values(set)])
    return together_endpoint.serve(Store.open(store), targets, most_bytes, settings)


def served_together(*, store: Path | str | None = None) -> ServedTogether | None:
    """Say which models are served in one application, and which of them are in memory; None if none are."""
    return together_endpoint.known(Store.open(store))


def stop_together(*, store: Path | str | None = None) -> bool:
    """End the application of many models; versions and aliases stay. False if none ran."""
    return together_endpoint.stop(Store.open(store))


def add(name: str, folder: Path | str, *, store: Path | str | None = None) -> LedgerEntry:
    """Register a bundle from its folder, such as that of a run or of a backup; no alias moves.

    Raises
    ------
    BundleError, RegistryError
        The folder holds no whole bundle, or no model may have the name.
    """
    return by_name.add(Store.open(store), name, Path(folder))


def predict(
    model: str,
    source: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    keys: Sequence[str] = (),
    append: bool = False,
    run_id: str | None = None,
    explain: int = 0,
    set: Settings = (),  # noqa: A002  (as --set on the command line)
    store: Path | str | None = None,
) -> BatchResult:
    """Predict every row of a source into a folder of Parquet files, on the store's cluster.

    A call that was interrupted goes on where it was, and one that is complete is not done again.

    Parameters
    ----------
    model
        ``name``, ``name@alias``, ``name@version`` or ``name@digest``.
    source, output
        A source as ``data.source`` of a recipe; a folder, or the URI of one.
    keys
        Columns to carry over; the id and time columns by default.
    append
        Add the rows to those of other runs, in a folder of their own in the output.
    run_id
        The id of the run; by default one that the same model, files and settings always have.
    explain
        Columns whose contributions to each prediction are written beside it.
    set
        How the source is read, if not as in training.

    Raises
    ------
    MlsysError
        As `mlsys.deploy.batch.predict`; nothing is written then.
    """
    home = Store.open(store)
    name, which = by_name.split(model)
    registry.resolve(home, name, which or "champion")  # a name that is wrong starts no cluster
    cluster.connect(home)
    how: dict[str, Any] = {"keys": keys, "append": append, "run_id": run_id, "explain": explain}
    return batch.predict(home, model, source, output, settings=set_values(set), **how)


def submit(
    model: str,
    source: Path | str,
    output: Path | str,
    *,
    keys: Sequence[str] = (),
    append: bool = False,
    run_id: str | None = None,
    explain: int = 0,
    set: Settings = (),  # noqa: A002  (as --set on the command line)
    store: Path | str | None = None,
) -> QueuedJob:
    """Put a batch prediction into the queue of the store, whose cluster does it; arguments are those of `predict`.

    Returns
    -------
    The job, of which `jobs` says how far it is.

    Raises
    ------
    RegistryError, ClusterError
        There is no such model, or as many jobs wait as may.
    """
    home = Store.open(store)
    name, which = by_name.split(model)
    version = registry.resolve(home, name, which or "champion").version
    source, output = readers.absolute(source), readers.absolute(output)
    how: dict[str, Any] = {"append": append, "run_id": run_id, "explain": explain}
    own = tuple(keys), tuple(set_values(set))
    spec = JobSpec(name, which or "champion", version, source, output, *own, **how)
    cluster.connect(home)
    job = JobQueue(home).submit(spec)
    batch_jobs.start(home)
    return job


def jobs(name: str | None = None, *, store: Path | str | None = None) -> list[QueuedJob]:
    """List the newest batch jobs, of one model or of all, newest first."""
    return JobQueue(Store.open(store)).jobs(name)


def job(job_id: str, *, store: Path | str | None = None) -> QueuedJob:
    """Say how far a batch job is.

    Raises
    ------
    RegistryError
        There is no such job.
    """
    return JobQueue(Store.open(store)).get(None, job_id)


def cancel(job_id: str, *, store: Path | str | None = None) -> QueuedJob:
    """Give a batch job up: at once if it waits, else within seconds; one that is over stays as it is.

    Raises
    ------
    RegistryError
        There is no such job.
    """
    queue = JobQueue(Store.open(store))
    return queue.cancel(queue.get(None, job_id).spec.name, job_id)


def monitor(
    model: str | Path,
    *,
    set: Settings = (),  # noqa: A002  (as --set on the command line)
    labels: LabelSource | None = None,
    compare: tuple[str, str] | None = None,
    store: Path | str | None = None,
) -> MonitorResult:
    """Judge the logged predictions of a model; ``decision`` of the result is keep, watch or retrain.

    Parameters
    ----------
    model
        ``name``, ``name@alias`` or ``name@version``; or the file of a recipe, which means the model of its name, judged
        by its settings.
    set
        Other values of the section ``monitor``, or of the recipe.
    labels
        Labels by id beside those that the store keeps: a source as ``data.source`` of a recipe, or a table of Arrow.
    compare
        Labels, dates or times of two windows, which ``comparison`` of the result compares with each other.

    Raises
    ------
    MlsysError
        There is no such model, or the labels cannot be read.
    """
    chosen = set_values(set)
    if not is_recipe(model):
        return watch.monitor(Store.open(store), str(model), chosen, labels, compare=compare)
    recipe = load_recipe(model, chosen)
    name = f"{recipe.name}@{recipe.deploy.alias}"
    return watch.monitor(Store.open(store), name, (), labels, recipe, compare)


def labels(
    model: str,
    source: str | Path,
    *,
    set: Settings = (),  # noqa: A002  (as --set on the command line)
    store: Path | str | None = None,
) -> Received:
    """Take labels in that come after the predictions, each once, for every later run of the monitor.

    Parameters
    ----------
    source
        Labels by id: a source as ``data.source`` of a recipe.
    set
        How it is read, if not as in training, such as ``{"reading.query": "SELECT …"}``.

    Raises
    ------
    RegistryError, SourceError, RecipeError, ContractError
        There is no such model; the source cannot be read, has no key or label, or no label is a class of the model.
    """
    return watch.receive_labels(Store.open(store), model, str(source), set_values(set))


def profile(table: str | Path, **how: Any) -> TableProfile:
    """Profile any table without a model; the arguments are those of `mlsys.monitor.table_profile.of`.

    Raises
    ------
    SourceError, RecipeError, ContractError
        A source cannot be read, a column does not exist, or an expression is none.
    """
    from mlsys.monitor import table_profile

    return table_profile.of(table, **how)


def replay(name: str, *, store: Path | str | None = None) -> Replay:
    """Fit what the last run of a name tried again, without a clock, and compare the digests.

    Returns
    -------
    ``is_equal`` says whether the bundle is the same; if not, ``digests``, ``unequal_trials`` and ``unequal_files`` say
    where it differs.

    Raises
    ------
    RegistryError, StoreError
        No run of the name has trained a model, or what it left is no longer in the store.
    """
    home = Store.open(store)
    run = replays.former(home, name)  # a name that is wrong starts no cluster
    cluster.connect(home)
    return replays.replay(home, run, Console(sys.stderr))


def code(target: str, output: Path | str | None = None, *, store: Path | str | None = None) -> WrittenScript:
    """Write a model as one Python file that fits it again from the stored rows, and says whether it is the same.

    Parameters
    ----------
    target
        ``NAME`` or ``NAME@WHICH``, an alias, a version or a digest.
    output
        The file to write, ``NAME.py`` by default; what was learned of many values lies beside it, as JSON.

    Raises
    ------
    RegistryError, BundleError
        There is no such version, or a script cannot repeat its fit; the message says why.
    """
    return scripts.write(Store.open(store), target, None if output is None else Path(output))


def gc(
    outputs: Sequence[Path | str] = (),
    *,
    days: float = retention.DAYS,
    delete: bool = False,
    store: Path | str | None = None,
) -> list[Leftover]:
    """List what no alias, no recent line of the ledger and no run needs; with `delete`, delete it.

    Parameters
    ----------
    outputs
        Folders that `predict` wrote, beside which a killed one left hidden folders.
    days
        What is younger stays.

    Raises
    ------
    StoreError
        A run or a deployment is at work; nothing is deleted then.
    """
    find = retention.delete if delete else retention.leftovers
    return find(Store.open(store), days, [Path(output) for output in outputs])


def is_recipe(model: str | Path) -> bool:
    """True for the file of a recipe, and not the name of a model."""
    return Path(model).suffix in (".yaml", ".yml") or Path(model).is_file()
