"""The workflow for Python users: run a recipe, write one for a table, load a model and predict.

Each function does what the verb of the command line with its name does, on the same store, and raises an
error of `mlsys.errors` where the command would end with a message.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlsys import bundle, errors, registry, workflow
from mlsys.cluster import connect
from mlsys.console import Console
from mlsys.predict import Predictor
from mlsys.recipe import Recipe, override, parse, set_values
from mlsys.recipe import load as load_recipe
from mlsys.store import Store
from mlsys.workflow.results import DeployResult, EvaluateResult, MonitorResult, TrainResult

if TYPE_CHECKING:
    from mlsys.bundle import Bundle

NEEDS_A_CLUSTER = ("deploy", "monitor")
"""Steps that have no form in one process: they start an endpoint, or ask it."""

DIGEST = re.compile(r"[0-9a-f]{8,64}")
"""A bundle's digest, or enough of its first digits."""


@dataclass(frozen=True, repr=False)
class FinishedRun:
    """The outcome of a run; fields of steps that were not reached are empty or None.

    Attributes
    ----------
    recipe
        As it was run, with every default filled in.
    folder
        Folder of the run: ``resolved.yaml``, ``schema.yaml``, ``result.json`` and ``reports``.
    bundle
        Digest of the stored model.
    metrics, intervals
        Test metrics by name, and the ends of their confidence intervals where there are any.
    passed
        Whether the model passed its gate.
    reports
        HTML pages by step.
    decision
        The monitor's: keep, watch or retrain.
    """

    recipe: Recipe
    store: Path
    folder: Path
    family: str | None
    bundle: str | None
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    passed: bool | None
    reports: dict[str, Path]
    url: str | None
    decision: str | None

    def __repr__(self) -> str:
        parts = [self.family or "no model yet", *(f"{name} {value:.4g}" for name, value in self.metrics.items())]
        return f"FinishedRun({self.recipe.name!r}: {', '.join(parts[:4])})"

    def predictor(self) -> Predictor:
        """Load the model of this run.

        Raises
        ------
        BundleError
            The run stopped before a model was trained.
        """
        if self.bundle is None:
            raise errors.BundleError.build(
                f"run '{self.recipe.name}'", got="no model yet", expected="a trained one", hint='until="train" or later'
            )
        return load(self.bundle, store=self.store)


def run(
    recipe: Recipe | Mapping[str, Any] | Path | str,
    until: str = "monitor",
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002  (as --set on the command line)
    store: Path | str | None = None,
    labels: Path | str | None = None,
    cluster: bool = True,
    quiet: bool = False,
) -> FinishedRun:
    """Run a recipe up to and including a step; what did not change since the last run is not run again.

    Parameters
    ----------
    recipe
        Path of a recipe file, a `Recipe`, or its keys and values.
    until
        The last step: collect, explore, features, selection, tune, train, evaluate, deploy or monitor.
    set
        Values in place of those of the recipe, by dotted key: ``{"train.rounds": 200}``.
    store
        Folder of the store; ``$MLSYS_STORE`` or ``.mlsys`` by default.
    labels
        Labels by id for the monitor: a source as ``data.source`` of a recipe.
    cluster
        False keeps all work in this process, without Ray and MLflow: up to ``evaluate``, and without a search
        of parameters (``tune.trials: 0``).
    quiet
        Print nothing.

    Raises
    ------
    MlsysError
        A step cannot be done; what earlier steps made stays, and the next call goes on there.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> recipe = {"name": "wine", "target": "target", "data": {"source": "sklearn://wine"}}
    >>> quick = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}
    >>> done = run(recipe, "evaluate", set=quick, store=mkdtemp(), cluster=False, quiet=True)
    >>> done.family, done.passed, done.metrics["accuracy"] > 0.9
    ('linear', True, True)
    >>> sorted(done.reports)
    ['evaluate', 'explore', 'features', 'selection', 'tune']
    """
    tree = _recipe(recipe, set or {})
    _check_step(tree, until, cluster=cluster)
    job = workflow.Run(
        tree, Store.open(store), Console(io.StringIO() if quiet else None), labels=labels, mirrors=cluster
    )
    if cluster:
        connect(job.store)
    return _finished(workflow.run(job, until))


def init(
    table: str, target: str | None = None, *, output: Path | str | None = None, forecast: str | None = None
) -> str:
    """Write a recipe for a table that nobody has described; it runs as it is and is meant to be edited.

    Parameters
    ----------
    table
        Whatever a recipe takes as its source: a path, glob or URI.
    target
        The column to predict; without one the likeliest is proposed, and a comment names others.
    output
        File to write; without one the text is only returned.
    forecast
        How far ahead the target is to be forecast, such as ``14d``: time and series are proposed, too.

    Raises
    ------
    SourceError
        The table cannot be read.
    RecipeError
        It has no such column, or the file is there already.

    Examples
    --------
    >>> print(init("sklearn://wine", "target"))
    # Drafted from the 178 rows of sklearn://wine.
    ...
    name: wine
    target: target  # as asked for
    ...
    """
    from mlsys.collect import recipe_template

    text = recipe_template.write(table, target, forecast=forecast)
    if output is not None:
        recipe_template.save(text, Path(output))
    return text


