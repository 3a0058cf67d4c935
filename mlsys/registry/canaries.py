"""Trials of canaries in the ledger: what was started, widened, taken back or promoted, when, why and by which counts.

The ledger is all that is known of a trial: whoever judges it begins from here, however often it was killed. A name has
one trial at a time; the lines of one carry its id in their facts, and the first one the whole plan.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mlsys import errors
from mlsys.registry import ledger
from mlsys.registry.ledger import LedgerEntry, Move
from mlsys.store import Store

Ending = Literal["promoted", "taken_back"]


@dataclass(frozen=True)
class TrialPlan:
    """The shares that a canary gets one after another, and the bounds by which it is judged.

    Attributes
    ----------
    percents
        Shares of the traffic, in percent, one a step; with the last, 100, the canary is promoted.
    every_s
        Seconds that a step lasts at least.
    min_requests
        Requests of the canary that a step needs before it is over.
    alpha, slowdown, shift
        As `mlsys.deploy.canary_verdict.Tolerance`.
    key
        Column by whose value requests are divided; None for ids.
    shadow
        A step comes first in which the canary computes as many requests and answers none.
    isolation
        Where the canary runs: in the `replica`, beside stable, or in a `process` of its own.
    """

    percents: tuple[float, ...] = (5, 25, 50, 100)
    every_s: float = 600.0
    min_requests: int = 100
    alpha: float = 0.01
    slowdown: float = 1.5
    shift: float = 0.2
    key: str | None = None
    shadow: bool = False
    isolation: str = "replica"

    @property
    def num_steps(self) -> int:
        """Steps in which the canary is judged: that of the shadow, and all but the last."""
        return len(self.percents) - 1 + self.shadow

    def percent(self, step: int) -> float:
        """Share of the traffic in a step, in percent; a shadow computes that of the first step."""
        return self.percents[max(0, step - self.shadow)]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "percents": list(self.percents)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialPlan:
        return cls(**{**value, "percents": tuple(value["percents"])})


@dataclass(frozen=True)
class CanaryTrial:
    """A trial, as far as it is.

    Attributes
    ----------
    entry, stable
        The canary, and the version beside which it runs.
    step, since
        The present step, counted from 0, and the time of its beginning.
    edges
        Edges of the bins in which scores are counted.
    ended
        How it ended: ``promoted`` or ``taken_back``; None while it runs.
    reason, counts
        Those of the last line.
    """

    id: str
    entry: LedgerEntry
    stable: LedgerEntry
    alias: str
    plan: TrialPlan
    edges: tuple[float, ...]
    step: int
    since: dt.datetime
    ended: Ending | None = None
    reason: str = ""
    counts: Mapping[str, int] | None = None

    @property
    def is_shadow(self) -> bool:
        """True while the canary answers nothing."""
        return self.plan.shadow and self.step == 0

    def to_json(self) -> dict[str, Any]:
        """Keys: trial, version, digest, stable, alias, step, steps, percent, shadow, since, ended, reason, counts."""
        return {
            "trial": self.id,
            "version": self.entry.version,
            "digest": self.entry.digest,
            "stable": self.stable.version,
            "alias": self.alias,
            "step": self.step + 1,
            "steps": self.plan.num_steps,
            "percent": self.plan.percent(self.step),
            "shadow": self.is_shadow,
            "since": self.since.isoformat(timespec="seconds"),
            "ended": self.ended,
            "reason": self.reason,
            "counts": None if self.counts is None else dict(self.counts),
        }


def start(
    store: Store,
    entry: LedgerEntry,
    stable: LedgerEntry,
    alias: str,
    plan: TrialPlan,
    *,
    edges: Sequence[float] = (),
    reason: str = "",
) -> CanaryTrial:
    """Write that a canary begins; the caller holds the name's lock.

    Raises
    ------
    RegistryError
        Another trial of the name runs.
    """
    other = running(store, entry.name)
    if other is not None:
        raise errors.RegistryError.build(
            f"registry: canary version {entry.version} of '{entry.name}'",
            got=f"version {other.entry.version}, which is one already", expected="one canary of a name at a time",
            hint=f"`mlsys rollback {entry.name}` takes it back",
        )  # fmt: skip
    facts = {
        "trial": uuid.uuid4().hex[:12],
        "stable": [stable.version, stable.digest],
        "plan": plan.to_json(),
        "edges": list(edges),
    }
    return _begun(ledger.write(store, "canary", entry, alias, reason=reason, facts=facts))


def widen(store: Store, trial: CanaryTrial, reason: str, counts: Mapping[str, int]) -> CanaryTrial:
    """Write that the next step begins; the caller holds the name's lock."""
    facts = {"trial": trial.id, "step": trial.step + 1, "counts": dict(counts)}
    return _followed(trial, ledger.write(store, "widened", trial.entry, trial.alias, reason=reason, facts=facts))


def end(
    store: Store,
    trial: CanaryTrial,
    ending: Ending,
    reason: str,
    counts: Mapping[str, int] | None = None,
) -> CanaryTrial:
    """Write how a trial ended, and why; the caller holds the name's lock."""
    facts = {"trial": trial.id, "counts": None if counts is None else dict(counts)}
    return _followed(trial, ledger.write(store, ending, trial.entry, trial.alias, reason=reason, facts=facts))


def running(store: Store, name: str) -> CanaryTrial | None:
    """The trial of a name that has not ended, or None."""
    trial = last(store, name)
    return trial if trial is not None and trial.ended is None else None


def last(store: Store, name: str) -> CanaryTrial | None:
    """The last trial of a name, whether it runs or has ended; None if there was none."""
    trial: CanaryTrial | None = None
    for move in ledger.read(store):
        if move.name != name:
            continue
        if move.kind == "canary":
            trial = _begun(move)
        elif trial is not None and move.facts.get("trial") == trial.id:
            trial = _followed(trial, move)
    return trial


def taken_back(store: Store, entry: LedgerEntry) -> Move | None:
    """The line with which a version was taken back as a canary, unless an alias was moved to it since."""
    line: Move | None = None
    for move in ledger.read(store):
        if move.entry == entry and move.kind in ("move", "taken_back"):
            line = move if move.kind == "taken_back" else None
    return line


def _begun(move: Move) -> CanaryTrial:
    facts = move.facts
    stable = LedgerEntry(move.name, *facts["stable"])
    plan, edges = TrialPlan.from_json(facts["plan"]), tuple(facts["edges"])
    return CanaryTrial(
        facts["trial"], move.entry, stable, move.alias or "", plan, edges, 0, move.at, reason=move.reason
    )


def _followed(trial: CanaryTrial, move: Move) -> CanaryTrial:
    """The trial after a later line of it."""
    changes: dict[str, Any] = {"reason": move.reason, "counts": move.facts.get("counts")}
    if move.kind == "widened":
        return replace(trial, step=int(move.facts["step"]), since=move.at, **changes)
    ending: Ending = "promoted" if move.kind == "promoted" else "taken_back"
    return replace(trial, ended=ending, since=move.at, **changes)
