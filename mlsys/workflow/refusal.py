"""Sentences about a model that is not put into service: why, what would change that, and where all can be seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlsys import errors
from mlsys.workflow.results import (
    DeployResult,
    EvaluateResult,
    ExploreResult,
    SelectionResult,
    StepResult,
    TrainResult,
)

INDENT = "\n" + " " * 12
"""Before each further line of a hint: they stand below the first."""


def of_gate(name: str, verdict: EvaluateResult, digest: str, *, by_hand: str | None = None) -> errors.GateError:
    """The error for a model that did not pass its gate; `by_hand` is the command that serves it all the same."""
    failed = [check for check in verdict.checks if not check["passed"]]
    return errors.GateError.build(
        f"evaluate: model '{name}' did not pass its gate",
        got="; ".join(check["reason"] for check in failed),
        expected="; ".join(f"{check['name']}: {check['bound']}" for check in failed),
        hint=INDENT.join([*advice(verdict), *_left_behind(verdict.report, digest, by_hand)]),
    )


def advice(verdict: EvaluateResult) -> list[str]:
    """Say of each check that failed what would change it."""
    return [
        f"{check['name']}: {check['advice']}" for check in verdict.checks if not check["passed"] and check.get("advice")
    ]


def of_comparison(result: DeployResult, comparison: Mapping[str, Any]) -> errors.GateError:
    """The error for a version that passed its gate and did not take the champion's place."""
    margin = comparison["margin"]
    by_hand = f"`mlsys promote {result.name}@{result.version} --reason WHY` puts the new one into service"
    stays = f"version {result.served} stays the champion; {by_hand}"
    return errors.GateError.build(
        f"deploy: model '{result.name}' version {result.version} does not take the champion's place",
        got=comparison["reason"],
        expected=f"a gain whose interval begins above {-margin:.4g}" if margin else "a gain whose interval is above 0",
        hint=INDENT.join([stays, *comparison["advice"], *_left_behind(str(result.report), result.bundle, None)]),
    )


def _left_behind(report: str, digest: str, by_hand: str | None) -> Sequence[str]:
    """Say where report and model are, and how a person serves it without asking the gate."""
    by_digest = f'the model is there: mlsys.load("{digest[:12]}") predicts with it'
    return [f"report {report}", by_digest, *([by_hand] if by_hand else [])]


def earlier_warnings(results: Mapping[str, StepResult]) -> list[str]:
    """Repeat what earlier steps said that may be behind a failed gate: suspected columns, and notes on the target."""
    explored, ranked = results.get("explore"), results.get("selection")
    suspected = explored.warnings if isinstance(explored, ExploreResult) else ()
    notes = ranked.leaderboard.get("notes", ()) if isinstance(ranked, SelectionResult) else ()
    return [f"told before: {line}" for line in (*suspected, *notes)]


def check_gate(name: str, results: Mapping[str, StepResult]) -> None:
    """Refuse a finished run whose model did not pass its gate, for a command that ends with `evaluate`.

    Raises
    ------
    GateError
        A check failed; reports and model are there.
    """
    verdict, trained = results.get("evaluate"), results.get("train")
    if isinstance(verdict, EvaluateResult) and isinstance(trained, TrainResult) and not verdict.passed:
        raise with_earlier_warnings(of_gate(name, verdict, trained.bundle), results)


def check_champion(results: Mapping[str, StepResult]) -> None:
    """Refuse a finished run whose model did not beat the champion, which goes on serving.

    Raises
    ------
    GateError
        It is not better, or the two cannot be compared.
    """
    deployed = results.get("deploy")
    if isinstance(deployed, DeployResult) and deployed.comparison and not deployed.comparison["promotes"]:
        raise with_earlier_warnings(of_comparison(deployed, deployed.comparison), results)


@contextlib.contextmanager
def explained(results: Mapping[str, StepResult]) -> Iterator[None]:
    """Let a model that is refused in this block be refused with what earlier steps told."""
    try:
        yield
    except errors.GateError as error:
        raise with_earlier_warnings(error, results) from None


def with_earlier_warnings(error: errors.GateError, results: Mapping[str, StepResult]) -> errors.GateError:
    """The error with what earlier steps told at its end."""
    lines = earlier_warnings(results)
    if not lines:
        return error
    extended = errors.GateError(INDENT.join([str(error), *lines]))
    extended.__dict__.update(error.__dict__)
    return extended
