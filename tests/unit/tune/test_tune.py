"""What the search decides before and after trials run."""

import dataclasses
import json
import math

import pytest

from mlsys import cluster, errors, models, tune
from mlsys.evaluate import metrics
from mlsys.schema import Role, Schema
from mlsys.statistics import TrainStatistics
from mlsys.store import Store
from mlsys.tune import Tuned, choosing, outcome, search_space
from mlsys.tune.journal import Journal, Trial

AUC, LOSS = metrics.METRICS["roc_auc"], metrics.METRICS["log_loss"]


def trial(number, score, *, finished=True, family="xgboost", **params):
    return Trial(number, family, params, score, 40, finished, 0.1, 1.0)


def search(built, folder, family="xgboost", parts=("train", "validation"), **options):
    split, statistics, recipe, task = built
    store = Store.open(folder / "store")
    return tune.search(store, split.only(*parts), statistics, recipe, task, family, folder=folder, **options)


def default():
    return models.family("xgboost").params().model_dump(mode="json")


def test_a_split_that_opens_the_test_rows_is_refused(make_split, tmp_path):
    with pytest.raises(errors.SealedError) as caught:
        search(make_split(), tmp_path, parts=("train", "validation", "test"))
    assert str(caught.value) == (
        "tune: part 'test' is open\n"
        "  got:      test, train, validation\n"
        "  expected: the parts train and validation alone\n"
        '  hint:     split.only("train", "validation"): test rows are opened once, by evaluate'
    )
    assert caught.value.field == "test"


def test_without_ray_nothing_is_started(make_split, tmp_path):
    with pytest.raises(errors.ClusterError, match="no Ray"):
        search(make_split(), tmp_path)


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("dummy", {}, "the family has nothing to search"),
        ("xgboost", {"tune": {"trials": 0}}, "the recipe asks for no trials"),
        ("xgboost", {"parts": {"train": 0.8, "validation": 0.0}}, "there are no validation rows to judge on"),
    ],
)
def test_where_there_is_nothing_to_search_the_default_stays_and_says_why(
    make_split, tmp_path, family, settings, reason
):
    tuned = search(make_split(**settings), tmp_path, family)
    assert (tuned.choice, tuned.notes, tuned.trials) == ("default", (reason,), ())
    assert tuned.summary() == f"{family}: default parameters kept; {reason}"


def decided(metric, *trials, dummy=math.nan):
    """What is said of trials, and the number of the best of them."""
    best = outcome.best_trial("xgboost", metric, trials, dummy)
    return outcome.tuned("xgboost", default(), metric, trials, best, (), dummy), best and best.number


def test_another_trial_is_taken_only_if_it_is_better_than_the_defaults():
    worse, equal, better = (decided(AUC, trial(0, 0.8), trial(1, score, max_depth=3)) for score in (0.79, 0.8, 0.81))
    assert [(tuned.choice, number) for tuned, number in (worse, equal, better)] == [
        ("default", 0),
        ("default", 0),
        ("tuned", 1),
    ]
    assert (worse[0].score_default, worse[0].score_tuned) == (0.8, 0.79)


def test_the_defaults_are_known_by_their_parameters_and_not_by_who_ended_first():
    tuned, number = decided(AUC, trial(0, 0.7, max_depth=9), trial(1, 0.8), trial(2, 0.6, family="lightgbm"))
    assert (tuned.choice, number, tuned.score_default, tuned.score_tuned) == ("default", 1, 0.8, 0.7)


def test_smaller_is_better_for_a_loss_and_the_line_says_how_many_trials_had_no_time():
    trials = (
        trial(0, 0.5),
        trial(1, 0.45, finished=False, max_depth=9),
        trial(2, 0.4, max_depth=4),
        trial(3, 0.6, a=5),
    )
    tuned, number = decided(LOSS, *trials)
    assert number == 2
    assert tuned.summary() == (
        "xgboost: 4 trials, 1 ended by their time; log_loss default 0.5000, tuned 0.4000: tuned kept"
    )


