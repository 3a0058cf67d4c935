"""A run computes what is new, and its judgement has the same bytes as that of a run that computes everything."""

from __future__ import annotations

import datetime as dt
import functools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys.evaluate import recalibration
from mlsys.monitor import judge, log_state, stored_tables, two_sample, window_files, window_results
from mlsys.monitor.window_results import FILE, WindowResults
from mlsys.monitor.windows import Window
from traffic import COLOURS, MONDAY, TASK, Traffic, World, logged, with_split

DAY = dt.timedelta(days=1)
ROWS = 150
UTILITIES = (
    None,
    "CASE WHEN NOT prediction THEN 0 WHEN late THEN seats ELSE -100 END",
    "CASE WHEN NOT prediction THEN 0 WHEN late THEN seats ELSE -50 END",
    "CASE WHEN late THEN b ELSE seats END",
)
"""Worths of a prediction: none, two that read one column, and one that has no number where b is null."""

KILLED = [(log_state, "write_json"), (window_results, "write_atomic"), (stored_tables, "write_atomic")]
"""Writers of the state, of the results and of the tables."""


@functools.cache
def evaluation():
    """What an evaluation on 10,000 rows says, with all from which the monitor takes facts of windows."""
    test = Traffic.draw(10_000, 77)
    output = np.column_stack([1 - test.score, test.score])
    slices = [{"column": "colour", "slice": str(name), "value": 0.82, "error": 0.01} for name in COLOURS]
    return {
        "metrics": {
            "roc_auc": {"value": 0.8206, "low": 0.8126, "high": 0.8286, "error": 0.004},
            "utility": {"value": 36.0, "low": 34.0, "high": 38.0, "error": 1.0},
        },
        "slices": {"metric": "roc_auc", "rows": slices},
        "response": {
            "spread": [0.3],
            "columns": {"a": {"values": [-2.0, 0.0, 2.0, None], "output": [[0.05], [0.35], [0.9], [0.4]]}},
        },
        "estimation": recalibration.facts(test.late.astype(float), output, TASK, None),
        "num_rows": 10_000,
    }


class Monitored:
    """A world with windows of a day, and all that may happen to it between two runs."""

    def __init__(self, made, folder):
        store, bundle = made
        copy = type(store).open(folder / "store")
        shutil.copytree(store.path("bundle", bundle.digest), copy.root / "objects" / "bundle" / bundle.digest)
        self.world, self.folder = World(copy, bundle, folder / "log", evaluation()), folder
        self.traffic, self.num_labelled, self.num_corrected = [], 0, 0
        self.has_late_rows, self.has_times, self.has_other_test, self.num_damaged, self.worth = (
            False,
            False,
            False,
            0,
            0,
        )
        self.section = {"granularity": "1 day", "min_rows": 100, "slices": ["colour"]}
        self.sections = {}

    def day(self):
        number = len(self.traffic)
        self.traffic.append(Traffic.draw(ROWS, number, shift=0.7 * (number % 3 == 2), nulls=0.05 * (number % 2)))
        self.world.add(logged(self.traffic[-1], MONDAY + DAY * number, DAY, digest=self.world.bundle.digest))

    def late_rows(self):
        self.has_late_rows = True
        number = 1_000 + len(list(self.world.folder.rglob("*.parquet")))
        self.world.add(logged(Traffic.draw(40, number), MONDAY, DAY, digest=self.world.bundle.digest))

    def late_labels(self):
        self.num_labelled = min(self.num_labelled + 2, len(self.traffic))

    def labels_again(self):
        """Labels of the first day come a second time and say something else."""
        self.num_corrected += 20

    def times(self):
        """From now on, or no longer, labels say when they were known."""
        self.has_times = not self.has_times

    def utility(self):
        self.worth = (self.worth + 1) % len(UTILITIES)

    def other_test(self):
        self.has_other_test = not self.has_other_test

    def setting(self):
        self.section["min_js_distance"] = 0.15 - self.section.get("min_js_distance", 0.1)
        self.section["max_metric_loss"] = 0.03

    def confidence(self):
        other = 0.9 if "evaluate" not in self.sections else 1.85 - self.sections["evaluate"]["confidence"]
        self.sections["evaluate"] = {"confidence": other}

    def metric(self):
        self.sections["selection"] = {"metric": "log_loss"}

    def killed(self):
        """End a run before one of the files that it writes, another one each time."""
        self.day()
        module, name = KILLED[len(self.traffic) % len(KILLED)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, _kill)
            with pytest.raises(KeyboardInterrupt):
                self.judged()

    def damage(self):
        """A byte changes in the results, in the state, or in a window, another one each time."""
        pattern = (FILE, "state.json", "windows-*")[self.num_damaged % 3]
        self.num_damaged += 1
        for file in [found for state in self.states for found in sorted(state.glob(pattern))[:1]]:
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)

    @property
    def states(self):
        return sorted((self.world.store.root / "monitor" / "world" / "log").iterdir())

    @property
    def baseline(self):
        value = {**evaluation(), "utility_sql": UTILITIES[self.worth]}
        if self.has_other_test:
            value["metrics"] = {"roc_auc": {"value": 0.7, "low": 0.69, "high": 0.71, "error": 0.005}}
        return value

    def labels(self):
        parts = [self._labels(number) for number in range(self.num_labelled)]
        if self.num_corrected and parts:
            again = self._labels(0, hours=40).slice(0, self.num_corrected)
            at = again.schema.get_field_index("late")
            parts.append(again.set_column(at, "late", pa.array([not late for late in again["late"].to_pylist()])))
        return pa.concat_tables(parts) if parts else None

    def _labels(self, number, hours=0):
        traffic = self.traffic[number]
        if not self.has_times:
            return traffic.labels()
        begin = MONDAY + DAY * number + dt.timedelta(hours=hours)
        known = [begin + DAY * (place + 0.5) / ROWS + DAY * (1 + place % 3) / 12 for place in range(ROWS)]
        return traffic.labels(known_at=pa.array(known, pa.timestamp("us", "UTC")))

    def judged(self, *, is_stored=True):
        world, recipe = self.world, self.world.recipe(**self.section)
        changed = {name: getattr(recipe, name).model_copy(update=values) for name, values in self.sections.items()}
        given = world.store, "world", world.bundle, world.folder, self.labels(), recipe.model_copy(update=changed)
        return judge.compare(*given, baseline=self.baseline, is_stored=is_stored)

    def forget(self):
        for state in self.states:
            for name in (FILE, *stored_tables.FILES):
                (state / name).unlink(missing_ok=True)


