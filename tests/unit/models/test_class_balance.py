"""Weighted and sampled classes: the published formulas, probabilities that are unbiased, and files of the model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax

from mlsys import models
from mlsys.models import class_balance
from mlsys.models.calibration import Calibrated, Temperature
from mlsys.models.class_balance import Balancing, Corrected, PriorCorrection
from mlsys.models.families.dummy import Dummy
from mlsys.models.matrix import Matrix
from mlsys.schema import Task

BINARY = Task(kind="binary", target="y", classes=(False, True))
THREE = Task(kind="multiclass", target="y", classes=("a", "b", "c"))


def rows(x, y, weight=None):
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    return Matrix(x.astype(np.float32), y.astype(np.float64), names, ("q",) * x.shape[1], weight)


# The formula


def test_two_classes_are_corrected_as_elkan_says():
    base, fitted = 0.02, 0.5  # shares of the positive class
    prior = PriorCorrection(factors=((1 - fitted) / (1 - base), fitted / base))
    for p in (0.01, 0.3, 0.5, 0.97):
        elkan = base * (p - p * fitted) / (fitted - p * fitted + base * p - fitted * base)
        assert prior.apply(np.array([[1 - p, p]]))[0, 1] == pytest.approx(elkan, rel=1e-12)
    assert prior.apply(np.array([[0.5, 0.5]]))[0, 1] == pytest.approx(0.02, rel=1e-12)


def test_a_logit_is_moved_by_the_logarithm_of_the_odds_as_king_and_zeng_say():
    q, share, sampled = np.array([0.1, 0.6, 0.999]), 0.003, 0.4
    moved = expit(logit(q) - np.log((1 - share) / share * sampled / (1 - sampled)))
    prior = PriorCorrection(factors=((1 - sampled) / (1 - share), sampled / share))
    np.testing.assert_allclose(prior.apply(np.stack([1 - q, q], axis=1))[:, 1], moved, rtol=1e-12)


def test_more_classes_are_corrected_as_saerens_says():
    rng = np.random.default_rng(3)
    true, fitted = rng.dirichlet([1, 2, 3, 4]), rng.dirichlet([4, 3, 2, 1])
    q = rng.dirichlet([1, 1, 1, 1], 50)
    made = PriorCorrection(factors=tuple(fitted / true)).apply(q)
    for before, after in zip(q, made, strict=True):
        parts = [true[k] / fitted[k] * before[k] for k in range(4)]
        np.testing.assert_allclose(after, [part / sum(parts) for part in parts], rtol=1e-12)


PROBABILITIES = st.lists(st.floats(0.001, 1), min_size=2, max_size=6).map(lambda v: np.array(v) / sum(v))


@given(p=PROBABILITIES, factor=st.floats(0.01, 100))
def test_equal_factors_change_no_bit(p, factor):
    assert PriorCorrection(factors=(factor,) * len(p)).apply(p[None]).tobytes() == p.tobytes()


@given(p=PROBABILITIES, data=st.data())
def test_the_correction_undoes_the_weights(p, data):
    factors = np.array(data.draw(st.lists(st.floats(0.01, 100), min_size=len(p), max_size=len(p))))
    q = p * factors / (p * factors).sum()
    made = PriorCorrection(factors=tuple(factors)).apply(q[None])
    np.testing.assert_allclose(made[0], p, rtol=1e-9)
    assert made.sum() == pytest.approx(1, rel=1e-12)
    assert PriorCorrection(factors=tuple(factors)).apply(np.stack([q, p]))[0].tobytes() == made[0].tobytes()


# Factors


def test_weights_are_inverse_to_the_shares_and_one_in_the_mean():
    y = np.repeat([0.0, 1, 2], [70, 20, 10])
    made = class_balance.fit(Balancing(), y, None, 3)
    assert made.factors == pytest.approx((100 / 210, 100 / 60, 100 / 30))
    weight = made.matrix(rows(np.zeros((100, 1)), y)).weight
    assert weight.mean() == pytest.approx(1)
    assert np.bincount(y.astype(int), weight) == pytest.approx([100 / 3] * 3)


def test_no_class_weighs_more_than_a_hundred_times_another():
    y = np.repeat([0.0, 1], [100_000, 10])
    made = class_balance.fit(Balancing(), y, None, 2)
    assert made.factors[1] / made.factors[0] == pytest.approx(100)
    assert np.array(made.factors)[y.astype(int)].mean() == pytest.approx(1)


def test_weights_of_rows_decide_what_is_rare_and_stay_beside_those_of_classes():
    y, own = np.repeat([0.0, 1], [50, 50]), np.repeat([1.0, 9.0], [50, 50])
    made = class_balance.fit(Balancing(), y, own, 2)
    assert made.factors == pytest.approx((500 / 100, 500 / 900))
    weight = made.matrix(rows(np.zeros((100, 1)), y, own)).weight
    np.testing.assert_allclose(weight, own * np.array(made.factors)[y.astype(int)])
    assert np.bincount(y.astype(int), weight) == pytest.approx([250, 250])


def test_sampling_keeps_the_rarest_class_and_so_many_rows_of_the_others_for_each_of_its_own():
    y = np.random.default_rng(0).permutation(np.repeat([0.0, 1, 2], [900, 30, 70]))
    x = np.arange(1_000.0)[:, None]
    made = class_balance.fit(Balancing(2.0), y, None, 3, seed=4)
    drawn = made.matrix(rows(x, y))
    assert np.bincount(drawn.y.astype(int)).tolist() == [60, 30, 60]
    assert made.factors == pytest.approx((60 / 900, 1, 60 / 70))
    assert (np.diff(drawn.X[:, 0]) > 0).all()
    assert made.matrix(rows(x, y)).X.tobytes() == drawn.X.tobytes()
    assert class_balance.fit(Balancing(2.0), y, None, 3, seed=5).matrix(rows(x, y)).X.tobytes() != drawn.X.tobytes()


def test_one_class_alone_is_not_balanced_and_an_absent_one_counts_as_it_is():
    assert class_balance.fit(Balancing(), np.zeros(9), None, 2) is None
    assert class_balance.fit(Balancing(), np.array([0.0, 0, 0, 2]), None, 3).factors[1] == 1.0


# Models


SMOOTH = {
    "linear": {"l2": 0.01},
    "lightgbm": {"rounds": 60, "early_stopping": 0, "num_leaves": 4, "min_data_in_leaf": 500},
}


@pytest.mark.parametrize("wish", [Balancing(), Balancing(3.0)], ids=str)
@pytest.mark.parametrize("name", SMOOTH)
def test_corrected_probabilities_of_a_rare_class_are_unbiased(name, wish):
    """The mean prediction is the mean of the known probabilities: within four of its standard errors.

    Of a share that k rows of the rare class were learned from, that is a part of 1 / √k.
    """
    rng = np.random.default_rng(11)
    x = rng.normal(size=(60_000, 2))
    p = expit(-4.0 + x[:, 0] - 0.5 * x[:, 1])
    y = rng.random(len(p)) < p
    train, test = rows(x[:40_000], y[:40_000]), rows(x[40_000:], y[40_000:])
    balance = class_balance.fit(wish, train.y, None, 2)
    fitted, family = balance.matrix(train), models.family(name)
    model = family.fit(fitted, None, BINARY, models.params_of(name, SMOOTH[name]), seed=0, threads=1)
    raw = family.predict(model, test.X)[:, 1]
    made = models.predict(name, Corrected(model, balance.correction), test.X)[:, 1]
    true = p[40_000:].mean()
    assert raw.mean() > 3 * true
    assert made.mean() == pytest.approx(true, rel=4 / np.sqrt(train.y.sum()))
    if name == "linear":
        assert np.abs(logit(made) - logit(p[40_000:])).max() < 0.6


def test_corrected_probabilities_of_several_classes_are_unbiased():
    rng = np.random.default_rng(12)
    x = rng.normal(size=(60_000, 2))
    p = softmax(np.stack([2.5 + x[:, 0], x[:, 1], -x[:, 0] - 1], axis=1), axis=1)
    y = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    train = rows(x[:40_000], y[:40_000])
    balance = class_balance.fit(Balancing(), train.y, None, 3)
    model = models.family("linear").fit(balance.matrix(train), None, THREE, models.params_of("linear", {"l2": 0.01}))
    made = models.predict("linear", Corrected(model, balance.correction), x[40_000:].astype(np.float32))
    np.testing.assert_allclose(made.mean(axis=0), p[40_000:].mean(axis=0), atol=0.004)
    assert np.abs(made - p[40_000:]).max() < 0.06


# Files


def test_a_saved_model_has_its_correction_below_its_temperature(tmp_path):
    plain = Dummy(prior=(0.5, 0.5), is_classification=True)
    made = Calibrated(Corrected(plain, PriorCorrection(factors=(0.5, 5.0))), Temperature(temperature=2.0))
    for name, model in {"both": made, "corrected": made.model, "plain": plain}.items():
        (tmp_path / name).mkdir()
        models.save("dummy", model, tmp_path / name)
        assert models.load("dummy", tmp_path / name) == model
    assert not (tmp_path / "plain" / "prior.json").exists()
    p = models.predict("dummy", made, np.zeros((1, 0), np.float32))[0]
    by_hand = np.sqrt(np.array([0.5 / 0.5, 0.5 / 5]))
    np.testing.assert_allclose(p, by_hand / by_hand.sum())
    assert models.bare(made) == plain


@pytest.mark.parametrize("text", ['{"factors": [1.0, 0.0]}', '{"factors": [1.0, "x"]}', "{}"])
def test_a_damaged_correction_is_refused(tmp_path, text):
    from mlsys import errors

    models.save("dummy", Dummy(prior=(0.5, 0.5), is_classification=True), tmp_path)
    (tmp_path / "prior.json").write_text(text)
    with pytest.raises(errors.BundleError, match=r"prior\.json"):
        models.load("dummy", tmp_path)
