from __future__ import annotations

import pytest

from mlsys.monitor.decision import EXIT_CODES, JudgedWindow, decide
from mlsys.monitor.drift_alarms import Shift
from mlsys.monitor.performance import Performance, PerformanceLoss
from mlsys.monitor.windows import Window


def window(verdict, *, measured=True, partial=False, moved=(), beyond=(), worse=(), reasons=()):
    """A judged window with alarms of `moved` and of `beyond`, the latter outside the reference, and with losses."""
    shifts = [
        Shift(name, 0.3, 0.3, 0.1, 0.0, 0.0, None, outside, alarmed=True, detail="")
        for names, outside in ((moved, 0.0), (beyond, 1.0))
        for name in names
    ]
    losses = [PerformanceLoss(what, 1.0, 0.5, certain=True, detail="") for what in worse]
    losses.append(PerformanceLoss("accuracy", 0.0, 0.5, certain=False, detail=""))
    performance = Performance(losses=losses) if measured else None
    return JudgedWindow(Window(None, None, "w", None, partial=partial), shifts, performance, verdict, list(reasons))


OK, BAD = window("ok"), window("degraded", worse=("roc_auc",), reasons=("ROC AUC 0.6, 0.7 on the test rows.",))
BLIND = window("drift", measured=False, moved=("a",))


@pytest.mark.parametrize(
    ("windows", "word"),
    [
        ([OK, OK, OK], "keep"),
        ([BAD, OK, BAD], "retrain"),
        ([BAD, BAD, OK, OK, BAD], "watch"),
        ([BAD, BAD, OK, OK, OK], "keep"),
        ([OK, window("drift", moved=("a",))], "keep"),
        ([OK, BLIND], "watch"),
        ([BLIND, OK, OK, OK], "keep"),
        ([window("too_few", measured=False)] * 3, "watch"),
        ([], "watch"),
        ([BAD, window("too_few", measured=False), BAD], "retrain"),
        ([OK, window("degraded", partial=True, worse=("roc_auc",))], "keep"),
        ([window("degraded", partial=True, worse=("roc_auc",), reasons=("x.",))], "watch"),
    ],
)
def test_decision(windows, word):
    decision = decide(windows, (2, 3), "ROC AUC")
    assert decision.word == word
    assert decision.exit_code == {"keep": 0, "watch": 3, "retrain": 4}[word]
    assert decision.headline
    assert decision.reasons


def test_drift_that_passes_is_kept_and_told_where_two_of_three_windows_are_asked_for():
    assert decide([OK, BLIND, BLIND], (2, 3), "ROC AUC", (2, 3)).word == "watch"
    once = decide([BLIND, OK, BLIND, OK, OK], (2, 3), "ROC AUC", (2, 3))
    assert once.word == "keep"
    assert "w: drift of a." in once.reasons
    assert "1 of the last 3 windows; from 2 on they are watched." in once.reasons


def test_one_of_one_retrains_at_once():
    assert decide([OK, BAD], (1, 1), "ROC AUC").word == "retrain"


def test_the_reasons_of_a_retraining_can_be_checked():
    bad = window("degraded", worse=("calibration",), beyond=("month",), reasons=("predicted 20.0%, observed 30.0%.",))
    reasons = decide([bad, bad], (2, 3), "ROC AUC").reasons
    assert reasons[0] == "w: predicted 20.0%, observed 30.0%."
    assert reasons[2].startswith("ROC AUC is not measurably worse")
    assert reasons[3].startswith("Training never saw values of month like these")


def test_exit_codes_leave_those_of_failures_alone():
    assert not {1, 2} & set(EXIT_CODES.values())
