"""Messages are part of the interface: each builder's text stands here in full."""

import inspect
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys import errors

VIOLATION = {"row": 3, "field": "age", "got": "'old'", "expected": "a number"}

MESSAGES = {
    "RecipeError.unknown_key": (
        errors.RecipeError.unknown_key("train.ronds", "ronds", ["rounds", "family", "params"]),
        """\
        recipe: unknown key 'train.ronds'
          got:      ronds
          expected: a key of the recipe
          hint:     did you mean 'rounds'?""",
        "train.ronds",
    ),
    "RecipeError.unknown_column": (
        errors.RecipeError.unknown_column("collect: target", "lat", ["late", "carrier"]),
        """\
        collect: target: no column 'lat' in the table
          got:      lat
          expected: a column of the table
          hint:     did you mean 'late'?""",
        "lat",
    ),
    "RecipeError.no_effect": (
        errors.RecipeError.no_effect("distance", "numeric", "scal", ["impute", "scale"]),
        """\
        recipe: features.columns 'distance'
          got:      scal, which has no effect on numeric
          expected: an option of numeric
          hint:     did you mean 'scale'?""",
        "distance",
    ),
    "SourceError.missing": (
        errors.SourceError.missing("data/fligths.csv", ["flights.csv", "notes.txt"]),
        """\
        collect: source 'data/fligths.csv'
          got:      nothing there
          expected: a file, a folder or a glob that matches
          hint:     did you mean 'flights.csv'?""",
        None,
    ),
    "SourceError.no_data": (
        errors.SourceError.no_data("data", [f"{letter}.dat" for letter in "gfedcba"]),
        """\
        collect: source 'data'
          got:      a folder with a.dat, b.dat, c.dat, d.dat, e.dat and 2 more
          expected: files whose names end in .csv, .parquet, .jsonl, .txt, .png or .jpg
          hint:     set data.reading.format for all files; hidden files and names that begin with _ are left out""",
        None,
    ),
    "SourceError.empty": (
        errors.SourceError.empty("empty.csv"),
        """\
        collect: source 'empty.csv'
          got:      no rows
          expected: at least one row""",
        None,
    ),
    "SourceError.damaged": (
        errors.SourceError.damaged("a.parquet", "Parquet magic bytes\nnot found"),
        """\
        collect: source 'a.parquet'
          got:      Parquet magic bytes not found
          expected: a complete file of its format
          hint:     fetch the file again, or leave it out of the source""",
        None,
    ),
    "SourceError.encoding": (
        errors.SourceError.encoding("a.csv", "utf-8", 0xE9, 17, 2),
        """\
        collect: source 'a.csv', line 2
          got:      byte 0xe9 at offset 17
          expected: text in utf-8
          hint:     data.reading.encoding: latin-1; if lines differ in encoding, write the file again in one""",
        None,
    ),
    "SourceError.stray_quote": (
        errors.SourceError.stray_quote("a.csv", 3),
        """\
        collect: source 'a.csv', line 3
          got:      a " that opens a cell and is not closed before the next delimiter or line end
          expected: cells in pairs of ", with "" for a " inside
          hint:     correct the line; the cells after it cannot be separated with certainty""",
        None,
    ),
    "SourceError.no_room": (
        errors.SourceError.no_room("a.zip", OSError(28, "No space left on device"), 2048, "/tmp"),
        """\
        collect: source 'a.zip'
          got:      No space left on device after 2,048 bytes
          expected: room for the file below /tmp
          hint:     set TMPDIR to a folder on a larger disk""",
        None,
    ),
    "SourceError.no_header": (
        errors.SourceError.no_header("a.csv", 9),
        """\
        collect: source 'a.csv'
          got:      data.reading.header_line: 9, and no name there
          expected: the line or row that holds the names of the columns
          hint:     correct data.reading.header_line; without it the header is found""",
        "data.reading.header_line",
    ),
    "SourceError.several": (
        errors.SourceError.several(["a.csv", "b.csv"], 9, "collect: source 'a.csv'\n  got:      nothing"),
        """\
        collect: 2 of 9 files cannot be read
          got:      'a.csv', 'b.csv'
          expected: at most data.max_bad_fraction of the files and of the bytes
          hint:     fetch them again or leave them out; the first error: collect: source 'a.csv' got: nothing""",
        None,
    ),
    "SourceError.duplicate_columns": (
        errors.SourceError.duplicate_columns("a.csv", ["age", "name"]),
        """\
        collect: source 'a.csv'
          got:      columns that appear more than once: age, name
          expected: a different name for each column
          hint:     rename them in the source""",
        None,
    ),
    "SourceError.changed_type": (
        errors.SourceError.changed_type("age", [("int64", "a.parquet"), ("string", "b.parquet")]),
        """\
        collect: column 'age'
          got:      int64 in 'a.parquet'; string in 'b.parquet'
          expected: one type in all files
          hint:     write the files again with one type, or leave out the one that differs""",
        "age",
    ),
    "ContractError.too_many": (
        errors.ContractError.too_many(
            30, 1000, 0.01, [("age is a number", 10, "'old'"), ("id is not null", 20, "row 3")], "quarantine.parquet"
        ),
        """\
        collect: 30 of 1000 rows do not fit the schema
          got:      20 × id is not null (e.g. row 3); 10 × age is a number (e.g. 'old')
          expected: at most 1.00% of the rows (data.max_bad_fraction)
          hint:     look at quarantine.parquet; correct the source, set data.kinds, or raise data.max_bad_fraction""",
        None,
    ),
    "ContractError.evolved": (
        errors.ContractError.evolved(["column 'a' (int64) is gone", "column 'b': int64 → string"], "a"),
        """\
        collect: columns changed since the last collection
          got:      column 'a' (int64) is gone; column 'b': int64 → string
          expected: the same columns, new columns or wider types
          hint:     correct the source; to accept the change once: --set data.evolution=accept""",
        "a",
    ),
    "ContractError.unusual_volume": (
        errors.ContractError.unusual_volume(10, 1000.0, 6, -31.2),
        """\
        collect: volume
          got:      10 rows
          expected: about 1,000, as in 6 earlier collections (modified z -31.2, at most 3.5)
          hint:     look at the source; to accept it once: --set data.volume=warn""",
        "data.volume",
    ),
    "ContractError.stale": (
        errors.ContractError.stale("at", "2024-01-08T00:00:00+00:00", "48 hours", "36h"),
        """\
        collect: column 'at'
          got:      the newest value 2024-01-08T00:00:00+00:00, 48 hours old
          expected: at most 36h (data.freshness)
          hint:     find out why the source is late, or raise data.freshness""",
        "at",
    ),
    "ContractError.too_many_of": (
        errors.ContractError.too_many_of(
            "rule 'later': arr >= dep", 26, 100, 0.25, ["2, 5 in 'a.csv' row 4"], "quarantine.parquet"
        ),
        """\
        collect: rule 'later': arr >= dep
          got:      26 of 100 rows break it, e.g. 2, 5 in 'a.csv' row 4
          expected: at most 25.00% of the rows (its max_fraction)
          hint:     look at quarantine.parquet; correct the source, or raise the rule's max_fraction""",
        None,
    ),
    "TargetError.all_null": (
        errors.TargetError.all_null("late", 120),
        """\
        collect: target 'late'
          got:      no value in any of 120 rows
          expected: a value in the rows to learn from
          hint:     check the label expression and data.reading.null_values, or name another target""",
        "late",
    ),
    "TargetError.single_class": (
        errors.TargetError.single_class("late", False, 120),
        """\
        collect: target 'late'
          got:      one class only: False in all 120 rows
          expected: at least two classes
          hint:     check the label expression, or name another target""",
        "late",
    ),
    "SealedError.part": (
        errors.SealedError.part("test", ["validation", "train"]),
        """\
        dataset: part 'test' is sealed here
          got:      test
          expected: one of train, validation
          hint:     test rows are opened once, by evaluate""",
        "test",
    ),
    "PayloadError.not_json": (
        errors.PayloadError.not_json("an empty body"),
        """\
        request: body
          got:      an empty body
          expected: a JSON object in UTF-8""",
        None,
    ),
    "PayloadError.not_arrow": (
        errors.PayloadError.not_arrow("Expected IPC message of type schema"),
        """\
        request: body
          got:      Expected IPC message of type schema
          expected: a table as an Arrow IPC stream""",
        None,
    ),
    "PayloadError.form": (
        errors.PayloadError.form(["rows", "columns"], ["dataframe_records", "instances"]),
        """\
        request: body
          got:      rows, columns
          expected: exactly one of dataframe_records, instances""",
        None,
    ),
    "PayloadError.content_type": (
        errors.PayloadError.content_type("text/csv"),
        """\
        request: header Content-Type
          got:      text/csv
          expected: application/json in UTF-8
          hint:     send the rows as dataframe_split; POST /NAME/batch and `mlsys predict` read CSV files""",
        None,
    ),
    "PayloadError.header": (
        errors.PayloadError.header("X-Request-ID", "byte 0xff", "UTF-8"),
        """\
        request: header X-Request-ID
          got:      byte 0xff
          expected: UTF-8""",
        None,
    ),
    "PayloadError.encoding": (
        errors.PayloadError.encoding("br", ["gzip", "deflate"]),
        """\
        request: header Content-Encoding
          got:      br
          expected: gzip, deflate, or no such header""",
        None,
    ),
    "PayloadError.unpacking": (
        errors.PayloadError.unpacking("gzip"),
        """\
        request: body
          got:      bytes that are no gzip
          expected: the whole body, packed as the header says""",
        None,
    ),
    "PayloadError.too_many": (
        errors.PayloadError.too_many("20 rows", "10 rows", "rows"),
        """\
        request: body
          got:      20 rows
          expected: at most 10 rows
          hint:     send fewer rows, use `mlsys predict` for files, or raise deploy.limits.rows""",
        None,
    ),
    "PayloadError.too_slow": (
        errors.PayloadError.too_slow(2.5),
        """\
        request: body
          got:      a part of it
          expected: the whole body within 2.5 s""",
        None,
    ),
    "PayloadError.too_late": (
        errors.PayloadError.too_late(),
        """\
        request: header X-Request-Timeout-Ms
          got:      a time that is over
          expected: an answer within it""",
        None,
    ),
    "PayloadError.too_large": (
        errors.PayloadError.too_large(1024),
        """\
        request: body
          got:      a larger body
          expected: at most 1,024 bytes
          hint:     send fewer rows, use `mlsys predict` for files, or raise deploy.limits.body_bytes""",
        None,
    ),
    "RequestError.of": (
        errors.RequestError.of([VIOLATION]),
        "request does not fit the model: row 3, field 'age': got 'old', expected a number",
        None,
    ),
    "RequestError.unexplained": (
        errors.RequestError.unexplained(
            "model of family 'kernel'", "a family without an exact method", "one of linear"
        ),
        """\
        explain: model of family 'kernel'
          got:      a family without an exact method
          expected: one of linear
          hint:     leave explain out""",
        "params.explain",
    ),
}


