"""Worlds whose truth is known, to check intervals and promotions: how often do they say what they promise?

`benchmarks/interval_coverage.py` and `benchmarks/promotion_rates.py` run them at length, tests run a few hundred.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
from scipy import signal, special, stats

from mlsys.evaluate import champion, intervals, metrics, resampling

DAY_US = 86_400_000_000
START_US = 1_700_006_400_000_000

BINARY, REGRESSION = ("roc_auc", "log_loss", "accuracy"), ("rmse", "mae")


@dataclass(frozen=True)
class World:
    """Test rows of some days, or groups, and a model that does not know what the rows of a day have in common.

    Attributes
    ----------
    units
        Days or groups.
    rows
        Rows of each, in the mean.
    correlation
        Variance that rows of a day share, in their truth and in what the model sees, as a fraction of that of a row.
    memory
        Correlation of what two days that follow each other have in common.
    unequal
        Standard deviation of the logarithm of the rows of a day.
    """

    kind: str = "binary"
    units: int = 20
    rows: int = 40
    correlation: float = 0.1
    memory: float = 0.0
    unequal: float = 0.3
    by: str = "time"

    def draw(self, rng, units=None):
        """Unit, truth and prediction of rows of as many units as the world has, or of `units`."""
        number = units or self.units
        sizes = np.maximum(1, rng.poisson(self.rows * np.exp(rng.normal(-(self.unequal**2) / 2, self.unequal, number))))
        unit = np.repeat(np.arange(number), sizes)
        scale = np.sqrt(self.correlation / (1 - self.correlation))
        truth, seen = (scale * self._common(rng, number) for _ in range(2))
        x = rng.normal(size=len(unit)) + seen[unit]
        if self.kind == "binary":
            y = rng.random(len(unit)) < special.expit(-0.5 + 1.2 * x + 1.8 * truth[unit])
            return unit, y.astype(np.int64), special.expit(-0.5 + 1.2 * x)
        spread = np.exp(0.5 * scale * self._common(rng, number))[unit]
        return unit, 2 * x + truth[unit] + spread * rng.standard_t(8, len(unit)), 2 * x

    def _common(self, rng, number):
        steps = rng.normal(size=number)
        if not self.memory:
            return steps
        steps[1:] *= np.sqrt(1 - self.memory**2)
        return signal.lfilter([1.0], [1.0, -self.memory], steps)

    def prepared(self, names, y, prediction):
        """Metrics of these rows, ready for weights."""
        label = (prediction >= 0.5).astype(np.int64)
        known = {name: metrics.METRICS[name] for name in names}
        return {name: m.prepare(y, label if m.needs == "label" else prediction) for name, m in known.items()}

    def context(self, rng, unit):
        """What is known of the rows beside: their time within the day, or their group."""
        if self.by == "rows":
            return resampling.RowContext(len(unit))
        if self.by == "group":
            return resampling.RowContext(len(unit), groups=unit, group="customer")
        times = START_US + unit * DAY_US + rng.integers(0, DAY_US, len(unit))
        return resampling.RowContext(len(unit), times=times)


@functools.cache
def truth_of(world, names, long=20_000):
    """Values of metrics in a series so long that their own error is small beside that of the worlds."""
    _, *rows = world.draw(np.random.default_rng(10_000), long)
    return {name: statistic(None) for name, statistic in world.prepared(names, *rows).items()}


def coverage(world, names, replications, seed=0):
    """The share of replications whose 95 % interval holds the metric's true value, by metric."""
    units = 1_000_000 if world.rows == 1 else 20_000
    truth = truth_of(replace(world, units=units, by="rows"), names, units)
    held = dict.fromkeys(names, 0)
    rng = np.random.default_rng(seed)
    for number in range(replications):
        unit, *rows = world.draw(rng)
        statistics = world.prepared(names, *rows)
        units = resampling.choose(world.context(rng, unit), statistics[names[0]], seed=number)
        measured = intervals.estimates(statistics, len(unit), units.plan(200, 0.95, number))
        for name, estimate in measured.items():
            held[name] += estimate.low <= truth[name] <= estimate.high
    return {name: count / replications for name, count in held.items()}


def band(share, replications, level=0.999):
    """Counts between which a share of so many replications lies with this probability, by the binomial distribution."""
    tail = (1 - level) / 2
    return stats.binom.ppf(tail, replications, share), stats.binom.ppf(1 - tail, replications, share)


def scores(rng, num_rows, loss=0.0, agreement=0.9, strength=1.5):
    """A truth and the scores of two models, of which the second has an area under the ROC curve smaller by `loss`.

    Both see the signal with an error of their own; `agreement` is the correlation of their scores.
    """
    spread = np.sqrt(strength**2 * (1 / agreement - 1))
    seen = strength * rng.normal(size=num_rows)
    y = (rng.random(num_rows) < special.expit(seen - 1)).astype(np.int64)
    errors = spread * rng.normal(size=(2, num_rows))
    worse = 1.0 if loss == 0 else _worse_by(loss, strength, spread)
    return y, seen + errors[0], seen + worse * errors[1]


@functools.cache
def _worse_by(loss, strength, spread):
    """The factor of the second model's error that costs it `loss` of the area under the curve, by bisection."""
    rng = np.random.default_rng(99)
    seen = strength * rng.normal(size=400_000)
    y = (rng.random(len(seen)) < special.expit(seen - 1)).astype(np.int64)
    error = spread * rng.normal(size=len(seen))
    area = metrics.METRICS["roc_auc"].function
    best, low, high = area(y, seen + error), 1.0, 4.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if best - area(y, seen + middle * error) < loss else (low, middle)
    return (low + high) / 2


def promoted(y, new, old, seed=0, name="roc_auc", margin=0.0, num_resamples=200):
    """Whether the rule of `champion` puts the model of the scores `new` in the place of that of `old`."""
    metric = metrics.METRICS[name]
    ours, theirs = metric.prepare(y, new), metric.prepare(y, old)
    plan = intervals.ResamplingPlan(num_resamples, 0.95, seed)
    gap = intervals.difference(ours, theirs, len(y), plan)
    facts = {
        "metric": name, "title": metric.title, "challenger_value": ours(None), "champion_value": theirs(None),
        "margin": margin, "num_rows": len(y), "num_left_out": 0, "resampling": {"unit": "rows", "num_units": len(y)},
    }  # fmt: skip
    return champion.judge("new", "old", gap if metric.greater_is_better else gap.negated(), facts).promotes
