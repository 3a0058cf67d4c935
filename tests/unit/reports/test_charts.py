"""Charts: valid drawings with a name, gaps for what is missing, marks at the right place."""

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys.reports import charts, svg

WEEKS = [datetime(2013, 11, 4, tzinfo=UTC) + timedelta(weeks=i) for i in range(4)]
NAN = float("nan")

DRAWN = {
    "histogram": lambda: charts.histogram([0, 1, 2], [3, 4], title="<t>", marks={"mean": 1.2}),
    "histogram of one value": lambda: charts.histogram([5, 5], [3], title="<t>"),
    "histogram of nothing": lambda: charts.histogram([0, 1], [0], title="<t>"),
    "tiny numbers": lambda: charts.histogram([-3e-200, 0, 3e-200], [3, 4], title="<t>"),
    "huge numbers": lambda: charts.histogram([-3e250, 0, 3e250], [3, 4], title="<t>"),
    "uneven histogram": lambda: charts.histogram([0, 1, 10], [3, 4], title="<t>"),
    "by class": lambda: charts.histogram_by_class([0, 1, 2], {"a<": [3, 4], "b": [0, 0]}, title="<t>"),
    "bars": lambda: charts.bars(["a<", "b"], [3, NAN], title="<t>", rates=[0.1, None], baseline=0.2),
    "no bars": lambda: charts.bars([], [], title="<t>"),
    "lines": lambda: charts.lines(
        WEEKS,
        {"a<": charts.Series([1, None, NAN, 2], [0, 0, None, 1], [2, 2, 2, 3])},
        title="<t>",
        limits={"limit": 1.5},
        alarms=[3],
    ),
    "lines without values": lambda: charts.lines(WEEKS, {"a": [None] * 4}, title="<t>"),
    "lines without places": lambda: charts.lines([], {"a": []}, title="<t>"),
    "one place": lambda: charts.lines([WEEKS[0]], {"a": [1.0]}, title="<t>"),
    "lines over texts": lambda: charts.lines(["<a>", "b"], {"a": [1, 2], "b": [2, 1]}, title="<t>", wide=False),
    "intervals": lambda: charts.intervals(
        [charts.Interval("<a>", 1, 0, 2, "accent", other=0.5), charts.Interval("b", None)], title="<t>", reference=1
    ),
    "curve": lambda: charts.curve(
        {"a<": ([0, 1], [0, NAN])},
        title="<t>",
        x_label="x",
        y_label="y",
        diagonal=True,
        level=0.3,
        upright=("<at>", 0.7),
    ),
    "calibration": lambda: charts.calibration(
        [0.1, 0.4], [0.2, 0.5], low=[0.1, 0.4], high=[0.3, 0.6], counts=[5, 6], title="<t>"
    ),
    "confusion": lambda: charts.confusion([[3, 0], [0, 0]], ["<a>", "b"], title="<t>"),
    "large confusion": lambda: charts.confusion(np.eye(12).tolist(), [f"class {i}" for i in range(12)], title="<t>"),
    "spark bars": lambda: charts.spark_bars(list(range(90)), title="<t>"),
    "spark bars of nothing": lambda: charts.spark_bars([], title="<t>"),
    "shares": lambda: charts.shares(["a<", "b"], [3, 0], {"x<": [0.2, None], "y": [0.8, None]}, title="<t>"),
    "heat": lambda: charts.heat(
        ["a<", "b"], [[None, charts.Pair(0.9, 1, "<h>")], [charts.Pair(-0.3, 2, "h"), None]], title="<t>"
    ),
    "large heat": lambda: charts.heat(
        [f"column {i}" for i in range(30)], [[charts.Pair(i / 30, 3, "h")] * 30 for i in range(30)], title="<t>"
    ),
    "patterns": lambda: charts.patterns(["a<", "b"], [([], 5), (["a<"], 2), (["a<", "b"], 1)], total=8, title="<t>"),
    "patterns of nothing": lambda: charts.patterns([], [([], 5)], total=5, title="<t>"),
    "lines over numbers": lambda: charts.lines([0, 2.5, 300], {"a": [1, 2, 3]}, title="<t>", level=("all", 2)),
    "scatter": lambda: charts.scatter(
        [charts.Dot(1, 0.8, "a<", "<h>"), charts.Dot(30, 0.1, "b", "h"), charts.Dot(0, 0.7, "b", "h")],
        title="<t>",
        x_label="x",
        y_label="y",
        reached=[(1, 0.8)],
        level=("<level>", 0.75),
        y_range=(0.6, 0.9),
    ),
    "scatter by powers": lambda: charts.scatter(
        [charts.Dot(0.3, 0.8, "a", "h"), charts.Dot(2_000, 0.1, "b", "h"), charts.Dot(0, 1, "b", "h")],
        title="<t>",
        x_label="x",
        y_label="y",
        log=True,
    ),
    "scatter of nothing": lambda: charts.scatter([], title="<t>", x_label="x", y_label="y"),
    "parallel": lambda: charts.parallel(
        [charts.Axis("a<", [(0.1, "<1"), (1, "2")]), charts.Axis("b", [])],
        [charts.Thread([0, 1], 1, "<h>", is_chosen=True), charts.Thread([None, 0.5], 0, "h")],
        title="<t>",
    ),
    "many parallel axes": lambda: charts.parallel(
        [charts.Axis(f"axis {i}", []) for i in range(12)], [charts.Thread([0.5] * 12, 0.5, "h")], title="<t>"
    ),
    "stretches": lambda: charts.stretches(
        [charts.Stretch("<a>", 0, 12.5, "12 s"), charts.Stretch("b", 12.5, 12.5)], title="<t>", limits={"<end>": 20}
    ),
    "no stretches": lambda: charts.stretches([], title="<t>"),
    "density": lambda: charts.density([0, 1, 2], [-1, 0, 1], [[1, 0], [2, 3]], title="<t>", x_label="x", y_label="y"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_is_valid_xml_with_a_name_and_no_missing_number(name):
    drawn = DRAWN[name]()
    root = ET.fromstring(drawn)
    assert root.find("title").text == "<t>"
    assert root.get("role") == "img"
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"<(title|desc|text)[^>]*>[^<]*", "", drawn))


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_stays_on_its_paper(name):
    root = ET.fromstring(DRAWN[name]())
    _, _, width, height = map(float, root.get("viewBox").split())
    for tick in root.iter("line"):
        assert all(-1 <= float(tick.get(end)) <= width + 1 for end in ("x1", "x2"))
    for shape in root.iter("circle"):
        assert -1 <= float(shape.get("cx")) <= width + 1
        assert -1 <= float(shape.get("cy")) <= height + 1


