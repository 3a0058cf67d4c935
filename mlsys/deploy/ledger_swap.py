"""Change the version of a running endpoint by the ledger alone, without a new configuration for Serve.

Replicas that follow their alias take a version from the ledger: what the alias means, and before it moves what a
command of their own cluster is about to let it mean (`mlsys.deploy.alias_follower`). So an endpoint that is to answer
with another version and is configured in all else as before needs no other configuration, which costs requests much
more than the model that is loaded: Serve's controller works on it, HAProxy is started again, and while a replica is
configured Serve takes it out of HAProxy's list.

The configuration goes on naming the version with which it came. For replicas that follow, that is the one to take if
the ledger cannot be read, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys import registry
from mlsys.registry import LedgerEntry
from mlsys.store import Store

VERSION = ("digest", "version")
"""Keys of a deployment's ``user_config`` that name the version."""


def session() -> str | None:
    """The name that Ray gave to the cluster to which this process is connected, another one at each start of a head."""
    import ray

    return str(ray.get_runtime_context().get_session_name()) if ray.is_initialized() else None


def about_to_mean(store: Store, name: str, alias: str, cluster: str | None) -> LedgerEntry | None:
    """The version that a command lets the replicas of a cluster take before their alias moves; None if none does."""
    intent = registry.unfinished(store, name)
    if intent is None or cluster is None or (intent.alias, intent.facts.get("session")) != (alias, cluster):
        return None
    return intent.entry


def is_same_but_version(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Tell whether two configurations of an application that follows its alias differ in the version at most.

    `before` is as Serve gives it back.
    """
    from ray.serve.schema import ServeApplicationSchema

    if before is None:
        return False
    first, second = dict(before), ServeApplicationSchema.model_validate(after).model_dump(exclude_unset=True)
    return _follows(first) and _without_version(first) == _without_version(second)


def _follows(app: Mapping[str, Any]) -> bool:
    deployments = app.get("deployments") or ()
    return bool(deployments) and all((each.get("user_config") or {}).get("follow") for each in deployments)


def _without_version(app: Mapping[str, Any]) -> dict[str, Any]:
    deployments = []
    for each in app["deployments"]:
        config = {key: value for key, value in each["user_config"].items() if key not in VERSION}
        deployments.append({**each, "user_config": config})
    return {**app, "deployments": deployments}
