"""The whole step on logs of a world whose truth is known."""

from __future__ import annotations

import dataclasses
import datetime as dt
import html
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlsys import errors
from mlsys.monitor import judge as step
from traffic import MONDAY, WEEK, Traffic, logged, with_split

ROWS = 1_500


def weeks(number, seed=0, **options):
    return [Traffic.draw(ROWS, seed + k, **options) for k in range(number)]


def judge(world, labels=None, *, baseline=True, as_of=None, **section):
    return step.compare(
        world.store,
        "world",
        world.bundle,
        world.folder,
        labels,
        world.recipe(**section),
        baseline=world.baseline if baseline else None,
        as_of=as_of,
    )


def labels_of(traffics):
    return pa.concat_tables([traffic.labels() for traffic in traffics])


def verdicts(judgement):
    return [window["verdict"] for window in judgement.value["windows"]]


def alarms(judgement, window):
    return {shift["column"] for shift in judgement.value["windows"][window]["shifts"] if shift["alarmed"]}


def shift_of(judgement, window, column):
    return next(s for s in judgement.value["windows"][window]["shifts"] if s["column"] == column)


def test_an_unchanged_world_is_kept_without_an_alarm(world):
    traffic = weeks(8)
    world.write(traffic)
    judgement = judge(world, labels_of(traffic))
    assert verdicts(judgement) == ["ok"] * 8
    assert (judgement.decision, judgement.exit_code) == ("keep", 0)


def test_windows_without_drift_raise_an_alarm_no_more_often_than_stated(world):
    """50 windows, no floor on the size, 20 % stated: at most 19 windows (99.9 % point of a binomial) have an alarm."""
    world.write([Traffic.draw(400, 50_000 + k) for k in range(50)])
    judgement = judge(world, false_alarm_rate=0.2, min_js_distance=0)
    assert sum(bool(alarms(judgement, k)) for k in range(50)) <= 19


@pytest.mark.parametrize(
    ("change", "column", "detail"),
    [({"shift": 0.6}, "a", "mean"), ({"nulls": 0.3}, "b", "nulls 5."), ({"red": 0.4}, "colour", "'red' 1")],
)
def test_a_shift_of_one_column_is_named_and_nothing_else(world, change, column, detail):
    traffic = [*weeks(3), *weeks(2, seed=10, **change)]
    world.write(traffic)
    judgement = judge(world)
    assert [alarms(judgement, k) for k in range(5)] == [set(), set(), set(), {column}, {column}]
    assert shift_of(judgement, 4, column)["detail"].startswith(detail)
    assert verdicts(judgement)[3:] == ["drift", "drift"]


def test_the_line_the_json_and_the_page_count_windows_alike(world):
    """Four weeks: one as ever, one whose inputs moved, one that the model fails in, and one of both."""
    traffic = [
        Traffic.draw(ROWS, 1),
        Traffic.draw(ROWS, 2, shift=0.6),
        Traffic.draw(ROWS, 3, blind=True),
        Traffic.draw(ROWS, 4, shift=0.6, blind=True),
    ]
    world.write(traffic)
    judgement = judge(world, labels_of(traffic))
    assert verdicts(judgement) == ["ok", "drift", "degraded", "degraded"]
    assert [bool(alarms(judgement, k)) for k in range(4)] == [False, True, False, True]
    counts = judgement.value["counts"]
    keys = ("windows", "judged", "ok", "moved", "matter", "degraded", "both", "too_few")
    assert {key: counts[key] for key in keys} == {
        "windows": 4, "judged": 4, "ok": 1, "moved": 2, "matter": 2, "degraded": 2, "both": 1, "too_few": 0,
    }  # fmt: skip
    line = "4 windows (1 ok, 2 with drift, 2 that matter, 2 degraded, 1 both)"
    assert line in judgement.summary
    page = re.sub(r"<[^>]+>", " ", (judgement.folder / "report.html").read_text())
    tiles = " ".join(page.split())
    assert "Degraded 2 worse than the test rows, beyond noise" in tiles
    assert "With drift alarms 2 large and certain" in tiles
    assert "With drift that matters 2 it moves the predictions; 1 of them degraded" in tiles


def test_drift_without_labels_is_watched_and_with_good_labels_kept(world):
    traffic = [*weeks(3), *weeks(2, seed=10, shift=0.6)]
    world.write(traffic)
    assert (judge(world).decision, judge(world).exit_code) == ("watch", 3)
    assert judge(world, labels_of(traffic)).decision == "keep"


def test_a_category_that_training_never_saw_is_named(world):
    changed = Traffic.draw(ROWS, 3)
    changed.colour = np.where(changed.colour == "green", "violet", changed.colour)
    world.write([*weeks(2), changed])
    assert alarms(judge(world), 2) == {"colour"}


