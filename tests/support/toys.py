"""Parts from outside, as somebody who has read the docs would write them: a family and a metric.

`tests/unit/test_plugins.py` runs the steps with them, `tests/contracts/test_families.py` judges the family.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydantic import Field

from mlsys import models
from mlsys.evaluate import metrics
from mlsys.models.interface import Family, FamilyParams, Integer
from mlsys.models.matrix import check_width, ordered_sum
from mlsys.models.model_files import read_facts, write_facts


class BinsParams(FamilyParams):
    """Parameters of the toy family."""

    bins: int = Field(4, ge=2)


class BinsModel(FamilyParams):
    """Mean target of all rows, and for each feature its cuts and the mean target of each bin, missing values last."""

    base: tuple[float, ...]
    cuts: tuple[tuple[float, ...], ...]
    means: tuple[tuple[tuple[float, ...], ...], ...]
    is_classification: bool


class BinsFamily(Family[BinsParams, BinsModel]):
    """Effects of binned features, added for numbers and multiplied for classes (naive Bayes)."""

    name = "bins"
    encoding = "codes"
    complexity = 10
    params = BinsParams

    def space(self, task):
        return {"bins": Integer(2, 8)}

    def fit(self, train, validation, task, params, *, seed, threads, progress=None, seconds=None):
        y = np.eye(len(task.classes))[train.y.astype(int)] if task.is_classification else train.y[:, None]
        base, cuts, means = y.mean(axis=0), [], []
        for column in train.X.T.astype(np.float64):
            finite = column[np.isfinite(column)]
            inner = np.arange(1, params.bins) / params.bins
            cuts.append(np.quantile(finite, inner) if finite.size else np.zeros(params.bins - 1))
            index = binned(column, cuts[-1])
            count = np.bincount(index, minlength=params.bins + 1)[:, None]
            total = np.stack([np.bincount(index, weights=k, minlength=params.bins + 1) for k in y.T], axis=1)
            means.append((total + base) / (count + 1))
        return BinsModel(base=base, cuts=cuts, means=means, is_classification=task.is_classification)

    def predict(self, model, X):
        check_width(X, len(model.cuts), self.name)
        base = np.array(model.base)
        result = np.tile(base, (len(X), 1))
        for column, cuts, means in zip(X.T.astype(np.float64), model.cuts, model.means, strict=True):
            mean = np.array(means)[binned(column, np.array(cuts))]
            if model.is_classification:
                result *= np.divide(mean, base, out=np.zeros_like(mean), where=base > 0)
            else:
                result += mean - base
        return result / ordered_sum(result, axis=1)[:, None] if model.is_classification else result[:, 0].copy()

    def save(self, model, folder: Path):
        write_facts(folder / "bins.json", model)

    def load(self, folder: Path):
        return read_facts(folder / "bins.json", BinsModel)


def binned(column, cuts):
    return np.where(np.isnan(column), len(cuts) + 1, np.searchsorted(cuts, column))


def top_tenth(y, score):
    """Share of positive rows among the tenth with the highest scores."""
    best = np.argsort(-score, kind="stable")[: max(1, len(y) // 10)]
    return float(np.mean(y[best]))


BINS = BinsFamily()

TOP_TENTH = metrics.Metric(
    "top_tenth",
    "Positives in the top tenth",
    metrics.BINARY,
    "score",
    "higher",
    metrics.by_rows(top_tenth),
    "share of positive rows among the tenth of the rows with the highest scores",
)


@contextmanager
def registered():
    """Both parts known in this process."""
    models.register(BINS)
    metrics.register(TOP_TENTH)
    try:
        yield
    finally:
        models.FAMILIES.unregister(BINS.name)
        metrics.METRICS.unregister(TOP_TENTH.name)
