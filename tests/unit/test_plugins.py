"""A family and a metric from outside take part in every step; a reader does so in tests/contracts of readers."""

import importlib
import importlib.metadata
import json

import jsonschema
import numpy as np
import pytest

import toys
from mlsys import bundle, errors, evaluate, models, recipe, selection, train, tune
from mlsys.evaluate import intervals, metrics
from mlsys.models.interface import Family
from mlsys.plugins import Plugins, _registered, outside_code, record
from mlsys.predict import Predictor
from mlsys.readers import registry as readers
from mlsys.store import Store
from mlsys.workflow import modelling
from toys import BINS, TOP_TENTH


@pytest.fixture(autouse=True)
def parts():
    with toys.registered():
        yield


@pytest.fixture
def built(make_split):
    return make_split(
        selection={"families": ["linear", "bins"], "metric": "top_tenth"},
        tune={"trials": 0},
        evaluate={"bootstrap": 50, "gate": {"top_tenth": {"min": 0.5}}, "min_slice_rows": 10},
    )


def test_a_family_and_a_metric_from_outside_run_through_the_steps(built, tmp_path):
    split, statistics, settings, task = built
    store = Store.open(tmp_path)

    ranking = selection.rank(split.only("train"), statistics, settings, task)
    assert ranking.metric == "top_tenth"
    assert {entry.family for entry in ranking.entries} == {"dummy", "linear", "bins"}
    bins = next(entry for entry in ranking.entries if entry.family == "bins")
    assert 0.5 < bins.mean <= 1
    assert bins.best_rounds == ()

    rows = split.only("train", "validation")
    tuned = tune.search(store, rows, statistics, settings, task, "bins", folder=tmp_path / "run")
    assert (tuned.params, tuned.metric) == ({"bins": 4}, "top_tenth")

    fitted = train.fit(store, rows, statistics, settings, task, "bins", {"bins": 5})
    opened = bundle.open(store, fitted.digest)
    assert (opened.family, opened.params) == ("bins", {"bins": 5})
    assert opened.provenance["validation"]["metric"] == "top_tenth"
    assert [file.name for file in (opened.folder / "model").iterdir()] == ["bins.json"]
    test_rows = split.table("test").drop_columns(["y"])
    assert len(Predictor(opened).table(test_rows).prediction) == split.num_rows["test"]

    evaluation = evaluate.score(store, opened, split, settings)
    measured = evaluation["metrics"]["top_tenth"]
    assert measured["title"] == TOP_TENTH.title
    assert (measured["value"], measured["reason"]) == (1.0, "the same whichever group or block is left out")
    assert evaluation["dummy"]["metric"] == evaluation["slices"]["metric"] == "top_tenth"
    assert [check["name"] for check in evaluation["verdict"]["checks"]] == ["top_tenth", "beats the dummy"]
    page = evaluate.report.page(evaluation)
    assert TOP_TENTH.title in page
    assert TOP_TENTH.definition in page


def test_a_family_is_compared_by_default_only_if_it_says_so(make_split, monkeypatch):
    split, statistics, settings, task = make_split()
    assert "bins" not in selection._families(split, statistics, settings, task)
    monkeypatch.setattr(type(BINS), "min_coordinates", 0)
    assert selection._families(split, statistics, settings, task)[-1] == "bins"


def test_a_family_is_refused_for_a_task_that_it_cannot_do(make_split, monkeypatch):
    split, statistics, settings, task = make_split("regression", selection={"families": ["bins"]})
    monkeypatch.setattr(type(BINS), "tasks", metrics.CLASSIFICATION)
    with pytest.raises(errors.RecipeError) as raised:
        selection.rank(split.only("train"), statistics, settings, task)
    assert str(raised.value) == (
        "models: family 'bins'\n  got:      a regression task\n  expected: one of binary, multiclass\n"
        "  hint:     families for it: catboost, convolution, decision_tree, dummy, ensemble, extra_trees, forest, "
        "kernel, lightgbm, linear, network, xgboost"
    )


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(errors.RecipeError, match="did you mean 'bins'"):
        models.family("bin")
    with pytest.raises(errors.RecipeError, match="did you mean 'top_tenth'"):
        metrics.find("top_tent", "binary")


def test_a_metric_without_a_form_under_weights_is_computed_on_resampled_rows():
    rng = np.random.default_rng(0)
    y, score = rng.integers(0, 2, 200), rng.random(200)
    plan = intervals.ResamplingPlan(num_resamples=30)
    statistic = TOP_TENTH.prepare(y, score)
    for weight in intervals.weights(200, plan):
        rows = np.repeat(np.arange(200), weight.astype(int))
        assert statistic(weight) == toys.top_tenth(y[rows], score[rows])
    with pytest.raises(ValueError, match="whole weights"):
        statistic(np.full(200, 0.5))


def test_names_of_mlsys_are_not_taken():
    with pytest.raises(ValueError, match="'linear' is the name of a part of mlsys"):
        models.FAMILIES.register("linear", BINS)


def test_a_part_is_found_by_its_entry_point_and_loaded_when_it_is_used(monkeypatch):
    point = importlib.metadata.EntryPoint("bins", "toys:BINS", "mlsys.toys")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == "mlsys.toys" else [])
    table = Plugins("mlsys.toys", {"first": models.family("dummy")}, {})
    assert list(table) == ["first", "bins"]
    assert "bins" in table
    assert table["bins"] is BINS
    with pytest.raises(KeyError):
        table["second"]


