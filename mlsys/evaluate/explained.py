"""The columns that a model goes by, over a bounded sample of the test rows.

*Permutation importance* of a column is what the chosen metric loses where each row has the value of another row
there: Breiman (2001), Random Forests, Machine Learning 45, 5-32, section 10; in this form the model reliance of
Fisher, Rudin & Dominici (2019), JMLR 20(177). Rows go round in a random circle, so that none keeps its own value. The
interval is that of the paired difference under the weights of `intervals`. All families have it. Of two columns that
say the same, each may seem unimportant while the other is there.

*Mean contribution* is the mean over rows of the absolute Shapley value (Lundberg et al. 2020, Nature Machine
Intelligence 2, 56-67), for families with an exact one (`mlsys.models.contributions`); of several classes that of the
likeliest one. It says how much a column moves the outputs, not whether it moves them to where the truth is.

Pairs are those of `interactions`. Cost is bounded by rows, columns and predictions, never by a clock: the same inputs
have the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlsys import errors
from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.evaluate import interactions, intervals, response
from mlsys.evaluate.held_out import HeldOut
from mlsys.evaluate.intervals import Estimate, ResamplingPlan
from mlsys.evaluate.metrics import Metric, Predicted
from mlsys.evaluate.weighted_metrics import Statistic, remembered
from mlsys.predict import Predictor
from mlsys.statistics.arrays import Floats

MAX_ROWS, MAX_COSTLY_ROWS = 1_000, 100
"""Test rows that are taken, fewer where texts, lists or pictures make them dear."""

MAX_PREDICTIONS, MIN_ROWS = 20_000, 100
"""Predictions of permuted rows: of many columns fewer rows are taken, but no fewer than these."""

MAX_COLUMNS = 40
"""Columns that are permuted: those to whose values the mean prediction responds most, and those without a response."""

REPEATS = 2
"""Random orders for each column."""

MAX_RESAMPLES = 100
"""Resamples of an interval at most."""

MAX_EXPLAINED_ROWS, MIN_EXPLAINED_ROWS = 100, 20
MAX_EXPLAINED_BYTES = 400_000_000
"""Rows whose contributions are computed; of a large model fewer, as rows times its bytes say."""


@dataclass(frozen=True)
class SampledRows:
    """Some of the test rows, conformed to the model's schema, and their places among all of them."""

    table: pa.Table
    places: NDArray[np.intp]


def explain(
    bundle: Bundle,
    split: Split,
    timezone: str,
    metric: Metric,
    scored: HeldOut,
    plan: ResamplingPlan,
    responses: dict[str, Any],
) -> dict[str, Any]:
    """Measure which columns the model goes by; `plan` is that of all test rows, `responses` those of `response`.

    Returns
    -------
    dict
        ``num_rows``, ``permutation`` (columns with the metric's loss and its interval, the largest first), ``left_out``
        (columns beyond the bound), ``contributions`` (their scale and columns, or the reason why there are none) and
        ``interactions`` of the first columns.
    """
    predictor, is_costly = Predictor(bundle, timezone), _is_costly(bundle)
    affordable = MAX_PREDICTIONS // (REPEATS * min(max(len(bundle.needed), 1), MAX_COLUMNS))
    count = int(np.clip(affordable, MIN_ROWS, MAX_COSTLY_ROWS if is_costly else MAX_ROWS))
    sample = sampled(predictor, split, count, scored.groups)
    read = set(bundle.needed)
    names = response.by_span([name for name in sample.table.column_names if name in read], responses)
    permuted = permutation_importance(predictor, sample, names[:MAX_COLUMNS], metric, scored, plan)
    points = interactions.COSTLY_POINTS if is_costly else interactions.POINTS
    first = [entry["column"] for entry in permuted if (entry["value"] or 0) > 0][: interactions.MAX_COLUMNS]
    return {
        "num_rows": len(sample.places),
        "repeats": REPEATS,
        "metric": metric.name,
        "permutation": permuted,
        "left_out": names[MAX_COLUMNS:],
        "contributions": mean_contributions(predictor, sample, plan),
        "interactions": interactions.find(predictor, _spaced(sample.table, points), first),
    }


def sampled(predictor: Predictor, split: Split, count: int, groups: NDArray[Any] | None = None) -> SampledRows:
    """Take about `count` test rows, evenly spaced in it; of a ranking whole groups."""
    paths = split.paths("test")
    starts = np.cumsum([0, *(pq.read_metadata(path).num_rows for path in paths)])
    places = _evenly(int(starts[-1]), count) if groups is None else _whole_groups(groups, count)
    schema = predictor.bundle.schema
    names = [name for name in schema.names if name in split.schema]
    parts = []
    for path, start, end in zip(paths, starts[:-1], starts[1:], strict=True):
        own = places[(places >= start) & (places < end)] - start
        if len(own):
            parts.append(pq.read_table(path, columns=names).take(pa.array(own)))
    conformed = predictor.conform(pa.concat_tables(parts))
    if not isinstance(conformed, pa.Table):
        raise TypeError(type(conformed))  # a table conforms to a table
    return SampledRows(conformed.combine_chunks(), places)


