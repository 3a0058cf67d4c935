"""A model as a script: run by itself it fits the model again, of whatever family and features, or says what differs."""

import ast
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlsys
from mlsys import bundle, errors, operate, registry
from mlsys.bundle import Bundle
from mlsys.evaluate import access_log
from mlsys.limits import FLOAT32_MAX
from mlsys.models.target_transform import TargetTransform
from mlsys.script import blocks
from mlsys.store import Store
from panels import days
from panels import run as run_forecast
from pictures import folder as folder_of_pictures

ROWS = 900
TARGETS = {"binary": "y", "number": "amount", "classes": "kind"}


def table():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, ROWS))
    colour = rng.choice(["red", "green", 'a "b"', None], ROWS)
    shop = np.array([f"shop {int(x)}" for x in rng.exponential(60, ROWS)])
    hours = rng.integers(0, 20_000, ROWS)
    ages = rng.integers(0, 99, ROWS)
    times = [dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=int(h)) for h in hours]
    gap = np.where(rng.random(ROWS) < 0.1, np.nan, np.exp(rng.normal(size=ROWS)))
    flag = rng.random(ROWS) < 0.3
    signal = a + (colour == "red") + flag
    return pa.table({
        "a": a,
        "gap": pa.array(gap, from_pandas=True),
        "colour": colour.tolist(),
        "shop": shop,
        "at": times,
        "since": [time.date() - dt.timedelta(days=int(age)) for time, age in zip(times, ages, strict=True)],
        "flag": flag,
        "points": rng.normal(size=(ROWS, 3)).tolist(),
        "note": [" ".join(rng.choice(["late", "good", "bad", "parcel", "again"], 6)) for _ in range(ROWS)],
        "w": rng.integers(0, 3, ROWS),
        "years": rng.uniform(0.2, 2.0, ROWS),
        "y": np.where(signal + rng.normal(size=ROWS) / 2 > 1.6, "yes", "no"),
        "kind": np.where(a > 0.7, "x", np.where(b > 0.3, "yy", "z")),
        "amount": np.exp(signal + rng.normal(size=ROWS) / 2),
        "count": rng.poisson(np.exp(signal / 2)),
    })  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    pq.write_table(table(), folder / "rows.parquet")
    return folder


def recipe_of(place, name, target, family, **settings):
    others = [column for column in ("y", "kind", "amount", "count") if column != target]
    plain = [] if "features.columns" in settings else ["points", "note"]
    beside = [settings.get("train.weight"), settings.get("train.exposure")]
    ignored = [*others, *plain, *(column for column in ("w", "years") if column not in beside)]
    data = {"source": str(place / "rows.parquet"), "ignore": ignored, "timezone": "Europe/Berlin"}
    usual = {"tune.trials": 0, "split.folds": 2, "evaluate.bootstrap": 5, "train.rounds": 30, "train.early_stopping": 5}
    values = {**usual, "selection.families": [family], "train.family": family, **settings}
    if family == "linear" and "features.columns" not in settings:  # which takes the letters of many names, too
        values["features.columns"] = {"shop": "target"}
    return {"name": name, "target": target, "data": data}, values


def registered(place, name, target, family, **settings):
    """The store with a model of that name."""
    recipe, values = recipe_of(place, name, target, family, **settings)
    done = mlsys.run(recipe, "evaluate", set=values, store=place / "store", cluster=False, quiet=True)
    store = Store.open(place / "store")
    registry.register(store, name, bundle.open(store, done.bundle))
    registry.set_alias(store, name, "champion", 1, "test")
    return store


def run(script):
    return subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=script.rsplit("/", 1)[0]
    )


def check(place, name, target, family, *, uses_mlsys=False, **settings):
    """Write a script, see that it is formatted and predicts as the stored model does, and give its source."""
    store = registered(place, name, target, family, **settings)
    written = operate.code(name, place / f"{name}.py", store=store.root)
    source = (place / f"{name}.py").read_text()
    imported = {each.module for each in ast.walk(ast.parse(source)) if isinstance(each, ast.ImportFrom)}
    assert any(str(module).startswith("mlsys") for module in imported) == uses_mlsys
    form = [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "120", written.script]
    assert subprocess.run(form, capture_output=True, check=False).returncode == 0
    done = run(written.script)
    assert done.returncode == 0, done.stderr
    assert "test rows are predicted as by the stored model: " in done.stdout
    return source, done.stdout


