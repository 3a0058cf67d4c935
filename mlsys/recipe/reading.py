"""The way in which the bytes of a source become a table, and the base of all sections of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mlsys.notation import Notation


class Section(BaseModel):
    """A part of the recipe: frozen, and without other keys than its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def only(self, *paths: str) -> Self:
        """Copy the values at these dotted paths alone; reading any other from the copy is a `RuntimeError`.

        >>> from mlsys.recipe import DataSection, Recipe
        >>> recipe = Recipe(name="demo", target="y", data=DataSection(source="rows.csv"))
        >>> recipe.only("seed", "data.timezone").model_dump()
        {'seed': 0, 'data': {'timezone': 'UTC'}}
        """
        inner: dict[str, list[str]] = {}
        for path in paths:
            name, _, rest = path.partition(".")
            inner.setdefault(name, []).append(rest)
        values = {name: getattr(self, name) for name in inner}
        copy = self.model_copy()
        vars(copy).clear()
        vars(copy).update({name: v if "" in inner[name] else v.only(*inner[name]) for name, v in values.items()})
        return copy

    def having(self, values: Mapping[str, Any]) -> Self:
        """Copy with other values at dotted paths, each checked as if a person had written it there.

        >>> from mlsys.recipe import DataSection, Recipe
        >>> recipe = Recipe(name="demo", target="y", data=DataSection(source="rows.csv"))
        >>> recipe.having({"train.target_transform": "log"}).train.target_transform
        'log'
        """
        inner: dict[str, dict[str, Any]] = {}
        changed: dict[str, Any] = {}
        for path, value in values.items():
            name, _, rest = path.partition(".")
            if rest:
                inner.setdefault(name, {})[rest] = value
            else:
                changed[name] = getattr(type(self).model_validate({name: value}), name)
        return self.model_copy(update=changed | {name: getattr(self, name).having(v) for name, v in inner.items()})

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Refuse what `only` left out: a step that reads it would not run again when it changes."""
            if name in type(self).model_fields:
                message = f"the step reads '{name}' of {type(self).__name__} and does not declare it"
                raise RuntimeError(message)
            return super().__getattr__(name)


Text = Annotated[str, Field(min_length=1)]
Source = Text | Annotated[tuple[Text, ...], Field(min_length=1)]


class Reading(Section):
    """The way in which the bytes of a source become a table."""

    format: Text = Field(
        "auto",
        description="format of the files; auto tells it from their names; else csv, parquet, jsonl, excel, image, text "
        "(each .txt file is a row), sql, or the name of a registered reader",
    )
    query: Text | None = Field(None, description="SQL query to run, if the source is the URL of a database")
    null_values: tuple[str, ...] = Field(
        ("", "NA", "NaN", "nan", "null", "NULL", "None", "N/A"), description="CSV cells that count as null"
    )
    delimiter: str = Field(",", pattern=r"^[\t\x20\x21\x23-\x7e]$", description="character between cells of a CSV file")
    encoding: str = Field("utf-8", description="encoding of CSV, JSON-lines and text files, by its Python name")
    decimal: Literal[".", ","] = Field(".", description="decimal mark of the numbers in CSV files")
    thousands: Literal[".", ",", " ", "'", "_", "\u00a0", "\u202f", "\u2019"] | None = Field(
        None, description="thousands separator of the numbers in CSV files; it must stand before every three digits"
    )
    sheet: int | Text | None = Field(
        None, description="sheet of an Excel workbook, by name or number from 1; by default the first that is filled"
    )
    header_line: int | None = Field(
        None,
        ge=1,
        description="line of a CSV file, or row of a sheet, that holds the names of the columns, counted from 1; by "
        "default it is found out",
    )
    notations: dict[str, Notation] = Field(
        {},
        description="how the texts of a column are written where that is not found out by itself: numbers as 1234.56 "
        'would be, e.g. "1.234,56", "1 234,56 €" or "1234.56 %", dates as strptime does, e.g. "%d/%m/%Y"',
    )
    version: int | str | None = Field(
        None,
        description="version of a Delta or Iceberg table: a number, snapshot id, tag, branch or time; by default the "
        "latest",
    )

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError("a mark between thousands that is not the decimal mark")
        return self

    @model_serializer(mode="wrap")
    def _without_default_marks(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave default marks out: keys and digests that were made before there were marks stay the same."""
        section: dict[str, Any] = handler(self)
        marks = {"decimal", "thousands"} if (self.decimal, self.thousands) == (".", None) else set()
        return {key: value for key, value in section.items() if key not in marks and (key not in LATER or value)}


CELLS = ("format", "null_values", "delimiter", "encoding", "decimal", "thousands", "header_line", "sheet")
"""Keys of `Reading` that describe the files rather than choose rows."""


LATER = ("header_line", "notations", "sheet")
"""Keys of `Reading` that came later: where they say nothing they are in no digest."""
