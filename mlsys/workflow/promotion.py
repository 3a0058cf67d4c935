"""The decision whether a run puts the version that it made into service, in one place.

A person decides otherwise by `mlsys promote NAME@VERSION --reason WHY`, which asks none of these questions.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlsys import bundle, errors, registry
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import champion
from mlsys.evaluate.champion import Comparison
from mlsys.registry import LedgerEntry, canaries
from mlsys.workflow import refusal
from mlsys.workflow.results import EvaluateResult
from mlsys.workflow.run import StepContext

CHAMPION = "champion"
"""The alias whose holder has to be beaten; a version gets any other alias on its gate alone."""


@dataclass(frozen=True)
class Promotion:
    """The decision, and its reason in the words of the ledger and of the console.

    `comparison` is the one with the champion, if it was asked for.
    """

    is_promoted: bool
    reason: str
    comparison: Comparison | None = None


def check_gate(verdict: EvaluateResult, entry: LedgerEntry, alias: str) -> None:
    """Refuse a model that failed its gate; its version is there for a person to promote.

    Raises
    ------
    GateError
        A check failed; what was served before stays.
    """
    if not verdict.passed:
        raise refusal.of_gate(entry.name, verdict, entry.digest, by_hand=by_hand(entry, alias))


def decide(context: StepContext, entry: LedgerEntry, split: Split) -> Promotion:
    """Decide about a version that passed its gate; the first rule that applies decides.

    1. The alias means it already: it stays.
    2. It was rolled back, or taken back as a canary: what was taken out of service does not come back by itself.
    3. The alias means nothing yet, or is another than `CHAMPION`: it is promoted.
    4. It has to beat the champion on the same test rows: see `mlsys.evaluate.champion`.
    """
    alias, store = context.recipe.deploy.alias, context.store
    before = registry.meant(store, entry.name, alias)
    if before == entry:
        return Promotion(is_promoted=True, reason=f"is {alias} already")
    taken = registry.rolled_back(store, entry.name, alias, entry.digest)
    if taken is not None:
        reason = f"rolled back at {taken.at:%Y-%m-%d %H:%M}Z by {taken.who or 'somebody'} ({taken.reason})"
        return Promotion(is_promoted=False, reason=f"{reason}; {by_hand(entry, alias)}")
    back = canaries.taken_back(store, entry)
    if back is not None and before is not None:
        reason = f"taken back as a canary at {back.at:%Y-%m-%d %H:%M}Z ({back.reason})"
        return Promotion(is_promoted=False, reason=f"{reason}; {by_hand(entry, alias)}")
    if before is None or alias != CHAMPION:
        return Promotion(is_promoted=True, reason="passed its gate")
    compared = _compare(context, bundle.open(store, entry.digest), before, split)
    reason = f"{compared.reason} (version {before.version})"
    if not compared.promotes:
        return Promotion(is_promoted=False, reason=f"{reason}; {by_hand(entry, alias)}", comparison=compared)
    return Promotion(is_promoted=True, reason=f"passed its gate; {reason}", comparison=compared)


def _compare(context: StepContext, challenger: Bundle, before: LedgerEntry, split: Split) -> Comparison:
    """Compare with the champion; one that cannot be opened is none to compare with."""
    try:
        served = bundle.open(context.store, before.digest)
    except (errors.BundleError, errors.StoreError) as error:
        where, *facts = str(error).splitlines()
        reason = f"not comparable: the champion cannot be opened: {where}, {' '.join(facts[0].split())}"
        return Comparison(challenger.digest, before.digest, "not comparable", promotes=False, reason=reason)
    progress = context.progress
    return champion.compare(context.store, challenger, served, split, context.recipe, progress=progress)


def by_hand(entry: LedgerEntry, alias: str) -> str:
    """The command with which a person promotes a version that a run does not."""
    return f"`mlsys promote {entry.name}@{entry.version}{_option(alias)} --reason WHY` puts it into service"


def _option(alias: str) -> str:
    return "" if alias == "champion" else f" --alias {alias}"
