"""The benchmark of model quality divides, scores and compares as it says, on generated tables."""

import ast
import math
from argparse import Namespace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import model_quality
import quality_peers
import quality_scores
import quality_sets
from mlsys.recipe import Recipe


def prepared(truth, *, known=(), classes=(), task="binary"):
    return quality_sets.Prepared(
        "generated", "y", task, Path("train"), Path("test"), classes, np.array(known), np.array(truth)
    )


def job(**values):
    names = ("train", "test", "predictions")
    return (
        {"name": "telco_churn", "target": "y", "task": "binary", "classes": ("a", "b"), "seed": 3, "budget_s": 15.0}
        | {name: f"{name}.parquet" for name in names}
        | values
    )


def test_a_fifth_is_drawn_and_each_time_the_same():
    frame = pl.DataFrame({"row": range(1_000), "y": 0.0})
    train, test = quality_sets.divide(frame, None, "y")
    assert (train.height, test.height) == (800, 200)
    assert sorted([*train["row"], *test["row"]]) == list(range(1_000))
    assert quality_sets.divide(frame, None, "y")[1].equals(test)


def test_no_test_row_equals_a_training_row_whatever_their_targets():
    values = [*range(900), *range(99), None, None]
    train, test = quality_sets.divide(pl.DataFrame({"x": values, "y": range(1_001)}), None, "y")
    assert not {*train["x"]} & {*test["x"]}
    assert 150 < test.height < 200


def test_the_last_fifth_by_time_is_the_test_and_a_time_is_not_divided():
    hours = np.random.default_rng(0).integers(0, 50, 1_000)
    train, test = quality_sets.divide(pl.DataFrame({"hour": hours}), "hour", "y")
    assert train["hour"].max() < test["hour"].min()
    assert train.height + test.height == 1_000
    assert 200 <= test.height < 200 + np.bincount(hours).max()


def test_contenders_see_texts_for_classes_no_rare_ones_and_no_target_of_the_test(tmp_path):
    (tmp_path / "wine_quality").mkdir()
    quality = [5] * 60 + [6] * 40 + [9] * (quality_sets.RARE - 1)
    wine = pl.DataFrame({"alcohol": np.arange(len(quality)) / 10, "quality": quality})
    wine.write_parquet(tmp_path / "wine_quality" / "wine.parquet")
    case = quality_sets.prepare("wine_quality", tmp_path, tmp_path)
    assert case.classes == ("5", "6")
    assert (len(case.known), len(case.truth)) == (80, 20)
    assert pl.read_parquet(case.train).schema == {"alcohol": pl.Float64, "quality": pl.String}
    assert pl.read_parquet_schema(case.test) == {"alcohol": pl.Float64}


def test_columns_that_know_the_answer_are_left_out(tmp_path):
    (tmp_path / "bike_sharing").mkdir()
    dates = [f"{datetime(2011, 1, 1) + timedelta(hours=hour)}" for hour in range(100)]  # noqa: DTZ001  (as in the file)
    bikes = pl.DataFrame({"date": dates, "instant": range(100), "casual": 1, "registered": range(100), "temp": 0.5})
    bikes.with_columns(cnt=pl.col("registered") + 1).write_parquet(tmp_path / "bike_sharing" / "bike_sharing.parquet")
    case = quality_sets.prepare("bike_sharing", tmp_path, tmp_path)
    assert pl.read_parquet_schema(case.test) == {"date": pl.Datetime("us"), "temp": pl.Float64}
    assert case.truth.tolist() == [float(value) for value in range(81, 101)]


def test_losses_are_those_of_the_textbook():
    binary = prepared(["a", "b", "a", "b"], classes=("a", "b"))
    score = np.array([0.1, 0.4, 0.6, 0.9])  # three of the four pairs of an a and a b are in order
    assert quality_scores.loss(binary, np.column_stack([1 - score, score])) == pytest.approx(0.25)
    many = prepared(["a", "c"], classes=("a", "b", "c"), task="multiclass")
    said = np.array([[0.5, 0.25, 0.25], [0.5, 0.375, 0.125]])
    assert quality_scores.loss(many, said) == pytest.approx((math.log(2) + math.log(8)) / 2)
    number = prepared([1.0, 2.0], task="regression")
    assert quality_scores.loss(number, np.array([4.0, 6.0])) == pytest.approx(math.sqrt(12.5))


