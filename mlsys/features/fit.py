"""The constants of an operation, computed from the statistics of the training rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlsys.features.auto_plan import AutomaticChoice, num_present
from mlsys.features.domains import Domain
from mlsys.features.operations import encoders, text
from mlsys.features.operations.categorical import Boolean, Codes, Frequency, Hashed, OneHot, QuantileBins
from mlsys.features.operations.datetimes import Datetime, Elapsed, comparable
from mlsys.features.operations.image import Image
from mlsys.features.operations.lists import NumberList
from mlsys.features.operations.numeric import Numeric, Operation, Scaling, center_and_scale, divisor, edges_of, fill_of
from mlsys.features.operations.target import Target, encode, moments
from mlsys.features.operations.text import Text, Tfidf
from mlsys.limits import MAX_CODES
from mlsys.schema import Task
from mlsys.statistics import ColumnStatistics, TableStatistics
from mlsys.statistics.text_statistics import TextStatistics

__all__ = ["operation_of"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FitFacts:
    """What an operation is fitted with.

    Attributes
    ----------
    domains
        One for each column that the choice reads.
    dense
        For a model that needs every value there and on one scale.
    """

    choice: AutomaticChoice
    domains: tuple[Domain, ...]
    table: TableStatistics
    dense: bool

    @property
    def statistics(self) -> ColumnStatistics:
        return self.table.columns[self.choice.column]

    @property
    def column(self) -> str:
        return self.choice.column

    @property
    def domain(self) -> Domain:
        return self.domains[0]

    @property
    def params(self) -> dict[str, Any]:
        return self.choice.params

    @property
    def has_missing(self) -> bool:
        """Whether a training row lacks a value that counts."""
        return num_present(self.statistics) < self.statistics.num_rows


def operation_of(
    choice: AutomaticChoice, domains: Mapping[str, Domain], statistics: TableStatistics, *, dense: bool
) -> Operation:
    """The operation of a choice, fitted; it does not fail on a column without values."""
    facts = FitFacts(choice, tuple(domains[column] for column in choice.reads), statistics, dense)
    return FITS[choice.operation](facts)


def _numeric(facts: FitFacts) -> Operation:
    if "bins" in facts.params:
        return QuantileBins(facts.column, facts.domain, edges_of(facts.statistics, facts.params["bins"]), facts.dense)
    numbers, dense, params = facts.statistics.numbers, facts.dense, facts.params
    if numbers is None:
        return Numeric(facts.column, facts.domain)
    log = params.get("log", False)
    if not numbers.moments.n:
        given = params.get("impute", 0.0 if dense else "none")
        fill = {"none": None, "mean": 0.0, "median": 0.0}[given] if isinstance(given, str) else float(given)
        return Numeric(facts.column, facts.domain, Scaling(fill=fill, indicator=dense, log=log))
    wanted = params.get("scale", "standard" if dense else "none")
    center, scale = center_and_scale(facts.statistics, wanted, log=log)
    fill = fill_of(facts.statistics, params.get("impute", "median" if dense else "none"))
    indicator = params.get("indicator", dense and facts.has_missing)
    scaling, coordinate = Scaling(center, scale, fill, indicator, log), isinstance(wanted, float)
    return Numeric(facts.column, facts.domain, scaling, coordinate)


def _codes(facts: FitFacts) -> Codes:
    return Codes(facts.column, facts.domain, *_divide(facts), complete=facts.statistics.counts_exact)


def _onehot(facts: FitFacts) -> OneHot:
    complete = facts.statistics.counts_exact
    return OneHot(facts.column, facts.domain, *_divide(facts), null=facts.has_missing, complete=complete)


def _frequency(facts: FitFacts) -> Frequency:
    counts, total = counts_of(facts.statistics), max(facts.statistics.num_rows, 1)
    scaling = Scaling()
    if facts.dense:
        present = sum(counts.values()) or 1
        mean = sum(n * (n / total) for n in counts.values()) / present
        variance = sum(n * (n / total - mean) ** 2 for n in counts.values()) / present
        scaling = Scaling(mean, divisor(math.sqrt(variance)), mean, facts.statistics.num_nulls > 0)
    complete = facts.statistics.counts_exact
    return Frequency(
        facts.column, facts.domain, tuple(counts), (), tuple(counts.values()), total, scaling, complete=complete
    )


def _target(facts: FitFacts) -> Target:
    kept, rare = _divide(facts)
    sums, task = facts.statistics.target_sums(), facts.table.task
    known, width = facts.statistics.counts_exact, facts.statistics.target.shape[1]
    if known:
        other = sum((sums[category] for category in rare), np.zeros(width))
    else:  # what was not remembered, too
        other = facts.statistics.target[0] - sum((sums[category] for category in kept), np.zeros(width))
    groups = np.stack([other, *(sums[category] for category in kept), facts.statistics.target[1]])
    overall = _numbers_of(facts.statistics.target.sum(axis=0)[np.newaxis], task)
    means, places = [], []
    for (_, n, total, squares), (_, rows, whole, _) in zip(_numbers_of(groups, task), overall, strict=True):
        mean = float(whole[0] / rows[0]) if rows[0] else 0.0
        means.append(encode(n, total, squares, mean, facts.params.get("smoothing")))
        center, spread = moments(means[-1], n) if facts.dense else (0.0, 1.0)
        places.append((center, divisor(spread)))
    rates = tuple(map(tuple, np.stack(means, axis=1).tolist()))
    titles, (centers, scales) = tuple(title for title, *_ in overall), zip(*places, strict=True)
    return Target(facts.column, facts.domain, kept, rare, rates, titles, centers, scales, complete=known)


def _numbers_of(sums: Floats, task: Task) -> list[tuple[str, Floats, Floats, Floats]]:
    """Title, rows, sum and sum of squares of each number that stands for the target.

    `sums` are those of groups, as `label_sums` gives them. A class is 1 in its rows and 0 in
    others: it is its own square.
    """
    if not task.is_classification:
        return [(f"mean of {task.target}", sums[:, 0], sums[:, 1], sums[:, 2])]
    classes = list(enumerate(task.classes))[1 if len(task.classes) == 2 else 0 :]
    n = sums.sum(axis=1)
    return [(f"rate of {task.target}={value}", n, sums[:, k], sums[:, k]) for k, value in classes]


def _hash(facts: FitFacts) -> Hashed:
    buckets = facts.params["buckets"]
    return Hashed(facts.column, facts.domain, buckets, onehot=facts.dense or buckets > MAX_CODES)


def _elapsed(facts: FitFacts) -> Elapsed:
    ours, theirs = comparable(*facts.domains)
    scaling = Scaling(fill=0.0, indicator=True, log=True) if facts.dense else Scaling()
    return Elapsed(facts.column, ours, facts.params["since"], theirs, scaling)


def _list(facts: FitFacts) -> NumberList:
    return NumberList(facts.column, facts.domain, facts.params["elements"], facts.dense)


def _boolean(facts: FitFacts) -> Boolean:
    if not facts.dense:
        return Boolean(facts.column, facts.domain)
    present = num_present(facts.statistics)
    mean = facts.statistics.counts().get(True, 0) / present if present else 0.0
    return Boolean(facts.column, facts.domain, Scaling(fill=mean, indicator=facts.statistics.num_nulls > 0))


def _datetime(facts: FitFacts) -> Datetime:
    parts, cyclic = tuple(facts.params["parts"]), facts.params.get("cyclic", facts.dense)
    indicator = cyclic and facts.statistics.num_nulls > 0
    return Datetime(facts.column, facts.domain, parts, cyclic=cyclic, indicator=indicator)


def _text(facts: FitFacts) -> Text:
    if not facts.dense:
        return Text(facts.column, facts.domain)
    documents = facts.statistics.documents or _of_categories(facts)
    scalings = (
        Scaling(moments.mean, divisor(math.sqrt(moments.m2 / max(moments.n, 1))), moments.mean)
        for moments in documents.facts
    )
    return Text(facts.column, facts.domain, tuple(scalings), facts.has_missing)


def _tfidf(facts: FitFacts) -> Tfidf:
    documents = facts.statistics.documents or _of_categories(facts)
    return text.truncated_svd(facts.column, facts.domain, documents, facts.params["components"], dense=facts.dense)


def _of_categories(facts: FitFacts) -> TextStatistics:
    """The categories as texts, each once: with their frequencies they are all there."""
    documents = TextStatistics()
    documents.update(pa.array([str(category) for category in counts_of(facts.statistics)], pa.string()))
    return documents


def _image(facts: FitFacts) -> Operation:
    params, stand_in, indicator = facts.params, 0.0 if facts.dense else None, facts.dense and facts.has_missing
    if "encoder" in params:
        return encoders.fitted(facts.column, facts.domain, params["encoder"], stand_in=stand_in, indicator=indicator)
    return Image(
        facts.column,
        facts.domain,
        stand_in,
        indicator,
        side=params["size"],
        pixels=params["pixels"],
        colour=params["colour"],
        sized=params["sized"],
    )


FITS: Mapping[str, Callable[[FitFacts], Operation]] = {
    "image": _image,
    "numeric": _numeric,
    "codes": _codes,
    "onehot": _onehot,
    "frequency": _frequency,
    "target": _target,
    "hash": _hash,
    "elapsed": _elapsed,
    "list": _list,
    "boolean": _boolean,
    "datetime": _datetime,
    "text": _text,
    "tfidf": _tfidf,
}


def counts_of(statistics: ColumnStatistics) -> dict[Any, int]:
    """Value → rows, largest count first and then by value; whole numbers as integers."""
    counts = {
        value: n for value, n in statistics.counts().items() if not isinstance(value, float) or math.isfinite(value)
    }
    if all(isinstance(value, float) and value.is_integer() for value in counts):
        counts = {int(value): count for value, count in counts.items()}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _divide(facts: FitFacts) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Categories with a place of their own, and the rare ones."""
    counts, least = counts_of(facts.statistics), facts.params["min_rows"]
    kept = dict.fromkeys([value for value, n in counts.items() if n >= least][: facts.params.get("max_categories")])
    return tuple(kept), tuple(value for value in counts if value not in kept)
