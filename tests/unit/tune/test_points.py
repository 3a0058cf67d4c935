"""What a search tries, in which order, and what it makes of trials of before."""

import dataclasses
import math
import time

import pytest

from mlsys.models.interface import Choice, Integer, Uniform
from mlsys.tune import points
from mlsys.tune.journal import Journal, Trial
from mlsys.tune.points import Points, Proposer, Searched

SPACE = {"depth": Integer(1, 10), "rate": Uniform(0.01, 1.0, log=True), "kind": Choice(("a", "b"))}
DEFAULTS = {"depth": 6, "rate": 0.1, "kind": "a", "learning_rate": 0.05}


def families(**portfolios):
    return {name: Searched(DEFAULTS, SPACE, tuple(points)) for name, points in portfolios.items()}


def made(sign=1, **portfolios):
    own = families(**portfolios)
    return Points(own, points.first_points(own), sign, seed=0)


def trial(number, family, params, score=0.5, fit_s=1.0):
    return Trial(number, family, params, score, 40, True, fit_s, float(number))


def test_the_defaults_come_first_then_the_portfolios_in_turn():
    own = families(one=[{"depth": 1}, {"depth": 2}], two=[{"depth": 3}], three=[])
    assert points.first_points(own) == [
        ("one", {}),
        ("one", {"depth": 1}),
        ("two", {"depth": 3}),
        ("one", {"depth": 2}),
    ]


def test_as_many_points_as_begin_at_once_are_tried_however_late_it_is(tmp_path):
    late = time.time() - 1
    for at_once, tried in ((1, 1), (2, 2), (16, 2)):
        journal = Journal(tmp_path / f"{at_once}.jsonl")
        proposer = Proposer(made(one=[{"depth": 1}], two=[{"depth": 3}]), journal, late, at_once)
        asked = [proposer.suggest(f"trial {number}") for number in range(3)]
        assert [isinstance(each, dict) for each in asked] == [number < tried for number in range(3)]


def test_a_family_that_time_cuts_short_leaves_the_second_trial_to_another():
    own = families(one=[{"depth": 1}, {"depth": 2}], two=[{"depth": 3}], three=[{"depth": 4}])
    names = [name for name, _ in points.first_points(own, others_first=True)]
    assert names == ["one", "two", "three", "one", "one"]


def test_after_the_portfolio_points_are_of_the_space_and_keep_what_else_the_best_one_had():
    some = made(one=[{"extra": True, "depth": 4}])
    for score in (0.6, 0.9):
        name, params, asked = some.next()
        some.end(name, params, asked, score, 1.0)
    for _ in range(20):
        name, params, asked = some.next()
        assert all(params[key] in domain for key, domain in SPACE.items())
        assert params["extra"] is True
        some.end(name, params, asked, 0.5, 1.0)


def test_two_of_three_proposals_are_for_the_best_family_where_the_other_is_not_dearer():
    some = made(one=[], two=[{}])
    for score, cost in ((0.6, 1.0), (0.9, 1.0)):
        name, params, asked = some.next()
        some.end(name, params, asked, score, cost)
    names = []
    for _ in range(6):
        name, params, asked = some.next()
        names.append(name)
        some.end(name, params, asked, 0.5, 1.0)
    assert names == ["two", "two", "one", "two", "two", "one"]
    some.costs["one"] = 1.0 + 2 * some.costs["two"]
    assert [some.next()[0] for _ in range(3)] == ["two", "two", "two"]


def test_a_search_finds_the_best_point_of_a_smooth_function():
    some = made(one=[])
    best = 0.0
    for _ in range(60):
        name, params, asked = some.next()
        point = {**DEFAULTS, **params}
        score = 1 - abs(point["depth"] - 3) / 10 - (0.2 if point["kind"] == "a" else 0.0)
        best = max(best, score)
        some.end(name, params, asked, score, 1.0)
    assert best == pytest.approx(1.0)


def test_after_some_proposals_in_vain_there_are_no_more():
    some = made(one=[])
    some.patience = 3
    name, params, asked = some.next()
    some.end(name, params, asked, 0.5, 1.0)
    for score in (0.4, 0.45, 0.6, 0.55, 0.5, 0.58):  # the third is better: three more
        name, params, asked = some.next()
        some.end(name, params, asked, score, 1.0)
    assert some.next() is None


def test_what_failed_is_not_proposed_as_the_best():
    some = made(one=[])
    name, params, asked = some.next()
    some.end(name, params, asked, None, 1.0)
    assert some.best == {}
    name, params, asked = some.next()
    some.end(name, params, asked, None, 1.0)
    assert some.next()[0] == "one"