def _kill(*_, **__):
    raise KeyboardInterrupt


EVENTS = (
    "day", "late_rows", "late_labels", "labels_again", "times", "utility", "other_test", "setting", "confidence",
    "metric", "killed", "damage",
)  # fmt: skip
TABLES = ("judgement.json", "profile.parquet", "drift.parquet")


def assert_same(judgement, other):
    for name in TABLES:
        assert (judgement.folder / name).read_bytes() == (other.folder / name).read_bytes(), name


@given(st.lists(st.sampled_from(EVENTS), min_size=3, max_size=7))
@settings(max_examples=12, deadline=None)
def test_runs_one_after_another_end_in_the_bytes_of_one_run(made, tmp_path_factory, events):
    monitored = Monitored(made, tmp_path_factory.mktemp("monitored"))
    for event in ("day", "day", "late_labels", *events):
        getattr(monitored, event)()
        last = monitored.judged()
    monitored.forget()
    assert_same(monitored.judged(), last)
    if not monitored.has_late_rows:  # whose window has other bits where its rows come at once
        assert_same(monitored.judged(is_stored=False), last)


def test_a_day_of_all_events_ends_in_the_bytes_of_one_run(made, tmp_path):
    """Each event of the property once, those last that change what all results depend on."""
    monitored = Monitored(made, tmp_path)
    for event in ("day", "day", "late_labels", "utility", "times", *EVENTS, "utility", "damage", "utility", "damage"):
        getattr(monitored, event)()
        last = monitored.judged()
        again = monitored.judged()
        assert again.digest == last.digest, event
    monitored.forget()
    assert_same(monitored.judged(), last)


@pytest.fixture
def monitored(made, tmp_path):
    begun = Monitored(made, tmp_path)
    for _ in range(4):
        begun.day()
    begun.num_labelled, begun.worth = 2, 1
    begun.judged()
    return begun


def read_files(monkeypatch):
    """Names of the files whose windows are read from now on."""
    names, read = [], window_files.WindowFile._sketch

    def noted(file, key):
        names.append(file._path.name)
        return read(file, key)

    monkeypatch.setattr(window_files.WindowFile, "_sketch", noted)
    return names


def files_of(monitored):
    """Name of the file of each window, in order of time."""
    (state,) = monitored.states
    windows = json.loads((state / "state.json").read_text())["files"]["windows"]
    return [name for _, (name, _) in sorted(windows.items())]


@pytest.mark.parametrize("has_times", [False, True])
def test_a_run_that_finds_nothing_new_reads_no_window(monitored, monkeypatch, has_times):
    monitored.has_times = has_times
    first = monitored.judged()
    assert (first.value["labels"]["delays"] is not None) is has_times
    names = read_files(monkeypatch)
    assert monitored.judged().digest == first.digest
    assert names == []


def test_a_run_reads_the_window_before_a_new_one_alone(monitored, monkeypatch):
    names = read_files(monkeypatch)
    monitored.day()
    monitored.judged()
    assert set(names) == {files_of(monitored)[3]}  # the tables compare the new window with it


def test_late_labels_have_their_windows_and_the_ones_beside_them_read_alone(monitored, monkeypatch):
    """The tables say which columns of a window have values and those of the one before do not, the target among them:
    labels of a window change its rows and those of the next one, and either is compared with the one before it."""
    names = read_files(monkeypatch)
    monitored.num_labelled = 3
    monitored.judged()
    assert set(names) == set(files_of(monitored)[1:4])


