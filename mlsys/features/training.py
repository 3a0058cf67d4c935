"""Features of the rows that a model is fitted on: no encoding of a row knows its label.

A mean of the target over a category tells the label of a row that went into it; a model that is
fitted on such means trusts them far too much. So the rows of a fold get the means of the other
folds, and every other row (validation, test, requests) those of all folds. `TrainingProgram`
decides by the number of each row's fold; statistics are kept by fold, so the rows are not read again.

Of rows that are forecast, a fold gets the means of the folds that were known a horizon before it alone, as a row that
is forecast does: those of later ones know what came of it.

References
----------
Pargent, Pfisterer, Thomas & Bischl (2022), "Regularized target encoding outperforms traditional methods in supervised
machine learning with high cardinality features", Computational Statistics 37, doi:10.1007/s00180-022-01207-6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlsys import errors
from mlsys.features import program
from mlsys.features.operations.operation_registry import fit_operation
from mlsys.features.operations.target import Target
from mlsys.features.plan import FeaturePlan
from mlsys.features.program import FeatureProgram
from mlsys.schema import FOLD
from mlsys.statistics import TrainStatistics


@dataclass(frozen=True)
class TrainingProgram:
    """The program of all folds that are fitted on, and for each of them that of the other folds.

    Attributes
    ----------
    program
        Fitted on all these folds; it is stored, and serves rows outside of them.
    held_out
        Fold → the same program with target encodings of the other folds, for the rows of the fold.
        Empty if no operation looks at the target.
    signs
        Directions that predictions keep along features, as in `mlsys.models.matrix.Matrix`.
    """

    program: FeatureProgram
    held_out: dict[int, FeatureProgram]
    signs: tuple[int, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Columns that `transform` reads."""
        return [*self.program.inputs, FOLD]

    def transform(self, table: pa.Table, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Compute the features of rows that carry the number of their fold; -1 is outside of the training part.

        `out` and the result are those of `FeatureProgram.transform`.

        Raises
        ------
        FeatureError
            The rows do not say which fold they are of.
        RequestError
            A column is missing or of another type than in training.
        """
        # 1. Read the folds.
        if FOLD not in table.column_names:
            got = "no number of their fold"
            hint = "read it with them; rows to predict are for `FeatureProgram.transform`"
            where = "features: rows to fit a model on"
            raise errors.FeatureError.build(where, got=got, expected=f"the column {FOLD}", hint=hint, field=FOLD)
        fold, rows = np.asarray(table[FOLD]), table.drop_columns([FOLD])
        inside = [number for number in self.held_out if (fold == number).any()]
        if not inside:
            return self.program.transform(rows, out)
        # 2. Rows of a fold get the encodings of the others.
        X = np.empty((table.num_rows, self.program.width), np.float32) if out is None else out
        frame = pl.DataFrame(pl.from_arrow(rows))  # which can filter views of texts
        parts = [(~np.isin(fold, inside), self.program), *((fold == k, self.held_out[k]) for k in inside)]
        for mask, fitted in parts:
            X[mask] = fitted.transform(frame.filter(pl.Series(mask)).to_arrow(compat_level=pl.CompatLevel.newest()))
        return X


def fit(plan: FeaturePlan, statistics: TrainStatistics) -> TrainingProgram:
    """Fit a plan to all folds and, for each fold, to the others; no data is read. Errors are those of `program.fit`."""
    whole = program.fit(plan, statistics.whole())
    encoded = [choice.column for choice in plan.used if choice.operation == Target.name]
    if not encoded:
        return TrainingProgram(whole, {})
    folds = TrainStatistics({number: table.select(encoded) for number, table in statistics.folds.items()})
    return TrainingProgram(whole, {number: _held_out(plan, whole, folds, number) for number in folds.folds})


def _held_out(plan: FeaturePlan, whole: FeatureProgram, statistics: TrainStatistics, fold: int) -> FeatureProgram:
    """The program with target encodings of all folds but one; without others, one number for all rows of the fold."""
    others = [number for number in statistics.folds if number != fold]
    if statistics.folds[fold].task.forecast is not None:
        others = [number for number in others if number < fold - 1 - fold % 2]  # see `mlsys.dataset.Split`
    table = statistics.of(others or [fold])
    operations = list(whole.operations)
    for number, (choice, known) in enumerate(zip(plan.used, whole.operations, strict=True)):
        if isinstance(known, Target):
            params = choice.params if others else {**choice.params, "smoothing": math.inf}
            fitted = fit_operation(replace(choice, params=params), plan.domains, table, dense=False)
            operations[number] = replace(fitted, center=known.center, scale=known.scale)  # type: ignore[call-arg]
    return replace(whole, operations=tuple(operations))
