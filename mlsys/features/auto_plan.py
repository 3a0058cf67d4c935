"""What an operation has to know besides what the recipe says: how many categories, axes, elements, which parts.

The automatic choice for a column of each kind, and its reason in one sentence.

Numbered columns of one unit are the coordinates of one vector: pixels, sensors, a spectrum, an embedding.

Each divided by its own deviation, the columns in which next to nothing happens (the corners of
a picture) would weigh as much as those that tell rows apart. So for models that compare sizes
of features, the columns of a vector are divided by one deviation, and no logarithm is taken.
Trees are not concerned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mlsys.features.domains import domain_of
from mlsys.features.operations import image
from mlsys.features.operations.categorical import OTHER
from mlsys.features.operations.datetimes import CYCLES
from mlsys.features.operations.numeric import signed_logs
from mlsys.limits import ID_LIKE_FRACTION, MAX_CODES
from mlsys.schema import Column, Kind, arrow_type
from mlsys.statistics import ColumnStatistics, TableStatistics

__all__ = [
    "MAX_ONEHOT",
    "AutomaticChoice",
    "CoordinateBlocks",
    "Encoding",
    "automatic",
    "coordinate_blocks",
    "coordinates",
    "defaults",
    "min_rows",
    "num_components",
    "num_elements",
    "num_present",
    "parts_of",
]

MAX_ONEHOT = 128
"""Categories with a column of their own: 128 float32 columns are half a gigabyte a million rows."""

SIDE = 32
"""Side of the square on which the gradients of a picture are taken: cells of 8 pixels, as in the paper."""

SMALL, PIXELS = 32, 16
"""Pictures up to this size show something in a pixel; side of the square to which they are reduced."""

MAX_ELEMENTS = 64
"""Elements of lists taken one by one: a sensor's readings or a small embedding."""

COMPONENTS, MAX_COMPONENTS = 256, 512
"""Axes for texts: 256 float32 columns are a gigabyte a million rows; many classes take up to twice as many."""

TREE_COMPONENTS = 64
"""For trees, which split one axis at a time and gain little from the later ones."""

TEXTS_PER_COMPONENT, MIN_COMPONENTS = 8, 2
"""Training texts an axis; with fewer than two axes, what texts say is not read."""

Encoding = Literal["codes", "dense"]


def defaults(operation: str, column: Column, statistics: ColumnStatistics, encoding: Encoding) -> dict[str, Any]:
    """What an operation has to know besides the options that were given."""
    limits = {"codes": MAX_CODES, "onehot": MAX_ONEHOT}
    if operation in limits:
        return {"max_categories": limits[operation], "min_rows": min_rows(statistics.num_rows)}
    chosen: dict[str, Callable[[], dict[str, Any]]] = {
        "target": lambda: {"min_rows": 1},  # the fewer rows a category has, the more the overall mean bears on it
        "hash": lambda: {"buckets": MAX_ONEHOT},
        "list": lambda: {"elements": num_elements(statistics)},
        "datetime": lambda: {"parts": parts_of(column, statistics) or ["weekday"]},
        "tfidf": lambda: {"components": num_components(statistics, encoding)},
        "image": lambda: _picture(statistics),
    }
    return chosen.get(operation, dict)()


def num_present(statistics: ColumnStatistics) -> int:
    """Rows with a value that counts: of numbers, the finite ones."""
    numbers = statistics.numbers
    return statistics.num_rows - statistics.num_nulls if numbers is None else numbers.moments.n