def test_a_probability_of_zero_costs_no_more_than_the_least():
    many = prepared(["a", "c"], classes=("a", "b", "c"), task="multiclass")
    said = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert quality_scores.loss(many, said) == pytest.approx(-math.log(quality_scores.LEAST_PROBABILITY) / 2, rel=1e-4)


def test_the_dummy_knows_the_targets_of_the_training_rows_alone():
    case = prepared(["a", "b"], known=["a", "a", "a", "b"], classes=("a", "b"))
    assert quality_scores.dummy(case).tolist() == [[0.75, 0.25], [0.75, 0.25]]
    assert quality_scores.loss(case, quality_scores.dummy(case)) == pytest.approx(0.5)
    assert quality_scores.dummy(prepared([7.0], known=[1.0, 3.0], task="regression")).tolist() == [2.0]


def test_a_normalised_loss_is_the_fraction_of_the_way_from_the_best_to_the_dummy():
    assert quality_scores.normalised({"x": 0.1, "y": 0.2, "z": 0.6}, 0.5) == pytest.approx(
        {"x": 0, "y": 0.25, "z": 1.25}
    )
    assert quality_scores.normalised({"x": 0.5, "y": 0.7}, 0.5) == {"x": 1.0, "y": 1.0}


def test_wins_and_the_largest_excess_are_counted_over_the_sets():
    ours, theirs = {"one": 0.1, "two": 0.3, "three": 0.2}, {"one": 0.2, "two": 0.2, "three": 0.2}
    found = quality_scores.against(ours, theirs)
    assert (found["wins"], found["draws"], found["losses"]) == (1, 1, 1)
    assert (found["largest_excess"], found["largest_excess_on"]) == (pytest.approx(0.5), "two")
    assert found["ratio"] == pytest.approx((2 * 2 / 3 * 1) ** (1 / 3))


@pytest.mark.parametrize(
    ("program", "note"), [("exit 3", "failed: exit 3"), ("echo no memory >&2; exit 1", "failed: no memory")]
)
def test_a_contender_that_fails_has_the_loss_of_the_dummy_and_its_reason(tmp_path, program, note):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    wanted = Namespace(peer_python=python, repeats=2, budget=1.0, threads=1, preset="medium_quality")
    outcome = model_quality.contend("flaml", prepared(["a", "b"], classes=("a", "b")), 0.5, wanted)
    assert (outcome.losses, outcome.note) == ((0.5, 0.5), note)


def test_predictions_that_are_no_numbers_or_too_few_are_refused():
    case = prepared([1.0, 2.0], task="regression")
    quality_scores.check(case, np.array([1.0, 2.0]))
    for wrong in ([1.0], [1.0, math.nan], [[1.0], [2.0]]):
        with pytest.raises(ValueError, match="predictions of shape"):
            quality_scores.check(case, np.array(wrong))


def test_our_recipe_says_no_more_than_the_peers_are_told():
    tree = model_quality.recipe(job())
    assert tree.pop("budget", "15s") == "15s"
    assert set(tree) == {"name", "target", "task", "seed", "data", "split"}
    assert Recipe.model_validate(tree).split.fractions["test"] == 0.01


def test_a_beginning_names_a_set():
    assert model_quality._names("adult, nyc_,flaml,") == ["adult_census", "nyc_taxi_yellow_2019h1", "flaml"]


def test_probabilities_of_peers_come_in_the_order_of_the_classes():
    made = quality_peers._in_order(np.array([[0.1, 0.9], [0.3, 0.7]]), [7, 5], ["5", "6", "7"])
    assert made.tolist() == [[0.9, 0.0, 0.1], [0.7, 0.0, 0.3]]


def test_the_peers_stand_alone(root):
    tree = ast.parse((root / "benchmarks" / "quality_peers.py").read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {path.stem for path in (root / "benchmarks").glob("*.py")} | {"mlsys"}
    assert not {name.split(".")[0] for name in names} & ours
