"""Alarms in the order of what they do, and in words, for windows that are made by hand."""

from __future__ import annotations

import pytest

from mlsys.evaluate.metrics import METRICS
from mlsys.monitor.decision import JudgedWindow
from mlsys.monitor.drift_alarms import Shift
from mlsys.monitor.estimate import EstimatedPerformance
from mlsys.monitor.impact import impacts
from mlsys.monitor.judgement_json import alarms_in_words
from mlsys.monitor.performance import Performance, PerformanceEstimate, PerformanceLoss
from mlsys.monitor.two_sample import JointShift
from mlsys.monitor.windows import Window
from mlsys.schema import Task, TaskKind

TASK = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))


def shift(column, effect=None, *, matters=True, alarmed=True, excess=0.3):
    return Shift(column, 0.3, excess, 0.1, 0.0, 0.0, effect, 0.0, alarmed, "", matters)


def judged(*shifts, losses=(), estimate=None):
    performance = Performance(losses=list(losses)) if losses else None
    return JudgedWindow(Window(None, None, "w", None), list(shifts), performance, estimate=estimate)


def auc_loss(value, *, certain=True):
    return PerformanceLoss("roc_auc", value, 0.02, certain=certain, detail="")


def estimated(value, margin, *doubts):
    """An estimate of the ROC AUC that is worse than on the test rows by `value` ± `margin`."""
    chosen = PerformanceEstimate(0.7 - value, 0.7 - value - margin, 0.7 - value + margin, margin / 2)
    loss = auc_loss(value, certain=value > margin)
    return EstimatedPerformance({"roc_auc": chosen}, None, list(doubts), loss, margin, chosen)


def told(window):
    return [alarm.words for alarm in impacts(window, TASK, METRICS["roc_auc"])]


def test_a_column_to_which_the_model_is_indifferent_moved_and_the_predictions_did_not():
    window = judged(shift("pressure", 0.01, matters=False), estimate=estimated(0.0, 0.01))
    assert told(window) == ["'pressure' moved, the predictions did not; ROC AUC is estimated to hold"]


def test_the_predictions_come_first_then_columns_by_what_they_move_and_the_labels_last():
    window = judged(
        shift("late", matters=False),
        shift("pressure", 0.0, matters=False, excess=0.9),
        shift("dew", 0.05, matters=False),
        shift("load", 0.2),
        shift("delay", 0.623),
        shift("note", None),
        shift("quiet", 0.9, alarmed=False),
        shift("score", 0.0),
    )
    order = [alarm.columns[0] for alarm in impacts(window, TASK, METRICS["roc_auc"])]
    assert order == ["score", "note", "delay", "load", "dew", "pressure", "late"]
    assert [words.removesuffix("; the performance is not known") for words in told(window)] == [
        "'score' moved: the predictions themselves",
        "'note' moved, and so did the predictions, perhaps with it",
        "'delay' moved, and the predictions with it, by 0.62 sd",
        "'load' moved, and the predictions with it, by 0.2 sd",
        "'dew' moved; the predictions did, too, and hardly with it (0.05 sd)",
        "'pressure' moved; the predictions did, too, and hardly with it (0 sd)",
        "'late' moved: the labels; the predictions did, too",
    ]


def test_columns_that_moved_together_come_after_those_that_matter_and_before_the_others():
    window = judged(shift("pressure", 0.0, matters=False), shift("load", 0.4))
    window.joint = JointShift(0.63, 0.0, 0.0, alarmed=True, columns=("dew", "wind"))
    unknown = "; the performance is not known"
    assert told(window)[1] == f"'dew' and 'wind' moved together, none by itself, the predictions did not{unknown}"
    order = [alarm.columns for alarm in impacts(window, TASK, METRICS["roc_auc"])]
    assert order == [("load",), ("dew", "wind"), ("pressure",)]
    window.shifts.append(shift("score"))
    assert told(window)[2].startswith("'dew' and 'wind' moved together, none by itself, and so did the predictions")


