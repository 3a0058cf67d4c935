"""Weights, exposure and directions of the recipe from collection to predictions."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from mlsys import errors, models
from mlsys.explore import report
from mlsys.predict import Predictor
from mlsys.schema import Role
from modelled import collected

FAST = {"split": {"folds": 3}, "task": "regression"}
TRAIN = {"rounds": 40, "early_stopping": 5}


def policies(num_rows=1_500, seed=1):
    """Claims of policies that ran for different times, and how sure one is of each row."""
    rng = np.random.default_rng(seed)
    age, city = rng.uniform(18, 80, num_rows), rng.choice(["a", "b", "c"], num_rows)
    years = rng.uniform(0.1, 3.0, num_rows)
    claims = rng.poisson(years * np.exp(-0.02 * age + (city == "b")))
    return pa.table({"age": age, "city": city, "years": years, "sure": rng.integers(0, 4, num_rows), "y": claims})


def rows(tmp_path, table=None, *, train=None, **sections):
    settings = {**TRAIN, **(train or {})}
    return collected(tmp_path, policies() if table is None else table, train=settings, **{**FAST, **sections})


def test_weights_count_in_the_scores_of_selection_and_evaluation(tmp_path):
    data = rows(tmp_path, train={"weight": "sure"}, data={"ignore": ["years"]})
    assert "sure" not in [column.name for column in data.parts.schema.features]
    ranking = data.ranking()
    assert "kernel" not in {entry.family for entry in ranking.entries}
    made = data.fit(ranking, "linear")
    assert "sure" not in made.schema.names
    evaluation, test = data.evaluation(made), data.parts.table("test")
    predicted = Predictor(made).table(test.select(["age", "city"])).prediction
    y, weight = np.asarray(test["y"], np.float64), np.asarray(test["sure"], np.float64)
    measured = {name: metric["value"] for name, metric in evaluation["metrics"].items()}
    assert measured["rmse"] == pytest.approx(sk.root_mean_squared_error(y, predicted, sample_weight=weight), rel=1e-12)
    assert measured["mae"] == pytest.approx(sk.mean_absolute_error(y, predicted, sample_weight=weight), rel=1e-12)
    assert measured["r2"] == pytest.approx(sk.r2_score(y, predicted, sample_weight=weight), rel=1e-9)
    train = data.parts.table("train")
    mean = np.average(np.asarray(train["y"]), weights=np.asarray(train["sure"]))
    constant = sk.root_mean_squared_error(y, np.full(len(y), mean), sample_weight=weight)
    assert evaluation["metrics"]["rmse"]["dummy"] == pytest.approx(constant, rel=1e-12)


def test_a_model_of_weights_that_are_all_one_predicts_as_without(tmp_path):
    table = policies().append_column("one", pa.array(np.ones(1_500)))
    plain = rows(tmp_path / "plain", table, data={"ignore": ["one"]})
    ones = rows(tmp_path / "ones", table, train={"weight": "one"})
    for family in ("dummy", "linear", "lightgbm", "xgboost"):
        predicted = []
        for data in (plain, ones):
            made = data.fit(_NoDecision(), family)
            predicted.append(Predictor(made).table(table.drop_columns(["y", "one"])).prediction)
        np.testing.assert_allclose(predicted[0], predicted[1], rtol=1e-5)


class _NoDecision:
    """In place of a ranking: nothing was decided."""

    decided: dict = {}  # noqa: RUF012


def test_predictions_are_for_the_exposure_of_their_row(tmp_path):
    data = rows(tmp_path, loss="poisson", train={"exposure": "years"}, data={"ignore": ["sure"]})
    ranking = data.ranking()
    assert ranking.beats_dummy
    made = data.fit(ranking)
    predictor, test = Predictor(made), data.parts.table("test")
    given = test.select(["age", "city", "years"])
    totals = predictor.table(given).prediction
    units = predictor.table(given.set_column(2, "years", pa.array(np.ones(test.num_rows)))).prediction
    np.testing.assert_allclose(totals, units * np.asarray(test["years"]), rtol=1e-12)
    evaluation, y = data.evaluation(made), np.asarray(test["y"], np.float64)
    measured = evaluation["metrics"]["poisson_deviance"]
    assert measured["value"] == pytest.approx(sk.mean_poisson_deviance(y, totals), rel=1e-12)
    train = data.parts.table("train")
    rate = np.asarray(train["y"]).sum() / np.asarray(train["years"]).sum()
    constant = sk.mean_poisson_deviance(y, rate * np.asarray(test["years"]))
    assert measured["dummy"] == pytest.approx(constant, rel=1e-12)
    assert evaluation["verdict"]["passed"], evaluation["verdict"]
    assert totals.sum() == pytest.approx(y.sum(), rel=0.2)


def test_a_request_carries_its_exposure_in_tables_and_in_records_alike(tmp_path):
    data = rows(tmp_path, loss="poisson", train={"exposure": "years"}, data={"ignore": ["sure"]})
    predictor = Predictor(data.fit(_NoDecision(), "linear"))
    record = {"age": 40.0, "city": "b", "years": 2.5}
    assert predictor.bundle.example.keys() == record.keys()
    by_record, by_table = predictor.rows([record]), predictor.table(pa.table({k: [v] for k, v in record.items()}))
    assert by_record.prediction.tobytes() == by_table.prediction.tobytes()
    assert predictor.rows([{**record, "years": 0}]).prediction.tolist() == [0.0]
    for broken in ({**record, "years": -1.0}, {**record, "years": None}, {"age": 40.0, "city": "b"}):
        with pytest.raises(errors.RequestError, match="years"):
            predictor.rows([broken])


UNLABELLED = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 0.0, 2.0, None]})

REFUSED = [
    ({"weight": "w"}, [1.0, -2.0, 0.5, -1.0], """\
