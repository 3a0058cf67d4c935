"""The proof of what the store says: verbs that follow a model back to what made it, as functions.

`mlsys.operate` offers them, as it does all verbs of names; the command line has a verb for each.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlsys import cluster
from mlsys.console import Console
from mlsys.store import Store
from mlsys.workflow import reproduction
from mlsys.workflow import why as explanations
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
