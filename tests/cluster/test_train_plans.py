"""Boosters in one task and on Ray Train: the same features, nearly the same model."""

import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlsys import errors, train
from mlsys.predict import Predictor
from mlsys.statistics import encode_target
from mlsys.train import checkpoints, distributed, placement, training_job
from mlsys.train.training_job import TrainingJob

WORKERS = 2


def built(make_split, plan, kind="binary", **train):
    settings = {"plan": plan, "workers": WORKERS, "rounds": 400, "early_stopping": 10, **train}
    return make_split(kind, num_rows=3_001, train=settings)


REFITTED = {"lightgbm": True, "xgboost": False}
"""Families, and whether they are fitted again on the rows that chose their rounds, which takes other workers."""


@pytest.fixture(scope="module", params=REFITTED)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def both(store, make_split, family):
    bundles = {}
    staged = set((store.root / "staging").glob("*"))  # a test of another file kills a search, which leaves some
    for plan in ("task", "cluster"):
        split, statistics, recipe, task = built(make_split, plan, refit=REFITTED[family])
        told = []
        opened = split.only("train", "validation")
        bundles[plan] = train.fit(store, opened, statistics, recipe, task, family, {}, progress=told.append), told
    return bundles, split, task, set((store.root / "staging").glob("*")) - staged


def test_both_plans_judge_alike(both):
    bundles, split, task, _ = both
    test = split.table("test")
    y = encode_target(test["y"], task)
    scores = {plan: roc_auc_score(y, Predictor(made).table(test).score) for plan, (made, _) in bundles.items()}
    assert scores["task"] > 0.9
    assert scores["cluster"] == pytest.approx(scores["task"], abs=0.01)


def test_both_plans_share_features_and_say_which_they_are(both, family):
    bundles, *_ = both
    (task, _), (spread, told) = bundles["task"], bundles["cluster"]
    assert task.program.to_json() == spread.program.to_json()
    assert task.provenance["plan"].startswith("task: ")
    assert spread.provenance["plan"].startswith("cluster: ")
    assert [line for line in told if line.startswith(f"{family}: {WORKERS} workers with 1 CPUs and 0.5 GB each")]


def test_the_best_round_is_kept_and_not_the_last(both):
    bundles, *_ = both
    for made, _ in bundles.values():
        assert made.model().rounds == made.provenance["rounds"] < 400


def test_both_plans_fit_on_the_rows_that_chose_the_rounds_where_the_recipe_says_so(both, family):
    bundles, *_ = both
    for made, _ in bundles.values():
        assert made.provenance["fitted_on"] == ["train", *(["validation"] if REFITTED[family] else [])]


def test_nothing_of_ray_train_stays_behind(both):
    *_, left = both
    assert left == set()


def test_checkpoints_are_gone_once_the_bundle_is_stored(store, both):
    assert list((store.root / "checkpoints").glob("*")) == []


def spread_job(make_split, family, kind="binary", **train):
    split, statistics, recipe, task = built(make_split, "cluster", kind, family=family, **train)
    program = training_job.fit_program(split.schema, statistics, recipe, family)
    return TrainingJob(split, program, recipe, task, family, training_job.params_of(recipe, family))


ALL_ROWS = {
    "lightgbm": {"early_stopping": 0, "bagging_fraction": 1.0},
    "xgboost": {"early_stopping": 0, "subsample": 1.0},
}


def rows_of_the_first_tree(family, booster):
    if family == "xgboost":
        return booster.trees_to_dataframe()["Cover"][0]  # of squared errors a second derivative is 1
    return booster.dump_model(num_iteration=1)["tree_info"][0]["tree_structure"]["internal_count"]


@pytest.fixture(scope="module")
def of_all_rows(make_split, family, tmp_path_factory):
    """A job of rows that the workers cannot divide evenly, and its model."""
    job = spread_job(make_split, family, "regression", rounds=30, params=ALL_ROWS[family])
    assert job.split.num_rows["train"] % WORKERS == 1
    return job, fitted(job, tmp_path_factory.mktemp("fit"))


def fitted(job, folder):
    (folder / "state").mkdir()
    return distributed.fit(folder / "state", job, folder / "checkpoints")


def test_all_rows_are_fitted_on(of_all_rows, family):
    job, model = of_all_rows
    assert rows_of_the_first_tree(family, model.booster) == job.split.num_rows["train"]


