"""The operations that a recipe can choose for a column, and their options.

    features:
      columns:
        carrier: target                                             # a word
        distance: {operation: numeric, impute: median, log: true}   # with options
        hired: [datetime, {operation: elapsed, since: seen_at}]     # several operations

One class an operation, one field an option. An option that is not given is chosen
automatically. An option of another operation is refused: it would have no effect.
"""

from __future__ import annotations

import re
import typing
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
    model_validator,
)

from mlsys.limits import FLOAT32_MAX, MAX_CODES, MAX_COLUMNS
from mlsys.periods import UNITS_US

PATTERN = rf"^(\d+)({'|'.join(UNITS_US)})$"


def span_us(text: str) -> int:
    """Microseconds of a span.

    >>> span_us("3h")
    10800000000

    Raises
    ------
    ValueError
        The text is not a number with a unit.
    """
    match = re.fullmatch(PATTERN, text)
    if match is None:
        raise ValueError(f"a number and a unit of {', '.join(UNITS_US)}, e.g. 3h or 2d")
    return int(match[1]) * UNITS_US[match[2]]


def _checked(text: str) -> str:
    span_us(text)
    return text


Span = Annotated[str, AfterValidator(_checked), WithJsonSchema({"type": "string", "pattern": PATTERN})]


def _longer_than_zero(text: str) -> str:
    if span_us(text) == 0:
        raise ValueError("a span longer than nothing, e.g. 1h")
    return text


LongSpan = Annotated[Span, AfterValidator(_longer_than_zero)]
"""A span that is not empty."""


MAX_PIXELS = 36
"""36 × 36 in three colours are 3,888 columns: below `MAX_COLUMNS`."""


Float32 = Annotated[float, Strict(), Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]


