"""When a step runs again: exactly when a recipe value that it reads or an earlier result changed."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sqlite3
import typing

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from mlsys import bundle, errors, recipe, workflow
from mlsys.console import Console
from mlsys.recipe.reading import Section
from mlsys.store import Store
from mlsys.workflow import STEPS, Run

COLLECT, EXPLORE, FEATURES, SELECTION = {"collect"}, {"explore"}, {"features"}, {"selection"}
TUNE, TRAIN, EVALUATE, DEPLOY, MONITOR = {"tune"}, {"train"}, {"evaluate"}, {"deploy"}, {"monitor"}
WATCHED = DEPLOY | MONITOR
FITS = SELECTION | TUNE | TRAIN
JOINED = COLLECT | TRAIN  # a model carries the definitions by which an endpoint looks the columns up

VALUES = {
    "name": ("other", COLLECT | EXPLORE | FEATURES | TRAIN | EVALUATE | DEPLOY | MONITOR),
    "target": ("label", COLLECT),
    "task": ("multiclass", COLLECT),
    "positive": ("no", COLLECT),
    "loss": ("poisson", COLLECT),
    "seed": (7, COLLECT | FITS | EVALUATE | DEPLOY),
    "budget": ("90s", SELECTION | TUNE),
    "data.source": ("{folder}/more.csv", COLLECT),
    "data.reading.format": ("csv", COLLECT | TRAIN),
    "data.reading.query": ("SELECT 1 AS x", COLLECT),
    "data.reading.null_values": (["-"], COLLECT | TRAIN),
    "data.reading.delimiter": (";", COLLECT | TRAIN),
    "data.reading.encoding": ("latin-1", COLLECT | TRAIN),
    "data.reading.version": (0, COLLECT),
    "data.reading.decimal": (",", COLLECT | TRAIN),
    "data.reading.thousands": ("'", COLLECT | TRAIN),
    "data.reading.notations": ({"x": "1.234,56"}, COLLECT),
    "data.reading.header_line": (1, COLLECT | TRAIN),
    "data.reading.sheet": ("Rows", COLLECT | TRAIN),
    "data.files.exclude": (["old/*"], COLLECT),
    "data.contract": ("{folder}/contract.yaml", COLLECT),
    "data.derive": ({"twice": "2 * x"}, COLLECT),
    "data.id": ("x", COLLECT | WATCHED),
    "data.time": ("number", COLLECT),
    "data.group": ("colour", COLLECT),
    "data.timezone": ("Europe/Berlin", COLLECT | FEATURES | FITS | EVALUATE | WATCHED),
    "data.known_after": (["x"], COLLECT),
    "data.ignore": (["x"], COLLECT),
    "data.allow_personal": (["x"], COLLECT),
    "data.kinds": ({"x": "categorical"}, COLLECT | SELECTION),
    "data.max_bad_fraction": (0.5, COLLECT),
    "data.incremental.cursor": ("x", COLLECT),
    "data.incremental.lookback": (5, COLLECT),
    "data.evolution": ("accept", COLLECT),
    "data.freshness": ("400000d", COLLECT),
    "data.volume": ("stop", COLLECT),
    "data.dedupe.keys": (["x"], COLLECT),
    "data.dedupe.order": ("x", COLLECT),
    "forecast.series": (["part"], COLLECT),
    "forecast.horizon": ("3d", COLLECT),
    "forecast.step": ("1d", COLLECT),
    "forecast.season": ("7d", COLLECT),
    "features.joins.prices.source": ("{folder}/prices2.csv", JOINED),
    "features.joins.prices.reading.format": ("csv", JOINED),
    "features.joins.prices.reading.query": ("SELECT 1 AS x", JOINED),
    "features.joins.prices.reading.null_values": (["-"], JOINED),
    "features.joins.prices.reading.delimiter": (";", JOINED),
    "features.joins.prices.reading.encoding": ("latin-1", JOINED),
    "features.joins.prices.reading.version": (0, JOINED),
    "features.joins.prices.reading.decimal": (",", JOINED),
    "features.joins.prices.reading.thousands": ("'", JOINED),
    "features.joins.prices.reading.notations": ({"x": "1.234,56"}, JOINED),
    "features.joins.prices.reading.header_line": (1, JOINED),
    "features.joins.prices.reading.sheet": ("Rows", JOINED),
    "features.joins.prices.derive": ({"twice": "2 * price"}, JOINED),
    "features.joins.prices.keys": ({"colour": "colour"}, JOINED),
    "features.joins.prices.time": ("since", JOINED),
    "features.joins.prices.known_at": ("since", JOINED),
    "features.joins.prices.lookback": ("9d", JOINED),
    "features.joins.prices.columns": (["price"], JOINED),
    "features.joins.prices.aggregates.recent.function": ("max", JOINED),
    "features.joins.prices.aggregates.recent.column": ("since", JOINED),
    "features.joins.prices.aggregates.recent.window": ("3d", JOINED),
    "features.joins.prices.prefix": ("p_", JOINED),
    "features.derive": ({"twice": "2 * x"}, COLLECT | EXPLORE | FEATURES | FITS),
    "features.columns": ({"x": {"operation": "numeric", "log": True}}, COLLECT | FEATURES | FITS),
    "split.by": ("random", COLLECT),
    "split.fractions": ({"train": 0.6, "validation": 0.2, "test": 0.2}, COLLECT),
    "split.until": ({"train": "2020-01-05"}, COLLECT),
    "split.column": ("part", COLLECT),
    "split.folds": (3, COLLECT),
    "explore.allow": (["x"], COLLECT | EXPLORE | EVALUATE),
    "explore.suspects": ("stop", EXPLORE),
    "explore.max_duplicate_fraction": (0.9, EXPLORE),
    "selection.families": (["dummy"], SELECTION | TUNE),
    "selection.metric": ("log_loss", FITS | EVALUATE | WATCHED),
    "selection.max_rows": (100, SELECTION),
    "selection.margin": (0.5, SELECTION | TUNE),
    "selection.prefer": ("simple", SELECTION | TUNE),
    "selection.max_latency_us": (50.0, SELECTION | TUNE),
    "selection.max_bytes": (5000, SELECTION | TUNE),
    "selection.category_means": (True, SELECTION),
    "train.family": ("dummy", FITS),
    "train.params": ({"l2": 3.0}, FITS),
    "train.rounds": (5, FITS),
    "train.weight": ("x", COLLECT | TRAIN),
    "train.balance": ({"sample": 3.0}, FITS),
    "train.exposure": ("x", COLLECT | TRAIN),
    "train.monotone": ({"x": "increasing"}, FITS),
    "train.early_stopping": (3, FITS),
    "train.target_transform": ("none", FITS),
    "train.calibration": ("none", TRAIN),
    "train.refit": (False, TRAIN),
    "train.device": ("cpu", TRAIN),
    "train.plan": ("task", TUNE | TRAIN),
    "train.workers": (1, TRAIN),
    "evaluate.slices": (["colour"], EVALUATE | DEPLOY),
    "evaluate.min_slice_rows": (11, EVALUATE | DEPLOY),
    "evaluate.bootstrap": (10, EVALUATE | DEPLOY),
    "evaluate.confidence": (0.9, EVALUATE | WATCHED),
    "evaluate.threshold": ("half", TRAIN | EVALUATE),
    "evaluate.cost": ({"false_positive": 2.0, "false_negative": 1.0}, TRAIN | EVALUATE),
    "evaluate.gate.roc_auc.min": (0.2, EVALUATE),
    "evaluate.gate.roc_auc.max": (1.0, EVALUATE),
    "evaluate.gate.roc_auc.strict": (True, EVALUATE),
    "evaluate.utility": ("x", TRAIN | EVALUATE | DEPLOY),
    "evaluate.fairness.columns": (["colour"], EVALUATE),
    "evaluate.fairness.min_rows": (12, EVALUATE),
    "evaluate.fairness.max_difference": ({"statistical_parity": 0.5}, EVALUATE),
    "evaluate.fairness.strict": (True, EVALUATE),
    "evaluate.behaviours.colours.where": ("x > 50", EVALUATE),
    "evaluate.behaviours.colours.rows": ([{"x": 5}], EVALUATE),
    "evaluate.behaviours.colours.change": ({"x": "x + 1"}, EVALUATE),
    "evaluate.behaviours.colours.expect": ("increase", EVALUATE),
    "evaluate.behaviours.colours.of": ("yes", EVALUATE),
    "evaluate.behaviours.colours.tolerance": (0.5, EVALUATE),
    "evaluate.behaviours.colours.max_fraction": (0.5, EVALUATE),
    "tune.trials": (3, TUNE),
    "tune.minutes": (2.0, TUNE),
    "tune.space": ({"l2": [1.0, 2.0]}, TUNE),
    "tune.max_rows": (200, TUNE),
    "tune.max_members": (2, TUNE),
    "deploy.alias": ("challenger", DEPLOY),
    "deploy.margin": (0.1, DEPLOY),
    "deploy.host": ("0.0.0.0", DEPLOY),
    "deploy.port": (0, DEPLOY),
    "deploy.min_replicas": (0, DEPLOY),
    "deploy.max_replicas": (1, DEPLOY),
    "deploy.idle": ("1h", DEPLOY),
    "deploy.target_ongoing_requests": (2.0, DEPLOY),
    "deploy.max_ongoing_requests": (9, DEPLOY),
    "deploy.batch.cpu_share": (0.25, DEPLOY),
    "deploy.batch.max_running": (2, DEPLOY),
    "deploy.batch.queue": (5, DEPLOY),
    "deploy.batch.roots": (["{folder}/scored"], DEPLOY),
    "deploy.limits.body_bytes": (2048, DEPLOY),
    "deploy.limits.body_seconds": (2.0, DEPLOY),
    "deploy.limits.columns": (5, DEPLOY),
    "deploy.limits.faults": (5, DEPLOY),
    "deploy.limits.pixels": (5, DEPLOY),
    "deploy.limits.queue": (5, DEPLOY),
    "deploy.limits.rows": (5, DEPLOY),
    "deploy.limits.seconds": (5.0, DEPLOY),
    "deploy.num_cpus": (1.0, DEPLOY),
    "deploy.rollout.alpha": (0.05, DEPLOY),
    "deploy.rollout.every": ("1h", DEPLOY),
    "deploy.rollout.key": ("colour", DEPLOY),
    "deploy.rollout.min_requests": (7, DEPLOY),
    "deploy.rollout.shadow": (True, DEPLOY),
    "deploy.rollout.isolation": ("process", DEPLOY),
    "deploy.rollout.shift": (0.3, DEPLOY),
    "deploy.rollout.slowdown": (2.0, DEPLOY),
    "deploy.rollout.steps": ([20, 100], DEPLOY),
    "deploy.log": (False, DEPLOY),
    "deploy.lookup": ("redis://cache:6379/0", DEPLOY),
    "deploy.history": ("2d", DEPLOY),
    "deploy.replay": (False, DEPLOY),
    "maintain.labels": ("{folder}/labels.csv", set()),
    "maintain.min_new_rows": (5, set()),
    "maintain.cooldown": ("1d", set()),
    "maintain.budget": (1, set()),
    "maintain.per": ("9d", set()),
    "monitor.alerts": ([{"to": "file", "path": "other.jsonl"}], WATCHED),
    "monitor.granularity": ("1 day", WATCHED),
    "monitor.min_rows": (11, WATCHED),
    "monitor.slices": (["colour"], WATCHED),
    "monitor.false_alarm_rate": (0.1, WATCHED),
    "monitor.min_effect": (0.2, WATCHED),
    "monitor.min_js_distance": (0.2, WATCHED),
    "monitor.min_label_coverage": (0.5, WATCHED),
    "monitor.max_metric_loss": (0.1, WATCHED),
    "monitor.max_calibration_gap": (0.1, WATCHED),
    "monitor.retrain_after": ([1, 2], WATCHED),
    "monitor.watch_after": ([2, 3], WATCHED),
}
"""Another value for each leaf of the recipe, and the steps that read it."""

GIVEN = {
    "reading.query": {"source": "sqlite:///{folder}/rows.db", "reading.query": "SELECT 2 AS x"},
    "reading.version": {"source": "delta://{folder}/lake"},
}
"""What has to be given as well, since a value would have no effect without it and be refused; below the source."""

INPUTS = {
    "collect": (),
    "explore": ("collect",),
    "features": ("collect", "explore"),
    "selection": ("collect", "explore"),
    "tune": ("collect", "explore", "selection"),
    "train": ("collect", "explore", "selection", "tune"),
    "evaluate": ("train", "collect", "explore"),
    "deploy": ("train", "evaluate", "collect", "explore", "features"),
    "monitor": ("train", "evaluate", "collect"),
}
"""Steps whose results a step takes."""

RECIPE = """
name: tiny
target: y
data: {source: FOLDER/plain.csv}
selection: {families: [dummy, linear]}
split: {folds: 2}
tune: {trials: 0}
evaluate: {bootstrap: 5, min_slice_rows: 10}
"""

EVERY_SECTION = """
name: whole
target: y
data:
  source: FOLDER/rows.csv
  time: at
  incremental: {cursor: number}
  dedupe: {keys: [number]}