def permutation_importance(
    predictor: Predictor,
    sample: SampledRows,
    names: Sequence[str],
    metric: Metric,
    scored: HeldOut,
    plan: ResamplingPlan,
) -> list[dict[str, Any]]:
    """Compute what the metric loses where a column is permuted, with its interval; the largest loss first."""
    # 1. The metric of outputs on these rows, under any weighting of them.
    rows, table = sample.places, sample.table
    groups = None if scored.groups is None else scored.groups[rows]
    weight = None if scored.weight is None else scored.weight[rows]
    threshold = 0.5 if predictor.bundle.threshold is None else predictor.bundle.threshold

    def judged(output: Floats) -> Statistic:
        return metric.under(scored.y[rows], Predicted(output, threshold, groups).of(metric.needs), weight)

    # 2. Outputs with each column permuted, and what that loses.
    rng = np.random.default_rng(plan.seed)
    orders = [_circle(rng, len(rows)) for _ in range(REPEATS)]
    base = remembered(judged(_output(predictor, table)))
    losses = {
        name: _loss(base, [judged(_output(predictor, _permuted(table, name, order))) for order in orders], metric.sign)
        for name in names
    }
    # 3. Intervals, with the same weightings for all columns.
    measured = intervals.estimates(losses, len(rows), plan.of(rows).at_most(MAX_RESAMPLES))
    return _ordered(measured)


def mean_contributions(predictor: Predictor, sample: SampledRows, plan: ResamplingPlan) -> dict[str, Any]:
    """Compute the mean absolute contribution of each column, the largest first; or say why there is none."""
    folder = predictor.bundle.folder / "model"
    num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    count = int(np.clip(MAX_EXPLAINED_BYTES // max(num_bytes, 1), MIN_EXPLAINED_ROWS, MAX_EXPLAINED_ROWS))
    chosen = _evenly(len(sample.places), count)
    rows = sample.table.take(pa.array(chosen))
    try:
        own = predictor.explain(rows, predictor.conformed_table(rows))
    except errors.RequestError as error:
        where, got = (" ".join(line.split()) for line in str(error).splitlines()[:2])
        return {"reason": f"{where.removeprefix('explain: ')}: {got.removeprefix('got: ')}", "columns": []}
    size = np.abs(own.contributions)
    means = {name: _mean(size[:, place]) for place, name in enumerate(own.columns)}
    measured = intervals.estimates(means, len(rows), plan.of(sample.places[chosen]).at_most(MAX_RESAMPLES))
    return {"scale": own.scale, "num_rows": len(rows), "columns": _ordered(measured)}


def _loss(base: Statistic, permuted: Sequence[Statistic], sign: int) -> Statistic:
    return lambda weight: sign * (base(weight) - float(np.mean([statistic(weight) for statistic in permuted])))


def _mean(values: Floats) -> Callable[[Floats | None], float]:
    return lambda weight: float(values.mean() if weight is None else weight @ values / max(float(weight.sum()), 1e-300))


def _ordered(measured: dict[str, Estimate]) -> list[dict[str, Any]]:
    entries = [{"column": name, **asdict(estimate)} for name, estimate in measured.items()]
    return sorted(entries, key=lambda entry: -np.nan_to_num(entry["value"], nan=-np.inf))


def _is_costly(bundle: Bundle) -> bool:
    read = set(bundle.program.inputs)
    return any(column.kind in response.COSTLY for column in bundle.schema.features if column.name in read)


def _circle(rng: np.random.Generator, count: int) -> NDArray[np.intp]:
    """A random order in which no row keeps its place: each gets the value of the next one in a random circle."""
    circle = rng.permutation(count)
    order = np.empty(count, np.intp)
    order[circle] = np.roll(circle, -1)
    return order


def _permuted(table: pa.Table, name: str, order: NDArray[np.intp]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), table[name].take(pa.array(order)).combine_chunks())


def _output(predictor: Predictor, table: pa.Table) -> Floats:
    """The output in the form that metrics take."""
    predictions = predictor.conformed_table(table)
    output = predictions.score if predictions.probabilities is None else predictions.probabilities
    return np.asarray(output, np.float64)


def _evenly(total: int, count: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.intp))


def _spaced(table: pa.Table, count: int) -> pa.Table:
    return table.take(pa.array(_evenly(table.num_rows, count)))


def _whole_groups(groups: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Rows of groups that are evenly spaced among all of them, about as many as `count`, and of one at least."""
    names, first = np.unique(groups, return_index=True)
    in_order = names[np.argsort(first, kind="stable")]
    chosen = in_order[_evenly(len(in_order), max(1, count * len(in_order) // len(groups)))]
    return np.flatnonzero(np.isin(groups, chosen))