def test_a_missing_value_is_a_gap_in_the_line():
    drawn = charts.lines([1, 2, 3, 4], {"a": [1.0, None, 2.0, 3.0]}, title="t")
    line = next(re.finditer(r'<path class="s1 line" d="([^"]+)"', drawn))[1]
    assert [step[0] for step in re.findall(r"[ML][^ML]+", line)] == ["M", "M", "L"]
    assert drawn.count("<circle") == 3


def test_times_are_spaced_to_scale():
    days = [datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC), datetime(2013, 1, 11, tzinfo=UTC)]
    drawn = ET.fromstring(charts.lines(days, {"a": [1.0, 1.0, 1.0]}, title="t"))
    first, second, last = (float(dot.get("cx")) for dot in drawn.iter("circle"))
    assert (second - first) / (last - first) == pytest.approx(0.1, abs=0.001)


def test_heights_of_a_histogram_are_in_proportion_to_the_counts():
    boxes = [
        float(box.get("height")) for box in ET.fromstring(charts.histogram([0, 1, 2], [10, 5], title="t")).iter("rect")
    ]
    assert boxes[0] == pytest.approx(2 * boxes[1], rel=0.01)


def test_areas_of_an_uneven_histogram_are_in_proportion_to_the_counts():
    wide, narrow = ET.fromstring(charts.histogram([0, 4, 5], [40, 10], title="t")).iter("rect")
    assert float(wide.get("height")) == pytest.approx(float(narrow.get("height")), rel=0.01)


def test_classes_of_different_size_are_drawn_at_the_same_scale():
    drawn = charts.histogram_by_class([0, 1, 2], {"many": [900, 100], "few": [9, 1]}, title="t")
    shapes = re.findall(r'<path class="f\d area" d="([^"]+)"', drawn)
    assert shapes[0] == shapes[1]


def test_the_axis_of_classes_says_which_share_of_a_class_a_bin_holds():
    drawn = charts.histogram_by_class([0, 1, 2, 3], {"few": [1, 3, 0], "many": [250, 500, 250]}, title="t")
    words = re.findall(r'<text class="e"[^>]*>([^<]*)<', drawn)
    assert words == ["0%", "20%", "40%", "60%", "80%"]


def test_a_confusion_matrix_says_counts_and_shares_of_the_row():
    drawn = charts.confusion([[90, 10], [0, 50]], ["no", "yes"], title="t")
    assert "actual no, predicted yes: 10 (10.0%)" in drawn
    assert "no: 90 of 100 found; yes: 50 of 50 found" in drawn


def test_a_mark_outside_of_the_bins_is_not_drawn():
    assert "far" not in charts.histogram([0, 1], [1], title="t", marks={"far": 9.0})


EXTREMES = st.sampled_from(
    [0.0, 5e-324, -5e-324, 1e-310, 1e-300, 1e300, 1.7976931348623157e308, -1.7976931348623157e308]
)
COORDINATES = st.floats(-1e12, 1e12) | EXTREMES


@given(COORDINATES, COORDINATES, st.integers(3, 9))
def test_ticks_span_the_values_and_are_few(one, other, most):
    low, high = min(one, other), max(one, other)
    ticks = svg.nice_ticks(low, high, most)
    slack = 1e-6 * max(abs(low), abs(high), 1e-300)
    assert 2 <= len(ticks) <= max(most, 3)
    assert ticks == sorted(ticks)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


