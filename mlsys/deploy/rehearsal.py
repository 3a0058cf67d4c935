"""A rehearsal: a bundle is opened, loaded and predicts its example in a process of its own.

It comes before any replica hears of the bundle, so one that does not load, that ends its process or that wants more
memory than there is, costs nothing that is served. ``python -m mlsys.deploy.rehearsal STORE DIGEST LOOKUP`` is the
process; what went wrong in it is the last line of its output.
"""

from __future__ import annotations

import json
import subprocess
import sys

from mlsys import errors
from mlsys.registry import LedgerEntry
from mlsys.store import Store

LONGEST_S = 300.0
"""Longest time in which a bundle has to load and predict one row."""


def rehearse(store: Store, entry: LedgerEntry, lookup: str = "none") -> None:
    """Load a version as a replica would; `lookup` is as ``deploy.lookup`` of a recipe.

    Raises
    ------
    StoreError, BundleError
        There is no such bundle, it is damaged, or it does not load or predict.
    """
    command = [sys.executable, "-P", "-m", "mlsys.deploy.rehearsal", str(store.root), *map(str, entry), lookup]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise _refused(entry, f"nothing after {LONGEST_S:.0f} s") from None
    if done.returncode == 0:
        return
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        kind, message = json.loads(last)
    except ValueError:
        ending = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        tail = (done.stderr.strip().splitlines() or [""])[-1]
        raise _refused(entry, f"a process that ended with {ending}{': ' if tail else ''}{tail}") from None
    leaf = getattr(errors, kind, None)
    if leaf is None:
        raise _refused(entry, message)
    raise leaf(message)


def _refused(entry: LedgerEntry, got: str) -> errors.BundleError:
    where = f"deploy: {entry.name} version {entry.version}, bundle '{entry.digest[:12]}'"
    hint = "what was served before stays; train again, or deploy another version"
    return errors.BundleError.build(where, got=got, expected="a model that loads and predicts its example", hint=hint)


def main(root: str, name: str, version: str, digest: str, lookup: str) -> int:
    """Be the process: exit code 0, or the error as the last line of the output."""
    from mlsys.deploy import service

    try:
        service.load(Store.open(root), LedgerEntry(name, int(version), digest), lookup)
    except errors.MlsysError as error:
        problem = type(error).__name__, str(error)
    except Exception as error:  # noqa: BLE001  (whatever it is, the model does not load)
        problem = "", f"{type(error).__name__}: {error}"
    else:
        return 0
    sys.stdout.write(f"\n{json.dumps(problem)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
