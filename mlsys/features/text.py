"""Operations on texts: a few numbers about their letters, and what they are about.

What a text is about is a point in a space of some hundred axes: its tokens weighted by
TF-IDF, brought to one length, and projected on the leading factors of a sample of the
training texts (latent semantic analysis). `factors` finds these.

Weights and axes are whole numbers, and so is every product and every sum of them, far
below 2^53: in float64 they are exact. No order of summation, batch or library of linear
algebra can change a bit. Only the last step, the division by the length, rounds.

References
----------
Salton & Buckley (1988), "Term-weighting approaches in automatic text retrieval",
Information Processing & Management 24(5), doi:10.1016/0306-4573(88)90021-0.
Deerwester, Dumais, Furnas, Landauer & Harshman (1990), "Indexing by latent semantic
analysis", JASIS 41(6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlsys.features.operations import Matrix, Operation, Scaling, Writer
from mlsys.features.values import FLOAT32_MAX
from mlsys.statistics import codec
from mlsys.statistics.tokens import BUCKETS, FACTS, Texts, Tokens, batches, count

__all__ = ["Text", "Tfidf", "term_weights"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Of = Callable[[Sequence[str]], Floats]
"""Features of texts, ``(texts, features)``."""

COUNT_STEPS = 16
"""Steps of 1 in the weight of a count."""


def term_weights(counts: Ints) -> Ints:
    """1 + ln(count) in sixteenths: a word said ten times is not ten times as important.

    >>> term_weights(np.array([1, 2, 10])).tolist()
    [16, 27, 53]
    """
    weights: Ints = np.rint(COUNT_STEPS * (1 + np.log(counts))).astype(np.int64)
    return weights


@dataclass(frozen=True)
class Text(Operation):
    """The numbers of `tokens.FACTS`.

    Attributes
    ----------
    scalings
        One a number.
    indicator
        One more column says where the text was missing.
    """

    scalings: tuple[Scaling, ...] = field(default_factory=lambda: tuple(Scaling() for _ in FACTS))
    indicator: bool = False

    name = "text"

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.column}: {fact}" for fact in FACTS]
        return [*names, f"{self.column} is missing"] if self.indicator else names

    @cached_property
    def missing(self) -> Matrix:
        """The row of a missing text."""
        marked = [1.0] if self.indicator else []
        return np.array([*(scaling.missing for scaling in self.scalings), *marked], np.float64).astype(np.float32)

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        write_present(raw[0], out, self.missing, self._of)

    def writer(self, start: int) -> Writer:
        return row_writer(self, start, self.missing, self._of)

    def _of(self, texts: Sequence[str]) -> Floats:
        facts = np.concatenate([Texts(batch).facts() for batch in batches(texts)])
        columns = [scaled(column, scaling) for column, scaling in zip(facts.T, self.scalings, strict=True)]
        return np.stack([*columns, *([np.zeros(len(facts))] if self.indicator else [])], axis=1)


@dataclass(frozen=True)
class Tfidf(Operation):
    """Place of a text in the space of the training texts; a text without a known token is at its origin.

    Attributes
    ----------
    buckets
        Tokens that count, ``(tokens,)``; packed by `codec`, as are the next two.
    weights
        Weight of each of them: its inverse document frequency in steps of 1/256.
    axes
        ``(tokens, components)``: share of each token in each axis, whole numbers.
    scale
        What a projection of length 1 is multiplied by.
    dense
        A missing text is at the origin; otherwise it is missing.
    """

    buckets: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    dense: bool = False

    name = "tfidf"

    @property
    def num_components(self) -> int:
        return int(self.axes["shape"][1])

    @property
    def outputs(self) -> list[str]:
        return [f"{self.column}: component {number}" for number in range(1, self.num_components + 1)]

    @property
    def types(self) -> list[str]:
        return ["e"] * self.num_components

    @cached_property
    def missing(self) -> Matrix:
        return np.full(self.num_components, 0.0 if self.dense else math.nan, np.float32)

    @cached_property
    def place(self) -> Ints:
        """``(BUCKETS,)``: row of each token, -1 for one that does not count."""
        places = np.full(BUCKETS, -1, np.int64)
        buckets = codec.array(self.buckets)
        places[buckets] = np.arange(len(buckets))
        return places

    @cached_property
    def weight(self) -> Ints:
        return codec.array(self.weights).astype(np.int64)

    @cached_property
    def axis(self) -> Floats:
        return codec.array(self.axes).astype(np.float64)

    def raw(self) -> list[pl.Expr]:
        return [self.domain.expr(self.column)]

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        write_present(raw[0], out, self.missing, self._of)

    def writer(self, start: int) -> Writer:
        return row_writer(self, start, self.missing, self._of)

    def _of(self, texts: Sequence[str]) -> Floats:
        return self.project(count(texts))

    def project(self, tokens: Tokens) -> Floats:
        """``(texts, components)``."""
        from scipy.sparse import csr_array

        row = self.place[tokens.buckets]
        known = row >= 0
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])[tokens.starts]
        row = row[known]
        weights = term_weights(tokens.counts[known]) * self.weight[row]
        squares = np.concatenate([np.zeros(1, np.int64), np.cumsum(weights * weights)])[starts]
        lengths = np.sqrt(np.diff(squares).astype(np.float64))
        lengths[lengths == 0] = 1.0
        if len(tokens) == 1:  # the same whole number, without a sparse matrix around it
            sums = (weights.astype(np.float64) @ self.axis[row])[np.newaxis]
        else:
            sums = csr_array((weights.astype(np.float64), row, starts), (len(tokens), len(self.axis))) @ self.axis
        return np.asarray(sums / lengths[:, np.newaxis] * self.scale)


def scaled(values: Floats, scaling: Scaling) -> Floats:
    """`Scaling.apply` of an array."""
    if scaling.is_identity:
        return values
    return np.clip((values - scaling.center) * scaling.factor, -FLOAT32_MAX, FLOAT32_MAX)


def write_present(series: pl.Series, out: Matrix, missing: Matrix, of: Of) -> None:
    """Write the features of the texts that are there, and the row of a missing one elsewhere."""
    present = series.is_not_null().to_numpy()
    texts = series.drop_nulls().to_list()
    if len(texts) < len(out):
        out[~present] = missing
    if texts:
        out[present] = of(texts)


def row_writer(operation: Operation, start: int, missing: Matrix, of: Of) -> Writer:
    """The writer of an operation on texts: the computation of many, of one."""
    read, stop = operation.domain.reader(operation.column), start + len(missing)

    def write(value: Any, out: Matrix) -> None:
        text = read(value)
        out[start:stop] = missing if text is None else of([text])[0]

    return write