features:
  joins:
    prices:
      source: FOLDER/prices.csv
      keys: [colour]
      time: from
      aggregates: {recent: {function: min, column: price, window: 2d}}
selection: {families: [dummy, linear]}
split: {folds: 2}
tune: {trials: 0}
evaluate:
  bootstrap: 5
  gate: {roc_auc: {min: 0.1}}
  behaviours: {colours: {change: {colour: "'r'"}, expect: same}}
deploy: {rollout: {steps: [50, 100]}}
monitor: {alerts: [{to: file, path: alerts.jsonl}]}
"""

FORECAST = "forecast: {series: [colour], horizon: 2d}\n"
"""The section that a recipe of classes cannot have: its keys are asked for, it is not run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of 240 rows with two classes, one without times, one with a row more, prices, a database, a contract."""
    folder = tmp_path_factory.mktemp("sources")
    lines = ["number,at,x,colour,part,y"]
    for number in range(240):
        x, colour = number * 37 % 101, "rgb"[number % 3]
        part = ("train", "train", "train", "validation", "test")[number % 5]
        label = "yes" if x + 20 * (number % 3) > 75 + number % 7 else "no"
        lines.append(f"{number},2020-01-{1 + number // 10:02} 12:00,{x},{colour},{part},{label}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    (folder / "plain.csv").write_text("\n".join(re.sub(",[^,]*", "", line, count=1) for line in lines) + "\n")
    (folder / "more.csv").write_text("\n".join([*lines, "240,2020-01-25 12:00,1,r,train,no"]) + "\n")
    for name in ("prices.csv", "prices2.csv"):
        prices = ["r,2020-01-01 10:00,2020-01-02 10:00,1", "g,2020-01-01 10:00,2020-01-03 10:00,2"]
        (folder / name).write_text("\n".join(["colour,from,since,price", *prices]) + "\n")
    sqlite3.connect(folder / "rows.db").close()
    write_deltalake(folder / "lake", pa.table({"x": [1]}))
    (folder / "contract.yaml").write_text("columns:\n- {name: x, type: int64, kind: numeric}\n")
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """Run a recipe, up to the evaluation, with other values of some keys; all runs are on one store."""
    store = Store.open(tmp_path_factory.mktemp("store"))

    def run(text=RECIPE, **values):
        return workflow.run(Run(parse(text, folder, values), store, Console(io.StringIO())), until="evaluate")

    return run


def parse(text, folder, values):
    settings = [f"{path}={json.dumps(value)}".replace("{folder}", str(folder)) for path, value in values.items()]
    return recipe.parse(text.replace("FOLDER", str(folder)), settings)


def worked(done):
    """Steps whose work was done in a run, as its console says."""
    lines = [line.split() for line in done.console._stream.getvalue().splitlines()]
    return {line[1] for line in lines if line[1] in STEPS and line[-1] == "s"}


# The recipe


def leaves(section, prefix=""):
    """Dotted paths of all fields that are no sections."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and any(isinstance(inner, Section) for inner in value.values()):
            for key, inner in value.items():
                yield from leaves(inner, f"{prefix}{name}.{key}.")
        else:
            yield f"{prefix}{name}"


