"""Pairs of columns that act together: Friedman's H statistic on a few test rows.

Of the centred partial dependence F of the model on one column or on two, taken at the rows' own values, the part of a
pair that is no sum is ``F_jk - F_j - F_k``. Its share of the pair's variance, ``H² = Σ (F_jk - F_j - F_k)² / Σ
F_jk²``, is 0 for columns whose effects add up and 1 for those that act only together: Friedman & Popescu (2008),
Predictive learning via rule ensembles, Annals of Applied Statistics 2(3), 916-954, section 8.1. H is large, too,
where a pair does next to nothing; so pairs are ordered by the size of that part, ``sqrt(mean (F_jk - F_j - F_k)²)``,
as Inglis, Parnell & Hurley (2022), Journal of Computational and Graphical Statistics 31(3), 766-778, advise.

Probabilities are taken as log-odds, those of several classes as logarithms about their mean: a model whose score is a
sum has no interactions then, whatever the link makes of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlsys.evaluate.response import output_of
from mlsys.predict import Predictor
from mlsys.schema import TaskKind
from mlsys.statistics.arrays import Floats

MAX_COLUMNS = 6
"""Columns whose pairs are looked at: the most important ones."""

POINTS, COSTLY_POINTS = 20, 10
"""Rows at which, and over which, partial dependence is taken; a pair costs their square in predictions."""

LEAST_EFFECT = 0.05
"""Part of the outputs' spread from which a pair is said to act together."""

SMALLEST = 1e-15
"""Probabilities are kept this far from 0 and 1."""


def find(predictor: Predictor, rows: pa.Table, names: Sequence[str]) -> dict[str, Any]:
    """Find how strongly the pairs of these columns of conformed rows act together, the strongest first.

    Returns
    -------
    dict
        ``num_rows``, ``spread``, the standard deviation of the output over the rows, and ``pairs``: the ``columns``,
        ``effect``, in the unit of the spread, ``h``, and whether it ``matters``.
    """
    single = {name: centred(_dependence(predictor, rows, [name])) for name in names}
    spread = _size(centred(margin(output_of(predictor, rows), predictor.task.kind)))
    pairs: list[dict[str, Any]] = []
    for first, second in itertools.combinations(names, 2):
        joint = centred(_dependence(predictor, rows, [first, second]))
        effect, h = strength(joint, single[first], single[second])
        matters = spread > 0 and effect >= LEAST_EFFECT * spread
        pairs.append({"columns": [first, second], "effect": effect, "h": h, "matters": matters})
    pairs.sort(key=lambda pair: -pair["effect"])
    return {"num_rows": rows.num_rows, "spread": spread, "pairs": pairs}


def strength(joint: Floats, first: Floats, second: Floats) -> tuple[float, float]:
    """Size of the part of a pair that is no sum, and H, its share; of centred dependence, (points, outputs).

    >>> a, b = np.array([[-1.0], [-1.0], [1.0], [1.0]]), np.array([[-1.0], [1.0], [-1.0], [1.0]])
    >>> strength(a + b, a, b), strength(a * b, 0 * a, 0 * b)
    ((0.0, 0.0), (1.0, 1.0))
    """
    effect, whole = _size(joint - first - second), _size(joint)
    return effect, effect / whole if whole > 0 else 0.0


def margin(output: Floats, kind: TaskKind) -> Floats:
    """Outputs of shape (n, outputs) on the scale on which interactions are measured.

    >>> margin(np.array([[0.5], [0.75]]), TaskKind.BINARY).round(4).tolist()
    [[0.0], [1.0986]]
    """
    if kind not in (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL):
        return output
    clipped = np.clip(output, SMALLEST, 1 - SMALLEST)
    if kind is TaskKind.MULTICLASS:
        logs = np.log(clipped)
        return np.asarray(logs - logs.mean(axis=1, keepdims=True), np.float64)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), np.float64)


def centred(values: Floats) -> Floats:
    """Values about the mean of each output."""
    return np.asarray(values - values.mean(axis=0), np.float64)


def _size(values: Floats) -> float:
    """Root of the mean over the points of the squares, summed over the outputs; rounding counts as nothing."""
    size = float(np.sqrt((values**2).sum(axis=1).mean()))
    return size if size > 1e-9 else 0.0


def _dependence(predictor: Predictor, rows: pa.Table, names: Sequence[str]) -> Floats:
    """Partial dependence on some columns at each row's values of them: the mean output over all rows' other columns."""
    count = rows.num_rows
    table = rows.take(pa.array(np.tile(np.arange(count), count)))
    own = pa.array(np.repeat(np.arange(count), count))
    for name in names:
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(name), rows[name].take(own))
    output = margin(output_of(predictor, table.combine_chunks()), predictor.task.kind)
    return np.asarray(output.reshape(count, count, -1).mean(axis=1), np.float64)
