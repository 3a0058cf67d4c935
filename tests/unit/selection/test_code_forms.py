"""Whole numbers that are codes: told from amounts by evidence, and compared in forms; a person's word settles it."""

import json

import numpy as np
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.predict import Predictor
from mlsys.schema import FOLD, Column, Kind, Role, Schema, Task
from mlsys.selection import code_forms, forms
from mlsys.statistics import ColumnStatistics, TrainStatistics
from modelled import collected

FAST = {"split": {"folds": 3}, "train": {"rounds": 60, "early_stopping": 10}}
SIZES = {"a": 300, "b": 80, "c": 150}


def coded(num_rows=4_000, seed=0):
    """Codes whose numbers have no order, each with an effect of its own, beside an amount, a count and noise."""
    rng = np.random.default_rng(seed)
    columns, score = {}, np.zeros(num_rows)
    for name, size in SIZES.items():
        weights = 1 / np.arange(1, size + 1)
        place = rng.choice(size, num_rows, p=weights / weights.sum())
        columns[name] = rng.choice(300_000, size, replace=False)[place]
        score += rng.normal(size=size)[place]
    columns["age"] = rng.integers(18, 90, num_rows)
    columns["noise"] = rng.integers(0, 200, num_rows)
    columns["number"] = rng.permutation(num_rows)
    score += 0.03 * (columns["age"] - 54)
    columns["y"] = np.where(rng.random(num_rows) < 1 / (1 + np.exp(-score)), "yes", "no")
    return pa.table(columns)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return collected(tmp_path_factory.mktemp("coded"), coded(), **FAST, selection={"families": ["linear", "xgboost"]})


@pytest.fixture(scope="module")
def ranking(rows):
    return rows.ranking()


@pytest.fixture(scope="module")
def amounts():
    """Schema and statistics of the same columns where all of them are taken for amounts."""
    return taken_for(Kind.NUMERIC)


def taken_for(kind):
    """Schema and statistics of the columns where collection took them for this kind."""
    table = coded().append_column(FOLD, pa.array(np.arange(4_000) % 5, pa.int8()))
    names = [name for name in table.column_names if name not in ("y", FOLD)]
    columns = [Column(name=name, type="int64", kind=kind) for name in names]
    schema = Schema(columns=(*columns, Column(name="y", type="string", kind=Kind.CATEGORICAL, role=Role.TARGET)))
    return schema, TrainStatistics.of_table(table, schema, Task(kind="binary", target="y", classes=("no", "yes")))


def test_codes_are_told_from_amounts_noise_and_row_numbers(rows, amounts):
    found = code_forms.candidates(*amounts, rows.settings)
    assert set(found) >= {"a", "b", "c"}
    assert not {"age", "number"} & set(found)


def test_whole_numbers_that_are_stored_as_fractions_are_amounts_and_stop_nothing(tmp_path):
    table = coded(1_500)
    for name in SIZES:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.float64()))
    rows = collected(tmp_path, table, **FAST, selection={"families": ["linear", "xgboost"]})
    assert {rows.parts.schema[name].type for name in SIZES} == {"double"}
    assert rows.fit(rows.ranking()).program.names


def test_a_form_that_cannot_be_fitted_is_left_out_and_told(rows, monkeypatch):
    broken = forms.CandidateForm("broken", {"features.columns": {"y": ["target"]}})
    monkeypatch.setattr(forms, "feature_forms", lambda *_: [forms.USUAL, broken])
    ranking = rows.ranking()
    assert {entry.name for entry in ranking.entries} == {"dummy", "linear", "xgboost"}
    (told, _) = [note for note in ranking.notes if "was left out" in note]
    assert told.startswith("linear, broken was left out: recipe: features.columns 'y'")


def test_few_of_very_many_columns_pass_by_chance_and_are_not_tried(rows):
    schema, statistics = taken_for(Kind.NUMERIC)
    pixels = [Column(name=f"pixel {number}", type="int64", kind=Kind.NUMERIC) for number in range(200)]
    wide = Schema(columns=(*schema.columns, *pixels))
    for fold in statistics.folds.values():
        fold.columns.update({pixel.name: fold.columns["age"] for pixel in pixels})
    assert code_forms.candidates(wide, statistics, rows.settings) == []


def test_a_column_that_the_recipe_speaks_of_is_as_it_says(rows, amounts):
    stated = rows.settings.having({"features.columns": {"a": "numeric"}})
    assert "a" not in code_forms.candidates(*amounts, stated)
    assert "a" not in code_forms.categories(rows.parts.schema, rows.statistics, stated)


def test_amounts_are_offered_as_target_means_and_categories_as_amounts(rows, amounts):
    ways = forms.feature_forms(*amounts, rows.settings)
    assert [way.name for way in ways] == ["", "target means", "amounts and target means"]
    assert ways[1].values["features.columns"]["a"] == ["target", "keys"]
    ways = forms.feature_forms(*taken_for(Kind.CATEGORICAL), rows.settings)
    assert [way.name for way in ways] == ["", "amounts and target means", "amounts"]
    assert ways[-1].values == {"features.columns": {"a": ["numeric"], "number": ["numeric"]}}


