"""A survey reads all rows of a small table, a stated part of a large one, and never longer than it may."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mlsys
from mlsys import errors
from mlsys.collect import recipe_template, survey
from mlsys.readers import csv


def rows(count):
    return pd.DataFrame({"n": range(count), "x": np.arange(count) % 7, "y": np.arange(count) % 2})


def test_a_value_that_repeats_in_the_last_row_makes_no_id(tmp_path):
    frame = rows(200_000)
    frame.loc[199_999, "n"] = 0
    frame.to_csv(tmp_path / "t.csv", index=False)
    seen = survey.take(str(tmp_path / "t.csv"))
    assert (seen.num_rows, seen.seen, seen.repeats["n"]) == (200_000, "the 200,000 rows", True)


def test_a_large_table_is_read_at_equal_distances_and_the_recipe_says_so(tmp_path, monkeypatch):
    """The file is read in blocks of 64 KiB, of which every second one is taken."""
    monkeypatch.setattr(csv, "BLOCK_BYTES", 1 << 16)
    rows(80_000).to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr(survey, "WHOLE_BYTES", -(-(tmp_path / "t.csv").stat().st_size // 2))
    seen = survey.take(str(tmp_path / "t.csv"))
    assert 35_000 < seen.num_rows < 45_000
    assert seen.seen == f"{seen.num_rows:,} rows at equal distances, at most 1 in 2,"
    assert seen.frame["n"].max() > 70_000
    assert "rows at equal distances, at most 1 in 2, of " in recipe_template.write(seen.source)


def test_reading_ends_when_its_time_is_over_and_says_what_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 1 << 16)
    rows(300_000).to_csv(tmp_path / "t.csv", index=False)
    seen = survey.take(str(tmp_path / "t.csv"), seconds=0)
    assert 0 < seen.num_rows < 300_000
    assert seen.seen == f"{seen.num_rows:,} rows, those that 0 seconds were enough for,"


def test_files_to_be_predicted_are_left_out_of_a_folder_and_told(tmp_path):
    rows(200).to_csv(tmp_path / "train.csv", index=False)
    rows(50).drop(columns="y").to_csv(tmp_path / "test.csv", index=False)
    rows(50)[["n", "y"]].to_csv(tmp_path / "sample_submission.csv", index=False)
    drafted = recipe_template.draft(str(tmp_path))
    assert f"  source: {tmp_path}/train.csv\n" in drafted.text
    assert "  # left out: test.csv (without column 'y')\n" in drafted.text
    assert "left out: 'sample_submission.csv', without column 'x'" in drafted.messages


def test_a_file_that_came_before_a_column_was_added_stays(tmp_path):
    rows(50).to_csv(tmp_path / "2024-01.csv", index=False)
    rows(50).assign(more=1.5).to_csv(tmp_path / "2024-02.csv", index=False)
    assert survey.take(str(tmp_path)).num_rows == 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (b"a,b,y\n", "no rows"),
        (b"a\n1\n2\n", "one column, 'a'"),
        (bytes(np.random.default_rng(0).integers(0, 256, 5_000, np.uint8)), "bytes that are no text: a binary file"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(errors.SourceError, match=message):
        recipe_template.draft(str(tmp_path / "t.csv"))


def test_a_text_with_stray_zeros_is_read_and_one_of_zeros_is_named(tmp_path):
    lines = [f"{n},a\0b{n % 3},{n % 2}" for n in range(150)]
    lines[7] = "7\0" + lines[7][1:]
    (tmp_path / "t.csv").write_text("n,t,y\n" + "\n".join(lines) + "\n")
    seen = survey.take(str(tmp_path / "t.csv"))
    assert set(seen.classes["t"]) == {"a\0b0", "a\0b1", "a\0b2"}
    assert seen.notes == ("column 'n': '7\\x00' in 1 row count as missing, for the column is numeric",)
    (tmp_path / "u.csv").write_bytes(b"\0" * 10 + "n,t,y\n1,a,ü\n".encode("utf-16-le"))
    with pytest.raises(errors.SourceError, match="UTF-16 without its mark"):
        survey.take(str(tmp_path / "u.csv"))


def test_a_table_of_constants_is_told_to_teach_nothing(tmp_path):
    pd.DataFrame({"a": 1, "b": "x", "c": None, "y": np.arange(60) % 2}).to_csv(tmp_path / "t.csv", index=False)
    told = recipe_template.draft(str(tmp_path / "t.csv"), "y").messages
    assert "no column is left to learn from: mlsys run will stop at features until there is one" in told


def test_another_delimiter_is_named_before_a_target_that_is_not_there(tmp_path):
    (tmp_path / "t.csv").write_text("a y\n1 0\n2 1\n")
    with pytest.raises(errors.SourceError, match=r"one column, 'a y'[\s\S]*reading\.delimiter"):
        recipe_template.draft(str(tmp_path / "t.csv"), "y")


def test_a_target_named_count_is_drafted_and_collected(tmp_path):
    frame = rows(900).rename(columns={"y": "count"})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert survey.take(str(tmp_path / "t.csv")).classes["count"] == {0: 450, 1: 450}
    drafted = recipe_template.draft(str(tmp_path / "t.csv"), "count")
    recipe_template.save(drafted.text, tmp_path / "t.yaml")
    done = mlsys.run(tmp_path / "t.yaml", "collect", store=tmp_path / "store", cluster=False, quiet=True)
    assert done.recipe.target == "count"
