from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from mlsys import errors, recipe
from mlsys.features import plan, program
from mlsys.schema import Column, Kind, Role, Schema

Y = Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET)


def one(kind, values, type_=None):
    """Schema and table of one feature `a` and a target."""
    column = pa.array(values, type_)
    schema = Schema(columns=(Column(name="a", type=str(column.type), kind=kind), Y))
    return schema, pa.table({"a": column, "y": pa.array(np.arange(float(len(values))))})


def times(days):
    return [dt.datetime(2013, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=day) for day in days]


STAMP = pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    ("kind", "values", "type_", "codes", "dense", "reason"),
    [
        (Kind.NUMERIC, [1, 2, 3, 4], None, "numeric", "numeric", "a number"),
        (Kind.NUMERIC, [7, 7, 7, 7], None, "drop", "drop", "the same value in all training rows"),
        (Kind.NUMERIC, [None, None, None], pa.float64(), "drop", "drop", "no value in any training row"),
        (Kind.NUMERIC, [float("nan"), float("inf"), None], None, "drop", "drop", "no value in any training row"),
        (Kind.NUMERIC, [7, None, 7, 7], None, "numeric", "drop", "number"),
        (Kind.CATEGORICAL, ["a", "b"] * 9, None, "codes", "onehot", "2 categories"),
        (
            Kind.CATEGORICAL,
            [f"r{i}" for i in range(40)],
            None,
            "drop",
            "drop",
            "40 different values in 40 training rows",
        ),
        (Kind.CATEGORICAL, [f"r{i}" for i in range(300)] * 3, None, "target", "target", "300 categories, more than"),
        (Kind.CATEGORICAL, [f"r{i}" for i in range(200)] * 3, None, "codes", "target", "200 categories"),
        (Kind.BOOLEAN, [True, False, None], None, "boolean", "boolean", "true and false as 1 and 0"),
        (Kind.DATETIME, times(range(0, 400, 9)), STAMP, "datetime", "datetime", "day of the year"),
        (Kind.DATETIME, times(range(9)), STAMP, "datetime", "datetime", "hour of the day, day of the week as"),
        (Kind.DATETIME, times([0, 0.3, 0.7]), STAMP, "drop", "drop", "less than one cycle"),
        (Kind.TEXT, ["so it goes", "x"] * 5, None, "text", "text", "length, words, capitals, digits and signs"),
        (Kind.LIST, [[1.0], [2.0]], pa.list_(pa.float32()), "list", "list", "its 1 elements: all lists have so many"),
        (Kind.LIST, [[1.0], [2.0, 3.0]], pa.list_(pa.int8()), "list", "list", "length, mean, min, max"),
        (Kind.LIST, [["a"], ["b"]], pa.list_(pa.string()), "drop", "drop", "no operation reads values of type list"),
    ],
)
def test_the_choice_of_each_kind_and_its_reason(scan, kind, values, type_, codes, dense, reason):
    schema, table = one(kind, values, type_)
    statistics = scan(table, schema)
    for encoding, expected in (("codes", codes), ("dense", dense)):
        choice, *_ = plan.choose(schema, statistics, encoding=encoding).choices
        assert choice.operation == expected
        assert reason in choice.reason


def test_many_categories_are_numbered_beside_their_means_for_trees_alone(scan):
    schema, table = one(Kind.CATEGORICAL, [f"r{i}" for i in range(300)] * 3)
    for encoding, operations in (("codes", ["target", "keys"]), ("dense", ["target"])):
        chosen = plan.choose(schema, scan(table, schema), encoding=encoding)
        assert [choice.operation for choice in chosen.choices] == operations
    made = program.fit(plan.choose(schema, scan(table, schema)), scan(table, schema))
    assert (made.names[1], made.types[1]) == ("a: key", "k")
    column = [*[f"r{i}" for i in range(300)], "r0", "never", None]
    keys = made.transform(pa.table({"a": column}))[:, 1]
    assert sorted(keys[:300].tolist()) == list(range(1, 301))
    assert (keys[300], keys[301], np.isnan(keys[302])) == (keys[0], 0.0, True)