def test_times_are_offered_with_a_trend_and_not_where_the_row_has_a_time_of_its_own(rows):
    columns = [Column(name="seen", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME)]
    target = Column(name="y", type="double", kind=Kind.NUMERIC, role=Role.TARGET)
    day = np.datetime64("2024-03-01T00:00:00.000000")
    times = pa.array(day + 3_600_000_000 * np.arange(500), pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    table = pa.table({"seen": times, "y": np.arange(500.0), FOLD: pa.array(np.arange(500) % 5, pa.int8())})
    schema, task = Schema(columns=(*columns, target)), Task(kind="regression", target="y")
    statistics = TrainStatistics.of_table(table, schema, task)
    ways = forms.feature_forms(schema, statistics, rows.settings)
    assert [(way.name, dict(way.values)) for way in ways] == [
        ("", {}),
        ("trend of times", {"features.columns": {"seen": ["datetime", "trend"]}}),
    ]
    (note,) = forms.trend_notes(ways, {})
    assert note.endswith("seen (features.columns: {seen: [datetime, trend]} or {seen: datetime} settles it)")
    assert forms.feature_forms(
        schema, statistics, rows.settings.having({"features.columns": {"seen": "datetime"}})
    ) == [forms.USUAL]
    own = Column(name="at", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME, role=Role.TIME)
    assert forms.trend_forms(Schema(columns=(*columns, own, target)), statistics, rows.settings) == []


def test_the_forms_are_compared_and_told_and_target_means_beat_amounts(rows, ranking):
    scores = {entry.name: entry.mean for entry in ranking.entries}
    best = max(mean for name, mean in scores.items() if name.startswith("linear"))
    assert best > scores.get("linear, amounts", scores["linear"]) + 0.02
    assert ranking.entries[0].form != "amounts"
    assert ranking.notes[0].startswith("whole numbers that may be codes: a")
    assert ranking.notes[0].endswith("(features.columns: {a: numeric} or {a: target} settles it)")


def test_the_model_has_the_form_and_a_row_alone_has_the_bits_it_has_among_others(rows, ranking):
    made = rows.fit(ranking)
    assert any(name.startswith("a: rate of y=") for name in made.program.names)
    predictor, test = Predictor(made), rows.parts.table("test")
    whole = predictor.table(test).probabilities
    records = test.select(list(made.schema.names)).to_pylist()[:100]
    alone = np.concatenate([predictor.rows([record]).probabilities for record in records])
    assert alone.tobytes() == whole[:100].tobytes()
    assert rows.evaluation(made)["verdict"]["passed"]


def test_no_label_of_the_judged_fold_is_in_the_means_that_judge_it(rows):
    from mlsys import train

    settings = rows.settings.having({"features.columns": {"a": "target"}})
    only = type(rows.statistics)({0: rows.statistics.folds[0]})
    how = {"fit_folds": [0], "judge": 1}
    one, two = (
        train.prepare(rows.parts.only("train"), statistics, settings, rows.task, "xgboost", **how)
        for statistics in (rows.statistics, only)
    )
    assert one.judged.X.tobytes() == two.judged.X.tobytes()


def numbers(values, y, classes=2):
    column = ColumnStatistics(Kind.NUMERIC, classes)
    column.update(pa.array(values), np.asarray(y))
    return column


def test_counts_of_codes_merge_and_survive_json():
    one, two = numbers([5, 5, None, 7], [0, 1, 1, 1]), numbers([7, 300_000], [0, 1])
    both = ColumnStatistics.from_json(json.loads(json.dumps(one.merge(two).to_json()))).as_categories()
    sums = {key: found.tolist() for key, found in both.target_sums().items()}
    assert sums == {5.0: [1, 1], 7.0: [1, 1], 300_000.0: [0, 1], None: [0, 1]}
    assert both.counts() == {5.0: 2, 7.0: 2, 300_000.0: 1}


def test_fractions_and_very_many_numbers_are_no_codes():
    assert numbers([0.5, 1.0], [0, 1]).as_categories() is None
    assert numbers(np.arange(10_001), np.zeros(10_001)).as_categories() is None
    assert numbers([1, 2], [0, 1]).merge(numbers([0.5], [0])).as_categories() is None


def test_target_means_of_numbers_that_are_not_counted_are_refused(tmp_path):
    table = pa.table({"x": np.arange(30_000), "y": np.tile(["no", "yes"], 15_000)})
    sections = {"selection": {"families": ["dummy"]}, "features": {"columns": {"x": "target"}}}
    rows = collected(tmp_path, table, **FAST, **sections)
    with pytest.raises(errors.FeatureError) as caught:
        rows.ranking()
    assert str(caught.value) == (
        "features: column 'x'\n"
        "  got:      numbers that are not all whole, or more than 10,000 different ones\n"
        "  expected: categories, or whole numbers that stand for something\n"
        "  hint:     data.kinds: {x: categorical}"
    )
