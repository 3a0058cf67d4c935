"""Tables of pandas, Polars and Arrow: read as columns of Arrow, and answered in the kind that was given."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from mlsys import errors

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

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
    for name in names:
        if names.count(name) > 1:
            got = f"{names.count(name)} columns named '{name}'"
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
    raise errors.RequestError.build(
        "predict: table",
        got=f"{type(frame).__module__}.{type(frame).__qualname__}",
        expected="a DataFrame of pandas or Polars, or an Arrow table",
        hint="records of a request go to Predictor.rows",
    )


def _pandas_column(values: pd.Series[Any]) -> Any:
    """An Arrow array with NaN as null, or a list of values where Arrow knows no common type."""
    try:
        return pa.chunked_array([pa.array(values, from_pandas=True)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        missing = values.isna().tolist()
        plain = [value.item() if isinstance(value, np.generic) else value for value in values.tolist()]
        return [None if is_null else value for is_null, value in zip(missing, plain, strict=True)]
