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
from mlsys.workflow.reproduction import Origin, Reproduction


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