def test_values_that_training_never_saw_or_too_seldom_are_counted_by_window(world):
    for number, (unseen, rare) in enumerate([(0, 0), (3, 1)]):
        log = logged(Traffic.draw(200, number), MONDAY + WEEK * number, digest=world.bundle.digest)
        counted = pa.array([unseen, rare] + [0] * 198, pa.int32())
        world.add(log.drop_columns(["unseen"]).append_column("unseen", counted).append_column("rare", counted))
    windows = judge(world).value["windows"]
    assert [(window["num_unseen"], window["num_rare"]) for window in windows] == [(0, 0), (4, 4)]


def test_values_beyond_the_training_range_are_counted(world):
    changed = Traffic.draw(ROWS, 3)
    changed.seats = changed.seats + 1_000
    world.write([changed])
    shift = shift_of(judge(world), 0, "seats")
    assert shift["outside"] == 1.0
    assert shift["detail"].startswith("100.0% of rows above 299, the maximum of the reference")


def test_probabilities_that_no_longer_hold_ask_for_retraining(world):
    """A change of the odds that the model does not know: the order stays, the probabilities do not."""
    traffic = [*weeks(3), *weeks(3, seed=10, odds=1.0)]
    world.write(traffic)
    judgement = judge(world, labels_of(traffic))
    assert verdicts(judgement) == ["ok"] * 3 + ["degraded"] * 3
    assert (judgement.decision, judgement.exit_code) == ("retrain", 4)
    losses = judgement.value["windows"][4]["losses"]
    assert {loss["what"] for loss in losses if loss["degraded"]} == {"calibration"}
    assert "late" in alarms(judgement, 4)
    assert any("ROC AUC is not measurably worse" in reason for reason in judgement.value["decision"]["reasons"])


def test_a_model_that_no_longer_ranks_asks_for_retraining(world):
    traffic = [*weeks(3), *weeks(3, seed=10, blind=True)]
    world.write(traffic)
    judgement = judge(world, labels_of(traffic))
    assert verdicts(judgement)[3:] == ["degraded"] * 3
    assert judgement.decision == "retrain"
    assert "roc_auc" in {loss["what"] for loss in judgement.value["windows"][4]["losses"] if loss["degraded"]}


def test_one_bad_window_is_watched(world):
    traffic = [*weeks(3), *weeks(1, seed=10, blind=True)]
    world.write(traffic)
    assert judge(world, labels_of(traffic)).decision == "watch"


def test_without_test_rows_to_compare_with_the_metric_is_shown_and_not_judged(world):
    traffic = weeks(2)
    world.write(traffic)
    judgement = judge(world, labels_of(traffic), baseline=False)
    window = judgement.value["windows"][0]
    assert window["metrics"]["roc_auc"]["value"] == pytest.approx(0.82, abs=0.03)
    assert {loss["what"] for loss in window["losses"]} == {"calibration"}


