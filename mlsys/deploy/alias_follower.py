"""Follow an alias: every replica looks at the ledger, so each cluster that reads the store takes a move by itself.

Nobody keeps a list of clusters. Whoever moves an alias writes the ledger, and a replica looks twice a second whether
its file has changed; so clusters follow that another command, another machine or ``serve deploy`` has started. The
cluster that a command reaches takes the version before the alias moves (`mlsys.deploy.rollout`): from the line of the
ledger that says what is about to happen, if its replicas run, and as configuration otherwise.
"""

from __future__ import annotations

import contextlib
import os

from mlsys import errors, registry
from mlsys.deploy import ledger_swap
from mlsys.registry import LedgerEntry, ledger
from mlsys.store import Store

POLL_S = 0.5
"""Seconds between two looks at the ledger: with the loading of a model, a move arrives within two."""

RETRY_S = 5.0
"""Seconds after which what failed is tried again."""


class AliasFollower:
    """The ledger as a replica reads it that serves an alias of a name.

    `cluster` is the one on which it runs, as `mlsys.deploy.ledger_swap.session` names it.
    """

    def __init__(self, store: Store, name: str, cluster: str | None = None) -> None:
        self._store, self._name, self._cluster = store, name, cluster
        self._seen: tuple[int, int, int] | None = None
        self._num_ended: int | None = None
        with contextlib.suppress(errors.MlsysError):  # a replica answers with what is configured all the same
            self._num_ended = self._count_ended()

    def has_changed(self) -> bool:
        """Tell whether the ledger was written since the last call; the first call says yes.

        The file is opened, because a network file system looks at its server then and not for a mere `stat`.
        """
        try:
            descriptor = os.open(ledger.path(self._store), os.O_RDONLY)
        except OSError:
            return False
        try:
            facts = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        before, self._seen = self._seen, (facts.st_ino, facts.st_size, facts.st_mtime_ns)
        return before != self._seen

    def forget(self) -> None:
        """Let the next call of `has_changed` say yes."""
        self._seen = None

    def meaning(self, alias: str, configured: LedgerEntry) -> LedgerEntry:
        """The version to answer with: what the alias means, or is about to mean here."""
        coming = ledger_swap.about_to_mean(self._store, self._name, alias, self._cluster)
        if coming is not None:
            return coming
        intent = registry.unfinished(self._store, self._name)
        if intent is not None and (intent.alias, intent.digest) == (alias, configured.digest):
            return configured
        return registry.meant(self._store, self._name, alias) or configured

    def is_ended(self) -> bool:
        """Tell whether the name was undeployed since this object was made, and not deployed again."""
        count = self._count_ended()
        if self._num_ended is None:
            self._num_ended = count
        return count > self._num_ended and registry.served_at(self._store, self._name) is None

    def others(self, alias: str, than: LedgerEntry) -> list[LedgerEntry]:
        """The versions that the alias means or meant, the last one first, without the one that is given."""
        return [each for each in dict.fromkeys(registry.stack(self._store, self._name, alias)[::-1]) if each != than]

    def _count_ended(self) -> int:
        return sum(move.kind == "undeploy" and move.name == self._name for move in ledger.read(self._store))
