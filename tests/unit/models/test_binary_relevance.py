"""Several labels as one binary model each: what holds whatever the family."""

import hashlib

import numpy as np
import pytest

from mlsys import errors, models
from mlsys import label_sets as labels
from mlsys.models import calibration
from mlsys.models.binary_relevance import LEAST, LabelModels, of_label
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

LABELS = Task(kind=TaskKind.MULTILABEL, target="a, b", labels=("a", "b"), classes=("[]", labels.OTHER_SETS))
BINARY = Task(kind=TaskKind.BINARY, target="a", classes=(False, True))
FAMILIES = sorted({name for name, each in models.FAMILIES.items() if each.encoding != "pixels"} - {"network"})
QUICK = {
    "forest": {"trees": 8},
    "extra_trees": {"trees": 8},
    "xgboost": {"rounds": 40, "early_stopping": 4},
    "lightgbm": {"rounds": 40, "early_stopping": 4},
    "catboost": {"rounds": 20, "early_stopping": 4},
    "ensemble": {"members": [{"family": "xgboost", "params": {"rounds": 10}, "weight": 1}]},
}


def rows(n=400, seed=0):
    """Five quantities and two labels that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)).astype(np.float32)
    has = np.stack([X[:, 0] + rng.normal(size=n) > 0, X[:, 1] - rng.normal(size=n) > 1], axis=1)
    return Matrix(X, labels.number(has), tuple("vwxyz"), ("q",) * 5)


def digests(folder):
    """Digest of each file below a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def test_the_models_of_labels_are_those_of_binary_tasks_to_the_byte(name, tmp_path):
    train, validation = rows(), rows(150, seed=1)
    params, how = models.params_of(name, QUICK.get(name, {})), {"seed": 3, "threads": 1}
    together = models.learner(name, LABELS).fit(train, validation, LABELS, params, **how)
    (tmp_path / "labels").mkdir()
    models.save(name, together, tmp_path / "labels")
    predicted = models.predict(name, together, validation.X)
    assert predicted.shape == (150, 2)
    for k in range(2):
        alone = models.family(name).fit(of_label(train, k), of_label(validation, k), BINARY, params, **how)
        (tmp_path / str(k)).mkdir()
        models.save(name, alone, tmp_path / str(k))
        assert digests(tmp_path / str(k)) == digests(tmp_path / "labels" / f"label-{k}")
        assert (models.predict(name, alone, validation.X)[:, 1] == predicted[:, k]).all()


def test_what_is_read_predicts_as_what_was_written(name, tmp_path):
    params = models.params_of(name, QUICK.get(name, {}))
    made = models.learner(name, LABELS).fit(rows(), rows(100, 1), LABELS, params, seed=0, threads=1)
    models.save(name, made, tmp_path)
    read = models.load(name, tmp_path)
    assert isinstance(read, LabelModels)
    X = rows(60, 2).X
    assert (models.predict(name, read, X) == models.predict(name, made, X)).all()
    one_by_one = np.concatenate([models.predict(name, read, X[k : k + 1]) for k in range(len(X))])
    assert (one_by_one == models.predict(name, read, X)).all()


@pytest.mark.parametrize("rare", [0, 1, LEAST - 1])
def test_a_label_that_too_few_rows_have_or_lack_is_answered_with_its_rate(rare):
    train = rows()
    for has_it in (True, False):
        has = labels.table(train.y, 2)
        has[:, 1] = not has_it
        has[:rare, 1] = has_it
        given = Matrix(train.X, labels.number(has), train.names, train.types)
        made = models.learner("linear", LABELS).fit(
            given, None, LABELS, models.params_of("linear", {}), seed=0, threads=1
        )
        assert made.constant == ["b"]
        predicted = models.predict("linear", made, rows(30, 4).X)
        assert predicted[:, 1] == pytest.approx(has[:, 1].mean())
        assert np.ptp(predicted[:, 0]) > 0.1


def test_a_refit_has_the_rounds_that_each_label_stopped_at():
    train, validation = rows(600), rows(300, seed=5)
    params = models.params_of("xgboost", {"rounds": 200, "early_stopping": 3})
    learner = models.learner("xgboost", LABELS)
    made = learner.fit(train, validation, LABELS, params, seed=0, threads=1)
    rounds = learner.label_rounds(made)
    assert models.rounds("xgboost", made) == max(rounds)
    grown = learner.params_of_refit(params, made, 1.1)
    again = learner.fit(train, None, LABELS, grown, seed=0, threads=1)
    assert learner.label_rounds(again) == [round(1.1 * each) for each in rounds]
    same = learner.fit(train, None, LABELS, learner.of_label_rounds(params, rounds), seed=0, threads=1)
    assert learner.label_rounds(same) == rounds
    assert (learner.predict(same, validation.X) == learner.predict(made, validation.X)).all()


def test_a_temperature_is_of_each_label_alone(tmp_path):
    rng = np.random.default_rng(0)
    true = rng.uniform(0.05, 0.95, size=(4_000, 2))
    y = labels.number(rng.random(true.shape) < true)
    logit = np.log(true / (1 - true))
    said = np.stack([true[:, 0], 1 / (1 + np.exp(-2.5 * logit[:, 1]))], axis=1)  # the second label is over-confident
    found = calibration.fit_labels(y, said)
    assert found.temperatures[0] == 1.0
    alone = calibration.fit((y >= 2).astype(float), np.stack([1 - said[:, 1], said[:, 1]], axis=1))
    assert found.temperatures[1] == alone.temperature == pytest.approx(2.5, rel=0.1)
    applied = found.apply(said)
    assert (applied[:, 0] == said[:, 0]).all()
    assert np.abs(applied[:, 1] - true[:, 1]).mean() < np.abs(said[:, 1] - true[:, 1]).mean() / 4
    calibration.write(found, tmp_path)
    assert calibration.read(tmp_path) == found


def test_a_family_that_cannot_do_two_classes_cannot_do_labels():
    only_numbers = type("Numbers", (type(models.family("dummy")),), {"tasks": frozenset({TaskKind.REGRESSION})})()
    assert only_numbers.lacks(LABELS) == "a binary task"
    assert models.family("dummy").lacks(LABELS) is None


def test_facts_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "labels.json").write_text('{"names": ["a"], "is_constant": []}')
    with pytest.raises(errors.BundleError, match="labels"):
        models.load("linear", tmp_path)
