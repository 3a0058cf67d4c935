"""Which numbered columns are coordinates of one vector, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mlsys import recipe
from mlsys.features import plan, program
from mlsys.schema import Column, Kind, Role, Schema

Y = Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET)


def table(columns):
    schema = Schema(columns=(*(Column(name=name, type="double", kind=Kind.NUMERIC) for name in columns), Y))
    rows = len(next(iter(columns.values())))
    return schema, pa.table({**columns, "y": np.arange(float(rows))})


def numbered(sizes, prefix="p", rows=50):
    rng = np.random.default_rng(0)
    return {f"{prefix}{at}": size * rng.normal(size=rows) + 3 for at, size in enumerate(sizes)}


def coordinates(columns, scan, features=None, encoding="dense"):
    schema, rows = table(columns)
    chosen = plan.choose(schema, scan(rows, schema), features, encoding)
    assert chosen.num_coordinates == sum("a vector" in choice.reason for choice in chosen.used)
    return chosen.num_coordinates


def test_they_are_divided_by_the_root_of_their_mean_variance_and_marked_as_coordinates(scan):
    columns = numbered([1.0, 2.0] * 16)
    schema, rows = table(columns)
    statistics = scan(rows, schema)
    fitted = program.fit(plan.choose(schema, statistics, None, "dense"), statistics)
    X = np.stack(list(columns.values()), axis=1)
    common = np.sqrt(X.var(axis=0, ddof=1).mean())
    np.testing.assert_allclose(fitted.transform(rows), (X - X.mean(axis=0)) / common, rtol=1e-5, atol=1e-5)
    assert fitted.types == ["e"] * 32
    again = program.FeatureProgram.from_json(fitted.to_json())
    assert again.types == fitted.types
    assert again.transform(rows).tobytes() == fitted.transform(rows).tobytes()


def test_a_missing_coordinate_is_the_median_and_its_mark_is_a_quantity(scan):
    columns = numbered([1.0] * 32)
    columns["p5"] = np.where(np.arange(50) < 5, np.nan, columns["p5"])
    schema, rows = table(columns)
    statistics = scan(rows, schema)
    fitted = program.fit(plan.choose(schema, statistics, None, "dense"), statistics)
    assert fitted.types == ["e"] * 6 + ["q"] + ["e"] * 26


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (numbered([1.0] * 32), 32),
        (numbered([1.0] * 31), 0),
        ({**numbered([1.0] * 20, "a"), **numbered([1.0] * 20, "b")}, 0),
        (numbered([0.0, 0.0] + [1.0] * 32), 32),
        (numbered([10.0] * 1 + [1.0] * 31), 32),
        (numbered([1000.0] * 1 + [1.0] * 31), 0),
        ({f"{name}x": values for name, values in numbered([1.0] * 40).items()}, 0),
        ({**numbered([1.0] * 32), "age": np.arange(50.0)}, 32),
    ],
    ids=["enough", "too few", "two prefixes", "constants", "one unit", "units differ", "no number", "beside another"],
)
def test_enough_columns_of_one_prefix_and_one_unit_are(scan, columns, expected):
    assert coordinates(columns, scan) == expected


def test_trees_take_them_as_they_are(scan):
    assert coordinates(numbered([1.0] * 40), scan, encoding="codes") == 0


def test_a_column_that_the_recipe_treats_is_none(scan):
    asked = recipe.FeaturesSection(columns={"p3": "numeric"})
    assert coordinates(numbered([1.0] * 40), scan, asked) == 39


def test_texts_pictures_and_lists_count_as_coordinates(scan):
    schema = Schema(columns=(Column(name="l", type="list<item: double>", kind=Kind.LIST), Y))
    rows = pa.table({"l": [[float(i), 2.0 * i, 1.0] for i in range(9)], "y": np.arange(9.0)})
    assert plan.choose(schema, scan(rows, schema), None, "dense").num_coordinates == 3
    schema = Schema(columns=(Column(name="s", type="string", kind=Kind.TEXT), Y))
    rows = pa.table({"s": [f"the {i} of {i % 7}" for i in range(80)], "y": np.arange(80.0)})
    assert plan.choose(schema, scan(rows, schema), None, "dense").num_coordinates == 10
