"""The margins of many rows by a LightGBM model, some trees at a time, with the bits that LightGBM itself gives.

LightGBM takes each row through all trees. A model of a thousand trees is larger than the cache of a core, so that each
row reads it anew from further away. Here all rows of a block pass some trees before the next ones, which stay at hand:
LightGBM says in which leaf of each tree a row ends, and the values of these leaves are added in its own order, tree
after tree from zero in double precision (``GBDT::PredictRaw`` in its source), which is why the sums are the same.
"""

from __future__ import annotations

import re
import weakref
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

LEAST_ROWS, LEAST_TREES = 1_000, 200
"""Rows and trees from which on this is faster: a call of LightGBM costs as much as some walks, and a smaller model
stays at hand by itself."""

TREES, ROWS = 24, 4_096
"""Trees that a block passes at once, and rows of a block: some hundred kilobytes each."""

_LEAF_VALUES = re.compile(r"^leaf_value=(.*)$", re.MULTILINE)

_known: weakref.WeakKeyDictionary[lightgbm.Booster, list[NDArray[np.float64]]] = weakref.WeakKeyDictionary()


def are_many(booster: lightgbm.Booster, rows: NDArray[np.float32]) -> bool:
    """True of rows and trees for which this is faster than LightGBM alone."""
    return len(rows) >= LEAST_ROWS and booster.num_trees() >= LEAST_TREES


def margins(booster: lightgbm.Booster, rows: NDArray[np.float32], outputs: int) -> NDArray[np.float64]:
    """Sum the leaves of each row, (n, features), into margins, (n, outputs); a round has a tree an output."""
    values, sums = _leaf_values(booster), np.zeros((len(rows), outputs))
    rounds, step = len(values) // outputs, max(1, TREES // outputs)
    for top in range(0, len(rows), ROWS):
        block, own = rows[top : top + ROWS], sums[top : top + ROWS]
        for first in range(0, rounds, step):
            how: dict[str, Any] = {
                "start_iteration": first,
                "num_iteration": min(step, rounds - first),
                "num_threads": 1,
            }
            leaves = np.asarray(booster.predict(block, pred_leaf=True, **how)).reshape(len(block), -1)
            for number, leaf in enumerate(leaves.T, first * outputs):
                own[:, number % outputs] += values[number][leaf]
    return sums


def _leaf_values(booster: lightgbm.Booster) -> list[NDArray[np.float64]]:
    """Read the values of the leaves of each tree, once a model; its text has them to the last bit."""
    if booster not in _known:
        _known[booster] = [
            np.array(line.split(), np.float64) for line in _LEAF_VALUES.findall(booster.model_to_string())
        ]
    return _known[booster]
