"""Operations on texts: ``text``, a few numbers about the letters; ``tfidf``, coordinates of the content.

A text's content is a point in a space of some hundred axes: its tokens are weighted by TF-IDF, brought to length 1, and
projected on the leading singular vectors of a sample of the training texts (latent semantic analysis). These come from
a truncated singular value decomposition by random projection with power iterations, from a fixed seed and with one
thread, so that the same texts give the same axes; the sign of an axis makes its largest share positive.

Weights and axes are whole numbers, and so is every product and every sum of them, far below 2^53: no order of
summation, batch or library of linear algebra can change a bit. Only the last step, the division by the length, rounds.

References
----------
Salton & Buckley (1988), "Term-weighting approaches in automatic text retrieval",
Information Processing & Management 24(5), doi:10.1016/0306-4573(88)90021-0.
Deerwester, Dumais, Furnas, Landauer & Harshman (1990), "Indexing by latent semantic analysis", JASIS 41(6).
Halko, Martinsson & Tropp (2011), "Finding structure with randomness: probabilistic algorithms for constructing
approximate matrix decompositions", SIAM Review 53(2), algorithms 4.4 and 5.1, doi:10.1137/090771806.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlsys.features.domains import Domain
from mlsys.features.operations.operation import (
    Encoding,
    FitInputs,
    Matrix,
    Operation,
    OperationSpec,
    Scaling,
    Writer,
    category_counts,
    divisor,
    num_present,
)
from mlsys.limits import FLOAT32_MAX
from mlsys.recipe.columns import TextOptions, TfidfOptions
from mlsys.schema import Kind
from mlsys.statistics import ColumnStatistics, arrays
from mlsys.statistics.arrays import Floats
from mlsys.statistics.text_statistics import BUCKETS, MEASURES, Texts, TextStatistics, Tokens, batches, count

Ints = npt.NDArray[np.int64]

COUNT_STEPS = 16
"""Steps of 1 in the weight of a count."""


def term_weights(counts: Ints) -> Ints:
    """Weigh counts as 1 + ln(count), in sixteenths: a word said ten times is not ten times as important.

    >>> term_weights(np.array([1, 2, 10])).tolist()
    [16, 27, 53]
    """
    weights: Ints = np.rint(COUNT_STEPS * (1 + np.log(counts))).astype(np.int64)
    return weights


@dataclass(frozen=True)
class TextOperation(Operation):
    """Compute features of texts, one text as if it were many, so that both executors give the same bits."""

    @property
    @abstractmethod
    def missing(self) -> Matrix:
        """The row of a missing text."""

    @abstractmethod
    def compute(self, texts: Sequence[str]) -> Floats:
        """Features of texts, ``(texts, features)``."""

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        present = raw[0].is_not_null().to_numpy()
        texts = raw[0].drop_nulls().to_list()
        if len(texts) < len(out):
            out[~present] = self.missing
        if texts:
            out[present] = self.compute(texts)

    def writer(self, start: int) -> Writer:
        read, missing, compute = self.domain.reader(self.column), self.missing, self.compute
        stop = start + len(missing)

        def write(value: Any, out: Matrix) -> None:
            text = read(value)
            out[start:stop] = missing if text is None else compute([text])[0]

        return write


@dataclass(frozen=True)
class Text(TextOperation):
    """Take the numbers of `mlsys.statistics.text_statistics.MEASURES`, each on a scale of its own."""

    scalings: tuple[Scaling, ...] = field(default_factory=lambda: tuple(Scaling() for _ in MEASURES))
    indicator: bool = False

    name = "text"

    @property
    def outputs(self) -> list[str]:
        return self._with_indicator([f"{self.column}: {measure}" for measure in MEASURES], indicator=self.indicator)

    @cached_property
    def missing(self) -> Matrix:
        marked = [1.0] if self.indicator else []
        return np.array([*(scaling.missing for scaling in self.scalings), *marked], np.float64).astype(np.float32)

    def compute(self, texts: Sequence[str]) -> Floats:
        facts = np.concatenate([Texts(batch).measures() for batch in batches(texts)])
        columns = [scaled_text(column, scaling) for column, scaling in zip(facts.T, self.scalings, strict=True)]
        return np.stack([*columns, *([np.zeros(len(facts))] if self.indicator else [])], axis=1)


@dataclass(frozen=True)
class Tfidf(TextOperation):
    """Place a text in the space of the training texts; a text without a known token is at its origin.

    Attributes
    ----------
    buckets
        Tokens that count, ``(tokens,)``; packed by `mlsys.statistics.arrays`, as are the next two.
    weights
        Weight of each of them: its inverse document frequency in steps of 1/256.
    axes
        Share of each token in each axis, ``(tokens, components)``, whole numbers.
    scale
        Factor of a projection of length 1.
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
        """The row of each token, ``(BUCKETS,)``; -1 for one that does not count."""
        return places_of(self.buckets)

    @cached_property
    def weight(self) -> Ints:
        return arrays.array(self.weights).astype(np.int64)

    @cached_property
    def axis(self) -> Floats:
        return arrays.array(self.axes).astype(np.float64)

    def compute(self, texts: Sequence[str]) -> Floats:
        return self.project(count(texts))

    def project(self, tokens: Tokens) -> Floats:
        """Coordinates of texts, ``(texts, components)``."""
        from scipy.sparse import csr_array

        starts, row, weights, lengths = weighted_tokens(tokens, self.place, self.weight)
        if len(tokens) == 1:  # the same whole number, without a sparse matrix around it
            sums = (weights.astype(np.float64) @ self.axis[row])[np.newaxis]
        else:
            sums = csr_array((weights.astype(np.float64), row, starts), (len(tokens), len(self.axis))) @ self.axis
        return np.asarray(sums / lengths[:, np.newaxis] * self.scale)


