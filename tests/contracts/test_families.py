"""The promises of `models.interface.Family`, asked of each family that is registered, for each kind of task."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace

import numpy as np
import pytest

import toys
from mlsys import errors, models, threads
from mlsys.models.matrix import Matrix
from mlsys.schema import Task, TaskKind

TASKS = {
    "binary": Task(kind=TaskKind.BINARY, target="y", classes=(False, True)),
    "multiclass": Task(kind=TaskKind.MULTICLASS, target="y", classes=("a", "b", "c")),
    "regression": Task(kind=TaskKind.REGRESSION, target="y"),
}
CLASSIFICATIONS = sorted(kind for kind, task in TASKS.items() if task.classes)
FAMILIES = sorted([*models.FAMILIES, toys.BINS.name])  # those of entry points too, and one that a call registers
READERS = sorted(set(FAMILIES) - {models.BASELINE})  # the dummy looks at no feature
SIDE = 8
"""Side of the pictures of a family that looks at them."""
FAST = {
    "convolution": {"epochs": 8, "width": 4, "hidden": 32, "batch_rows": 32},
    "forest": {"trees": 15},
    "extra_trees": {"trees": 15},
    "network": {"epochs": 40, "width": 64, "batch_rows": 64},
    "xgboost": {"rounds": 30, "early_stopping": 5},
    "lightgbm": {"rounds": 30, "early_stopping": 5},
    "catboost": {"rounds": 30, "early_stopping": 5},
    "ensemble": {
        "members": [
            {"family": "xgboost", "params": {"rounds": 20, "early_stopping": 0}, "weight": 2},
            {"family": "xgboost", "params": {"rounds": 20, "max_depth": 2}, "weight": 1},
            {"family": "lightgbm", "params": {"rounds": 20}, "weight": 1},
            {"family": "forest", "params": {"trees": 10}, "weight": 1},
        ]
    },
}


def rows(kind, n=400, seed=0, *, pictures=False):
    """Four quantities and a category, some values missing, with a signal in both, and maybe pictures."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)).astype(np.float32)
    X[:, 4] = rng.integers(0, 6, n)
    signal = 2 * X[:, 0] - X[:, 1] + X[:, 4] % 3 + 0.3 * rng.normal(size=n)
    X[rng.random(X.shape) < 0.05] = np.nan
    y = {"binary": signal > 1, "multiclass": np.digitize(signal, [0, 2]), "regression": signal}[kind]
    table = Matrix(X, y.astype(np.float64), tuple("abcde"), ("q", "q", "q", "q", "c"))
    return with_pictures(table, rng) if pictures else table


def with_pictures(table, rng):
    """Levels of noise beside the columns, of which some pictures are missing."""
    levels = rng.random((table.num_rows, 3 * SIDE * SIDE)).astype(np.float32)
    levels[rng.random(table.num_rows) < 0.05] = np.nan
    names, types = tuple(f"pixel {j}" for j in range(levels.shape[1])), ("P", *["p"] * (levels.shape[1] - 1))
    return replace(table, X=np.hstack([table.X, levels]), names=table.names + names, types=table.types + types)


def rows_for(name, kind, n=400):
    """Rows with the features that a family looks at."""
    return rows(kind, n, pictures=models.family(name).encoding == "pixels")


