"""Operations on names: deploy, promote, roll back and undeploy what is registered, without a recipe.

Each holds the lock of the name, takes alias and endpoint together (`mlsys.deploy.rollout`), and tells MLflow last.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import bundle, cluster, errors, locks, registry
from mlsys.bundle import Bundle
from mlsys.deploy import canary_judge, canary_labels, canary_rollout, endpoints, rollout
from mlsys.deploy.rollout import Tell, Transition
from mlsys.recipe import RolloutSection, override, set_values
from mlsys.registry import LedgerEntry, canaries, mlflow_mirror
from mlsys.registry.canaries import TrialPlan
from mlsys.store import Store


@dataclass(frozen=True)
class NameChange:
    """A finished operation on a name, and the warning of MLflow's mirror, if there is one."""

    transition: Transition
    warning: str | None

    def to_json(self) -> dict[str, Any]:
        """Keys: name, alias, version, digest, before, changed, url, note and canary."""
        done, entry = self.transition, self.transition.entry
        return {
            "name": entry.name,
            "alias": done.alias,
            "version": entry.version,
            "digest": entry.digest,
            "before": None if done.before is None else done.before.version,
            "changed": done.is_new,
            "url": None if done.endpoint is None else done.endpoint.url,
            "note": done.alone,
            "canary": None if done.trial is None else done.trial.to_json(),
        }

    @property
    def summary(self) -> str:
        """One line for people."""
        done, entry = self.transition, self.transition.entry
        trial = done.trial
        if trial is not None and trial.ended is None:
            return f"{canary_text(entry.name, trial.to_json())}; `mlsys rollout {entry.name}` says how it fares"
        verb = "is" if done.is_new else "was already"
        line = f"{entry.name}@{done.alias} {verb} version {entry.version} ({entry.digest[:12]})"
        if done.before is not None and done.before != entry:
            line += f", before it version {done.before.version}"
        line = f"{line}; {done.endpoint.url} answers with it" if done.endpoint else f"{line}; {done.alone}"
        ended = trial is not None and trial.ended == "taken_back"
        return f"{line}; the canary, version {trial.entry.version}, was taken back" if trial and ended else line


def canary_text(name: str, trial: Mapping[str, Any]) -> str:
    """A canary in one line: what it has, or how it ended and why; `trial` as `CanaryTrial.to_json`."""
    head = f"{name}: version {trial['version']}, a canary beside version {trial['stable']},"
    counts = trial["counts"] or {}
    seen = f" after {counts['canary_requests']:,} requests of this step" if counts else ""
    if trial["ended"] is not None:
        verb = {"promoted": "was promoted", "taken_back": "was taken back"}[trial["ended"]]
        return f"{head} {verb}{seen}: {trial['reason']}"
    has = f"{'computes unseen' if trial['shadow'] else 'answers'} {trial['percent']:g} % of the requests"
    verdict = f": {trial['verdict']['words']}" if trial.get("verdict") else ""
    return f"{head} {has} in step {trial['step']} of {trial['steps']}{verdict}"


def split(target: str) -> tuple[str, str | None]:
    """Divide ``NAME`` or ``NAME@ALIAS``, ``NAME@VERSION``, ``NAME@DIGEST`` into the name and what follows.

    >>> split("penguins@3"), split("penguins")
    (('penguins', '3'), ('penguins', None))
    """
    name, _, which = target.partition("@")
    return name, which or None


def deploy(
    store: Store,
    target: str,
    *,
    alias: str = "champion",
    reason: str = "",
    plan: TrialPlan | None = None,
    tell: Tell = locks.to_stderr,
) -> NameChange:
    """Serve a version of a name, on the cluster that is there or a new one, and let the alias mean it.

    Where the settings of the name have ``deploy.rollout``, or with a `plan`, it begins as a canary.

    Parameters
    ----------
    target
        ``NAME`` serves what the alias means; ``NAME@WHICH`` an alias, a version or a digest.
    plan
        How the version takes over from the one that is served; without one as the settings say.

    Raises
    ------
    RegistryError, BundleError, ClusterError
        There is no such version, it does not load, or no endpoint answers with it; then nothing changed.
    """
    name, which = split(target)
    entry = registry.resolve(store, name, which or alias)
    there = endpoints.reach(store, name)
    why = reason or f"deploy {target}"
    if plan is not None:
        return _mirrored(store, canary_rollout.begin(store, entry, alias, there, plan, reason=why, tell=tell))
    if there is None:
        cluster.connect(store)
        there = endpoints.reach(store, name)
    return _mirrored(store, canary_rollout.put(store, entry, alias, there, reason=why, tell=tell))


