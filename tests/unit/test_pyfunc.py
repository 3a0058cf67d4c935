"""A bundle as an MLflow model: what MLflow's own loader makes of the folder."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine

import mlsys
from mlsys import bundle
from mlsys.registry import mlflow_model
from mlsys.store import Store

QUICK = {"selection.families": ["linear"], "tune.trials": 0, "split.folds": 2, "evaluate.bootstrap": 20}


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """A trained bundle: 13 numbers, one of them with gaps, and three classes."""
    folder = tmp_path_factory.mktemp("wine")
    table = load_wine(as_frame=True).frame.assign(origin=lambda frame: np.where(frame["hue"] > 1, "hill", "river"))
    table.loc[::9, "ash"] = None
    table.to_csv(folder / "wine.csv", index=False)
    recipe = {"name": "wine", "target": "target", "data": {"source": str(folder / "wine.csv")}}
    done = mlsys.run(recipe, "train", set=QUICK, store=folder / "store", cluster=False, quiet=True)
    return bundle.open(Store.open(folder / "store"), done.bundle), table.drop(columns="target")


@pytest.fixture(scope="module")
def loaded(wine, tmp_path_factory):
    import mlflow

    folder = tmp_path_factory.mktemp("model") / "wine"
    mlflow_model.write(wine[0], folder)
    return mlflow.pyfunc.load_model(str(folder))


def test_mlflow_predicts_what_the_bundle_predicts(wine, loaded):
    opened, frame = wine
    pd.testing.assert_frame_equal(loaded.predict(frame), mlsys.load(opened.folder).predict(frame))


def test_types_that_mlflow_would_not_convert_reach_the_model(wine, loaded):
    frame = wine[1].head(4)
    whole = frame.assign(proline=frame["proline"].astype("int64"), origin=frame["origin"].astype("category"))
    pd.testing.assert_frame_equal(loaded.predict(whole), loaded.predict(frame))


def test_a_column_that_may_be_null_may_be_absent_and_another_may_not(wine, loaded):
    frame = wine[1].head(3)
    absent = loaded.predict(frame.drop(columns="ash"))
    pd.testing.assert_frame_equal(absent, loaded.predict(frame.assign(ash=np.nan)))
    with pytest.raises(Exception, match="missing inputs \\['hue'\\]"):
        loaded.predict(frame.drop(columns="hue"))


def test_columns_that_the_model_does_not_know_are_passed_over(wine, loaded):
    frame = wine[1].head(3)
    pd.testing.assert_frame_equal(loaded.predict(frame.assign(note="x")), loaded.predict(frame))


def test_the_model_states_signature_example_and_digest(wine, loaded):
    opened, frame = wine
    signature = loaded.metadata.signature
    assert signature.inputs.input_names() == list(frame.columns)
    assert signature.outputs.input_names() == ["prediction", "probability_0", "probability_1", "probability_2"]
    assert [column.name for column in signature.inputs if not column.required] == ["ash"]
    assert loaded.metadata.metadata["mlsys"]["digest"] == opened.digest
    assert loaded.input_example.to_dict("records") == [opened.example]


def test_a_changed_file_of_the_model_is_refused(wine, tmp_path):
    import mlflow

    mlflow_model.write(wine[0], tmp_path / "wine")
    file = tmp_path / "wine" / "bundle" / "program.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(mlsys.errors.BundleError, match=r"program\.json"):
        mlflow.pyfunc.load_model(str(tmp_path / "wine"))