def test_where_the_dummy_is_better_than_all_trials_the_defaults_stay_and_it_is_said():
    tuned, number = decided(AUC, trial(0, 0.48), trial(1, 0.49, max_depth=3), dummy=0.5)
    assert (tuned.choice, number) == ("default", None)
    assert "no parameters beat the dummy's roc_auc of 0.5000 on the validation rows" in tuned.summary()


def test_families_with_a_portfolio_are_searched_beside_the_one_that_selection_prefers(make_split):
    split, _, recipe, task = make_split()

    def names(family, contenders=(), **changes):
        return list(search_space.families(split, recipe.having(changes), family, task, contenders))

    assert names("xgboost") == ["xgboost", "catboost", "lightgbm"]
    assert names("forest") == ["forest", "catboost", "lightgbm", "xgboost"]
    assert names("linear") == names("linear", ["linear", "kernel"]) == ["linear"]  # which takes other features
    assert names("linear", ["linear", "forest"]) == ["linear", "catboost", "lightgbm", "xgboost"]
    terms = {"features.columns": {"a": ["text", "terms"]}}
    assert names("linear", ["linear", "forest"], **terms) == ["linear"]  # thousands of columns
    assert names("xgboost", **{"selection.families": ["dummy", "xgboost", "lightgbm"]}) == ["xgboost", "lightgbm"]
    assert names("xgboost", **{"train.family": "xgboost"}) == ["xgboost"]
    assert names("xgboost", **{"tune.space": {"max_depth": [2, 4]}}) == ["xgboost"]


def test_parameters_that_the_recipe_states_are_not_searched(make_split):
    split, _, recipe, task = make_split(train={"family": "xgboost", "params": {"learning_rate": 0.1, "max_depth": 3}})
    (searched,) = search_space.families(split, recipe, "xgboost", task).values()
    assert searched.fixed == ("learning_rate", "max_depth")
    assert not set(searched.fixed) & {*searched.space, *(name for point in searched.portfolio for name in point)}
    assert (searched.defaults["learning_rate"], searched.defaults["max_depth"]) == (0.1, 3)


def test_the_recipes_choices_take_the_place_of_the_space_and_are_checked(make_split):
    _, _, recipe, task = make_split(tune={"space": {"max_depth": [2, 4], "learning_rate": [0.1]}})
    assert {name: domain.values for name, domain in search_space.space(recipe, "xgboost", task).items()} == {
        "max_depth": (2, 4),
        "learning_rate": (0.1,),
    }
    _, _, wrong, _ = make_split(tune={"space": {"max_depht": [2]}})
    with pytest.raises(errors.RecipeError, match="did you mean 'max_depth'"):
        search_space.space(wrong, "xgboost", task)
    _, _, outside, _ = make_split(tune={"space": {"learning_rate": [5]}})
    with pytest.raises(errors.RecipeError, match="learning_rate"):
        search_space.space(outside, "xgboost", task)


def test_a_spent_budget_is_answered_from_the_journal_without_ray(make_split, tmp_path):
    built = make_split(tune={"trials": 2}, train={"family": "xgboost"})
    split, _, recipe, task = built
    key = tune._key(
        Store.open(tmp_path / "store"), split, recipe, task, search_space.families(split, recipe, "xgboost", task)
    )
    journal = Journal(tmp_path / "tune" / f"xgboost-{key}" / "journal.jsonl")
    for done in (trial(0, 0.8), trial(1, 0.7, max_depth=3), trial(2, 0.9, max_depth=4)):
        journal.append(done)
    told = []
    tuned = search(built, tmp_path, progress=told.append)
    assert (tuned.choice, tuned.score_tuned, tuned.params["max_depth"]) == ("tuned", 0.9, 4)
    assert (tuned.params["rounds"], tuned.params["early_stopping"]) == (
        40,
        0,
    )  # the final fit grows what the trial kept
    assert told == ["3 trials found in the journal"]