def sections_of(section):
    """Classes of the sections that are there."""
    values = [getattr(section, name) for name in type(section).model_fields]
    lists = [list(value.values()) if isinstance(value, dict) else value for value in values]
    inner = [each for value in lists for each in (value if isinstance(value, list | tuple) else [value])]
    return {type(section)}.union(*(sections_of(each) for each in inner if isinstance(each, Section)))


def sections_in(schema, seen=()):
    """Classes of the sections that a schema knows."""
    if isinstance(schema, type) and issubclass(schema, Section):
        inner = [field.annotation for field in schema.model_fields.values() if schema not in seen]
        return {schema}.union(*(sections_in(each, (*seen, schema)) for each in inner))
    return set().union(*(sections_in(each, seen) for each in typing.get_args(schema)))


def test_every_leaf_of_the_recipe_has_another_value_here(folder):
    whole = parse(EVERY_SECTION + FORECAST, folder, {})
    assert sections_of(whole) == sections_in(recipe.Recipe)
    assert set(leaves(whole)) == set(VALUES)


def keys(done, tree):
    """Key of each step for a recipe, on the results of a run."""
    anew = dataclasses.replace(done, recipe=tree)
    return {name: anew.prepare(step, *(done.results[of] for of in INPUTS[name]))[1] for name, step in STEPS.items()}