def builders() -> list[str]:
    """Class and name of every classmethod that builds a message, except the one they share."""
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.MlsysError)]
    return [
        f"{cls.__name__}.{name}"
        for cls in classes
        for name, member in vars(cls).items()
        if isinstance(inspect.getattr_static(cls, name), classmethod)
        and member
        and name != "build"
        and not name.startswith("_")
    ]


@pytest.mark.parametrize("builder", MESSAGES)
def test_the_message_reads(builder):
    error, text, field = MESSAGES[builder]
    assert str(error) == dedent(text)
    assert error.field == field
    assert type(error).__name__ == builder.partition(".")[0]


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ("recipe: 'data.incremental.cursor': column 'at'", "data.incremental.cursor"),
        ("recipe: unknown key 'train.ronds'", "train.ronds"),
        ("recipe: features.columns 'age', since", "age"),
        ("collect: column 'driver's age' in 'a.csv'", "driver's age"),
        ("predict: key 'id'", "id"),
        ("tune: part 'test' is open", "test"),
        ("models: no family 'tree'", "tree"),
        ("train: target 'late'", "late"),
        ("collect: source 'a.csv', line 3", None),
        ("recipe: file 'recipe.yaml'", None),
        ("store: bundle '0123', file 'spec.json'", None),
    ],
)
def test_the_field_is_the_column_or_key_that_the_first_line_names(where, field):
    assert errors.MlsysError.build(where, got="this").field == field
    assert errors.MlsysError.build(where, field="given").field == "given"