FAMILIES = [
    ("lightgbm", "binary"),
    ("xgboost", "number"),
    ("linear", "classes"),
    ("linear", "number"),
    ("forest", "number"),
    ("extra_trees", "classes"),
    ("decision_tree", "binary"),
    ("dummy", "number"),
]


@pytest.mark.parametrize(("family", "target"), FAMILIES)
def test_a_script_of_a_family_predicts_what_the_stored_model_does(place, family, target):
    source, printed = check(place, f"{family.replace('_', '-')}-{target}", TARGETS[target], family)
    assert "bit by bit" in printed or family in ("forest", "extra_trees")
    assert "mlsys" not in source.partition('"""\n')[2]


@pytest.mark.parametrize("family", ["kernel", "catboost"])
def test_a_family_that_is_more_than_a_call_is_fitted_by_mlsys_and_says_so(place, family):
    source, _ = check(place, f"{family}-fit", "y", family, uses_mlsys=True)
    assert (
        f"# The {family} family is more than a call of a library: mlsys fits it.\nfrom mlsys.models import family\n"
        in source
    )


def test_a_mean_is_written_as_several_fits(place):
    members = [
        {"family": "lightgbm", "params": {"num_leaves": 9, "rounds": 12}, "weight": 3},
        {"family": "xgboost", "params": {"max_depth": 3, "rounds": 9}, "weight": 1},
    ]
    source, _ = check(
        place, "mean", "y", "ensemble", **{"train.params": {"members": members}, "selection.families": ["linear"]}
    )
    assert "0.75 * model_1(X)" in source
    assert "p = p + 0.25 * model_2(X)" in source
    assert {"import lightgbm", "import xgboost"} < set(source.splitlines())


def test_means_of_the_target_are_those_of_the_other_folds(place):
    columns = {
        "shop": ["target", "frequency", "keys"],
        "colour": {"operation": "target", "smoothing": 5},
        "a": {"operation": "bins", "bins": 60},
    }
    columns["a"] = {"operation": "numeric", "bins": 60}
    settings = {"features.columns": {**columns, "points": "drop", "note": "drop"}}
    source, _ = check(place, "means", "y", "lightgbm", **settings)
    beside = json.loads((place / "means.json").read_text())
    assert set(beside["means"]) == {"", "0", "1"}
    assert "def features_to_fit(rows):\n" in source
    check(place, "dense-means", "kind", "linear", **settings)


def test_each_operation_on_columns_is_written_for_trees_and_for_linear_models(place):
    columns = {
        "at": ["datetime", "trend", {"operation": "elapsed", "since": "since"}],
        "gap": {"operation": "numeric", "log": True, "impute": "mean", "indicator": True, "scale": "standard"},
        "colour": "onehot",
        "shop": "frequency",
        "points": "drop",
        "note": "drop",
    }
    for family in ("xgboost", "linear"):
        check(place, f"columns-{family}", "amount", family, **{"features.columns": columns})


def test_texts_lists_hashes_and_sql_are_taken_from_mlsys_and_a_comment_says_so(place):
    columns = {"note": ["text", "tfidf"], "points": "list", "shop": {"operation": "hash", "buckets": 8}}
    settings = {"features.columns": columns, "features.derive": {"twice": "2 * a + gap"}}
    source, _ = check(place, "texts", "y", "xgboost", uses_mlsys=True, **settings)
    assert "# Texts, pictures, lists and hashes take more arithmetic than fits a script: mlsys has it.\n" in source
    assert "# Derived columns are SQL, which mlsys has Polars evaluate row by row, with its rules of types.\n" in source


@pytest.mark.parametrize("balance", ["weights", {"sample": 1.5}], ids=str)
def test_weights_balance_and_directions_are_in_the_script(place, balance):
    settings = {"train.weight": "w", "train.balance": balance, "train.monotone": {"a": "increasing"}}
    name = "balance-w" if balance == "weights" else "balance-s"
    source, _ = check(place, name, "y", "lightgbm", **settings)
    assert '"monotone_constraints": [1, 0' in source
    assert "corrected(model_1(X), FACTORS)" in source


@pytest.mark.parametrize("scale", ["log", "winsor"])
def test_the_scale_of_a_target_is_in_the_script(place, scale):
    check(place, f"scale-{scale}", "amount", "lightgbm", **{"train.target_transform": scale})


