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

Leading factors of a sample of texts: the axes on which `text.Tfidf` places a text.

A truncated singular value decomposition of the sample's TF-IDF matrix by random projection
with power iterations (Halko et al.), from a fixed seed and with one thread, so that the same
texts give the same axes. Of two axes that differ in sign alone, the one whose largest share
is positive is taken.

References
----------
Halko, Martinsson & Tropp (2011), "Finding structure with randomness: probabilistic
algorithms for constructing approximate matrix decompositions", SIAM Review 53(2),
algorithms 4.4 and 5.1, doi:10.1137/090771806.
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

from mlsys.features.domains import Domain
from mlsys.features.operations.numeric import Matrix, Operation, Scaling, Writer
from mlsys.limits import FLOAT32_MAX
from mlsys.statistics import arrays
from mlsys.statistics.text_statistics import BUCKETS, FACTS, Texts, TextStatistics, Tokens, batches, count

__all__ = ["LENGTH", "Text", "Tfidf", "term_weights", "truncated_svd"]

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
        columns = [scaled_text(column, scaling) for column, scaling in zip(facts.T, self.scalings, strict=True)]
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
        buckets = arrays.array(self.buckets)
        places[buckets] = np.arange(len(buckets))
        return places

    @cached_property
    def weight(self) -> Ints:
        return arrays.array(self.weights).astype(np.int64)

    @cached_property
    def axis(self) -> Floats:
        return arrays.array(self.axes).astype(np.float64)

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


def scaled_text(values: Floats, scaling: Scaling) -> Floats:
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


VOCABULARY = 8_192
"""Tokens that count, those in most texts: twice as many change the accuracy by less than its error."""

MIN_TEXTS = 2
"""Texts that a token needs: one that is in a single text tells it from no other by a rule."""

LENGTH = 8.0
"""Length of a text among the features. At 1, a ridge penalty of 1 a coefficient would keep a
linear model from telling texts apart; from 4 to 16, the accuracy hardly changes."""

OVERSAMPLES, POWER_ITERATIONS = 16, 3
"""Halko et al., sections 4.3 and 4.5."""

WEIGHT_STEPS = 256
"""Steps of 1 in the weight of a token."""

LARGEST = 32_767
"""Largest share of a token in an axis: 16 bits with sign."""


@dataclass(frozen=True)
class _Vocabulary:
    """Tokens that count, and their weights; both rising by token."""

    buckets: Ints
    weights: Ints


def truncated_svd(column: str, domain: Domain, documents: TextStatistics, components: int, *, dense: bool) -> Tfidf:
    """The operation with at most `components` axes: the texts may have fewer."""
    known = _vocabulary(documents)
    matrix = _weighted(list(documents.sample.values()), known)
    axes = _leading(matrix, components)
    largest = float(np.abs(axes).max(initial=0.0)) or 1.0
    return Tfidf(
        column,
        domain,
        arrays.pack(known.buckets.astype(np.uint16)),
        arrays.pack(known.weights.astype(np.int32)),
        arrays.pack(np.rint(axes / largest * LARGEST).astype(np.int16)),
        LENGTH * largest / LARGEST,
        dense,
    )


def _vocabulary(documents: TextStatistics) -> _Vocabulary:
    """The tokens in most texts, by number where that is equal; rare ones weigh more (smoothed IDF)."""
    containing = documents.containing
    known = np.flatnonzero(containing >= MIN_TEXTS)
    known = np.sort(known[np.argsort(-containing[known], kind="stable")][:VOCABULARY])
    frequency = np.log((1 + documents.n) / (1 + containing[known])) + 1
    return _Vocabulary(known, np.rint(WEIGHT_STEPS * frequency).astype(np.int64))


def _weighted(texts: list[str], known: _Vocabulary) -> Any:
    """``(texts, tokens)``: weights of the tokens of each text that has any, length 1."""
    from scipy.sparse import csr_array, diags_array

    tokens = count(texts)
    counts = csr_array((tokens.counts, tokens.buckets, tokens.starts), (len(tokens), BUCKETS))[:, known.buckets].tocsr()
    weights = (term_weights(counts.data) * known.weights[counts.indices]).astype(np.float64)
    matrix = csr_array((weights, counts.indices, counts.indptr), counts.shape)
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    there = lengths > 0
    return (diags_array(1 / lengths[there]) @ matrix[there]).tocsr()


def _leading(matrix: Any, components: int) -> Floats:
    """``(tokens, components)``: right singular vectors, largest singular value first."""
    from threadpoolctl import threadpool_limits

    rank = min(components, *matrix.shape)
    if rank == 0:
        return np.zeros((matrix.shape[1], 0))
    size = min(rank + OVERSAMPLES, *matrix.shape)
    start = np.random.default_rng(0).standard_normal((matrix.shape[1], size))
    with threadpool_limits(limits=1):
        basis = np.linalg.qr(matrix @ start)[0]
        for _ in range(POWER_ITERATIONS):
            basis = np.linalg.qr(matrix @ (matrix.T @ basis))[0]
        small = matrix.T @ basis
        squares, turn = np.linalg.eigh(small.T @ small)  # rising
        kept = np.flatnonzero(squares > squares[-1] * 1e-9)[::-1][:rank]
        axes = small @ turn[:, kept] / np.sqrt(squares[kept])
    strongest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.asarray(axes * np.sign(strongest))