def test_every_builder_has_its_text_here():
    assert sorted(builders()) == sorted(MESSAGES)


def test_a_missing_source_without_neighbours_says_what_paths_are_relative_to():
    assert str(errors.SourceError.missing("s3://bucket/x.csv")).endswith(
        "hint:     check the path; it is relative to the current folder"
    )


@pytest.mark.parametrize(
    ("tried", "offset", "byte", "offered"),
    [
        ("utf-8", 17, 0xE9, "latin-1"),
        ("utf-8", 0, 0xFF, "utf-16"),
        ("utf-16", 17, 0xE9, "utf-8"),
        ("UTF_8", 0, 0xFE, "utf-16"),
    ],
)
def test_another_encoding_is_offered(tried, offset, byte, offered):
    assert f"data.reading.encoding: {offered};" in str(errors.SourceError.encoding("a.csv", tried, byte, offset, 1))


def test_the_five_most_frequent_faults_of_the_rows_are_shown():
    rules = [(f"rule {number}", number, "x") for number in range(1, 8)]
    text = str(errors.ContractError.too_many(28, 100, 0.01, rules, "quarantine.parquet"))
    assert "got:      7 × rule 7 (e.g. x); 6 × rule 6 (e.g. x)" in text
    assert "3 × rule 3 (e.g. x); and 2 more rules" in text