def test_trials_of_before_are_not_tried_again_and_are_known_to_the_estimator(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(trial(0, "one", {}, 0.7))
    journal.append(trial(1, "one", {"depth": 3}, 0.9))
    journal.append(trial(2, "gone", {"depth": 3}, 0.95))  # of a family that this search leaves out
    some = made(one=[{"depth": 3}, {"depth": 4}])
    Proposer(some, journal, until=float("inf"))
    assert some.queue == [("one", {"depth": 4})]
    assert some.best == {"one": (0.9, {"depth": 3})}
    assert [told.value for told in some.studies["one"].trials] == [0.7, 0.9]


def test_a_proposer_ends_when_its_time_is_over_after_a_first_trial(tmp_path):
    proposer = Proposer(made(one=[]), Journal(tmp_path / "journal.jsonl"), until=0.0)
    assert proposer.suggest("a") == {"family": "one", "params": {}, "haste": 1.0}
    assert proposer.suggest("b") == Proposer.FINISHED


def test_a_trial_that_would_have_no_time_is_not_begun(tmp_path):
    some = made(one=[{"depth": 2}])
    proposer = Proposer(some, Journal(tmp_path / "journal.jsonl"), until=time.time() + 10)
    assert proposer.suggest("a") == {"family": "one", "params": {}, "haste": 1.0}
    some.costs["one"] = 100.0
    assert proposer.suggest("b") == Proposer.FINISHED
    some.costs["one"] = 1.0
    assert proposer.suggest("c") == {"family": "one", "params": {"depth": 2}, "haste": 1.0}


def test_a_trial_that_failed_is_tried_once_more_with_what_needs_less_memory(tmp_path):
    some = made(one=[{"depth": 6}])
    some.smaller = lambda name, params: {"depth": params["depth"] // 2} if "depth" in params else {}
    proposer = Proposer(some, Journal(tmp_path / "j.jsonl"), until=math.inf)
    tried = []
    for name in "abc":
        tried.append(proposer.suggest(name)["params"])
        proposer.on_trial_complete(name, None, error=True)
    assert tried[:3] == [{}, {"depth": 6}, {"depth": 3}], "the defaults have nothing that could be smaller here"
    assert some.queue == [], "what failed as the smaller one is not tried again"


def test_after_a_trial_that_its_time_ended_the_next_points_learn_faster(tmp_path):
    proposer = Proposer(made(one=[{"depth": d} for d in range(2, 7)]), Journal(tmp_path / "j.jsonl"), until=math.inf)
    ended = {"score": 0.5, "fit_s": 2.0, "rounds": 40, "finished": True}
    reports = [{}, {"finished": False}, {"finished": False, "rounds": None}, {"finished": False}, {"finished": False}]
    haste = []
    for name, report in zip("abcde", reports, strict=True):
        haste.append(proposer.suggest(name)["haste"])
        proposer.on_trial_complete(name, {**ended, **report})
    assert haste == [1.0, 1.0, 2.0, 2.0, 4.0], "a family without rounds has no rate; four times is the most"
    assert proposer.suggest("f")["haste"] == 4.0
    asked = proposer.suggest("g")
    assert asked["haste"] is None, "what Optuna proposes has the learning rate that it proposes"


def test_a_search_that_goes_on_hurries_as_it_did_before():
    some = made(one=[])
    some.know(dataclasses.replace(trial(0, "one", {}, 0.7), finished=False, rounds=40))
    assert some.haste == 2.0


def test_a_trial_whose_learning_rate_was_raised_is_of_its_point_and_of_no_other():
    some = made(one=[{"depth": 3}, {"depth": 3, "extra": True}])
    some.know(trial(0, "one", {"learning_rate": 0.2}))
    some.know(trial(1, "one", {"depth": 3, "learning_rate": 0.15}))
    assert some.queue == [("one", {"depth": 3, "extra": True})]


def test_a_proposer_hands_on_what_came_of_a_trial(tmp_path):
    some = made(sign=-1, one=[])
    proposer = Proposer(some, Journal(tmp_path / "journal.jsonl"), until=float("inf"))
    assert proposer.suggest("a") == {"family": "one", "params": {}, "haste": 1.0}
    proposer.on_trial_complete("a", {"score": 0.25, "fit_s": 2.0})
    assert some.best == {"one": (-0.25, {})}
    assert some.costs == {"one": 2.0}
    proposer.suggest("b")
    proposer.on_trial_complete("b", None, error=True)
    assert some.best == {"one": (-0.25, {})}
    proposer.suggest("c")
    proposer.on_trial_complete("c", {"score": 0.125, "fit_s": 2.0, "params": {"learning_rate": 0.2}})
    assert some.best == {"one": (-0.125, {"learning_rate": 0.2})}
