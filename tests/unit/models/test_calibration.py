"""Temperatures: those that SciPy's own minimiser finds, kept only where they pay, stored with the model."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from mlsys import models
from mlsys.models import calibration
from mlsys.models.calibration import Calibrated, Temperature
from mlsys.models.families.dummy import Dummy

RNG = np.random.default_rng(7)


def drawn(num_rows, classes, sharper):
    """Classes drawn by their probabilities, and the probabilities that a model of another temperature says."""
    scores = RNG.normal(scale=1.5, size=(num_rows, classes))
    y = np.array([RNG.choice(classes, p=p) for p in softmax(scores, axis=1)])
    return y.astype(np.float64), softmax(scores * sharper, axis=1)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("sharper", [2.0, 0.6])
def test_the_temperature_is_the_one_of_least_log_loss_and_near_the_true_one(classes, sharper):
    y, p = drawn(8_000, classes, sharper)
    made = calibration.fit(y, p)

    def loss(inverse):
        return -np.log(softmax(np.log(p) * inverse, axis=1)[np.arange(len(y)), y.astype(int)]).mean()

    best = minimize_scalar(loss, bounds=(0.25, 4), method="bounded", options={"xatol": 1e-8})
    assert 1 / made.temperature == pytest.approx(best.x, rel=1e-4)
    assert made.temperature == pytest.approx(sharper, rel=0.1)


def test_probabilities_that_are_right_and_few_rows_are_left_alone():
    assert calibration.fit(*drawn(20_000, 3, 1.0)) is None
    assert calibration.fit(*drawn(900, 3, 3.0)) is None


def test_certain_probabilities_that_are_wrong_once_stay_finite():
    y, p = np.zeros(2_000), np.tile([1.0, 0.0], (2_000, 1))
    y[::101] = 1
    made = calibration.fit(y, p)
    assert made.temperature == calibration.MOST
    assert np.isfinite(made.apply(p)).all()


def test_scaled_probabilities_sum_to_one_keep_their_order_and_the_bits_of_a_row_alone():
    p = RNG.dirichlet([0.3, 0.3, 0.3], 500)
    p[0] = [1.0, 0.0, 0.0]
    scaling = Temperature(temperature=1.7)
    made = scaling.apply(p)
    np.testing.assert_allclose(made.sum(axis=1), 1, rtol=1e-12)
    assert (made[1:].argmax(axis=1) == p[1:].argmax(axis=1)).all()
    assert (
        np.concatenate([Temperature(temperature=1.7).apply(p[i : i + 1]) for i in range(500)]).tobytes()
        == made.tobytes()
    )


@pytest.mark.parametrize("classes", [2, 3, 8, 9, 40])
@pytest.mark.parametrize("temperature", [0.25, 1.7, 4.0])
def test_a_row_is_scaled_number_by_number_to_the_same_bits(classes, temperature):
    p = RNG.dirichlet(np.full(classes, 0.2), 500)
    p[0], p[1] = np.eye(classes)[0], 1 / classes
    scaling = Temperature(temperature=temperature)
    rows = [scaling.apply_to_row(p[i : i + 1]) for i in range(500)]
    assert np.concatenate(rows).tobytes() == scaling.apply(p).tobytes()


def test_a_saved_model_has_its_temperature(tmp_path):
    made = Calibrated(Dummy(prior=(0.25, 0.75), is_classification=True), Temperature(temperature=0.5))
    models.save("dummy", made, tmp_path)
    assert models.load("dummy", tmp_path) == made
    assert models.predict("dummy", made, np.zeros((2, 0), np.float32)) == pytest.approx(np.array([[0.1, 0.9]] * 2))
