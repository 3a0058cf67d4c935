"""The automatic choice of operations for a column of each kind, with its reason in one sentence.

Numbered columns of one unit are the coordinates of one vector: pixels, sensors, a spectrum, an embedding. Each divided
by its own deviation, the columns in which next to nothing happens (the corners of a picture) would weigh as much as
those that tell rows apart. So for models that compare sizes of features, the columns of such a block are divided by one
deviation, and no logarithm is taken. Trees are not concerned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlsys.features.domains import domain_of
from mlsys.features.operations.categorical import MAX_ONEHOT, OTHER
from mlsys.features.operations.datetimes import CYCLES, cycles_seen
from mlsys.features.operations.lists import num_elements
from mlsys.features.operations.numeric import signed_logs
from mlsys.features.operations.operation import OperationChoice, PlanInputs, num_present
from mlsys.features.operations.operation_registry import OPERATIONS
from mlsys.features.operations.text import num_components
from mlsys.limits import ID_LIKE_FRACTION, MAX_CODES
from mlsys.schema import Column, Kind, arrow_type
from mlsys.statistics import ColumnStatistics, TableStatistics

MAX_RATES = 20
"""Classes up to which many categories become the rate of each class in them, a column a class."""

PHRASE = 2.0
"""Words a category from which categories are phrases, whose words say which of them are alike."""

MIN_COMPONENTS = 2
"""Axes for texts; if the texts are enough for fewer only, their content is not read."""

LONG_TAIL = 2.0
"""Skewness of an exponential distribution: a longer tail than that is looked at as a logarithm."""


MISSING = {"codes": "a missing one stays missing", "dense": "a missing one takes the mean and is marked"}
MISSING["pixels"] = MISSING["dense"]


def automatic(inputs: PlanInputs, time: str | None = None) -> list[OperationChoice]:
    """Choose one or more operations for a column, or to drop it; the recipe can override them.

    `time` is the column of the row's own time, for a column that may be measured from it.
    """
    column = inputs.column
    reason = _useless(column, inputs.statistics)
    if reason is not None:
        return [_drop(inputs, reason)]
    choices = BY_KIND[column.kind](inputs)
    if column.kind is not Kind.DATETIME or time is None:
        return choices
    reason = f"days from {time}, the time of the row: that means the same in every year"
    elapsed = OperationChoice(column.name, "elapsed", {"since": time}, reason)
    return [*(choice for choice in choices if choice.operation != "drop"), elapsed]


def _drop(inputs: PlanInputs, reason: str) -> OperationChoice:
    return OperationChoice(inputs.column.name, "drop", {}, reason)


def _choose(
    inputs: PlanInputs, operation: str, reason: str, params: Mapping[str, Any] | None = None
) -> OperationChoice:
    """The choice of an operation, with the parameters that it has by itself unless some are given."""
    chosen = OPERATIONS[operation].params(inputs) if params is None else dict(params)
    return OperationChoice(inputs.column.name, operation, chosen, reason)


def _useless(column: Column, statistics: ColumnStatistics) -> str | None:
    """The reason why a column cannot help a model, or None."""
    present, distinct = num_present(statistics), statistics.num_distinct
    if domain_of(arrow_type(column.type)) is None:
        return f"no operation reads values of type {column.type}"
    if not present:
        return "no value in any training row"
    if distinct == 1 and present == statistics.num_rows:
        return "the same value in all training rows"
    if column.kind is Kind.CATEGORICAL and (distinct or 0) >= ID_LIKE_FRACTION * present:
        values = f"{distinct:,} different values in {present:,} training rows"
        return f"{values}: it looks like an identifier, new rows will have other values"
    return None


def _numeric(inputs: PlanInputs) -> list[OperationChoice]:
    if inputs.encoding == "codes":
        reason = "a number: trees split it at any scale, a missing one takes the branch that fits better"
        return [_choose(inputs, "numeric", reason)]
    numbers = inputs.statistics.numbers
    if numbers is None or not numbers.moments.stddev:
        return [_drop(inputs, "its numbers are all the same or too large for a standard deviation")]
    form = "centred and divided by its standard deviation; a missing one takes the median and is marked"
    skewness = _reduced_skewness(inputs.statistics)
    if skewness is None:
        return [_choose(inputs, "numeric", f"a number: {form}")]
    reason = f"a number with a long tail, skewness {skewness[0]:.1f} and {skewness[1]:.1f} as a logarithm: {form}"
    return [_choose(inputs, "numeric", reason, {"log": True})]


def _reduced_skewness(statistics: ColumnStatistics) -> tuple[float, float] | None:
    """Skewness of numbers and of their logarithms, where none is negative and a logarithm takes most of a tail away."""
    numbers = statistics.numbers
    if numbers is None or numbers.negative or (numbers.moments.skewness or 0.0) < LONG_TAIL:
        return None
    logs = signed_logs(statistics)
    spread = float(logs.std())
    skewness = float(((logs - logs.mean()) ** 3).mean()) / spread**3 if spread else math.inf
    before = float(numbers.moments.skewness or 0.0)
    return (before, skewness) if abs(skewness) < before / 2 else None


def _categorical(inputs: PlanInputs) -> list[OperationChoice]:
    distinct = inputs.statistics.num_distinct or 0
    limit, operation = (MAX_CODES, "codes") if inputs.encoding == "codes" else (MAX_ONEHOT, "onehot")
    if distinct > limit:
        return _many_categories(inputs, f"{distinct:,} categories, more than {limit}:")
    form = "codes that trees split in sets" if inputs.encoding == "codes" else "one column each"
    params = OPERATIONS[operation].params(inputs)
    reason = f"{distinct} categories: {form}; under {params['min_rows']} rows or unknown go to {OTHER}"
    return [_choose(inputs, operation, reason, params)]


def _many_categories(inputs: PlanInputs, many: str) -> list[OperationChoice]:
    statistics = inputs.statistics
    if (statistics.classes or 0) > MAX_RATES:
        return [_choose(inputs, "frequency", f"{many} how frequent each is in training")]
    reason = f"{many} the mean of the target in each; training rows get that of the other folds"
    means, components = _choose(inputs, "target", reason), num_components(statistics, inputs.encoding)
    words = [len(value.split()) for value in statistics.counts() if isinstance(value, str)]
    keys = (
        [_choose(inputs, "keys", f"{many} their numbers, by how frequent they are")]
        if inputs.encoding == "codes"
        else []
    )
    if sum(words) < PHRASE * max(len(words), 1) or components < MIN_COMPONENTS:
        return [means, *keys]
    reason = f"{many} phrases, which say what is alike: their words and letters on {components} leading axes"
    return [means, *keys, _choose(inputs, "tfidf", reason)]


def _datetime(inputs: PlanInputs) -> list[OperationChoice]:
    parts = cycles_seen(inputs)
    if not parts:
        return [_drop(inputs, "training spans less than one cycle of any of its parts")]
    titles = ", ".join(CYCLES[part].title.split(",")[0] for part in parts)
    form = "points on a circle" if inputs.encoding != "codes" else "numbers"
    reason = f"{titles} as {form}: training has seen their whole cycle; how long ago is left out, it only ever grows"
    return [_choose(inputs, "datetime", reason)]


def _text(inputs: PlanInputs) -> list[OperationChoice]:
    letters = f"text: its length, words, capitals, digits and signs; {MISSING[inputs.encoding]}"
    components = num_components(inputs.statistics, inputs.encoding)
    if components < MIN_COMPONENTS:
        return [_choose(inputs, "text", f"{letters}; too few texts to learn from what they say")]
    reason = f"text: what it says, by words and letters side by side, on the {components} leading axes of its texts"
    return [_choose(inputs, "text", letters), _choose(inputs, "tfidf", reason)]


def _image(inputs: PlanInputs) -> list[OperationChoice]:
    pictures, params = inputs.statistics.images, OPERATIONS["image"].params(inputs)
    if pictures is None or not pictures.n:
        return [_drop(inputs, "no picture in any training row")]
    sizes = f"{pictures.widths.maximum} × {pictures.heights.maximum}"
    form = f"{'grey' if pictures.is_grey else 'colour'}, {'all' if pictures.is_same_size else 'up to'} {sizes}"
    if inputs.encoding == "pixels":
        params = OPERATIONS["pixels"].params(inputs)
        return [_choose(inputs, "pixels", f"pictures ({form}): {params['size']} × {params['size']} pixels", params)]
    pixels = f" and {params['pixels']} × {params['pixels']} pixels" if params["pixels"] else ""
    size = "" if pictures.is_same_size else "size, "
    reason = f"pictures ({form}): {size}levels, gradients of {params['size']} × {params['size']}{pixels}"
    return [_choose(inputs, "image", reason, params)]


def _list(inputs: PlanInputs) -> list[OperationChoice]:
    elements = num_elements(inputs.statistics)
    each = f", and its {elements} elements: all lists have so many" if elements else ""
    return [_choose(inputs, "list", f"a list of numbers: length, mean, min, max and standard deviation{each}")]


BY_KIND: Mapping[Kind, Callable[[PlanInputs], list[OperationChoice]]] = {
    Kind.NUMERIC: _numeric,
    Kind.CATEGORICAL: _categorical,
    Kind.BOOLEAN: lambda inputs: [_choose(inputs, "boolean", f"true and false as 1 and 0; {MISSING[inputs.encoding]}")],
    Kind.DATETIME: _datetime,
    Kind.TEXT: _text,
    Kind.IMAGE: _image,
    Kind.BYTES: lambda inputs: [_drop(inputs, f"no operation reads {inputs.column.kind.value} values")],
    Kind.LIST: _list,
}

MIN_COORDINATES = 32
"""Fewer numbered columns are more often repeated questions than coordinates."""

ALIKE = 10.0
"""In one unit, half of the columns at least have a deviation within this factor of the largest."""

CoordinateBlocks = dict[str, tuple[str, int, float]]
"""Column → the prefix that it shares, how many columns share it, and their common deviation."""


def coordinate_blocks(columns: Iterable[Column], table: TableStatistics) -> CoordinateBlocks:
    """The numbered columns that are coordinates of one vector.

    The common deviation is the root of the mean variance of the columns that vary.
    """
    spreads: dict[str, dict[str, float]] = {}
    for column in columns:
        numbered = re.fullmatch(r"(.*?)\d+", column.name)
        spread = _spread(table.columns[column.name])
        if numbered and column.kind is Kind.NUMERIC and spread > 0:
            spreads.setdefault(numbered[1], {})[column.name] = spread
    blocks: CoordinateBlocks = {}
    for prefix, block in spreads.items():
        alike = sum(spread * ALIKE >= max(block.values()) for spread in block.values())
        if len(block) >= MIN_COORDINATES and 2 * alike >= len(block):
            common = math.sqrt(sum(spread * spread for spread in block.values()) / len(block))
            blocks |= dict.fromkeys(block, (prefix, len(block), common))
    return blocks


def _spread(statistics: ColumnStatistics) -> float:
    spread = 0.0 if statistics.numbers is None else float(statistics.numbers.moments.stddev or 0.0)
    return spread if math.isfinite(spread) else 0.0
