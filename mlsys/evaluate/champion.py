"""Is a new model better than the one in service? Both predict the same test rows, each through its own bundle.

The rule
--------
A new model takes the champion's place if the lower end of the interval of its gain is above ``-margin``: paired, on the
same rows under the same weights, at the level ``evaluate.confidence`` and with the units that the split asks for
(`resampling`). With ``deploy.margin: 0``, the default, it has to be *better* beyond chance. Of two models that are
equally good, one is taken for the better of the two in (1 - confidence) / 2 of all cases, 2.5 % at 95 %. A model that
is merely "not shown to be worse" is not promoted: of two equal ones that would be 97.5 %, and a service would change
its model by chance at each run. With a margin above 0 the test is one of non-inferiority: a model that is certainly not
worse by more than the margin is promoted. That is what one wants where a model has seen newer rows, which
the test rows of today do not reward. See Piaggio et al. (2012), JAMA 308, 2594-2604, on non-inferiority;
DiCiccio & Efron (1996), Statistical Science 11, 189-228, on intervals by resampling.

The rows
--------
Rows that the champion was trained or validated on would flatter it: they are left out and counted. A row is known by
its id and time, if the table has an id and no two test rows share one, else by all its values. Where the split keeps
groups in one part, rows of groups that the champion has seen are left out too; of a ranking, always.

Where two models cannot be compared the comparison says why, and a person decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mlsys import cluster, errors
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import access_log, baseline, held_out, intervals, metrics, resampling, side_by_side
from mlsys.evaluate.intervals import Estimate
from mlsys.evaluate.unseen_rows import UnseenRows
from mlsys.recipe import Recipe
from mlsys.schema import Task
from mlsys.statistics.arrays import jsonable
from mlsys.store import Store

MIN_ROWS = 20
"""Test rows that the champion has not seen, from which two models are compared."""

MOST_TIMES = 1e4
"""Times as many test rows, or errors of the champion, beyond which advice to have or allow them is none."""

Outcome = Literal["better", "not worse", "not better", "worse", "not comparable"]


@dataclass(frozen=True)
class Comparison:
    """A new model against the champion on the same test rows.

    Attributes
    ----------
    challenger, champion
        Digests of the two bundles.
    outcome, promotes
        What was found, and whether the new model may take the champion's place.
    reason
        The outcome as a sentence.
    gain
        Gain of the new model in the metric, positive where it is better, with its interval.
    margin
        Loss that is allowed, in the unit of the metric.
    num_rows, num_left_out
        Test rows that were compared on, and those left out because the champion has seen them.
    resampling
        How the interval was made.
    beside
        All that a person compares the two by (`side_by_side`), as JSON values.
    """

    challenger: str
    champion: str
    outcome: Outcome
    promotes: bool
    reason: str
    metric: str | None = None
    title: str | None = None
    challenger_value: float | None = None
    champion_value: float | None = None
    gain: dict[str, float | str | None] | None = None
    margin: float = 0.0
    num_rows: int = 0
    num_left_out: int = 0
    resampling: dict[str, Any] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    beside: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return asdict(self)


def compare(
    store: Store,
    challenger: Bundle,
    champion: Bundle,
    split: Split,
    recipe: Recipe,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Compare a new model with the champion on the test rows of a split that the champion has not seen.

    Of the recipe it reads ``name``, ``seed``, ``data.timezone``, ``selection.metric``, ``deploy.margin`` and, of
    ``evaluate``, ``bootstrap``, ``confidence``, ``slices``, ``min_slice_rows`` and ``utility``. The opening of the
    test rows is recorded.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    reason = next(_obstacles(store, challenger, champion, split), None)
    if reason is not None:
        return _not_comparable(challenger, champion, reason)
    rows = cluster.call(access_log.digest_of_rows, split.only("test"), threads=1)
    why = f"comparison with the champion {champion.digest[:12]}"
    access_log.record(store, rows, name=recipe.name, split=split.digest, bundle=challenger.digest, reason=why)
    progress(f"comparing with the champion on {split.num_rows.get('test', 0):,} test rows")
    try:
        return cluster.call(_compare, store, challenger, champion, split.only("train", "test"), recipe)
    except errors.RequestError as error:
        first = str(error).splitlines()[0]
        return _not_comparable(challenger, champion, f"the champion cannot predict these rows: {first}")


def _obstacles(store: Store, challenger: Bundle, champion: Bundle, split: Split) -> Iterator[str]:
    """Reasons why two models cannot be compared, as far as they are known without opening rows."""
    ours, theirs = challenger.task, champion.task
    if ours.target != theirs.target:
        yield f"the champion predicts '{theirs.target}', the new model '{ours.target}'"
    if ours.kind is not theirs.kind:
        yield f"the champion's task is {theirs.kind.value}, the new model's {ours.kind.value}"
    if ours.labels != theirs.labels:
        yield f"the champion's labels are {_listed(theirs.labels)}, the new model's {_listed(ours.labels)}"
    elif ours.classes != theirs.classes and not ours.labels:
        yield f"the champion's classes are {_listed(theirs.classes)}, the new model's {_listed(ours.classes)}"
    if ours.group != theirs.group:
        yield f"the champion ranks within '{theirs.group}', the new model within '{ours.group}'"
    if _quantile(ours) != _quantile(theirs):
        yield f"the champion predicts {_quantile(theirs)}, the new model {_quantile(ours)}"
    missing = [name for name in champion.needed if name not in split.schema]
    if missing:
        yield f"the champion reads columns that the rows do not have any more: {_listed(missing)}"
    trained_on = champion.provenance.get("split")
    if trained_on is None:
        yield "the champion does not say which rows it was trained on"
    elif not store.has("split", str(trained_on)):
        yield f"the rows that the champion was trained on are not in the store any more (split {str(trained_on)[:12]})"


def _quantile(task: Task) -> str:
    """Say in words which quantile of a number is predicted, if it is one."""
    is_quantile = task.loss is not None and task.loss.name == "quantile"
    return f"the quantile {task.loss.level:g}" if task.loss and is_quantile else "no quantile"


def _listed(values: Iterable[object]) -> str:
    names = [str(value) for value in values]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _not_comparable(challenger: Bundle, champion: Bundle, reason: str, **facts: Any) -> Comparison:
    return Comparison(
        challenger.digest,
        champion.digest,
        "not comparable",
        promotes=False,
        reason=f"not comparable: {reason}",
        **facts,
    )


def _compare(store: Store, challenger: Bundle, champion: Bundle, split: Split, recipe: Recipe) -> Comparison:
    # 1. Predictions of both on the rows that the champion has not seen.
    trained, are_ranked = Split.open(store, champion.provenance["split"]), challenger.task.is_ranking
    unseen = UnseenRows.of(trained, split, are_ranked=are_ranked)
    num_test = split.num_rows["test"]
    num_rows = num_test if unseen is None else unseen.count(split)
    if num_rows < MIN_ROWS:
        reason = f"{num_rows} test rows that the champion has not seen; a comparison needs {MIN_ROWS}"
        return _not_comparable(challenger, champion, reason, num_rows=num_rows, num_left_out=num_test - num_rows)
    columns = side_by_side.columns(split, recipe, challenger.task)
    both = held_out.predict([challenger, champion], split, recipe.data.timezone, columns, keep=unseen)
    # 2. The gain under the weights that the split asks for.
    metric = baseline.metric_of(challenger, recipe)
    prepared = [
        metric.under(both.y, metrics.Predicted(output, _threshold(bundle), both.groups).of(metric.needs), both.weight)
        for output, bundle in zip(both.outputs, (challenger, champion), strict=True)
    ]
    units = resampling.choose(both.rows, _gap(prepared[0], prepared[1]), seed=recipe.seed)
    plan = units.plan(recipe.evaluate.bootstrap, recipe.evaluate.confidence, recipe.seed)
    gap = intervals.difference(prepared[0], prepared[1], len(both.y), plan)
    gain = gap if metric.greater_is_better else gap.negated()
    values = prepared[0](None), prepared[1](None)
    # 3. The outcome.
    margin = recipe.deploy.margin * (abs(values[1]) if metric.in_target_unit else 1.0)
    facts = {
        "metric": metric.name,
        "title": metric.title,
        "challenger_value": _finite(values[0]),
        "champion_value": _finite(values[1]),
        "gain": {key: _finite(value) for key, value in asdict(gain).items()},
        "margin": margin,
        "num_rows": num_rows,
        "num_left_out": num_test - num_rows,
        "resampling": units.to_json(num_rows, plan),
        "beside": jsonable(side_by_side.compare([challenger, champion], split, recipe, metric, both, plan)),
    }
    return judge(challenger.digest, champion.digest, gain, facts)


def judge(challenger: str, champion: str, gain: Estimate, facts: dict[str, Any]) -> Comparison:
    """Judge a gain by the rule of this module; `facts` are the other fields of the comparison."""
    margin = facts.get("margin", 0.0)
    low, high = (gain.value, gain.value) if gain.error == 0 else (gain.low, gain.high)
    if math.isnan(low):
        reason = f"not comparable: no interval of the difference ({gain.reason})"
        return Comparison(challenger, champion, "not comparable", promotes=False, reason=reason, **facts)
    outcome: Outcome = "worse" if high < 0 else "not better"
    if low > -margin:
        outcome = "better" if low > 0 else "not worse"
    promotes = low > -margin
    reason = _sentence(outcome, gain, facts)
    advice = () if promotes else _advice(gain.value, low, margin, facts)
    return Comparison(challenger, champion, outcome, promotes=promotes, reason=reason, advice=advice, **facts)


def _sentence(outcome: Outcome, gain: Estimate, facts: dict[str, Any]) -> str:
    words = {
        "better": "better than the champion",
        "not worse": f"not worse than the champion by more than {facts['margin']:.4g}",
        "not better": "not shown to be better than the champion",
        "worse": "worse than the champion",
    }[outcome]
    values = f"{facts['title']} {facts['challenger_value']:.4f} against {facts['champion_value']:.4f}"
    interval = "the same whatever is left out" if gain.error == 0 else f"[{gain.low:+.4f}, {gain.high:+.4f}]"
    left_out = facts["num_left_out"]
    without = f", {left_out:,} left out that the champion has seen" if left_out else ""
    return (
        f"{words}: {values} on {facts['num_rows']:,} test rows{without}; "
        f"gain {gain.value:+.4f} {interval}, by {facts['resampling']['unit']}"
    )


def _advice(gain: float, low: float, margin: float, facts: dict[str, Any]) -> tuple[str, ...]:
    """Say what would change the outcome: more test rows, or a margin; nothing where neither can."""
    lines = []
    distance = gain + margin
    if 0 < gain - low < distance * math.sqrt(MOST_TIMES):
        times = ((gain - low) / distance) ** 2
        unit, number = facts["resampling"]["unit"], facts["resampling"]["num_units"]
        blocks = "" if unit == "rows" else f", {math.ceil(number * times):,} in place of {number:,} {unit}"
        lines.append(
            f"about {math.ceil(facts['num_rows'] * times):,} test rows in place of {facts['num_rows']:,}{blocks} would "
            f"show a gain of {gain:.4f} beyond chance, if it is one"
        )
    scale = abs(facts["champion_value"]) if _is_relative(facts["metric"]) else 1.0
    if -low < scale * MOST_TIMES:  # a champion without an error leaves no fraction of one to be worse by
        lines.append(f"deploy.margin: {_rounded_up(-low / scale)} would promote it: it may then be worse by as much")
    return tuple(lines)


def _is_relative(metric: str) -> bool:
    return metric in metrics.METRICS and metrics.METRICS[metric].in_target_unit


def _rounded_up(value: float) -> str:
    """Write a positive number with two digits, none of them rounded down; one above it where it is exact."""
    step = 10.0 ** (math.floor(math.log10(max(value, 1e-12))) - 1)
    return f"{(math.floor(value / step) + 1) * step:.12g}"


def _gap(first: Callable[[Any], float], second: Callable[[Any], float]) -> Callable[[Any], float]:
    return lambda weight: first(weight) - second(weight)


def _threshold(bundle: Bundle) -> float | list[float]:
    return 0.5 if bundle.threshold is None else bundle.threshold


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
