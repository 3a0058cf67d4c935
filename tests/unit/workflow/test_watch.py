"""A registered model is watched by its name alone, and nothing that serves changes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlsys
from mlsys import errors, registry
from mlsys.deploy import prediction_log
from mlsys.monitor import last
from mlsys.recipe import Recipe, dump
from mlsys.registry import ledger
from mlsys.store import Store
from mlsys.workflow import inventory, watch
from traffic import MONDAY, WEEK, Traffic, World, fit, logged

ROOT = Path(mlsys.__file__).parents[1]
ROWS = 400
BASE = {"metrics": {"roc_auc": {"value": 0.8206, "low": 0.8126, "high": 0.8286, "error": 0.004}}}
SECTIONS = {"data": {"id": "id", "timezone": "UTC"}, "selection": {"metric": "auto"}, "monitor": {"min_rows": 50}}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A store with a registered version, its evaluation and its settings."""
    store = Store.open(tmp_path_factory.mktemp("watched"))
    of = fit(store)
    registry.register(store, "world", of, facts={"evaluation": store.put_json("evaluation", BASE)})
    registry.configure(store, registry.set_alias(store, "world", "champion", 1, "tried"), SECTIONS)
    return World(store, of, prediction_log.folder_of(store, "world"), BASE)


@pytest.fixture
def world(built):
    """The same with an empty log, no labels and nothing remembered."""
    for name in ("predictions", "labels", "monitor", "runs", "alerts"):
        shutil.rmtree(built.store.root / name, ignore_errors=True)
    return built


def weeks(*numbers, **options):
    return [Traffic.draw(ROWS, number, **options) for number in numbers]


def labels_of(traffics):
    return pa.concat_tables([traffic.labels() for traffic in traffics])


def command(world, *words, folder=None):
    run = [sys.executable, "-c", "from mlsys.cli import main; main()", *words, "--store", str(world.store.root)]
    return subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)


def serves(world):
    """All that decides what serves."""
    kept = ("registry", "cluster", "objects/bundle", "objects/evaluation")
    return {
        str(path): path.read_bytes()
        for name in kept
        for path in (world.store.root / name).rglob("*")
        if path.is_file() and "lock" not in str(path)
    }


def test_a_name_is_watched_with_what_was_noted_with_it(world):
    traffic = weeks(1, 2)
    world.write(traffic)
    result = watch.monitor(world.store, "world", labels=labels_of(traffic))
    assert result.decision == "keep"
    assert [window["metrics"]["roc_auc"]["value"] > 0.75 for window in result.windows] == [True, True]
    assert {loss["what"] for loss in result.windows[0]["losses"]} == {"roc_auc", "calibration"}
    assert watch.monitor(world.store, "world@1").windows == watch.monitor(world.store, "world@champion").windows
    settings = ["monitor.granularity=1 day", "monitor.min_rows=10"]
    assert len(watch.monitor(world.store, "world", settings).windows) == 14


def test_settings_that_are_not_the_monitors_are_refused(world):
    with pytest.raises(errors.RecipeError) as caught:
        watch.monitor(world.store, "world", ["deploy.port=1"])
    assert str(caught.value) == (
        "monitor: --set deploy.port=1\n  got:      deploy.port\n  expected: a key of the section monitor\n"
        "  hint:     what a model is made of is set where it is made: `mlsys run RECIPE --set …`"
    )


def test_a_version_without_an_evaluation_is_shown_and_not_judged(world):
    store = world.store
    registry.register(store, "bare", world.bundle)
    registry.set_alias(store, "bare", "champion", 1, "tried")
    folder = prediction_log.folder_of(store, "bare") / "2024-01-01"
    folder.mkdir(parents=True)
    pq.write_table(logged(Traffic.draw(ROWS, 1), MONDAY, digest=world.bundle.digest), folder / "a.parquet")
    messages = watch.monitor(store, "bare").messages
    assert messages == ("No evaluation was noted with this version: performance is shown and not judged.",)


