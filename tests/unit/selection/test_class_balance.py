"""A rare class, from the recipe to the bundle: true probabilities, a measured choice, and refusals."""

import numpy as np
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.predict import Predictor
from modelled import collected

FAST = {"split": {"folds": 3}, "train": {"rounds": 40, "early_stopping": 5}}


def rare(num_rows=3_000, seed=0, classes=2):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, num_rows))
    score = np.stack([np.zeros(num_rows), a - 3.2, b - 2.5][:classes], axis=1)
    p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    y = (rng.random((num_rows, 1)) > p.cumsum(axis=1)).sum(axis=1)
    return pa.table({"a": a, "b": b, "w": rng.integers(1, 4, num_rows), "y": np.array(["no", "yes", "maybe"])[y]})


def balanced(folder, wish, families, table=None, **train):
    settings = {**FAST, "train": {**FAST["train"], "balance": wish, **train}, "selection": {"families": families}}
    return collected(folder, rare() if table is None else table, task=train.pop("task", "auto"), **settings)


@pytest.mark.parametrize("wish", ["weights", {"sample": 4}], ids=str)
@pytest.mark.parametrize("family", ["dummy", "linear", "forest", "xgboost", "lightgbm", "ensemble"])
def test_probabilities_of_a_bundle_are_those_of_the_true_shares_a_row_alone_as_among_others(tmp_path, family, wish):
    rows = balanced(tmp_path, wish, [family], family=family)
    made = rows.fit(rows.ranking())
    assert made.provenance["balance"]["kind"] == ("weights" if wish == "weights" else "sample")
    predictor, test = Predictor(made), rows.parts.table("test")
    p = predictor.table(test).arrow()["probability_yes"].to_numpy()
    share = np.mean(rows.parts.table("train")["y"].to_numpy() == "yes")
    exact = family in ("dummy", "linear")  # trees have errors of their own, which no correction takes away
    assert p.mean() == pytest.approx(share, rel=0.2 if exact else 0.5)
    records = test.select(["a", "b", "w"]).slice(0, 20).to_pylist()
    alone = np.concatenate([predictor.rows([record]).probabilities[:, 1] for record in records])
    assert alone.tobytes() == p[:20].tobytes()


def test_several_classes_beside_weights_of_rows_are_corrected(tmp_path):
    rows = balanced(tmp_path, "weights", ["linear"], rare(6_000, classes=3), family="linear", weight="w")
    made = rows.fit(rows.ranking())
    train, predictor = rows.parts.table("train"), Predictor(made)
    probabilities = predictor.table(train).probabilities
    y, w = train["y"].to_numpy(), train["w"].to_numpy()
    shares = [np.average(y == name, weights=w) for name in made.task.class_names]
    np.testing.assert_allclose(np.average(probabilities, axis=0, weights=w), shares, atol=0.01)
    sums = [w[y == name].sum() for name in made.task.class_names]
    factors = made.provenance["balance"]["factors"]
    np.testing.assert_allclose(np.multiply(factors, sums), np.sum(sums) / 3, rtol=1e-9)


def test_a_sample_serves_families_that_take_no_weights(tmp_path):
    rows = balanced(tmp_path, {"sample": 2}, ["kernel"], family="kernel")
    assert rows.fit(rows.ranking()).provenance["balance"]["factors"][0] < 0.2


def test_rows_are_taken_as_they_are_by_default(tmp_path):
    rows = balanced(tmp_path, "none", ["linear"], family="linear")
    made = rows.fit(rows.ranking())
    assert "balance" not in made.provenance
    assert not (made.folder / "model" / "prior.json").exists()


def test_auto_compares_both_where_a_class_is_rare_and_decides_by_the_metric(tmp_path):
    rows, told = balanced(tmp_path, "auto", ["linear", "kernel"]), []
    ranking = rows.ranking(told.append)
    assert told[0] == "a class is rare; compared with weighted classes, too (train.balance: none or weights settles it)"
    linear = {entry.form: entry.scores[:2] for entry in ranking.entries if entry.family == "linear"}
    assert set(linear) == {"", "weighted classes"}
    means = {form: np.mean([score for score in scores if score is not None]) for form, scores in linear.items()}
    better = max(means, key=means.get)
    assert len(next(e.scores for e in ranking.entries if (e.family, e.form) == ("linear", better))) == 3
    if ranking.family == "linear":
        assert ranking.decided == ({} if better == "" else {"train.balance": "weights"})
    assert [entry.form for entry in ranking.entries if entry.family == "kernel"] == [""]


def test_auto_leaves_classes_of_like_size_alone(tmp_path):
    rng = np.random.default_rng(1)
    table = pa.table({"a": rng.normal(size=600), "b": rng.normal(size=600), "y": rng.integers(0, 2, 600) == 1})
    ranking = balanced(tmp_path, "auto", ["linear"], table).ranking()
    assert {entry.form for entry in ranking.entries} == {""}


@pytest.mark.parametrize(("wish", "said"), [("weights", "weights"), ({"sample": 3}, "sample: 3"), ("auto", "auto")])
def test_a_number_has_no_classes_to_balance(tmp_path, wish, said):
    rng = np.random.default_rng(1)
    rows = balanced(tmp_path, wish, ["linear"], pa.table({"a": rng.normal(size=600), "y": rng.normal(size=600)}))
    with pytest.raises(errors.RecipeError) as caught:
        rows.ranking()
    assert str(caught.value) == (
        "recipe: train.balance\n"
        f"  got:      {said} for a regression task\n"
        "  expected: none: a number has no classes\n"
        "  hint:     leave it out, or set task: binary"
    )


def test_a_family_without_weights_is_refused_where_classes_are_weighted(tmp_path):
    with pytest.raises(errors.RecipeError, match=r"(?s)family .kernel.*got: +train\.balance: weights"):
        balanced(tmp_path, "weights", ["kernel"]).ranking()


@pytest.mark.parametrize("wish", ["weight", {"sample": 0.5}, {"sample": 3, "x": 1}, {}, 7], ids=str)
def test_a_recipe_with_another_value_is_refused(wish):
    from mlsys import recipe

    with pytest.raises(errors.RecipeError, match=r"train\.balance"):
        recipe.parse(f"name: a\ntarget: y\ndata: {{source: x.csv}}\ntrain: {{balance: {wish!r}}}\n")
