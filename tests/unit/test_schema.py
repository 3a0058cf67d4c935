import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlsys.schema import Column, Kind, Role, Schema, Task, TaskKind, arrow_type

SCHEMA = Schema(
    columns=(
        Column(name="tailnum", type="string", kind=Kind.CATEGORICAL, role=Role.ID, nullable=False),
        Column(name="distance", type="double", kind=Kind.NUMERIC, unit="miles", minimum=0),
        Column(name="origin", type="string", kind=Kind.CATEGORICAL, allowed=("EWR", "JFK", "LGA")),
        Column(name="time", type="timestamp[us, tz=UTC]", kind=Kind.DATETIME, role=Role.TIME),
        Column(name="late", type="bool", kind=Kind.BOOLEAN, role=Role.TARGET),
    )
)

SCALARS = st.sampled_from(
    [
        pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
        pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.binary(), pa.date32(),
        pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "America/New_York"),
        pa.decimal128(12, 2), pa.decimal128(38, 0),
    ]
)  # fmt: skip


@given(st.one_of(SCALARS, SCALARS.map(pa.list_)))
def test_a_type_is_read_back_from_its_printed_name(type_):
    assert arrow_type(str(type_)) == type_


def test_a_type_that_we_do_not_store_is_refused_by_name():
    with pytest.raises(ValueError, match="struct"):
        arrow_type("struct<a: int64>")


def test_a_schema_is_read_back_from_its_json():
    assert Schema.model_validate_json(SCHEMA.model_dump_json()) == SCHEMA


def test_only_features_reach_a_model():
    assert [column.name for column in SCHEMA.features] == ["distance", "origin"]


def test_roles_are_found_by_name():
    assert SCHEMA.target == "late"
    assert SCHEMA.name_of(Role.TIME) == "time"
    assert SCHEMA.name_of(Role.GROUP) is None


def test_columns_are_found_by_name():
    assert "distance" in SCHEMA
    assert "elevation" not in SCHEMA
    assert SCHEMA["distance"].unit == "miles"
    with pytest.raises(KeyError, match="elevation"):
        SCHEMA["elevation"]


def test_a_selection_keeps_the_order_of_the_schema():
    assert SCHEMA.select(["late", "distance", "nowhere"]).names == ["distance", "late"]


def test_the_arrow_schema_has_types_and_nullability():
    assert SCHEMA.arrow() == pa.schema(
        [
            pa.field("tailnum", pa.string(), nullable=False),
            pa.field("distance", pa.float64()),
            pa.field("origin", pa.string()),
            pa.field("time", pa.timestamp("us", "UTC")),
            pa.field("late", pa.bool_()),
        ]
    )
    assert len(SCHEMA) == 5


def test_a_schema_cannot_be_changed_or_carry_unknown_facts():
    with pytest.raises(ValidationError, match="frozen"):
        SCHEMA["distance"].unit = "km"
    with pytest.raises(ValidationError, match="minimun"):
        Column(name="a", type="double", kind=Kind.NUMERIC, minimun=0)


@pytest.mark.parametrize(
    ("kind", "classes", "expected"),
    [
        (TaskKind.BINARY, (False, True), True),
        (TaskKind.MULTICLASS, ("Adelie", "Chinstrap", "Gentoo"), True),
        (TaskKind.REGRESSION, (), False),
    ],
)
def test_classes_belong_to_classification_and_keep_their_type(kind, classes, expected):
    task = Task(kind=kind, target="y", classes=classes)
    assert task.is_classification is expected
    again = Task.model_validate_json(task.model_dump_json())
    assert again == task
    assert [type(value) for value in again.classes] == [type(value) for value in classes]
