"""The gate before serving: bounds on metrics from the recipe, and proof that the model beats the dummy.

A model of forecasts has to beat the seasonal-naive forecast instead.

The gate fails closed: a metric that is missing or not defined on these rows does not pass, nor
does a strict bound without an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlsys import errors, models
from mlsys.evaluate import metrics
from mlsys.recipe import Threshold
from mlsys.schema import TaskKind


@dataclass(frozen=True)
class Check:
    """A condition of the gate: the value, its bound in words, why it passed or not, and what would change it."""

    name: str
    value: float | None
    bound: str
    passed: bool
    reason: str
    advice: str = ""


@dataclass(frozen=True)
class Verdict:
    """All conditions of the gate; the model passes if each of them does."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}


def check_names(
    gate: Mapping[str, Threshold], kind: TaskKind | str, *, is_forecast: bool = False, has_utility: bool = False
) -> None:
    """Refuse bounds that cannot be judged, before any row is opened.

    Raises
    ------
    RecipeError
        A name is no metric of this kind of task, or a bound has neither `min` nor `max`.
    """
    known = [metric.name for metric in metrics.all_for(kind, *gate)]
    known += (*(metrics.OF_FORECASTS if is_forecast else ()), *([metrics.UTILITY] if has_utility else []))
    for name, bound in gate.items():
        if name not in known:
            expected, hint = f"a metric of a {TaskKind(kind).value} task", errors.did_you_mean(name, known)
            raise errors.RecipeError.build("recipe: evaluate.gate", got=name, expected=expected, hint=hint, field=name)
        if bound.min is None and bound.max is None:
            where, hint = f"recipe: evaluate.gate.{name}", f"{name}: {{ min: 0.7 }}"
            raise errors.RecipeError.build(where, got="no bound", expected="min, max or both", hint=hint, field=name)


def judge(evaluation: Mapping[str, Any], gate: Mapping[str, Threshold], beside: Sequence[Check] = ()) -> Verdict:
    """Judge an evaluation by each bound of the gate, by checks `beside` them, and by the comparison with the dummy.

    Raises
    ------
    RecipeError
        A bound cannot be judged; see `check_names`.
    """
    is_forecast, has_utility = bool(evaluation["task"].get("forecast")), metrics.UTILITY in evaluation["metrics"]
    check_names(gate, evaluation["task"]["kind"], is_forecast=is_forecast, has_utility=has_utility)
    rows = Rows(evaluation.get("num_rows", 0), evaluation.get("resampling", {}))
    checks = [
        _bound(name, evaluation["metrics"].get(name) or {}, side, limit, rows, strict=bound.strict)
        for name, bound in gate.items()
        for side, limit in (("min", bound.min), ("max", bound.max))
        if limit is not None
    ]
    is_dummy = evaluation.get("family") == models.BASELINE
    return Verdict((*checks, *beside, _is_dummy(evaluation) if is_dummy else _beats_dummy(evaluation, rows)))


@dataclass(frozen=True)
class Rows:
    """The number of rows that a value was measured on, and facts about how its interval was made."""

    num_rows: int
    resampling: Mapping[str, Any]

    def enough(self, distance: float, margin: float) -> str:
        """Say how many rows would make a `margin` from a value to the end of its interval as small as `distance`.

        The margin falls with the root of the number of rows, or of the groups or blocks in which they come.
        """
        times = (margin / distance) ** 2
        unit, number = self.resampling.get("unit", "rows"), self.resampling.get("num_units", 0)
        blocks = "" if unit == "rows" else f" ({math.ceil(number * times):,} in place of {number:,} {unit})"
        return f"about {math.ceil(self.num_rows * times):,} test rows in place of {self.num_rows:,}{blocks}"


MORE_ROWS = "bring more rows, or give the test part more of them under split"


