"""Boosters in one task and on Ray Train: the same features, nearly the same model."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlsys import errors, train
from mlsys.predict import Predictor
from mlsys.statistics import encode_target
from mlsys.train import distributed, training_job
from mlsys.train.training_job import TrainingJob

WORKERS = 2


def built(make_split, plan, **settings):
    return make_split(
        num_rows=3_001, train={"plan": plan, "workers": WORKERS, "rounds": 400, "early_stopping": 10, **settings}
    )


@pytest.fixture(scope="module", params=["xgboost"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def both(store, make_split, family):
    bundles = {}
    staged = set((store.root / "staging").glob("*"))  # a test of another file kills a search, which leaves some
    for plan in ("task", "cluster"):
        split, statistics, recipe, task = built(make_split, plan)
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
    assert f"{family}: {WORKERS} workers with 0.5 CPUs each" in told


def test_the_best_round_is_kept_and_not_the_last(both):
    bundles, *_ = both
    for made, _ in bundles.values():
        assert made.model().rounds == made.provenance["rounds"] < 400


def test_nothing_of_ray_train_stays_behind(both):
    *_, left = both
    assert left == set()


def test_the_blocks_that_workers_get_hold_the_features_of_the_table(store, make_split):
    split, statistics, recipe, task = built(make_split, "cluster")
    program = training_job.fit_program(split.schema, statistics, recipe, "xgboost")
    job = TrainingJob(split, program, recipe, task, "xgboost", None)
    blocks = list(distributed._dataset(job).iter_batches(batch_size=None, batch_format="numpy"))
    streamed = np.concatenate([np.column_stack([block["X"], block["y"]]) for block in blocks])
    whole = job.read("train")
    table = np.column_stack([whole.X, whole.y])
    assert streamed.shape == table.shape
    order = [np.lexsort(np.nan_to_num(a, nan=-1e9).T) for a in (streamed, table)]
    assert np.array_equal(streamed[order[0]], table[order[1]], equal_nan=True)


def test_what_went_wrong_in_a_worker_is_said(store, make_split, tmp_path):
    split, statistics, recipe, task = built(make_split, "cluster")
    wrong = task.model_copy(update={"classes": ("no", "never")})
    program = training_job.fit_program(split.schema, statistics, recipe, "xgboost")
    job = TrainingJob(split, program, recipe, wrong, "xgboost", None)
    with pytest.raises(errors.ClusterError, match=r"got: .*TargetError: train: target 'y' got: 'yes' in"):
        distributed.fit(tmp_path, job)
