"""Text files to predict: each is a row, for the model's one column of texts."""

from __future__ import annotations

import pytest

from mlsys import errors
from mlsys.deploy import batch_worker, pieces
from mlsys.recipe import Reading
from mlsys.schema import Column, Kind, Schema

BODY = Column(name="body", type="string", kind=Kind.TEXT)


@pytest.fixture
def letters(tmp_path):
    for name, data in {"a.txt": b"So it goes", "in/b.txt": "naïve".encode(), "in/c.TXT": b"Gr\xfc\xdfe"}.items():
        file = tmp_path / "letters" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path / "letters"


def read(source, schema, **settings):
    return [
        each for piece in pieces.find(source) for each in batch_worker.read_batches(piece, schema, Reading(**settings))
    ]


def test_text_files_are_rows_and_one_in_another_encoding_is_set_aside(letters):
    (batch,) = read(letters, Schema(columns=(BODY,)))
    assert batch.source.to_pydict() == {"file": ["a.txt", "in/b.txt"]}
    assert batch.values["body"].to_pylist() == ["So it goes", "naïve"]
    assert (list(batch.rows), list(batch.broken)) == ([0, 1], [(2, "in/c.TXT: not utf-8 at byte 2", "Grüße")])
    (batch,) = read(letters / "in", Schema(columns=(BODY,)), encoding="latin-1")
    assert batch.values["body"].to_pylist() == ["naÃ¯ve", "Grüße"]


def test_many_text_files_are_read_in_pieces_and_batches_with_their_numbers(letters, monkeypatch):
    monkeypatch.setattr(batch_worker, "PICTURES", 1)
    batches = read(letters, Schema(columns=(BODY,)))
    assert [list(batch.rows) for batch in batches] == [[0], [1], []]
    monkeypatch.setattr(pieces, "PIECE_FILES", 2)
    assert [len(piece.files) for piece in pieces.find(letters)] == [2, 1]


def test_texts_beside_a_table_belong_to_it(letters):
    (letters / "rows.csv").write_text("body\nfrom the table\n")
    (batch,) = read(letters, Schema(columns=(BODY,)))
    assert batch.values["body"].to_pylist() == ["from the table"]


def test_text_files_need_a_model_of_one_column_of_texts(letters):
    for columns, got in (((), "no columns of texts"), ((BODY, BODY.model_copy(update={"name": "b"})), "2 columns of")):
        with pytest.raises(errors.SourceError, match=got):
            read(letters, Schema(columns=columns))
