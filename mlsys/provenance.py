"""The proof of what the store says: verbs that follow a model back to what made it, as functions.

`mlsys.operate` offers them, as it does all verbs of names; the command line has a verb for each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from mlsys import cluster, errors, registry
from mlsys.console import Console
from mlsys.deploy import batch_records
from mlsys.store import Store
from mlsys.workflow import inventory, reproduction, source_lineage
from mlsys.workflow import lineage as lineages
from mlsys.workflow import why as explanations
from mlsys.workflow.lineage import Lineage
from mlsys.workflow.reproduction import Origin, Reproduction
from mlsys.workflow.why import RunExplanation


def reproduce(target: str, *, store: Path | str | None = None) -> Reproduction:
    """Make a registered version again from its receipt, and say what differs; no version is made, no alias moves.

    Parameters
    ----------
    target
        ``NAME@VERSION``, or ``NAME@`` with an alias or a digest.

    Returns
    -------
    ``is_equal`` says whether that gave the same digest; `differences` what is no longer as the receipt says, also where
    that has no effect, `unequal_files` and `largest_difference` what it did to the bundle and to predictions.

    Raises
    ------
    RegistryError, BundleError, StoreError
        There is no such version, its bundle is not whole or has no receipt, or its run recorded less.
    """
    home = Store.open(store)
    origin = Origin.resolve(home, target)
    if origin.is_possible:  # else nothing is fitted
        cluster.connect(home)
    return reproduction.reproduce(home, origin, Console(sys.stderr))


def why(run: str, *, store: Path | str | None = None) -> RunExplanation:
    """Explain a run that failed or is odd, in words that are composed of stored facts.

    Parameters
    ----------
    run
        The id of a run, or its first 8 digits; or a name, which means its last run and what was noted of it since: the
        monitor's decision, a canary that was taken back, batch jobs that failed.

    Returns
    -------
    ``statements`` with the causes first, each with what the step had read, what to change, and the command that shows
    more.

    Raises
    ------
    RegistryError
        There is no such run and no such name.
    """
    return explanations.explain(Store.open(store), run)


def lineage(
    target: str,
    *,
    kind: Literal["prediction", "version", "source", "batch"] | None = None,
    model: str | None = None,
    at: str | None = None,
    store: Path | str | None = None,
) -> Lineage:
    """Follow a prediction or a version back to its files, or a file to all that was made of it.

    Parameters
    ----------
    target
        The id of a prediction; ``NAME`` or ``NAME@WHICH``, as everywhere; a source or an output: a path, a URI, or the
        SHA-256 of a file; or the id of a batch prediction.
    kind
        Which of these it is. By default a name of the ledger is a version, a path that is there, a URI and a digest are
        sources, the id of a recorded batch prediction is one, and all else is the id of a prediction.
    model
        The model in whose log the prediction is; by default all logs are looked through.
    at
        A time near which it was answered, in ISO 8601; by default the one that the id holds, if it holds one.

    Raises
    ------
    RegistryError, RecipeError
        There is no such version, prediction or batch prediction, or `at` is no time.
    """
    home = Store.open(store)
    name, _, which = target.partition("@")
    names = registry.model_names(home)
    of_digest = [entry for each in names for entry in registry.versions(home, each) if entry.digest == target]
    if kind is None:
        is_version = name in names or bool(of_digest)
        kind = "version" if is_version else "source" if source_lineage.is_source(target) else None
    batches = batch_records.of_run(home, target) if kind in (None, "batch") else []
    if batches:
        return lineages.of_batch(home, batches)
    if kind == "batch":
        raise errors.RegistryError.build(
            f"lineage: batch prediction '{target}'", got="no record of it",
            expected="the run_id of a batch prediction of this store",
        )  # fmt: skip
    if kind == "version":
        return lineages.of_version(
            home, of_digest[0] if of_digest else registry.resolve(home, name, which or "champion")
        )
    if kind == "source":
        return source_lineage.of_source(home, target)
    if model is not None:
        registry.existing(home, model)
    near = None if at is None else inventory.parsed_time(at, "lineage: --at")
    return lineages.of_prediction(home, target, model, near)
