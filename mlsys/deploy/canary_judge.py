"""The judge of a canary: it sums the tallies once a second, widens the canary, promotes it or takes it back by itself.

It is an actor that nobody owns (`mlsys.cluster.detached`), one a name, and keeps nothing: what it does follows from the
ledger, the tallies and the endpoint, so that one which is killed and started again goes on. It is started with a
canary, by each replica that starts while one runs, and by ``mlsys rollout``; it ends itself a while after the trial.

Each act is decided again under the name's lock, because a person may have moved the name meanwhile. The endpoint is
told before the ledger where traffic is taken away, and after it where traffic is given: whatever dies between, the next
look finds the endpoint behind the ledger and mends it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlsys import cluster, errors, registry
from mlsys.deploy import canary_labels, canary_verdict, rollout, tallies
from mlsys.deploy.canary_labels import LabelReader, LossTally
from mlsys.deploy.canary_router import BASIS_POINTS
from mlsys.deploy.canary_verdict import CanaryVerdict, Tolerance
from mlsys.deploy.endpoints import Endpoints, ServeEndpoints
from mlsys.registry import canaries, mlflow_mirror
from mlsys.registry.canaries import CanaryTrial
from mlsys.store import Store

LOOK_S = 1.0
"""Seconds between two looks."""

IDLE_S = 60.0
"""Seconds without a trial after which the judge of a name ends itself."""

_logger = logging.getLogger("ray.serve")

Act = Literal["nothing", "route", "widen", "promote", "take back"]


@dataclass(frozen=True)
class Look:
    """The result of one look at a trial: what is to be done, and why."""

    trial: CanaryTrial | None
    act: Act
    reason: str = ""
    verdict: CanaryVerdict | None = None


def start(store: Store, name: str) -> None:
    """Have a judge of a name on the cluster to which this process is connected; without a cluster nothing happens."""
    if cluster.is_connected():
        cluster.start_detached(actor_name(store, name), CanaryJudge, str(store.root), name)


def resume(store: Store, name: str) -> None:
    """Have a judge if a trial of the name runs; a ledger that cannot be read holds up nothing."""
    with contextlib.suppress(errors.StoreError, errors.RegistryError):
        if canaries.running(store, name) is not None:
            start(store, name)


def actor_name(store: Store, name: str) -> str:
    """The name of the actor that judges the canaries of a model."""
    return f"canary-{hashlib.sha256(f'{store.root}/{name}'.encode()).hexdigest()[:16]}"


def routing(trial: CanaryTrial) -> dict[str, Any]:
    """The part of the requests that a trial has now, as `mlsys.deploy.online.CanaryChoice`."""
    plan = trial.plan
    return {
        "digest": trial.entry.digest,
        "version": trial.entry.version,
        "trial": trial.id,
        "step": trial.step,
        "weight": round(plan.percent(trial.step) / 100 * BASIS_POINTS),
        "key": plan.key,
        "shadow": trial.is_shadow,
        "isolation": plan.isolation,
    }


class CanaryJudge:
    """Looks at the trials of a name in a thread, as long as there are any."""

    def __init__(self, root: str, name: str) -> None:
        self._store, self._name = Store.open(root), name
        self._is_closed = threading.Event()
        threading.Thread(target=self._look_on, daemon=True, name="canary-judge").start()

    def close(self) -> None:
        """Look no more."""
        self._is_closed.set()

    def _look_on(self) -> None:
        there, last = ServeEndpoints(self._store), time.monotonic()
        labels = LabelReader(self._store, self._name)
        while not self._is_closed.wait(LOOK_S):
            try:
                if look_and_act(self._store, self._name, there, labels=labels).trial is not None:
                    last = time.monotonic()
                elif time.monotonic() - last > IDLE_S:
                    cluster.stop_detached(actor_name(self._store, self._name))
            except errors.MlsysError as error:
                _logger.warning("the judge of '%s' looks again: %s", self._name, error)
            except Exception:
                _logger.exception("the judge of '%s' looks again", self._name)


def look_and_act(
    store: Store,
    name: str,
    there: Endpoints,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    labels: LabelReader | None = None,
) -> Look:
    """Do what a look at the trial of a name asks for; returns the look, without a trial if none runs.

    `labels` are those that were read so far, so that none is read again.

    Raises
    ------
    MlsysError
        The store, the ledger or the endpoint does not answer; the next look tries again.
    """
    labels = LabelReader(store, name) if labels is None else labels
    look = look_at(store, name, there, now(), labels)
    if look.act == "nothing":
        return look
    with registry.locked(store, name, "canary", _logger.info):
        look = look_at(store, name, there, now(), labels)
        _act(store, there, look, labels)
    if look.act == "promote":
        warning = mlflow_mirror.mirror(store, name)
        if warning:
            _logger.warning("%s", warning)
    return look


def look_at(store: Store, name: str, there: Endpoints, now: dt.datetime, labels: LabelReader) -> Look:
    """Find what is to be done with the trial of a name; nothing is changed."""
    trial = canaries.running(store, name)
    if trial is None:
        return Look(None, "nothing")
    running = there.configured(name)
    # 1. a deployment that was killed between its move and the end of the trial, or an endpoint that is another
    if registry.meant(store, name, trial.alias) == trial.entry:
        return Look(trial, "promote", "the alias means it")
    if running is None or running.digest != trial.stable.digest:
        return Look(trial, "take back", f"version {trial.stable.version}, beside which it ran, is not served any more")
    # 2. a replica that cannot load it, or whose process for it is gone
    refused = tallies.refusal(store, name, trial.id)
    if refused is not None:
        return Look(trial, "take back", refused)
    # 3. an endpoint behind the ledger, or what the tests say
    return _judged(store, trial, now, labels) if _is_routed(running.canary, trial) else Look(trial, "route")


def _judged(store: Store, trial: CanaryTrial, now: dt.datetime, labels: LabelReader) -> Look:
    verdict = judge(store, trial, now, labels)
    is_last = verdict.decision == "widen" and trial.plan.percent(trial.step + 1) >= 100
    acts: dict[str, Act] = {"hold": "nothing", "take back": "take back", "widen": "promote" if is_last else "widen"}
    return Look(trial, acts[verdict.decision], verdict.words, verdict)


def judge(store: Store, trial: CanaryTrial, now: dt.datetime, labels: LabelReader | None = None) -> CanaryVerdict:
    """Judge a trial by what its replicas counted in its present step, and by the labels of all its steps."""
    plan, name = trial.plan, trial.entry.name
    labels = LabelReader(store, name) if labels is None else labels
    tally = tallies.total(store, name, trial.id, trial.step, trial.edges)
    share = 0.5 if trial.is_shadow else plan.percent(trial.step) / 100
    tolerance = Tolerance(plan.alpha, plan.num_steps, plan.slowdown, plan.shift)
    is_due = (now - trial.since).total_seconds() >= plan.every_s
    losses = _losses(labels, trial)
    return canary_verdict.judge(tally, share, tolerance, is_due=is_due, min_requests=plan.min_requests, losses=losses)


def _losses(labels: LabelReader, trial: CanaryTrial) -> Mapping[int, LossTally]:
    """Losses of labelled rows; none, and a warning, where a bundle cannot be read: the other tests hold up nothing."""
    try:
        return labels.losses(trial)
    except (errors.StoreError, errors.BundleError) as error:
        _logger.warning("labels of '%s' are not judged: %s", trial.entry.name, error)
        return {}


def _is_routed(configured: Mapping[str, Any] | None, trial: CanaryTrial) -> bool:
    planned = routing(trial)
    return configured is not None and all(configured.get(key) == planned[key] for key in ("trial", "step", "weight"))


def _act(store: Store, there: Endpoints, look: Look, labels: LabelReader) -> None:
    """Do what a look asks for; the caller holds the name's lock."""
    trial = look.trial
    if trial is None or look.act == "nothing":
        return
    name = trial.entry.name
    if look.act == "route":
        there.route(name, routing(trial))
    elif look.act == "take back":
        take_back(store, trial, there, look.reason)
    elif look.act == "widen":
        counts = canary_labels.counts(store, trial, labels)
        there.route(name, routing(canaries.widen(store, trial, look.reason, counts)))
    else:
        _promote(store, trial, there, look.reason)


def _promote(store: Store, trial: CanaryTrial, there: Endpoints, reason: str) -> None:
    """Let the alias mean the canary, in the way of every deployment; if that fails, the canary is taken back."""
    why = f"canary: {reason}"
    try:
        rollout.put(store, trial.entry, trial.alias, there, reason=why, may_start=False, tell=_logger.info)
    except errors.MlsysError as error:
        take_back(store, trial, there, f"it cannot be promoted: {' '.join(str(error).split())}")


def take_back(store: Store, trial: CanaryTrial, there: Endpoints, reason: str) -> None:
    """Take the traffic from a canary, and write down why; the caller holds the name's lock."""
    running = there.configured(trial.entry.name)
    if running is not None and running.canary is not None:
        there.route(trial.entry.name, None)
    rollout.end_trial(store, trial, "taken_back", reason)
