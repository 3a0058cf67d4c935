"""What predictions were worth by the labels that came: by hand, in the windows of a log, and where it is not known."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from mlsys.monitor import judge as step
from mlsys.monitor.label_match import LABEL, UTILITY_OF_ROW
from mlsys.monitor.log_scan import START
from mlsys.monitor.performance import MIN_BLOCKS
from mlsys.monitor.realised_utility import RealisedUtility
from mlsys.schema import Task
from traffic import Traffic

WORTH = "CASE WHEN NOT prediction THEN 0 WHEN late THEN seats ELSE -100 END"
MEAN, DEVIATION = 36.28, 96.5
"""Of the worth of a row, by its distribution: the logit l is normal around -0.8 (70 % of the rows) or 0.2 (30 %) with a
deviation of 1.5; a yes, said where l > 0, is right with the probability s(l) = 1 / (1 + exp(-l)) and then worth 174.5
seats in the mean. So the mean is the integral over l > 0 of 174.5 s(l) - 100 (1 - s(l))."""

ROWS = 1_500


def worth_of(traffic):
    return np.where(traffic.score >= 0.5, np.where(traffic.late, traffic.seats, -100), 0)


def evaluated(world, sql=WORTH, **utility):
    """The evaluation of 10,000 rows of the world with their utility, or another one."""
    error = DEVIATION / 100
    known = {"value": MEAN, "low": MEAN - 1.96 * error, "high": MEAN + 1.96 * error, "error": error, **utility}
    return {"metrics": {**world.baseline["metrics"], "utility": known}, "utility_sql": sql}


def judge(world, labels, evaluation, *, name="world", is_stored=False, **section):
    given = world.store, name, world.bundle, world.folder, labels, world.recipe(**section)
    return step.compare(*given, baseline=evaluation, is_stored=is_stored)


def test_the_mean_of_a_window_is_that_of_its_rows_by_hand(world):
    weeks = [Traffic.draw(ROWS, number) for number in range(2)]
    world.write(weeks)
    judgement = judge(world, pa.concat_tables([each.labels() for each in weeks]), evaluated(world))
    for traffic, window in zip(weeks, judgement.value["windows"], strict=True):
        own = window["metrics"]["utility"]
        assert own["value"] == pytest.approx(worth_of(traffic).mean())
        assert own["low"] < own["value"] < own["high"]
        # the error by days is that of the mean over seven groups of nearly as many rows
        day = ((np.arange(ROWS) + 0.5) / ROWS * 7).astype(int)
        days = [worth_of(traffic)[day == number].mean() for number in range(7)]
        assert len(days) >= MIN_BLOCKS
        assert own["error"] == pytest.approx(np.std(days, ddof=1) / np.sqrt(7), rel=0.02)
        loss = next(each for each in window["losses"] if each["what"] == "utility")
        assert (loss["value"], loss["limit"]) == pytest.approx((MEAN - worth_of(traffic).mean(), 0.02 * MEAN))
    assert judgement.value["messages"] == []
    assert "Utility by window" in (judgement.folder / "report.html").read_text()


def test_a_window_that_is_worth_less_than_the_test_rows_is_degraded_and_says_so(world):
    """The model ranks rows as ever, and half of its gain is gone, of which the limit allows a fiftieth."""
    traffic = Traffic.draw(ROWS, 5)
    world.write([traffic])
    judgement = judge(world, traffic.labels(), evaluated(world, value=2 * MEAN))
    (window,) = judgement.value["windows"]
    loss = next(each for each in window["losses"] if each["what"] == "utility")
    assert loss["value"] == pytest.approx(2 * MEAN - worth_of(traffic).mean())
    assert (loss["limit"], loss["degraded"]) == (pytest.approx(0.02 * 2 * MEAN), True)
    assert (window["verdict"], window["reasons"][0][:7]) == ("degraded", "Utility")
    assert judgement.decision == "watch"
    as_worthy = judge(world, traffic.labels(), evaluated(world, value=float(worth_of(traffic).mean())))
    assert as_worthy.value["windows"][0]["verdict"] == "ok"


@pytest.mark.parametrize("granularities", ["1 week", ["1 day", "1 week"]])
def test_labels_that_come_after_the_log_was_read_find_the_columns_of_their_rows(world, granularities):
    traffic, evaluation = Traffic.draw(ROWS, 7), evaluated(world)
    world.write([traffic])
    how = {"name": f"late-{len(granularities)}", "granularity": granularities, "min_rows": 50}
    before = judge(world, None, evaluation, is_stored=True, **how)
    assert all(window["metrics"] == {} for window in before.value["windows"])
    after = judge(world, traffic.labels(), evaluation, is_stored=True, **how)
    values, rows = zip(
        *((each["metrics"]["utility"]["value"], each["num_rows"]) for each in after.value["windows"]), strict=True
    )
    assert np.average(values, weights=rows) == pytest.approx(worth_of(traffic).mean())
    assert after.digest == judge(world, traffic.labels(), evaluation, **how).digest


def test_without_a_utility_nothing_is_kept_and_nothing_measured(world):
    traffic = Traffic.draw(ROWS, 7)
    world.write([traffic])
    judgement = judge(world, traffic.labels(), world.baseline)
    assert "utility" not in judgement.value["windows"][0]["metrics"]
    assert "Utility" not in (judgement.folder / "report.html").read_text()


def test_a_column_that_no_request_has_is_named(world):
    traffic = Traffic.draw(ROWS, 7)
    world.write([traffic])
    judgement = judge(world, traffic.labels(), evaluated(world, WORTH.replace("seats", "fare")))
    assert "Utility is not measured: its SQL reads 'fare', which the log does not have." in judgement.value["messages"]
    assert "utility" not in judgement.value["windows"][0]["metrics"]


def test_rows_without_a_number_leave_the_mean_of_their_window_unknown(world):
    full, other = Traffic.draw(ROWS, 7), Traffic.draw(ROWS, 8, nulls=0.0)
    world.write([full, other])
    labels = pa.concat_tables([full.labels(), other.labels()])
    judgement = judge(world, labels, evaluated(world, "CASE WHEN prediction THEN b ELSE 0 END", value=2.0))
    values = [window["metrics"]["utility"]["value"] for window in judgement.value["windows"]]
    assert values == [None, pytest.approx(np.where(other.score >= 0.5, other.b, 0).mean())]
    where = "in 1 of 2 windows, such as 'week of 2024-01-01'"
    told = f"Utility is not known {where}: for a labelled row there its SQL gives no number."
    assert judgement.value["messages"] == [told]


def test_a_value_that_the_sql_cannot_read_leaves_other_windows_their_utility(world):
    weeks = [Traffic.draw(ROWS, number) for number in range(3)]
    for number, week in enumerate(weeks):
        week.colour = np.full(ROWS, str(number))
    weeks[1].colour[7] = "x"
    world.write(weeks)
    labels = pa.concat_tables([each.labels() for each in weeks])
    judgement = judge(world, labels, evaluated(world, "CAST(colour AS DOUBLE)", value=0.0))
    assert [window["metrics"]["utility"]["value"] for window in judgement.value["windows"]] == [0.0, None, 2.0]
    assert "Utility is not known in 1 of 3 windows, such as 'week of 2024-01-08'" in judgement.value["messages"][-1]


def test_the_log_has_features_and_no_time_of_its_own_for_the_sql(world):
    known = RealisedUtility.of({"utility_sql": "seats * b"}, world.bundle)
    assert known.indexed == {"__read0": ("b", pl.Float64()), "__read1": ("seats", pl.Int64())}
    unknown = RealisedUtility.of({"utility_sql": 'EXTRACT(epoch FROM "at") * seats'}, world.bundle)
    assert (unknown.missing, unknown.indexed) == (("at",), {})
    assert RealisedUtility.of({"metrics": {}}, world.bundle) is None
    assert RealisedUtility.of(None, world.bundle) is None


READ = "__read0"
SCORES = {"score": [3.0, 5.0, 4.0], "probabilities": [[0.2, 0.5, 0.3], [0.6, 0.2, 0.2], [0.1, 0.1, 0.8]]}


def test_numbers_and_several_classes_by_hand():
    columns = pa.schema([("seats", pa.int64())])
    rows = pl.DataFrame({LABEL: [2.0, 7.0, None], READ: [10, 20, 30], **SCORES})
    number = Task(kind="regression", target="y")
    # 1 below, 2 above, of a row without a label nothing
    stock = RealisedUtility("seats * -abs(y - prediction)", number, 0.5, columns).added(rows)[UTILITY_OF_ROW]
    assert stock.to_list()[:2] == [-10.0, -40.0]
    assert np.isnan(stock[2])
    several = Task(kind="multiclass", target="y", classes=("a", "b", "c"))
    hit = RealisedUtility("CASE WHEN prediction = y THEN seats ELSE 0 END", several, 0.5, columns)
    labelled = rows.with_columns(pl.Series(LABEL, [1.0, 1.0, 2.0]))
    assert hit.added(labelled)[UTILITY_OF_ROW].to_list() == [10.0, 0.0, 30.0]  # b, a and c are said


def test_a_value_that_the_sql_cannot_read_has_no_utility():
    sql = "CASE WHEN strptime(day, '%Y-%m-%d') > DATE '2020-01-01' THEN 1 ELSE 0 END"
    columns = pa.schema([("day", pa.string())])
    rows = pl.DataFrame({LABEL: [2.0, 3.0, 4.0], READ: ["no day", "2021-05-01", "2021-05-02"], "score": [1.0] * 3})
    worth = RealisedUtility(sql, Task(kind="regression", target="y"), 0.5, columns)
    first, second = dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 8, tzinfo=dt.UTC)
    found = worth.added(rows.with_columns(pl.Series(START, [first, second, first])))[UTILITY_OF_ROW].to_numpy()
    assert np.array_equal(found, [np.nan, 1.0, np.nan], equal_nan=True)


def test_an_infinite_number_is_none():
    columns = pa.schema([("seats", pa.int64())])
    rows = pl.DataFrame({LABEL: [2.0, 3.0], READ: [0, 4], "score": [1.0, 1.0]})
    found = RealisedUtility("1 / seats", Task(kind="regression", target="y"), 0.5, columns).added(rows)
    assert np.array_equal(found[UTILITY_OF_ROW].to_numpy(), [np.nan, 0.25], equal_nan=True)
