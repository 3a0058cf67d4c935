"""A rehearsal: a bundle is opened, loaded, predicts its example and is certified in a process of its own.

It comes before any replica hears of the bundle, so one that does not load, that ends its process or that wants more
memory than there is, costs nothing that is served. The certificate says that the version gives the same numbers on all
paths (`mlsys.deploy.parity`); one that holds already is not made again. What goes wrong is the last line of the output
of ``python -m mlsys.deploy.rehearsal STORE NAME VERSION DIGEST LOOKUP ROWS``, which is the process. It is nicer than
what is served: importing and proving take seconds of a CPU.

A version whose certificate holds loaded and predicted here, with the same bytes, libraries and kind of machine; so its
bytes are checked again, and there is no process. Going back to it takes a second. There is one nevertheless where less
memory is free than it took, and where the version looks features up, since their store may have changed. Replicas take
nothing from a certificate: what they prove of a version as they load it, they prove themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import psutil

from mlsys import bundle, errors
from mlsys.deploy import parity
from mlsys.deploy.parity import Certificate
from mlsys.registry import LedgerEntry
from mlsys.store import Store

LONGEST_S = 300.0
"""Longest time in which a bundle has to load and predict one row."""

NICER = 10
"""Niceness of the process above that of who starts it: about a tenth of an endpoint's share of a CPU (sched(7))."""


def rehearse(store: Store, entry: LedgerEntry, lookup: str = "none", num_rows: int = parity.ROWS) -> Certificate | None:
    """Load a version as a replica would, and have its certificate.

    Parameters
    ----------
    lookup
        As ``deploy.lookup`` of a recipe.
    num_rows
        Rows of the certificate.

    Raises
    ------
    StoreError, BundleError
        There is no such bundle, it is damaged, or it does not load or predict.
    ParityError
        It gives other numbers on another path.
    """
    certificate = parity.known(store, entry.digest, num_rows)
    if certificate is not None and _still_loads(store, certificate, lookup):
        parity.check(certificate, entry)
        return certificate
    code, output, complaints = _in_a_process([str(store.root), *map(str, entry), lookup, str(num_rows)], entry)
    if code == 0:
        return parity.known(store, entry.digest, num_rows)
    last = (output.strip().splitlines() or [""])[-1]
    try:
        kind, message = json.loads(last)
    except ValueError:
        ending = f"signal {-code}" if code < 0 else f"exit code {code}"
        tail = (complaints.strip().splitlines() or [""])[-1]
        raise _refused(entry, f"a process that ended with {ending}{': ' if tail else ''}{tail}") from None
    leaf = getattr(errors, kind, None)
    if leaf is None:
        raise _refused(entry, message)
    raise leaf(message)


def _still_loads(store: Store, certificate: Certificate, lookup: str) -> bool:
    """Tell whether a version that was certified here needs no process; its bytes are checked, and may be damaged."""
    opened = bundle.open(store, certificate.digest)
    needs_store = lookup != "none" and bool(opened.views)
    return not needs_store and psutil.virtual_memory().available > certificate.memory_mb * 1e6


def _in_a_process(facts: list[str], entry: LedgerEntry) -> tuple[int, str, str]:
    """Exit code, output and complaints of the process."""
    command = [sys.executable, "-P", "-m", "mlsys.deploy.rehearsal", *facts]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, errors="replace") as process:
        with contextlib.suppress(OSError):  # it may have ended
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICER)
        try:
            output, complaints = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise _refused(entry, f"nothing after {LONGEST_S:.0f} s") from None
    return process.returncode, output, complaints


def _refused(entry: LedgerEntry, got: str) -> errors.BundleError:
    where = f"deploy: {entry.name} version {entry.version}, bundle '{entry.digest[:12]}'"
    hint = "what was served before stays; train again, or deploy another version"
    return errors.BundleError.build(where, got=got, expected="a model that loads and predicts its example", hint=hint)


def main(root: str, name: str, version: str, digest: str, lookup: str, num_rows: str) -> int:
    """Be the process: exit code 0, or the error as the last line of the output."""
    from mlsys.deploy import service

    try:
        store = Store.open(root)
        parity.certify(store, service.load(store, LedgerEntry(name, int(version), digest), lookup), int(num_rows))
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
