"""Put a version of a name into service, or take it out: alias and endpoint move together, under one lock.

::

    1  the bundle loads and predicts its example, in a process of its own
    2  ledger: what is about to happen
    3  the endpoint serves the version, and its answers name the digest; replicas that follow the alias take it from 2
    4  ledger: the alias moves

What fails in 1 or 3 changes nothing: the version before serves, and the alias means it. A process that dies on the way
leaves the line of 2, from which the next command goes on (`recover`): it settles what the endpoint serves already, or
takes back what it does not. A canary that runs beside the alias ends with this, too. MLflow is told afterwards, outside
of the lock (`mlsys.registry.mlflow_mirror`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlsys import errors, locks, recipe, registry
from mlsys.deploy import canary_labels
from mlsys.deploy.endpoints import Endpoints
from mlsys.deploy.rehearsal import rehearse
from mlsys.deploy.serving import Configured, Endpoint
from mlsys.registry import LedgerEntry, Move, canaries, ledger
from mlsys.registry.canaries import CanaryTrial, Ending
from mlsys.store import Store

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Transition:
    """A version that an alias means now.

    Attributes
    ----------
    before
        The version that the alias meant before, or None.
    endpoint
        The endpoint that answers with the version; None where the alias moved alone, for the reason in `alone`.
    is_new
        The alias or the endpoint changed.
    trial
        The canary that this began, ended or found; None without one.
    """

    entry: LedgerEntry
    alias: str
    before: LedgerEntry | None
    endpoint: Endpoint | None
    is_new: bool
    alone: str = ""
    trial: CanaryTrial | None = None


def put(
    store: Store,
    entry: LedgerEntry,
    alias: str,
    endpoints: Endpoints | None,
    *,
    reason: str,
    sections: Mapping[str, Any] | None = None,
    then: Literal["move", "rollback"] = "move",
    may_start: bool = True,
    tell: Tell = locks.to_stderr,
) -> Transition:
    """Let the alias mean a version, and the endpoint of its name answer with it.

    Parameters
    ----------
    endpoints
        Those of the cluster; None moves the alias alone.
    sections
        Sections of the recipe as JSON, of which ``deploy`` says how it is served; by default those of the last time.
    may_start
        Start an endpoint where none runs. One that serves another alias is left alone in any case.

    Raises
    ------
    MlsysError
        The version does not load, or the endpoint does not answer with it; then nothing changed.
    """
    with registry.locked(store, entry.name, "deploy", tell):
        recover(store, entry.name, endpoints, tell)
        sections = dict(registry.settings(store, entry.name) if sections is None else sections)
        settings = section(sections, alias)
        trial = _trial(store, entry.name, alias)
        running = None if endpoints is None else endpoints.configured(entry.name)
        alone = _alone(entry.name, alias, endpoints, running, may_start=may_start)
        before = registry.meant(store, entry.name, alias)
        is_known = before == entry and running is not None and running.digest == entry.digest
        is_served = bool(alone) or (running is not None and running.digest == entry.digest and trial is None)
        intent: Move | None = None
        if before != entry or not is_served:
            if not is_known:
                rehearse(store, entry, settings.lookup)
            facts = {"sections": sections, **_place(endpoints, running)}
            ending = then if before != entry else "served"
            intent = registry.intend(store, entry, alias, reason=reason, then=ending, facts=facts)
        endpoint = None
        if not alone and endpoints is not None:
            endpoint = _serve(store, entry, settings, endpoints, intent)
        _settle(store, entry, intent, sections, endpoint, endpoints)
        if trial is not None:
            trial = end_trial(store, trial, "promoted" if trial.entry == entry else "taken_back", reason)
    return Transition(entry, alias, before, endpoint, is_new=intent is not None, alone=alone, trial=trial)


def rollback(
    store: Store, name: str, alias: str, endpoints: Endpoints | None, *, reason: str, tell: Tell = locks.to_stderr
) -> Transition:
    """Let the alias mean what it meant before, and the endpoint answer with it, if one serves this alias.

    While a canary runs beside what the alias means, it is the canary that is taken back, and the alias stays.

    Raises
    ------
    RegistryError
        The alias never meant anything else.
    """
    with registry.locked(store, name, "rollback", tell):
        recover(store, name, endpoints, tell)
        trial = _trial(store, name, alias)
        if trial is not None:
            return put(store, trial.stable, alias, endpoints, reason=reason, may_start=False, tell=tell)
        entry = registry.before(store, name, alias)
        return put(store, entry, alias, endpoints, reason=reason, then="rollback", may_start=False, tell=tell)


def undeploy(
    store: Store, name: str, endpoints: Endpoints | None, *, reason: str, tell: Tell = locks.to_stderr
) -> bool:
    """End the endpoint of a name and keep its versions and aliases; return false if there was none.

    Raises
    ------
    RegistryError
        There is no such model.
    """
    newest = registry.existing(store, name)[-1]
    with registry.locked(store, name, "undeploy", tell):
        recover(store, name, endpoints, tell)
        running = None if endpoints is None else endpoints.configured(name)
        is_ended = endpoints is not None and running is not None and endpoints.stop(name)
        if is_ended or registry.served_at(store, name) is not None:
            alias = running.alias if running is not None else None
            entry = registry.meant(store, name, alias) if alias is not None else None
            ledger.write(store, "undeploy", entry or newest, alias, reason=reason)
        trial = canaries.running(store, name)
        if trial is not None:
            end_trial(store, trial, "taken_back", reason)
    return is_ended


def recover(store: Store, name: str, endpoints: Endpoints | None, tell: Tell = locks.to_stderr) -> Move | None:
    """End what a process began and did not end, because it died; return the line that ends it, or None.

    The caller holds the name's lock. What the endpoint serves is settled: the alias moves. Anything else is taken
    back: the alias stays, and the endpoint is given back what it served.
    """
    intent = registry.unfinished(store, name)
    if intent is None:
        return None
    running = None if endpoints is None else endpoints.configured(name)
    begun = f"{name} version {intent.version} as {intent.alias}, begun by {intent.who} and not ended:"
    sections = dict(intent.facts.get("sections", {}))
    if endpoints is None or running is None or (running.alias, running.digest) != (intent.alias, intent.digest):
        tell(f"{begun} taken back, no endpoint serves it")
        return registry.withdraw(store, intent, "its process ended before an endpoint served it")
    try:
        endpoint = _serve(store, intent.entry, section(sections, running.alias), endpoints, intent)
    except errors.MlsysError as error:
        tell(f"{begun} taken back, {' '.join(str(error).split())}")
        return None
    tell(f"{begun} settled, {endpoint.url} answers with it")
    return _settle(store, intent.entry, intent, sections, endpoint, endpoints)


def end_trial(store: Store, trial: CanaryTrial, ending: Ending, reason: str) -> CanaryTrial:
    """Write how a canary ended, with what was counted in its last step; the caller holds the name's lock."""
    counts = canary_labels.counts(store, trial)
    return canaries.end(store, trial, ending, reason, counts)