def promote(
    store: Store, target: str, *, alias: str = "champion", reason: str, tell: Tell = locks.to_stderr
) -> NameChange:
    """Let the alias mean a version, whatever a gate or a comparison says; its endpoint follows, none is started.

    Raises
    ------
    RegistryError, BundleError, ClusterError
        As `deploy`; also if `target` names no version.
    """
    name, which = split(target)
    if which is None:
        known = ", ".join(f"{name}@{entry.version}" for entry in registry.existing(store, name)[-5:])
        raise errors.RegistryError.build(
            f"promote: '{target}'", got="a name", expected="the version of it to promote", hint=f"the last: {known}"
        )
    entry = registry.resolve(store, name, which)
    there = endpoints.reach(store, name)
    return _mirrored(store, rollout.put(store, entry, alias, there, reason=reason, may_start=False, tell=tell))


def rollback(
    store: Store, name: str, *, alias: str = "champion", reason: str = "rollback", tell: Tell = locks.to_stderr
) -> NameChange:
    """Give the alias back to the version before; its endpoint follows, none is started.

    Raises
    ------
    RegistryError, BundleError, ClusterError
        There is no version before, it does not load, or the endpoint does not answer with it.
    """
    registry.existing(store, name)
    there = endpoints.reach(store, name)
    return _mirrored(store, rollout.rollback(store, name, alias, there, reason=reason, tell=tell))


def undeploy(store: Store, name: str, *, reason: str = "undeploy", tell: Tell = locks.to_stderr) -> bool:
    """End the endpoint of a name; versions and aliases stay. False if there was none.

    Raises
    ------
    RegistryError, ClusterError
        There is no such model, or its cluster cannot be reached.
    """
    registry.existing(store, name)
    return rollout.undeploy(store, name, endpoints.reach(store, name), reason=reason, tell=tell)


def plan(values: Mapping[str, Any]) -> TrialPlan:
    """Read the plan of a canary from keys of ``deploy.rollout``.

    >>> plan({"steps": [20, 100], "every": "30s"}).percents
    (20.0, 100.0)

    Raises
    ------
    RecipeError
        A key is unknown, or a value does not fit.
    """
    return canary_rollout.plan_of(override(RolloutSection(), set_values(values)))


def trial(store: Store, name: str) -> dict[str, Any] | None:
    """The last canary of a name, as `CanaryTrial.to_json`, with the counts and the verdict of now while it runs.

    A judge that is gone is started again. None if the name never had a canary.

    Raises
    ------
    RegistryError
        There is no such model.
    """
    registry.existing(store, name)
    last = canaries.last(store, name)
    if last is None or last.ended is not None:
        return None if last is None else last.to_json()
    resume_judge(store, name)
    counts = canary_labels.counts(store, last)
    verdict = canary_judge.judge(store, last, dt.datetime.now(dt.UTC))
    return {**last.to_json(), "counts": counts, "verdict": verdict.to_json()}


def resume_judge(store: Store, name: str) -> None:
    """Have a judge of the canary of a name on the cluster that serves it, if that can be reached."""
    with contextlib.suppress(errors.ClusterError):
        if endpoints.reach(store, name) is not None:
            canary_judge.resume(store, name)


def recover(store: Store, names: Iterable[str], tell: Tell = locks.to_stderr) -> None:
    """Settle or take back what processes began with these names and did not end; tell what was done, or why not."""
    for name in names:
        try:
            with registry.locked(store, name, "status", tell):
                rollout.recover(store, name, endpoints.reach(store, name), tell)
        except errors.MlsysError as error:
            tell(str(error))


def add(store: Store, name: str, folder: Path) -> LedgerEntry:
    """Register the bundle in a folder, which is copied into the store if it is not there.

    Raises
    ------
    BundleError, RegistryError
        The folder holds no whole bundle, or no model may have the name.
    """
    opened = bundle.open_folder(folder)
    if not store.has("bundle", opened.digest):
        opened = _imported(store, opened)
    version = registry.register(store, name, opened, tags={"family": opened.family})
    mlflow_mirror.mirror(store, name)
    return registry.resolve(store, name, version)


def _imported(store: Store, opened: Bundle) -> Bundle:
    with store.staging() as staged:
        shutil.copytree(opened.folder, staged, dirs_exist_ok=True)
        target = store.root / "objects" / "bundle" / opened.digest
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(target)
    return bundle.open(store, opened.digest)


def _mirrored(store: Store, done: Transition) -> NameChange:
    return NameChange(done, mlflow_mirror.mirror(store, done.entry.name))
