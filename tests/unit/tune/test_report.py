"""The page of a search, and the facts on it: why it ended, what was not tried, what the parameters explain."""

import json
import re

import numpy as np
import pytest

import searches
from mlsys.models.interface import Choice, Integer, Uniform
from mlsys.recipe import Recipe
from mlsys.tune import evidence, importance, parallel_axes, report
from mlsys.tune.blending import Blend
from mlsys.tune.journal import Trial
from mlsys.tune.points import Searched

SPACE = {"rate": Uniform(0.01, 1.0, log=True), "depth": Integer(1, 10), "kind": Choice(("a", "b"))}
DEFAULTS = {"rate": 0.1, "depth": 6, "kind": "a"}
FAMILY = Searched(DEFAULTS, SPACE, ({"depth": 2}, {"depth": 9}))


def trial(number, score=0.5, family="one", **params):
    return Trial(number, family, params, score, 40, True, 1.0, float(number))


def drawn(number, score):
    """Trials at random points of the space, with the score that `score` gives them."""
    rng = np.random.default_rng(0)
    points = [
        {"rate": float(10 ** rng.uniform(-2, 0)), "depth": int(rng.integers(1, 11)), "kind": "ab"[int(rng.integers(2))]}
        for _ in range(number)
    ]
    return [trial(at, score(point), **point) for at, point in enumerate(points)]


def test_a_parameter_that_alone_makes_the_score_explains_nearly_all_of_it():
    found = importance.by_family({"one": FAMILY}, drawn(80, lambda point: point["depth"] / 10), 1)["one"]
    assert found["trials"] == 80
    assert found["shares"]["depth"] > 0.95
    assert max(found["shares"]["rate"], found["shares"]["kind"]) < 0.02


def test_shares_of_an_additive_score_are_those_of_its_variance():
    # depth / 10 over 1 … 10 has variance 0.0825, ±0.2 by kind 0.04: 67 % and 33 %.
    def score(point):
        return point["depth"] / 10 + (0.2 if point["kind"] == "a" else -0.2)

    shares = importance.by_family({"one": FAMILY}, drawn(300, score), -1)["one"]["shares"]
    assert shares["depth"] == pytest.approx(0.67, abs=0.08)
    assert shares["kind"] == pytest.approx(0.33, abs=0.08)


@pytest.mark.parametrize(
    ("trials", "family", "reason"),
    [
        (drawn(19, lambda point: point["rate"]), FAMILY, "19 trials in its space: fewer than 20 say little"),
        (drawn(30, lambda _: 0.5), FAMILY, "all of its trials have the same score"),
        (drawn(30, lambda point: point["rate"]), Searched(DEFAULTS, {}), "nothing of it is searched"),
        ([trial(at, depth=99) for at in range(30)], FAMILY, "0 trials in its space: fewer than 20 say little"),
    ],
)
def test_where_shares_would_mean_nothing_the_reason_stands_in_their_place(trials, family, reason):
    assert importance.by_family({"one": family}, trials, 1)["one"]["reason"] == reason


def test_families_that_were_not_tried_have_no_importance():
    assert importance.by_family({"one": FAMILY, "two": FAMILY}, [trial(0)], 1).keys() == {"one"}


@pytest.mark.parametrize(
    ("scores", "limits", "ended"),
    [
        ([0.5] * 5, {"num_trials": 5, "patience": 99}, "after 5 trials, as many as asked for"),
        ([0.5, 0.9, 0.6, 0.7, 0.8], {"num_trials": 9, "patience": 3}, "after 3 proposals that were no better"),
        ([0.5, 0.9, 0.6, 0.7, 0.95], {"num_trials": 9, "patience": 3}, "when its time was over"),
        ([0.9, 0.5, 0.6], {"num_trials": 9, "patience": 2}, "when its time was over"),  # of the portfolio, not proposed
    ],
)
def test_a_search_says_why_it_ended(scores, limits, ended):
    done = [trial(number, score) for number, score in enumerate(scores)]
    assert evidence.why_ended(done, **limits, num_first=2, sign=1) == ended


