"""Tables of one feature `a` and a target `y`, and what a fitted program makes of other values of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mlsys.schema import Column, Kind, Role, Schema

Y = Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET)
NAN = float("nan")


def one_column(kind, values, type_=None):
    """Table and schema of one feature and a target that counts the rows."""
    column = pa.array(values, type_)
    schema = Schema(columns=(Column(name="a", type=str(column.type), kind=kind), Y))
    return pa.table({"a": column, "y": pa.array(np.arange(float(len(values))))}), schema


def transformed(program, values, type_):
    """Features of the values."""
    return program.transform(pa.table({"a": pa.array(values, type_)}))
