"""Recipes of several labels from their columns to predictions, in this process."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

import mlsys
from mlsys import bundle, errors
from mlsys import label_sets as labels
from mlsys.registry import mlflow_model
from mlsys.store import Store, read_json

NAMES = ["toxic", "spam", "sports"]
QUICK = {
    "selection": {"families": ["lightgbm"]},
    "tune": {"trials": 0},
    "evaluate": {"bootstrap": 40},
    "budget": "none",
}
TRAIN = {"family": "lightgbm", "rounds": 40, "early_stopping": 5}


def frame(num_rows=900, seed=0):
    """Numbers and a category, and labels that follow from them: 1 and 0, yes and no, true and false."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(num_rows, 3))
    city = rng.choice(["a", "b", "c"], num_rows)

    def drawn(score):
        return rng.random(num_rows) < 1 / (1 + np.exp(-score))

    table = pd.DataFrame({"id": np.arange(num_rows), **dict(zip("pqr", X.T, strict=True)), "city": city})
    table["toxic"] = drawn(3 * X[:, 0] - 0.5).astype(int)
    table["spam"] = np.where(drawn(3 * X[:, 1] - 1 + (city == "a")), "Yes", "no")
    table["sports"] = drawn(-3 * X[:, 0] + X[:, 2] - 2)
    return table


