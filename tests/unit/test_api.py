import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.datasets import load_diabetes, load_wine

import mlsys
from mlsys import bundle, errors, registry
from mlsys.store import Store

RECIPE = {"name": "wine", "target": "target", "data": {"source": "sklearn://wine"}}
QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2}
ROWS = load_wine(as_frame=True).data.iloc[[3, 70, 140]]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return mlsys.run(RECIPE, "evaluate", set=QUICK, store=tmp_path_factory.mktemp("store"), cluster=False, quiet=True)


@pytest.fixture(scope="module")
def model(done):
    return done.predictor()


# The package


def test_the_types_of_the_package_are_those_of_its_names():
    stub = ast.parse((Path(mlsys.__file__).with_suffix(".pyi")).read_text())
    imported = {
        alias.asname: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == mlsys._HOMES
    declared = next(node.value for node in stub.body if isinstance(node, ast.Assign))
    assert ast.literal_eval(declared) == mlsys.__all__ == dir(mlsys)


def test_every_public_name_is_there_and_others_are_not():
    assert all(getattr(mlsys, name) is not None for name in mlsys.__all__)
    with pytest.raises(AttributeError, match="module 'mlsys' has no attribute 'fit'"):
        _ = mlsys.fit


def test_asking_for_errors_alone_loads_nothing_else():
    program = (
        "import sys, mlsys; mlsys.errors.MlsysError; print(sorted(m for m in sys.modules if m.startswith('mlsys')))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert ast.literal_eval(printed) == ["mlsys", "mlsys.errors"]


# run


def test_a_run_says_what_it_left(done):
    assert (done.family, done.passed, done.url, done.decision) == ("linear", True, None, None)
    assert done.metrics["accuracy"] > 0.9
    low, high = done.intervals["accuracy"]
    assert low <= done.metrics["accuracy"] <= high
    assert bundle.open(Store.open(done.store), done.bundle).family == "linear"
    assert all(page.is_file() for page in done.reports.values())
    assert (done.folder / "resolved.yaml").is_file()


def test_a_store_may_be_moved_and_what_is_lost_of_a_run_is_made_again(done, tmp_path, capsys):
    moved = shutil.copytree(done.store, tmp_path / "moved")
    for lost, num_again in ((None, 0), ("runs", 4), ("runs/wine/reports/explore.html", 1)):
        if lost is not None:
            shutil.rmtree(moved / lost) if (moved / lost).is_dir() else (moved / lost).unlink()
        again = mlsys.run(RECIPE, "evaluate", set=QUICK, store=moved, cluster=False)
        lines = [line for line in capsys.readouterr().out.splitlines() if line[:2].strip().isdigit()]
        assert [line.endswith("unchanged") for line in lines].count(False) == num_again
        assert again.bundle == done.bundle
        assert all(page.is_relative_to(moved) and page.is_file() for page in again.reports.values())
        assert (again.folder / "schema.yaml").is_file()


def test_a_run_shows_itself_on_a_line(done):
    assert re.fullmatch(r"FinishedRun\('wine': linear(, \w+ [\d.e-]+){3}\)", repr(done))


def test_the_same_recipe_as_a_file_and_as_an_object_is_the_same_run(done, tmp_path):
    (tmp_path / "wine.yaml").write_text(json.dumps(RECIPE))
    for recipe in (tmp_path / "wine.yaml", str(tmp_path / "wine.yaml"), mlsys.Recipe.model_validate(RECIPE)):
        again = mlsys.run(recipe, "train", set=QUICK, store=done.store, cluster=False, quiet=True)
        assert (again.recipe, again.bundle) == (done.recipe, done.bundle)
    assert mlsys.run(done.recipe, "train", store=done.store, cluster=False, quiet=True).bundle == done.bundle


def test_a_run_prints_its_lines_unless_it_shall_be_quiet(done, capsys):
    mlsys.run(done.recipe, "collect", store=done.store, cluster=False, quiet=True)
    assert capsys.readouterr().out == ""
    mlsys.run(done.recipe, "collect", store=done.store, cluster=False)
    assert capsys.readouterr().out.startswith("1 collect ")


def test_a_run_that_stopped_before_training_has_no_model(done):
    early = mlsys.run(done.recipe, "explore", store=done.store, cluster=False, quiet=True)
    assert (early.bundle, early.metrics, early.passed) == (None, {}, None)
    with pytest.raises(errors.BundleError) as caught:
        early.predictor()
    assert str(caught.value) == (
        "run 'wine'\n  got:      no model yet\n  expected: a trained one\n  hint:     until=\"train\" or later"
    )


def test_a_misspelt_step_names_the_one_that_was_meant(tmp_path):
    with pytest.raises(errors.RecipeError, match="did you mean 'evaluate'"):
        mlsys.run(RECIPE, "evalute", store=tmp_path, cluster=False)


@pytest.mark.parametrize(("until", "got"), [("deploy", "until='deploy'"), ("train", "tune.trials: auto")])
def test_what_needs_a_cluster_is_refused_without_one_before_anything_is_done(until, got, tmp_path):
    with pytest.raises(errors.RecipeError, match=got):
        mlsys.run(RECIPE, until, store=tmp_path / "store", cluster=False)
    assert not (tmp_path / "store").exists()


def test_a_misspelt_key_of_a_mapping_is_a_recipe_error(tmp_path):
    with pytest.raises(errors.RecipeError, match="did you mean 'train'"):
        mlsys.run({**RECIPE, "trian": {}}, store=tmp_path, cluster=False)
    with pytest.raises(errors.RecipeError, match=r"train\.round'"):
        mlsys.run(RECIPE, set={"train.round": 5}, store=tmp_path, cluster=False)


# init


def test_init_gives_the_text_and_writes_it_to_a_new_file_only(tmp_path):
    text = mlsys.init("sklearn://wine", "target", output=tmp_path / "wine.yaml")
    assert (tmp_path / "wine.yaml").read_text() == text == mlsys.init("sklearn://wine", "target")
    with pytest.raises(errors.RecipeError, match="a file is there"):
        mlsys.init("sklearn://wine", "target", output=tmp_path / "wine.yaml")


# load


def test_a_model_is_loaded_by_digest_folder_copy_name_version_and_alias(done, model, tmp_path):
    store = Store.open(done.store)
    entry = registry.register(store, "wine", model.bundle)
    registry.set_alias(store, "wine", "champion", entry, "test")
    folder = store.path("bundle", done.bundle)
    copy = shutil.copytree(folder, tmp_path / "model")
    names = [done.bundle, done.bundle[:8], folder, str(folder), copy, "wine", f"wine@{entry}", "wine@champion"]
    for name in names:
        assert mlsys.load(name, store=None if name is copy else done.store).bundle.digest == done.bundle


def test_a_changed_copy_is_refused(done, tmp_path):
    copy = shutil.copytree(Store.open(done.store).path("bundle", done.bundle), tmp_path / "model")
    (copy / "example.json").write_text("{}")
    with pytest.raises(errors.BundleError, match=r"example\.json"):
        mlsys.load(copy)


def test_what_is_no_model_is_named(done, tmp_path):
    with pytest.raises(errors.BundleError, match=r"no manifest\.json there"):
        mlsys.load(tmp_path)
    with pytest.raises(errors.BundleError, match="0 in the store"):
        mlsys.load("0123456789", store=done.store)
    with pytest.raises(errors.RegistryError, match="model 'wime'"):
        mlsys.load("wime@champion", store=done.store)
    with pytest.raises(errors.BundleError, match=r"no manifest\.json there"):
        mlsys.load("models/wine", store=done.store)


# predict


def expected(model):
    said = model.table(pa.Table.from_pandas(ROWS, preserve_index=False))
    return said.prediction.tolist(), said.probabilities


def test_a_misspelt_treatment_of_other_columns_is_refused(model):
    with pytest.raises(errors.RequestError, match="'refuse' or 'ignore'"):
        model.predict(ROWS, extra="ignroe")


def test_pandas_comes_back_with_its_index(model):
    answer = model.predict(ROWS.set_axis(["a", "b", "c"], axis=0))
    classes, probabilities = expected(model)
    assert isinstance(answer, pd.DataFrame)
    assert list(answer.columns) == ["prediction", "probability_0", "probability_1", "probability_2"]
    assert answer.index.tolist() == ["a", "b", "c"]
    assert answer["prediction"].tolist() == classes
    np.testing.assert_array_equal(answer.iloc[:, 1:].to_numpy(), probabilities)


def test_polars_and_arrow_come_back_as_they_went_in(model):
    classes, _ = expected(model)
    polars = model.predict(pl.from_pandas(ROWS))
    arrow = model.predict(pa.Table.from_pandas(ROWS, preserve_index=False))
    assert isinstance(polars, pl.DataFrame)
    assert isinstance(arrow, pa.Table)
    assert polars["prediction"].to_list() == arrow["prediction"].to_pylist() == classes
    assert polars.columns == arrow.column_names


def test_a_regression_has_one_column(tmp_path):
    recipe = {"name": "diabetes", "target": "target", "data": {"source": "sklearn://diabetes"}}
    done = mlsys.run(recipe, "train", set=QUICK, store=tmp_path, cluster=False, quiet=True)
    answer = done.predictor().predict(load_diabetes(as_frame=True).data.head(2))
    assert answer.columns.tolist() == ["prediction"]


def test_an_unknown_column_is_refused_unless_it_shall_be_ignored(model):
    with pytest.raises(errors.RequestError) as caught:
        model.predict(ROWS.rename(columns={"alcohol": "alcool"}))
    assert [(fault["field"], fault["got"]) for fault in caught.value.violations] == [
        ("alcool", "a column that the model does not know"),
        ("alcohol", "nothing"),
    ]
    assert "did you mean 'alcohol'" in str(caught.value.violations[0]["expected"])
    ignored = model.predict(ROWS.assign(target=1), extra="ignore")
    pd.testing.assert_frame_equal(ignored, model.predict(ROWS))


def test_a_value_that_does_not_fit_is_named_with_its_row(model):
    mixed = ROWS.astype({"ash": object})
    mixed.iloc[1, mixed.columns.get_loc("ash")] = "much"
    with pytest.raises(errors.RequestError) as caught:
        model.predict(mixed)
    assert [(fault["row"], fault["field"]) for fault in caught.value.violations] == [(1, "ash")]


def test_a_table_without_a_column_of_the_model_is_refused(model):
    with pytest.raises(errors.RequestError):
        model.predict(ROWS[[]].assign(y=1), extra="ignore")


def test_other_tables_and_doubled_names_are_refused(model):
    with pytest.raises(errors.RequestError, match=r"builtins\.dict"):
        model.predict({"alcohol": [1.0]})
    with pytest.raises(errors.RequestError, match="2 columns named 'ash'"):
        model.predict(pd.concat([ROWS, ROWS[["ash"]]], axis=1))