@pytest.mark.parametrize("family", ["lightgbm", "xgboost", "linear"])
def test_with_a_log_link_boosters_sum_logarithms_and_no_prediction_is_negative(place, family):
    source, printed = check(place, f"link-{family}", "amount", family, **{"train.target_transform": "log_link"})
    assert "bit by bit" in printed
    assert '"kind": "log_link"' in source
    assert "    p = inverse(p, TARGET)\n" in source
    assert ("return exponential(scores" in source) == (family != "linear")
    assert (json.loads((place / f"link-{family}.json").read_text())["predictions"] >= np.zeros(1)).all()


KINDS = [
    TargetTransform(kind="log_link", low=0.0, high=9.0),
    TargetTransform(kind="winsor", low=-2.0, high=5.0),
    TargetTransform(kind="log1p", low=-2.0, high=5.0),
    TargetTransform(kind="log", low=-2.0, high=5.0, centre=0.5, scale=0.3, even=1.2, odd=-0.1),
]


@pytest.mark.parametrize("transform", KINDS, ids=lambda each: each.kind)
def test_a_script_transforms_a_target_bit_for_bit_as_mlsys_does(transform):
    values, facts = np.linspace(-8.0, 8.0, 101), transform.model_dump(mode="json")
    assert blocks.forward(values, facts).tobytes() == transform.forward(values).tobytes()
    assert blocks.inverse(values, facts).tobytes() == transform.inverse(values).tobytes()


def test_a_loss_with_an_exposure_is_in_the_script(place):
    settings = {"loss": "poisson", "train.exposure": "years"}
    source, printed = check(place, "rates", "count", "xgboost", uses_mlsys=True, **settings)
    assert "# The metric is one that mlsys defines.\n" in source
    assert "poisson_deviance" in printed


# What it says of a model that is not the same


@pytest.fixture(scope="module")
def linear(place):
    store = registered(place, "told", "y", "linear")
    return store, operate.code("told@1", place / "told.py", store=store.root)


def test_a_script_whose_predictions_differ_ends_with_exit_code_1(linear):
    _, written = linear
    script, beside = Path(written.script), json.loads(Path(written.beside).read_text())
    beside["predictions"][3][1] += 1e-6
    changed = script.with_name("changed.py")
    changed.write_text(script.read_text())
    changed.with_suffix(".json").write_text(json.dumps(beside))
    done = run(str(changed))
    assert done.returncode == 1
    assert "the predictions differ from those of the stored model by 1e-06" in done.stderr


def test_writing_a_script_is_recorded_as_an_opening_of_the_test_rows(linear):
    store, written = linear
    opened = [
        opening for file in (store.root / "openings").glob("*.jsonl") for opening in access_log.read(store, file.stem)
    ]
    assert ("told", written.bundle, "a script of the model") in {
        (each.name, each.bundle, each.reason) for each in opened
    }