def places_of(buckets: dict[str, Any]) -> Ints:
    """The place of each token among packed buckets, ``(BUCKETS,)``; -1 for one that does not count."""
    places = np.full(BUCKETS, -1, np.int64)
    known = arrays.array(buckets)
    places[known] = np.arange(len(known))
    return places


def weighted_tokens(tokens: Tokens, place: Ints, weight: Ints) -> tuple[Ints, Ints, Ints, Floats]:
    """Starts of the known tokens of each text, their places and weights, and the length of each text."""
    row = place[tokens.buckets]
    known = row >= 0
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])[tokens.starts]
    row = row[known]
    weights = term_weights(tokens.counts[known]) * weight[row]
    squares = np.concatenate([np.zeros(1, np.int64), np.cumsum(weights * weights)])[starts]
    lengths = np.sqrt(np.diff(squares).astype(np.float64))
    lengths[lengths == 0] = 1.0
    return starts, row, weights, lengths


def scaled_text(values: Floats, scaling: Scaling) -> Floats:
    """Apply a scaling to an array, as `Scaling.apply` to a number."""
    if scaling.is_identity:
        return values
    return np.clip((values - scaling.center) * scaling.factor, -FLOAT32_MAX, FLOAT32_MAX)


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


def truncated_svd(column: str, domain: Domain, documents: TextStatistics, components: int, *, dense: bool) -> Tfidf:
    """Fit the axes of a sample of texts: at most `components`, for the texts may have fewer."""
    buckets, weights = weights_of(documents, VOCABULARY)
    matrix = _weighted(list(documents.sample.values()), buckets, weights)
    axes = _right_singular_vectors(matrix, components)
    largest = float(np.abs(axes).max(initial=0.0)) or 1.0
    return Tfidf(
        column,
        domain,
        arrays.pack(buckets.astype(np.uint16)),
        arrays.pack(weights.astype(np.int32)),
        arrays.pack(np.rint(axes / largest * LARGEST).astype(np.int16)),
        LENGTH * largest / LARGEST,
        dense,
    )


