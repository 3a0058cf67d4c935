"""A forecast from rows to predictions, in this process: lags, windows, folds, floor and look-ups."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import panels
from mlsys import bundle, errors, models, recipe
from mlsys.console import Console
from mlsys.dataset import Snapshot, Split
from mlsys.features.online.lookup import StoreSource, TableSource, open_store
from mlsys.models.families.dummy import Dummy
from mlsys.predict import Predictor
from mlsys.store import Store
from mlsys.workflow import tables
from mlsys.workflow.run import Run

HORIZON = 7


def read(table):
    """An Arrow table as a frame, with days as dates."""
    return pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col("day").dt.date())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return panels.run(tmp_path_factory.mktemp("forecast"), panels.days(late=(2,)))


@pytest.fixture(scope="module")
def store(done):
    return Store.open(Path(done.folder).parents[1])


@pytest.fixture(scope="module")
def records(done):
    return json.loads((Path(done.folder) / "result.json").read_text())


@pytest.fixture(scope="module")
def joined(store, records):
    """All rows with the columns of their past."""
    return read(Snapshot.open(store, records["collect"]["snapshot"]).table())


@pytest.fixture(scope="module")
def split(store, records):
    return Split.open(store, records["collect"]["split"])


def past_of(frame, row, days):
    """Values of the row's series by day, of the days up to the row's origin and after `days` before it."""
    origin = row["day"] - dt.timedelta(HORIZON)
    own = frame.filter(pl.col("store") == row["store"])
    return {
        day: value for day, value in own.select("day", "sales").rows() if origin - dt.timedelta(days) < day <= origin
    }


def test_lags_and_windows_are_those_of_plain_loops(joined):
    frame = panels.days(late=(2,))
    for row in joined.gather_every(29).rows(named=True):
        known, values = past_of(frame, row, 10_000), dict[str, object]()
        values["last_sales"] = known[max(known)] if known else None
        for lag in (7, 14):
            values[f"ago_{lag}d_sales"] = known.get(row["day"] - dt.timedelta(lag))
        for days in (7, 28):
            window = list(past_of(frame, row, days).values())
            values[f"last_count_{days}d_sales"] = len(window)
            for name, function in (("mean", np.mean), ("min", min), ("max", max)):
                values[f"last_{name}_{days}d_sales"] = pytest.approx(function(window)) if window else None
        assert {name: row[name] for name in values} == values


def test_columns_known_after_the_event_have_their_last_value(joined):
    frame = panels.days(late=(2,))
    pairs = frame.select("store", "visitors", day=pl.col("day") + pl.duration(days=HORIZON)).rename(
        {"visitors": "then"}
    )
    both = joined.join(pairs, on=["store", "day"])
    assert both.height > 900
    assert (both["last_visitors"] == both["then"]).all()


def test_no_feature_reads_what_was_not_known_at_the_origin(tmp_path, joined):
    """All values from a day on are others: rows whose origin lies before it have the same features."""
    cut = panels.START + dt.timedelta(300)
    later = pl.col("day") >= cut
    changed = panels.days(late=(2,)).with_columns(
        pl.when(later).then(pl.col(name) * -3 + 1).otherwise(name).alias(name) for name in ("sales", "visitors")
    )
    again = panels.run(tmp_path, changed, "collect")
    record = json.loads((Path(again.folder) / "result.json").read_text())["collect"]
    rows = read(Snapshot.open(Store.open(tmp_path / "store"), record["snapshot"]).table())
    added = [name for name in record["forecast"]["added"] if name in rows.columns]
    assert len(added) >= 11
    is_before = pl.col("day") - pl.duration(days=HORIZON) < cut
    before, after = (each.filter(is_before).select("store", "day", *added) for each in (joined, rows))
    assert before.equals(after)
    assert not joined.select(added).equals(rows.select(added))


def test_parts_and_folds_are_a_horizon_apart(split):
    days = {part: read(split.table(part, ["day"]))["day"].to_list() for part in ("train", "validation", "test")}
    gap = dt.timedelta(HORIZON)
    assert min(days["train"]) == panels.START + gap
    assert max(days["train"]) + gap <= min(days["validation"]) < max(days["validation"]) + gap <= min(days["test"])
    assert (split.horizon, split.num_folds, len(split.rounds())) == ("7d", 3, 2)
    for fitted, judge in split.rounds():
        fit, judged = (read(split.table("train", ["day"], folds))["day"].to_list() for folds in (fitted, [judge]))
        assert max(fit) + gap <= min(judged)
    assert split.num_history == 14
    assert sum(split.num_rows.values()) == 1_000


def test_the_floor_is_the_value_of_the_last_season_by_hand(done, joined, split):
    rows = read(split.table("test", ["store", "day"])).rows(named=True)
    value = {(row["store"], row["day"]): row["sales"] for row in panels.days(late=(2,)).rows(named=True)}
    truth = np.array([value[row["store"], row["day"]] for row in rows])
    naive = np.array([value[row["store"], row["day"] - dt.timedelta(7)] for row in rows])
    evaluation = json.loads((Path(done.folder) / "reports" / "evaluate.json").read_text())
    measured = evaluation["metrics"]
    assert measured["mae"]["dummy"] == pytest.approx(np.abs(truth - naive).mean())
    assert measured["rmse"]["dummy"] == pytest.approx(np.sqrt(((truth - naive) ** 2).mean()))
    assert measured["skill"]["dummy"] == 0
    assert measured["skill"]["value"] == pytest.approx(1 - measured["mae"]["value"] / measured["mae"]["dummy"])
    train = read(split.table("train", ["store", "day", "sales"]))
    before = train.with_columns(pl.col("day").dt.offset_by("7d")).rename({"sales": "then"})
    both = train.join(before, on=["store", "day"])
    scale = dict(both.group_by("store").agg((pl.col("sales") - pl.col("then")).abs().mean()).rows())
    scaled = np.abs(truth - naive) / np.array([scale[row["store"]] for row in rows])
    assert measured["mase"]["dummy"] == pytest.approx(scaled.mean())
    assert evaluation["verdict"]["checks"][-1]["name"] == "beats the seasonal-naive forecast"
    page = (Path(done.folder) / "reports" / "evaluate.html").read_text()
    assert "MASE" in page
    assert "Gain over the seasonal-naive forecast" in page


def test_the_dummy_of_the_comparison_is_the_naive_forecast(records):
    entries = {entry["family"]: entry for entry in records["selection"]["leaderboard"]["entries"]}
    assert entries["dummy"]["mean"] < 30  # of constants it would be the spread of the levels, 40 and more
    assert entries["linear"]["mean"] < entries["dummy"]["mean"]
    assert records["selection"]["family"] == "linear"


def test_the_time_of_the_row_is_a_feature(done, store):
    inputs = bundle.open(store, done.bundle).program.inputs
    assert "day" in inputs
    assert any("trend_day" in name for name in bundle.open(store, done.bundle).program.names)


@pytest.fixture(scope="module")
def published(store, records, done):
    """The past of the series, published as `deploy` does."""
    opened = bundle.open(store, done.bundle)
    pairs = [(view, records["collect"]["tables"][view.name]) for view in opened.views]
    facts = {"history": "400d", "until": dt.datetime(2025, 1, 1, tzinfo=dt.UTC), "whole": True}
    tables._publish(store, "sqlite", pairs, facts, again=False)
    return opened


@pytest.fixture(scope="module")
def predictors(store, published):
    sources = StoreSource(open_store("sqlite", store.root)), TableSource.latest(store, published.schema)
    return [Predictor(published, source=source) for source in sources]


def test_requests_get_the_features_of_training(predictors, published, split):
    test = split.table("test")
    trained = Predictor(published).table(test.select([n for n in published.schema.names if n in test.column_names]))
    given = test.select(["store", "day", "promo"])
    records = [{**row, "day": row["day"].isoformat()} for row in given.to_pylist()]
    endpoint, batch = predictors
    np.testing.assert_array_equal(endpoint.rows(records).score, trained.score)
    np.testing.assert_array_equal(endpoint.table(given).score, trained.score)
    np.testing.assert_array_equal(batch.table(given).score, trained.score)


def test_days_to_come_are_forecast_from_the_stored_past(predictors):
    days = [panels.START + dt.timedelta(400 + each) for each in range(HORIZON)]
    rows = [{"store": f"s{store}", "day": day.isoformat(), "promo": 1} for store in range(3) for day in days]
    endpoint, batch = predictors
    answer = endpoint.rows(rows).score.reshape(3, HORIZON)
    frame = pl.DataFrame(rows).with_columns(pl.col("day").str.to_datetime(time_zone="UTC"))
    np.testing.assert_array_equal(batch.table(frame.to_arrow()).score, answer.reshape(-1))
    wave = 1 + 0.4 * np.sin(2 * np.pi * np.arange(400, 400 + HORIZON) / 7)
    truth = 20.0 * np.arange(1, 4)[:, None] * wave
    assert np.abs(answer / truth - 1).mean() < 0.15


def test_a_new_series_is_forecast_and_a_request_without_time_is_not(predictors):
    assert np.isfinite(predictors[0].rows([{"store": "new", "day": "2024-02-05", "promo": 0}]).score).all()
    with pytest.raises(errors.RequestError, match="day"):
        predictors[0].rows([{"store": "s0", "promo": 0}])


def test_one_series_needs_no_name(tmp_path):
    frame = panels.days(1, 150).drop("store")
    done = panels.run(tmp_path, frame, forecast={"horizon": "7d"})
    assert done.metrics["skill"] > 0
    store = Store.open(tmp_path / "store")
    opened, record = bundle.open(store, done.bundle), json.loads((Path(done.folder) / "result.json").read_text())
    pairs = [(view, record["collect"]["tables"][view.name]) for view in opened.views]
    facts = {"history": "1d", "until": dt.datetime(2025, 1, 1, tzinfo=dt.UTC), "whole": True}
    tables._publish(store, "sqlite", pairs, facts, again=False)
    row = {"day": "2023-06-01", "promo": 1}
    online = Predictor(opened, source=StoreSource(open_store("sqlite", store.root))).rows([row])
    table = pl.DataFrame([row]).with_columns(pl.col("day").str.to_datetime(time_zone="UTC")).to_arrow()
    batch = Predictor(opened, source=TableSource.latest(store, opened.schema)).table(table)
    assert online.score.tolist() == batch.score.tolist()


def test_gaps_and_months_are_forecast(tmp_path):
    months = pl.date_range(dt.date(2005, 1, 31), dt.date(2020, 1, 1), "1mo", eager=True).dt.month_end()
    number = np.arange(len(months))
    value = 50 + 10 * np.cos(2 * np.pi * number / 12) + np.random.default_rng(0).normal(0, 1, len(months))
    frame = pl.DataFrame({"day": months, "sales": value}).filter(pl.Series(number % 17 != 3))
    done = panels.run(tmp_path, frame, forecast={"horizon": "3mo"}, data={"source": str(tmp_path / "rows.parquet"),
                      "time": "day"})  # fmt: skip
    record = json.loads((Path(done.folder) / "result.json").read_text())["collect"]
    assert record["task"]["forecast"]["season"] == "1y"
    rows = read(Snapshot.open(Store.open(tmp_path / "store"), record["snapshot"]).table())
    by_month = {(row["day"].year, row["day"].month): row for row in rows.rows(named=True)}
    for (year, month), row in by_month.items():
        before = by_month.get((year - 1, month))
        assert row["ago_1y_sales"] == (before["sales"] if before else None), row["day"]
        earlier = [
            by_month.get((y, m + 1)) for y, m in (divmod(12 * year + month - 1 - back, 12) for back in (3, 4, 5))
        ]
        assert row["last_count_3mo_sales"] == sum(each is not None for each in earlier), row["day"]


def test_the_dummy_without_a_past_is_the_constant():
    family = models.family("dummy")
    fitted = Dummy(prior=(5.0,), is_classification=False, naive=1)
    X = np.array([[0.0, 2.5], [0.0, np.nan]], np.float32)
    assert family.predict(fitted, X).tolist() == [2.5, 5.0]


def test_without_an_endpoint_a_model_finds_the_past_of_training(tmp_path):
    done = panels.run(tmp_path, panels.days(2, 150))
    rows = pl.DataFrame({"store": ["s1"], "day": [dt.datetime(2023, 6, 1, tzinfo=dt.UTC)], "promo": [0]})
    expected = 40 * (1 + 0.4 * np.sin(2 * np.pi * 151 / 7))
    assert done.predictor().predict(rows)["prediction"][0] == pytest.approx(expected, rel=0.2)


def test_materialize_reads_the_rows_again_and_publishes_their_past(tmp_path):
    frame = panels.days(2, 150)
    done = panels.run(tmp_path, frame)
    store = Store.open(tmp_path / "store")
    opened = bundle.open(store, done.bundle)
    more = pl.concat([frame, panels.days(2, 157).filter(pl.col("day") >= panels.START + dt.timedelta(150))])
    more.write_parquet(tmp_path / "rows.parquet")
    settings = recipe.Recipe.model_validate(panels.recipe(tmp_path / "rows.parquet"))
    context = Run(settings, store, Console(io.StringIO())).context()
    pairs = tables._past(context, opened.views)
    assert [view.name for view, _ in pairs] == [view.name for view in opened.views]
    past = Snapshot.open(store, pairs[0][1])
    assert (past.num_rows, len({digest for _, digest in pairs})) == (314, 1)
    tables._check(settings, {}, has_past=True)
    with pytest.raises(errors.RecipeError, match="other definitions of the forecast"):
        tables._check(settings, {}, has_past=False)


def test_trees_follow_a_level_that_training_has_not_seen(tmp_path):
    frame = panels.days(2, 300).with_columns(sales=pl.col("sales") + pl.int_range(pl.len()).over("store") * 2.0)
    how = {"selection": {"families": ["lightgbm"]}, "train": {"family": "lightgbm"}}
    values = {name: panels.run(tmp_path / name, frame, **changed(how, name)) for name in ("none", "difference")}
    assert values["difference"].metrics["mae"] < 0.7 * values["none"].metrics["mae"]
    store = Store.open(tmp_path / "difference" / "store")
    predictor = Predictor(bundle.open(store, values["difference"].bundle))
    record = json.loads((Path(values["difference"].folder) / "result.json").read_text())
    rows = Split.open(store, record["collect"]["split"]).table("test")
    rows = rows.select([name for name in predictor.bundle.schema.names if name in rows.column_names])
    alone = [predictor.table(rows.slice(place, 1)).score[0] for place in range(5)]
    assert alone == predictor.table(rows).score[:5].tolist()


def changed(how, kind):
    return {**how, "train": {**how["train"], "target_transform": kind}}


def test_a_difference_needs_a_forecast(tmp_path):
    frame = panels.days(1, 100).drop("day", "store")
    with pytest.raises(errors.RecipeError, match="difference for rows without a naive forecast"):
        panels.run(
            tmp_path, frame, "selection", train={"target_transform": "difference"}, forecast=None, data={
                "source": str(tmp_path / "rows.parquet")
            },
        )  # fmt: skip