class Treatment(BaseModel):
    """The choice for a column: a subclass is an operation, its fields after `operation` are the options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str

    @property
    def options(self) -> dict[str, Any]:
        """The options that were given."""
        return {name: value for name, value in self if name != "operation" and value is not None}


class NumericOptions(Treatment):
    """Take a number as it is, scaled for linear models."""

    operation: Literal["numeric"] = "numeric"
    impute: Literal["mean", "median", "none"] | Float32 | None = Field(
        None, description="what stands for a missing value: mean, median, a number, or none to leave it missing"
    )
    indicator: bool | None = Field(None, description="a column that says where a value was missing")
    scale: Literal["standard", "robust", "none"] | None = Field(
        None, description="standard: by mean and standard deviation; robust: by median and interquartile range"
    )
    log: bool | None = Field(None, description="sign(x) · log(1 + |x|) before all else, for long tails")
    bins: int | None = Field(None, ge=2, le=MAX_CODES, description="number of its quantile bin in place of the value")

    @model_validator(mode="after")
    def _bins_stand_alone(self) -> NumericOptions:
        others = [name for name in self.options if name != "bins"]
        if self.bins is not None and others:
            raise ValueError(f"bins alone: {', '.join(others)} would have no effect on the number of a bin")
        return self


class CategoricalOptions(Treatment):
    """The options that operations on categories share."""

    min_rows: int | None = Field(
        None, ge=1, description="training rows that a category needs; rarer ones share a place with unknown ones"
    )


class CodesOptions(CategoricalOptions):
    """Give each category a number, by its count; for trees."""

    operation: Literal["codes"] = "codes"
    max_categories: int | None = Field(None, ge=1, le=MAX_CODES, description="the most frequent ones have a place")


class KeysOptions(CategoricalOptions):
    """Number many categories by their count; CatBoost takes them apart, other trees split by how frequent they are."""

    operation: Literal["keys"] = "keys"


class OneHotOptions(CategoricalOptions):
    """Give each category a column of zeros and ones."""

    operation: Literal["onehot"] = "onehot"
    max_categories: int | None = Field(None, ge=1, le=MAX_COLUMNS, description="the most frequent ones have a place")


class FrequencyOptions(Treatment):
    """Replace a category by its share of the training rows."""

    operation: Literal["frequency"] = "frequency"


class TargetOptions(CategoricalOptions):
    """Replace a category by the smoothed mean of the target, out of fold in training."""

    operation: Literal["target"] = "target"
    smoothing: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="rows that the overall rate counts as; estimated by default"
    )


class HashedOptions(Treatment):
    """Share a fixed number of columns among all categories."""

    operation: Literal["hash"] = "hash"
    buckets: int | None = Field(None, ge=2, le=MAX_COLUMNS, description="places that the categories share")


class BooleanOptions(Treatment):
    """Take true and false as 1 and 0."""

    operation: Literal["boolean"] = "boolean"


class DatetimeOptions(Treatment):
    """Take parts of a time: hour, weekday and day of the year."""

    operation: Literal["datetime"] = "datetime"
    parts: tuple[Literal["hour", "weekday", "yearday"], ...] | None = Field(
        None, min_length=1, description="which parts; by default those in which the training times differ"
    )
    cyclic: bool | None = Field(None, description="points on a circle in place of numbers")


class ElapsedOptions(Treatment):
    """Take the days since another time."""

    operation: Literal["elapsed"] = "elapsed"
    since: str = Field(description="column of the time that is subtracted; the time of the row may be one")


class TrendOptions(Treatment):
    """Take the days since training began; trees take the level of the latest ones for all later times."""

    operation: Literal["trend"] = "trend"


class NumbersOptions(Treatment):
    """Take length, mean, range and spread of a list of numbers, and its first elements."""

    operation: Literal["list"] = "list"
    elements: int | None = Field(None, ge=0, le=MAX_COLUMNS, description="elements taken one by one, from the first")


class TextOptions(Treatment):
    """Take numbers about the letters of a text: length, digits, capitals and the like."""

    operation: Literal["text"] = "text"


class TfidfOptions(Treatment):
    """Place a text by its words and letters: TF-IDF on the axes of a truncated SVD."""

    operation: Literal["tfidf"] = "tfidf"
    components: int | None = Field(
        None, ge=1, le=1_024, description="axes of the truncated SVD: texts about the same things lie close together"
    )


MAX_TERMS = 16_384
"""Tokens that have a column of their own: twice as many change the accuracy by less than its error."""


class TermsOptions(Treatment):
    """Give each word and letter group of a text a column of its own, weighted by TF-IDF; for linear models."""

    operation: Literal["terms"] = "terms"
    terms: int | None = Field(None, ge=1, le=MAX_TERMS, description="tokens that count: those in most texts")


class ImageOptions(Treatment):
    """Take size, levels, oriented gradients and pixels of a picture, or the vector of an encoder."""

    operation: Literal["image"] = "image"
    size: int | None = Field(None, ge=16, le=512, multiple_of=4, description="side of the square for gradients")
    pixels: int | None = Field(
        None, ge=0, le=MAX_PIXELS, description="side of the square whose pixels are features; 0 for none"
    )
    colour: bool | None = Field(None, description="red, green and blue apart; false for grey")
    encoder: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function that gives the vector of a picture; it must be listed in MLSYS_ENCODERS",
    )

    @model_validator(mode="after")
    def _encoder_stands_alone(self) -> ImageOptions:
        others = [name for name in self.options if name != "encoder"]
        if self.encoder is not None and others:
            raise ValueError(f"encoder alone: {', '.join(others)} would have no effect on what it gives")
        return self


class PixelsOptions(Treatment):
    """Take the levels of a picture stretched to a square: what `convolution` looks at, and thousands of features."""

    operation: Literal["pixels"] = "pixels"
    size: int | None = Field(
        None, ge=8, le=64, multiple_of=8, description="side of the square; 16 for pictures up to 16 pixels, else 32"
    )


class Drop(Treatment):
    """Leave the column out."""

    operation: Literal["drop"] = "drop"


AnyTreatment = Annotated[
    NumericOptions
    | CodesOptions
    | KeysOptions
    | OneHotOptions
    | FrequencyOptions
    | TargetOptions
    | HashedOptions
    | BooleanOptions
    | DatetimeOptions
    | ElapsedOptions
    | TrendOptions
    | NumbersOptions
    | TextOptions
    | TfidfOptions
    | TermsOptions
    | ImageOptions
    | PixelsOptions
    | Drop,
    Field(discriminator="operation"),
]

OPERATIONS: dict[str, type[Treatment]] = {
    str(kind.model_fields["operation"].default): kind for kind in typing.get_args(typing.get_args(AnyTreatment)[0])
}
"""The options of each operation, by its word in the recipe."""

Word = Annotated[str, Field(json_schema_extra={"enum": list(OPERATIONS)})]


def _listed(line: Any) -> Any:
    """Turn a word, a mapping, or a list of them into a list of mappings."""
    if isinstance(line, Treatment | str | dict):
        line = [line]
    if isinstance(line, list | tuple):
        return tuple({"operation": step} if isinstance(step, str) else step for step in line)
    return line


def _shortest(steps: tuple[Treatment, ...]) -> Any:
    """The shortest form that means the same, as a person would write it."""
    lines = [{"operation": step.operation, **step.options} if step.options else step.operation for step in steps]
    return lines[0] if len(lines) == 1 else lines


def options_of(operation: str) -> list[str]:
    """The names of an operation's options."""
    return [name for name in OPERATIONS[operation].model_fields if name != "operation"]


Columns = dict[
    str,
    Annotated[
        tuple[AnyTreatment, ...],
        Field(min_length=1),
        BeforeValidator(_listed, json_schema_input_type=Word | AnyTreatment | list[Word | AnyTreatment]),
        PlainSerializer(_shortest, return_type=Any),
    ],
]
"""The operations of each column."""
