"""Slices: found by kind, judged with intervals, marked only beyond chance."""

import numpy as np
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.evaluate import intervals, slices
from mlsys.evaluate.metrics import METRICS
from mlsys.schema import Column, Kind, Role, Schema

PLAN = intervals.ResamplingPlan(100)


def column(name, kind, role=Role.FEATURE):
    return Column(name=name, type="string", kind=kind, role=role)


def found(values, kind, *, named=False):
    parts, left_out = slices.find(pa.table({"c": pa.chunked_array([values])}), [column("c", kind)], named=named)
    return {part.value: part.rows.tolist() for part in parts}, left_out


def test_each_value_of_a_category_is_a_slice_and_so_are_missing_values():
    assert found(pa.array(["a", "b", None, "a"]), Kind.CATEGORICAL) == ({"a": [0, 3], "b": [1], "missing": [2]}, [])


def test_booleans_are_written_as_in_json():
    assert found(pa.array([True, False, True]), Kind.BOOLEAN)[0] == {"true": [0, 2], "false": [1]}


def test_a_number_is_cut_into_four_ranges_of_as_many_rows():
    parts, _ = found(pa.array([float(v) for v in range(100)] + [None]), Kind.NUMERIC)
    assert {name: len(rows) for name, rows in parts.items()} == {
        "0 to 24": 25,
        "25 to 49": 25,
        "50 to 74": 25,
        "75 to 99": 25,
        "missing": 1,
    }


def test_a_number_with_few_values_is_sliced_by_value():
    assert found(pa.array([1, 2, 2, 4]), Kind.NUMERIC)[0] == {"2": [1, 2], "1": [0], "4": [3]}


def test_integers_beyond_the_digits_of_a_double_are_cut_into_ranges_too():
    parts, _ = found(pa.array([2**53 * number + 1 for number in range(1, 101)] + [None]), Kind.NUMERIC)
    assert sum(map(len, parts.values())) == 101
    assert len(parts["missing"]) == 1


def test_integers_that_are_all_missing_have_no_slices():
    assert found(pa.array([None, None, None], pa.int64()), Kind.NUMERIC) == ({}, ["c"])


def test_a_time_is_cut_into_ranges_that_are_written_as_times():
    days = pa.array(np.arange("2013-10-01", "2013-10-09", dtype="datetime64[D]").astype("datetime64[us]"))
    parts, _ = found(days, Kind.DATETIME)
    assert next(iter(parts)) == "2013-10-01 00:00 to 2013-10-02 00:00"
    assert sum(map(len, parts.values())) == 8


def test_a_column_with_many_values_is_left_out_unless_it_is_named():
    many = pa.array([f"v{i % 30:02d}" for i in range(90)])
    assert found(many, Kind.CATEGORICAL) == ({}, ["c"])
    parts, _ = found(many, Kind.CATEGORICAL, named=True)
    assert len(parts) == 21
    assert len(parts["10 other values"]) == 30


def test_a_column_with_one_value_has_no_slices():
    assert found(pa.array(["a", "a"]), Kind.CATEGORICAL, named=True) == ({}, ["c"])
    assert found(pa.array([None, None], pa.float64()), Kind.NUMERIC) == ({}, ["c"])


SCHEMA = Schema(
    columns=(
        column("origin", Kind.CATEGORICAL), column("note", Kind.TEXT), column("seats", Kind.NUMERIC),
        column("at", Kind.DATETIME, Role.TIME), column("photo", Kind.IMAGE), column("late", Kind.BOOLEAN, Role.TARGET),
    )
)  # fmt: skip


def test_by_itself_it_looks_at_categories_booleans_and_numbers_among_the_features():
    assert [c.name for c in slices.columns(SCHEMA, ())] == ["origin", "seats"]


def test_a_column_named_in_the_recipe_may_have_another_role():
    assert [c.name for c in slices.columns(SCHEMA, ("at", "origin"))] == ["at", "origin"]


def test_a_misspelt_column_is_answered_with_the_nearest():
    with pytest.raises(errors.RecipeError) as raised:
        slices.columns(SCHEMA, ("orgin",))
    assert str(raised.value) == (
        "recipe: evaluate.slices: no column 'orgin' in the table\n  got:      orgin\n"
        "  expected: a column of the table\n"
        "  hint:     did you mean 'origin'?"
    )


@pytest.mark.parametrize("name", ["late", "photo"])
def test_the_target_and_pictures_have_no_slices(name):
    with pytest.raises(
        errors.RecipeError, match="expected: a category, boolean, number, time or text beside the target"
    ):
        slices.columns(SCHEMA, (name,))


def judged(error_of_last, num_rows=2000, metric="rmse", **options):
    """Ten slices of one size, the last with another spread of errors."""
    rng = np.random.default_rng(0)
    y = np.zeros(num_rows)
    predicted = rng.normal(0, 1, num_rows)
    predicted[-num_rows // 10 :] *= error_of_last
    parts = [slices.Slice("c", str(i), rows) for i, rows in enumerate(np.array_split(np.arange(num_rows), 10))]
    return slices.judge(parts, METRICS[metric], y, predicted, PLAN, **{"min_rows": 50} | options)


def test_a_bad_slice_comes_first_and_is_marked():
    rows = judged(3.0)["rows"]
    assert rows[0]["slice"] == "9"
    assert rows[0]["worse"]
    assert rows[0]["low"] < rows[0]["value"] < rows[0]["high"]
    assert [row["value"] for row in rows] == sorted((row["value"] for row in rows), reverse=True)


def test_slices_of_one_quality_are_not_marked():
    assert not any(row["worse"] for row in judged(1.0)["rows"])


def test_a_good_slice_is_not_marked():
    assert [row["slice"] for row in judged(0.1)["rows"] if row["worse"]] == []


def test_a_column_that_predicts_well_marks_none_of_its_slices():
    rng = np.random.default_rng(0)
    strong = rng.integers(0, 4, 8000)
    p = np.clip(strong / 4 + rng.random(8000) / 4, 0, 1)
    y = (rng.random(8000) < p).astype(int)
    parts = [slices.Slice("strong", str(i), np.flatnonzero(strong == i)) for i in (1, 2)]
    result = slices.judge(parts, METRICS["roc_auc"], y, p, PLAN, min_rows=50)
    assert all(row["high"] < result["overall"] for row in result["rows"])  # within a slice, ranking is harder
    assert not any(row["worse"] for row in result["rows"])


def test_a_slice_without_others_to_compare_with_is_not_marked():
    y, predicted = np.zeros(200), np.repeat([0.1, 9.0], 100)
    row = slices.judge(
        [slices.Slice("c", "bad", np.arange(100, 200))], METRICS["rmse"], y, predicted, PLAN, min_rows=50
    )
    assert not row["rows"][0]["worse"]
    assert np.isnan(row["rows"][0]["peers"])


def test_small_slices_are_counted_and_not_judged():
    result = judged(3.0, min_rows=201)
    assert (result["num_slices"], result["num_too_small"], result["rows"]) == (0, 10, [])


def test_a_slice_without_a_value_comes_last():
    y = np.array([0, 1] * 50 + [1] * 100)
    score = np.linspace(0, 1, 200)
    parts = [slices.Slice("c", "one class", np.arange(100, 200)), slices.Slice("c", "both", np.arange(100))]
    rows = slices.judge(parts, METRICS["roc_auc"], y, score, PLAN, min_rows=10)["rows"]
    assert [row["slice"] for row in rows] == ["both", "one class"]
    assert np.isnan(rows[1]["value"])
    assert not rows[1]["worse"]
