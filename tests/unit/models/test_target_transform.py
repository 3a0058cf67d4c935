"""The target on another scale and back: exact inverses, means where means are asked for, within the range seen."""

import numpy as np
import pytest

from mlsys import models
from mlsys.models import target_transform
from mlsys.models.matrix import Matrix
from mlsys.models.target_transform import Transformed

RNG = np.random.default_rng(5)
TARGETS = {
    "positive": np.exp(2 * RNG.normal(size=999)),
    "negative": -np.exp(2 * RNG.normal(size=999)),
    "both signs": RNG.standard_cauchy(size=999),
    "zero inflated": np.where(RNG.random(999) < 0.7, 0.0, np.exp(RNG.normal(size=999))),
    "tiny": 1e-200 * np.exp(RNG.normal(size=999)),
    "huge": 1e200 * np.exp(RNG.normal(size=999)),
}


@pytest.mark.parametrize("functional", ["mean", "median", "mean of logarithms"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_logarithm_and_its_inverse_give_the_target_again(name, functional):
    y = TARGETS[name]
    made = target_transform.fit("log", y, functional)
    np.testing.assert_allclose(made.inverse(made.forward(y)), y, rtol=1e-9, atol=1e-9 * np.abs(y).min())
    assert np.isfinite(made.forward(y)).all()


@pytest.mark.parametrize("kind", ["log", "winsor"])
def test_no_prediction_leaves_the_range_of_the_training_rows_and_a_row_alone_has_its_bits(kind):
    y = TARGETS["both signs"]
    made = target_transform.fit(kind, y, "mean").smeared(y, np.zeros(len(y)))
    z = np.concatenate([RNG.normal(scale=100, size=500), [1e300, -1e300]])
    whole = made.inverse(z)
    assert y.min() <= whole.min() <= whole.max() <= y.max()
    assert np.concatenate([made.inverse(z[i : i + 1]) for i in range(len(z))]).tobytes() == whole.tobytes()


def test_smeared_predictions_are_means_as_duan_computes_them():
    z = RNG.normal(size=2_000)
    y = np.exp(4 + z + 0.7 * RNG.normal(size=2_000))
    made = target_transform.fit("log", y, "mean")
    fitted = made.forward(np.exp(4 + z))
    residuals = made.forward(y) - fitted
    duan = [np.mean(made.scale * np.sinh(each + residuals)) for each in fitted[:50]]
    smeared = made.smeared(y, fitted).inverse(fitted[:50])
    np.testing.assert_allclose(smeared, duan, rtol=1e-9)
    assert smeared.mean() > 1.15 * made.inverse(fitted[:50]).mean()


def test_a_link_fits_the_target_itself_and_knows_nothing_below_zero():
    made = target_transform.fit("log_link", np.array([0.0, 3.0]), "mean")
    assert made.forward(np.array([-1.0, 0.0, 7.0])).tolist() == [0.0, 0.0, 7.0]
    assert made.inverse(np.array([-1.0, 0.0, 7.0])).tolist() == [0.0, 0.0, 7.0]


def test_a_target_that_does_not_vary_is_left_alone():
    assert target_transform.fit("log", np.full(5, 2.0), "mean") is None
    assert target_transform.fit("none", TARGETS["positive"], "mean") is None


def test_a_saved_model_has_its_transform_and_one_without_has_no_such_file(tmp_path):
    from mlsys.models.families.dummy import Dummy

    plain = Dummy(prior=(0.5,), is_classification=False)
    made = Transformed(plain, target_transform.fit("log", TARGETS["positive"], "median"))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    models.save("dummy", made, tmp_path / "a")
    models.save("dummy", plain, tmp_path / "b")
    assert models.load("dummy", tmp_path / "a") == made
    assert models.load("dummy", tmp_path / "b") == plain
    assert not (tmp_path / "b" / "target.json").exists()
    X = np.zeros((3, 0), np.float32)
    assert models.predict("dummy", made, X) == pytest.approx(made.target.inverse(np.full(3, 0.5)))


def test_absolute_errors_do_not_heed_a_tail_and_squares_do():
    from mlsys.models.matrix import Matrix
    from mlsys.schema import Task

    x = RNG.normal(size=(1_000, 1)).astype(np.float32)
    y = 3.0 * x[:, 0].astype(np.float64)
    y[:5] = 1e6
    rows, task = Matrix(x, y, ("x",), ("q",)), Task(kind="regression", target="y")
    for name, params in (("linear", {"loss": "absolute"}), ("xgboost", {"loss": "absolute", "rounds": 100})):
        family = models.family(name)
        fitted = family.fit(rows, None, task, models.params_of(name, params), seed=0, threads=1)
        assert np.median(np.abs(family.predict(fitted, x)[5:] - y[5:])) < 0.3


def test_a_difference_is_taken_from_a_feature_and_added_again():
    X = np.array([[1.0, 10.0], [2.0, np.nan], [3.0, 30.0]], np.float32)
    rows = Matrix(X, np.array([11.0, 20.0, 33.0]), ("a", "naive"), ("q", "q"))
    made = target_transform.fit("difference", rows.y, "mean", place=1)
    assert made.centre == 20.0  # where the feature is missing
    assert made.matrix(rows).y.tolist() == [1.0, 0.0, 3.0]
    assert made.inverse(np.array([1.0, 0.0, 3.0]), X).tolist() == [11.0, 20.0, 33.0]


def test_without_the_feature_there_is_no_difference():
    assert target_transform.fit("difference", np.array([1.0, 2.0]), "mean") is None


def test_files_of_other_transforms_do_not_speak_of_a_feature(tmp_path):
    y = np.array([1.0, 2.0, 50.0])
    target_transform.write(target_transform.fit("winsor", y, "mean"), tmp_path)
    assert "place" not in (tmp_path / "target.json").read_text()
    difference = target_transform.fit("difference", y, "mean", place=3)
    target_transform.write(difference, tmp_path)
    assert target_transform.read(tmp_path) == difference
