"""Begin a canary: a version gets a part of an endpoint's requests beside the one that serves, after its certificate.

::

    1  the version loads, and its certificate is in order, in a process of its own
    2  ledger: the canary begins
    3  the replicas load it beside stable
    4  the judge widens it, promotes it or takes it back (`mlsys.deploy.canary_judge`)

What fails in 1 leaves nothing behind. A version that fails later gets no traffic, and stable answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys import errors, locks, recipe, registry
from mlsys.deploy import canary_judge, rollout, tallies
from mlsys.deploy.endpoints import Endpoints
from mlsys.deploy.rehearsal import rehearse
from mlsys.deploy.rollout import Tell, Transition
from mlsys.deploy.serving import Configured
from mlsys.recipe.columns import span_us
from mlsys.registry import LedgerEntry, canaries
from mlsys.registry.canaries import TrialPlan
from mlsys.store import Store


def plan_of(section: recipe.RolloutSection) -> TrialPlan:
    """The plan that a recipe or a command line describes."""
    return TrialPlan(
        percents=tuple(section.steps),
        every_s=span_us(section.every) / 1e6,
        min_requests=section.min_requests,
        alpha=section.alpha,
        slowdown=section.slowdown,
        shift=section.shift,
        key=section.key,
        shadow=section.shadow,
        isolation=section.isolation,
    )


def put(
    store: Store,
    entry: LedgerEntry,
    alias: str,
    there: Endpoints | None,
    *,
    reason: str,
    sections: Mapping[str, Any] | None = None,
    tell: Tell = locks.to_stderr,
) -> Transition:
    """Put a version into service as its settings ask for: as a canary, if ``deploy.rollout`` is there, or at once.

    Where nothing is served that a canary could run beside, it is at once. Errors are those of `begin` and
    `rollout.put`.
    """
    known = registry.settings(store, entry.name) if sections is None else sections
    rollout_section = (known.get("deploy") or {}).get("rollout")
    running = None if there is None else there.configured(entry.name)
    stable = registry.meant(store, entry.name, alias)
    served = None if running is None else (running.alias, running.digest)
    can_be_beside = stable is not None and stable != entry and served == (alias, stable.digest)
    if rollout_section is None or there is None or not can_be_beside:
        return rollout.put(store, entry, alias, there, reason=reason, sections=sections, tell=tell)
    section = recipe.RolloutSection.model_validate(rollout_section)
    return begin(store, entry, alias, there, plan_of(section), reason=reason, sections=sections, tell=tell)


def begin(
    store: Store,
    entry: LedgerEntry,
    alias: str,
    there: Endpoints | None,
    plan: TrialPlan,
    *,
    reason: str,
    sections: Mapping[str, Any] | None = None,
    tell: Tell = locks.to_stderr,
) -> Transition:
    """Give a version the first share of the requests of the endpoint that serves the alias.

    A canary that is this version already goes on as it is.

    Raises
    ------
    ClusterError
        Another version is not served under the alias, so there is nothing to compare with.
    RegistryError
        Another canary of the name runs.
    BundleError, StoreError
        The version does not load, or gives other numbers on another path.
    """
    name = entry.name
    if there is None:
        raise _nothing_served(entry, alias, None)
    with registry.locked(store, name, "canary", tell):
        rollout.recover(store, name, there, tell)
        stable = _stable(store, entry, alias, there)
        sections = dict(registry.settings(store, name) if sections is None else sections)
        settings = rollout.section(sections, alias)
        trial = canaries.running(store, name)
        if trial is not None and trial.entry == entry:
            return Transition(entry, alias, stable, there.endpoint(name), is_new=False, trial=trial)
        certificate = rehearse(store, entry, settings.lookup)
        edges = certificate.edges if certificate is not None else ()
        trial = canaries.start(store, entry, stable, alias, plan, edges=edges, reason=reason)
        tallies.forget(store, name, trial.id)
        try:
            endpoint = there.serve(stable, settings)
            there.route(name, canary_judge.routing(trial))
        except Exception as error:
            rollout.end_trial(store, trial, "taken_back", " ".join(str(error).split()))
            raise
        if sections:
            registry.configure(store, stable, sections)
        canary_judge.start(store, name)
    return Transition(entry, alias, stable, endpoint, is_new=True, trial=trial)


def _stable(store: Store, entry: LedgerEntry, alias: str, there: Endpoints) -> LedgerEntry:
    """The version that the alias means and the endpoint answers with."""
    running, stable = there.configured(entry.name), registry.meant(store, entry.name, alias)
    if running is None or running.alias != alias or stable is None or running.digest != stable.digest:
        raise _nothing_served(entry, alias, running)
    if stable == entry:
        raise errors.ClusterError.build(
            f"deploy: canary version {entry.version} of '{entry.name}'", got=f"the version that {alias} means already",
            expected="another one", hint=f"mlsys deploy {entry.name}@VERSION --canary 5%",
        )  # fmt: skip
    return stable


def _nothing_served(entry: LedgerEntry, alias: str, running: Configured | None) -> errors.ClusterError:
    got = "no endpoint" if running is None else f"an endpoint of version {running.version} as {running.alias}"
    return errors.ClusterError.build(
        f"deploy: canary version {entry.version} of '{entry.name}'", got=got,
        expected=f"one that answers with what {alias} means, to compare with",
        hint=f"`mlsys deploy {entry.name}` serves one without a canary",
    )  # fmt: skip