def rows_of(folder, table, **changes):
    """A recipe on a table that is written into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "rows.parquet", index=False)
    data = {"source": str(folder / "rows.parquet"), "id": "id", **changes.pop("data", {})}
    return {"name": "tags", "target": NAMES, "data": data, "train": TRAIN, **QUICK, **changes}


def finished(folder, recipe, until="evaluate"):
    return mlsys.run(recipe, until, store=folder / "store", cluster=False, quiet=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    table = frame()
    done = finished(folder, rows_of(folder, table))
    return done, table, bundle.open(Store.open(folder / "store"), done.bundle)


def collected(done):
    return read_json(done.folder / "result.json")["collect"]


def test_metrics_and_the_table_of_labels_are_those_of_scikit_learn(made):
    done, _, opened = made
    split = Store.open(done.store).path("split", opened.provenance["split"])
    test = pa.concat_tables([pq.read_table(path) for path in sorted((split / "test").glob("*.parquet"))]).to_pandas()
    predicted = done.predictor().predict(test[["id", "p", "q", "r", "city"]], extra="ignore")
    has = np.stack([test["toxic"] == 1, test["spam"] == "Yes", test["sports"]], axis=1).astype(int)
    p = np.stack([predicted[f"probability_{name}"] for name in NAMES], axis=1)
    called = np.stack([predicted[f"prediction_{name}"] for name in NAMES], axis=1)
    assert (called == (p >= np.array(opened.threshold))).all()
    assert done.metrics["hamming_loss"] == pytest.approx(sk.hamming_loss(has, called))
    assert done.metrics["subset_accuracy"] == pytest.approx(sk.accuracy_score(has, called))
    assert done.metrics["macro_roc_auc"] == pytest.approx(sk.roc_auc_score(has, p, average="macro"))
    assert done.metrics["macro_roc_auc"] > 0.8
    assert done.metrics["mean_log_loss"] == pytest.approx(
        np.mean([sk.log_loss(h, q) for h, q in zip(has.T, p.T, strict=True)])
    )
    assert all(low <= done.metrics[name] <= high for name, (low, high) in done.intervals.items())
    sets = [[name for name, is_called in zip(NAMES, row, strict=True) if is_called] for row in called]
    assert [json.loads(text) for text in predicted["prediction"]] == sets
    page = done.reports["evaluate"].read_text()
    assert all(name in page for name in NAMES)
    assert "Each label as a task of its own" in page


def test_the_dummy_says_the_rate_of_each_label(made):
    done, _, opened = made
    split = Store.open(done.store).path("split", opened.provenance["split"])
    parts = {
        part: pd.concat(map(pd.read_parquet, sorted((split / part).glob("*.parquet")))) for part in ("train", "test")
    }
    losses = []
    for name, yes in (("toxic", 1), ("spam", "Yes"), ("sports", True)):
        rate, truth = (parts["train"][name] == yes).mean(), parts["test"][name] == yes
        losses.append(sk.log_loss(truth, np.full(len(truth), rate)))
    (stored,) = done.store.glob("objects/evaluation/*/value.json")
    evaluation = read_json(stored)
    assert evaluation["metrics"]["mean_log_loss"]["dummy"] == pytest.approx(np.mean(losses))


def test_labels_have_the_models_of_binary_recipes(tmp_path):
    table = frame(600, seed=2)
    table["part"] = np.array(["train", "validation", "test"])[np.arange(600) % 10 // 4]
    how = {"split": {"column": "part", "folds": 2}}
    two = finished(
        tmp_path / "two", rows_of(tmp_path / "two", table.drop(columns="spam"), target=["toxic", "sports"], **how)
    )
    folder = bundle.open(Store.open(two.store), two.bundle).folder / "model"
    for number, name in enumerate(("toxic", "sports")):
        other = ({"toxic", "sports"} - {name}).pop()
        alone = rows_of(tmp_path / name, table.drop(columns=["spam", other]), target=name, **how)
        done = finished(tmp_path / name, alone)
        own = bundle.open(Store.open(done.store), done.bundle).folder / "model"
        files = sorted(path.name for path in own.iterdir())
        assert files == sorted(path.name for path in (folder / f"label-{number}").iterdir())
        assert all((own / file).read_bytes() == (folder / f"label-{number}" / file).read_bytes() for file in files)


def test_a_row_without_some_label_is_unlabelled_and_told(tmp_path):
    table = frame(400)
    table["spam"] = table["spam"].where(table.index % 40 > 0)
    done = finished(tmp_path, rows_of(tmp_path, table), "collect")
    result = collected(done)
    assert result["num_rows"]["unlabelled"] == 10
    assert "rows without a value of some label are set aside as unlabelled: spam in 10" in result["messages"]


def test_a_label_of_one_value_is_told_and_answered_with_its_rate(tmp_path):
    table = frame(400).assign(never=0)
    done = finished(tmp_path, rows_of(tmp_path, table, target=[*NAMES, "never"]), "train")
    assert any(line.startswith("label 'never': 0 of 400 rows have it") for line in collected(done)["messages"])
    predicted = done.predictor().predict(table[["p", "q", "r", "city"]].head(5))
    assert predicted["probability_never"].tolist() == [0.0] * 5
    opened = bundle.open(Store.open(done.store), done.bundle)
    assert opened.provenance["constant_labels"] == ["never"]


def test_a_column_of_lists_is_the_same_task(tmp_path):
    table = frame(500, seed=3)
    yes = np.stack([table["toxic"] == 1, table["spam"] == "Yes", table["sports"]], axis=1)
    table["tags"] = [[name for name, there in zip(NAMES, row, strict=True) if there] for row in yes]
    table["tags"] = [["seldom"], *table["tags"].tolist()[1:]]
    recipe = rows_of(tmp_path, table.drop(columns=NAMES), target="tags", task="multilabel")
    done = finished(tmp_path, recipe, "train")
    result = collected(done)
    assert result["task"]["labels"] == sorted(NAMES)
    assert any("seldom" in line for line in result["messages"])
    assert {f"probability_{name}" for name in NAMES} < set(
        done.predictor().predict(table[["p", "q", "r", "city"]]).columns
    )


def test_a_category_of_many_values_is_counted_for_there_is_no_single_mean(tmp_path):
    table = frame(600).assign(shop=lambda rows: [f"s{number % 290}" for number in rows["id"]])
    done = finished(tmp_path, rows_of(tmp_path, table), "train")
    program = bundle.open(Store.open(done.store), done.bundle).program
    assert "m" not in program.types
    recipe = rows_of(tmp_path, table, features={"columns": {"shop": "target"}})
    with pytest.raises(errors.FeatureError, match="several labels"):
        finished(tmp_path, recipe, "train")


def test_an_mlflow_model_answers_with_every_label(made, tmp_path):
    import mlflow

    done, table, opened = made
    mlflow_model.write(opened, tmp_path / "model")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    rows = table[["id", "p", "q", "r", "city"]].head(7)
    pd.testing.assert_frame_equal(loaded.predict(rows), done.predictor().predict(rows, extra="ignore"))
    named = [column.name for column in loaded.metadata.signature.outputs.inputs]
    assert named == ["prediction", *(f"probability_{n}" for n in NAMES), *(f"prediction_{n}" for n in NAMES)]


WRONG = {
    "a column that is missing": ({"target": ["toxic", "spma"]}, errors.RecipeError, "spma", "collect"),
    "the same column twice": ({"target": ["toxic", "toxic"]}, errors.RecipeError, "twice", "collect"),
    "one column": ({"target": ["toxic"]}, errors.RecipeError, "2 to 50", "collect"),
    "another kind of task": ({"task": "binary"}, errors.RecipeError, "multilabel", "collect"),
    "a positive class": ({"positive": 1}, errors.RecipeError, "positive", "collect"),
    "a loss of numbers": ({"loss": "poisson"}, errors.RecipeError, "loss", "collect"),
    "a label as a feature": ({"features": {"columns": {"spam": "codes"}}}, errors.RecipeError, "label", "collect"),
    "a label in a derived feature": (
        {"features": {"derive": {"x": "toxic + 1"}}},
        errors.RecipeError,
        "label",
        "collect",
    ),
    "a label as the id": ({"data": {"id": "toxic"}}, errors.RecipeError, "label", "collect"),
    "a label of numbers": ({"target": ["toxic", "p"]}, errors.TargetError, "label 'p'", "collect"),
    "a label of three values": ({"target": ["toxic", "city"]}, errors.TargetError, "3 values", "collect"),
    "a label without values": ({"target": ["toxic", "empty"]}, errors.TargetError, "empty", "collect"),
    "labels that all have one value": ({"target": ["never", "always"]}, errors.TargetError, "one value", "collect"),
    "a metric of classes": ({"selection": {"metric": "roc_auc"}}, errors.RecipeError, "multilabel", "selection"),
    "no lists": ({"target": "toxic", "task": "multilabel"}, errors.TargetError, "list", "collect"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_a_clear_error(name, tmp_path):
    changes, error, words, until = WRONG[name]
    table = frame(300).assign(never=0, always=1, empty=pa.nulls(300).to_pandas())
    table["empty"] = table["empty"].astype("string")
    recipe = rows_of(tmp_path, table, **changes)
    with pytest.raises(error, match=words) as raised:
        finished(tmp_path, recipe, until)
    assert "expected:" in str(raised.value)


def test_sets_beyond_the_frequent_ones_are_one_class_of_the_statistics(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"l{k}" for k in range(7)]
    has = rng.random((700, 7)) < 0.4
    table = pd.DataFrame({"id": np.arange(700), "x": rng.normal(size=700), **dict(zip(names, has.T, strict=True))})
    done = finished(
        tmp_path, rows_of(tmp_path, table, target=names, selection={"families": ["linear"]}, train={}), "evaluate"
    )
    task = collected(done)["task"]
    assert len(task["classes"]) == 21
    assert task["classes"][-1] == labels.OTHER_SETS
    assert task["target"] == "l0, l1, l2 and 4 more labels"
    assert "Traceback" not in done.reports["explore"].read_text()