@pytest.mark.parametrize("family", ["lightgbm"], indirect=True)
def test_a_second_fit_of_all_rows_has_the_same_bytes(of_all_rows, family, tmp_path):
    """Of XGBoost and the network, the test of recovery compares the bytes of fits, killed and not."""
    job, model = of_all_rows
    to_bytes = distributed.distributed_family(family).to_bytes
    assert to_bytes(fitted(job, tmp_path)) == to_bytes(model)


NETWORK = {"epochs": 60, "width": 64}


def test_a_network_of_one_worker_has_the_bytes_of_a_task_and_of_two_nearly_its_score(make_split, tmp_path):
    family, made = distributed.distributed_family("network"), {}
    for workers in (1, WORKERS):
        job = spread_job(make_split, "network", workers=workers, params=NETWORK)
        (tmp_path / str(workers)).mkdir()
        made[workers] = distributed.fit(tmp_path / str(workers), job, tmp_path / f"checkpoints-{workers}")
    train, validation = job.read("train"), job.read("validation")
    alone = job.fit(train, validation, 1)
    assert family.to_bytes(made[1]) == family.to_bytes(alone) != family.to_bytes(made[WORKERS])
    test = job.split.table("test")
    y, X = encode_target(test["y"], job.task), job.features.program.transform(test)
    scores = {workers: roc_auc_score(y, family.predict(model, X)[:, 1]) for workers, model in made.items()}
    assert scores[1] > 0.9
    assert scores[WORKERS] == pytest.approx(scores[1], abs=0.01)


def test_shares_hold_the_features_of_the_table(store, make_split):
    job = spread_job(make_split, "xgboost")
    shared = [job.share("train", rank, WORKERS) for rank in range(WORKERS)]
    whole = job.read("train")
    both_shares = np.concatenate([np.column_stack([rows.X, rows.y]) for rows in shared])
    table = np.column_stack([whole.X, whole.y])
    assert both_shares.shape == table.shape
    order = [np.lexsort(np.nan_to_num(a, nan=-1e9).T) for a in (both_shares, table)]
    assert np.array_equal(both_shares[order[0]], table[order[1]], equal_nan=True)


def test_what_went_wrong_in_a_worker_is_said_at_once(make_split, tmp_path):
    job = spread_job(make_split, "xgboost")
    wrong = replace(job, task=job.task.model_copy(update={"classes": ("no", "never")}))
    with pytest.raises(errors.TargetError, match=r"train: target 'y'\n *got: *'yes' in"):
        distributed.fit(tmp_path, wrong, tmp_path / "checkpoints")


def test_workers_for_whom_there_is_no_room_are_an_error_and_not_a_hang(make_split, tmp_path, monkeypatch):
    monkeypatch.setenv(distributed.START_TIMEOUT, "2")
    monkeypatch.setattr(placement, "WORKER_BYTES", 1 << 50)
    job = spread_job(make_split, "xgboost")
    with pytest.raises(errors.ClusterError, match="no room for 2 s; free on the nodes: 2 CPUs and") as caught:
        distributed.fit(tmp_path, job, tmp_path / "checkpoints")
    assert "train: 2 workers with 1 CPUs and 1125899.9 GB each" in str(caught.value)


def test_room_that_workers_had_before_is_waited_for(make_split, tmp_path, monkeypatch):
    """As long as Ray takes a dead machine for alive, what its workers held is taken: here, two tasks hold it."""
    import ray

    job, stored, told = spread_job(make_split, "xgboost", rounds=60), tmp_path / "checkpoints", []
    family = distributed.distributed_family(job.family)
    first, again, is_told = tmp_path / "first", tmp_path / "again", tmp_path / "told"
    for folder in (first, again):
        folder.mkdir()
    model = family.to_bytes(distributed.fit(first, job, stored))
    assert checkpoints.newest(stored / distributed.key(job))

    def hold():
        while not is_told.exists():
            time.sleep(0.05)

    def note(line):
        told.append(line)
        if "there is no room for its workers yet; others go on after round" in line:
            is_told.touch()

    monkeypatch.setenv(distributed.START_TIMEOUT, "2")
    holding = [ray.remote(hold).options(num_cpus=1).remote() for _ in range(WORKERS)]
    while ray.available_resources().get("CPU", 0):
        time.sleep(0.05)
    assert family.to_bytes(distributed.fit(again, job, stored, progress=note)) == model
    assert is_told.exists(), told
    ray.get(holding)
