from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.monitor.labels import LABEL, UNKNOWN, Labels, class_codes
from mlsys.recipe import Reading, ReadOptions
from mlsys.schema import Task, TaskKind

UTC = dt.UTC
BINARY = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))
WORDS = Task(kind=TaskKind.MULTICLASS, target="species", classes=("Adelie", "Chinstrap", "Gentoo"))
NUMBERS = Task(kind=TaskKind.MULTICLASS, target="stars", classes=(1, 2, 3))


@pytest.mark.parametrize(
    ("task", "values", "codes"),
    [
        (BINARY, [True, False, None], [1, 0, np.nan]),
        (BINARY, ["true", "False", "1", "0", "?"], [1, 0, 1, 0, UNKNOWN]),
        (BINARY, [1, 0], [1, 0]),
        (BINARY, [1.0, 0.0], [1, 0]),
        (WORDS, ["Gentoo", '"Adelie"', "Emperor"], [2, 0, UNKNOWN]),
        (NUMBERS, [3, 1], [2, 0]),
        (NUMBERS, ["2", "3.0"], [1, 2]),
    ],
)
def test_classes_are_recognised_as_themselves_as_json_and_as_text(task, values, codes):
    assert class_codes(pl.Series(values), task).tolist() == pytest.approx(codes, nan_ok=True)


def test_labels_come_from_csv_with_the_zeros_of_their_ids(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("id,late\n007,true\n008,\n009,NA\n")
    labels = Labels.read(file, BINARY)
    assert labels.frame["key"].to_list() == ["007", "008", "009"]
    assert labels.frame["y"].to_list()[0] == 1.0
    assert labels.frame["void"].to_list() == [False, True, True]


def test_labels_come_from_json_lines_and_parquet(tmp_path):
    rows = [{"prediction_id": "a", "label": 1.5}, {"prediction_id": "b", "label": None}]
    task = Task(kind=TaskKind.REGRESSION, target="y")
    (tmp_path / "l.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pl.DataFrame(rows).write_parquet(tmp_path / "l.parquet")
    for name in ("l.jsonl", "l.parquet"):
        frame = Labels.read(tmp_path / name, task).frame
        assert frame["y"].to_list() == pytest.approx([1.5, np.nan], nan_ok=True)
        assert frame["void"].to_list() == [False, True]


def test_of_several_labels_the_last_known_counts():
    at = [dt.datetime(2024, 1, day, tzinfo=UTC) for day in (3, 1, 2)]
    labels = Labels.read(pa.table({"id": ["a"] * 3, "late": [True, False, False], "known_at": at}), BINARY)
    assert labels.frame["y"].to_list() == [1.0]
    assert labels.num_repeated == 2


def test_labels_join_by_the_id_of_the_rows_or_of_the_prediction():
    rows = pl.DataFrame({"prediction_id": ["p1", "p2"], "flight": ["f1", None]})
    labels = Labels.read(pa.table({"flight": ["f1", "p2"], "late": [True, False]}), BINARY, "flight")
    assert labels.join(rows)[LABEL].to_list() == [1.0, 0.0]


def test_a_feature_may_have_the_name_of_the_label():
    rows = pl.DataFrame({"prediction_id": ["a"], "y": [0.5], "label": [7]})
    joined = Labels.read(pa.table({"id": ["a"], "late": [True]}), BINARY).join(rows)
    assert joined.select("y", "label", LABEL).row(0) == (0.5, 7, 1.0)


def test_labels_without_a_key_name_what_is_there():
    with pytest.raises(errors.RecipeError, match="no column 'prediction_id'"):
        Labels.read(pa.table({"key": ["a"], "late": [True]}), BINARY)


def test_labels_of_another_task_are_refused():
    with pytest.raises(errors.ContractError, match="one of 'Adelie', 'Chinstrap', 'Gentoo'"):
        Labels.read(pa.table({"id": ["a"], "species": ["blue"]}), WORDS)


def test_a_file_of_labels_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(errors.SourceError, match="labels"):
        Labels.read(tmp_path / "none.csv", BINARY)


def test_labels_are_read_as_the_rows_of_training_were(tmp_path):
    (tmp_path / "l.csv").write_bytes("id;y;known_at\nZürich;1.200,5;2024-07-01 10:00\nBern;-;\n".encode("cp1252"))
    reading = Reading(delimiter=";", encoding="cp1252", null_values=("-", ""), decimal=",", thousands=".")
    options = ReadOptions(reading=reading, timezone="Europe/Berlin")
    task = Task(kind=TaskKind.REGRESSION, target="y")
    for source in (tmp_path / "l.csv", (tmp_path / "l.csv").as_uri(), str(tmp_path / "*.csv")):
        frame = Labels.read(source, task, options=options).frame.sort("key")
        assert frame["key"].to_list() == ["Bern", "Zürich"]
        assert frame["y"].to_list() == pytest.approx([np.nan, 1200.5], nan_ok=True)
        assert frame["known_at"].to_list() == [None, dt.datetime(2024, 7, 1, 8, tzinfo=UTC)]


def test_a_line_of_labels_that_is_no_row_is_named(tmp_path):
    (tmp_path / "l.jsonl").write_text('{"id": "a", "late": true}\n{\n')
    with pytest.raises(errors.SourceError, match=r"monitor: labels 'l.jsonl', record 1"):
        Labels.read(tmp_path / "l.jsonl", BINARY)


def test_a_label_that_is_no_number_is_named_and_not_taken_for_one_that_never_comes(tmp_path):
    """As where the decimal mark of the file is not that of the options."""
    (tmp_path / "labels.csv").write_text("id;y\n1;2\n2;1,5\n3;\n")
    task = Task(kind=TaskKind.REGRESSION, target="y")
    with pytest.raises(errors.SourceError, match=r"column 'y'\n  got:      1,5\n  expected: numbers"):
        Labels.read(tmp_path / "labels.csv", task, options=ReadOptions(reading=Reading(delimiter=";")))
    german = ReadOptions(reading=Reading(delimiter=";", decimal=","))
    assert Labels.read(tmp_path / "labels.csv", task, options=german).frame["void"].sum() == 1