def test_points_of_the_portfolio_that_were_not_tried_are_named_with_the_reason():
    families = {"one": FAMILY, "two": FAMILY, "three": FAMILY}
    done = [trial(0), trial(1, depth=2, learning_rate=0.2), trial(2, family="three", depth=2)]
    rows = evidence.untried(families, done, {"two": "too slow", "three": "too slow"}, "when its time was over")
    before = "the search ended before, when its time was over"
    assert rows == [
        {"family": "one", "points": 1, "params": {"depth": 9}, "reason": before},
        {"family": "two", "points": 2, "params": {}, "reason": "too slow"},
        {"family": "three", "points": 1, "params": {"depth": 9}, "reason": before},
    ]


@pytest.mark.parametrize(
    ("first", "values", "reason"),
    [
        ("linear", {}, "it takes other features than linear, which selection preferred"),
        ("xgboost", {"train": {"family": "xgboost"}}, "the recipe names xgboost (train.family)"),
        ("xgboost", {"tune": {"space": {"max_depth": [3]}}}, "the recipe gives a space for xgboost (tune.space)"),
        (
            "xgboost",
            {"selection": {"families": ["xgboost"]}},
            "it is not among the families of the recipe (selection.families)",
        ),
    ],
)
def test_families_that_are_not_searched_are_named_with_the_reason(first, values, reason):
    recipe = Recipe.model_validate({"name": "a", "target": "y", "data": {"source": "rows.csv"}, **values})
    rows = evidence.not_searched({first: FAMILY}, recipe, searches.TASK, 1_000)
    (lightgbm,) = [row for row in rows if row["family"] == "lightgbm"]
    assert lightgbm == {"family": "lightgbm", "points": 4, "params": {}, "reason": reason}


def test_a_mean_is_described_by_the_numbers_of_its_trials():
    facts = evidence.of_mean(Blend({0: 0.25, 2: 0.75}, 0.9, 0.01, float("nan")), [trial(4), trial(5), trial(6)])
    assert [(each["trial"], each["weight"]) for each in facts["members"]] == [(4, 0.25), (6, 0.75)]
    assert (facts["score"], facts["gain"], facts["error"]) == (0.9, 0.01, None)


def test_the_page_has_every_trial_and_every_section():
    document = searches.search()
    page = report.page(json.loads(json.dumps(document)))
    listed = page[page.index('id="trial-list"') :]
    assert listed.count("<tr>") == 61  # with its head
    titles = re.findall(r"<h2>([^<]+)</h2>", page)
    assert titles == ["Choice", "History", "Families", "Importance of parameters", "Parameters of the trials", "Time",
                      "Portfolio", "Trials", "Notes"]  # fmt: skip
    assert "A mean of trials is better beyond its error" in page
    assert "84% of the budget" in page  # 12.3 + 41.5 + 9.1 of 80 seconds


def test_one_model_is_taken_with_the_evidence_against_a_mean():
    page = report.page(searches.search(mean=False))
    assert "One model is taken" in page
    assert "No mean is better &lt;enough&gt;. The best mean is 0.65 × trial" in page


def test_a_trial_far_off_does_not_press_the_others_together():
    scores = [0.80, 0.81, 0.805, 0.79, 0.2]
    low, high = parallel_axes.drawn_range(scores, 1)
    assert high == 0.81
    assert 0.75 < low < 0.79
    assert parallel_axes.drawn_range([-score for score in scores], -1) == pytest.approx((-0.81, -low))
    assert parallel_axes.drawn_range([0.5, 0.5], 1) == (0.5, 0.5)


def test_no_penalty_at_all_lies_below_the_logarithms_of_the_others():
    axis, places = parallel_axes._scale("l2", [0.0, 0.01, 1.0, 100.0], is_log=True)
    assert [word for _, word in axis.ticks] == ["0.01", "1", "100", "0"]
    assert places[0] < places[1] - 0.1
    assert places[2] - places[1] == pytest.approx(places[3] - places[2])
    _, even = parallel_axes._scale("l2", [1.0, 2.0, 3.0], is_log=False)
    assert even[1] == pytest.approx((even[0] + even[2]) / 2)


def test_a_page_of_a_few_trials_says_that_their_parameters_mean_little():
    assert "fewer than 20 say little" in report.page(searches.search(number=12))


def test_where_nothing_was_searched_the_page_says_why():
    page = report.page(searches.nothing_searched())
    assert "Nothing was searched" in page
    assert "the recipe asks for no trials" in page
    assert "The recipe has no clock (budget: none)." in page
    assert "The final fit is not made yet" in page