@given(EXTREMES, EXTREMES)
def test_a_histogram_of_any_range_has_places(one, other):
    low, high = min(one, other), max(one, other)
    drawn = charts.histogram([low, low / 2 + high / 2, high], [3, 4], title="t")
    assert "nan" not in drawn
    assert "inf" not in drawn.replace("info", "")


def test_ticks_of_numbers_are_round_and_ticks_of_times_do_not_run_into_each_other():
    words = re.findall(r"<text[^>]*>([^<]*)</text>", charts.lines([1.94, 46.64, 97.3], {"a": [1, 2, 3]}, title="t"))
    assert {"20", "40", "60", "80"} <= set(words)
    crowded = [WEEKS[0] + timedelta(hours=h) for h in (0, 1, 2, 3, 500)]
    drawn = charts.lines(crowded, {"a": [1] * 5}, title="t", wide=False)
    assert len(re.findall(r">2013-\d\d-\d\d</text>", drawn)) == 2


def test_a_stronger_pair_has_a_stronger_colour_and_none_has_none():
    pairs = [[None, charts.Pair(0.9, 1, "a, b: 0.9")], [charts.Pair(0.1, 1, "b, a: 0.1"), None]]
    opacities = [
        float(value) for value in re.findall(r'fill-opacity="([\d.]+)"', charts.heat(["a", "b"], pairs, title="t"))
    ]
    assert opacities[0] > 5 * opacities[1]
    nothing = charts.heat(["a", "b"], [[None, charts.Pair(0.001, 1, "h")], [None, None]], title="t")
    assert "fill-opacity" not in nothing


def test_a_pattern_fills_the_squares_of_the_columns_that_are_missing():
    drawn = charts.patterns(["a", "b", "c"], [(["a", "c"], 3), ([], 1)], total=4, title="t")
    assert drawn.count('class="f2 cell"') == 2
    assert drawn.count('class="empty cell"') == 4
    assert "3 rows (75.0%)" in drawn


def test_the_shares_of_a_category_fill_its_line():
    drawn = charts.shares(["x"], [10], {"a": [0.25], "b": [0.75]}, title="t")
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="15"><title>x: \d+\.\d%', drawn)]
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.2)


def test_spark_bars_put_neighbours_together_and_lose_no_row():
    assert charts.spark_bars([1] * 90, title="t").count("M") <= 25


DOTS = [charts.Dot(0, 0.8, "a", "first"), charts.Dot(5, 0.85, "b", "second"), charts.Dot(10, 0.1, "a", "off")]


def test_a_dot_beyond_the_scale_is_a_ring_at_its_edge():
    drawn = ET.fromstring(charts.scatter(DOTS, title="t", x_label="s", y_label="score", y_range=(0.8, 0.9)))
    rings = [dot for dot in drawn.iter("circle") if "hollow" in dot.get("class")]
    others = [float(dot.get("cy")) for dot in drawn.iter("circle") if "hollow" not in dot.get("class")]
    assert [ring.find("title").text for ring in rings] == ["off"]
    assert float(rings[0].get("cy")) == max([*others, float(rings[0].get("cy"))])


def test_the_best_so_far_is_a_line_of_steps_that_holds_to_the_end():
    drawn = charts.scatter(DOTS, title="t", x_label="s", y_label="score", reached=[(0, 0.8), (5, 0.85)])
    (line,) = re.findall(r'<path class="s8 line" d="([^"]+)"', drawn)
    places = [tuple(map(float, step.split())) for step in re.findall(r"[ML]([^ML]+)", line)]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = places
    assert (y0, x1, y2) == (y1, x2, y3)
    assert x0 < x1 < x3
    assert y2 < y1  # upwards on paper


def test_powers_of_ten_are_evenly_spaced_on_a_logarithmic_axis():
    dots = [charts.Dot(10.0**power, 1, "a", "h") for power in range(4)]
    drawn = ET.fromstring(charts.scatter(dots, title="t", x_label="x", y_label="y", log=True))
    places = [float(dot.get("cx")) for dot in drawn.iter("circle")]
    assert np.diff(places) == pytest.approx([places[1] - places[0]] * 3, abs=0.2)


def test_the_best_thread_is_drawn_over_the_others_and_the_chosen_over_all():
    threads = [charts.Thread([0, 1], rank, f"rank {rank}", is_chosen=rank == 0.5) for rank in (1.0, 0.5, 0.0)]
    drawn = charts.parallel([charts.Axis("a", []), charts.Axis("b", [])], threads, title="t")
    assert re.findall(r"<g><title>rank ([\d.]+)", drawn) == ["0.0", "1.0", "0.5"]


def test_parts_of_a_stretch_of_time_follow_each_other_to_scale():
    parts = [charts.Stretch("a", 0, 10), charts.Stretch("b", 10, 30)]
    boxes = list(ET.fromstring(charts.stretches(parts, title="t")).iter("rect"))
    (x0, w0), (x1, w1) = ((float(box.get("x")), float(box.get("width"))) for box in boxes)
    assert x1 == pytest.approx(x0 + w0, abs=0.2)
    assert w1 == pytest.approx(2 * w0, abs=0.2)