collect: train.weight: column 'w'
  got:      -2 in 1 of 3 rows with a label
  expected: numbers of 0 and above
  hint:     data.derive: {w: ...} can correct it; 0 leaves a row out"""),
    ({"weight": "w"}, [1.0, None, -1.0, 1.0], """\
collect: train.weight: column 'w'
  got:      -1 in 1 and none in 1 of 3 rows with a label
  expected: numbers of 0 and above
  hint:     data.derive: {w: ...} can correct it; 0 leaves a row out"""),
    ({"weight": "w"}, [0.0, 0.0, 0.0, 7.0], """\
collect: train.weight: column 'w'
  got:      0 in all 3 rows with a label
  expected: rows that count
  hint:     leave train.weight out: all count alike then"""),
    ({"exposure": "w"}, [1.0, 0.0, -3.0, 1.0], """\
collect: train.exposure: column 'w'
  got:      0 in 2 of 3 rows with a label
  expected: numbers above 0
  hint:     data.derive: {w: ...} can correct it, or make the target of such rows null"""),
    ({"exposure": "w"}, [1.0, None, 1.0, None], """\
collect: train.exposure: column 'w'
  got:      none in 1 of 3 rows with a label
  expected: numbers above 0
  hint:     data.derive: {w: ...} can correct it, or make the target of such rows null"""),
]  # fmt: skip


@pytest.mark.parametrize(("train", "values", "message"), REFUSED)
def test_values_that_cannot_be_are_refused_with_the_number_of_rows(tmp_path, train, values, message):
    table = UNLABELLED.append_column("w", pa.array(values))
    with pytest.raises(errors.TargetError) as refused:
        rows(tmp_path, table, loss="poisson", train=train)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"weight": "sur"}}, r"'train.weight': no column 'sur' in the table\n.*\n.*\n.*did you mean 'sure'"),
        ({"train": {"weight": "city"}}, r"'train.weight'\n  got: +column 'city': categorical\n.*a column of numbers"),
        ({"train": {"weight": "y"}}, r"'train.weight'\n  got: +column 'y', the target: numeric"),
        ({"train": {"exposure": "years"}}, r"'train.exposure'\n  got: +loss: auto\n  expected: loss: poisson, tweedie"),
        (
            {"train": {"exposure": "years"}, "loss": {"quantile": 0.5}},
            r"'train.exposure'\n  got: +loss: {quantile: 0.5}",
        ),
    ],
)
def test_columns_that_cannot_say_how_rows_count_are_refused(tmp_path, sections, message):
    with pytest.raises(errors.RecipeError, match=message):
        rows(tmp_path, **sections)


def test_folds_in_which_no_row_counts_are_refused(tmp_path):
    table = policies().set_column(3, "sure", pa.array(np.arange(1_500) == 3, pa.int64()))
    data = rows(tmp_path, table, train={"weight": "sure"}, selection={"families": ["dummy"]})
    with pytest.raises(errors.TargetError, match=r"train: weights 'sure'\n  got: +0 in all [\d,]+ rows to fit on"):
        data.ranking()


def test_predictions_never_fall_along_a_column_from_the_recipe_to_the_request(tmp_path):
    monotone = {"age": "decreasing", "years": "increasing"}
    data = rows(tmp_path, train={"monotone": monotone}, data={"ignore": ["sure"]})
    told = []
    ranking = data.ranking(told.append)
    unable = sorted(name for name, family in models.FAMILIES.items() if "squared" not in family.monotone)
    assert {"decision_tree", "extra_trees", "forest", "kernel", "linear"} <= set(unable)
    assert told[0] == f"left out, for lack of train.monotone for regression: {', '.join(unable)}"
    assert {entry.family for entry in ranking.entries} == {"dummy", "lightgbm", "xgboost"}
    for family in ("lightgbm", "xgboost"):
        predictor = Predictor(data.fit(ranking, family))
        for city in ("a", "b", "c"):
            ages = pa.table({"age": np.linspace(10, 90, 200), "city": [city] * 200, "years": [1.5] * 200})
            years = pa.table({"age": [33.0] * 200, "city": [city] * 200, "years": np.linspace(0, 4, 200)})
            assert (np.diff(predictor.table(ages).prediction) <= 0).all()
            assert (np.diff(predictor.table(years).prediction) >= 0).all()


@pytest.mark.parametrize(
    ("monotone", "message"),
    [
        ({"agee": "increasing"}, r"'agee'\n  got: +no feature of that column\n.*\n.*did you mean 'age'"),
        ({"city": "increasing"}, r"'city'\n  got: +a column that becomes: codes\n.*\n.*{city: numeric} makes it"),
    ],
)
def test_a_column_without_a_direction_is_refused(tmp_path, monotone, message):
    data = rows(tmp_path, train={"monotone": monotone})
    with pytest.raises(errors.RecipeError, match=f"train.monotone {message}"):
        data.ranking()


def test_every_role_of_a_column_has_words_in_the_report_of_exploration():
    assert set(report.ROLES) == {role.value for role in Role} - {"feature", "target"}
