from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.monitor import label_match, log_state
from mlsys.monitor.label_match import LABEL
from mlsys.monitor.labels import UNKNOWN, Labels, WrittenLabels, class_codes
from mlsys.monitor.log_rows import ENTITY
from mlsys.recipe import Reading, ReadOptions
from mlsys.schema import Task, TaskKind
from mlsys.statistics.hashing import hash_array

UTC = dt.UTC
BINARY = Task(kind=TaskKind.BINARY, target="late", classes=(False, True))
WORDS = Task(kind=TaskKind.MULTICLASS, target="species", classes=("Adelie", "Chinstrap", "Gentoo"))
NUMBERS = Task(kind=TaskKind.MULTICLASS, target="stars", classes=(1, 2, 3))


def read(source, task, **more):
    return Labels.of(WrittenLabels.read(source, task, **more), task, more.get("id_column"))


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
    labels = read(file, BINARY)
    assert labels.frame["key"].to_list() == ["007", "008", "009"]
    assert labels.frame["y"].to_list()[0] == 1.0
    assert labels.frame["void"].to_list() == [False, True, True]


def test_labels_come_from_json_lines_and_parquet(tmp_path):
    rows = [{"prediction_id": "a", "label": 1.5}, {"prediction_id": "b", "label": None}]
    task = Task(kind=TaskKind.REGRESSION, target="y")
    (tmp_path / "l.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pl.DataFrame(rows).write_parquet(tmp_path / "l.parquet")
    for name in ("l.jsonl", "l.parquet"):
        frame = read(tmp_path / name, task).frame
        assert frame["y"].to_list() == pytest.approx([1.5, np.nan], nan_ok=True)
        assert frame["void"].to_list() == [False, True]


def test_of_several_labels_the_last_known_counts():
    match = joined(log(("a", None, 1)), {"id": ["a"] * 3, "late": [True, False, False], "known_at": days(3, 1, 2)})
    assert match.rows[LABEL].to_list() == [1.0]
    assert match.counts.num_repeated == 2


def days(*numbers):
    return [dt.datetime(2024, 1, day, tzinfo=UTC) for day in numbers]


def log(*rows):
    """What was read of a log: prediction id, entity and day of each row."""
    state = log_state.LogState()
    ids, entities, at = zip(*rows, strict=True)
    frame = pl.DataFrame({"prediction_id": ids, ENTITY: entities, "event_at": days(*at)})
    absent = {name: pl.lit(None, kind) for name, kind in state.types.items() if name not in frame.columns}
    state.frames.append(frame.with_columns(**absent).select(list(state.types)).cast(state.types))
    return state


def joined(state, *tables, id_column="customer", **options):
    labels = [read(pa.table(table), BINARY, id_column=id_column, time_column="at") for table in tables]
    return label_match.join(labels, state, **options)


def by_prediction(match):
    return dict(match.rows.select("prediction_id", LABEL).iter_rows())


def test_labels_join_by_the_id_of_the_rows_or_of_the_prediction():
    match = joined(log(("p1", "f1", 1), ("p2", None, 1)), {"customer": ["f1", "p2"], "late": [True, False]})
    assert by_prediction(match) == {"p1": 1, "p2": 0}
    match = joined(log(("p1", "f1", 1), ("p2", "f2", 1)), {"id": ["f1", "p2"], "late": [True, False]})
    assert by_prediction(match) == {"p1": 1, "p2": 0}


SCORED = (("p1", "c", 1), ("p2", "c", 8), ("p3", "c", 15), ("q", "d", 20))


def test_a_label_of_an_entity_belongs_to_the_latest_prediction_before_it_was_known():
    match = joined(
        log(*SCORED),
        {"customer": ["c", "c", "d"], "late": [True, False, True], "known_at": days(9, 30, 2)},
    )
    assert by_prediction(match) == {"p2": 1, "p3": 0, "q": 1}  # d was scored once: there is no choice
    assert match.counts.num_early == 0


def test_the_time_of_the_labelled_row_names_its_prediction():
    match = joined(
        log(*SCORED),
        {"customer": ["c"] * 3, "late": [True, False, True], "at": days(15, 1, 8), "known_at": days(30, 30, 30)},
    )
    assert by_prediction(match) == {"p1": 0, "p2": 1, "p3": 1}


def test_a_label_without_a_time_counts_for_each_prediction_of_its_entity():
    assert by_prediction(joined(log(*SCORED), {"customer": ["c"], "late": [True]})) == {"p1": 1, "p2": 1, "p3": 1}


def test_a_label_from_before_every_prediction_of_its_entity_is_left_out_and_told():
    match = joined(log(("p2", "c", 8), ("p3", "c", 9)), {"customer": ["c"], "late": [True], "known_at": days(2)})
    assert (match.rows.height, match.counts.num_early, match.counts.num_unmatched) == (0, 1, 0)
    assert match.counts.messages == [
        "1 label left out: earlier than every prediction of an entity that was scored several times."
    ]


def test_labels_that_belong_to_no_prediction_are_told_with_ids_of_both_sides():
    state = log(("20001", "20001", 1), ("20002", "20002", 1))
    match = joined(state, {"customer": ["20001.0", "20002.0"], "late": [True, False]})
    (message,) = match.counts.messages
    assert message == (
        "2 of 2 labels belong to no prediction in the log, such as '20001.0', '20002.0'; "
        "ids of the log are such as '20001', '20002'."
    )


def test_ids_that_are_written_as_decimals_are_those_of_whole_numbers():
    state = log(("20001", "20001", 1), ("20002", "20002", 1))
    match = joined(state, {"customer": ["20001.0", "20002"], "late": [True, False]}, is_whole_number=True)
    assert by_prediction(match) == {"20001": 1, "20002": 0}
    assert match.counts.messages == [
        "1 id of labels is a decimal such as 20001.0; they were read as whole numbers, as the log has them."
    ]
    doubles = joined(state, {"customer": [20001.0, 20002.0], "late": [True, False]})
    assert by_prediction(doubles) == {"20001": 1, "20002": 0}


def test_later_labels_replace_earlier_ones_of_the_same_prediction():
    state = log(("p", "c", 1))
    match = joined(state, {"customer": ["c"], "late": [True]}, {"prediction_id": ["p"], "late": [False]})
    assert by_prediction(match) == {"p": 0}
    assert (match.counts.num_rows, match.counts.num_matched, match.counts.num_repeated) == (2, 2, 1)


def test_labels_of_rows_that_another_version_answered_are_counted_apart():
    state = log(("p", "c", 1))
    state._other_keys = np.sort(hash_array(pa.array(["x", "y"])))
    match = joined(state, {"customer": ["x", "z"], "late": [True, True]})
    assert (match.counts.num_other, match.counts.num_unmatched) == (1, 1)


def test_labels_without_a_key_name_what_is_there():
    with pytest.raises(errors.RecipeError, match="no column 'prediction_id'"):
        read(pa.table({"key": ["a"], "late": [True]}), BINARY)


def test_labels_of_another_task_are_refused():
    with pytest.raises(errors.ContractError, match="one of 'Adelie', 'Chinstrap', 'Gentoo'"):
        read(pa.table({"id": ["a"], "species": ["blue"]}), WORDS)


def test_a_file_of_labels_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(errors.SourceError, match="labels"):
        read(tmp_path / "none.csv", BINARY)


def test_labels_are_read_as_the_rows_of_training_were(tmp_path):
    (tmp_path / "l.csv").write_bytes("id;y;known_at\nZürich;1.200,5;2024-07-01 10:00\nBern;-;\n".encode("cp1252"))
    reading = Reading(delimiter=";", encoding="cp1252", null_values=("-", ""), decimal=",", thousands=".")
    options = ReadOptions(reading=reading, timezone="Europe/Berlin")
    task = Task(kind=TaskKind.REGRESSION, target="y")
    for source in (tmp_path / "l.csv", (tmp_path / "l.csv").as_uri(), str(tmp_path / "*.csv")):
        frame = read(source, task, options=options).frame.sort("key")
        assert frame["key"].to_list() == ["Bern", "Zürich"]
        assert frame["y"].to_list() == pytest.approx([np.nan, 1200.5], nan_ok=True)
        assert frame["known_at"].to_list() == [None, dt.datetime(2024, 7, 1, 8, tzinfo=UTC)]


def test_a_line_of_labels_that_is_no_row_is_named(tmp_path):
    (tmp_path / "l.jsonl").write_text('{"id": "a", "late": true}\n{\n')
    with pytest.raises(errors.SourceError, match=r"monitor: labels 'l.jsonl', record 1"):
        read(tmp_path / "l.jsonl", BINARY)


def test_a_label_that_is_no_number_is_named_and_not_taken_for_one_that_never_comes(tmp_path):
    """As where the decimal mark of the file is not that of the options."""
    (tmp_path / "labels.csv").write_text("id;y\n1;2\n2;1,5\n3;\n")
    task = Task(kind=TaskKind.REGRESSION, target="y")
    with pytest.raises(errors.SourceError, match=r"column 'y'\n  got:      1,5\n  expected: numbers"):
        read(tmp_path / "labels.csv", task, options=ReadOptions(reading=Reading(delimiter=";")))
    german = ReadOptions(reading=Reading(delimiter=";", decimal=","))
    assert read(tmp_path / "labels.csv", task, options=german).frame["void"].sum() == 1
