"""Derived features: their kinds, what they may read, and what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlsys import errors, recipe
from mlsys.features import derive
from mlsys.schema import Kind, Role, Schema

DERIVED = {"speed": "x / 2", "faster": "speed + 1", "late": "x > 3", "unused": "UPPER(c)"}


def test_derived_features_extend_the_schema_by_kind(schema):
    extended = derive.extend(schema, {**DERIVED, "then": "t + INTERVAL '1 day'"})
    kinds = {name: extended[name].kind.value for name in (*DERIVED, "then")}
    assert kinds == {
        "speed": "numeric",
        "faster": "numeric",
        "late": "boolean",
        "unused": "categorical",
        "then": "datetime",
    }
    assert extended["speed"].role is Role.FEATURE


def test_the_program_reads_what_derived_features_are_made_of_and_no_more(rows, schema, fit):
    settings = recipe.FeaturesSection(
        derive=DERIVED, columns={"unused": "drop", **dict.fromkeys([*"xitwdsmfbcl", "speed", "late"], "drop")}
    )
    made = fit(rows, schema, settings)
    assert made.inputs == ["x"]
    assert made.names == ["faster"]
    assert list(made.derive) == ["speed", "faster"]
    assert made.row()({"x": 5.0}).tolist() == [3.5]


@pytest.mark.parametrize(
    ("expressions", "part"),
    [
        ({"x": "i + 1"}, "expected: a new name"),
        ({"z": "y * 2"}, "column 'y', whose role is target"),
        ({"z": "xx * 2"}, "no column 'xx'"),
        ({"z": "AVG(x)"}, "one value a row"),
    ],
)
def test_a_derived_feature_that_cannot_be_is_refused(schema, expressions, part):
    with pytest.raises(errors.RecipeError) as caught:
        derive.extend(schema, expressions)
    assert part in str(caught.value)


def test_a_derived_feature_may_read_the_time_of_the_row_and_nothing_known_afterwards(schema):
    roles = {"t": Role.TIME, "x": Role.AFTER}
    changed = Schema(columns=tuple(c.model_copy(update={"role": roles.get(c.name, c.role)}) for c in schema))
    assert derive.extend(changed, {"z": "EXTRACT(hour FROM t)"})["z"].kind is Kind.NUMERIC
    with pytest.raises(errors.RecipeError, match="role is known_after"):
        derive.extend(changed, {"z": "x + 1"})


def test_a_value_that_a_derived_feature_cannot_take_is_refused_alike_in_rows_and_columns(rows, schema, fit):
    clean = rows.set_column(2, "c", pa.array(["2013-01-01", "2014-02-03"] * (rows.num_rows // 2)))
    made = fit(clean, schema, recipe.FeaturesSection(derive={"when": "STRPTIME(c, '%Y-%m-%d')"}))
    record = {**clean.to_pylist()[0], "c": "soon"}
    for refused in (lambda: made.row()(record), lambda: made.transform(pa.Table.from_pylist([record], clean.schema))):
        with pytest.raises(errors.RequestError, match="field 'when'"):
            refused()