def test_the_final_fit_has_as_many_trees_as_the_time_of_the_trial_had(make_split, tmp_path):
    built = make_split(tune={"trials": 0, "minutes": 1}, train={"family": "forest"})
    split, statistics, recipe, task = built
    searching = choosing.FinalChoice(
        Store.open(tmp_path), split, statistics, recipe, task, {}, AUC, math.inf, math.inf, print
    )
    late = Trial(0, "forest", {"max_depth": 9}, 0.8, None, False, 0.1, 1.0, {"trees": 7, "rows_a_tree": 2_000})
    params = searching.params(late)
    assert (params["trees"], params["rows_a_tree"], params["max_depth"]) == (7, 2_000, 9)


def test_where_nothing_beats_the_dummy_the_final_fit_has_no_more_trees_than_there_was_time_for(make_split, tmp_path):
    split, statistics, recipe, task = make_split(train={"family": "forest"})
    families = search_space.families(split, recipe, "forest", task)
    searching = choosing.FinalChoice(
        Store.open(tmp_path), split, statistics, recipe, task, families, AUC, 9.0, 9.0, print
    )
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(Trial(0, "forest", {}, 0.4, None, False, 0.1, 1.0, {"trees": 7}))
    chosen = searching.choose(journal, models.family("forest").params().model_dump(), (), dummy=0.5)
    assert (chosen.choice, chosen.params["trees"], chosen.params["max_depth"]) == ("default", 7, 16)


@pytest.mark.parametrize(("fit_s", "landmarks"), [(1.0, 4_000), (20.0, 2_000)])
def test_the_final_fit_has_the_full_parameters_where_there_is_time_for_them(make_split, tmp_path, fit_s, landmarks):
    split, statistics, recipe, task = make_split(num_rows=20_000, train={"family": "kernel"})
    searching = choosing.FinalChoice(
        Store.open(tmp_path), split, statistics, recipe, task, {}, AUC, 60.0, reserve=15.0, progress=print
    )
    trial = Trial(0, "kernel", {}, 0.8, None, True, fit_s, 1.0)
    # Four times the square of the landmarks: a trial of 1 s has room in 15 s, one of 20 s has not.
    assert searching.params(trial)["landmarks"] == landmarks


@pytest.mark.parametrize("max_rows", [40_000, 1_000])
def test_a_trial_takes_no_longer_than_its_final_fit_has_time_for(make_split, tmp_path, max_rows):
    split, statistics, recipe, task = make_split(num_rows=20_000, tune={"max_rows": max_rows})
    given = Store.open(tmp_path), split, statistics, recipe, task, {}, AUC, 60.0
    train, both = split.num_rows["train"], split.num_rows["train"] + split.num_rows["validation"]
    searching = choosing.FinalChoice(*given, reserve=15.0, progress=print)
    # The same rounds a row, on more rows: 1.21 times the rows have 1.15 times the rounds. Of a sample, a quarter.
    expected = 15.0 / (both / train * 1.15) if max_rows > train else 15.0 / 4
    assert searching._longest() == pytest.approx(expected)
    trial = Trial(0, "xgboost", {}, 0.8, 40, True, searching._longest(), 1.0)
    assert (searching._final_s([trial]) <= 15.0) == (max_rows > train)


def test_extra_trees_are_searched_beside_others_where_a_recipe_names_them(make_split):
    split, _, recipe, task = make_split(selection={"families": ["xgboost", "extra_trees"]})
    assert list(search_space.families(split, recipe, "xgboost", task)) == ["xgboost", "extra_trees"]


def test_the_journal_is_of_these_inputs_and_not_of_the_budget(make_split, tmp_path):
    split, _, recipe, task = make_split()
    store = Store.open(tmp_path)
    families = search_space.families(split, recipe, "xgboost", task)

    def key(task=task, **changes):
        return tune._key(store, split, recipe.model_copy(update=changes), task, families)

    assert key() == key(tune=recipe.tune.model_copy(update={"trials": 99, "minutes": 3.0}))
    assert key() != key(seed=1)
    assert key() != key(task=task.model_copy(update={"classes": task.classes[::-1]}))
    assert key() != key(data=recipe.data.model_copy(update={"timezone": "Europe/Berlin"}))
    assert key() != key(tune=recipe.tune.model_copy(update={"max_rows": 500}))
    assert key() != key(train=recipe.train.model_copy(update={"rounds": 7}))


