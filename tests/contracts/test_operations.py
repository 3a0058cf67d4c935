"""The contract of feature operations, which every operation of the registry inherits.

For values of every kind (null, unknown, extreme), a fitted operation gives the same bits in
both executors, as many features as it names, and the same again after JSON and pickle; values
of another type are refused alike. An operation that has no case here fails the first test.
"""

from __future__ import annotations

import datetime as dt
import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlsys import errors, recipe
from mlsys.features import plan, program
from mlsys.features.operations.operation_registry import FITTED, OPERATIONS
from mlsys.features.program import FeatureProgram
from mlsys.recipe.columns import OPERATIONS as RECIPE_OPERATIONS
from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind
from mlsys.statistics import TableStatistics
from pictures import encoded, noise

START = dt.datetime(2012, 1, 1, tzinfo=dt.UTC)
UTC, LISTS = pa.timestamp("us", "UTC"), pa.list_(pa.float64())
PHOTOS = [encoded(noise(16 + n, 20, "RGB", seed=n)) for n in range(5)]
WORDS = ["police officer", "senior nurse", "nurse", "", "ü", "日本 語", "officer nurse " * 50]

numbers = st.none() | st.floats() | st.sampled_from([-0.0, 3.4028234663852886e38, 3.5e38, 1e-46, 12.5, 3.0])
texts = st.none() | st.text(max_size=20) | st.sampled_from(WORDS)
times = st.none() | st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)).map(  # noqa: DTZ001
    lambda time: time.replace(tzinfo=dt.UTC)
)
VALUES = {
    "number": (Kind.NUMERIC, pa.float64(), [None if i % 7 == 0 else (i * 37 % 101) / 8 for i in range(120)], numbers),
    "category": (Kind.CATEGORICAL, pa.string(), [WORDS[i % 4] if i % 9 else None for i in range(120)], texts),
    "digit": (Kind.CATEGORICAL, pa.int64(), [i % 5 for i in range(120)], st.none() | st.integers(-(2**63), 2**63 - 1)),
    "truth": (
        Kind.BOOLEAN,
        pa.bool_(),
        [None if i % 5 == 0 else i % 2 == 0 for i in range(120)],
        st.none() | st.booleans(),
    ),
    "time": (Kind.DATETIME, UTC, [None, *(START + dt.timedelta(hours=101 * i) for i in range(119))], times),
    "list": (
        Kind.LIST,
        LISTS,
        [None, *([i / 7, None, -1.5] for i in range(119))],
        st.none() | st.lists(numbers, max_size=5),
    ),
    "text": (Kind.TEXT, pa.string(), [WORDS[i % 4] + f" {i % 30}" for i in range(120)], texts),
    "photo": (Kind.IMAGE, pa.binary(), [None, *PHOTOS] * 20, st.sampled_from([None, *PHOTOS])),
}
"""Name → kind of the column, its type, the training rows, and values of requests."""

CASES = [
    ("numeric", "number", {}),
    ("numeric", "number", {"log": True, "scale": "robust", "impute": -3, "indicator": True}),
    ("numeric", "number", {"bins": 5}),
    ("codes", "category", {}),
    ("codes", "digit", {"min_rows": 30, "max_categories": 3}),
    ("keys", "category", {}),
    ("keys", "digit", {"min_rows": 30}),
    ("onehot", "category", {}),
    ("onehot", "truth", {}),
    ("frequency", "digit", {}),
    ("target", "category", {"smoothing": 3.0, "min_rows": 40}),
    ("target", "digit", {}),
    ("hash", "category", {"buckets": 7}),
    ("hash", "digit", {"buckets": 300}),
    ("boolean", "truth", {}),
    ("datetime", "time", {}),
    ("datetime", "time", {"parts": ["hour"], "cyclic": True}),
    ("elapsed", "time", {"since": "other"}),
    ("trend", "time", {}),
    ("list", "list", {"elements": 2}),
    ("text", "text", {}),
    ("tfidf", "text", {"components": 4}),
    ("terms", "text", {"terms": 40}),
    ("image", "photo", {}),
    ("image", "photo", {"size": 16, "pixels": 4, "colour": False}),
    ("pixels", "photo", {"size": 8}),
]
WRONG = {
    "number": ["1.5", True],
    "category": [1, True],
    "digit": ["1", False],
    "truth": [1, "true"],
    "time": ["2013-01-01", START.replace(tzinfo=None), START.date()],
    "list": [1.0, ["1"], [True]],
    "text": [1.0, b"a"],
    "photo": ["a.png", 1],
}