def load(model: str | Path, *, store: Path | str | None = None) -> Predictor:
    """Load a model: its `predict` takes a table of pandas, Polars or Arrow and gives one of the same kind.

    Parameters
    ----------
    model
        ``name@alias``, ``name@version`` or ``name``, which means ``name@champion``; the digest of a bundle or
        its first eight digits; or the folder of a bundle, which may have been copied to this machine.
    store
        Folder of the store; ``$MLSYS_STORE`` or ``.mlsys`` by default. A folder needs none.

    Raises
    ------
    RegistryError, BundleError
        There is no such model, or its files are damaged.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from sklearn.datasets import load_wine
    >>> recipe = {"name": "wine", "target": "target", "data": {"source": "sklearn://wine"}}
    >>> quick = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}
    >>> done = run(recipe, "train", set=quick, store=mkdtemp(), cluster=False, quiet=True)
    >>> model = load(done.bundle, store=done.store)
    >>> model.predict(load_wine(as_frame=True).data.iloc[[0, 70, 140]])["prediction"].to_dict()
    {0: 0, 70: 1, 140: 2}
    """
    folder = Path(model)
    if isinstance(model, Path) or folder.is_dir() or len(folder.parts) > 1:  # no name holds a slash
        return _predictor(bundle.open_folder(folder), _store_around(folder, store))
    home = Store.open(store)
    if DIGEST.fullmatch(model):
        digest = _whole_digest(home, model)
    else:
        name, _, which = model.partition("@")
        digest = registry.resolve(home, name, which or "champion").digest
    return _predictor(bundle.open(home, digest), home)


def _predictor(opened: Bundle, home: Store | None) -> Predictor:
    """A predictor that looks up feature tables in the store, where one is known and the model has any."""
    from mlsys.features.online.lookup import TableSource

    source = None if home is None else TableSource.latest(home, opened.schema)
    return Predictor(opened, source=source)


def _store_around(folder: Path, store: Path | str | None) -> Store | None:
    """The store that is named, or the one in which the folder of a bundle lies."""
    if store is not None:
        return Store.open(store)
    kind, objects, *_ = folder.absolute().parents
    return Store(objects.parent) if (kind.name, objects.name) == ("bundle", "objects") else None


def _whole_digest(home: Store, digits: str) -> str:
    matches = [path.name for path in (home.root / "objects" / "bundle").glob(f"{digits}*")]
    if len(matches) != 1:
        raise errors.BundleError.build(
            f"bundle '{digits}'", got=f"{len(matches)} in the store", expected="one", hint="`run(…).bundle` names one"
        )
    return matches[0]


def _recipe(recipe: Recipe | Mapping[str, Any] | Path | str, settings: Mapping[str, Any]) -> Recipe:
    overrides = set_values(settings)
    if isinstance(recipe, Recipe):
        return override(recipe, overrides) if overrides else recipe
    if isinstance(recipe, Mapping):
        return parse(yaml.safe_dump(json.loads(json.dumps(recipe, default=str)), allow_unicode=True), overrides)
    return load_recipe(recipe, overrides)


def _check_step(recipe: Recipe, until: str, *, cluster: bool) -> None:
    """Refuse a step that does not exist, or that needs a cluster where there shall be none."""
    steps = list(workflow.STEPS)
    if until not in steps:
        hint = errors.did_you_mean(until, steps)
        raise errors.RecipeError.build("run: until", got=until, expected="a step", hint=hint)
    if cluster:
        return
    if until in NEEDS_A_CLUSTER:
        where = "run: cluster=False"
        got = f"until={until!r}"
        expected = "a step up to evaluate"
        raise errors.RecipeError.build(where, got=got, expected=expected, hint='until="evaluate", or leave cluster out')
    if recipe.tune.trials != 0 and steps.index(until) >= steps.index("tune"):
        got = f"tune.trials: {recipe.tune.trials}"
        expected = "0: trials run on a cluster"
        raise errors.RecipeError.build("run: cluster=False", got=got, expected=expected, hint='set={"tune.trials": 0}')


def _finished(done: workflow.Run) -> FinishedRun:
    results = done.results
    trained, evaluated = results.get("train"), results.get("evaluate")
    deployed, monitored = results.get("deploy"), results.get("monitor")
    entries = evaluated.metrics if isinstance(evaluated, EvaluateResult) else {}
    metrics = {name: entry for name, entry in entries.items() if entry["value"] is not None}
    pages = {name: record.get("report") for name, record in done.records.items()}
    return FinishedRun(
        recipe=done.recipe,
        store=done.store.root,
        folder=done.folder,
        family=trained.family if isinstance(trained, TrainResult) else None,
        bundle=trained.bundle if isinstance(trained, TrainResult) else None,
        metrics={name: entry["value"] for name, entry in metrics.items()},
        intervals={name: (entry["low"], entry["high"]) for name, entry in metrics.items() if entry["low"] is not None},
        passed=evaluated.passed if isinstance(evaluated, EvaluateResult) else None,
        reports={name: Path(page) for name, page in pages.items() if page is not None},
        url=deployed.endpoint.url if isinstance(deployed, DeployResult) and deployed.endpoint else None,
        decision=monitored.decision if isinstance(monitored, MonitorResult) else None,
    )