def test_the_command_says_where_the_script_is(linear, monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from mlsys.cli import app

    store, _ = linear
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["code", "told", "--json", "--store", str(store.root)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["script"] == str(tmp_path / "told.py")
    assert (tmp_path / "told.json").is_file()


def test_a_script_hides_no_module_that_it_imports(place, linear, tmp_path, monkeypatch):
    store, _ = linear
    monkeypatch.chdir(tmp_path)
    registered(
        place, "plain", "y", "dummy", **{"features.columns": {"shop": "codes", "points": "drop", "note": "drop"}}
    )
    registry.register(store, "xgboost", bundle.open(store, registry.resolve(store, "plain").digest))
    assert operate.code("xgboost@1", store=store.root).script == str(tmp_path / "xgboost_model.py")
    for name in ("numpy.py", "told.txt"):
        with pytest.raises(errors.RecipeError, match="has not the name of a module that it imports"):
            operate.code("told", name, store=store.root)


def test_a_name_without_a_version_is_refused(linear):
    with pytest.raises(errors.RegistryError, match="no version"):
        operate.code("nobody", store=linear[0].root)


def test_a_model_whose_rows_are_gone_is_refused(place, tmp_path):
    recipe, values = recipe_of(place, "gone", "y", "dummy")
    done = mlsys.run(recipe, "evaluate", set=values, store=tmp_path, cluster=False, quiet=True)
    store = Store.open(tmp_path)
    opened = bundle.open(store, done.bundle)
    registry.register(store, "gone", opened)
    split = store.path("split", opened.provenance["split"])
    split.rename(tmp_path / "elsewhere")
    with pytest.raises(errors.BundleError, match=r"(?s)no split .*use the store in which it was trained"):
        operate.code("gone@1", tmp_path / "gone.py", store=store.root)


def test_means_of_folds_that_nobody_recorded_are_refused(place):
    settings = {"features.columns": {"shop": "target", "points": "drop", "note": "drop"}}
    store = registered(place, "forgotten", "y", "linear", **settings)
    for file in (store.root / "runs" / "forgotten" / "history").glob("*.json"):
        file.unlink()
    with pytest.raises(errors.BundleError, match="no record of the run that learned them fold by fold"):
        operate.code("forgotten", place / "forgotten.py", store=store.root)


@pytest.mark.parametrize(
    ("fact", "got"), [({"plan": "cluster: 2 GB"}, "a fit with the plan cluster"), ({"device": "cuda"}, "a fit on cuda")]
)
def test_a_fit_that_one_process_does_not_repeat_is_refused(linear, monkeypatch, fact, got):
    store, _ = linear
    provenance = Bundle.provenance.fget
    monkeypatch.setattr(Bundle, "provenance", property(lambda own: {**provenance(own), **fact}))
    with pytest.raises(errors.BundleError) as caught:
        operate.code("told", store=store.root)
    assert f"  got:      {got}\n" in str(caught.value)
    assert "  hint:     train.plan: task and train.device: cpu" in str(caught.value)


def refused(store, name, digest):
    """The error with which a script of a model is refused; nothing is written, and no opening of test rows recorded."""
    registry.register(store, name, bundle.open(store, digest))
    written = store.root / f"{name}.py"
    before = sorted((store.root / "openings").glob("*"))
    with pytest.raises(errors.BundleError) as caught:
        operate.code(f"{name}@1", written, store=store.root)
    assert not written.exists()
    assert sorted((store.root / "openings").glob("*")) == before
    return str(caught.value)


def trained(folder, values):
    store = folder / "store"
    return Store.open(store), mlsys.run(values, "train", store=store, cluster=False, quiet=True).bundle


FEW = {"tune": {"trials": 0}, "split": {"folds": 2}}


def test_a_ranking_is_refused_with_the_reason(tmp_path):
    rng = np.random.default_rng(0)
    a = rng.normal(size=600)
    rows = pa.table({"query": [f"q{k // 6}" for k in range(600)], "a": a, "y": np.digitize(a, [-0.5, 0.5])})
    pq.write_table(rows, tmp_path / "rows.parquet")
    data = {"source": str(tmp_path / "rows.parquet"), "group": "query"}
    recipe = {"name": "ordered", "target": "y", "task": "ranking", "data": data, **FEW}
    store, digest = trained(tmp_path, {**recipe, "selection": {"families": ["linear"]}})
    told = refused(store, "ordered", digest)
    assert "  got:      a ranking\n" in told
    assert "a script has no groups, in which a ranking is fitted" in told


def test_several_labels_are_refused_with_the_reason(tmp_path):
    a, b = np.random.default_rng(0).normal(size=(2, 600))
    pq.write_table(pa.table({"a": a, "b": b, "x": a > 0, "y": b > 0.5}), tmp_path / "rows.parquet")
    recipe = {"name": "labels", "target": ["x", "y"], "data": {"source": str(tmp_path / "rows.parquet")}, **FEW}
    store, digest = trained(tmp_path, {**recipe, "selection": {"families": ["linear"]}})
    told = refused(store, "labels", digest)
    assert "  got:      several labels\n" in told
    assert "several labels are a model for each" in told


def test_a_forecast_is_refused_with_the_reason(tmp_path):
    done = run_forecast(tmp_path, days(num_stores=2, num_days=200), "train")
    told = refused(Store.open(tmp_path / "store"), "shop", done.bundle)
    assert "  got:      a forecast\n" in told
    assert "trees fit the difference from the naive one, which a script lacks" in told


def test_a_family_that_fits_pixels_is_refused_with_the_reason(tmp_path):
    photos = folder_of_pictures(tmp_path / "photos", 80, 16)
    train = {"family": "convolution", "params": {"epochs": 1, "width": 8}}
    recipe = {"name": "dots", "target": "label", "data": {"source": str(photos)}, "train": train, **FEW}
    store, digest = trained(tmp_path, {**recipe, "selection": {"families": ["convolution"]}})
    told = refused(store, "dots", digest)
    assert "  got:      the family convolution\n" in told
    assert "mlsys reads the pictures and trains on their pixels" in told


def test_constants_are_copied_only_where_a_function_needs_them():
    from mlsys.script import source_lines

    assert source_lines.functions({"standardised"})[0].startswith("def standardised(")
    assert source_lines.functions({"number"})[:3] == [f"FLOAT32_MAX = {source_lines.inline(FLOAT32_MAX)}", "", ""]
    assert source_lines.functions(set()) == []
