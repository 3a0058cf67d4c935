"""Fairness: whether the decisions of a model of two classes treat groups of rows alike.

Four rates are compared between the groups of a column. They cannot all be equal where the groups differ in how often
they are positive (Kleinberg, Mullainathan & Raghavan 2017, ITCS, 43:1-43:23; Chouldechova 2017, Big Data 5(2),
153-163), so a recipe says which of them matters. Names and definitions are those of Verma & Rubin (2018), Fairness
definitions explained, FairWare, 1-7.

A difference is the greatest one between two groups. Its interval is simultaneous: each pair of groups has an interval
at the level of Bonferroni (Dunn 1961, JASA 56, 52-64), with the standard error of the paired weightings of
`intervals`; what the greatest difference can be is bounded by the greatest of their ends. An error is never taken to
be smaller than that of independent rows with one hit and one miss more in each group (Agresti & Caffo 2000, The
American Statistician 54, 280-288): rates of 0 and 1 do not move in resamples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import errors
from mlsys.evaluate import gate, intervals, slices
from mlsys.evaluate.intervals import Estimate, ResamplingPlan
from mlsys.evaluate.slices import Slice
from mlsys.evaluate.weighted_metrics import remembered
from mlsys.recipe import FairnessSection
from mlsys.schema import Column, Schema, Task, TaskKind
from mlsys.statistics import jackknife
from mlsys.statistics.arrays import Bools, Floats

WHERE = "recipe: evaluate.fairness"

Rate = Callable[[Bools, Bools], tuple[Bools, Bools]]
"""From the truth and the decision, the rows that a rate is of, and those of them that it counts."""


@dataclass(frozen=True)
class FairnessMeasure:
    """A rate that is compared between groups."""

    name: str
    title: str
    definition: str
    rows: str
    rate: Rate


_TABLE = (
    FairnessMeasure("statistical_parity", "Statistical parity",
                    "share of rows that are called positive (Dwork et al. 2012, ITCS, 214-226)", "rows",
                    lambda y, called: (np.ones_like(y), called)),
    FairnessMeasure("equal_opportunity", "Equal opportunity",
                    "share of positive rows that are called positive (Hardt, Price & Srebro 2016, NeurIPS)",
                    "positive rows", lambda y, called: (y, called)),
    FairnessMeasure("predictive_parity", "Predictive parity",
                    "share of rows called positive that are (Chouldechova 2017)", "rows called positive",
                    lambda y, called: (called, y)),
    FairnessMeasure("predictive_equality", "Predictive equality",
                    "share of negative rows that are called positive (Corbett-Davies et al. 2017, KDD, 797-806)",
                    "negative rows", lambda y, called: (~y, called)),
)  # fmt: skip

MEASURES = {measure.name: measure for measure in _TABLE}


def check(section: FairnessSection, schema: Schema, task: Task) -> list[Column]:
    """Columns whose groups are compared; what cannot be judged is refused before any row is opened.

    Raises
    ------
    RecipeError
        A column is not there or has no groups, the task has no decisions, or bounds have no columns.
    """
    if section.max_difference and not section.columns:
        got, hint = "max_difference without columns", "fairness: {columns: [sex], max_difference: {…}}"
        raise errors.RecipeError.build(WHERE, got=got, expected="columns whose groups are compared", hint=hint)
    if section.columns and task.kind is not TaskKind.BINARY:
        got = f"a {task.kind.value} task"
        hint = "leave evaluate.fairness out; slices compare the metric of groups for every task"
        raise errors.RecipeError.build(WHERE, got=got, expected="a binary task, whose decisions it is about", hint=hint)
    return slices.columns(schema, section.columns, f"{WHERE}.columns") if section.columns else []


def judge(
    table: pa.Table,
    columns: Sequence[Column],
    y: NDArray[Any],
    called: NDArray[Any],
    plan: ResamplingPlan,
    section: FairnessSection,
    weight: Floats | None = None,
) -> dict[str, Any]:
    """Compare each rate between the groups of each column.

    Returns
    -------
    dict
        The bounds, and ``columns``: for each its ``groups`` with their rows, and a list of ``measures`` with the
        ``difference``, its interval, the two groups ``between`` which it is, the smallest number of rows that a judged
        rate is of (``least_rows``), the groups left out because they have too few, and each group's rate.
    """
    truth, decision = np.asarray(y) == 1, np.asarray(called) == 1
    compared = []
    for column in columns:
        groups = slices.find(table, [column], named=True)[0]
        measures = [_measured(each, groups, truth, decision, plan, section, weight) for each in MEASURES.values()]
        sizes = {group.value: len(group.rows) for group in groups}
        compared.append({"column": column.name, "groups": sizes, "measures": measures})
    bounds = {"max_difference": dict(section.max_difference), "strict": section.strict}
    return {**bounds, "min_rows": section.min_rows, "confidence": plan.confidence, "columns": compared}


def _measured(
    measure: FairnessMeasure,
    groups: Sequence[Slice],
    y: Bools,
    called: Bools,
    plan: ResamplingPlan,
    section: FairnessSection,
    weight: Floats | None,
) -> dict[str, Any]:
    # 1. Groups with enough rows that the rate is of.
    of, hits = measure.rate(y, called)
    sizes = {group.value: int(of[group.rows].sum()) for group in groups}
    judged = [group for group in groups if sizes[group.value] >= section.min_rows]
    names = [group.value for group in judged]
    facts = {
        "measure": measure.name,
        "title": measure.title,
        "meaning": measure.definition,
        "of": measure.rows,
        "too_small": [name for name in sizes if name not in names],
        "least_rows": min((sizes[name] for name in names), default=0),
    }
    # 2. Rates and their differences under the same weightings.
    rates = remembered(_rates(judged, of, hits, weight))
    pairs = list(itertools.combinations(range(len(names)), 2))
    statistics = {f"{place}": _entry(rates, place) for place in range(len(names))}
    statistics |= {f"{first} {second}": _gap(rates, first, second) for first, second in pairs}
    measured = intervals.estimates(statistics, len(y), plan)
    rows = [
        {"group": name, "num_rows": sizes[name], **asdict(measured[f"{place}"].within(0.0, 1.0))}
        for place, name in enumerate(names)
    ]
    # 3. The greatest difference, with the simultaneous interval of all of them.
    least = [_independent_error(of[group.rows], hits[group.rows]) for group in judged]
    gaps = {(i, j): _cautious(measured[f"{i} {j}"], math.hypot(least[i], least[j])) for i, j in pairs}
    return {**facts, **_greatest(gaps, names, plan, section.min_rows, measure.rows), "rates": rows}


def _rates(groups: Sequence[Slice], of: Bools, hits: Bools, weight: Floats | None) -> Callable[[Floats | None], Floats]:
    """The rate of each group under a weighting of all rows."""
    number = np.full(len(of), len(groups))
    for place, group in enumerate(groups):
        number[group.rows] = place
    rows = np.flatnonzero(of & (number < len(groups)))
    number, hit = number[rows], hits[rows].astype(np.float64)
    own = None if weight is None else weight[rows]

    def rates(more: Floats | None) -> Floats:
        weights = own if more is None else more[rows] if own is None else own * more[rows]
        total = np.bincount(number, weights, len(groups))
        count = np.bincount(number, hit if weights is None else hit * weights, len(groups))
        return np.asarray(np.divide(count, total, out=np.full(len(groups), np.nan), where=total > 0), np.float64)

    return rates


def _entry(rates: Callable[[Floats | None], Floats], place: int) -> Callable[[Floats | None], float]:
    return lambda weight: float(rates(weight)[place])


def _gap(rates: Callable[[Floats | None], Floats], first: int, second: int) -> Callable[[Floats | None], float]:
    return lambda weight: float(rates(weight)[first] - rates(weight)[second])


def _independent_error(of: Bools, hits: Bools) -> float:
    """Standard error of a rate of independent rows, with one hit and one miss more."""
    count = int(of.sum())
    rate = (int((of & hits).sum()) + 1) / (count + 2)
    return math.sqrt(rate * (1 - rate) / (count + 2))


def _cautious(gap: Estimate, least: float) -> tuple[float, float]:
    """The size of a difference and its standard error, NaN where it has no interval."""
    return abs(gap.value), max(gap.error, least) if math.isfinite(gap.error) else math.nan


def _greatest(
    gaps: Mapping[tuple[int, int], tuple[float, float]],
    names: Sequence[str],
    plan: ResamplingPlan,
    min_rows: int,
    rows: str,
) -> dict[str, Any]:
    nothing = {"difference": math.nan, "low": math.nan, "high": math.nan, "between": []}
    if not gaps:
        return {**nothing, "reason": f"fewer than two groups have {min_rows} {rows}"}
    first, second = max(gaps, key=lambda pair: gaps[pair][0])
    greatest = {**nothing, "difference": gaps[first, second][0], "between": [names[first], names[second]]}
    if any(math.isnan(error) for _, error in gaps.values()):
        return {**greatest, "reason": "no interval: too few resamples, rows, groups or blocks"}
    z = jackknife.t_quantile(plan.freedom, 1 - (1 - plan.confidence) / len(gaps))
    low = max(0.0, *(value - z * error for value, error in gaps.values()))
    high = min(1.0, max(value + z * error for value, error in gaps.values()))
    return {**greatest, "low": low, "high": high, "reason": None}


def checks(judged: Mapping[str, Any]) -> list[gate.Check]:
    """The conditions of the gate: each bound is kept by the greatest difference, or by the end of its interval."""
    return [
        _check(column["column"], measure, judged["max_difference"][measure["measure"]], strict=judged["strict"])
        for column in judged["columns"]
        for measure in column["measures"]
        if measure["measure"] in judged["max_difference"]
    ]


def _check(column: str, measure: Mapping[str, Any], limit: float, *, strict: bool) -> gate.Check:
    name, value = f"{measure['measure']} by {column}", gate.number(measure["difference"])
    bound = f"a difference of at most {limit:g}" + (", with its whole interval" if strict else "")
    if value is None:
        return gate.Check(name, None, bound, passed=False, reason=f"{name}: {measure['reason']}", advice=gate.MORE_ROWS)
    compared = gate.number(measure["high"]) if strict else value
    if compared is None:
        reason = f"{name} differs by {value:.4f}; {measure['reason']}"
        advice = f"{gate.MORE_ROWS}; or a bound without strict"
        return gate.Check(name, value, bound, passed=False, reason=reason, advice=advice)
    where = f", its interval ends at {compared:.4f}," if strict else ","
    passed, between = compared <= limit, " and ".join(f"'{group}'" for group in measure["between"])
    relation = "at most" if passed else "above"
    reason = f"{name} differs by {value:.4f} between {between}{where} {relation} {limit:g}"
    key = f"evaluate.fairness.max_difference.{measure['measure']}"
    advice = f"columns that stand for '{column}', another threshold, or a bound that it keeps: {key}: "
    advice += gate.nearest_bound(compared, "max")
    return gate.Check(name, value, bound, passed, reason, "" if passed else advice)