def test_a_body_without_keys_says_so():
    assert "got:      no keys" in str(errors.PayloadError.form([], ["inputs"]))


def test_a_request_with_many_faults_shows_five_and_counts_the_rest():
    error = errors.RequestError.of([{**VIOLATION, "row": row} for row in range(8)])
    assert str(error).count("field 'age'") == 5
    assert str(error).endswith("row 4, field 'age': got 'old', expected a number; and 3 more")
    assert [violation["row"] for violation in error.violations] == list(range(8))


def test_parts_of_a_message_that_are_not_given_leave_no_line():
    assert str(errors.GateError.build("evaluate: gate")) == "evaluate: gate"
    assert str(errors.GateError.build("evaluate: gate", hint="train longer")) == (
        "evaluate: gate\n  hint:     train longer"
    )


def test_the_nearest_name_is_offered_and_a_far_one_is_not():
    assert errors.did_you_mean("fmaily", ["family", "rounds"]) == "did you mean 'family'?"
    assert errors.did_you_mean("q", ["family", "rounds"]) == "known: family, rounds"
    assert errors.did_you_mean("q", []) == "there are none"


def test_a_name_that_differs_by_what_the_eye_does_not_see_is_the_one_that_was_meant():
    assert errors.did_you_mean("y", [" x ", " Y ", "z"]) == "did you mean ' Y '?"


def test_a_long_list_of_names_is_cut_and_counted():
    text = errors.did_you_mean("zzz", [f"column_{i:02}" for i in range(30)])
    assert text.endswith("column_11, … (30 in all)")


@given(st.text(), st.lists(st.text(), max_size=5))
def test_a_hint_can_be_made_for_any_name(got, known):
    assert errors.did_you_mean(got, known)


@pytest.mark.parametrize(
    ("leaf", "builtin"),
    [
        (errors.RecipeError, ValueError),
        (errors.SourceError, OSError),
        (errors.ContractError, ValueError),
        (errors.TargetError, ValueError),
        (errors.LeakageError, ValueError),
        (errors.SealedError, PermissionError),
        (errors.FeatureError, ValueError),
        (errors.BundleError, ValueError),
        (errors.PayloadError, ValueError),
        (errors.RequestError, ValueError),
        (errors.RegistryError, LookupError),
        (errors.GateError, ValueError),
        (errors.StoreError, OSError),
        (errors.ClusterError, RuntimeError),
    ],
)
def test_someone_who_knows_only_builtins_catches_it(leaf, builtin):
    with pytest.raises(builtin) as caught:
        raise leaf.build("step: object", got="this", expected="that")
    assert isinstance(caught.value, errors.MlsysError)
