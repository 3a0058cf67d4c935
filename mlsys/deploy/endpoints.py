"""The endpoints of the cluster that is meant, and how that cluster is found without starting one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mlsys import cluster, errors, recipe, registry
from mlsys.deploy import ledger_swap, serving
from mlsys.deploy.alias_follower import AliasFollower
from mlsys.deploy.serving import Configured, Endpoint
from mlsys.registry import LedgerEntry
from mlsys.store import Store


class Endpoints(Protocol):
    """The places where names are served, as a change of a name needs them."""

    @property
    def cluster(self) -> str:
        """Address of the cluster, which the ledger notes."""

    @property
    def session(self) -> str | None:
        """Name of the cluster, by which replicas know that what the ledger is about to say is for them."""

    def configured(self, name: str) -> Configured | None:
        """The version that is served under a name."""

    def serve(self, entry: LedgerEntry, settings: recipe.DeploySection) -> Endpoint:
        """Serve a version under its name, and return when the answers name its digest."""

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of a name as it is; None if there is none."""

    def route(self, name: str, canary: Mapping[str, Any] | None) -> None:
        """Give a canary a part of the requests of a name, or none."""

    def stop(self, name: str) -> bool:
        """End the endpoint of a name."""


class ServeEndpoints:
    """Endpoints on Ray Serve, of the cluster to which this process is connected."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def cluster(self) -> str:
        """Address of the cluster."""
        import ray

        return str(ray.get_runtime_context().gcs_address)

    @property
    def session(self) -> str | None:
        """Name of the cluster."""
        return ledger_swap.session()

    def configured(self, name: str) -> Configured | None:
        """The version that is served under a name; of replicas that follow this store's ledger, what that says."""
        running = serving.configured(name)
        if running is None or running.digest is None or running.version is None or running.follows is None:
            return running
        if Path(running.follows).resolve() != self._store.root.resolve():
            return running
        first = LedgerEntry(name, running.version, running.digest)
        entry = AliasFollower(self._store, name, self.session).meaning(running.alias, first)
        return replace(running, digest=entry.digest, version=entry.version)

    def serve(self, entry: LedgerEntry, settings: recipe.DeploySection) -> Endpoint:
        """Serve a version under its name, and return when the answers name its digest."""
        return serving.start(self._store, entry.name, entry.digest, entry.version, settings, follow=True)

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of a name as it is; None if there is none."""
        return serving.endpoint(self._store, name)

    def route(self, name: str, canary: Mapping[str, Any] | None) -> None:
        """Give a canary a part of the requests of a name, or none."""
        serving.route(self._store, name, canary)

    def stop(self, name: str) -> bool:
        """End the endpoint of a name."""
        return serving.stop(self._store, name)


def reach(store: Store, name: str) -> Endpoints | None:
    """The endpoints of the cluster that `cluster.connect` would join, or None where it would have to start one.

    Raises
    ------
    ClusterError
        The cluster cannot be reached, or the name is served by one that this process does not know.
    """
    is_known = any(os.environ.get(variable) for variable in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"))
    endpoints: Endpoints | None = None
    if is_known or cluster.is_connected() or cluster.status(store) is not None:
        cluster.connect(store)
        endpoints = ServeEndpoints(store)
    if endpoints is None or endpoints.configured(name) is None:
        _refuse_elsewhere(store, name, endpoints)
    return endpoints


def _refuse_elsewhere(store: Store, name: str, endpoints: Endpoints | None) -> None:
    """Refuse if the endpoint that the ledger names answers with a bundle of this name, on another cluster that runs.

    Replicas of a head that was killed answer for some seconds more, and then end; nobody can reach that cluster.
    """
    line = registry.served_at(store, name)
    if line is None or (endpoints is not None and endpoints.cluster == line.facts.get("cluster")):
        return
    url, address = line.facts["url"], line.facts.get("cluster")
    digest = serving.answered_digest(url)
    is_known = digest in {entry.digest for entry in registry.versions(store, name)}
    if is_known and not (address and cluster.is_gone(address)):
        raise errors.ClusterError.build(
            f"deploy: endpoint '{name}'", got=f"answers at {url}, from the cluster {address}",
            expected="the cluster that serves the name, or nothing would change there",
            hint=f"export RAY_ADDRESS={address}, and its token, and run the command again",
        )  # fmt: skip