def test_a_run_refuses_unknown_names_before_its_first_step(make_split):
    for settings, hint in (
        ({"selection": {"families": ["bin"]}}, "did you mean 'bins'"),
        ({"train": {"family": "xgbost"}}, "did you mean 'xgboost'"),
        ({"selection": {"metric": "top_ten"}}, "did you mean 'top_tenth'"),
        ({"evaluate": {"gate": {"acuracy": {"min": 0.5}}}}, "did you mean 'accuracy'"),
    ):
        with pytest.raises(errors.RecipeError, match=hint):
            modelling.check_names(make_split(**settings)[2])
    modelling.check_names(make_split(train={"family": "bins"}, selection={"metric": "top_tenth"})[2])


def test_the_json_schema_lists_the_names_that_are_known():
    schema = json.loads(recipe.json_schema(models.FAMILIES, metrics.METRICS, of_gates=["utility"]))
    written = {"name": "a", "target": "y", "data": {"source": "x"}}
    good = {"selection": {"families": ["bins"], "metric": "top_tenth"}, "evaluate": {"gate": {"rmse": {"max": 1}}}}
    jsonschema.validate({**written, **good, "train": {"family": "auto"}}, schema)
    jsonschema.validate({**written, "evaluate": {"gate": {"utility": {"min": 0}}}}, schema)
    for bad in ({"train": {"family": "xgbost"}}, {"selection": {"metric": "auc"}}, {"evaluate": {"gate": {"auc": {}}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**written, **bad}, schema)


def test_the_code_of_a_part_from_outside_counts_for_the_steps(tmp_path, monkeypatch):
    assert set(outside_code()) == {"mlsys.families: bins", "mlsys.metrics: top_tenth"}
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "outside_metric.py"
    text = "from mlsys.evaluate import metrics\ndef add(metric):\n    metrics.METRICS.register('other', metric)\n"
    file.write_text(text)
    importlib.import_module("outside_metric").add(TOP_TENTH)
    before = outside_code()["mlsys.metrics: other"]
    file.write_text(text + "# changed\n")
    assert outside_code()["mlsys.metrics: other"] != before
    metrics.METRICS.unregister("other")
    assert "mlsys.metrics: other" not in outside_code()


TYPED_CLASS = """

def double(x):
    return {helper} * x
class Params:
    size: int = {params}
class Typed:
    params, complexity = Params, {attribute}
    def fit(self):
        return [double({method}) for _ in ()]
"""


@pytest.mark.parametrize("changed", ["helper", "params", "attribute", "method"])
def test_a_class_without_a_file_counts_by_its_instructions_and_those_that_it_names(changed):
    """As one that is typed into a notebook: the same again is the same, with other code anywhere it is not."""
    digests = []
    for number in (1, 1, 2):
        names = {"__name__": "notebook"}
        exec(
            TYPED_CLASS.format(**dict.fromkeys(["helper", "params", "attribute", "method"], 1) | {changed: number}),
            names,
        )
        record("mlsys.families", "typed", names["Typed"]())
        digests.append(outside_code()["mlsys.families: typed"][-1])
    del _registered["mlsys.families: typed"]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("value", ["nowhere:X", "toys:NOTHING", "toys:BinsFamily", "toys:TOP_TENTH", "toys:BINS"])
def test_an_entry_point_that_gives_no_part_is_named_and_breaks_no_other(monkeypatch, value):
    point = importlib.metadata.EntryPoint("wrong", value, "mlsys.families")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == "mlsys.families" else [])
    table = Plugins("mlsys.families", {"first": BINS}, {}, Family)
    with pytest.raises(errors.RecipeError, match=f"entry point 'wrong = {value}'"):
        table["wrong"]
    assert table["first"] is BINS
    assert outside_code()["mlsys.families: wrong"]


def test_a_booster_of_an_entry_point_is_known_by_its_name_and_not_by_the_format_of_its_files(monkeypatch):
    point = importlib.metadata.EntryPoint("faulty", "faulty:FAULTY", "mlsys.families")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == "mlsys.families" else [])
    assert Plugins("mlsys.families", {}, {}, Family)["faulty"].name == "faulty"


def test_what_is_no_part_is_not_registered():
    for module in (models, metrics, readers):
        for part in (None, object(), toys.BinsFamily, len):
            with pytest.raises(TypeError, match="expected an instance of"):
                module.register(part)


def test_each_module_of_an_outside_package_counts_and_so_does_the_name_of_the_part(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shells").mkdir()
    for name in ("__init__", "part", "helper"):
        (tmp_path / "shells" / f"{name}.py").write_text("")
    points = [importlib.metadata.EntryPoint("shell", "shells.part:A", "mlsys.metrics")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == "mlsys.metrics" else [])
    before = outside_code()
    (tmp_path / "shells" / "helper.py").write_text("x = 1")
    changed = outside_code()
    points[:] = [importlib.metadata.EntryPoint("shell", "shells.part:B", "mlsys.metrics")]
    assert before != changed != outside_code()