@pytest.fixture(scope="module")
def whole(run):
    return run(EVERY_SECTION)


@pytest.fixture(scope="module")
def whole_keys(whole, folder):
    """Keys of a recipe that has a text and values, on the results of `whole`; each is computed once."""
    known = {}

    def of(text, given):
        which = text, json.dumps(given, sort_keys=True)
        if which not in known:
            known[which] = keys(whole, parse(text, folder, given))
        return known[which]

    return of


@pytest.mark.parametrize("path", VALUES)
def test_a_value_is_in_the_keys_of_the_steps_that_read_it_and_no_others(whole, whole_keys, folder, path):
    value, readers = VALUES[path]
    section, _, name = path.rpartition("reading.")
    given = {section + key: other for key, other in GIVEN.get(f"reading.{name}", {}).items()}
    text = EVERY_SECTION + (FORECAST if path.startswith("forecast.") else "")
    before = whole_keys(text, given)
    after = keys(whole, parse(text, folder, {**given, path: value}))
    assert {name for name, key in after.items() if key != before[name]} == readers


def test_an_endpoint_that_looks_nothing_up_needs_another_model(whole, folder):
    before, after = keys(whole, whole.recipe), keys(whole, parse(EVERY_SECTION, folder, {"deploy.lookup": "none"}))
    assert {name for name, key in after.items() if key != before[name]} == DEPLOY | TRAIN


