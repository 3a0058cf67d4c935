import json

import numpy as np
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.schema import FOLD, Column, Kind, Role, Schema, Task
from mlsys.statistics import TableStatistics, TrainStatistics, encode_target

BINARY = Task(kind="binary", target="y", classes=("no", "yes"))
REGRESSION = Task(kind="regression", target="y")


def schema(target_type="string"):
    return Schema(
        columns=(
            Column(name="x", type="double", kind=Kind.NUMERIC),
            Column(name="c", type="string", kind=Kind.CATEGORICAL),
            Column(name="key", type="int64", kind=Kind.NUMERIC, role=Role.ID),
            Column(name="y", type=target_type, kind=Kind.CATEGORICAL, role=Role.TARGET),
        )
    )


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "x": pa.array(rng.normal(size=n), mask=rng.random(n) < 0.1),
            "c": rng.choice(["a", "b", "c"], n),
            "key": np.arange(n),
            "y": pa.array(rng.choice(["no", "yes"], n), mask=rng.random(n) < 0.05),
            FOLD: pa.array(rng.integers(0, 4, n), pa.int8()),
        }
    )


def as_text(statistics):
    return json.dumps(statistics.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([False, True, None], (False, True)),
        ([0, 1, None], (0, 1)),
        ([0.0, 1.0, None], (0, 1)),
        (["no", "yes", None], ("no", "yes")),
    ],
)
def test_classes_become_their_index(values, classes):
    task = Task(kind="binary", target="y", classes=classes)
    assert encode_target(pa.chunked_array([values]), task).tolist() == [0, 1, -1]


def test_a_value_that_is_no_class_counts_as_none():
    assert encode_target(pa.array(["no", "maybe"]).dictionary_encode(), BINARY).tolist() == [0, -1]


def test_a_numeric_target_keeps_its_value():
    for values in (pa.array([1, None, 3]), pa.chunked_array([[1, None], [3]])):
        assert encode_target(values, REGRESSION).tolist() == [1.0, pytest.approx(np.nan, nan_ok=True), 3.0]


def test_features_and_target_are_learned_and_nothing_else():
    statistics = TableStatistics.empty(schema(), BINARY)
    table = rows(500)
    statistics.update(table)
    assert list(statistics.columns) == ["x", "c", "y"]
    assert list(statistics.features) == ["x", "c"]
    assert statistics.num_rows == 500
    labels = table["y"].to_pylist()
    assert statistics.num_labelled == 500 - labels.count(None)
    assert statistics.class_counts() == {"no": labels.count("no"), "yes": labels.count("yes")}


def test_requests_without_a_target_can_be_counted():
    statistics = TableStatistics.empty(schema(), BINARY)
    statistics.update(rows(50).drop_columns(["y"]))
    assert (statistics.num_rows, statistics.num_labelled) == (50, 0)


def test_all_folds_but_one_are_what_a_fit_on_those_rows_sees():
    table = rows(2_000)
    train = TrainStatistics.of_table(table, schema(), BINARY)
    assert list(train.folds) == [0, 1, 2, 3]
    for left_out in range(4):
        others = TableStatistics.empty(schema(), BINARY)
        others.update(table.filter(pa.array(np.asarray(table[FOLD]) != left_out)))
        merged = train.of(fold for fold in range(4) if fold != left_out)
        for name, column in merged.columns.items():
            expected = others.columns[name]
            assert (column.num_rows, column.num_nulls) == (expected.num_rows, expected.num_nulls)
            assert (column.target == expected.target).all()
        assert merged.columns["c"].counts() == others.columns["c"].counts()
        assert merged.columns["x"].result().mean == pytest.approx(others.columns["x"].result().mean, rel=1e-10)
        assert merged.columns["x"].result().stddev == pytest.approx(others.columns["x"].result().stddev, rel=1e-10)
        x = table["x"].filter(pa.array(np.asarray(table[FOLD]) != left_out)).drop_null().to_numpy()
        assert abs(np.mean(x <= merged.columns["x"].result().median) - 0.5) < 0.0086


def test_a_fold_that_does_not_exist_is_an_error():
    train = TrainStatistics.of_table(rows(100), schema(), BINARY)
    with pytest.raises(errors.FeatureError, match=r"got:      \[7\]"):
        train.of([0, 7])


def test_the_statistics_of_the_features_are_gathered_once():
    """A loop over thousands of columns asks for them in each turn."""
    statistics = TableStatistics.empty(schema(), BINARY)
    first = statistics.features
    statistics.update(rows(100))
    assert statistics.features is first
    assert list(first) == [name for name in statistics.columns if name != "y"]
    assert all(first[name] is statistics.columns[name] for name in first)
