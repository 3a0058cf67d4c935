"""A replay of runs without trials, and of names that have none: which digest differs, and what is missing."""

import json

import pytest

import mlsys
from mlsys import errors
from mlsys.store import Store
from mlsys.workflow import replays

RECIPE = {"name": "wine", "target": "target", "data": {"source": "sklearn://wine"}}
QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a run that trained, and one that did not."""
    root = tmp_path_factory.mktemp("store")
    mlsys.run(RECIPE, "train", set=QUICK, store=root, cluster=False, quiet=True)
    mlsys.run(RECIPE | {"name": "early"}, "explore", set=QUICK, store=root, cluster=False, quiet=True)
    return Store.open(root)


def test_the_same_rows_and_parameters_give_the_same_bundle(store):
    done = replays.replay(store, replays.former(store, "wine"))
    assert done.is_equal
    assert (done.num_trials, done.unequal_trials, done.unequal_files) == (0, (), ())
    assert (done.num_fits, done.unequal_fits) == (4, ())  # two candidates on two folds
    assert done.to_json()["digests"].keys() == {"ranking", "parameters", "bundle"}
    digest = done.digests["bundle"][0][:12]
    assert f"  bundle       {digest}  the same" in done.summary


def test_other_parameters_are_seen_in_the_digests_and_the_files_that_differ_are_named(store):
    run = replays.former(store, "wine")
    records = json.loads(json.dumps(run.records))
    records["tune"]["params"]["l2"] = 77.0
    done = replays.replay(store, replays.FormerRun(records, run.recipe))
    before, now = done.digests["bundle"]
    assert not done.is_equal
    assert before == run.records["train"]["bundle"] != now
    assert "bundle.json" in done.unequal_files
    assert any(name.startswith("model/") for name in done.unequal_files)
    assert "schema.json" not in done.unequal_files
    assert f"now {now[:12]}" in done.summary
    assert done.to_json()["equal"] is False


def test_another_score_of_a_fold_is_named_and_changes_the_ranking(store):
    run = replays.former(store, "wine")
    records = json.loads(json.dumps(run.records))
    ranking = store.get_json("ranking", records["selection"]["ranking"])
    fit = next(fit for fit in ranking["fits"] if fit["name"] == "linear")
    fit["params"]["l2"] = 5000.0
    records["selection"]["ranking"] = store.put_json("ranking", ranking)
    done = replays.replay(store, replays.FormerRun(records, run.recipe))
    assert done.unequal_fits == (f"linear on fold {fit['judge']}",)
    before, now = done.digests["ranking"]
    assert before != now
    assert done.is_equal  # the same family is preferred, and the bundle is of its parameters alone


def test_a_ranking_of_a_version_that_did_not_keep_its_fits_is_refused(store):
    run = replays.former(store, "wine")
    records = json.loads(json.dumps(run.records))
    ranking = store.get_json("ranking", records["selection"]["ranking"])
    records["selection"]["ranking"] = store.put_json("ranking", {**ranking, "fits": []})
    with pytest.raises(errors.StoreError, match="a ranking that does not say which fits were made"):
        replays.replay(store, replays.FormerRun(records, run.recipe))


def test_the_recipe_of_the_run_counts_and_not_the_last_one_that_was_begun(store):
    mlsys.run(RECIPE, "collect", set={**QUICK, "seed": 5}, store=store.root, cluster=False, quiet=True)
    mlsys.run(RECIPE, "train", set=QUICK, store=store.root, cluster=False, quiet=True)
    assert replays.former(store, "wine").recipe.seed == 0


@pytest.mark.parametrize(
    ("name", "got", "hint"),
    [
        ("wien", "no run", "did you mean 'wine'?"),
        ("early", "a run without selection", "`mlsys train RECIPE` runs selection, too"),
    ],
)
def test_a_name_without_a_trained_run_is_refused(store, name, got, hint):
    with pytest.raises(errors.RegistryError) as caught:
        replays.former(store, name)
    expected = "a run that trained"
    assert str(caught.value) == f"replay: '{name}'\n  got:      {got}\n  expected: {expected}\n  hint:     {hint}"


def test_a_run_whose_record_is_gone_cannot_be_replayed(store, tmp_path):
    moved = mlsys.run(RECIPE, "train", set=QUICK, store=tmp_path, cluster=False, quiet=True)
    for file in (moved.folder / "history").iterdir():
        file.unlink()
    with pytest.raises(errors.StoreError, match="no record of the run that made bundle"):
        replays.former(Store.open(tmp_path), "wine")
