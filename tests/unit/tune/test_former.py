"""A search begins with what was best in the one before, and keeps the tracebacks of trials that failed."""

import json
import os

import pytest

from mlsys.tune import former, points
from mlsys.tune.journal import Journal, Trial
from mlsys.tune.points import Searched

FAMILIES = {"one": Searched({}, {}, ({"depth": 1}, {"depth": 2})), "two": Searched({}, {}, ({"depth": 3},), ("rate",))}


def journal(tmp_path, name, scores=(), sign=1, age=0):
    """A journal of trials of family `one` with depths 1, 2, …, and of the defaults, which are the best of all."""
    made = Journal(tmp_path / name / "journal.jsonl")
    former.describe(made, sign)
    for number, score in enumerate(scores):
        made.append(Trial(number, "one", {"depth": number} if number else {}, score, 40, True, 1.0, 1.0))
    os.utime(tmp_path / name / former.FILE, (1_000_000 - age, 1_000_000 - age))
    return made


@pytest.mark.parametrize(("sign", "depths"), [(1, [3, 1]), (-1, [2, 1])])
def test_the_best_points_of_the_newest_search_come_first_whichever_scores_are_better(tmp_path, sign, depths):
    journal(tmp_path, "old", [0.1, 0.9, 0.9], sign, age=50)
    journal(tmp_path, "before", [0.99, 0.5, 0.4, 0.6], sign)
    own = journal(tmp_path, "now", [0.3, 0.2])
    assert former.best_points(own, FAMILIES) == [("one", {"depth": depth}) for depth in depths]


def test_points_of_a_family_that_is_gone_and_of_what_the_recipe_fixes_are_not_tried(tmp_path):
    before = journal(tmp_path, "before")
    before.append(Trial(0, "gone", {"depth": 1}, 0.9, 40, True, 1.0, 1.0))
    before.append(Trial(1, "two", {"rate": 0.5}, 0.8, 40, True, 1.0, 1.0))
    before.append(Trial(2, "two", {"depth": 7}, 0.7, 40, True, 1.0, 1.0))
    assert former.best_points(journal(tmp_path, "now"), FAMILIES) == [("two", {"depth": 7})]


def test_the_first_search_of_a_name_has_none(tmp_path):
    assert former.best_points(journal(tmp_path, "now", [0.5, 0.6]), FAMILIES) == []
    (tmp_path / "older").mkdir()  # of a version that did not say what its scores mean
    assert former.best_points(journal(tmp_path, "now"), FAMILIES) == []


def test_they_are_tried_after_the_defaults_and_not_twice():
    own = points.first_points(FAMILIES, [("one", {"depth": 2}), ("one", {"depth": 9})])
    expected = [("one", {}), ("one", {"depth": 2}), ("one", {"depth": 9}), ("one", {"depth": 1}), ("two", {"depth": 3})]
    assert own == expected


def test_the_traceback_of_a_failed_trial_is_kept_whole(tmp_path):
    own = journal(tmp_path, "now")
    own.note_failure({"family": "one", "params": {"depth": 3}}, "Traceback\n  line 1\nValueError: no")
    own.note_failure({"family": "two", "params": {}}, "KilledWorker")
    lines = [json.loads(line) for line in own.failures.read_text().splitlines()]
    assert [(line["family"], line["traceback"]) for line in lines] == [
        ("one", "Traceback\n  line 1\nValueError: no"),
        ("two", "KilledWorker"),
    ]
    assert own.trials == []
