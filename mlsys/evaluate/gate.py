"""The gate before serving: bounds on metrics from the recipe, and proof that the model beats the dummy.

The gate fails closed: a metric that is missing or not defined on these rows does not pass, nor
does a strict bound without an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlsys import errors
from mlsys.evaluate import metrics
from mlsys.recipe import Threshold
from mlsys.schema import TaskKind


@dataclass(frozen=True)
class Check:
    """A condition of the gate: the value, its bound in words, and why it passed or not."""

    name: str
    value: float | None
    bound: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """All conditions of the gate; the model passes if each of them does."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    def enforce(self) -> None:
        """Raise an error unless the model passed.

        Raises
        ------
        GateError
            A check failed; the message lists each with its reason.
        """
        failed = [check for check in self.checks if not check.passed]
        if not self.passed:
            where = "evaluate: the model did not pass its gate"
            got = "; ".join(check.reason for check in failed) or "nothing was checked"
            expected = "; ".join(f"{check.name} {check.bound}" for check in failed) or "at least one check"
            hint = "see the report; change the bounds under evaluate.gate only for a reason"
            raise errors.GateError.build(where, got=got, expected=expected, hint=hint)


def check_names(gate: Mapping[str, Threshold], kind: TaskKind | str) -> None:
    """Refuse bounds that cannot be judged, before any row is opened.

    Raises
    ------
    RecipeError
        A name is no metric of this kind of task, or a bound has neither `min` nor `max`.
    """
    known = [metric.name for metric in metrics.all_for(kind)]
    for name, bound in gate.items():
        if name not in known:
            expected, hint = f"a metric of a {TaskKind(kind).value} task", errors.did_you_mean(name, known)
            raise errors.RecipeError.build("recipe: evaluate.gate", got=name, expected=expected, hint=hint, field=name)
        if bound.min is None and bound.max is None:
            where, hint = f"recipe: evaluate.gate.{name}", f"{name}: {{ min: 0.7 }}"
            raise errors.RecipeError.build(where, got="no bound", expected="min, max or both", hint=hint, field=name)


def judge(evaluation: Mapping[str, Any], gate: Mapping[str, Threshold]) -> Verdict:
    """Judge an evaluation by each bound of the gate, then by the comparison with the dummy.

    Raises
    ------
    RecipeError
        A bound cannot be judged; see `check_names`.
    """
    check_names(gate, evaluation["task"]["kind"])
    checks = [
        _bound(name, evaluation["metrics"].get(name) or {}, side, limit, strict=bound.strict)
        for name, bound in gate.items()
        for side, limit in (("min", bound.min), ("max", bound.max))
        if limit is not None
    ]
    return Verdict((*checks, _beats_dummy(evaluation)))


def _bound(name: str, metric: Mapping[str, Any], side: str, limit: float, *, strict: bool) -> Check:
    """Check one side of a bound; if strict, the end of the interval that is nearer to it must keep it."""
    words, end, edge = ("at least", "low", "begins") if side == "min" else ("at most", "high", "ends")
    value, compared = _number(metric.get("value")), _number(metric.get(end if strict else "value"))
    bound = f"{words} {limit:g}" + (", with its whole interval" if strict else "")
    if value is None:
        return Check(name, None, bound, passed=False, reason=f"{name} is not defined on these rows")
    if compared is None:
        reason = f"{name} is {value:.4f} and has no interval; set evaluate.bootstrap above 0"
        return Check(name, value, bound, passed=False, reason=reason)
    passed = compared >= limit if side == "min" else compared <= limit
    where = f"is {value:.4f}, its interval {edge} at" if strict else "is"
    relation = words if passed else "below" if side == "min" else "above"
    return Check(name, value, bound, passed, f"{name} {where} {compared:.4f}, {relation} {limit:g}")


def _beats_dummy(evaluation: Mapping[str, Any]) -> Check:
    """Check that the gain over the dummy on the same rows, with its interval, is above 0."""
    dummy = evaluation.get("dummy") or {}
    gain = dummy.get("gain") or {}
    value, low = _number(gain.get("value")), _number(gain.get("low"))
    name, bound = "beats the dummy", f"a gain in {dummy.get('metric', 'the metric')} above 0"
    if value is None:
        reason = "the comparison with the dummy is not defined on these rows"
        return Check(name, None, bound, passed=False, reason=reason)
    if evaluation.get("bootstrap", {}).get("num_resamples") == 0:
        reason = f"the gain over the dummy is {value:.4f}; without resamples it has no interval"
        return Check(name, value, bound, value > 0, reason)
    if low is None:
        reason = f"the gain over the dummy is {value:.4f} and has no interval"
        return Check(name, value, bound, passed=False, reason=reason)
    relation = "above" if low > 0 else "not clear of"
    reason = f"the gain over the dummy is {value:.4f}, its interval begins at {low:.4f}, {relation} 0"
    return Check(name, value, bound, low > 0, reason)


def _number(value: Any) -> float | None:
    """Give a finite number as it is, and None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < float("inf") else None
