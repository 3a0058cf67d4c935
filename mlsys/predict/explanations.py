"""Explanations of predictions: what each column contributed, largest first.

`mlsys.models.contributions` says what is explained, and how. Here the features that one column became (a column each of
its categories, its scaled value, the mark that it is missing, its terms) are summed: the sum of Shapley values. A
derived feature keeps its own name, since no part of it belongs to one of the columns that it is computed of; a feature
of two columns (`elapsed`) counts for the one that the recipe states it for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys.features.program import FeatureProgram
from mlsys.models.contributions import Contributions
from mlsys.schema import Task, TaskKind

MAX_COLUMNS = 1_000
"""Columns of an explanation at most."""

NAME = "explanation"
"""Column of explanations in a table."""


@dataclass(frozen=True)
class Explanations:
    """Explained predictions of n rows.

    Attributes
    ----------
    columns
        Names of what contributes: columns, and derived features.
    contributions
        Float64, (n, columns).
    base
        Float64, (n,): the margin where nothing is known of a row.
    scale
        The scale of the margins, a `mlsys.models.contributions.Scale`.
    of
        The class or the label whose margin it is, a row; None for a number.
    """

    columns: tuple[str, ...]
    contributions: NDArray[np.float64]
    base: NDArray[np.float64]
    scale: str
    of: list[Any] | None = None

    @property
    def margin(self) -> NDArray[np.float64]:
        """The output that is explained: the base and all contributions."""
        return np.asarray(self.base + self.contributions.sum(axis=1))

    def largest(self, most: int) -> list[dict[str, Any]]:
        """Each row as JSON values: its `most` largest contributions, the sum of the others as ``rest``."""
        order, rest = self._largest(most)
        rows = []
        parts = zip(self.base.tolist(), self.margin.tolist(), rest.tolist(), order, self.contributions, strict=True)
        for number, (base, margin, others, places, values) in enumerate(parts):
            pairs = zip(places.tolist(), values[places].tolist(), strict=True)
            listed = [{"column": self.columns[place], "contribution": value} for place, value in pairs]
            of = {} if self.of is None else {"of": self.of[number]}
            rows.append({**of, "base": base, "contributions": listed, "rest": others, "margin": margin})
        return rows

    def arrow(self, most: int) -> pa.StructArray:
        """The same as a column of structs, with the scale in each."""
        order, rest = self._largest(most)
        n, listed = order.shape
        names = pa.array(self.columns, pa.string()).take(pa.array(order.reshape(-1)))
        values = pa.array(np.take_along_axis(self.contributions, order, axis=1).reshape(-1))
        pairs = pa.StructArray.from_arrays([names, values], ["column", "contribution"])
        offsets = pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(listed))
        of = {} if self.of is None else {"of": pa.array(self.of)}
        columns = {
            **of,
            "scale": pa.repeat(self.scale, n),
            "base": pa.array(self.base),
            "contributions": pa.ListArray.from_arrays(offsets, pairs),
            "rest": pa.array(rest),
            "margin": pa.array(self.margin),
        }
        return pa.StructArray.from_arrays(list(columns.values()), list(columns))

    def _largest(self, most: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Places of the largest contributions of each row, and the sum of its others; ties in the order of columns."""
        order = np.argsort(-np.abs(self.contributions), axis=1, kind="stable")
        others = np.take_along_axis(self.contributions, order[:, most:], axis=1)
        return order[:, :most], np.asarray(others.sum(axis=1))


def explained_outputs(task: Task, probabilities: NDArray[np.float64] | None, num_rows: int) -> NDArray[np.intp]:
    """Positions of what is explained: of two classes the positive one, else the most probable class or label."""
    if probabilities is None:
        return np.zeros(num_rows, np.intp)
    if task.kind is TaskKind.BINARY:
        return np.ones(num_rows, np.intp)
    return np.asarray(probabilities.argmax(axis=1), np.intp)


def joined(parts: Sequence[Explanations]) -> Explanations:
    """The rows of several as one."""
    if len(parts) == 1:
        return parts[0]
    values, base = (np.concatenate([getattr(part, name) for part in parts]) for name in ("contributions", "base"))
    of = None if parts[0].of is None else [each for part in parts for each in part.of or ()]
    return Explanations(parts[0].columns, values, base, parts[0].scale, of)


def of_columns(program: FeatureProgram, task: Task, own: Contributions, outputs: NDArray[np.intp]) -> Explanations:
    """Sum the contributions of features by column."""
    features = [operation.column for operation in program.operations for _ in operation.outputs]
    columns = tuple(dict.fromkeys(features))
    place = {name: number for number, name in enumerate(columns)}
    summed = np.zeros((len(own.base), len(columns)))
    np.add.at(summed.T, [place[name] for name in features], own.values.T)
    classes: Sequence[Any] = task.labels or task.classes
    of = [classes[number] for number in outputs.tolist()] if classes else None
    return Explanations(columns, summed, own.base, own.scale, of)