def test_a_version_with_which_nothing_was_noted_is_watched_as_the_last_run_says(world):
    store = world.store
    registry.register(store, "old", world.bundle)
    registry.set_alias(store, "old", "champion", 1, "tried")
    run = store.run_folder("old")
    data = {"source": "-", "id": "id", "timezone": "Asia/Kolkata"}
    tree = {**SECTIONS, "name": "old", "target": "late", "data": data}
    (run / "resolved.yaml").write_text(dump(Recipe.model_validate(tree)))
    made = {"train": {"bundle": world.bundle.digest}, "evaluate": {"evaluation": store.put_json("evaluation", BASE)}}
    (run / "result.json").write_text(json.dumps(made))
    watched = watch.WatchedModel.resolve(store, "old")
    assert (watched.recipe.data.timezone, watched.recipe.monitor.min_rows) == ("Asia/Kolkata", 50)
    assert watched.baseline == BASE


def test_a_model_without_predictions_is_kept_and_told(world):
    assert watch.monitor(world.store, "world").summary == watch.NO_LOG


def test_the_decision_is_the_exit_code_and_nothing_that_serves_changes(world, tmp_path):
    """By the verb with a name and with a recipe, and by the job; without a cluster."""
    traffic = [*weeks(1), *weeks(2, 3, shift=0.6)]
    world.write(traffic)
    before, moves = serves(world), ledger.read(world.store)
    (tmp_path / "world.yaml").write_text("name: world\ntarget: late\ndata: {source: gone.csv, id: id}\n")
    job = [sys.executable, str(ROOT / "jobs" / "monitor.py"), "--name", "world", "--store", str(world.store.root)]
    for done in (
        command(world, "monitor", "world"),
        command(world, "monitor", "world.yaml", "--set", "monitor.min_rows=50", folder=tmp_path),
        subprocess.run(job, capture_output=True, text=True, check=False),
    ):
        assert done.returncode == 3, done.stderr
        assert "1,200 predictions in 3 windows" in done.stdout
    assert (serves(world), ledger.read(world.store)) == (before, moves)


