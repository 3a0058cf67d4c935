"""Text files to predict: each is a row, for the model's one column of texts."""

from __future__ import annotations

import pytest

from mlsys import errors
from mlsys.deploy import batch_worker
from mlsys.readers import registry as readers
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


def test_the_format_of_training_says_what_text_files_are(letters):
    assert {each.format for each in readers.find(letters, Reading(), default_format="text")} == {"text"}
    assert {each.format for each in readers.find(letters, Reading(), default_format="csv")} == {"csv"}
    with pytest.raises(errors.SourceError, match="documents or tables"):
        readers.find(letters, Reading())


def test_texts_beside_a_table_belong_to_it(letters):
    (letters / "rows.csv").write_text("body\nfrom the table\n")
    (fragment,) = readers.find(letters, Reading(), default_format="text")
    assert fragment.name == "rows.csv"


def test_text_files_need_a_model_of_one_column_of_texts(letters):
    (fragment,) = readers.find(letters, Reading(format="text"))
    names = ["file", "label", "text"]
    assert batch_worker._column_names(fragment, Schema(columns=(BODY,)), names) == {"body": "text"}
    for columns, got in (((), "no columns of texts"), ((BODY, BODY.model_copy(update={"name": "b"})), "2 columns of")):
        with pytest.raises(errors.SourceError, match=got):
            batch_worker._column_names(fragment, Schema(columns=columns), names)