def weights_of(documents: TextStatistics, vocabulary: int) -> tuple[Ints, Ints]:
    """The tokens in most texts, by number where that is equal, and their weights: smoothed IDF, more for rare ones."""
    containing = documents.containing
    known = np.flatnonzero(containing >= MIN_TEXTS)
    known = np.sort(known[np.argsort(-containing[known], kind="stable")][:vocabulary])
    frequency = np.log((1 + documents.n) / (1 + containing[known])) + 1
    return known, np.rint(WEIGHT_STEPS * frequency).astype(np.int64)


def _weighted(texts: list[str], buckets: Ints, weights: Ints) -> Any:
    """Weights of the tokens of each text that has any, as rows of length 1, ``(texts, tokens)``."""
    from scipy.sparse import csr_array, diags_array

    tokens = count(texts)
    counts = csr_array((tokens.counts, tokens.buckets, tokens.starts), (len(tokens), BUCKETS))[:, buckets].tocsr()
    weighted = (term_weights(counts.data) * weights[counts.indices]).astype(np.float64)
    matrix = csr_array((weighted, counts.indices, counts.indptr), counts.shape)
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    has_tokens = lengths > 0
    return (diags_array(1 / lengths[has_tokens]) @ matrix[has_tokens]).tocsr()


def _right_singular_vectors(matrix: Any, components: int) -> Floats:
    """Right singular vectors, largest singular value first, ``(tokens, components)``."""
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
        squares, rotation = np.linalg.eigh(small.T @ small)  # rising
        leading = np.flatnonzero(squares > squares[-1] * 1e-9)[::-1][:rank]
        axes = small @ rotation[:, leading] / np.sqrt(squares[leading])
    strongest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.asarray(axes * np.sign(strongest))


COMPONENTS, MAX_COMPONENTS = 256, 512
"""Axes for texts: 256 float32 columns are a gigabyte a million rows; many classes take up to twice as many."""

TREE_COMPONENTS = 64
"""For trees, which split one axis at a time and gain little from the later ones."""

TEXTS_PER_COMPONENT = 8
"""Different training texts for each axis."""


def num_components(statistics: ColumnStatistics, encoding: Encoding) -> int:
    """Number of axes for texts: enough for the classes to lie apart, with `TEXTS_PER_COMPONENT` texts for each."""
    most = TREE_COMPONENTS if encoding == "codes" else max(COMPONENTS, 4 * (statistics.classes or 0))
    texts = num_present(statistics) if statistics.kind is Kind.TEXT else statistics.num_distinct or 0
    return min(most, MAX_COMPONENTS, texts // TEXTS_PER_COMPONENT)


def _fit_text(inputs: FitInputs) -> Text:
    if not inputs.dense:
        return Text(inputs.column, inputs.domain)
    scalings = (
        Scaling(moments.mean, divisor(math.sqrt(moments.m2 / max(moments.n, 1))), moments.mean)
        for moments in documents_of(inputs.statistics).measures
    )
    return Text(inputs.column, inputs.domain, tuple(scalings), inputs.has_missing)


def _fit_tfidf(inputs: FitInputs) -> Tfidf:
    documents, components = documents_of(inputs.statistics), inputs.params["components"]
    return truncated_svd(inputs.column, inputs.domain, documents, components, dense=inputs.dense)


def documents_of(statistics: ColumnStatistics) -> TextStatistics:
    """Statistics of the texts; of a category column those of its categories, each once."""
    if statistics.documents:
        return statistics.documents
    documents = TextStatistics()
    documents.update(pa.array([str(category) for category in category_counts(statistics)], pa.string()))
    return documents


TEXT = OperationSpec(TextOptions, ("text",), fitted=(Text,), fit=_fit_text)
TFIDF = OperationSpec(
    TfidfOptions,
    ("text",),
    fitted=(Tfidf,),
    fit=_fit_tfidf,
    params=lambda inputs: {"components": num_components(inputs.statistics, inputs.encoding)},
    num_coordinates=lambda params: int(params.get("components", 0)),
)