def test_labels_come_in_late_and_are_used_from_then_on(world, tmp_path):
    traffic = weeks(1, 2)
    world.write(traffic)
    file = tmp_path / "labels.csv"
    rows = [(name, str(late).lower()) for each in traffic for name, late in zip(each.ids, each.late, strict=True)]
    file.write_text("id,late\n" + "".join(f"{name},{late}\n" for name, late in [*rows, ("nobody", "true")]))
    done = command(world, "labels", "world", "labels.csv", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "801 new labels; 800 of 801 belong to predictions in the log" in done.stdout
    assert "1 of 801 labels belongs to no prediction in the log, such as 'nobody'" in done.stdout
    result = watch.monitor(world.store, "world")
    assert [window["labels"]["coverage"] for window in result.windows] == [1.0, 1.0]
    assert any("'nobody'" in message for message in result.messages)
    again = command(world, "labels", "world", "labels.csv", folder=tmp_path)
    assert "0 new labels; 801 were there already" in again.stdout


def test_labels_of_the_command_line_replace_those_that_the_store_keeps(world, tmp_path):
    (traffic,) = weeks(1)
    world.write([traffic])
    pq.write_table(traffic.labels(), tmp_path / "right.parquet")
    watch.receive_labels(world.store, "world", str(tmp_path / "right.parquet"))
    traffic.late = ~traffic.late
    aucs = [
        watch.monitor(world.store, "world", labels=labels).windows[0]["metrics"]["roc_auc"]["value"]
        for labels in (None, traffic.labels())
    ]
    assert aucs[0] == pytest.approx(1 - aucs[1])


def test_labels_of_the_wrong_kind_are_refused_and_not_kept(world, tmp_path):
    (tmp_path / "l.csv").write_text("id,late\n1,blue\n")
    done = command(world, "labels", "world", str(tmp_path / "l.csv"))
    assert (done.returncode, "one of False, True" in done.stderr) == (2, True)
    assert not (world.store.root / "labels" / "world").exists()


def test_the_status_has_the_last_decision_and_the_rows_that_came_since(world):
    world.write(weeks(1, 2))
    assert last.status(world.store, "world") == {"backlog_rows": 2 * ROWS}
    watch.monitor(world.store, "world")
    world.add(logged(Traffic.draw(30, 9), MONDAY + 2 * WEEK, digest=world.bundle.digest))
    found = last.status(world.store, "world")
    assert (found["decision"], found["exit_code"], found["version"], found["backlog_rows"]) == ("keep", 0, 1, 30)
    assert found["counts"]["windows"] == 2
    assert re.match(r"\d{4}-\d\d-\d\dT", found["at"])
    assert (world.store.root / found["report"]).is_file()
    assert json.dumps(found)
    text = inventory.status_text(inventory.status(world.store))
    assert re.search(r"world: monitor says keep \(.{16}Z, 2 windows of version 1\); 30 rows were logged since", text)


def test_a_model_that_is_not_there_is_named(world):
    done = command(world, "monitor", "wold")
    assert done.returncode == 2
    assert "did you mean 'world'" in done.stderr


def test_a_recipe_that_is_not_there_is_named(world, tmp_path):
    done = command(world, "monitor", "nothing.yaml", folder=tmp_path)
    assert (done.returncode, "recipe: file 'nothing.yaml'" in done.stderr) == (2, True)


def test_two_monitors_at_once_count_each_row_once(world):
    world.write(weeks(1, 2, 3))
    run = [sys.executable, "-c", "from mlsys.cli import main; main()", "monitor", "world", "--store"]
    both = [
        subprocess.Popen([*run, str(world.store.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in both:
        stdout, stderr = process.communicate(timeout=300)
        assert (process.returncode, b"1,200 predictions in 3 windows" in stdout) == (0, True), stderr


def test_a_decision_is_sent_once_and_again_when_it_is_over(world):
    places = ['monitor.alerts=[{to: file, path: "predictions/world.jsonl"}]', "monitor.min_rows=50"]
    world.write([*weeks(1), *weeks(2, 3, shift=0.6)])
    shifted = watch.monitor(world.store, "world", places)
    assert shifted.decision == "watch"
    assert shifted.messages[-1].endswith("('watch', raised): sent, file predictions/world.jsonl")
    again = watch.monitor(world.store, "world", places)
    assert not any("sent" in message for message in again.messages)
    labels = labels_of([*weeks(1), *weeks(2, 3, shift=0.6)])
    assert watch.monitor(world.store, "world@1", places, labels).decision == "keep"
    file = world.store.root / "predictions" / "world.jsonl"
    assert len(file.read_text().splitlines()) == 1
    assert watch.monitor(world.store, "world", places, labels).messages[-1].count("recovered") == 1
    raised, recovered = map(json.loads, file.read_text().splitlines())
    assert raised["summary"].startswith("Watch: the predictions move")
    assert (raised["event"], recovered["event"]) == ("raised", "recovered")
    assert raised["facts"]["judgement"] == shifted.judgement


def test_a_place_that_takes_nothing_fails_no_monitor(world):
    world.write(weeks(1, shift=0.6))
    places = ['monitor.alerts=[{to: webhook, url: "http://127.0.0.1:1/x"}]']
    result = watch.monitor(world.store, "world", places)
    assert result.exit_code == 3
    assert "the server cannot be reached" in result.messages[-1]


def test_the_noted_settings_are_those_of_a_recipe(world):
    recipe = watch.WatchedModel.resolve(world.store, "world").recipe
    assert isinstance(recipe, Recipe)
    assert (recipe.data.id, recipe.monitor.min_rows, recipe.monitor.granularity) == ("id", 50, "1 week")
