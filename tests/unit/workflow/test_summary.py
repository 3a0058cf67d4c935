"""The leaderboard as the last lines of a run say it."""

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


def test_the_columns_that_the_leakage_scan_names_are_on_the_line():
    result = ExploreResult("digest", "page", 100, 9, 1, 3, ("registered", "casual"))
    assert summary.explored(result) == "100 training rows, 9 columns: 1 alert, 3 leakage findings (registered, casual)"
