"""What the search decides before and after trials run."""

import json

import pytest

from mlsys import errors, models, tune
from mlsys.evaluate import metrics
from mlsys.store import Store
from mlsys.tune import Tuned
from mlsys.tune.trials import Journal, Trial

AUC, LOSS = metrics.METRICS["roc_auc"], metrics.METRICS["log_loss"]


def trial(number, score, *, finished=True, **params):
    return Trial(number, params, score, 40, finished, 0.1, 1.0)


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


def test_the_tuned_parameters_are_kept_only_if_better():
    worse = tune._better("xgboost", default(), AUC, (trial(0, 0.8), trial(1, 0.79, max_depth=3)), ())
    equal = tune._better("xgboost", default(), AUC, (trial(0, 0.8), trial(1, 0.8, max_depth=3)), ())
    better = tune._better("xgboost", default(), AUC, (trial(0, 0.8), trial(1, 0.81, max_depth=3)), ())
    assert [t.choice for t in (worse, equal, better)] == ["default", "default", "tuned"]
    assert worse.params["max_depth"] == equal.params["max_depth"] == 6
    assert better.params == {**default(), "max_depth": 3}
    assert (worse.score_default, worse.score_tuned) == (0.8, 0.79)


def test_smaller_is_better_for_a_loss_and_stopped_trials_do_not_win():
    trials = (
        trial(0, 0.5),
        trial(1, 0.3, finished=False, max_depth=9),
        trial(2, 0.4, max_depth=4),
        trial(3, 0.6, max_depth=5),
    )
    tuned = tune._better("xgboost", default(), LOSS, trials, ())
    assert tuned.params["max_depth"] == 4
    assert tuned.summary() == (
        "xgboost: 3 trials, 1 stopped early; validation log_loss default 0.5000, tuned 0.4000: tuned kept"
    )


def test_the_recipes_choices_take_the_place_of_the_space_and_are_checked(make_split):
    _, _, recipe, task = make_split(tune={"space": {"max_depth": [2, 4], "learning_rate": [0.1]}})
    assert {name: domain.values for name, domain in tune._space(recipe, "xgboost", task).items()} == {
        "max_depth": (2, 4),
        "learning_rate": (0.1,),
    }
    _, _, wrong, _ = make_split(tune={"space": {"max_depht": [2]}})
    with pytest.raises(errors.RecipeError, match="did you mean 'max_depth'"):
        tune._space(wrong, "xgboost", task)
    _, _, outside, _ = make_split(tune={"space": {"learning_rate": [5]}})
    with pytest.raises(errors.RecipeError, match="learning_rate"):
        tune._space(outside, "xgboost", task)


def test_a_spent_budget_is_answered_from_the_journal_without_ray(make_split, tmp_path):
    built = make_split(tune={"trials": 2})
    split, _, recipe, task = built
    space = tune._space(recipe, "xgboost", task)
    key = tune._key(Store.open(tmp_path / "store"), split, recipe, task, "xgboost", space)
    journal = Journal(tmp_path / "tune" / f"xgboost-{key}" / "journal.jsonl")
    for done in (trial(0, 0.8), trial(1, 0.7, max_depth=3), trial(2, 0.9, max_depth=4)):
        journal.append(done)
    told = []
    tuned = search(built, tmp_path, progress=told.append)
    assert (tuned.choice, tuned.score_tuned, tuned.params["max_depth"]) == ("tuned", 0.9, 4)
    assert told == ["2 of 2 trials found in the journal"]


def test_the_journal_is_of_these_inputs_and_not_of_the_budget(make_split, tmp_path):
    split, _, recipe, task = make_split()
    store = Store.open(tmp_path)
    space = tune._space(recipe, "xgboost", task)

    def key(task=task, **changes):
        return tune._key(store, split, recipe.model_copy(update=changes), task, "xgboost", space)

    assert key() == key(tune=recipe.tune.model_copy(update={"trials": 99, "minutes": 3.0}))
    assert key() != key(seed=1)
    assert key() != key(task=task.model_copy(update={"classes": task.classes[::-1]}))
    assert key() != key(data=recipe.data.model_copy(update={"timezone": "Europe/Berlin"}))
    assert key() != key(tune=recipe.tune.model_copy(update={"max_rows": 500}))
    assert key() != key(train=recipe.train.model_copy(update={"rounds": 7}))


def test_few_parameters_are_searched_with_fewer_trials_unless_the_recipe_says_how_many(make_split):
    _, _, recipe, task = make_split()
    asked = make_split(tune={"trials": 30})[2]
    of = {family: models.family(family).space(task) for family in ("linear", "kernel", "xgboost")}
    assert {family: tune._num_trials(recipe, space) for family, space in of.items()} == {
        "linear": 8,
        "kernel": 8,
        "xgboost": 20,
    }
    assert tune._num_trials(asked, of["linear"]) == 30


def test_what_was_found_survives_json():
    tuned = tune._better("xgboost", default(), AUC, (trial(0, 0.8), trial(1, 0.81, max_depth=3)), ("a note",))
    assert Tuned.from_json(json.loads(json.dumps(tuned.to_json()))) == tuned
