"""Stretches of time: where there are any, and that what is judged is later than what was fitted on."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlsys.schema import ROW, Role, Schema
from mlsys.statistics import TrainStatistics
from mlsys.train import stretches

TREND = {"features.columns": {"at": ["datetime", "trend"]}}


@pytest.fixture(scope="module")
def built(make_split):
    """A split whose time is a feature, that took chance to divide; rows are in the order of the time."""
    split, _, recipe, task = make_split("regression", 2_000)
    plain = [c.model_copy(update={"role": Role.FEATURE}) if c.name == "at" else c for c in split.schema.columns]
    split = replace(split, schema=Schema(columns=plain))
    return split, TrainStatistics.of_table(split.table("train"), split.schema, task), recipe, task


def test_one_time_with_a_trend_is_followed_and_nothing_else(built, make_split):
    split, _, recipe, task = built
    timed, *_ = make_split("regression", 600)
    two = {"features.columns": {name: ["datetime", "trend"] for name in ("at", "then")}}
    columns = [
        stretches.time_column(split.schema, recipe.having(TREND), task),
        stretches.time_column(split.schema, recipe, task),
        stretches.time_column(split.schema, recipe.having({"features.columns": {"at": "datetime"}}), task),
        stretches.time_column(split.schema, recipe.having(two), task),
        stretches.time_column(timed.schema, recipe.having(TREND), task),  # whose time is that of the row
    ]
    assert columns == ["at", None, None, None, None]


def test_stretches_begin_at_quantiles_of_the_time_and_end_where_the_next_one_begins(built):
    split, *_ = built
    found = stretches.find(split, "at")  # an hour a row from 2020-01-01 on, of which 1,200 are for training
    assert [str(each) for each in found] == [
        "at from 2020-01-28 12:00",  # 660 hours later
        "at from 2020-02-05 00:00",  # 840
        "at from 2020-02-12 12:00",  # 1,020
    ]
    assert [each.end for each in found[:2]] == [each.begin for each in found[1:]]
    hour = 3_600 * 10**6
    assert (found[0].end - found[0].begin) // hour == 180
    assert found[2].end == found[2].begin + 179 * hour + 1


def test_rows_that_came_in_another_order_and_few_rows_have_no_stretches(built, make_split, tmp_path):
    split, *_ = built
    rows = split.table("train")
    (tmp_path / "train").mkdir()
    file, shuffled = tmp_path / "train" / "part-00000.parquet", replace(split, folder=tmp_path)
    place = rows.schema.get_field_index(ROW)
    for numbers, count in ((rows[ROW].to_numpy()[::-1], 3), (np.random.default_rng(0).permutation(len(rows)), 0)):
        pq.write_table(rows.set_column(place, ROW, [numbers]), file)
        assert len(stretches.find(shuffled, "at")) == count  # newest first is an order, too
    few, *_ = make_split("regression", 600)
    assert stretches.find(few, "at") == ()


def test_every_judged_row_is_later_than_all_that_were_fitted_on(built):
    split, statistics, recipe, task = built
    for stretch in stretches.find(split, "at"):
        made = stretches.prepare(split, statistics, recipe, task, "xgboost", stretch)
        rows = split.table("train", ["at", "y"]).sort_by("at")
        before = round(stretch.share * len(rows))
        assert made.stopping is made.judged
        assert sorted(made.train.y) == sorted(rows["y"].to_pylist()[:before])
        assert sorted(made.judged.y) == sorted(rows["y"].to_pylist()[before : before + 180])
        by_number = dict(zip(*(split.table("train")[name].to_pylist() for name in (ROW, "y")), strict=True))
        assert [by_number[number] for number in made.judged_rows] == made.judged.y.tolist()