def files(folder):
    """What a model was saved as: files in the folder, and in folders of it."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module", params=FAMILIES)
def name(request):
    with toys.registered():
        yield request.param


@pytest.fixture(scope="module", params=sorted(TASKS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(name, kind):
    """Family, model and rows, the first 300 of them fitted on; the tests share them, so the rows are read-only."""
    matrix = rows_for(name, kind)
    matrix.X.flags.writeable = matrix.y.flags.writeable = False
    family = models.family(name)
    params = models.params_of(name, FAST.get(name, {}))
    train, validation = matrix.take(np.arange(300)), matrix.take(np.arange(300, 400))
    return family, family.fit(train, validation, TASKS[kind], params, seed=3, threads=2), matrix


def test_the_names_are_those_of_the_protocol(name):
    family = models.family(name)
    assert name == family.name
    assert family.encoding in {"codes", "dense", "pixels", "none"}
    assert isinstance(family.complexity, int)
    assert family.tasks <= set(TaskKind)
    assert set(family.space(TASKS["binary"])) <= set(family.params.model_fields)


def test_each_family_has_its_own_place_in_the_order_of_simplicity():
    places = [family.complexity for family in models.FAMILIES.values()]
    assert len(set(places)) == len(places)


def test_a_class_of_parameters_belongs_to_one_family(name):
    names = [family.params.__name__ for family in models.FAMILIES.values()]
    assert names.count(models.family(name).params.__name__) == 1


def test_the_versions_of_its_libraries_can_be_told(name):
    assert all(importlib.metadata.version(library) for library in models.family(name).libraries)


def test_defaults_lie_in_the_space_that_is_searched(name):
    family = models.family(name)
    defaults = family.params().model_dump()
    for parameter, domain in family.space(TASKS["binary"]).items():
        assert defaults[parameter] is None or defaults[parameter] in domain


def test_predictions_have_a_row_a_row_and_a_column_a_class(fitted, kind):
    family, model, matrix = fitted
    shape = (400,) if kind == "regression" else (400, len(TASKS[kind].classes))
    predicted = family.predict(model, matrix.X)
    assert predicted.shape == shape
    assert predicted.dtype == np.float64
    assert np.isfinite(predicted).all()
    assert family.predict(model, matrix.X[:0]).shape == (0, *shape[1:])


@pytest.mark.parametrize("kind", CLASSIFICATIONS, indirect=True)
def test_probabilities_sum_to_one(fitted):
    family, model, matrix = fitted
    predicted = family.predict(model, matrix.X)
    assert ((predicted >= 0) & (predicted <= 1)).all()
    np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=0, atol=1e-12)


def test_a_row_alone_has_the_bits_it_has_in_any_batch(fitted):
    family, model, matrix = fitted
    whole = family.predict(model, matrix.X)
    alone = np.concatenate([family.predict(model, matrix.X[i : i + 1]) for i in range(60)])
    assert alone.tobytes() == whole[:60].tobytes()
    for size in (2, 7, 63, 64, 65, 129):
        assert family.predict(model, matrix.X[:size]).tobytes() == whole[:size].tobytes()


def test_threads_that_predict_at_once_get_the_same_bits(fitted, monkeypatch):
    family, model, matrix = fitted
    whole = family.predict(model, matrix.X)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    parts = [slice(start, start + 25) for start in range(0, 400, 25)]
    at_once = threads.each(lambda part: family.predict(model, matrix.X[part]), parts)
    assert np.concatenate(at_once).tobytes() == whole.tobytes()


def test_the_layout_in_memory_does_not_change_a_bit(fitted):
    family, model, matrix = fitted
    whole = family.predict(model, matrix.X)
    read_only = np.asfortranarray(matrix.X)
    read_only.flags.writeable = False
    assert family.predict(model, read_only).tobytes() == whole.tobytes()
    assert family.predict(model, np.repeat(matrix.X, 2, axis=0)[::2]).tobytes() == whole.tobytes()


def test_a_saved_model_predicts_the_same_bits(fitted, tmp_path):
    family, model, matrix = fitted
    family.save(model, tmp_path)
    again = family.load(tmp_path)
    assert family.predict(again, matrix.X).tobytes() == family.predict(model, matrix.X).tobytes()


def test_the_same_seed_saves_the_same_bytes(fitted, name, kind, tmp_path):
    family, model, matrix = fitted
    params = models.params_of(name, FAST.get(name, {}))
    train, validation = matrix.take(np.arange(300)), matrix.take(np.arange(300, 400))
    twin = family.fit(train, validation, TASKS[kind], params, seed=3, threads=2)
    for number, each in enumerate([model, twin, family_reloaded(family, model, tmp_path)]):
        (tmp_path / str(number)).mkdir()
        family.save(each, tmp_path / str(number))
    contents = [
        {str(f.relative_to(tmp_path / str(n))): f.read_bytes() for f in files(tmp_path / str(n))} for n in range(3)
    ]
    assert contents[0] == contents[1] == contents[2]


def family_reloaded(family, model, folder):
    (folder / "first").mkdir()
    family.save(model, folder / "first")
    return family.load(folder / "first")


def saved(family, model, folder):
    folder.mkdir()
    family.save(model, folder)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files(folder)}


def refitted(name, kind, matrix, seconds=None, **changes):
    family = models.family(name)
    params = models.params_of(name, {**FAST.get(name, {}), **changes})
    train, validation = matrix.take(np.arange(300)), matrix.take(np.arange(300, 400))
    return family.fit(train, validation, TASKS[kind], params, seed=3, threads=2, seconds=seconds)


def test_with_time_enough_a_clock_changes_no_byte(fitted, name, kind, tmp_path):
    family, model, matrix = fitted
    timed = refitted(name, kind, matrix, seconds=1e6)
    assert family.cut(timed) == {}
    assert saved(family, timed, tmp_path / "timed") == saved(family, model, tmp_path / "untimed")


def test_without_time_there_is_a_model_and_what_it_lacks_makes_it_again(fitted, name, kind, tmp_path):
    family, _, matrix = fitted
    late = refitted(name, kind, matrix, seconds=0.0)
    assert np.isfinite(family.predict(late, matrix.X)).all()
    if name != "ensemble" and family.rounds(late) is None:  # rounds are told by themselves
        again = refitted(name, kind, matrix, **family.cut(late))
        assert saved(family, again, tmp_path / "again") == saved(family, late, tmp_path / "late")


def test_nothing_saved_is_a_pickle(fitted, tmp_path):
    family, model, _ = fitted
    family.save(model, tmp_path)
    assert {f.suffix for f in files(tmp_path)} <= {".json", ".npz", ".ubj", ".txt", ".cbm"}


def test_a_damaged_file_is_refused_by_name(fitted, tmp_path):
    family, model, _ = fitted
    family.save(model, tmp_path)
    for file in files(tmp_path):
        whole = file.read_bytes()
        for broken in (b"", whole[: len(whole) // 2], b"\x80\x04N."):
            file.write_bytes(broken)
            with pytest.raises(errors.BundleError, match=file.name):
                family.load(tmp_path)
        file.unlink()
        with pytest.raises(errors.BundleError, match=file.name):
            family.load(tmp_path)
        file.write_bytes(whole)
    family.load(tmp_path)


def test_missing_and_infinite_values_are_answered(fitted):
    family, model, matrix = fitted
    odd = matrix.X[:4].copy()
    odd[0] = np.nan
    odd[1] = np.inf
    odd[2] = -np.inf
    odd[3, 4] = 50  # a category that training never saw
    assert np.isfinite(family.predict(model, odd)).all()


def test_infinite_values_in_training_are_borne(name, kind):
    matrix = rows_for(name, kind, 200)
    matrix.X[0, 0], matrix.X[1, 0], matrix.X[:, 3] = np.inf, -np.inf, np.nan
    family = models.family(name)
    model = family.fit(matrix, None, TASKS[kind], models.params_of(name, FAST.get(name, {})), seed=0, threads=1)
    assert np.isfinite(family.predict(model, matrix.X)).all()


@pytest.mark.parametrize("name", READERS, indirect=True)
def test_a_matrix_of_another_width_is_refused(fitted):
    family, model, matrix = fitted
    with pytest.raises(errors.BundleError, match="shape"):
        family.predict(model, matrix.X[:, :3])


def test_what_can_be_learned_is_learned(fitted, name, kind):
    family, model, matrix = fitted
    predicted, y = family.predict(model, matrix.X)[300:], matrix.y[300:]
    if name == models.BASELINE:
        fitted_on = matrix.y[:300]
        expected = fitted_on.mean() if kind == "regression" else np.bincount(fitted_on.astype(int)) / 300
        np.testing.assert_allclose(predicted[0], expected, rtol=1e-12)
    elif kind == "regression":
        assert np.mean((predicted - y) ** 2) < 0.5 * y.var()
    else:
        chance = np.bincount(y.astype(int)).max() / y.size
        assert (predicted.argmax(axis=1) == y).mean() > chance + 0.1


def test_a_class_that_training_lacks_has_a_column_too(name):
    matrix = rows_for(name, "multiclass")
    matrix = matrix.take(matrix.y != 1)
    family = models.family(name)
    model = family.fit(matrix, None, TASKS["multiclass"], models.params_of(name, FAST.get(name, {})), seed=0, threads=1)
    predicted = family.predict(model, matrix.X)
    assert predicted.shape == (matrix.num_rows, 3)
    assert predicted[:, 1].max() < 0.05
    if name != models.BASELINE:
        assert (predicted.argmax(axis=1) == matrix.y).mean() > 0.8


def test_one_class_alone_is_borne(name):
    matrix = rows_for(name, "binary")
    matrix = matrix.take(matrix.y == 1)
    family = models.family(name)
    model = family.fit(matrix, None, TASKS["binary"], models.params_of(name, FAST.get(name, {})), seed=0, threads=1)
    assert (family.predict(model, matrix.X).argmax(axis=1) == 1).all()


@pytest.mark.parametrize("name", [name for name in models.FAMILIES if models.family(name).sizes])
def test_smaller_parameters_are_half_of_what_memory_goes_with_and_never_more(name):
    family = models.family(name)
    params = models.params_of(name, {})
    for _ in range(12):
        less = models.params_of(name, {**params.model_dump(), **family.smaller(params)})
        assert all(2 <= getattr(less, size) <= getattr(params, size) for size in family.sizes)
        params = less
    assert family.smaller(params) == {}