def test_what_was_found_survives_json():
    tuned, _ = decided(AUC, trial(0, 0.8), trial(1, 0.81, max_depth=3))
    assert Tuned.from_json(json.loads(json.dumps(tuned.to_json()))) == tuned


def measured(number, score, latency_us, num_bytes):
    sizes = {"latency_us": latency_us, "num_bytes": num_bytes}
    return Trial(number, "xgboost", {"max_depth": number + 1}, score, 40, True, 0.1, 1.0, **sizes)


def searching(make_split, **wish):
    split, statistics, recipe, task = make_split()  # 360 rows to train, 120 to validate: a refit may grow by 15 %
    changed = recipe.having({f"selection.{name}": value for name, value in wish.items()})
    families = search_space.families(split, changed, "xgboost", task)
    return choosing.FinalChoice(None, split, statistics, changed, task, families, AUC, math.inf, math.inf, print)


DONE = [measured(0, 0.8, 2.0, 1_000), measured(1, 0.9, 6.0, 5_000), measured(2, 0.85, 4.0, 3_000)]


def test_trials_beyond_the_limits_are_refused_with_what_the_final_fit_may_grow(make_split):
    allowed, notes = searching(make_split, max_latency_us=4.7)._within_limits(DONE)
    assert [trial.number for trial in allowed] == [0, 2]  # 4.0 · 1.15 = 4.6
    assert notes == ["1 of 3 trials were refused; one has 6.9 µs a row, more than selection.max_latency_us: 4.7"]
    allowed, _ = searching(make_split, max_bytes=3_449)._within_limits(DONE)
    assert [trial.number for trial in allowed] == [0]  # 3,000 · 1.15 = 3,450


def test_where_no_trial_keeps_the_limits_the_nearest_is_taken_and_said(make_split):
    allowed, notes = searching(make_split, max_latency_us=1.0)._within_limits(DONE)
    assert [trial.number for trial in allowed] == [0]
    assert notes == [
        "no trial keeps the recipe's limits; the nearest is taken: 2.3 µs a row, more than selection.max_latency_us: 1"
    ]


def test_without_limits_nothing_is_refused(make_split):
    assert searching(make_split)._within_limits(DONE) == (DONE, [])


@pytest.mark.parametrize(("prefer", "able"), [("accurate", True), ("simple", False), ("fast", False)])
def test_a_wish_for_what_is_simple_or_fast_keeps_one_family_and_takes_no_mean(make_split, prefer, able):
    made = searching(make_split, prefer=prefer)
    assert (len(made.families) > 1, made._can_average) == (able, able)


def test_boosters_beside_a_simple_family_may_be_averaged(make_split):
    split, statistics, recipe, task = make_split()
    families = search_space.families(split, recipe, "linear", task, ["linear", "forest"])
    how = (families, AUC, math.inf, math.inf, print)
    assert choosing.FinalChoice(None, split, statistics, recipe, task, *how)._can_average


def test_an_interrupted_search_says_the_best_so_far_and_what_to_type():
    done = [trial(0, 0.8), trial(1, 0.85, max_depth=3), trial(2, 0.82, max_depth=5)]
    assert outcome.so_far("xgboost", AUC, done) == (
        "the search has 3 trials, the best is trial 1, xgboost: roc_auc 0.8500 (defaults 0.8000); the same command "
        "goes on from there, and with --set tune.trials=2 it takes the best so far"
    )
    assert outcome.so_far("xgboost", LOSS, done[:1]).startswith("the search has 1 trial, the best is trial 0, xgboost")
    assert "(defaults" not in outcome.so_far("xgboost", LOSS, done)
    assert "no trial yet" in outcome.so_far("xgboost", AUC, [])


