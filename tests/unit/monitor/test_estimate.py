"""Performance without labels, on logs of a world whose truth is known."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from mlsys.evaluate import metrics, recalibration
from mlsys.monitor import judge as step
from mlsys.monitor.windows import Window, rows_beside
from mlsys.statistics import TableStatistics
from traffic import MONDAY, SCHEMA, TASK, WEEK, Traffic, logged

ROWS = 1_500


@pytest.fixture(scope="module")
def evaluated():
    """The facts of an evaluation on 10,000 test rows of the unchanged world."""
    test = Traffic.draw(10_000, 77)
    output = np.column_stack([1 - test.score, test.score])
    error = {"roc_auc": {"value": metrics.measure("roc_auc", test.late.astype(int), output), "error": 0.004}}
    facts = recalibration.facts(test.late.astype(float), output, TASK, None)
    return {"metrics": error, "estimation": facts, "num_rows": 10_000, "unseen": {"colour": 100}}


def judge(world, evaluated, labels=None, **section):
    return step.compare(
        world.store, "world", world.bundle, world.folder, labels, world.recipe(**section), baseline=evaluated
    )


def labels_of(traffics):
    return pa.concat_tables([traffic.labels() for traffic in traffics])


def estimates(judgement, key=None):
    found = [window["estimate"] for window in judgement.value["windows"]]
    return found if key is None else [estimate[key] for estimate in found]


def some(traffic, mask):
    """Rows of a traffic."""
    columns = {name: getattr(traffic, name)[mask] for name in ("a", "b", "colour", "night", "seats", "score", "late")}
    ids = [name for name, is_taken in zip(traffic.ids, mask, strict=True) if is_taken]
    return dataclasses.replace(traffic, num_rows=int(mask.sum()), ids=ids, **columns)


def realised(traffic):
    return metrics.measure("roc_auc", traffic.late.astype(int), np.column_stack([1 - traffic.score, traffic.score]))


def test_estimates_hold_what_labels_say_later(world, evaluated):
    """Of 20 intervals of 95 %, fewer than 16 hold with a probability of 0.0003."""
    traffic = [Traffic.draw(ROWS, k) for k in range(20)]
    world.write(traffic)
    judgement = judge(world, evaluated, labels_of(traffic))
    facts = judgement.value["estimates"]
    assert (facts["reason"], facts["num_compared"]) == (None, 20)
    assert facts["num_held"] >= 16
    assert estimates(judgement, "realised") == pytest.approx([realised(each) for each in traffic])
    assert abs(facts["mean_error"]) < 0.01


def test_hard_rows_are_estimated_to_cost_performance_before_any_label(world, evaluated):
    usual, hard = Traffic.draw(ROWS, 1), Traffic.draw(6_000, 2)
    hard = some(hard, (hard.score > 0.2) & (hard.score < 0.6))
    world.write([usual, hard])
    judgement = judge(world, evaluated)
    one, other = (estimate["metrics"]["roc_auc"] for estimate in estimates(judgement))
    assert one["value"] == pytest.approx(realised(usual), abs=0.03)
    assert other["low"] <= realised(hard) <= other["high"]
    assert estimates(judgement, "trusted") == [True, True]
    assert (judgement.decision, judgement.exit_code) == ("watch", 3)
    assert judgement.value["decision"]["headline"] == (
        "Watch: ROC AUC is estimated to have fallen in 1 window without labels."
    )
    assert "Estimated without labels: ROC AUC 0.6" in judgement.summary
    assert "ROC AUC is estimated at 0.6" in " ".join(judgement.value["windows"][1]["reasons"])


def test_an_estimate_is_doubted_after_labels_have_shown_that_scores_mean_something_else(world, evaluated):
    """Three weeks with labels in which the model is blind, and one without."""
    traffic = [Traffic.draw(ROWS, k, blind=True) for k in range(4)]
    world.write(traffic)
    judgement = judge(world, evaluated, labels_of(traffic[:3]))
    assert estimates(judgement, "held") == [False, False, False, None]
    assert estimates(judgement, "trusted") == [True, False, False, False]
    assert estimates(judgement)[3]["doubts"] == [
        (
            "in 3 of the last 3 windows with labels ROC AUC was outside of its estimated interval: the same scores no "
            "longer mean the same"
        )
    ]
    assert judgement.summary.endswith("not to be trusted.")
    page = (judgement.folder / "report.html").read_text()
    assert "Of 3 windows with labels, 0 had ROC AUC within the interval of the estimate." in page


def test_an_estimate_is_doubted_where_values_are_new_to_the_model(world, evaluated):
    table = logged(Traffic.draw(ROWS, 1), MONDAY, digest=world.bundle.digest)
    world.add(table.set_column(table.column_names.index("unseen"), "unseen", pa.array([1] * ROWS, pa.int32())))
    (estimate,) = estimates(judge(world, evaluated))
    assert estimate["doubts"] == ["1.00 values a row are new to the model, 0.01 of the test rows"]


def test_an_estimate_is_doubted_where_scores_leave_the_range_of_the_test_rows(world, evaluated):
    traffic = Traffic.draw(ROWS, 1)
    traffic.score = np.where(np.arange(ROWS) < 300, 0.99999, traffic.score)
    world.write([traffic])
    (estimate,) = estimates(judge(world, evaluated))
    assert estimate["doubts"] == ["20% of the scores lie outside of the range that they had on the test rows"]


def test_without_facts_of_test_rows_nothing_is_estimated_and_the_page_says_why(world):
    world.write([Traffic.draw(ROWS, 1)])
    judgement = judge(world, world.baseline)
    assert estimates(judgement) == [None]
    assert judgement.value["estimates"]["reason"].startswith("the evaluation of this version")
    assert "Performance is not estimated without labels" in (judgement.folder / "report.html").read_text()


def test_rows_that_are_read_in_two_runs_are_estimated_as_in_one(world, evaluated):
    first, second = logged(Traffic.draw(500, 1), MONDAY, digest=world.bundle.digest), Traffic.draw(700, 2)
    options = {"baseline": evaluated, "is_stored": True}
    compare = (world.store, "read-twice", world.bundle, world.folder, None, world.recipe())
    world.add(first)
    step.compare(*compare, **options)
    world.add(logged(second, MONDAY, digest=world.bundle.digest))
    twice = step.compare(*compare, **options)
    assert estimates(twice) == estimates(judge(world, evaluated))


def test_counts_of_scores_are_kept_as_they_are(made):
    window = Window(MONDAY, MONDAY + WEEK, "", statistics=_empty())
    window.add_scores(recalibration.score_counts(np.array([[0.2, 0.8], [0.7, 0.3]]), TASK, 0.5))
    again = Window.from_json(window.to_json())
    assert again.scores.tolist() == window.scores.tolist()
    again.merge(window)
    assert again.scores.sum() == 4


def _empty():
    return TableStatistics.empty(SCHEMA, TASK)


def test_a_row_of_a_week_has_the_rows_of_its_day_beside_it_and_a_row_of_a_day_all():
    week = Window(MONDAY, MONDAY + WEEK, "", _empty(), num_rows=700, counts={"score": np.full((7, 1), 100)})
    assert rows_beside(week) == 100
    assert rows_beside(dataclasses.replace(week, end=MONDAY + dt.timedelta(days=1))) == 700
    week.counts["score"] = np.array([[300], [100]])
    assert rows_beside(week) == (300**2 + 100**2) / 400


def test_predictions_that_move_while_the_estimate_holds_are_watched_and_said_to_hold(world, evaluated):
    """Easier rows: scores near 0 and 1."""
    easy = Traffic.draw(9_000, 3)
    easy = some(easy, (easy.score < 0.3) | (easy.score > 0.7))
    world.write([Traffic.draw(ROWS, 1), easy])
    judgement = judge(world, evaluated)
    headline = "the predictions move with the traffic, and ROC AUC is estimated to hold; no labels say so yet"
    assert judgement.value["decision"]["headline"] == f"Watch: {headline}."
