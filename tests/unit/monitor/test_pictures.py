"""Drift of what pictures look like, in a world of small pictures whose levels are known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import traffic
from mlsys import bundle
from mlsys.monitor import judge as step
from mlsys.monitor.reference import ReferenceRows
from mlsys.predict import image_measures
from mlsys.schema import Column, Kind, Schema
from mlsys.statistics import TableStatistics
from mlsys.store import Store
from pictures import encoded
from traffic import MONDAY, TASK, WEEK, Traffic, World

ROWS = 400
SCHEMA = Schema(columns=(*traffic.SCHEMA, Column(name="photo", type="binary", kind=Kind.IMAGE)))


def photos(seed, count=ROWS, *, light=1.0, grey=False, nulls=0.0, side=8):
    """Pictures of one colour each with noise on it, whose brightness is uniform from 0.3 to 0.7 of `light`."""
    rng = np.random.default_rng(seed)
    levels = rng.uniform(77, 179, (count, 1, 1, 3)) + rng.normal(0, 10, (count, side, side, 3))
    levels = np.clip(levels * light, 0, 255).astype(np.uint8)
    made = [encoded(Image.fromarray(one).convert("L" if grey else "RGB")) for one in levels]
    return pa.array([None if rng.random() < nulls else one for one in made], pa.binary())


def fit(store, *, with_looks=True):
    """A bundle of 2,000 rows with pictures; the log says what it answered."""
    rows, pictures = Traffic.draw(2_000, 1), photos(1, 2_000)
    table = pa.table({**rows.features(), "photo": pictures, "late": rows.late})
    statistics = TableStatistics.empty(SCHEMA, TASK)
    statistics.update(table)
    seen = image_measures.statistics([table], ["photo"], TASK) if with_looks else None
    return traffic.stand_in(store, SCHEMA, bundle.Reference(statistics, None, seen))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("pictures"))
    return store, fit(store)


@pytest.fixture
def judge(made, tmp_path):
    """Judge weeks of traffic, of which the pictures are given."""
    store, of = made
    world = World(store, of, tmp_path / "log", {})

    def run(weeks, **section):
        for number, pictures in enumerate(weeks):
            rows = Traffic.draw(len(pictures), 100 + number)
            log = traffic.logged(rows, MONDAY + WEEK * number, digest=of.digest)
            world.add(log.append_column("photo", pictures))
        return step.compare(store, "world", of, world.folder, None, world.recipe(**section))

    return run


def alarms(judgement, window):
    return {shift["column"] for shift in judgement.value["windows"][window]["shifts"] if shift["alarmed"]}


def test_the_measures_of_a_picture_of_two_pixels():
    """Black and pure red; red has the luma 0.299 · 255 = 76 (ITU-R BT.601)."""
    two = encoded(Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8)))
    assert image_measures.measure(two) == pytest.approx((2, 1, 38 / 255, 38 / 255, 0.5, 0.5))
    grey = encoded(Image.fromarray(np.array([[51], [51]], np.uint8)))
    assert image_measures.measure(grey) == pytest.approx((1, 2, 0.2, 0, 0, 0))
    assert image_measures.measure(None) == image_measures.measure(b"no picture") == (None,) * 6


@pytest.mark.parametrize(
    ("change", "moved", "still"),
    [
        ({"light": 0.7}, {"brightness"}, {"width", "height", "saturation"}),
        ({"grey": True}, {"saturation", "warmth"}, {"width", "height"}),
        ({"side": 10}, {"width", "height"}, {"brightness", "saturation", "warmth"}),
    ],
)
def test_pictures_that_look_otherwise_are_named_by_what_changed(judge, change, moved, still):
    judgement = judge([photos(10), photos(11), photos(12, **change)])
    assert [alarms(judgement, 0), alarms(judgement, 1)] == [set(), set()]
    found = alarms(judgement, 2)
    assert {f"photo: {what}" for what in moved} <= found
    assert not {f"photo: {what}" for what in still} & found
    assert not found & {"a", "b", "seats", "colour", "night", "photo"}


def test_the_page_says_how_pictures_changed(judge):
    judgement = judge([photos(10), photos(11, light=0.6)])
    page = (judgement.folder / "report.html").read_text()
    assert "photo: brightness" in page
    drift = pq.read_table(judgement.folder / "drift.parquet")
    assert "photo: brightness" in drift["column_name"].to_pylist()


def test_pictures_that_look_as_ever_raise_an_alarm_no_more_often_than_stated(judge):
    """25 windows, no floor on the size, 20 % stated: at most 12 (99.9 % point of a binomial) have an alarm."""
    judgement = judge([photos(200 + number, 200) for number in range(25)], false_alarm_rate=0.2, min_js_distance=0)
    assert sum(bool(alarms(judgement, number)) for number in range(25)) <= 12


def test_missing_pictures_are_named_once_as_missing(judge):
    judgement = judge([photos(10), photos(11, nulls=0.4)])
    assert alarms(judgement, 1) == {"photo"}


def test_a_week_without_any_picture_is_judged(judge):
    judgement = judge([photos(10), photos(11, nulls=1.0)])
    assert alarms(judgement, 1) == {"photo"}


def test_a_bundle_that_knows_no_looks_is_judged_by_what_it_knows(tmp_path):
    watched = ReferenceRows.of(fit(Store.open(tmp_path), with_looks=False)).watched
    assert "photo" in watched
    assert not [name for name in watched if ":" in name]