@pytest.mark.parametrize(("reserve", "judged"), [(math.inf, 4), (15.0, 4), (1e-3, 1)])
def test_few_rows_are_judged_on_the_folds_where_there_is_time_for_it(make_split, tmp_path, reserve, judged):
    split, statistics, recipe, task = make_split()
    families = search_space.families(split, recipe, "xgboost", task)
    given = Store.open(tmp_path), split, statistics, recipe, task, families, AUC, 60.0
    searching = choosing.FinalChoice(*given, reserve=reserve, progress=print)
    assert (searching._judges[0], len(searching._judges)) == ("validation", judged)


def test_rows_in_the_order_of_a_time_with_a_trend_are_judged_by_its_latest_stretches(make_split, tmp_path, monkeypatch):
    split, _, recipe, task = make_split("regression", 2_000)
    plain = [c.model_copy(update={"role": Role.FEATURE}) if c.name == "at" else c for c in split.schema.columns]
    split = dataclasses.replace(split, schema=Schema(columns=plain))
    statistics = TrainStatistics.of_table(split.table("train"), split.schema, task)
    monkeypatch.setattr(cluster, "call", lambda function, *args, **_: function(*args))

    def judges(seconds, **changes):
        own = recipe.having(changes)
        families = search_space.families(split, own, "xgboost", task)
        given = Store.open(tmp_path), split, statistics, own, task, families, metrics.METRICS["rmse"], seconds
        searching = choosing.FinalChoice(*given, reserve=seconds, progress=print)
        told = "\n".join(searching.notes())
        return searching.num_fits, [str(each) for each in searching._judges], "at from 2020" in told

    trend = {"features.columns": {"at": ["datetime", "trend"]}}
    late = "at from 2020-02-12 12:00"
    assert judges(60.0)[1] == ["validation", "0", "1", "2"]
    fits, three, is_told = judges(60.0, **trend)
    assert (round(fits, 9), len(three), three[-1], is_told) == (2.1, 3, late, True)
    assert judges(1e-3, **trend) == (0.85, [late], True)
    means = {"features.columns": {**trend["features.columns"], "colour": "target"}}
    assert judges(60.0, **means)[1][0] == "validation"  # the features would know the targets that judge


LATE = {"finished": False, "learning_rate": 0.1}  # boosting of which comes to its end in 200 rounds


@pytest.mark.parametrize(
    ("rounds", "room", "cpus", "later"),
    [
        ([150], 15.0, 2, [4 / 3]),  # to its end
        ([60], 15.0, 2, [2.0]),  # twice at most
        ([200], 15.0, 2, [1.0]),
        ([100], 2.3, 2, [1.5]),  # as far as there is time: 4 s of four fits on 360 rows are 23/15 s of one on 480
        ([100, 100], 2.3, 2, [1.5, 1.5]),  # side by side
        ([100, 200], 4.6, 1, [2.0, 1.0]),  # one after the other
        ([100, 100], 4.6, 1, [1.5, 1.5]),
        ([100, 100], math.inf, 2, [1.0, 1.0]),
    ],
)
def test_the_final_fit_goes_on_with_what_time_has_ended_too_early(make_split, monkeypatch, rounds, room, cpus, later):
    monkeypatch.setattr(cluster, "num_cpus", lambda: cpus)
    own = dataclasses.replace(searching(make_split), seconds=60.0, reserve=room / 0.75)
    own.__dict__["_judges"] = ["validation", 0, 1, 2]
    members = [dataclasses.replace(trial(k, 0.8, **LATE), rounds=each, fit_s=4.0) for k, each in enumerate(rounds)]
    assert own._later(members) == pytest.approx(later)
    assert own.params(members[0], later[0])["rounds"] == round(later[0] * rounds[0])


def test_nothing_goes_on_that_came_to_its_end_or_whose_size_the_recipe_limits(make_split):
    ended = dataclasses.replace(trial(0, 0.8, learning_rate=0.1), rounds=100)
    late = dataclasses.replace(ended, finished=False)
    assert dataclasses.replace(searching(make_split), reserve=15.0)._later([ended]) == [1.0]
    assert dataclasses.replace(searching(make_split, max_bytes=10**9), reserve=15.0)._later([late]) == [1.0]
