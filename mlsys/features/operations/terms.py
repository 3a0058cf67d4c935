"""Operation ``terms``: a column for each token of the texts, for linear models, which find the words that tell.

The weights are those of ``tfidf``, and so are the tokens; the axes are left out. Nearly all values of a text are zero:
families that know such columns by their type "t" keep the others alone. The number of terms is bounded by the number of
training rows, so that the matrix of a fit stays below half a gigabyte.

References
----------
Salton & Buckley (1988), "Term-weighting approaches in automatic text retrieval",
Information Processing & Management 24(5), doi:10.1016/0306-4573(88)90021-0.
Joachims (1998), "Text categorization with support vector machines: learning with many relevant features", ECML,
doi:10.1007/BFb0026683: few terms are irrelevant, and a linear model can use them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from mlsys.features.operations.operation import FitInputs, Matrix, OperationSpec, PlanInputs, Writer
from mlsys.features.operations.text import (
    TextOperation,
    documents_of,
    places_of,
    weighted_tokens,
    weights_of,
)
from mlsys.recipe.columns import MAX_TERMS, TermsOptions
from mlsys.statistics import arrays
from mlsys.statistics.arrays import Floats
from mlsys.statistics.text_statistics import Tokens, count

MAX_CELLS = 1 << 27
"""Cells of the matrix of terms of a fit: half a gigabyte of float32."""

LENGTH = 2.5
"""Length of a text among the features: a ridge penalty of 1 a coefficient then is about what topics need."""

MIN_TERMS = 64
"""Terms in any case: the most frequent ones serve as stop words do."""


@dataclass(frozen=True)
class Terms(TextOperation):
    """Take the weight of each known token, of a text of length `LENGTH`; a missing text has none.

    Attributes
    ----------
    buckets, weights
        Tokens that count, and the weight of each in steps of 1/256; packed by `mlsys.statistics.arrays`.
    """

    buckets: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)

    name = "terms"

    @property
    def num_terms(self) -> int:
        return int(self.buckets["shape"][0])

    @property
    def outputs(self) -> list[str]:
        return [f"{self.column}: term {bucket}" for bucket in arrays.array(self.buckets).tolist()]

    @property
    def types(self) -> list[str]:
        return ["t"] * self.num_terms

    @cached_property
    def missing(self) -> Matrix:
        return np.zeros(self.num_terms, np.float32)

    @cached_property
    def place(self) -> arrays.Ints:
        """The column of each token; -1 for one that does not count."""
        return places_of(self.buckets)

    @cached_property
    def weight(self) -> arrays.Ints:
        return arrays.array(self.weights).astype(np.int64)

    def compute(self, texts: Sequence[str]) -> Floats:
        out = np.zeros((len(texts), self.num_terms))
        text, term, values = self.entries(count(texts))
        out[text, term] = values
        return out

    def entries(self, tokens: Tokens) -> tuple[arrays.Ints, arrays.Ints, Floats]:
        """Text, term and value of what is not zero."""
        starts, term, weights, lengths = weighted_tokens(tokens, self.place, self.weight)
        text = np.repeat(np.arange(len(tokens)), np.diff(starts))
        return text, term, weights / lengths[text] * LENGTH

    def fill(self, raw: Sequence[pl.Series], out: Matrix) -> None:
        out[:] = 0.0
        present = np.flatnonzero(raw[0].is_not_null().to_numpy())
        text, term, values = self.entries(count(raw[0].drop_nulls().to_list()))
        out[present[text], term] = values

    def writer(self, start: int) -> Writer:
        read, entries, stop = self.domain.reader(self.column), self.entries, start + self.num_terms

        def write(value: Any, out: Matrix) -> None:
            text = read(value)
            out[start:stop] = 0.0
            if text is not None:
                _, term, values = entries(count([text]))
                out[start + term] = values

        return write


def num_terms(inputs: PlanInputs) -> int:
    """Number of terms: as many as `MAX_CELLS` allows for the rows."""
    return min(MAX_TERMS, max(MIN_TERMS, MAX_CELLS // max(1, inputs.statistics.num_rows)))


def _fit(inputs: FitInputs) -> Terms:
    buckets, weights = weights_of(documents_of(inputs.statistics), inputs.params["terms"])
    packed = arrays.pack(buckets.astype(np.uint16)), arrays.pack(weights.astype(np.int32))
    return Terms(inputs.column, inputs.domain, *packed)


TERMS = OperationSpec(
    TermsOptions, ("text",), fitted=(Terms,), fit=_fit, params=lambda inputs: {"terms": num_terms(inputs)}
)