def min_rows(num_rows: int) -> int:
    """Rows that a category needs in training for a place of its own.

    A mean over fewer than 10 rows has a standard error of a third of the spread; small
    tables have to do with less.
    """
    return max(2, min(10, num_rows // 100))


def parts_of(column: Column, statistics: ColumnStatistics) -> list[str]:
    """Parts of a time whose whole cycle the training rows span.

    The outermost percent on either side does not count: there are the stand-ins such as
    9999-12-31.
    """
    low, high = statistics.quantiles([0.01, 0.99])
    span = (high - low) / 0.98
    domain = domain_of(arrow_type(column.type))
    parts = [part for part in CYCLES if part != "hour" or (domain is not None and domain.name != "date")]
    return [part for part in parts if span >= CYCLES[part].seen_after_us]


def num_components(statistics: ColumnStatistics, encoding: Encoding) -> int:
    """Axes for texts: enough for the classes to lie apart, and `TEXTS_PER_COMPONENT` different texts for each."""
    most = TREE_COMPONENTS if encoding == "codes" else max(COMPONENTS, 4 * (statistics.classes or 0))
    texts = num_present(statistics) if statistics.kind is Kind.TEXT else statistics.num_distinct or 0
    return min(most, MAX_COMPONENTS, texts // TEXTS_PER_COMPONENT)


def num_elements(statistics: ColumnStatistics) -> int:
    """Elements that are taken one by one: all of them where all lists have the same few, else none."""
    lengths = statistics.lengths
    return lengths.maximum if lengths.minimum == lengths.maximum <= MAX_ELEMENTS else 0


def _picture(statistics: ColumnStatistics) -> dict[str, Any]:
    found = statistics.images
    if found is None:
        return {}
    small = max(found.widths.maximum, found.heights.maximum) <= SMALL
    return {
        "size": SIDE,
        "pixels": PIXELS if small else 0,
        "colour": not found.is_grey,
        "sized": not found.is_one_size,
    }


MAX_RATES = 20
"""Classes up to which many categories become the rate of each class in them, a column a class."""

PHRASE = 2.0
"""Words a category from which categories are phrases, whose words say which of them are alike."""

LONG_TAIL = 2.0
"""Skewness of an exponential distribution: a longer tail than that is looked at as a logarithm."""


@dataclass(frozen=True)
class AutomaticChoice:
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
) -> list[AutomaticChoice]:
    """The choices that the recipe can override: one or more operations, or the one to drop the column.

    `time` is the column of the row's own time, for a column that may be measured from it.
    """
    nothing = _useless(column, statistics)
    if nothing is not None:
        return [AutomaticChoice(column.name, "drop", {}, nothing)]
    choices = BY_KIND[column.kind](column, statistics, encoding)
    if column.kind is not Kind.DATETIME or time is None:
        return choices
    reason = f"days from {time}, the time of the row: that means the same in every year"
    elapsed = AutomaticChoice(column.name, "elapsed", {"since": time}, reason)
    return [*(choice for choice in choices if choice.operation != "drop"), elapsed]


def coordinates(choice: AutomaticChoice) -> int:
    """Features of a choice that are places in a space, at least; of a picture, its gradients."""
    params = choice.params
    if choice.operation == "numeric":
        return int(isinstance(params.get("scale"), float))
    if choice.operation == "image":
        return len(image.hog_names())
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


def _numeric(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[AutomaticChoice]:
    if encoding == "codes":
        reason = "a number: trees split it at any scale, a missing one takes the branch that fits better"
        return [AutomaticChoice(column.name, "numeric", {}, reason)]
    numbers = statistics.numbers
    if numbers is None or not numbers.moments.stddev:
        reason = "its numbers are all the same or too large for a standard deviation"
        return [AutomaticChoice(column.name, "drop", {}, reason)]
    form = "centred and divided by its standard deviation; a missing one takes the median and is marked"
    skewness = _tamed(statistics)
    if skewness is None:
        return [AutomaticChoice(column.name, "numeric", {}, f"a number: {form}")]
    reason = f"a number with a long tail, skewness {skewness[0]:.1f} and {skewness[1]:.1f} as a logarithm: {form}"
    return [AutomaticChoice(column.name, "numeric", {"log": True}, reason)]


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


def _categorical(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[AutomaticChoice]:
    distinct = statistics.num_distinct or 0
    limit, operation = (MAX_CODES, "codes") if encoding == "codes" else (MAX_ONEHOT, "onehot")
    if distinct > limit:
        many = f"{distinct:,} categories, more than {limit}:"
        if (statistics.classes or 0) > MAX_RATES:
            return [AutomaticChoice(column.name, "frequency", {}, f"{many} how frequent each is in training")]
        reason = f"{many} the mean of the target in each; training rows get that of the other folds"
        means = AutomaticChoice(column.name, "target", defaults("target", column, statistics, encoding), reason)
        components = num_components(statistics, encoding)
        if words_of(statistics) < PHRASE or components < MIN_COMPONENTS:
            return [means]
        reason = f"{many} phrases, which say what is alike: their words and letters on {components} leading axes"
        return [means, AutomaticChoice(column.name, "tfidf", {"components": components}, reason)]
    params = defaults(operation, column, statistics, encoding)
    form = "codes that trees split in sets" if encoding == "codes" else "one column each"
    reason = f"{distinct} categories: {form}; under {params['min_rows']} rows or unknown go to {OTHER}"
    return [AutomaticChoice(column.name, operation, params, reason)]


def _boolean(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[AutomaticChoice]:
    del statistics
    missing = "a missing one stays missing" if encoding == "codes" else "a missing one takes the mean and is marked"
    return [AutomaticChoice(column.name, "boolean", {}, f"true and false as 1 and 0; {missing}")]


def _datetime(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[AutomaticChoice]:
    parts = parts_of(column, statistics)
    if not parts:
        return [AutomaticChoice(column.name, "drop", {}, "training spans less than one cycle of any of its parts")]
    titles = ", ".join(CYCLES[part].title.split(",")[0] for part in parts)
    form = "points on a circle" if encoding == "dense" else "numbers"
    reason = f"{titles} as {form}: training has seen their whole cycle; how long ago is left out, it only ever grows"
    return [AutomaticChoice(column.name, "datetime", {"parts": parts}, reason)]


def _text(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[AutomaticChoice]:
    form = "a missing one stays missing" if encoding == "codes" else "a missing one takes the mean and is marked"
    numbers = AutomaticChoice(column.name, "text", {}, f"text: its length, words, capitals, digits and signs; {form}")
    components = num_components(statistics, encoding)
    if components < MIN_COMPONENTS:
        return [replace(numbers, reason=f"{numbers.reason}; too few texts to learn from what they say")]
    reason = f"text: what it says, by words and letters side by side, on the {components} leading axes of its texts"
    return [numbers, AutomaticChoice(column.name, "tfidf", {"components": components}, reason)]


def words_of(statistics: ColumnStatistics) -> float:
    """Words a category, on average over the categories."""
    categories = [value for value in statistics.counts() if isinstance(value, str)]
    return sum(len(category.split()) for category in categories) / len(categories) if categories else 0.0


def _image(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[AutomaticChoice]:
    params, found = defaults("image", column, statistics, encoding), statistics.images
    if found is None or not found.n:
        return [AutomaticChoice(column.name, "drop", {}, "no picture in any training row")]
    sizes = f"{found.widths.maximum} × {found.heights.maximum}"
    form = f"{'grey' if found.is_grey else 'colour'}, {'all' if found.is_one_size else 'up to'} {sizes}"
    pixels = f" and {params['pixels']} × {params['pixels']} pixels" if params["pixels"] else ""
    size = "" if found.is_one_size else "size, "
    reason = f"pictures ({form}): {size}levels, gradients of {params['size']} × {params['size']}{pixels}"
    return [AutomaticChoice(column.name, "image", params, reason)]


def _list(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[AutomaticChoice]:
    del encoding
    elements = num_elements(statistics)
    one_by_one = f", and its {elements} elements: all lists have so many" if elements else ""
    reason = f"a list of numbers: length, mean, min, max and standard deviation{one_by_one}"
    return [AutomaticChoice(column.name, "list", {"elements": elements}, reason)]


def _unread(column: Column, statistics: ColumnStatistics, encoding: Encoding) -> list[AutomaticChoice]:
    del statistics, encoding
    return [AutomaticChoice(column.name, "drop", {}, f"no operation reads {column.kind.value} values")]


BY_KIND: Mapping[Kind, Callable[[Column, ColumnStatistics, Encoding], list[AutomaticChoice]]] = {
    Kind.NUMERIC: _numeric,
    Kind.CATEGORICAL: _categorical,
    Kind.BOOLEAN: _boolean,
    Kind.DATETIME: _datetime,
    Kind.TEXT: _text,
    Kind.IMAGE: _image,
    Kind.BYTES: _unread,
    Kind.LIST: _list,
}


MIN_COORDINATES = 32
"""Fewer numbered columns are more often repeated questions than coordinates."""

ALIKE = 10.0
"""In one unit, half of the columns at least have a deviation within this factor of the largest."""

CoordinateBlocks = dict[str, tuple[str, int, float]]
"""Column → the prefix that it shares, how many columns share it, and their common deviation."""


def coordinate_blocks(columns: Iterable[Column], table: TableStatistics) -> CoordinateBlocks:
    """The columns that are coordinates.

    The common deviation is the root of the mean variance of the columns that vary.
    """
    spreads: dict[str, dict[str, float]] = {}
    for column in columns:
        numbered = re.fullmatch(r"(.*?)\d+", column.name)
        spread = _spread(table.columns[column.name])
        if numbered and column.kind is Kind.NUMERIC and spread > 0:
            spreads.setdefault(numbered[1], {})[column.name] = spread
    found: CoordinateBlocks = {}
    for prefix, of in spreads.items():
        if len(of) >= MIN_COORDINATES and _in_one_unit(list(of.values())):
            common = math.sqrt(sum(spread * spread for spread in of.values()) / len(of))
            found |= dict.fromkeys(of, (prefix, len(of), common))
    return found


def _spread(statistics: ColumnStatistics) -> float:
    spread = 0.0 if statistics.numbers is None else float(statistics.numbers.moments.stddev or 0.0)
    return spread if math.isfinite(spread) else 0.0


def _in_one_unit(spreads: list[float]) -> bool:
    near = sum(spread * ALIKE >= max(spreads) for spread in spreads)
    return 2 * near >= len(spreads)
