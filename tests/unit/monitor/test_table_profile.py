"""Any table is profiled without a model: what moved raises an alarm, what did not raises few."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import jensenshannon
from typer.testing import CliRunner

from mlsys import errors, operate
from mlsys.cli import app
from mlsys.monitor import table_profile
from mlsys.monitor.metric_tables import DRIFT, PROFILE
from mlsys.monitor.table_comparison import ProfileRequest

UTC = dt.UTC
MONDAY = dt.datetime(2024, 1, 1, tzinfo=UTC)


def rows_of(num_rows, seed, *, shift=0.0, start=MONDAY, days=1):
    """Independent rows over some days; only `price` moves."""
    rng = np.random.default_rng(seed)
    step = dt.timedelta(days=days) / num_rows
    return pa.table(
        {
            "at": pa.array([start + step * k for k in range(num_rows)], pa.timestamp("us", "UTC")),
            "price": rng.normal(10 + shift, 1, num_rows),
            "cost": rng.gamma(4, 2, num_rows),
            "seats": rng.integers(1, 9, num_rows),
            "colour": rng.choice(["blue", "green", "red"], num_rows, p=[0.5, 0.3, 0.2]),
        }
    )


def written(folder, name, *tables):
    path = folder / name
    pq.write_table(pa.concat_tables(tables), path)
    return path


def columns_of(profile):
    return sorted({alarm["column"] for alarm in profile.alarms})


@pytest.fixture
def days(tmp_path):
    """Six days of 1,500 rows; on the fourth, prices are higher by a standard deviation."""
    tables = [
        rows_of(1_500, day, shift=1.0 if day == 3 else 0.0, start=MONDAY + dt.timedelta(days=day)) for day in range(6)
    ]
    return written(tmp_path, "days.parquet", *tables)


def test_a_snapshot_is_profiled_and_has_nothing_to_compare_with(tmp_path):
    (tmp_path / "few.csv").write_text("price;name\n" + "".join(f"{k};n{k % 3}\n" for k in range(10)))
    made = operate.profile(tmp_path / "few.csv", output=tmp_path / "made")
    assert (made.exit_code, made.alarms) == (0, [])
    assert made.summary == "10 rows, 2 columns; nothing to compare with"
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "profile.json", "profile.parquet", "drift.parquet", "report.html"
    }  # fmt: skip
    table = pl.read_parquet(tmp_path / "made" / "profile.parquet")
    price = table.filter(pl.col("column_name") == "price").row(0, named=True)
    assert (price["count"], price["avg"], price["min"], price["max"], price["log_type"]) == (10, 4.5, 0, 9, "INPUT")
    assert (price["granularity"], price["data_type"], price["distinct_count"]) == (None, "int64", 10)
    assert pq.read_schema(tmp_path / "made" / "profile.parquet").equals(PROFILE)
    assert pq.read_schema(tmp_path / "made" / "drift.parquet").equals(DRIFT)
    assert json.loads((tmp_path / "made" / "profile.json").read_text())["summary"] == made.summary


def test_a_column_that_moved_since_the_baseline_raises_the_only_alarm(tmp_path):
    baseline = written(tmp_path, "march.parquet", rows_of(4_000, 1))
    moved = written(tmp_path, "april.parquet", rows_of(4_000, 2, shift=1.0))
    still = written(tmp_path, "still.parquet", rows_of(4_000, 3))
    made = operate.profile(moved, baseline=baseline, output=tmp_path / "made")
    assert (made.exit_code, columns_of(made)) == (3, ["price"])
    assert made.alarms[0]["detail"].startswith("mean ")
    assert operate.profile(still, baseline=baseline).exit_code == 0
    # The distance in the drift table is SciPy's, from the counts in the profile's bins.
    drift = pl.read_parquet(tmp_path / "made" / "drift.parquet")
    row = drift.filter((pl.col("column_name") == "price") & (pl.col("drift_type") == "BASELINE")).row(0, named=True)
    (price,) = (each for each in made.value["columns"] if each["column"] == "price")
    assert row["js_distance"] == pytest.approx(jensenshannon(price["reference"], price["windows"][0], 2), abs=1e-4)
    assert sum(price["reference"]) == pytest.approx(1, abs=1e-4)
    assert set(pl.read_parquet(tmp_path / "made" / "profile.parquet")["log_type"]) == {"INPUT", "BASELINE"}


@pytest.mark.parametrize(
    ("against", "alarmed"), [("previous", ["2024-01-04", "2024-01-05"]), ("first", ["2024-01-04"])]
)
def test_windows_are_compared_with_the_one_before_or_with_the_first(days, against, alarmed):
    made = operate.profile(days, time="at", granularity="1 day", against=against)
    assert [alarm["window"] for alarm in made.alarms] == alarmed
    assert columns_of(made) == ["price"]
    assert [window["num_rows"] for window in made.value["windows"]] == [1_500] * 6
    assert made.value["windows"][0]["compared_with"] is None


def test_without_drift_few_windows_raise_an_alarm(tmp_path):
    """Of 80 windows at a rate of 5 %, more than 10 would have a probability of 0.2 %."""
    path = written(tmp_path, "still.parquet", rows_of(80 * 300, 7, days=80))
    settings = {"monitor.min_js_distance": 0, "monitor.false_alarm_rate": 0.05}
    made = operate.profile(path, time="at", granularity="1 day", set=settings)
    assert len(made.value["windows"]) == 80
    assert len({alarm["window"] for alarm in made.alarms}) <= 10


def test_metrics_are_sql_over_the_rows_of_a_window_and_of_a_slice(days, tmp_path):
    metrics = {"margin": "avg(price) / avg(cost)", "middle": "median(seats)", "rows": "count(*)"}
    made = operate.profile(
        days, time="at", granularity="1 day", slices=["colour", "seats > 4"], metrics=metrics, output=tmp_path / "made"
    )
    rows = pl.read_parquet(days).with_columns(pl.col("at").dt.date().alias("day"))
    for window in made.value["windows"]:
        own = rows.filter(pl.col("day") == dt.date.fromisoformat(window["label"]))
        expected = {"margin": own["price"].mean() / own["cost"].mean(), "middle": own["seats"].median(), "rows": 1_500}
        assert window["metrics"] == pytest.approx(expected)
    red = rows.filter((pl.col("colour") == "red") & (pl.col("day") == dt.date(2024, 1, 2)))
    many = rows.filter((pl.col("seats") > 4) & (pl.col("day") == dt.date(2024, 1, 2)))
    by_slice = {(part["key"], part["value"], part["label"]): part for part in made.value["slices"]}
    assert by_slice["colour", "red", "2024-01-02"]["num_rows"] == red.height
    assert by_slice["seats > 4", "true", "2024-01-02"]["num_rows"] == many.height
    margin = red["price"].mean() / red["cost"].mean()
    assert by_slice["colour", "red", "2024-01-02"]["metrics"]["margin"] == pytest.approx(margin)
    table = pl.read_parquet(tmp_path / "made" / "profile.parquet").filter(pl.col("column_name") == ":table")
    assert table.filter(pl.col("slice_key").is_null())["rows"].to_list() == [1_500.0] * 6
    assert "avg(price) / avg(cost)" in (tmp_path / "made" / "report.html").read_text()


def test_columns_that_name_rows_are_not_watched(tmp_path):
    def numbered(seed, first):
        table = rows_of(1_000, seed)
        numbers = range(first, first + 1_000)
        return table.append_column("id", pa.array(numbers)).append_column("code", pa.array([f"c{k}" for k in numbers]))

    baseline = written(tmp_path, "old.parquet", numbered(1, 0))
    made = operate.profile(written(tmp_path, "new.parquet", numbered(2, 5_000)), baseline=baseline)
    assert made.alarms == []
    assert "Profiled and not watched, for they name rows: id, code." in made.value["messages"]


def test_a_column_that_is_gone_or_of_another_kind_is_an_alarm(tmp_path):
    table = rows_of(400, 1)
    baseline = written(tmp_path, "old.parquet", table)
    changed = table.drop_columns(["cost", "seats"]).append_column("seats", pa.array([f"s{k % 7}" for k in range(400)]))
    made = operate.profile(written(tmp_path, "new.parquet", changed), baseline=baseline)
    assert [(alarm["column"], alarm["detail"]) for alarm in made.alarms] == [
        ("cost", "not in the table"),
        ("seats", "numeric in the baseline, categorical in the table"),
    ]
    assert made.exit_code == 3


def test_rows_without_a_time_are_in_no_window_and_told(tmp_path):
    table = rows_of(600, 1)
    times = pa.array([None, *table["at"].to_pylist()[1:]], pa.timestamp("us", "UTC"))
    made = operate.profile(written(tmp_path, "some.parquet", table.set_column(0, "at", times)), time="at")
    assert sum(window["num_rows"] for window in made.value["windows"]) == 599
    assert "1 row without a time: in no window." in made.value["messages"]


def test_few_rows_are_profiled_and_not_judged(tmp_path):
    baseline = written(tmp_path, "old.parquet", rows_of(1_000, 1))
    few = written(tmp_path, "new.parquet", rows_of(50, 2, shift=3.0))
    made = operate.profile(few, baseline=baseline)
    assert (made.exit_code, made.value["messages"][-1]) == (
        0, "1 window with fewer than 200 rows: profiled and not judged."
    )  # fmt: skip
    assert operate.profile(few, baseline=baseline, set={"monitor.min_rows": 50}).exit_code == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"granularity": "1 day"}, "profile: granularity"),
        ({"time": "at", "granularity": "2 days"}, "profile: granularity"),
        ({"against": "last"}, "profile: against"),
        ({"time": "when"}, "profile: time"),
        ({"set": {"monitor.retrain_after": [1, 2]}}, "profile: --set monitor.retrain_after"),
        ({"set": {"reading.delimeter": ";"}}, "unknown key"),
        ({"metrics": {"count": "count(*)"}}, "profile: metric"),
        ({"metrics": {"m": "price / cost"}}, "profile: metric: 'm'"),
        ({"metrics": {"m": "avg(prize)"}}, "prize"),
        ({"slices": ["price + 1"]}, "profile: slice"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_place(tmp_path, asked, message):
    path = written(tmp_path, "rows.parquet", rows_of(300, 1))
    with pytest.raises(errors.RecipeError) as raised:
        operate.profile(path, output=tmp_path / "made", **asked)
    assert message in str(raised.value)
    assert [each.name for each in tmp_path.iterdir()] == ["rows.parquet"]


def test_an_earlier_profile_is_replaced_and_another_folder_is_not(tmp_path):
    path = written(tmp_path, "rows.parquet", rows_of(300, 1))
    operate.profile(path, output=tmp_path / "made")
    with pytest.raises(errors.SourceError):
        operate.profile(tmp_path / "nothing.csv", output=tmp_path / "made")
    assert json.loads((tmp_path / "made" / "profile.json").read_text())["num_rows"] == 300
    operate.profile(written(tmp_path, "more.parquet", rows_of(400, 1)), output=tmp_path / "made")
    assert json.loads((tmp_path / "made" / "profile.json").read_text())["num_rows"] == 400
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(errors.RecipeError, match="is there"):
        operate.profile(path, output=tmp_path / "mine")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["made", "mine", "more.parquet", "rows.parquet"]


def test_a_profile_is_a_function_of_its_rows(tmp_path):
    path, now = written(tmp_path, "rows.parquet", rows_of(900, 1, days=3)), dt.datetime(2024, 2, 1, tzinfo=UTC)
    request = ProfileRequest.of(str(path), slices=("colour",))
    for name in ("a", "b"):
        table_profile.profile(request, tmp_path / name, now=now)
    for file in ("profile.json", "profile.parquet", "drift.parquet", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_personal_data_is_not_shown(tmp_path):
    text = "contact,age\n" + "".join(f"jo{k % 4}@example.org,{k % 50}\n" for k in range(400))
    (tmp_path / "people.csv").write_text(text)
    operate.profile(tmp_path / "people.csv", output=tmp_path / "made")
    for file in (tmp_path / "made").iterdir():
        assert b"@example.org" not in file.read_bytes()


def test_the_command_says_a_line_and_leaves_with_its_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "march.parquet", rows_of(1_000, 1))
    written(tmp_path, "april.parquet", rows_of(1_000, 2, shift=1.0))
    done = CliRunner().invoke(app, ["profile", "april.parquet", "--baseline", "march.parquet"])
    assert done.exit_code == 3
    assert done.output.splitlines()[0] == "1,000 rows, 5 columns; 1 alarm: price"
    assert (tmp_path / "april-profile" / "report.html").is_file()
    words = ["profile", "march.parquet", "--metric", "margin=avg(price) / avg(cost)", "--json", "-o", "made"]
    quiet = CliRunner().invoke(app, words)
    value = json.loads(quiet.output)
    assert (quiet.exit_code, value["exit_code"], value["alarms"]) == (0, 0, [])
    assert value["windows"][0]["metrics"]["margin"] > 1
