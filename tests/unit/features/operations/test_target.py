"""Target encoding: what it is, against scikit-learn and by hand; and that no training row sees its own label."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import TargetEncoder

from mlsys import errors, models, recipe
from mlsys.features import plan, program, training
from mlsys.features.operations.target import credibility
from mlsys.models.matrix import Matrix
from mlsys.schema import FOLD, Column, Kind, Role, Schema, Task
from mlsys.statistics import TrainStatistics

CLASSES = {"binary": ("no", "yes"), "multiclass": ("x", "y", "z"), "regression": ()}
FOLDS = 4


def schema_of(kind):
    type_ = "string" if CLASSES[kind] else "double"
    target = Column(name="y", type=type_, kind=Kind.CATEGORICAL if CLASSES[kind] else Kind.NUMERIC, role=Role.TARGET)
    return Schema(columns=(Column(name="a", type="string", kind=Kind.CATEGORICAL), target))


def task_of(kind):
    return Task(kind=kind, target="y", classes=CLASSES[kind])


def rows_of(kind, categories, signal, seed=0):
    """Rows whose target depends on the number `signal` of the row."""
    rng = np.random.default_rng(seed)
    value = signal + rng.normal(0, 1, len(categories))
    y = np.array(CLASSES[kind])[np.digitize(value, [0, 1][: len(CLASSES[kind]) - 1])] if CLASSES[kind] else value
    fold = rng.integers(0, FOLDS, len(categories))
    return pa.table({"a": pa.array(categories, pa.string()), "y": pa.array(y), FOLD: pa.array(fold, pa.int8())})


def chosen(kind, statistics, encoding="codes", **options):
    settings = recipe.FeaturesSection(columns={"a": {"operation": "target", **options}})
    return plan.choose(schema_of(kind), statistics.whole(), settings, encoding)


def scan(kind, table):
    return TrainStatistics.of_table(table, schema_of(kind), task_of(kind))


def towns(num_rows, seed=0):
    rng = np.random.default_rng(seed)
    at = np.minimum(rng.geometric(0.1, num_rows), 40)
    names = np.where(rng.random(num_rows) < 0.05, None, np.array([f"town {i}" for i in range(41)], object)[at])
    return names.tolist(), np.sin(at)


@pytest.mark.parametrize("kind", list(CLASSES))
@pytest.mark.parametrize("smoothing", [0.0, 5.0])
def test_with_a_stated_smoothing_it_is_scikit_learns(kind, smoothing):
    names, signal = towns(500)
    table = rows_of(kind, names, signal)
    made = program.fit(chosen(kind, scan(kind, table), smoothing=smoothing), scan(kind, table).whole())
    column = np.array(["" if name is None else name for name in names])[:, np.newaxis]
    kinds = {"regression": "continuous"}
    encoder = TargetEncoder(target_type=kinds.get(kind, kind), smooth=smoothing, cv=2).fit(
        column, table["y"].to_numpy()
    )
    expected = encoder.transform(np.vstack([column, [["never seen"]]]))
    X = made.transform(pa.table({"a": [*names, "never seen"]}))
    np.testing.assert_allclose(X, expected, rtol=1e-6)


def test_its_columns_are_named_for_what_they_are_the_mean_of():
    names, signal = towns(200)
    for kind, expected in {
        "binary": ["a: rate of y=yes"],
        "multiclass": ["a: rate of y=x", "a: rate of y=y", "a: rate of y=z"],
        "regression": ["a: mean of y"],
    }.items():
        statistics = scan(kind, rows_of(kind, names, signal))
        assert program.fit(chosen(kind, statistics), statistics.whole()).names == expected


def test_the_smoothing_is_estimated_by_what_chance_alone_would_give():
    rng = np.random.default_rng(3)
    n = rng.integers(2, 30, 3_000)
    groups = [rng.normal(mean, 3.0, size) for mean, size in zip(rng.normal(5, 0.5, len(n)), n, strict=True)]
    found = credibility(n * 1.0, np.array([g.sum() for g in groups]), np.array([(g**2).sum() for g in groups]))
    assert found == pytest.approx(3.0**2 / 0.5**2, rel=0.1)


def test_the_estimated_smoothing_is_nearer_to_the_truth_than_stated_ones():
    rng = np.random.default_rng(5)
    truth = {f"town {i}": rng.normal(0, 0.4) for i in range(400)}
    names = rng.choice(list(truth), 3_000)
    table = rows_of("regression", names.tolist(), np.array([truth[name] for name in names]))
    statistics = scan("regression", table)

    def error(**options):
        made = program.fit(chosen("regression", statistics, **options), statistics.whole())
        X = made.transform(pa.table({"a": list(truth)}))[:, 0]
        return np.mean((X - list(truth.values())) ** 2)

    assert error() < min(error(smoothing=m) for m in (0.0, 1.0, 30.0, 100.0))


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "", None]), st.integers(0, FOLDS - 1), st.booleans()),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([{}, {"smoothing": 2.0}, {"min_rows": 3}]),
)
def test_a_training_row_is_encoded_as_if_its_fold_had_never_been_there(rows, options):
    names, folds, truth = zip(*rows, strict=True)
    y = pa.array(np.where(truth, "yes", "no"))
    table = pa.table({"a": pa.array(names, pa.string()), "y": y, FOLD: pa.array(folds, pa.int8())})
    table = pa.concat_tables(
        [
            table,
            pa.table(
                {"a": pa.array(["a", "b"]), "y": ["yes", "no"], FOLD: pa.array([0, 1], pa.int8())}, schema=table.schema
            ),
        ]
    )
    statistics = scan("binary", table)
    choice = chosen("binary", statistics, **options)
    X = training.fit(choice, statistics).transform(table)
    for k in statistics.folds:
        own = np.asarray(table[FOLD]) == k
        others = program.fit(choice, statistics.of(set(statistics.folds) - {k}))
        held_out = table.filter(pa.array(own)).drop_columns([FOLD])
        assert X[own].tobytes() == others.transform(held_out).tobytes()


def test_rows_of_other_folds_and_parts_get_the_means_of_all_folds_that_were_fitted_on():
    names, signal = towns(400)
    table = rows_of("binary", names, signal)
    statistics = scan("binary", table)
    fitted = training.fit(chosen("binary", statistics), statistics.only([0, 1]))
    fold = np.asarray(table[FOLD])
    X, whole = fitted.transform(table), fitted.program.transform(table.drop_columns([FOLD]))
    assert (X[fold >= 2] == whole[fold >= 2]).all()
    assert (X[fold < 2] != whole[fold < 2]).any()
    outside = table.set_column(2, FOLD, pa.array([-1] * len(table), pa.int8()))
    assert (fitted.transform(outside) == whole).all()


def test_a_fold_without_others_gets_one_number_that_teaches_nothing():
    names, signal = towns(400)
    table = rows_of("binary", names, signal)
    statistics = scan("binary", table)
    fitted = training.fit(chosen("binary", statistics, smoothing=1.0), statistics.only([2]))
    fold = np.asarray(table[FOLD])
    X = fitted.transform(table)
    assert len(np.unique(X[fold == 2])) == 1
    assert len(np.unique(X[fold != 2])) > 10


def noise(num_rows=6_000, seed=1):
    rng = np.random.default_rng(seed)
    names = [f"n{i}" for i in rng.integers(0, 1_500, num_rows)]
    return rows_of("binary", names, np.zeros(num_rows), seed), np.zeros(num_rows)


@pytest.mark.parametrize("options", [{}, {"smoothing": 1.0}], ids=["estimated", "stated"])
@pytest.mark.parametrize("family", ["xgboost", "linear"])
def test_a_category_of_pure_noise_teaches_nothing(family, options):
    table, _ = noise()
    learned, new = table.slice(0, 4_000), table.slice(4_000)
    statistics = scan("binary", learned)
    encoding = models.family(family).encoding
    fitted = training.fit(chosen("binary", statistics, encoding, **options), statistics)
    X = fitted.transform(learned)
    y = (learned["y"].to_numpy() == "yes").astype(float)
    module = models.family(family)
    params = module.params(rounds=40) if family == "xgboost" else module.params()
    names, types = tuple(fitted.program.names), tuple(fitted.program.types)
    model = module.fit(Matrix(X, y, names, types), None, task_of("binary"), params, seed=0, threads=1)
    truth = new["y"].to_numpy() == "yes"
    unseen = module.predict(model, fitted.program.transform(new.select(["a"])))[:, 1]
    assert roc_auc_score(truth, unseen) == pytest.approx(0.5, abs=0.04)  # 3 standard errors of 2,000 rows
    in_sample = module.predict(model, X)[:, 1]
    assert roc_auc_score(y, in_sample) < 0.65


def test_encodings_of_noise_know_nothing_of_the_rows_own_label():
    table, _ = noise()
    statistics = scan("binary", table)
    fitted = training.fit(chosen("binary", statistics, smoothing=1.0), statistics)
    y = table["y"].to_numpy() == "yes"
    naive = fitted.program.transform(table.select(["a"]))[:, 0]
    assert np.corrcoef(naive, y)[0, 1] > 0.4  # what is prevented
    assert abs(np.corrcoef(fitted.transform(table)[:, 0], y)[0, 1]) < 3 / np.sqrt(len(y))


def test_categories_that_differ_by_chance_alone_all_get_the_overall_mean():
    names = [f"n{i % 50}" for i in range(400)]
    y = np.array(["no", "yes"])[np.arange(400) // 50 % 2]  # each category four times yes, four times no
    table = pa.table({"a": names, "y": y, FOLD: pa.array(np.arange(400) % FOLDS, pa.int8())})
    statistics = scan("binary", table)
    X = program.fit(chosen("binary", statistics), statistics.whole()).transform(table.select(["a"]))
    assert np.unique(X).tolist() == [0.5]


def test_training_rows_are_refused_where_they_would_see_their_own_labels():
    names, signal = towns(100)
    table = rows_of("binary", names, signal)
    statistics = scan("binary", table)
    fitted = training.fit(chosen("binary", statistics), statistics)
    with pytest.raises(errors.FeatureError, match=r"means of the target that hold the rows' own labels: a"):
        fitted.program.transform(table)
    with pytest.raises(errors.FeatureError, match="no number of their fold"):
        fitted.transform(table.select(["a"]))


def test_more_categories_than_are_counted_exactly_still_have_means():
    rng = np.random.default_rng(0)
    num_rows = 40_000
    often = rng.random(num_rows) < 0.5
    names = np.where(often, rng.integers(0, 20, num_rows), rng.integers(100, 100_000, num_rows))
    table = rows_of("regression", [f"n{i}" for i in names], np.where(often, names * 1.0, 50.0))
    statistics = scan("regression", table)
    made = program.fit(chosen("regression", statistics), statistics.whole())
    X = made.transform(pa.table({"a": [f"n{i}" for i in range(20)]}))[:, 0]
    np.testing.assert_allclose(X, np.arange(20), atol=0.6)


def test_a_number_is_no_category(rows, schema, scan):
    with pytest.raises(errors.FeatureError, match=r"hint:     data.kinds: {x: categorical}"):
        plan.choose(schema, scan(rows), recipe.FeaturesSection(columns={"x": "target"}))
