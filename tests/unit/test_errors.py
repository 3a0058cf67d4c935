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
    "SourceError.missing": (
        errors.SourceError.missing("data/fligths.csv", ["flights.csv", "notes.txt"]),
        """\
        collect: source 'data/fligths.csv'
          got:      nothing there
          expected: a file, a folder or a glob that matches
          hint:     did you mean 'flights.csv'?""",
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
    "TargetError.one_class": (
        errors.TargetError.one_class("late", False, 120),
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
    "RequestError.of": (
        errors.RequestError.of([VIOLATION]),
        "request does not fit the model: row 3, field 'age': got 'old', expected a number",
        None,
    ),
}


def builders() -> list[str]:
    """Class and name of every classmethod that builds a message, except the one they share."""
    classes = [getattr(errors, name) for name in errors.__all__]
    return [
        f"{cls.__name__}.{name}"
        for cls in classes
        for name, member in vars(cls).items()
        if isinstance(inspect.getattr_static(cls, name), classmethod) and member and name != "build"
    ]


@pytest.mark.parametrize("builder", MESSAGES)
def test_the_message_reads(builder):
    error, text, field = MESSAGES[builder]
    assert str(error) == dedent(text)
    assert error.field == field
    assert type(error).__name__ == builder.partition(".")[0]


def test_every_builder_has_its_text_here():
    assert sorted(builders()) == sorted(MESSAGES)


def test_a_missing_source_without_neighbours_says_what_paths_are_relative_to():
    assert str(errors.SourceError.missing("s3://bucket/x.csv")).endswith(
        "hint:     check the path; it is relative to where you are"
    )


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
