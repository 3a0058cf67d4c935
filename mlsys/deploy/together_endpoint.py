"""Serve many registered models in one application (`mlsys.deploy.together`), say how they fare, and end them.

There is one on a cluster, at the address ``/``, where otherwise the gateway to the applications of single models is. A
file beside the cluster's state notes where it is, so that every process of the store finds it.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import cluster, errors, recipe, registry
from mlsys.deploy import api_keys, serving
from mlsys.deploy.rehearsal import rehearse
from mlsys.recipe.names import TOGETHER
from mlsys.registry import LedgerEntry
from mlsys.store import Store, read_json, write_json

FILE = "together.json"
"""File beside the cluster's state: where the application is, and the models that it was told of."""

MOST_BYTES = 4 << 30
"""Memory that all models take in a replica, unless somebody says otherwise."""

ANSWER_S = 5
"""Longest wait for the application when it is asked what it has."""


@dataclass(frozen=True)
class ServedTogether:
    """The application: its address, its cluster, and the models by name with the bytes of those in memory.

    `held` is what the replica that was asked holds; None if none answers.
    """

    url: str
    cluster: str
    models: Mapping[str, str]
    most_bytes: int
    held: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Keys: url, cluster, models (name to alias), most_bytes, held (name to bytes) and answers."""
        held = None if self.held is None else dict(self.held)
        return {**vars(self), "models": dict(self.models), "held": held, "answers": held is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ServedTogether:
        """Read what `to_json` gave."""
        return cls(**{key: item for key, item in value.items() if key != "answers"})

    @property
    def summary(self) -> str:
        """A line for people."""
        names = ", ".join(f"{name}@{alias}" for name, alias in self.models.items())
        head = f"together: {names} at {self.url}"
        if self.held is None:
            return f"{head}, which does not answer"
        held = ", ".join(f"{name} {size / (1 << 20):,.0f} MiB" for name, size in self.held.items()) or "none"
        return f"{head}; in memory of the replica that was asked: {held}, of {self.most_bytes / (1 << 20):,.0f} MiB"


def serve(
    store: Store, targets: Sequence[str], most_bytes: int = MOST_BYTES, settings: recipe.DeploySection | None = None
) -> ServedTogether:
    """Serve models in one application, in place of those that it served before.

    Parameters
    ----------
    targets
        ``NAME``, or ``NAME@ALIAS``, which the replicas follow.
    settings
        As ``deploy`` of a recipe, for all models; alias and rollout mean nothing here.

    Raises
    ------
    RegistryError, BundleError, ParityError
        There is no such model, or what its alias means does not load or gives other numbers on another path.
    ClusterError
        Models have applications of their own on the cluster, or it does not become ready; nothing changed then.
    """
    settings = recipe.DeploySection() if settings is None else settings
    models = aliases(store, targets)
    for entry, _ in models.values():
        rehearse(store, entry, settings.lookup)
    cluster.connect(store)
    args, options = serving.of_settings(store, settings)
    own = {"models": [f"{name}@{alias}" for name, (_, alias) in models.items()], "most_bytes": most_bytes}
    app = serving.application_of(TOGETHER, "/", serving.TOGETHER_APP, own | args, {"name": "Together", **options})
    root = serving.put(store, app, settings, lambda root: _obstacle(store, root, models))
    import ray

    address = str(ray.get_runtime_context().gcs_address)
    served = ServedTogether(root, address, {name: alias for name, (_, alias) in models.items()}, most_bytes)
    write_json(_file(store), {"url": root, "cluster": address, "models": dict(served.models), "most_bytes": most_bytes})
    return known(store) or served


def aliases(store: Store, targets: Sequence[str]) -> dict[str, tuple[LedgerEntry, str]]:
    """Name → what its alias means now, and the alias.

    Raises
    ------
    RegistryError
        There is no such model or alias, one is named twice, or a version is named, which could not be followed.
    """
    entries: dict[str, tuple[LedgerEntry, str]] = {}
    for target in targets:
        name, _, which = target.partition("@")
        entry = registry.resolve(store, name, which or "champion")
        if which and registry.meant(store, name, which) is None:
            hint = f"mlsys promote {target} --reason WHY, and then {name}"
            raise errors.RegistryError.build(f"together: '{target}'", got=which, expected="an alias", hint=hint)
        if name in entries:
            raise errors.RegistryError.build(f"together: '{target}'", got=f"'{name}' twice", expected="each model once")
        entries[name] = entry, which or "champion"
    return entries


def known(store: Store) -> ServedTogether | None:
    """The application of a store, asked what it holds; None if none was served, or it was ended."""
    file = _file(store)
    if not file.is_file():
        return None
    noted = read_json(file)
    index = _index(store, noted["url"])
    held = None if index is None else {name: each["bytes"] for name, each in index.items() if each["bytes"] is not None}
    return ServedTogether(**noted, held=held)


def stop(store: Store) -> bool:
    """End the application; return false if none runs."""
    noted = known(store)
    if noted is None and cluster.status(store) is None:
        return False
    cluster.connect(store)
    is_ended = serving.stop(store, TOGETHER)
    _file(store).unlink(missing_ok=True)
    return is_ended


def _obstacle(store: Store, root: str, models: Mapping[str, Any]) -> str | None:
    """Why the application is not what was asked for; None if the replica that answers has these models."""
    index = _index(store, root)
    return None if index is not None and set(index) == set(models) else f"{root}/ does not list the models yet"


def _index(store: Store, root: str) -> dict[str, Any] | None:
    request = urllib.request.Request(f"{root}/", headers=api_keys.owner_headers(store))  # noqa: S310 - http, as served
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310 - as above
            models = json.load(answer)["models"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return models if isinstance(models, dict) else None


def _file(store: Store) -> Path:
    return store.root / "cluster" / FILE