def _trial(store: Store, name: str, alias: str) -> CanaryTrial | None:
    """The canary that runs beside what an alias means."""
    trial = canaries.running(store, name)
    return trial if trial is not None and trial.alias == alias else None


def section(sections: Mapping[str, Any], alias: str) -> recipe.DeploySection:
    """The section ``deploy``, by default as a recipe has it without one."""
    return recipe.DeploySection.model_validate({**sections.get("deploy", {}), "alias": alias})


def _alone(name: str, alias: str, endpoints: Endpoints | None, running: Configured | None, *, may_start: bool) -> str:
    """Why no endpoint takes part; empty if one does."""
    if endpoints is None:
        return "no cluster runs"
    if running is None:
        return "" if may_start else f"no endpoint of '{name}' runs"
    return "" if running.alias == alias else f"the endpoint of '{name}' serves {running.alias}"


def _place(endpoints: Endpoints | None, running: Configured | None) -> dict[str, Any]:
    """Facts of an intent: the cluster, and the address and the version of the endpoint that ran before."""
    if endpoints is None:
        return {}
    place = {"cluster": endpoints.cluster, "session": endpoints.session}
    if running is None:
        return place
    return {**place, "url": running.url, "served": [running.version, running.digest]}


def _serve(
    store: Store, entry: LedgerEntry, settings: recipe.DeploySection, endpoints: Endpoints, intent: Move | None
) -> Endpoint:
    """Serve a version; if that fails, the intent is withdrawn, and the endpoint gets back what it served."""
    try:
        return endpoints.serve(entry, settings)
    except Exception as error:
        if intent is not None:
            _take_back(store, intent, endpoints, " ".join(str(error).split()))
        raise


def _take_back(store: Store, intent: Move, endpoints: Endpoints, reason: str) -> None:
    """Withdraw an intent and give the endpoint back what it served, or end it if none ran before.

    An endpoint that cannot be ended leaves the intent, and the next command tries again. One that ran hears of the
    withdrawal first, because its replicas follow the ledger.
    """
    alias, running = intent.alias or "", endpoints.configured(intent.name)
    version, digest = intent.facts.get("served", (None, None))
    before = (
        LedgerEntry(intent.name, version, digest) if version and digest else registry.meant(store, intent.name, alias)
    )
    is_changed = running is not None and running.digest == intent.digest
    ran = before is not None and "served" in intent.facts
    if is_changed and not ran:
        endpoints.stop(intent.name)
    registry.withdraw(store, intent, reason)
    if is_changed and ran and before is not None:
        endpoints.serve(before, section(registry.settings(store, intent.name), alias))


def _settle(
    store: Store,
    entry: LedgerEntry,
    intent: Move | None,
    sections: Mapping[str, Any],
    endpoint: Endpoint | None,
    endpoints: Endpoints | None,
) -> Move | None:
    """Write down with which settings the name is served, then that the alias moved, and where it is served."""
    if sections:
        registry.configure(store, entry, sections)
    if intent is None:
        return None
    if endpoint is None or endpoints is None:
        return registry.settle(store, intent)
    return registry.settle(store, intent, url=endpoint.url, cluster=endpoints.cluster)