def test_a_window_is_measured_only_when_its_labels_are_mature(world):
    traffic = weeks(3)
    world.write(traffic)
    half = pa.concat_tables([traffic[0].labels(), traffic[1].labels(), traffic[2].labels().slice(0, ROWS // 2)])
    judgement = judge(world, half)
    assert [window["labels"]["mature"] for window in judgement.value["windows"]] == [True, True, False]
    last = judgement.value["windows"][2]
    assert last["metrics"] == {}
    assert last["labels"]["coverage"] == pytest.approx(0.5)
    assert "50% of the predictions have labels" in last["reasons"][0]


def test_labels_that_are_null_are_not_waited_for(world):
    traffic = weeks(1)
    world.write(traffic)
    labels = traffic[0].labels()
    late = [None if number % 4 == 0 else value for number, value in enumerate(labels["late"].to_pylist())]
    window = judge(world, labels.set_column(1, "late", pa.array(late))).value["windows"][0]
    assert window["labels"]["num_void"] == ROWS // 4
    assert window["labels"]["coverage"] == 1.0
    assert window["labels"]["mature"]


def test_labels_of_the_future_are_not_there_yet(world):
    traffic = weeks(2)
    world.write(traffic)
    known = [[MONDAY + WEEK * (k + 1) + dt.timedelta(days=1)] * ROWS for k in range(2)]
    labels = pa.concat_tables([t.labels(known_at=pa.array(at)) for t, at in zip(traffic, known, strict=True)])
    judgement = judge(world, labels, as_of=MONDAY + 2 * WEEK)
    assert [window["labels"]["coverage"] for window in judgement.value["windows"]] == [1.0, 0.0]
    assert judgement.value["labels"]["delay_s"]["median"] == pytest.approx(4.5 * 86_400, rel=0.01)


def test_a_retry_counts_once(world):
    traffic = weeks(1)
    world.write(traffic)
    world.add(logged(traffic[0], MONDAY, digest=world.bundle.digest).slice(0, 100))
    log = judge(world).value["log"]
    assert (log["num_rows"], log["num_duplicates"]) == (ROWS, 100)


def test_rows_of_another_bundle_are_counted_and_left_out(world):
    world.write(weeks(1))
    world.add(logged(Traffic.draw(200, 99), MONDAY, digest="another"))
    log = judge(world).value["log"]
    assert (log["num_rows"], log["num_other"]) == (ROWS, 200)


def test_rows_without_a_time_of_their_own_use_that_of_the_log(world):
    world.write(weeks(2), event_at=False)
    assert [window["num_rows"] for window in judge(world).value["windows"]] == [ROWS, ROWS]


def test_small_windows_are_reported_and_not_judged(world):
    world.write([Traffic.draw(50, 1), Traffic.draw(60, 2)])
    judgement = judge(world)
    assert verdicts(judgement) == ["too_few", "too_few"]
    assert judgement.decision == "watch"
    assert judgement.value["windows"][0]["reasons"] == ["50 rows; 200 are needed to judge."]


def test_an_empty_log_is_watched(world):
    world.folder.mkdir()
    judgement = judge(world)
    assert (judgement.decision, judgement.value["windows"]) == ("watch", [])


def test_partial_windows_are_marked_and_do_not_count_beside_complete_ones(world):
    """Three and a half weeks; the half is bad."""
    traffic = weeks(3)
    world.write(traffic)
    bad = Traffic.draw(ROWS, 77, blind=True)
    world.add(logged(bad, MONDAY + 3 * WEEK, WEEK / 2, digest=world.bundle.digest))
    judgement = judge(world, labels_of([*traffic, bad]))
    assert [window["partial"] for window in judgement.value["windows"]] == [False, False, False, True]
    assert verdicts(judgement) == ["ok", "ok", "ok", "degraded"]
    assert judgement.decision == "keep"


def test_the_order_of_files_changes_nothing_that_is_judged(world, tmp_path):
    traffic = [*weeks(2), *weeks(1, seed=10, shift=0.6)]
    world.write(traffic)
    forward = judge(world).value
    for number, file in enumerate(sorted(world.folder.rglob("*.parquet"), reverse=True)):
        file.rename(file.with_name(f"r{number}.parquet"))
    backward = judge(world).value
    assert backward["windows"] == forward["windows"]
    assert backward["decision"] == forward["decision"]


def test_the_same_log_gives_the_same_digest(world):
    world.write(weeks(2))
    assert judge(world).digest == judge(world).digest


def test_everything_is_stored_and_reads_back(world):
    traffic = weeks(2)
    world.write(traffic)
    judgement = judge(world, labels_of(traffic), slices=["colour", "seats > 150"])
    stored = json.loads((judgement.folder / "judgement.json").read_text())
    assert stored == json.loads(json.dumps(judgement.value))
    assert judgement.summary.startswith("3,000 predictions in 2 windows (2 ok); Keep")
    profile = pq.read_table(judgement.folder / "profile.parquet")
    slices = set(zip(profile["slice_key"].to_pylist(), profile["slice_value"].to_pylist(), strict=True))
    assert {("colour", "red"), ("seats > 150", "true"), ("seats > 150", "false"), (None, None)} <= slices


def test_a_log_that_is_not_there_says_where_it_would_be(world):
    with pytest.raises(errors.SourceError, match="nothing there"):
        judge(world)


def test_a_slice_that_is_no_condition_is_refused(world):
    world.write(weeks(1))
    with pytest.raises(errors.RecipeError, match="a condition such as"):
        judge(world, slices=["seats + 1"])


def response_of_the_world():
    """Mean predictions of the model that the world's scores come from: it reads a and night, and no other column."""
    rows = Traffic.draw(300, 2)

    def mean(a, night):
        return float(np.mean(1 / (1 + np.exp(-(1.5 * a - 0.8 + night)))))

    points = np.quantile(rows.a, np.linspace(0, 1, 12)).tolist()
    of_a = [[mean(point, rows.night)] for point in points]
    of_night = [[mean(rows.a, value)] for value in (False, True)]
    columns = {
        "a": {"values": [*points, None], "output": [*of_a, of_a[6]]},
        "night": {"values": [False, True, None], "output": [*of_night, of_night[0]]},
        **{name: {"values": [], "output": []} for name in ("b", "seats", "colour")},
    }
    return {"spread": [float(rows.score.std())], "columns": columns}


def with_response(world):
    return dataclasses.replace(world, baseline={**world.baseline, "response": response_of_the_world()})


def test_drift_of_columns_to_which_the_model_is_indifferent_is_reported_and_kept(world):
    traffic = [*weeks(3), *weeks(3, seed=10, nulls=0.4, red=0.6)]
    world.write(traffic)
    judgement = judge(with_response(world))
    assert [alarms(judgement, k) for k in range(6)] == [set()] * 3 + [{"b", "colour"}] * 3
    assert (judgement.decision, judgement.exit_code) == ("keep", 0)
    assert verdicts(judgement) == ["ok"] * 6
    assert "6 windows (6 ok, 3 with drift, 0 that matter); Keep" in judgement.summary
    assert judgement.value["windows"][5]["reasons"] == ["Drift of colour, b hardly moves the predictions."]
    assert judgement.value["decision"]["reasons"][-1] == "The drift of b, colour hardly moves the predictions."
    page = (judgement.folder / "report.html").read_text()
    assert "6 drift alarms, 0 that matter" in page
    assert judge(world).decision == "watch"  # where the response is not known


def test_drift_of_a_column_that_moves_the_predictions_is_watched_and_named_first(world):
    """Seats move farther; a decides."""
    changed = [Traffic.draw(ROWS, 10 + k, shift=0.6) for k in range(2)]
    for each in changed:
        each.seats = each.seats + 1_000
    world.write([*weeks(3), *changed])
    judgement = judge(with_response(world))
    assert (judgement.decision, judgement.exit_code) == ("watch", 3)
    window = judgement.value["windows"][4]
    assert [(s["column"], s["matters"]) for s in window["shifts"] if s["alarmed"]] == [("a", True), ("seats", False)]
    assert window["shifts"][0]["effect"] == pytest.approx(0.55, abs=0.1)  # 0.6 sd of a, with the slope of a sigmoid
    assert window["reasons"] == ["Drift of a.", "Drift of seats hardly moves the predictions."]
    assert "5 windows (3 ok, 2 with drift, 2 that matter); Watch" in judgement.summary


def test_alarms_say_what_they_do_in_the_json_on_the_console_and_on_the_page(world):
    """A week in which colours changed, which no prediction depends on: they moved, and the predictions did not."""
    world.write([*weeks(2), *weeks(1, seed=10, red=0.4)])
    judgement = judge(world)
    words = "'colour' moved, the predictions did not; the performance is not known"
    assert [[alarm["words"] for alarm in window["alarms"]] for window in judgement.value["windows"]] == [
        [],
        [],
        [words],
    ]
    assert judgement.alarms == [f"week of 2024-01-15: {words}."]
    page = html.unescape((judgement.folder / "report.html").read_text())
    assert f"{words}." in page


def test_columns_that_only_go_together_in_another_way_are_named_where_the_training_rows_are_stored(world):
    """In the last week b follows a, which it never did; the distribution of each is as ever, and so are the scores."""
    changed = Traffic.draw(ROWS, 3)
    changed.b = np.where(np.isnan(changed.b), np.nan, 5 + 2 * changed.a)
    world.write([*weeks(2), changed])
    assert [window["joint"] for window in judge(world).value["windows"]] == [None] * 3
    world.bundle = with_split(world.store, world.bundle, Traffic.draw(20_000, 1_000))
    judgement = judge(world)
    *before, last = judgement.value["windows"]
    assert [window["joint"]["alarmed"] for window in before] == [False, False]
    assert set(last["joint"]["columns"]) == {"a", "b"}
    assert not any(shift["alarmed"] for shift in last["shifts"])
    assert (last["verdict"], judgement.decision) == ("ok", "keep")
    assert judgement.value["counts"]["moved"] == 1
    (line,) = judgement.alarms
    assert "moved together, none by itself, the predictions did not" in line
    assert "tells these rows from training rows" in (judgement.folder / "report.html").read_text()


def test_the_region_in_which_the_model_fails_is_named(world):
    """In the last week the labels of red rows are the other way round; all colours of the test rows had one ROC AUC."""
    changed = Traffic.draw(ROWS, 3, red=0.1)
    changed.late = np.where(changed.colour == "red", ~changed.late, changed.late)
    traffic = [*weeks(1), changed]
    world.write(traffic)
    colours = ("blue", "green", "red", "white")
    rows = [{"column": "colour", "slice": name, "value": 0.82, "error": 0.01} for name in colours]
    world.baseline["slices"] = {"metric": "roc_auc", "rows": rows}
    judgement = judge(world, labels_of(traffic), slices=["colour"])
    worse = [[each["slice"] for each in window["regions"] if each["worse"]] for window in judgement.value["windows"]]
    assert worse == [[], ["red"]]
    assert {each["slice"] for each in judgement.value["windows"][0]["regions"]} == set(colours)
    assert judgement.alarms[0].startswith("week of 2024-01-08: ROC AUC of the rows with 'colour' = red is 0.")
    assert "Loss by region: 1 of 8 worse" in (judgement.folder / "report.html").read_text()
