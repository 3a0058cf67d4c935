"""The lines of steps, and the last lines of a run."""

import json
from types import SimpleNamespace

from mlsys.evaluate import metrics
from mlsys.selection.leaderboard import leaderboard
from mlsys.train import FoldResult
from mlsys.workflow import summary
from mlsys.workflow.results import ExploreResult


def fits(scores):
    return [FoldResult(score, 0.5, 3.0, None, 80, 20) for score in scores]


def test_a_family_that_left_early_is_said_to_have():
    board = leaderboard(
        metrics.METRICS["roc_auc"],
        {"dummy": fits([0.5] * 3), "linear": fits([0.8, 0.9, 0.7]), "forest": [None, *fits([0.6, 0.5])]},
    )
    assert summary._leaderboard(board.to_json()) == [
        "leaderboard (roc_auc, mean over the folds ± standard error)",
        "  linear      0.8000 ± 0.0764      0.5 s a fit      3.0 µs a row   best, preferred",
        "  forest      0.5500 ± 0.0612      0.5 s a fit      3.0 µs a row   left after 2 folds",
        "  dummy       0.5000 ± 0.0000      0.5 s a fit      3.0 µs a row",
    ]


def test_columns_are_as_wide_as_their_longest_cell():
    scores = {"dummy": 412345.25, "linear": 98765.5, "forest": 9.5}
    board = leaderboard(metrics.METRICS["rmse"], {name: fits([score] * 3) for name, score in scores.items()}).to_json()
    board = json.loads(json.dumps(board))
    board["entries"][1] |= {"family": "a_family_of_a_plugin", "form": "log"}
    assert summary._leaderboard(board)[1:] == [
        "  forest                         9.5000 ± 0.0000      0.5 s a fit      3.0 µs a row   best, preferred",
        "  a_family_of_a_plugin, log  98765.5000 ± 0.0000      0.5 s a fit      3.0 µs a row",
        "  dummy                     412345.2500 ± 0.0000      0.5 s a fit      3.0 µs a row",
    ]


def test_metrics_are_in_line_whatever_their_titles_and_values():
    entries = {
        "a": {"title": "a metric with a title longer than others", "value": 0.5, "low": None, "high": None},
        "b": {"title": "short", "value": 1234567.25, "low": 1.0, "high": 2.0},
        "c": {"title": "none", "value": None, "low": None, "high": None},
    }
    assert summary._metrics(SimpleNamespace(metrics=entries)) == [
        "test rows (value, interval)",
        "  a metric with a title longer than others       0.5000",
        "  short                                    1234567.2500  [1.0000, 2.0000]",
    ]


def test_the_columns_that_the_leakage_scan_names_are_on_the_line():
    result = ExploreResult("digest", "page", 100, 9, 1, 3, ("registered", "casual"))
    assert summary.explored(result) == "100 training rows, 9 columns: 1 alert, 3 leakage findings (registered, casual)"


def window(label, verdict, estimated=None, realised=None, *, trusted=True):
    estimate = None if estimated is None else {"metrics": {"roc_auc": estimated}, "trusted": trusted}
    metrics = {} if realised is None else {"roc_auc": realised}
    return {"label": label, "verdict": verdict, "estimate": estimate, "metrics": metrics}


def value(number, low=None, high=None):
    return {"value": number, "low": low, "high": high, "error": None}


EVALUATED = SimpleNamespace(metric="roc_auc", metrics={"roc_auc": {"title": "ROC AUC"}})


def test_what_was_estimated_stands_beside_what_labels_gave_and_before_what_the_alarms_do():
    windows = [
        window("October", "too_few", value(0.9)),
        window("November", "ok", value(0.68254, 0.65, 0.71), value(0.6712, 0.64, 0.702)),
        window("December", "degraded", value(0.7, 0.6, 0.8), value(0.5), trusted=False),
        window("January", "ok"),
    ]
    monitored = SimpleNamespace(windows=windows, alarms=("'delay' moved, the predictions did not.",))
    assert summary._monitored(monitored, EVALUATED) == [
        "monitor (ROC AUC)",
        "  window    estimated without labels       by labels             verdict",
        "  November  0.683 [0.650, 0.710]           0.671 [0.640, 0.702]  ok",
        "  December  0.700 [0.600, 0.800], doubted  0.500                 degraded",
        "  January   –                              –                     ok",
        "  'delay' moved, the predictions did not.",
    ]


def test_windows_are_the_newest_ones_and_without_one_that_was_judged_nothing_is_said():
    many = SimpleNamespace(windows=[window(f"w{i}", "ok") for i in range(20)], alarms=())
    assert [line.split()[0] for line in summary._monitored(many, EVALUATED)[2:]] == [f"w{i}" for i in range(12, 20)]
    assert summary._monitored(SimpleNamespace(windows=[window("w", "too_few")], alarms=()), EVALUATED) == []
