"""Text files as rows: a folder is a table, what cannot be read is set aside, and what is meant is asked."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from mlsys import errors
from mlsys.collect import snapshot, type_inference
from mlsys.readers import folders, registry
from mlsys.recipe import DataSection, Reading
from mlsys.schema import Kind, Role
from mlsys.store import Store

TEXTS = {
    "praise/a.txt": "So it goes.\nOn and on.",
    "praise/b.txt": "\ufeff42",
    "praise/deep/c.TXT": "naïve",
    "blame/a.txt": "",
    "blame/d.txt": "1999-12-31",
    "top.txt": "without a label",
}


@pytest.fixture
def take(tmp_path):
    def run(source, **data):
        store = Store.open(tmp_path / "store")
        data = {"reading": Reading(format="text"), **data}
        return snapshot.take(store, DataSection(source=str(source), **data), target="label", folder=tmp_path / "run")

    return run


@pytest.fixture
def letters(tmp_path):
    for name, text in TEXTS.items():
        file = tmp_path / "letters" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (tmp_path / "letters" / "readme.md").write_text("no document")
    return tmp_path / "letters"


def test_a_folder_of_text_files_is_a_table_of_file_label_and_text(take, letters):
    taken = take(letters)
    found = {column.name: (column.type, column.kind, column.role) for column in taken.snapshot.schema}
    assert found == {
        "file": ("string", Kind.CATEGORICAL, Role.ID),
        "label": ("string", Kind.CATEGORICAL, Role.TARGET),
        "text": ("string", Kind.TEXT, Role.FEATURE),
    }
    frame = pl.concat([pl.read_parquet(path) for path in taken.snapshot.paths])
    assert frame.select("file", "label", "text").rows() == [
        ("blame/a.txt", "blame", ""),
        ("blame/d.txt", "blame", "1999-12-31"),
        ("praise/a.txt", "praise", "So it goes.\nOn and on."),
        ("praise/b.txt", "praise", "42"),
        ("praise/deep/c.TXT", "deep", "naïve"),
        ("top.txt", None, "without a label"),
    ]


def test_a_file_in_another_encoding_goes_to_quarantine_and_the_others_stay(take, letters, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "TEXT_ROWS", 2)
    (letters / "blame" / "b.txt").write_bytes("Grüße".encode("latin-1"))
    taken = take(letters, max_bad_fraction=0.5)
    assert (taken.report["num_read"], taken.report["num_rows"], taken.report["num_quarantined"]) == (7, 6, 1)
    (row,) = pl.read_parquet(tmp_path / "run" / "quarantine.parquet").to_dicts()
    assert row["row"] == 1
    assert row["reason"] == "file: byte 0xfc at offset 2 is not utf-8"
    assert "Grüße" in row["content"]
    read = take(letters, reading=Reading(format="text", encoding="latin-1"))
    assert read.report["num_quarantined"] == 0


def test_a_large_folder_is_read_in_pieces_with_the_same_rows(take, letters, monkeypatch):
    whole = take(letters).snapshot.table()
    monkeypatch.setattr(folders, "MAX_FILES", 2)
    assert len(registry.find(str(letters), Reading(format="text"))) == 3
    assert take(letters).snapshot.table().equals(whole)


def test_text_files_are_documents_or_tables_and_the_recipe_has_to_say_which(letters):
    with pytest.raises(errors.SourceError) as caught:
        registry.find(str(letters), Reading())
    assert "6 .txt files, which may be documents or tables" in str(caught.value)
    assert "data.reading: {format: text}" in str(caught.value)
    assert {piece.format for piece in registry.find(str(letters), Reading(format="csv"))} == {"csv"}
    assert [piece.format for piece in registry.find(str(letters / "top.txt"), Reading())] == ["csv"]


def test_the_fingerprint_of_a_folder_of_documents_changes_with_any_of_its_files(letters):
    reading = Reading(format="text")
    before = registry.fingerprint(str(letters), reading)
    assert registry.fingerprint(str(letters), reading) == before
    (letters / "praise" / "a.txt").write_text("So it went.")
    assert registry.fingerprint(str(letters), reading) != before


ANSWERS = ["I agree with all of it", "I do not agree with it at all", "I have no opinion on it"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([f"so it goes for the {i}th time" for i in range(60)], Kind.TEXT),
        ([ANSWERS[i % 3] for i in range(300)], Kind.CATEGORICAL),  # of a questionnaire: 100 rows an answer
        ([ANSWERS[i % 3] for i in range(30)], Kind.TEXT),
        ([f"Mr. {i} Smith" for i in range(60)], Kind.CATEGORICAL),
        (["日本語" * 25 + str(i) for i in range(60)], Kind.TEXT),  # no blanks, and long
        (["x" * 80, "y" * 80] * 60, Kind.CATEGORICAL),
    ],
)
def test_sentences_that_differ_are_texts_and_those_that_many_rows_share_are_categories(texts, expected):
    wording = type_inference.WordCounts()
    wording.add(pa.array(texts))
    assert type_inference.kind_of(pa.string(), wording) is expected