def fitted(operation, values, options, encoding):
    """The program of one operation on the column `a`."""
    kind, type_, rows, _ = VALUES[values]
    columns = [Column(name="a", type=str(type_), kind=kind)]
    data = {"a": pa.array(rows, type_)}
    if "since" in options:
        columns.append(Column(name=options["since"], type=str(type_), kind=kind))
        data[options["since"]] = pa.array(rows[::-1], type_)
    schema = Schema(columns=(*columns, Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET)))
    table = pa.table({**data, "y": np.arange(float(len(rows)))})
    statistics = TableStatistics.empty(schema, Task(kind=TaskKind.REGRESSION, target="y"))
    statistics.update(table)
    line = {"a": {"operation": operation, **options}, **({options["since"]: "drop"} if "since" in options else {})}
    wanted = recipe.FeaturesSection.model_validate({"columns": line})
    return program.fit(plan.choose(schema, statistics, wanted, encoding, "America/New_York"), statistics)


PROGRAMS = {
    (encoding, number): fitted(*case, encoding) for encoding in ("codes", "dense") for number, case in enumerate(CASES)
}
every = pytest.mark.parametrize(
    ("encoding", "number"),
    PROGRAMS,
    ids=[f"{encoding}-{CASES[number][0]}-{number}" for encoding, number in PROGRAMS],
)


def table_of(made, values, type_):
    return pa.table({name: pa.array(values[:: -1 if name != "a" else 1], type_) for name in made.inputs})


def bits(X):
    return np.ascontiguousarray(X).view(np.uint32).tolist()


def test_every_operation_and_every_fitted_class_has_a_case():
    assert {operation for operation, *_ in CASES} == set(OPERATIONS) == set(RECIPE_OPERATIONS) - {"drop"}
    assert {spec.options for spec in OPERATIONS.values()} < set(RECIPE_OPERATIONS.values())
    classes = {type(operation) for made in PROGRAMS.values() for operation in made.operations}
    assert classes == set(FITTED.values()) - {FITTED["encoder"]}  # somebody's own code: see `test_encoders`


@every
def test_the_class_is_one_that_the_operation_declares_and_its_stored_tag_leads_back_to_it(encoding, number):
    (operation,) = PROGRAMS[encoding, number].operations
    asked = OPERATIONS[CASES[number][0]]
    spec = OPERATIONS[asked.dense_operation] if encoding == "dense" and asked.dense_operation else asked
    assert type(operation) in spec.fitted
    assert FITTED[operation.to_json()["operation"]] is type(operation)


@every
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_and_columns_give_the_same_bits(encoding, number, data):
    made, (_, values, _) = PROGRAMS[encoding, number], CASES[number]
    _, type_, _, strategy = VALUES[values]
    table = table_of(made, data.draw(st.lists(strategy, min_size=1, max_size=8)), type_)
    X, row = made.transform(table), made.row()
    assert bits(X) == [bits(row(record)) for record in table.to_pylist()]
    assert not np.isinf(X).any()
    assert encoding == "codes" or np.isfinite(X).all()


@every
def test_it_has_as_many_features_as_it_names_and_types(encoding, number):
    made, (_, values, _) = PROGRAMS[encoding, number], CASES[number]
    _, type_, rows, _ = VALUES[values]
    (operation,) = made.operations
    X = made.transform(table_of(made, rows, type_))
    assert len(operation.outputs) == len(operation.types) == made.width == X.shape[1]
    assert set(operation.types) <= {"q", "c", "k", "m", "e", "t", "P", "p"}
    out = np.full(made.width + 2, 7.0, np.float32)
    operation.writer(1)(None if len(operation.reads) == 1 else (None, None), out)
    assert out[[0, -1]].tolist() == [7.0, 7.0]


@every
def test_json_and_pickle_bring_it_back_with_the_same_bits(encoding, number):
    made, (_, values, _) = PROGRAMS[encoding, number], CASES[number]
    _, type_, rows, _ = VALUES[values]
    table = table_of(made, rows, type_)
    for back in (
        FeatureProgram.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))),
        pickle.loads(pickle.dumps(made)),
    ):
        assert back == made
        assert back.digest == made.digest
        assert bits(back.transform(table)) == bits(made.transform(table))
    assert pickle.loads(pickle.dumps(made.operations)) == made.operations


@every
def test_a_value_of_another_type_is_refused_alike_in_rows_and_columns(encoding, number):
    made, (_, values, _) = PROGRAMS[encoding, number], CASES[number]
    _, type_, rows, _ = VALUES[values]
    right = table_of(made, rows[-1:], type_)
    for wrong in WRONG[values]:
        table = right.set_column(right.schema.get_field_index("a"), "a", pa.array([wrong]))
        for refused in (
            lambda table=table: made.transform(table),
            lambda table=table: made.row()(table.to_pylist()[0]),
        ):
            with pytest.raises(errors.RequestError) as caught:
                refused()
            assert caught.value.violations[0]["field"] == "a"