def test_a_part_of_a_time_is_taken_when_training_has_seen_its_whole_cycle(scan):
    schema, table = one(Kind.DATETIME, times(range(0, 243, 3)), STAMP)  # January to August
    (choice,) = plan.choose(schema, scan(table, schema)).choices
    assert choice.params["parts"] == ["hour", "weekday"]


def test_the_recipe_overrides_the_choice(rows, schema, scan):
    wanted = recipe.FeaturesSection(columns={"m": "onehot", "i": "codes", "x": "drop", "b": "codes"})
    chosen = {choice.column: choice for choice in plan.choose(schema, scan(rows), wanted).choices}
    assert {name: chosen[name].operation for name in wanted.columns} == {
        "m": "onehot",
        "i": "codes",
        "x": "drop",
        "b": "codes",
    }
    assert chosen["m"].reason == "asked for in the recipe"
    dense = {choice.column: choice.operation for choice in plan.choose(schema, scan(rows), wanted, "dense").choices}
    assert dense["i"] == "onehot"


@pytest.mark.parametrize(
    ("columns", "error", "part"),
    [
        ({"zz": "numeric"}, errors.RecipeError, "known: b, c, d, f, i, l, m, s, t, w, x"),
        ({"y": "numeric"}, errors.RecipeError, "role target"),
        (
            {"c": "numeric"},
            errors.FeatureError,
            "expected: codes or keys or onehot or frequency or target or hash or text or tfidf or terms or drop",
        ),
        ({"x": "datetime"}, errors.FeatureError, "features.columns: {x: numeric}"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(rows, schema, scan, columns, error, part):
    with pytest.raises(error) as caught:
        plan.choose(schema, scan(rows), recipe.FeaturesSection(columns=columns))
    assert part in str(caught.value)


def test_options_of_the_recipe_reach_the_fit_and_the_others_are_chosen(rows, schema, scan):
    wanted = recipe.FeaturesSection(
        columns={"c": {"operation": "codes", "max_categories": 2}, "x": ["numeric", "codes"]}
    )
    choices = plan.choose(schema, scan(rows), wanted).choices
    (carrier,) = (choice for choice in choices if choice.column == "c")
    assert carrier.params == {"max_categories": 2, "min_rows": 2}  # 150 rows
    assert [choice.operation for choice in choices if choice.column == "x"] == ["numeric", "codes"]


def test_a_linear_model_is_given_every_value_and_the_reason_says_so(rows, schema, scan):
    columns = {
        "x": {"operation": "numeric", "impute": "none", "log": True},
        "t": {"operation": "datetime", "cyclic": False},
    }
    chosen = {
        c.column: c for c in plan.choose(schema, scan(rows), recipe.FeaturesSection(columns=columns), "dense").choices
    }
    assert chosen["x"].params == {"log": True}
    assert "without impute: a linear model needs every value there" in chosen["x"].reason
    assert "without cyclic" in chosen["t"].reason


def test_a_long_tail_is_taken_as_a_logarithm_by_linear_models_alone(scan):
    rng = np.random.default_rng(0)
    for values, log in (
        (rng.lognormal(5, 1.5, 4_000), True),
        (rng.normal(50, 3, 4_000), False),
        (rng.exponential(1e-3, 4_000), False),  # so small that the logarithm is the number itself
        (-rng.lognormal(5, 1.5, 4_000), False),
    ):
        schema, table = one(Kind.NUMERIC, values)
        statistics = scan(table, schema)
        (dense,) = plan.choose(schema, statistics, encoding="dense").choices
        (codes,) = plan.choose(schema, statistics, encoding="codes").choices
        assert dense.params == ({"log": True} if log else {})
        assert ("a number with a long tail, skewness" in dense.reason) is log
        assert codes.params == {}


TIMES = Schema(
    columns=(
        Column(name="at", type=str(STAMP), kind=Kind.DATETIME, role=Role.TIME),
        Column(name="hired", type="date32[day]", kind=Kind.DATETIME),
        Column(name="paid", type=str(STAMP), kind=Kind.DATETIME, role=Role.AFTER),
        Y,
    )
)


def hired(days):
    stamps = pa.array(times(range(len(days))), STAMP)
    dates = pa.array([time.date() for time in times(days)])
    return pa.table({"at": stamps, "hired": dates, "paid": stamps, "y": [1.0] * len(days)})


def test_a_time_beside_the_time_of_the_row_is_measured_from_it(scan):
    table = hired([0, -400, 3, 900] * 3)
    chosen = plan.choose(TIMES, scan(table, TIMES))
    assert [(choice.column, choice.operation) for choice in chosen.choices] == [
        ("hired", "datetime"),
        ("hired", "elapsed"),
    ]
    assert chosen.choices[1].reason == "days from at, the time of the row: that means the same in every year"
    assert chosen.columns == {"at": "timestamp[us, tz=UTC]", "hired": "date32[day]"}
    made = program.fit(chosen, scan(table, TIMES))
    assert made.names[-1] == "hired: days since at"
    assert made.row()({"at": times([10])[0], "hired": dt.date(2013, 1, 1)})[-1] == -10
    short = hired([0, 1, 2, 3])  # no whole week: no part of the time, but still the time since
    assert [choice.operation for choice in plan.choose(TIMES, scan(short, TIMES)).choices] == ["elapsed"]


@pytest.mark.parametrize(
    ("since", "hint"),
    [("att", "did you mean 'at'?"), ("paid", "known: at"), ("hired", "known: at"), ("y", "known: at")],
)
def test_a_time_is_measured_from_another_time_that_a_request_has(scan, since, hint):
    wanted = recipe.FeaturesSection(columns={"hired": {"operation": "elapsed", "since": since}})
    with pytest.raises(errors.RecipeError) as caught:
        plan.choose(TIMES, scan(hired([0, 1, 2]), TIMES), wanted)
    assert hint in str(caught.value)


def test_many_phrases_are_read_besides(scan):
    words = ["police", "senior", "office", "social", "worker", "manager", "school", "nurse"]
    phrases = [f"{words[i % 8]} {words[i // 8 % 8]} {words[i // 64]}" for i in range(400)]
    schema, table = one(Kind.CATEGORICAL, phrases * 3)
    means, keys, read = plan.choose(schema, scan(table, schema)).choices
    assert (means.operation, keys.operation, read.operation) == ("target", "keys", "tfidf")
    assert "400 categories, more than 254: phrases, which say what is alike" in read.reason
    made = program.fit(plan.choose(schema, scan(table, schema)), scan(table, schema))
    X = made.transform(pa.table({"a": ["police senior office", "police senior officer", "nurse nurse nurse", None]}))
    near, far = np.linalg.norm(X[0, 2:] - X[1, 2:]), np.linalg.norm(X[0, 2:] - X[2, 2:])
    assert near < far


def test_a_table_without_a_useful_column_is_refused_with_the_reasons(scan):
    schema, table = one(Kind.NUMERIC, [7, 7, 7])
    with pytest.raises(errors.FeatureError, match="a: the same value in all training rows"):
        program.fit(plan.choose(schema, scan(table, schema)), scan(table, schema))


def test_the_target_and_columns_known_only_afterwards_never_are_features(rows, schema, fit):
    after = Schema(columns=tuple(c.model_copy(update={"role": Role.AFTER}) if c.name == "x" else c for c in schema))
    made = fit(rows, after)
    assert not {"x", "y"} & {*made.inputs, *made.names}


def test_a_program_of_a_plan_fits_on_folds_that_lack_values(rows, schema, scan):
    empty = scan(rows.slice(0, 0))
    for encoding in ("codes", "dense"):
        made = program.fit(plan.choose(schema, scan(rows), encoding=encoding), empty)
        X = made.transform(rows)
        assert np.isfinite(X).all() if encoding == "dense" else X.shape == (rows.num_rows, made.width)
