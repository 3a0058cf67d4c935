"""The profile and drift tables: names as in Databricks' data profiling, numbers from Polars and SciPy."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn import metrics

from mlsys.monitor import judge
from traffic import MONDAY, WEEK, Traffic

PROFILE = """
    window log_type logging_table_commit_version monitor_version granularity slice_key slice_value model_version
    column_name count data_type num_nulls avg quantiles min max stddev num_zeros num_nan min_length max_length
    avg_length non_null_columns frequent_items median distinct_count percent_nan percent_null percent_zeros
    percent_distinct accuracy_score confusion_matrix precision recall f1_score mean_squared_error
    root_mean_squared_error r2_score
""".split()
DRIFT = """
    window window_cmp drift_type column_name slice_key slice_value granularity count_delta avg_delta
    percent_null_delta percent_zeros_delta percent_distinct_delta non_null_columns_delta js_distance ks_test
    wasserstein_distance population_stability_index chi_squared_test tv_distance l_infinity_distance
""".split()
ROWS = 2_000


@pytest.fixture
def traffic():
    return [Traffic.draw(ROWS, 1), Traffic.draw(ROWS, 2, shift=0.5), Traffic.draw(ROWS, 3)]


@pytest.fixture
def folder(world, traffic):
    world.write(traffic[:2])
    world.write(traffic[2:], MONDAY + 3 * WEEK)  # a week without traffic lies between
    labels = traffic[0].labels()
    judgement = judge.compare(world.store, "world", world.bundle, world.folder, labels, world.recipe())
    return judgement.folder


@pytest.fixture
def profile(folder):
    return pl.read_parquet(folder / "profile.parquet")


@pytest.fixture
def drift(folder):
    return pl.read_parquet(folder / "drift.parquet")


def first(frame, column, kind="INPUT"):
    return frame.filter((pl.col("column_name") == column) & (pl.col("log_type") == kind)).row(0, named=True)


def test_the_columns_are_those_of_databricks(profile, drift):
    assert set(PROFILE) <= set(profile.columns)
    assert set(DRIFT) <= set(drift.columns)
    assert profile.schema["window"] == drift.schema["window_cmp"]
    assert [field.name for field in drift.schema["ks_test"].fields] == ["statistic", "pvalue"]
    assert [field.name for field in drift.schema["non_null_columns_delta"].fields] == ["added", "missing"]


def test_a_numeric_column_is_profiled_as_polars_does(profile, traffic):
    values, got = pl.Series(traffic[0].b).fill_nan(None), first(profile, "b")
    assert (got["count"], got["num_nulls"]) == (ROWS, values.null_count())
    assert got["avg"] == pytest.approx(values.mean())
    assert got["stddev"] == pytest.approx(values.std())
    assert (got["min"], got["max"]) == (values.min(), values.max())
    assert got["percent_null"] == pytest.approx(100 * values.null_count() / ROWS)
    below = (values.drop_nulls() <= got["median"]).mean()
    assert below == pytest.approx(0.5, abs=0.01)


def test_a_categorical_column_is_profiled_with_its_frequent_items(profile, traffic):
    got = first(profile, "colour")
    counts = pl.Series(traffic[0].colour).value_counts(sort=True)
    assert [(i["item"], i["count"]) for i in got["frequent_items"]] == list(counts.iter_rows())
    assert (got["distinct_count"], got["min_length"], got["max_length"]) == (4, 3, 5)


def test_performance_stands_in_the_row_of_the_table(profile, traffic):
    got, truth = first(profile, ":table"), traffic[0]
    said = truth.score >= 0.5
    assert got["count"] == ROWS
    assert got["accuracy_score"] == pytest.approx(metrics.accuracy_score(truth.late, said))
    assert got["f1_score"]["macro"] == pytest.approx(metrics.f1_score(truth.late, said, average="macro"))
    assert got["precision"]["weighted"] == pytest.approx(metrics.precision_score(truth.late, said, average="weighted"))
    assert got["roc_auc_score"] == pytest.approx(metrics.roc_auc_score(truth.late, truth.score))
    assert got["log_loss"] == pytest.approx(metrics.log_loss(truth.late, truth.score))
    cells = {(c["label"], c["prediction"]): c["count"] for c in got["confusion_matrix"]}
    assert cells["true", "false"] == int((truth.late & ~said).sum())


def test_the_reference_is_in_the_profile_as_baseline(profile):
    assert first(profile, "a", "BASELINE")["window"] is None
    assert first(profile, "a", "BASELINE")["count"] == 20_000


def test_windows_are_compared_with_the_reference_and_with_the_one_just_before(drift):
    rows = drift.filter(pl.col("column_name") == "a")
    assert rows["drift_type"].to_list().count("BASELINE") == 3
    pairs = [row for row in rows.iter_rows(named=True) if row["drift_type"] == "CONSECUTIVE"]
    assert len(pairs) == 1
    assert pairs[0]["window"]["start"] - pairs[0]["window_cmp"]["start"] == WEEK


def test_drift_of_numbers_is_that_of_scipy_within_what_bins_and_sketches_lose(drift, traffic):
    got = drift.filter((pl.col("column_name") == "a") & (pl.col("drift_type") == "CONSECUTIVE")).row(0, named=True)
    before, after = traffic[0].a, traffic[1].a
    assert got["ks_test"]["statistic"] == pytest.approx(stats.ks_2samp(before, after).statistic, abs=0.015)
    assert got["wasserstein_distance"] == pytest.approx(stats.wasserstein_distance(before, after), abs=0.03)
    assert got["avg_delta"] == pytest.approx(after.mean() - before.mean())
    assert got["chi_squared_test"] is None


def test_drift_of_categories_is_that_of_scipy(drift, traffic):
    got = drift.filter((pl.col("column_name") == "colour") & (pl.col("drift_type") == "CONSECUTIVE"))
    row = got.row(0, named=True)
    before, after = (np.unique(t.colour, return_counts=True)[1] for t in traffic[:2])
    expected = stats.chi2_contingency([before, after], correction=False)
    assert row["js_distance"] == pytest.approx(jensenshannon(before, after, base=2))
    assert row["chi_squared_test"]["pvalue"] == pytest.approx(expected.pvalue)
    assert row["tv_distance"] == pytest.approx(np.abs(before - after).sum() / 2 / ROWS)
    assert row["ks_test"] is None
