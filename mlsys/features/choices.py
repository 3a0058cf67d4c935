"""The automatic choice for a column of each kind, and its reason in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlsys.features import gradients
from mlsys.features.defaults import (
    MAX_CODES,
    MAX_ONEHOT,
    MIN_COMPONENTS,
    Encoding,
    defaults,
    num_components,
    num_elements,
    num_present,
    parts_of,
)
from mlsys.features.lookups import OTHER
from mlsys.features.scalings import signed_logs
from mlsys.features.times import CYCLES
from mlsys.features.values import domain_of
from mlsys.schema import Column, Kind, arrow_type
from mlsys.statistics import ColumnStatistics

__all__ = ["ID_LIKE_FRACTION", "Choice", "automatic", "coordinates"]

ID_LIKE_FRACTION = 0.9
"""A category column in which this fraction of the values differ names rows, it does not group them."""

MAX_RATES = 20
"""Classes up to which many categories become the rate of each class in them, a column a class."""

PHRASE = 2.0
"""Words a category from which categories are phrases, whose words say which of them are alike."""

LONG_TAIL = 2.0
"""Skewness of an exponential distribution: a longer tail than that is looked at as a logarithm."""


@dataclass(frozen=True)
class Choice:
    """An operation of a column, what the fit has to know, and the reason in one sentence.

    Attributes
    ----------
    params
        The options that were given, and those that are chosen with the operation. Others are
        constants, which the fit computes.
    """

    column: str
    operation: str
    params: dict[str, Any]
    reason: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return (self.column, self.params["since"]) if self.operation == "elapsed" else (self.column,)


def automatic(
    column: Column, statistics: ColumnStatistics, encoding: Encoding, time: str | None = None
) -> list[Choice]:
    """The choices that the recipe can override: one or more operations, or the one to drop the column.

    `time` is the column of the row's own time, for a column that may be measured from it.
    """
    nothing = _useless(column, statistics)
    if nothing is not None:
        return [Choice(column.name, "drop", {}, nothing)]
    choices = BY_KIND[column.kind](column, statistics, encoding)
    if column.kind is not Kind.DATETIME or time is None:
        return choices
    reason = f"days from {time}, the time of the row: that means the same in every year"
    elapsed = Choice(column.name, "elapsed", {"since": time}, reason)
    return [*(choice for choice in choices if choice.operation != "drop"), elapsed]


def coordinates(choice: Choice) -> int:
    """Features of a choice that are places in a space, at least; of a picture, its gradients."""
    params = choice.params
    if choice.operation == "numeric":
        return int(isinstance(params.get("scale"), float))
    if choice.operation == "image":
        return len(gradients.names())
    return int(params.get({"tfidf": "components", "list": "elements"}.get(choice.operation, ""), 0))


def _useless(column: Column, statistics: ColumnStatistics) -> str | None:
    """Why a column tells nothing, or None."""
    present, distinct = num_present(statistics), statistics.num_distinct
    if domain_of(arrow_type(column.type)) is None:
        return f"no operation reads values of type {column.type}"
    if not present:
        return "no value in any training row"
    if distinct == 1 and present == statistics.num_rows:
        return "the same value in all training rows"
    if column.kind is Kind.CATEGORICAL and (distinct or 0) >= ID_LIKE_FRACTION * present:
        return f"{distinct:,} different values in {present:,} training rows: it names rows, new ones will have others"
    return None


def _numeric(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[Choice]:
    if encoding == "codes":
        reason = "a number: trees split it at any scale, a missing one takes the branch that fits better"
        return [Choice(column.name, "numeric", {}, reason)]
    numbers = statistics.numbers
    if numbers is None or not numbers.moments.stddev:
        reason = "its numbers are all the same or too large for a standard deviation"
        return [Choice(column.name, "drop", {}, reason)]
    form = "centred and divided by its standard deviation; a missing one takes the median and is marked"
    skewness = _tamed(statistics)
    if skewness is None:
        return [Choice(column.name, "numeric", {}, f"a number: {form}")]
    reason = f"a number with a long tail, skewness {skewness[0]:.1f} and {skewness[1]:.1f} as a logarithm: {form}"
    return [Choice(column.name, "numeric", {"log": True}, reason)]


def _tamed(statistics: ColumnStatistics) -> tuple[float, float] | None:
    """Skewness of numbers and of their logarithms, where the latter should be taken; else None.

    That is: none is negative, a tail drags a straight line after it, and the logarithm takes
    most of it away.
    """
    numbers = statistics.numbers
    if numbers is None or numbers.negative or (numbers.moments.skewness or 0.0) < LONG_TAIL:
        return None
    logs = signed_logs(statistics)
    spread = float(logs.std())
    skewness = float(((logs - logs.mean()) ** 3).mean()) / spread**3 if spread else math.inf
    before = float(numbers.moments.skewness or 0.0)
    return (before, skewness) if abs(skewness) < before / 2 else None


def _categorical(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[Choice]:
    distinct = statistics.num_distinct or 0
    limit, operation = (MAX_CODES, "codes") if encoding == "codes" else (MAX_ONEHOT, "onehot")
    if distinct > limit:
        many = f"{distinct:,} categories, more than {limit}:"
        if (statistics.classes or 0) > MAX_RATES:
            return [Choice(column.name, "frequency", {}, f"{many} how frequent each is in training")]
        reason = f"{many} the mean of the target in each; training rows get that of the other folds"
        means = Choice(column.name, "target", defaults("target", column, statistics, encoding), reason)
        components = num_components(statistics, encoding)
        if words_of(statistics) < PHRASE or components < MIN_COMPONENTS:
            return [means]
        reason = f"{many} phrases, which say what is alike: their words and letters on {components} leading axes"
        return [means, Choice(column.name, "tfidf", {"components": components}, reason)]
    params = defaults(operation, column, statistics, encoding)
    form = "codes that trees split in sets" if encoding == "codes" else "one column each"
    reason = f"{distinct} categories: {form}; under {params['min_rows']} rows or unknown go to {OTHER}"
    return [Choice(column.name, operation, params, reason)]


def _boolean(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[Choice]:
    del statistics
    missing = "a missing one stays missing" if encoding == "codes" else "a missing one takes the mean and is marked"
    return [Choice(column.name, "boolean", {}, f"true and false as 1 and 0; {missing}")]


def _datetime(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[Choice]:
    parts = parts_of(column, statistics)
    if not parts:
        return [Choice(column.name, "drop", {}, "training spans less than one cycle of any of its parts")]
    titles = ", ".join(CYCLES[part].title.split(",")[0] for part in parts)
    form = "points on a circle" if encoding == "dense" else "numbers"
    reason = f"{titles} as {form}: training has seen their whole cycle; how long ago is left out, it only ever grows"
    return [Choice(column.name, "datetime", {"parts": parts}, reason)]


def _text(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[Choice]:
    form = "a missing one stays missing" if encoding == "codes" else "a missing one takes the mean and is marked"
    numbers = Choice(column.name, "text", {}, f"text: its length, words, capitals, digits and signs; {form}")
    components = num_components(statistics, encoding)
    if components < MIN_COMPONENTS:
        return [replace(numbers, reason=f"{numbers.reason}; too few texts to learn from what they say")]
    reason = f"text: what it says, by words and letters side by side, on the {components} leading axes of its texts"
    return [numbers, Choice(column.name, "tfidf", {"components": components}, reason)]


def words_of(statistics: ColumnStatistics) -> float:
    """Words a category, on average over the categories."""
    categories = [value for value in statistics.counts() if isinstance(value, str)]
    return sum(len(category.split()) for category in categories) / len(categories) if categories else 0.0


def _image(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[Choice]:
    params, found = defaults("image", column, statistics, encoding), statistics.images
    if found is None or not found.n:
        return [Choice(column.name, "drop", {}, "no picture in any training row")]
    sizes = f"{found.widths.maximum} × {found.heights.maximum}"
    form = f"{'grey' if found.is_grey else 'colour'}, {'all' if found.is_one_size else 'up to'} {sizes}"
    pixels = f" and {params['pixels']} × {params['pixels']} pixels" if params["pixels"] else ""
    size = "" if found.is_one_size else "size, "
    reason = f"pictures ({form}): {size}levels, gradients of {params['size']} × {params['size']}{pixels}"
    return [Choice(column.name, "image", params, reason)]


def _list(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[Choice]:
    del encoding
    elements = num_elements(statistics)
    one_by_one = f", and its {elements} elements: all lists have so many" if elements else ""
    reason = f"a list of numbers: length, mean, min, max and standard deviation{one_by_one}"
    return [Choice(column.name, "list", {"elements": elements}, reason)]


def _unread(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[Choice]:
    del statistics, encoding
    return [Choice(column.name, "drop", {}, f"no operation reads {column.kind.value} values")]


BY_KIND: Mapping[Kind, Callable[[Column, ColumnStatistics, Encoding], list[Choice]]] = {
    Kind.NUMERIC: _numeric,
    Kind.CATEGORICAL: _categorical,
    Kind.BOOLEAN: _boolean,
    Kind.DATETIME: _datetime,
    Kind.TEXT: _text,
    Kind.IMAGE: _image,
    Kind.BYTES: _unread,
    Kind.LIST: _list,
}
