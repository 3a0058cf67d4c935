"""The sections about all columns: numbers as counted by hand, and a page that shows them."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from mlsys.explore import associations, document, report, report_columns, scan
from mlsys.schema import Kind, Role, Schema, Task
from pictures import encoded, noise

N = 800
BINARY = Task(kind="binary", target="y", classes=("no", "yes"))
REGRESSION = Task(kind="regression", target="y")
START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
RNG = np.random.default_rng(0)
X = RNG.normal(size=N)
LABELS = np.where(X + RNG.normal(size=N) > 0, "yes", "no")


def described(divide, schema_of, table, task=BINARY, kinds=None, **roles):
    schema = schema_of(table, **roles)
    kinds = kinds or {}
    columns = (c.model_copy(update={"kind": kinds.get(c.name, c.kind)}) for c in schema.columns)
    split = divide(table, Schema(columns=tuple(columns)))
    profile = document.describe(split, task, scan.profile(split, task), [])
    report.page(json.loads(json.dumps(profile, allow_nan=False)))
    return profile


def test_missing_values_are_counted_by_column_by_pair_and_by_pattern(divide, schema_of):
    rows = np.arange(N)
    table = pa.table(
        {"a": pa.array(X, mask=rows < 40), "b": pa.array(X, mask=(rows >= 20) & (rows < 50)), "whole": X, "y": LABELS}
    )
    found = described(divide, schema_of, table)["gaps"]
    assert found["columns"] == ["a", "b"]
    assert found["together"] == [[40, 20], [20, 30]]
    assert found["patterns"] == [
        {"columns": [], "rows": 750},
        {"columns": ["a"], "rows": 20},
        {"columns": ["a", "b"], "rows": 20},
        {"columns": ["b"], "rows": 10},
    ]
    assert (found["num_rows"], found["num_patterns"], found["error"]) == (N, 4, 0)


def test_pairs_are_those_of_scipy_and_alike_columns_are_neighbours(divide, schema_of):
    other = RNG.normal(size=N)
    table = pa.table({"a": X, "p": other, "b": X + 0.1 * RNG.normal(size=N), "q": 1 - other, "y": LABELS})
    found = described(divide, schema_of, table)["associations"]
    a, b = found["names"].index("a"), found["names"].index("b")
    assert found["values"][a][b] == pytest.approx(stats.pearsonr(X, table["b"].to_numpy()).statistic, abs=1e-4)
    order = [found["names"][at] for at in found["order"]]
    assert abs(order.index("a") - order.index("b")) == abs(order.index("p") - order.index("q")) == 1


def test_the_time_axis_has_rows_and_rates_with_wilson_intervals(divide, schema_of):
    times = [START + timedelta(days=int(day)) for day in np.arange(N) % 280]
    table = pa.table({"x": X, "at": pa.array(times, pa.timestamp("us", "UTC")), "y": LABELS})
    line = described(divide, schema_of, table, at=Role.TIME)["timeline"]
    assert (line["column"], line["width_s"], len(line["rows"])) == ("at", 7 * 86_400, 40)
    assert sum(line["rows"]) == N
    first = LABELS[np.arange(N) % 280 < 7]
    expected = stats.binomtest(int((first == "yes").sum()), len(first)).proportion_ci(method="wilson")
    series = line["target"]["yes"]
    assert series["mean"][0] == pytest.approx((first == "yes").mean(), rel=1e-5)
    assert (series["low"][0], series["high"][0]) == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_a_numeric_target_over_time_is_a_mean_with_its_standard_error(divide, schema_of):
    times = [START + timedelta(hours=int(h)) for h in np.arange(N) // 100]
    table = pa.table({"x": RNG.normal(size=N), "at": pa.array(times, pa.timestamp("us", "UTC")), "y": X})
    line = described(divide, schema_of, table, REGRESSION, at=Role.TIME)["timeline"]
    series, y = line["target"]["mean y"], X[:100]
    at = line["rows"].index(100)
    assert series["mean"][at] == pytest.approx(y.mean(), rel=1e-4)
    assert series["high"][at] - series["mean"][at] == pytest.approx(1.96 * stats.sem(y), rel=1e-3)


def test_the_target_within_bins_is_that_of_all_rows(divide, schema_of):
    profile = described(divide, schema_of, pa.table({"x": pa.array(X, mask=X > 1.5), "y": LABELS}))
    curve = profile["columns"][0]["curve"]
    assert sum(point["rows"] for point in curve["points"]) == (X <= 1.5).sum()
    assert curve["missing"]["mean"] == pytest.approx((LABELS[X > 1.5] == "yes").mean())
    shares = [point["mean"] for point in curve["points"]]
    assert shares[0] < 0.2
    assert shares[-1] > 0.8
    assert all(a["x"] < b["x"] for a, b in zip(curve["points"], curve["points"][1:], strict=False))


def test_a_bin_of_few_rows_has_no_rate():
    assert associations.LEAST_ROWS == 10
    assert associations._share(np.array([5.0, 4.0]), 1) is None
    assert associations._mean(np.array([9.0, 9.0, 9.0])) is None


def test_words_of_a_class_are_those_that_the_others_lack():
    many = [{"free", "now", "the"}] * 60 + [{"home", "now", "the"}] * 140
    found = document.typical_words(many, [True] * 60 + [False] * 140)
    assert found == [["free", 60, 0]]


def test_a_word_of_one_text_tells_nothing():
    assert document.typical_words([{"rare"}, *[{"the"}] * 99], [True] * 50 + [False] * 50) == []


def test_texts_are_shown_with_their_target_and_long_ones_are_cut(divide, schema_of):
    words = [f"{'win a prize' if label == 'yes' else 'see you at home'} {i}" for i, label in enumerate(LABELS)]
    words[0] = "long " * 500
    profile = described(divide, schema_of, pa.table({"t": words, "y": LABELS}), kinds={"t": Kind.TEXT})
    found = profile["columns"][0]["texts"]
    assert len(found["examples"][0]["text"]) < 300
    assert [example["target"] for example in found["examples"]] == LABELS[:6].tolist()
    by_class = {item["class"]: {word for word, _, _ in item["words"]} for item in found["words"]}
    assert by_class["yes"] >= {"win", "a", "prize"}
    assert by_class["no"] >= {"see", "you", "at", "home"}


def test_pictures_are_shown_with_what_is_broken_and_what_repeats(divide, schema_of):
    pictures = [encoded(noise(seed=i % 30)) for i in range(60)] + [b"<script>"] * 4
    table = pa.table({"p": pa.array(pictures), "y": LABELS[:64]})
    profile = described(divide, schema_of, table, kinds={"p": Kind.IMAGE})
    page = report.page(profile)
    assert page.count('<img src="data:image/png;base64,') == 12
    assert "why a picture does not decode" in page
    assert "50.0%" in page


def test_very_many_alerts_are_put_together_by_their_kind(divide, schema_of):
    table = pa.table({f"c{i}": np.zeros(N) for i in range(40)} | {"y": LABELS})
    page = report.page(described(divide, schema_of, table))
    assert "<summary>constant: 40</summary>" in page


def test_of_a_table_of_very_many_columns_the_strongest_are_listed(divide, schema_of, monkeypatch):
    monkeypatch.setattr(report_columns, "MOST_ROWS", 20)
    table = pa.table({f"c{i}": RNG.normal(size=N) for i in range(29)} | {"best": X, "y": LABELS})
    page = report.page(described(divide, schema_of, table))
    rows = page.split('<table id="column-list">')[1].split("</table>")[0].split("<tbody>")[1]
    assert rows.count("<tr>") == 20
    assert rows.index("<code>best</code>") < rows.index("<code>c")
    assert "10 weaker columns are in explore.json." in page
