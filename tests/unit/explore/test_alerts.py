import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest

from mlsys import expressions
from mlsys.explore import alerts
from mlsys.schema import Column, Kind, Role, Schema, Task
from mlsys.statistics import TableStatistics
from mlsys.statistics.pairwise import PairLayout, PairwiseStatistics
from mlsys.statistics.table import encode_columns
from pictures import encoded, noise

N = 1_000
RNG = np.random.default_rng(0)
LABELS = np.arange(N) % 2


def found(values=None, kind=Kind.NUMERIC, *, y=LABELS, task=None, num_duplicates=0):
    values = RNG.normal(size=len(y)) if values is None else values
    table = pa.table({"x": values, "y": y})
    task = task or Task(kind="binary", target="y", classes=(0, 1))
    columns = (
        Column(name="x", type=str(table["x"].type), kind=kind),
        Column(name="y", type=str(table["y"].type), kind=Kind.NUMERIC, role=Role.TARGET),
    )
    statistics = TableStatistics.empty(Schema(columns=columns), task)
    statistics.update(table)
    return alerts.find(statistics, statistics.schema, task, num_duplicates=num_duplicates)


COLUMNS = {
    "all_null": (pa.nulls(N, pa.float64()), Kind.NUMERIC, "no value in any training row"),
    "constant": (np.full(N, 7), Kind.NUMERIC, "7.0 in all training rows"),
    "mostly_null": (pa.array(RNG.normal(size=N), mask=np.arange(N) < 600), Kind.NUMERIC, "null in 60.0% of the rows"),
    "one_value": (
        pa.array(["yes"] * N, mask=np.arange(N) < 400),
        Kind.CATEGORICAL,
        "'yes' in 600 rows, null in the others",
    ),
    "id_like": (
        [f"k{i}" for i in range(N)],
        Kind.CATEGORICAL,
        "1,000 different values in 1,000 rows: looks like an identifier",
    ),
    "high_cardinality": ([f"k{i % 400}" for i in range(N)], Kind.CATEGORICAL, "400 categories"),
    "too_large": ([1e300, *range(999)], Kind.NUMERIC, "numbers as large as 1e+300; models take them up to 3.403e+38"),
    "too_small": (
        [*RNG.uniform(-1e-40, 1e-40, N - 1).tolist(), 2e-40],
        Kind.NUMERIC,
        "numbers no larger than 2.000e-40; models take them from 1.175e-38 on",
    ),
    "never": (
        [dt.datetime(9999 if at % 10 == 0 else 2020, 1, 1 + at % 28, tzinfo=dt.UTC) for at in range(N)],
        Kind.DATETIME,
        "10.0% of the times are after 2099, such as those that stand for never",
    ),
    "missing_marker": (
        ["?"] * 40 + [" NA "] * 20 + ["a", "b"] * 470,
        Kind.CATEGORICAL,
        "'?' in 40 rows, ' NA ' in 20 rows: marks of missing values",
    ),
    "nearly_constant": (["a"] * 995 + ["b"] * 5, Kind.CATEGORICAL, "'a' in 99.5% of the values"),
    "infinite": ([np.inf] * 3 + RNG.normal(size=N - 3).tolist(), Kind.NUMERIC, "infinite in 3 of 1,000 rows"),
    "nan": ([np.nan] * 2 + RNG.normal(size=N - 2).tolist(), Kind.NUMERIC, "not a number (NaN) in 2 of 1,000 rows"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_is_told_on(kind):
    values, column_kind, detail = COLUMNS[kind]
    (alert,) = found(values, column_kind)
    assert (alert.kind, alert.column, alert.detail) == (kind, "x", detail)
    assert alert.action


@pytest.mark.parametrize(("values", "kind"), [
    (["+", "-"] * 500, Kind.CATEGORICAL),
    ([*range(100)] * 10, Kind.NUMERIC),  # 99 is the end of a range
    ([-1, 0, 1, 2] * 250, Kind.NUMERIC),  # a sign
    ([9] * 500 + [*range(500)], Kind.NUMERIC),
])  # fmt: skip
def test_values_that_mean_what_they_say_are_no_marks_of_missing_ones(values, kind):
    assert not {alert.kind for alert in found(values, kind)} & {"missing_marker", "sentinel"}


@pytest.mark.parametrize(("values", "kind", "missing"), [
    (["?"] * 40 + ["it's"] * 960, Kind.CATEGORICAL, "?"),
    ([-1] * 40 + [*range(160)] * 6, Kind.NUMERIC, -1),
    ([9999] * 40 + [at % 90 for at in range(960)], Kind.NUMERIC, 9999),
])  # fmt: skip
def test_the_line_of_an_alert_about_missing_values_makes_them_missing(values, kind, missing):
    alert = next(each for each in found(values, kind) if each.kind in {"missing_marker", "sentinel"})
    derive = json.loads(alert.action.partition("data.derive: ")[2].partition("}")[0] + "}")
    assert alert.detail.startswith(
        f"{missing!r} in 40 rows" if kind is Kind.CATEGORICAL else f"{missing:,} in 40 rows, apart"
    )
    read = expressions.add(pa.table({"x": values}), derive, "recipe: data.derive")["x"]
    assert read.to_pylist() == [None if value == missing else value for value in values]


@pytest.mark.parametrize(
    ("write", "read"),
    [
        ("%m/%d/%Y", "STRPTIME(x, '%m/%d/%Y')"),
        ("%d.%m.%Y", "STRPTIME(x, '%d.%m.%Y')"),
        ("%d %b %Y", "STRPTIME(x, '%d %b %Y')"),
    ],
)
def test_dates_that_are_texts_are_told_with_what_reads_them(write, read):
    days = [dt.date(2013, 1, 1) + dt.timedelta(days=at % 90) for at in range(N)]
    (alert,) = found([day.strftime(write) for day in days], Kind.CATEGORICAL)
    assert alert.kind == "date_as_text"
    assert alert.action.endswith(f": {read}")
    told = expressions.add(pa.table({"x": [day.strftime(write) for day in days]}), {"at": read})["at"].to_pylist()
    assert [time.date() for time in told] == days


def test_a_date_that_can_be_read_in_two_ways_is_told_with_both():
    (alert,) = found([f"0{1 + at % 9}/0{1 + at % 5}/2013" for at in range(N)], Kind.CATEGORICAL)
    assert alert.action.endswith(": STRPTIME(x, '%m/%d/%Y') or STRPTIME(x, '%d/%m/%Y')")


@pytest.mark.parametrize("values", [["1.2.3", "4.5.6", "7.8.9", ""], ["01/14/2013", "n/a", "02/14/2013", "03/14/2013"]])
def test_texts_that_are_no_dates_are_not_told(values):
    assert {alert.kind for alert in found([values[at % 4] for at in range(N)], Kind.CATEGORICAL)} == {"missing_marker"}


def test_a_row_number_is_told_on():
    (alert,) = found(np.arange(500) + 5_000, y=LABELS[:500])
    assert (alert.kind, alert.detail) == ("id_like", "500 different whole numbers in 500 rows, from 5,000 to 5,499")


def test_a_long_tail_is_told_once():
    (alert,) = found(np.random.default_rng(1).lognormal(0, 2, N))
    assert alert.kind == "skewed"


def test_values_far_outside_are_counted():
    values = np.random.default_rng(2).uniform(0, 1, N).round(2)
    values[:6] = [9, 9, 9, -9, -9, -9]
    (alert,) = found(values)
    assert alert.kind == "outliers"
    assert alert.detail.startswith("6 values (0.6%) outside ")


def test_what_the_sketch_cannot_tell_from_nothing_is_not_told():
    values = np.random.default_rng(2).uniform(0, 1, N)
    values[:6] = [9, 9, 9, -9, -9, -9]
    assert found(values) == []


def test_an_ordinary_column_is_not_told_on():
    assert found() == []
    assert found(["a", "b", "c", "d"] * (N // 4), Kind.CATEGORICAL) == []
    assert found([f"some text number {i}" for i in range(N)], Kind.TEXT) == []


def test_repeated_rows_are_told():
    (alert,) = found(num_duplicates=50)
    assert (alert.kind, alert.column) == ("duplicates", None)
    assert alert.detail == "50 of 1,000 training rows repeat an earlier one (5.0%)"


def test_a_rare_class_is_told():
    (alert,) = found(y=(np.arange(N) % 20 == 0).astype(int))
    assert (alert.kind, alert.column, alert.detail) == ("imbalanced", "y", "class 1 is 5.0% of the training rows")
    kinds = [alert.kind for alert in found(y=(np.arange(N) == 0).astype(int))]
    assert kinds == ["rare_class", "imbalanced"]


def test_a_class_of_many_is_rare_by_its_rows_and_not_by_how_many_others_there_are():
    def told(rows):
        y = np.concatenate([np.repeat(np.arange(76), 30), np.full(rows, 76)])
        return [alert.kind for alert in found((np.arange(len(y)) % 50 / 2).tolist(), y=y, task=task)]

    task = Task(kind="multiclass", target="y", classes=tuple(range(77)))
    assert told(30) == told(20) == []
    assert told(19) == ["rare_class"]


def test_three_even_classes_are_not_told():
    assert found(y=np.arange(N) % 3, task=Task(kind="multiclass", target="y", classes=(0, 1, 2))) == []


def test_a_skewed_numeric_target_is_told():
    (alert,) = found(y=np.random.default_rng(3).lognormal(0, 2, N), task=Task(kind="regression", target="y"))
    assert (alert.kind, alert.column) == ("skewed", "y")


def test_a_column_that_another_determines_is_named_with_it():
    x = RNG.normal(size=N)
    table = pa.table({"x": x, "again": 3 * x + 1, "noise": RNG.normal(size=N), "y": LABELS})
    columns = [Column(name=name, type="double", kind=Kind.NUMERIC) for name in ("x", "again", "noise")]
    schema = Schema(columns=(*columns, Column(name="y", type="int64", kind=Kind.NUMERIC, role=Role.TARGET)))
    task = Task(kind="binary", target="y", classes=(0, 1))
    statistics = TableStatistics.empty(schema, task)
    statistics.update(table)
    columns = encode_columns(table, schema, task)
    pairwise = PairwiseStatistics.of(columns, table, PairLayout.of(table, schema, task), LABELS)
    redundant = [a for a in alerts.find(statistics, schema, task, pairwise=pairwise) if a.kind == "redundant"]
    assert [(alert.column, alert.detail) for alert in redundant] == [("again", "nearly determined by 'x': r = 1.000")]


def test_texts_that_repeat_are_told():
    texts = [f"text {i % 900}" for i in range(N)]
    repeated = [alert for alert in found(texts, Kind.TEXT) if alert.kind == "repeated"]
    assert [alert.detail for alert in repeated] == ["10.0% of the texts stand in an earlier row too"]
    assert "repeated" not in {alert.kind for alert in found([f"text {i}" for i in range(N)], Kind.TEXT)}


def test_broken_and_repeated_pictures_are_told():
    pictures = [encoded(noise(seed=i % 90)) for i in range(95)] + [b"no picture"] * 5
    told = {alert.kind: alert.detail for alert in found(pa.array(pictures), Kind.IMAGE, y=np.arange(100) % 2)}
    assert told == {
        "broken": "5 of 100 pictures do not decode",
        "repeated": "5.3% of the pictures look like an earlier one",
    }


def test_a_rare_one_of_two_values_is_not_called_skewed():
    assert found((np.arange(N) < 20).astype(float)) == []


@pytest.mark.parametrize("name", ["order", "two words", 'a "b"', "over"])
def test_a_name_that_sql_would_misread_stands_in_quotes(name):
    assert expressions.add(pa.table({name: [1]}), {"z": f"{expressions.quoted_name(name)} + 1"})["z"].to_pylist() == [2]
