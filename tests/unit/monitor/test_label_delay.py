"""Delays of labels: the textbook of the product-limit estimate, and streams whose classes are known at other times."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlsys.evaluate import recalibration
from mlsys.monitor import judge as step
from mlsys.monitor import label_delay
from mlsys.monitor.label_delay import ProductLimit
from traffic import MONDAY, TASK, WEEK, Traffic

DAY = 86_400.0
WEEKS = 16
AS_OF = MONDAY + WEEKS * WEEK
ROWS = 1_000


def test_the_product_limit_estimate_is_that_of_the_textbook():
    """Remission of 21 patients on 6-MP (Freireich et al. 1963), in Kalbfleisch & Prentice (2002), section 1.1."""
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    seen = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    curve = ProductLimit.of(np.array(times, float), np.array(seen, bool))
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.survival == pytest.approx([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], abs=5e-4)
    assert curve.waiting(np.array([5.9, 6.0, 100.0])) == pytest.approx([1, 0.857, 0.448], abs=5e-4)
    assert (curve.quantile(0.5), curve.quantile(0.1)) == (23, 6)
    assert np.isnan(curve.quantile(0.9))


def test_a_weight_of_two_is_the_same_label_twice():
    times, arrived = np.array([1.0, 2.0, 3.0]), np.array([True, False, True])
    twice = ProductLimit.of(np.repeat(times, 2), np.repeat(arrived, 2))
    assert ProductLimit.of(times, arrived, np.full(3, 2.0)).survival.tolist() == twice.survival.tolist()


@given(
    arrays.arrays(float, st.integers(1, 40), elements=st.integers(0, 9).map(float)),
    st.integers(0, 2**40 - 1),
)
def test_the_estimate_falls_from_one_to_no_less_than_zero_and_needs_no_censoring_to_be_the_plain_share(times, bits):
    arrived = np.array([bits >> place & 1 for place in range(len(times))], bool)
    survival = ProductLimit.of(times, arrived).survival
    assert (np.diff(np.concatenate([[1.0], survival])) <= 0).all()
    assert (survival >= 0).all()
    plain = ProductLimit.of(times, np.ones(len(times), bool))
    assert plain.waiting(np.arange(10.0)) == pytest.approx([(times > age).mean() for age in range(10)], abs=1e-12)


def labels_of(traffics, delay_of):
    """Labels with the time at which they are known; `delay_of` gives days for the positive and the negative class."""
    tables = []
    for number, traffic in enumerate(traffics):
        at = np.arange(traffic.num_rows) + 0.5
        times = (MONDAY + WEEK * number).timestamp() + WEEK.total_seconds() * at / traffic.num_rows
        known = (times + DAY * np.where(traffic.late, *delay_of(traffic.num_rows, number))) * 1e6
        column = pa.array(known.astype(np.int64), pa.timestamp("us", "UTC"))
        tables.append(traffic.labels(known_at=column))
    return pa.concat_tables(tables)


def fixed_delays(num_rows, number):
    return np.full(num_rows, 26.0), np.full(num_rows, 49.0)


def spread_delays(num_rows, number):
    rng = np.random.default_rng(number)
    return tuple(median * np.exp(rng.normal(0, 0.35, num_rows)) for median in (26, 49))


@pytest.fixture(scope="module")
def stream():
    return [Traffic.draw(ROWS, k) for k in range(WEEKS)]


def judge(world, labels, **section):
    test = Traffic.draw(10_000, 77)
    output = np.column_stack([1 - test.score, test.score])
    facts = {"estimation": recalibration.facts(test.late.astype(float), output, TASK, None), "num_rows": 10_000}
    facts["utility_sql"] = "CASE WHEN late THEN 1 ELSE 0 END"  # whose mean is the observed rate
    return step.compare(
        world.store, "world", world.bundle, world.folder, labels, world.recipe(**section),
        baseline={**world.baseline, **facts}, as_of=AS_OF,
    )  # fmt: skip


def windows_of(judgement, *keys):
    return [[window["labels"][key] for key in keys] for window in judgement.value["windows"]]


def test_a_class_that_is_known_in_26_days_and_another_in_49_raise_no_alarm(world, stream):
    world.write(stream)
    judgement = judge(world, labels_of(stream, fixed_delays))
    assert (judgement.decision, judgement.value["counts"]["degraded"]) == ("keep", 0)
    # 16 weeks back: 9 are older than 49 days as a whole, the 10th has no day that is
    assert [mature for (mature,) in windows_of(judgement, "mature")] == [True] * 9 + [False] * 7
    delays = judgement.value["labels"]["delays"]
    assert [each["class"] for each in delays] == ["false", "true"]
    assert [each["median_s"] / DAY for each in delays] == pytest.approx([49, 26], abs=0.1)
    young = judgement.value["windows"][11]
    assert "0% of them are so old that 50% of the labels of every class have arrived" in " ".join(young["reasons"])
    assert young["labels"]["early"]["observed"] == 1.0


def test_the_same_labels_counted_alike_would_alarm(world, stream):
    """Without the times at which they were known, measured from 30 % on: only late ones are known of young weeks."""
    world.write(stream)
    labels = labels_of(stream, fixed_delays)
    come = labels.filter(pc.less_equal(labels["known_at"], pa.scalar(AS_OF, pa.timestamp("us", "UTC"))))
    judgement = judge(world, come.drop_columns("known_at"), min_label_coverage=0.3)
    assert judgement.decision == "retrain"


def test_weights_take_away_the_bias_of_early_labels(world, stream):
    world.write(stream)
    judgement = judge(world, labels_of(stream, spread_delays))
    rates = [traffic.late.mean() for traffic in stream]
    early, weighted = [], []
    for window, rate in zip(judgement.value["windows"], rates, strict=True):
        if window["labels"]["mature"] and window["labels"]["coverage"] < 0.9:
            early.append(window["labels"]["early"]["observed"] - rate)
            weighted.append(window["observed"] - rate)
            assert window["metrics"]["utility"]["value"] == pytest.approx(window["observed"])
    assert len(early) >= 2
    assert min(early) > 0.04
    assert np.abs(weighted).mean() < np.mean(early) / 3
    assert np.abs(weighted).max() < 0.08
    assert judgement.value["counts"]["degraded"] == 0


def test_a_model_that_fails_is_found_among_labels_that_are_still_coming(world):
    traffic = [Traffic.draw(ROWS, k, blind=k > 6) for k in range(WEEKS)]
    world.write(traffic)
    judgement = judge(world, labels_of(traffic, spread_delays))
    assert judgement.decision == "retrain"


def test_delays_are_not_learned_from_few_labels_or_from_labels_without_a_time(world, stream):
    world.write(stream[:2])
    labels = labels_of(stream[:2], lambda num_rows, _: (np.full(num_rows, 1.0), np.full(num_rows, 1.0)))
    assert judge(world, labels).value["labels"]["delays"] is not None
    assert judge(world, labels.slice(0, 99)).value["labels"]["delays"] is None
    assert judge(world, labels.drop_columns("known_at")).value["labels"]["delays"] is None


def test_a_class_without_a_label_has_not_arrived_while_rows_are_expected_of_it():
    """1,000 labels of class 1 at 26 days; 1,000 rows of age 30 wait, of which half were expected to be of class 0."""
    waiting = label_delay.WaitingRows(np.array([30 * DAY]), np.array([1_000.0]), np.array([[0.5, 0.5]]))
    curves, labels, still = label_delay._fit(np.full(1_000, 26 * DAY), np.ones(1_000, int), waiting, 2)
    assert labels == (0, 1_000)
    assert still == pytest.approx((1_000, 0), abs=20)
    assert curves[0].waiting(np.array([60 * DAY])).tolist() == [1.0]
    assert curves[1].waiting(np.array([27 * DAY])) == pytest.approx([0.0], abs=0.02)


def test_the_learned_delay_of_a_known_stream_is_that_of_its_classes():
    """Medians of 26 and 49 days; 5,000 labels give a median to within 2 %."""
    rng = np.random.default_rng(3)
    is_one, age = rng.random(20_000) < 0.2, rng.uniform(0, 150, 20_000)
    delay = np.where(is_one, 26.0, 49.0) * np.exp(rng.normal(0, 0.35, 20_000))
    come = delay <= age
    count, edges = np.histogram(age[~come], bins=150, range=(0, 150))
    prior = np.tile([0.8, 0.2], (150, 1))
    waiting = label_delay.WaitingRows((edges[1:] + edges[:-1]) / 2, count.astype(float), prior)
    curves, _, _ = label_delay._fit(delay[come], is_one[come].astype(int), waiting, 2)
    assert [curve.quantile(0.5) for curve in curves] == pytest.approx([49, 26], rel=0.04)
    assert curves[1].quantile(0.9) == pytest.approx(26 * np.exp(0.35 * 1.2816), rel=0.05)
