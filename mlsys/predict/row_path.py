"""The way of single rows through a bundle: from conformed records to what the model's family puts out.

A family may have a faster function for single rows than for matrices (`Family.row_function`). It is used once it has
given some hundred rows the bits that `mlsys.models.predict` gives them: the example of the bundle, and rows that have
some of its features replaced by missing values, categories, and numbers of every size.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsys import models
from mlsys.features.program import FeatureProgram
from mlsys.limits import FLOAT32_MAX
from mlsys.models.interface import RowFunction

_logger = logging.getLogger(__name__)

SINGLE_ROWS = 4
"""Up to this many rows are predicted one by one where there is a function for that; a matrix of them takes longer."""

NUM_PROBES, MAX_CELLS = 300, 1 << 22
"""Rows on which a function of single rows is compared with the family's prediction, and their features at most."""

NUMBERS = (np.nan, 0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 7.0, 30.0, 255.0, 1e3, -1e3, 1e6, 1e30, -1e30, FLOAT32_MAX)
"""Numbers that probes have, beside those of the example, their neighbours and their multiples."""

LIBRARY, SINGLE_ROW = "library", "single row"
"""The way of matrices, and that of single rows that was found to give the same bits."""


class RowPath:
    """The functions by which few records are predicted; safe to share between threads.

    Attributes
    ----------
    program
        The feature program for single records.
    paths
        Part → which code computes it, `LIBRARY` or `SINGLE_ROW`: ``model`` and, where there are some, ``derived``
        features.
    """

    def __init__(self, program: FeatureProgram, family: str, model: Any, example: Mapping[str, Any] | None) -> None:
        self.program = program.row_program()
        self._family = family
        self._model = model
        self._row = self._proved(example)
        self.paths = {"model": LIBRARY if self._row is None else SINGLE_ROW}
        if program.derive:
            self.paths["derived"] = SINGLE_ROW if self.program.derives_plainly else LIBRARY

    def predict(self, records: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Predict completed records: what the family gives for them, unweighted by their exposure."""
        X = np.empty((len(records), self.program.width), np.float32)
        for features, record in zip(X, records, strict=True):
            self.program.write(record, features)
        if self._row is None or len(records) > SINGLE_ROWS:
            return np.asarray(models.predict(self._family, self._model, X))
        if len(records) == 1:
            return self._row(X)
        return np.concatenate([self._row(X[at : at + 1]) for at in range(len(records))])

    def _proved(self, example: Mapping[str, Any] | None) -> RowFunction | None:
        """The function of single rows, if it gives the probes the bits of the family's prediction."""
        try:
            function = models.row_function(self._family, self._model)
            if function is None:
                return None
            features = np.zeros(self.program.width, np.float32) if example is None else self.program.features(example)
            X = probes(features)
            single = [_bits(function(X[at : at + 1])) for at in range(len(X))]
        except Exception as error:  # noqa: BLE001 - whatever a library says, its usual way is there
            _logger.warning("predict: no single rows of family %s here: %s", self._family, error)
            return None
        whole = models.predict(self._family, self._model, X)
        if single == [_bits(whole[at : at + 1]) for at in range(len(X))]:
            return function
        _logger.warning("predict: single rows of family %s get other bits than matrices here", self._family)
        return None


def _bits(values: NDArray[Any]) -> tuple[tuple[int, ...], str, bytes]:
    return values.shape, values.dtype.str, values.tobytes()


def probes(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make rows like one: the row itself, and copies with some of its features replaced, each time by other numbers."""
    rng = np.random.default_rng(0)
    count = min(NUM_PROBES, 1 + MAX_CELLS // max(1, len(features)))
    X = np.tile(features, (count, 1))
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = X * (10.0 ** rng.uniform(-3, 3, X.shape)).astype(np.float32)
        beside = np.nextafter(X, rng.choice([-np.inf, np.inf], X.shape).astype(np.float32))
    small = rng.integers(0, 300, X.shape).astype(np.float32)
    listed = rng.choice(np.array(NUMBERS, np.float32), X.shape)
    kind = rng.integers(0, 8, X.shape)  # half of the features stay
    X = np.select([kind == 0, kind == 1, kind == 2, kind == 3], [scaled, beside, small, listed], X)
    X = np.where(np.isinf(X), np.float32(FLOAT32_MAX), X).astype(np.float32)
    X[0] = features
    return np.ascontiguousarray(X)