def test_reading_what_a_step_does_not_declare_is_an_error(run):
    def work(context):
        return context.recipe.train.rounds

    careless = dataclasses.replace(STEPS["collect"], work=work, reads=("seed", "train.plan"))
    done = run()
    with pytest.raises(RuntimeError, match="reads 'rounds' of TrainSection and does not declare it"):
        careless.work(done.context(*careless.reads))


LATER = EXPLORE | FEATURES | FITS | EVALUATE


@pytest.mark.parametrize(
    ("path", "value", "steps"),
    [
        ("positive", "no", COLLECT | LATER),
        ("task", "multiclass", COLLECT | LATER),
        ("seed", 7, COLLECT | LATER),
        ("split.by", "random", COLLECT | LATER),
        ("split.fractions", {"train": 0.6, "validation": 0.2, "test": 0.2}, COLLECT | LATER),
        ("split.column", "part", COLLECT | LATER),
        ("split.folds", 3, COLLECT | LATER),
        ("data.timezone", "Europe/Berlin", COLLECT | FEATURES | FITS | EVALUATE),  # no times: the same rows
        ("data.max_bad_fraction", 0.5, COLLECT),
        ("train.family", "dummy", FITS | EVALUATE),
        ("train.params", {"l2": 3.0}, FITS | EVALUATE),
        ("train.rounds", 5, FITS),  # the linear model knows no rounds: the same bundle
        ("train.early_stopping", 3, FITS),
        ("train.plan", "task", TUNE | TRAIN),
        ("train.workers", 1, TRAIN),
    ],
)
def test_a_change_runs_its_readers_again_and_what_their_results_change(run, path, value, steps):
    assert worked(run()) <= COLLECT | LATER
    assert worked(run()) == set()
    assert worked(run(**{path: value})) == steps
    assert worked(run()) == set()


def test_another_positive_class_is_the_one_that_is_served(run):
    for positive in ("yes", "no"):
        done = run(positive=positive)
        assert bundle.open(done.store, done.results["train"].bundle).task.classes[-1] == positive


def test_a_result_is_recorded_as_json_and_comes_back_as_it_was(run):
    done = run()
    assert json.loads((done.folder / "result.json").read_text()) == done.records
    for name, result in done.results.items():
        assert STEPS[name].result.from_json(done.records[name]) == result


def test_a_step_that_does_not_exist_is_refused_with_the_nearest(folder, tmp_path):
    with pytest.raises(errors.RecipeError, match="did you mean 'evaluate'"):
        workflow.run(Run(parse(RECIPE, folder, {}), Store.open(tmp_path)), until="evalute")
