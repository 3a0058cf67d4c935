"""The decision whether a run puts the version that it made into service, in one place.

A person decides otherwise by `mlsys promote NAME@VERSION --reason WHY`, which asks none of these questions.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlsys import errors, registry
from mlsys.registry import LedgerEntry
from mlsys.workflow.results import EvaluateResult
from mlsys.workflow.run import StepContext


@dataclass(frozen=True)
class Promotion:
    """The decision, and its reason in the words of the ledger and of the console."""

    is_promoted: bool
    reason: str


def check_gate(context: StepContext, verdict: EvaluateResult) -> None:
    """Refuse a model that failed its gate, before it is registered.

    Raises
    ------
    GateError
        A check failed; what was served before stays.
    """
    if not verdict.passed:
        where = f"deploy: model '{context.recipe.name}'"
        got = "a model that did not pass its gate: " + "; ".join(verdict.failed)
        hint = f"see {verdict.report}; what was served before stays"
        raise errors.GateError.build(where, got=got, expected="every check passed", hint=hint)


def decide(context: StepContext, entry: LedgerEntry) -> Promotion:
    """Decide about a version that passed its gate; the first rule that applies decides.

    1. The alias means it already: it stays.
    2. It was rolled back: what a person took out of service does not come back by itself.
    3. The alias means nothing yet, or another version: it is promoted.
    """
    alias, store = context.recipe.deploy.alias, context.store
    before = registry.meant(store, entry.name, alias)
    if before == entry:
        return Promotion(is_promoted=True, reason=f"is {alias} already")
    taken = registry.rolled_back(store, entry.name, alias, entry.digest)
    if taken is not None:
        reason = f"rolled back at {taken.at:%Y-%m-%d %H:%M}Z by {taken.who or 'somebody'} ({taken.reason})"
        return Promotion(is_promoted=False, reason=f"{reason}; {by_hand(entry, alias)}")
    return Promotion(is_promoted=True, reason="passed its gate")


def by_hand(entry: LedgerEntry, alias: str) -> str:
    """The command with which a person promotes a version that a run does not."""
    return f"`mlsys promote {entry.name}@{entry.version}{_option(alias)} --reason WHY` puts it into service"


def _option(alias: str) -> str:
    return "" if alias == "champion" else f" --alias {alias}"