def test_columns_that_cancel_each_other_are_told_as_such():
    words = told(judged(shift("delay", 0.3), shift("late", matters=False), shift("note", None)))
    assert [each.removesuffix("; the performance is not known") for each in words] == [
        "'note' moved, the predictions did not",
        "'delay' moved, which moves predictions by 0.3 sd by itself; as a whole they did not move",
        "'late' moved: the labels; the predictions did not",
    ]


@pytest.mark.parametrize(
    ("performance", "outcome", "loss", "clause"),
    [
        ({"losses": [auc_loss(0.05)]}, "fell", 0.05, "ROC AUC is worse than on the test rows by 0.05"),
        (
            {"losses": [auc_loss(0.05, certain=False)]},
            "unknown", 0.05, "ROC AUC is worse than on the test rows by 0.05, which may be chance",
        ),
        ({"losses": [auc_loss(0.01)]}, "holds", 0.01, "ROC AUC holds, by the labels"),
        (
            {"losses": [auc_loss(0.0), PerformanceLoss("calibration", 0.2, 0.05, certain=True, detail="")]},
            "fell", 0.0, "the probabilities no longer fit what is observed",
        ),
        (
            {"estimate": estimated(0.05, 0.01)},
            "fell", 0.05, "ROC AUC is estimated to be worse than on the test rows by 0.05",
        ),
        ({"estimate": estimated(0.0, 0.01)}, "holds", 0.0, "ROC AUC is estimated to hold"),
        (
            {"estimate": estimated(0.01, 0.04)},
            "unknown", 0.01, "the estimate of ROC AUC is too uncertain to say what it costs",
        ),
        (
            {"estimate": estimated(0.05, 0.01, "half of 'delay' lies outside of its range in training")},
            "unknown", None, "the estimate of ROC AUC is not to be trusted",
        ),
        ({}, "unknown", None, "the performance is not known"),
    ],
)  # fmt: skip
def test_the_metric_by_labels_or_else_as_estimated(performance, outcome, loss, clause):
    """Labels decide where both are there: an estimate that holds does not hide a loss that they show."""
    (alarm,) = impacts(judged(shift("score"), **performance), TASK, METRICS["roc_auc"])
    assert (alarm.outcome, alarm.words) == (outcome, f"'score' moved: the predictions themselves; {clause}")
    assert alarm.loss == pytest.approx(loss)
    if "losses" in performance:
        both = judged(shift("score"), **performance, estimate=estimated(0.0, 0.001))
        assert impacts(both, TASK, METRICS["roc_auc"])[0].outcome == outcome


def window(label, *words, verdict="drift", partial=False):
    alarms = [{"words": each} for each in words]
    return {"label": label, "verdict": verdict, "partial": partial, "alarms": alarms, "regions": []}


def test_the_console_has_the_last_window_that_is_complete_and_judged():
    last = [window("a", "x"), window("b", *"12345678"), window("c", "y", partial=True), window("d", verdict="too_few")]
    lines = alarms_in_words(last, "ROC AUC")
    assert lines == ["b: 1.", "b: 2.", "b: 3.", "b: 4.", "b: 5.", "3 more alarms are in the report."]
    assert alarms_in_words([window("a", "x"), window("b", verdict="ok")], "ROC AUC") == []
    assert alarms_in_words([window("a", "x", partial=True)], "ROC AUC") == ["a: x."]
    assert alarms_in_words([], "ROC AUC") == []
    region = {"column": "origin", "slice": "JFK", "value": 0.61, "test": 0.7234, "worse": True}
    sliced = {**window("a", "x"), "regions": [region, {**region, "slice": "EWR", "worse": False}]}
    assert alarms_in_words([sliced], "ROC AUC") == [
        "a: ROC AUC of the rows with 'origin' = JFK is 0.610, 0.723 on the test rows.",
        "a: x.",
    ]