def _bound(name: str, metric: Mapping[str, Any], side: str, limit: float, rows: Rows, *, strict: bool) -> Check:
    """Check one side of a bound; if strict, the end of the interval that is nearer to it must keep it."""
    words, end, edge = ("at least", "low", "begins") if side == "min" else ("at most", "high", "ends")
    value, compared = number(metric.get("value")), number(metric.get(end if strict else "value"))
    bound = f"{words} {limit:g}" + (", with its whole interval" if strict else "")
    if value is None:
        reason = f"{name} is not defined on these rows"
        return Check(name, None, bound, passed=False, reason=reason, advice=MORE_ROWS)
    if compared is None:
        reason = f"{name} is {value:.4f} and has no interval{_because(metric)}"
        return Check(name, value, bound, passed=False, reason=reason, advice=f"{MORE_ROWS}; or a bound without strict")
    passed = compared >= limit if side == "min" else compared <= limit
    where = f"is {value:.4f}, its interval {edge} at" if strict else "is"
    relation = words if passed else "below" if side == "min" else "above"
    reason = f"{name} {where} {compared:.4f}, {relation} {limit:g}"
    if passed:
        return Check(name, value, bound, passed=True, reason=reason)
    advice = f"{abs(compared - limit):.4f} from the bound: a better model, or a bound that it keeps: "
    advice += f"evaluate.gate.{name}.{side}: {nearest_bound(compared, side)}"
    if (value - limit if side == "min" else limit - value) > 0:
        needed = rows.enough(abs(value - limit), abs(value - compared))
        advice = f"the value keeps the bound: {needed} would do if it stays, or a bound without strict"
    return Check(name, value, bound, passed=False, reason=reason, advice=advice)


def _floor(evaluation: Mapping[str, Any]) -> str:
    """Name the predictions to beat; evaluations of before there were forecasts say nothing of them."""
    return str((evaluation.get("dummy") or {}).get("named", "dummy"))


def _is_dummy(evaluation: Mapping[str, Any]) -> Check:
    """Say that the model is the dummy, which selection falls back to when no family beats it on the folds."""
    metric = (evaluation.get("dummy") or {}).get("metric", "the metric")
    reason = f"the model is the {_floor(evaluation)}: no family was better by {metric}, or the recipe asks for it"
    bound = f"a gain in {metric} above 0"
    return Check(f"beats the {_floor(evaluation)}", 0.0, bound, passed=False, reason=reason, advice=NOTHING_LEARNED)


def _beats_dummy(evaluation: Mapping[str, Any], rows: Rows) -> Check:
    """Check that the gain over the dummy on the same rows, with its interval, is above 0."""
    dummy = evaluation.get("dummy") or {}
    gain = dummy.get("gain") or {}
    value, low = number(gain.get("value")), number(gain.get("low"))
    named = _floor(evaluation)
    name, bound = f"beats the {named}", f"a gain in {dummy.get('metric', 'the metric')} above 0"
    if value is None:
        reason = f"the comparison with the {named} is not defined on these rows"
        return Check(name, None, bound, passed=False, reason=reason, advice=MORE_ROWS)
    if rows.resampling.get("num_resamples") == 0:
        reason = f"the gain over the {named} is {value:.4f}; without resamples it has no interval"
        return Check(name, value, bound, value > 0, reason, "" if value > 0 else NOTHING_LEARNED)
    if low is None and gain.get("error") == 0:
        reason = f"the gain over the {named} is {value:.4f}, {gain.get('reason')}"
        return Check(name, value, bound, value > 0, reason, "" if value > 0 else NOTHING_LEARNED)
    if low is None:
        reason = f"the gain over the {named} is {value:.4f} and has no interval{_because(gain)}"
        return Check(name, value, bound, passed=False, reason=reason, advice=MORE_ROWS)
    relation = "above" if low > 0 else "not clear of"
    reason = f"the gain over the {named} is {value:.4f}, its interval begins at {low:.4f}, {relation} 0"
    if low > 0:
        return Check(name, value, bound, passed=True, reason=reason)
    advice = f"{rows.enough(value, value - low)} would tell it from chance, if it is no chance" if value > 0 else ""
    return Check(name, value, bound, passed=False, reason=reason, advice=advice or NOTHING_LEARNED)


NOTHING_LEARNED = (
    "nothing was learned: see the columns, their relation to the target and the alerts in the explore report"
)


def _because(estimate: Mapping[str, Any]) -> str:
    return f": {estimate['reason']}" if estimate.get("reason") else ""


def nearest_bound(value: float, side: str) -> str:
    """Write the nearest bound of three digits that a value keeps."""
    step = 10.0 ** (math.floor(math.log10(max(abs(value), 1e-12))) - 2)
    steps = math.floor(value / step + 1e-9) if side == "min" else math.ceil(value / step - 1e-9)
    return f"{steps * step:.6g}"


def number(value: Any) -> float | None:
    """Give a finite number as it is, and None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < float("inf") else None