@pytest.mark.parametrize("change", ["other_test", "confidence", "metric", "code"])
def test_where_all_results_depend_on_what_has_changed_all_are_made_anew(monitored, monkeypatch, change):
    if change == "code":
        monkeypatch.setattr(judge, "RESULTS_CODE", judge.RESULTS_CODE[:1])
    else:
        getattr(monitored, change)()
    names = read_files(monkeypatch)
    changed = monitored.judged()
    assert set(names) == set(files_of(monitored))
    monitored.forget()
    assert_same(monitored.judged(), changed)


def test_the_code_of_all_results_is_in_their_key():
    folder = Path(window_results.__file__).parent
    makers = {f"mlsys.monitor.{file.stem}" for file in folder.glob("*.py") if "results.of(" in file.read_text()}
    assert makers == set(judge.RESULTS_CODE)


def test_another_worth_of_the_same_columns_is_measured_anew_and_the_rows_are_not_read_again(monitored):
    first = monitored.judged()
    monitored.utility()
    second = monitored.judged()
    assert len(monitored.states) == 1
    worths = [each.value["windows"][0]["metrics"]["utility"]["value"] for each in (first, second)]
    wrong = int((~monitored.traffic[0].late & (monitored.traffic[0].score >= 0.5)).sum())
    assert worths[1] - worths[0] == pytest.approx(50 * wrong / ROWS)


def test_the_test_of_columns_together_is_kept(monitored, monkeypatch):
    world = monitored.world
    world.bundle = with_split(world.store, world.bundle, Traffic.draw(2_000, 1_000))
    first = monitored.judged()
    assert first.value["windows"][-1]["joint"] is not None
    with monkeypatch.context() as patch:
        patch.setattr(two_sample, "compare", _kill)
        assert monitored.judged().digest == first.digest
    monitored.forget()
    assert_same(monitored.judged(), first)


def test_longer_windows_of_the_same_state_leave_its_results_there(monitored, monkeypatch):
    monitored.section["granularity"] = "1 week"
    monitored.judged()
    assert len(monitored.states) == 1
    monitored.section["granularity"] = "1 day"
    names = read_files(monkeypatch)
    monitored.judged()
    assert names == []


def test_two_runs_at_once_wait_for_each_other(monitored):
    monitored.day()
    with ThreadPoolExecutor(2) as both:
        first, second = (each.result() for each in [both.submit(monitored.judged) for _ in range(2)])
    assert first.digest == second.digest
    monitored.forget()
    assert_same(monitored.judged(), first)


def test_results_that_are_damaged_are_told_and_made_anew(monitored):
    first = monitored.judged()
    monitored.damage()
    second, third = monitored.judged(), monitored.judged()
    assert second.damage == ("Results of earlier runs (results.jsonl) cannot be read: all windows were judged anew.",)
    assert (first.damage, third.damage) == ((), ())
    assert second.digest == first.digest


@pytest.mark.parametrize("text", ["", "{}\n[]", "nonsense", '{"key": "k", "sha256": ""}\n["a", 1]'])
def test_a_file_of_nonsense_is_as_damaged_as_a_torn_one(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert WindowResults(tmp_path, "k").damage


def window(stamp, key=None, value=None):
    return Window(MONDAY, MONDAY + DAY, "day", None, key, value, stamp=stamp)


def test_a_result_is_made_again_for_another_window_other_inputs_or_another_key(tmp_path):
    results = WindowResults(tmp_path, "code")
    assert results.of(window("w"), "rows", lambda: [0.1 + 0.2], ["a"]) == [0.1 + 0.2]
    results.save()
    again = WindowResults(tmp_path, "code")
    assert again.of(window("w"), "rows", _kill, ["a"]) == [0.1 + 0.2]
    assert again.of(window("w"), "rows", lambda: 1, ["b"]) == 1
    assert again.of(window("v"), "rows", lambda: 2, ["a"]) == 2
    assert again.of(window("w", "a", "b=c"), "rows", lambda: 4, ["a"]) == 4
    assert again.of(window("w", "a=b", "c"), "rows", lambda: 5, ["a"]) == 5
    assert WindowResults(tmp_path, "other code").of(window("w"), "rows", lambda: 3, ["a"]) == 3


def test_results_that_nobody_asks_for_are_not_kept(tmp_path):
    results = WindowResults(tmp_path)
    for stamp in ("w", "v"):
        results.of(window(stamp), "rows", lambda: 1)
    results.save()
    again = WindowResults(tmp_path)
    again.of(window("v"), "rows", lambda: 2)
    again.save()
    assert WindowResults(tmp_path).of(window("w"), "rows", lambda: 3) == 3
    assert WindowResults(tmp_path).of(window("v"), "rows", lambda: 3) == 1


def test_windows_that_are_kept_nowhere_have_no_results(tmp_path):
    results = WindowResults(tmp_path)
    results.of(window(""), "rows", lambda: 1)
    results.save()
    assert not (tmp_path / FILE).exists()
