"""The only way from rows to predictions, which evaluation, batch, online and monitoring all go.

There are two entrances with one result. `Predictor.table` transforms whole columns; `Predictor.rows` runs a handful of
records through plain Python closures in microseconds. `Predictor.predict` is the first one for people: pandas, Polars
or Arrow in, the same kind out. The feature program and the model families promise that both give the same bits.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlsys import errors, models, threads
from mlsys.bundle import Bundle
from mlsys.features.online.lookup import FeatureSource
from mlsys.predict import explanations
from mlsys.predict.coercion import plain
from mlsys.predict.explanations import Explanations
from mlsys.predict.feature_lookup import FeatureLookup
from mlsys.predict.predictions import HALF, DecisionRule, Predictions, decide, probability_of
from mlsys.predict.row_path import RowPath
from mlsys.predict.validation import RequestValidator, refuse, violation
from mlsys.statistics.arrays import numbers_of

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["HALF", "Predictions", "Predictor", "decide", "probability_of"]

FrameT = TypeVar("FrameT", "pd.DataFrame", "pl.DataFrame", "pa.Table")
"""A table of any of the three libraries; what comes back is of the kind that was given."""


def columns_of(frame: Any) -> dict[str, Any]:
    """Columns by name: Arrow arrays, or Python values where a pandas column mixes types.

    Raises
    ------
    RequestError
        It is no table of the three libraries, or two columns have one name.
    """
    kind = _library(frame)
    names = [str(name) for name in (frame.column_names if kind == "pyarrow" else frame.columns)]
    for name, count in Counter(names).items():
        if count > 1:
            got = f"{count} columns named '{name}'"
            raise errors.RequestError.build("predict: columns", got=got, expected="one", field=name)
    if kind == "pandas":
        return {name: _pandas_column(frame.iloc[:, place]) for place, name in enumerate(names)}
    table = frame.to_arrow() if kind == "polars" else frame
    return dict(zip(names, table.columns, strict=True))


def same_kind(frame: Any, table: pa.Table) -> Any:
    """Convert an Arrow table of as many rows to the kind of `frame`; a pandas index is kept.

    >>> same_kind(pa.table({"x": [1, 2]}), pa.table({"y": [3, 4]})).column_names
    ['y']
    """
    kind = _library(frame)
    if kind == "pandas":
        return table.to_pandas().set_axis(frame.index, axis=0)
    if kind == "polars":
        import polars as pl

        return pl.from_arrow(table)
    return table


def _library(frame: Any) -> str:
    if isinstance(frame, pa.Table):
        return "pyarrow"
    for name in ("pandas", "polars"):
        library = sys.modules.get(name)  # whoever has such a table has imported it
        if library is not None and isinstance(frame, library.DataFrame):
            return name
    got = f"{type(frame).__module__}.{type(frame).__qualname__}"
    hint = "records of a request go to Predictor.rows"
    expected = "a DataFrame of pandas or Polars, or an Arrow table"
    raise errors.RequestError.build("predict: table", got=got, expected=expected, hint=hint)


def _pandas_column(values: pd.Series[Any]) -> Any:
    """An Arrow array with NaN as null, or a list of values where no Arrow type holds each of them as it is."""
    import pandas as pd

    missing = values.isna().to_numpy()
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        utc = pa.array(values.dt.tz_convert(None), from_pandas=True)
        return pa.chunked_array([utc.cast(pa.timestamp(utc.type.unit, "UTC"))])
    if not isinstance(values.dtype, pd.PeriodDtype | pd.IntervalDtype) and not _is_of_several_kinds(values[~missing]):
        try:
            return pa.chunked_array([pa.array(values, from_pandas=True)])
        except (pa.ArrowException, OverflowError, UnicodeError):
            pass  # no Arrow type holds all values: the validation takes each of them, or names its row
    pairs = zip(missing.tolist(), values.tolist(), strict=True)
    return [None if is_missing else plain(value) for is_missing, value in pairs]


def _is_of_several_kinds(values: pd.Series[Any]) -> bool:
    """Tell whether objects are of types that Arrow would take for one: days and times, times of no zone and of one."""
    if values.dtype == "category":
        values = values.cat.categories.to_series()
    if values.dtype != object:
        return False
    kinds = {(type(value), getattr(value, "tzinfo", None) is None) for value in values.tolist()}
    return len(kinds) > 1 and not {kind for kind, _ in kinds} <= {int, float}


MAX_CELLS = 1 << 25
"""Features of the rows that are predicted at a time, 128 MB; a row has the same bits in any batch."""

LEAST_PREDICTED, LEAST_EXPLAINED = 1_000, 64
"""Rows for which another thread is started at the least: a pool of threads takes 0.2 ms."""


class Predictor:
    """A loaded bundle, ready to predict; safe to share between threads.

    Parameters
    ----------
    bundle
        The model and everything around it.
    timezone
        Zone of times that come without one; that of training by default.
    source
        Where rows that carry no column of a joined table get them from, as of their time:
        `mlsys.features.online.lookup`. Without one, columns that are not there are null.
    """

    def __init__(self, bundle: Bundle, timezone: str | None = None, source: FeatureSource | None = None) -> None:
        self.bundle = bundle
        self.task = bundle.task
        zone = timezone or bundle.read_options.timezone
        self.exposure = bundle.task.exposure
        self.contract = RequestValidator(bundle.schema, bundle.needed, zone)
        self.lookup: FeatureLookup | None = None
        if source is not None and bundle.views:
            lookup = FeatureLookup(bundle.views, self.contract, source)
            self.lookup = lookup if lookup.views else None
        self._program = bundle.program
        self._model = bundle.model()
        self._decide = DecisionRule(bundle.task, bundle.threshold)

    @cached_property
    def _rows(self) -> RowPath:
        """The way of single rows; what it proves takes some hundredths of a second, and tables do not need it."""
        return RowPath(self._program, self.bundle.family, self._model, self._example())

    def _example(self) -> dict[str, Any] | None:
        """The example of the bundle as a conformed record; None where it does not fit the schema."""
        try:
            return self.contract.records([self.bundle.example])[0]
        except errors.RequestError:
            return None

    def prepare(self) -> None:
        """Make what answers few rows fast; it takes some tenths of a second, which many rows at once are not worth."""
        self.rows([self.bundle.example])
        self._program.prepare_small()

    def paths(self) -> dict[str, str]:
        """Say for each part of a prediction which code computes it for single rows, as `RowPath.paths`."""
        return dict(self._rows.paths)

    def conform(
        self, rows: pa.Table | Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> pa.Table | list[dict[str, Any]]:
        """Convert rows to the schema's types and look joined columns up, or say every reason why they do not fit.

        Rows are a table, whose unknown columns are ignored; columns by name, or records.

        Raises
        ------
        RequestError
            Its `violations` list row, field, got and expected.
        StoreError
            Joined columns cannot be looked up.
        """
        rules = self.lookup or self.contract
        conformed: Any
        if isinstance(rows, pa.Table):
            conformed = rules.table(rows)
        else:
            conformed = rules.columns(rows) if isinstance(rows, Mapping) else rules.records(rows)
        return conformed[0] if isinstance(conformed, tuple) else conformed

    def predict(self, frame: FrameT, *, extra: Literal["refuse", "ignore"] = "refuse") -> FrameT:
        """Predict the rows of a pandas, Polars or Arrow table; a table of the same kind comes back.

        Its columns are ``prediction`` and, of a classifier, ``probability_<class>`` for each class; of several labels
        ``probability_<label>`` and ``prediction_<label>``: those of ``mlsys predict``. The index of a pandas table is
        kept.

        Parameters
        ----------
        frame
            Columns by the names that the model was trained on. One that may be null may be absent.
        extra
            ``ignore`` passes over columns that the model does not know, such as the target. Otherwise they
            are refused, since a misspelt name would be a column of nulls.

        Raises
        ------
        RequestError
            A column is missing or unknown, or a value does not fit; `violations` lists each.
        """
        if extra not in ("refuse", "ignore"):
            raise errors.RequestError.build("predict: extra", got=repr(extra), expected="'refuse' or 'ignore'")
        columns = columns_of(frame)
        if extra == "ignore":
            columns = {name: columns[name] for name in self.bundle.schema.names if name in columns}
        if not columns:
            refuse([violation("all", name, "nothing", "a column of the model") for name in self.contract.order])
        predicted: FrameT = same_kind(frame, self.conformed_table(self.conform(columns)).arrow())
        return predicted

    def table(self, table: pa.Table) -> Predictions:
        """Predict the rows of a table, ignoring columns that the model does not know; errors are those of `conform`."""
        return self.conformed_table(self.conform(table))

    def rows(self, records: Sequence[Mapping[str, Any]]) -> Predictions:
        """Predict a few records of JSON values; an unknown field is a fault. Errors are those of `conform`."""
        return self.conformed_rows(self.conform(records))

    def unseen(self, table: pa.Table) -> dict[str, int]:
        """Count values that training never saw, by column of a conformed table."""
        return {name: count for name, count in self._program.unseen(table).items() if count}

    def rare(self, table: pa.Table) -> dict[str, int]:
        """Count values that training saw too seldom to keep apart, by column of a conformed table."""
        return self._program.rare(table)

    def counts_by_row(self, table: pa.Table) -> tuple[list[int], list[int]]:
        """Count the values of each row of a conformed table that training never saw, and those seen too seldom."""
        return self._program.unseen_by_row(table), self._program.rare_by_row(table)

    def conformed_table(self, table: pa.Table) -> Predictions:
        """Predict a table that has been conformed."""
        small = self._program.transform_small(table)
        if small is not None:
            raw = self._for_exposure(self._predict(small.X), table)
            unseen, rare = small.counts
            by_row = {"unseen_by_row": small.unseen_by_row, "rare_by_row": small.rare_by_row}
            return self._decide(raw, unseen=unseen, rare=rare, **by_row)
        return self._large(table)

    def _large(self, table: pa.Table) -> Predictions:
        """Predict a table part by part."""
        step = max(1, MAX_CELLS // max(1, self._program.width))
        slices = [table.slice(start, step) for start in range(0, max(1, table.num_rows), step)]
        raw, unseen, rare = [], Counter[str](), Counter[str]()
        for each in slices:
            X, (new, seldom) = self._program.transform_counted(each)
            raw.append(self._predict(X))
            unseen.update(new)
            rare.update(seldom)
        whole = np.concatenate(raw) if len(raw) > 1 else raw[0]
        return self._decide(self._for_exposure(whole, table), unseen=dict(unseen), rare=dict(rare))

    def _predict(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict features by the family, many rows in blocks side by side, which have the same bits."""
        blocks = threads.blocks(len(X), LEAST_PREDICTED)
        raw = threads.each(lambda rows: models.predict(self.bundle.family, self._model, X[rows]), blocks)
        return raw[0] if len(raw) == 1 else np.concatenate(raw)

    def _for_exposure(self, raw: NDArray[np.float64], table: pa.Table) -> NDArray[np.float64]:
        """Multiply predictions for a unit of exposure by the exposure of each row."""
        return raw if self.exposure is None else raw * numbers_of(table[self.exposure])

    def explain(self, rows: pa.Table | Sequence[Mapping[str, Any]], predictions: Predictions) -> Explanations:
        """Say what each column contributed to predictions of conformed rows (`mlsys.predict.explanations`).

        Of a model with an exposure that is the margin for a unit of it.

        Raises
        ------
        RequestError
            The model has no exact contributions.
        """
        models.check_explained(self.bundle.family)
        outputs = explanations.explained_outputs(self.task, predictions.probabilities, len(predictions))
        step = max(1, MAX_CELLS // max(1, self._program.width))
        parts: list[Explanations] = []
        for start in range(0, max(1, len(rows)), step):
            X, own = self._features(rows[start : start + step]), outputs[start : start + step]
            parts += threads.each(partial(self._explained, X, own), threads.blocks(len(X), LEAST_EXPLAINED))
        return explanations.joined(parts)

    def _explained(self, X: NDArray[np.float32], outputs: NDArray[np.intp], rows: slice) -> Explanations:
        """Contributions to the outputs of a block of rows."""
        made = models.contributions(self.bundle.family, self._model, X[rows], outputs[rows])
        return explanations.of_columns(self._program, self.task, made, outputs[rows])

    def _features(self, rows: pa.Table | Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Features of conformed rows, ``(n, width)``: of records by the way of single rows, which has the same bits."""
        if isinstance(rows, pa.Table) or not rows:
            return self._program.transform(rows if isinstance(rows, pa.Table) else self.contract.arrow(rows))
        return np.stack([self._rows.program.features(record) for record in rows])

    def conformed_rows(self, records: Sequence[Mapping[str, Any]]) -> Predictions:
        """Predict records that have been conformed, computing the derived features of each once."""
        if not records:
            return self.conformed_table(self.contract.arrow(records))
        rows = self._rows
        completed = [rows.program.complete(record) for record in records]
        raw = rows.predict(completed)
        if self.exposure is not None:
            raw = raw * np.array([record[self.exposure] for record in records], np.float64)
        unusual = [rows.program.unusual(record) for record in completed]
        if not any(unseen or rare for unseen, rare in unusual):  # as nearly always
            none = [0] * len(unusual)
            return self._decide(raw, unseen={}, rare={}, unseen_by_row=none, rare_by_row=none)
        unseen, rare = ([names[place] for names in unusual] for place in (0, 1))
        return self._decide(
            raw,
            unseen=_totals(unseen),
            rare=_totals(rare),
            unseen_by_row=[len(names) for names in unseen],
            rare_by_row=[len(names) for names in rare],
        )


def _totals(names_by_row: Sequence[Sequence[str]]) -> dict[str, int]:
    """Count the names over all rows."""
    return dict(Counter(name for names in names_by_row for name in names)) if any(names_by_row) else {}
