import json
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from mlsys.explore import document, leakage, report, scan
from mlsys.schema import Role, Task

N = 400
RNG = np.random.default_rng(0)
TASKS = {
    "binary": (Task(kind="binary", target="y", classes=("no", "yes")), RNG.choice(["no", "yes"], N)),
    "multiclass": (Task(kind="multiclass", target="y", classes=(0, 1, 2)), RNG.integers(0, 3, N)),
    "regression": (Task(kind="regression", target="y"), RNG.normal(size=N)),
}


class Checker(HTMLParser):
    """Every element that is opened is closed, in order."""

    void = frozenset({"meta", "link", "br", "hr", "img", "input", "line", "rect", "circle", "path"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


def described(divide, name):
    task, y = TASKS[name]
    start = datetime(2013, 1, 1, tzinfo=UTC)
    x = RNG.normal(size=N)
    x[:4] = [np.nan, np.inf, -np.inf, 1e6]
    train = pa.table(
        {
            "x": pa.array(x, mask=RNG.random(N) < 0.2),
            "<b>&": RNG.choice(["<script>", "b", "c"], N),
            "many": [f"k{i % 90}" for i in range(N)],
            "flag": RNG.random(N) < 0.5,
            "at": pa.array([start + timedelta(hours=i) for i in range(N)], pa.timestamp("us", "UTC")),
            "none": pa.nulls(N, pa.float64()),
            "y": y,
        }
    )
    split = divide(train, test=train.slice(0, 40))
    profile = scan.profile(split, task)
    findings = leakage.scan(split, task, profile, max_duplicate_fraction=0.01)
    return document.describe(split, task, profile, findings, title="demo")


@pytest.mark.parametrize("name", TASKS)
def test_the_profile_is_json_and_the_page_is_made_of_it_alone(divide, name):
    profile = described(divide, name)
    again = json.loads(json.dumps(profile, allow_nan=False))
    page = report.page(again)
    assert page == report.page(again)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert "<script>b" not in page
    assert "&lt;script&gt;" in page
    for word in ("http://", "https://", "src=", "@import"):
        assert word not in page.replace("http://www.w3.org/2000/svg", "")


def test_the_profile_holds_what_the_issue_asks_for(divide):
    profile = described(divide, "binary")
    columns = {column["name"]: column for column in profile["columns"]}
    assert set(columns) == {"x", "<b>&", "many", "flag", "at", "none"}
    x = columns["x"]["summary"]
    assert x["num_rows"] == N
    assert (x["num_nan"], x["num_inf"]) == pytest.approx((1, 2), abs=2)
    assert sum(sum(counts) for counts in columns["x"]["by_class"].values()) == pytest.approx(x["count"], abs=5)
    assert sum(category["rows"] for category in columns["many"]["categories"]) == N
    assert columns["many"]["categories"][-1]["value"] == "(others)"
    assert columns["none"]["relation"] is None
    assert profile["overview"]["num_duplicates"] == 0
    assert [alert["column"] for alert in profile["alerts"] if alert["kind"] == "all_null"] == ["none"]
    assert profile["findings"][0]["kind"] == "twins"


def test_columns_that_are_no_features_are_named_with_what_they_are_for(divide, schema_of):
    train = pa.table(
        {"x": RNG.normal(size=N), "key": np.arange(N), "empty": pa.nulls(N, pa.float64()), "y": TASKS["binary"][1]}
    )
    split = divide(train, schema_of(train, key=Role.ID, empty=Role.IGNORE))
    profile = document.describe(split, TASKS["binary"][0], scan.profile(split, TASKS["binary"][0]), [])
    assert profile["others"] == {"id": ["key"], "ignore": ["empty"]}
    assert "Identifier of the row: key. Ignored: empty." in report.page(profile)


def test_empty_blank_and_turned_categories_are_seen(divide):
    train = pa.table({"x": RNG.choice(["", " ", "\u202eabc", "é"], N), "y": TASKS["binary"][1]})
    page = report.page(
        document.describe(split := divide(train), TASKS["binary"][0], scan.profile(split, TASKS["binary"][0]), [])
    )
    assert "\u202e" not in page
    for shown in ("(empty)", "&#x27; &#x27;", "\\u202eabc", "é"):
        assert f">{shown}</text>" in page


def test_bounds_of_sketches_are_told_once_for_the_columns_that_they_hold_for(divide):
    n = 3_000
    train = pa.table(
        {**{f"x{at}": np.random.default_rng(at).normal(size=n) for at in range(3)}, "y": RNG.choice(["no", "yes"], n)}
    )
    split = divide(train)
    profile = document.describe(split, TASKS["binary"][0], scan.profile(split, TASKS["binary"][0]), [])
    page = report.page(profile)
    told = [
        int(column["summary"]["notes"]["frequent_items"].split("at most ")[1].split()[0])
        for column in profile["columns"]
    ]
    assert page.count("frequent values, each count at most") == 1
    assert f"frequent values, each count at most {max(told)} too low" in page
    assert ">quantiles, median, histogram counts<" in page


def test_blocking_findings_stand_first_and_are_counted(divide):
    page = report.page(described(divide, "binary"))
    assert "1 blocking" in page
    assert page.index("copies in two parts: stops the run") < page.index("Overview</h2>")


def test_points_in_time_are_shown_as_dates(divide):
    page = report.page(described(divide, "regression"))
    assert "2013-01-01" in page
    assert str(int(datetime(2013, 1, 1, tzinfo=UTC).timestamp() * 1e6)) not in page.replace(",", "")


def test_the_mean_of_a_numeric_target_is_drawn_with_its_interval(divide):
    profile = described(divide, "regression")
    curves = {column["name"]: column["curve"] for column in profile["columns"]}
    points = curves["at"]["points"]
    assert sum(point["rows"] for point in points) == N
    assert all(point["low"] <= point["mean"] <= point["high"] for point in points)
    y, x = TASKS["regression"][1], np.arange(N)
    first = points[0]["rows"]
    assert points[0]["mean"] == pytest.approx(np.mean(y[x < first]))
    missing = next(column["summary"] for column in profile["columns"] if column["name"] == "x")
    assert curves["x"]["missing"]["rows"] == missing["num_nulls"] + missing["num_nan"] + missing["num_inf"]


def test_no_address_or_number_of_a_person_is_in_the_report(divide):
    mails = [f"user{i % 3}@example.org" for i in range(N)]
    texts = [f"please do call me at +49 30 12345{i:02d} about my order" for i in range(N)]
    train = pa.table({"mail": mails, "one": ["jo@example.org"] * N, "text": texts, "y": TASKS["binary"][1]})
    split = divide(train)
    profile = document.describe(split, TASKS["binary"][0], scan.profile(split, TASKS["binary"][0]), [])
    shown = json.dumps(profile) + report.page(profile)
    assert "@example.org" not in shown
    assert "12345" not in shown
    assert shown.count("[e-mail address]") > 2
