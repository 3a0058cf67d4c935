"""Alerts about the table, its columns and pairs of them, each with what the following steps do about it.

Alerts never stop a run. The action says what happens with no change to the recipe; it can
be overridden by ``features.columns``. A new check of a column is a function in `CHECKS`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlsys.expressions import quoted_name, quoted_text
from mlsys.limits import FLOAT32_MAX, FLOAT32_TINY, ID_LIKE_FRACTION, LAST_YEAR, LAST_YEAR_END_US, MAX_CODES
from mlsys.readers.conversion import MARKERS
from mlsys.reports.formats import number, percent
from mlsys.schema import Column, Kind, Schema, Task, TaskKind
from mlsys.statistics import ColumnStatistics, ColumnSummary, TableStatistics
from mlsys.statistics.code_columns import Explained
from mlsys.statistics.pairwise import PairwiseStatistics

MOSTLY_NULL = 0.5
"""Fraction of nulls from which most values are missing."""

SKEWED = 2.0
"""|g1| of an exponential distribution; from there a mean says little about a typical value."""

FENCES = 3.0
"""Interquartile ranges beyond the quartiles: Tukey's outer fences (Exploratory Data Analysis,
1977, section 2D), outside of which a normal distribution has 2 values in a million."""

OUTLYING = 0.001
"""Fraction of values outside the outer fences from which they are reported: 400 times that of a normal."""

REPEATED = 0.01
"""Fraction of pictures or texts that repeat an earlier one, from which they are reported."""

DUPLICATED = 0.001
"""Fraction of the rows that repeat an earlier one, above which they are reported."""

DOMINANT = 0.99
"""Fraction of the values that are one and the same, from which little is left to learn."""

REDUNDANT = 0.98
"""Strength of a pair from which one column all but determines the other: r² = 0.96."""

RARE_ROWS = 20
"""Rows from which a class is not rare, however many others there are: a recall on them is known to ±0.22."""

IMBALANCED = 0.1
"""Share of the rarest class of two; with more classes, this fraction of an equal share."""


SENTINEL_ROWS = 3
"""Rows from which a number that people write for a missing one is no accident."""

NEGATIVE_BESIDE = 10
"""Largest number, of a column without other negative ones, from which a -1 stands for a missing one."""

FORMATS = ("%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d", "%d %b %Y", "%b %d, %Y")
"""Formats of dates besides ISO 8601, which `collect` reads."""

LEAST_DATES = 3
"""Distinct values from which it is no accident that all of the frequent ones are dates."""


@dataclass(frozen=True)
class Alert:
    """Alert about a column, or about the table where `column` is None."""

    kind: str
    column: str | None
    detail: str
    action: str


def column_alerts(column: Column, statistics: ColumnStatistics) -> list[Alert]:
    """Find the alerts about one feature; a column that is dropped has that one alone."""
    summary = statistics.result()
    if summary.images is not None:
        return list(_picture_alerts(column, summary.images))
    finite = summary.count - (summary.num_nan or 0) - (summary.num_inf or 0)
    if finite == 0:
        return [Alert("all_null", column.name, "no value in any training row", "dropped")]
    if summary.distinct_count == 1 and finite == summary.num_rows:
        value = summary.frequent_items[0][0]
        return [Alert("constant", column.name, f"{value!r} in all training rows", "dropped")]
    return [alert for check in CHECKS for alert in check(column, statistics, summary)]


def _picture_alerts(column: Column, images: dict[str, Any]) -> Iterator[Alert]:
    total = images["count"] + images["num_broken"]
    if not total:
        yield Alert("all_null", column.name, "no picture in any training row", "dropped")
    if images["num_broken"]:
        detail = f"{images['num_broken']:,} of {total:,} pictures do not decode"
        yield Alert("broken", column.name, detail, "treated as missing; the card of the column says why")
    if images["alike_fraction"] > REPEATED:
        detail = f"{percent(images['alike_fraction'])} of the pictures look like an earlier one"
        yield Alert("repeated", column.name, detail, "kept; keep copies in one part with split.by: group")


def _mostly_null(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    if summary.null_fraction > MOSTLY_NULL:
        action = "kept; trees learn where a missing value goes, linear models get a column that says so"
        yield Alert("mostly_null", column.name, f"null in {percent(summary.null_fraction)} of the rows", action)


def _single_value(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    if summary.distinct_count == 1:
        value, rows = summary.frequent_items[0]
        detail = f"{value!r} in {rows:,} rows, null in the others"
        yield Alert("one_value", column.name, detail, "kept: missingness can be informative")


def _identifies_rows(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    distinct = summary.distinct_count or 0
    if column.kind is Kind.CATEGORICAL and distinct >= ID_LIKE_FRACTION * summary.count:
        detail = f"{distinct:,} different values in {summary.count:,} rows: looks like an identifier"
        yield Alert("id_like", column.name, detail, "dropped; name it as data.id if it identifies a row")
    elif column.kind is Kind.CATEGORICAL and distinct > MAX_CODES:
        detail = f"{distinct:,} categories"
        action = "the mean of the target stands for it, or with over 20 classes its frequency; phrases are also texts"
        yield Alert("high_cardinality", column.name, detail, action)


def _missing_markers(column: Column, statistics: ColumnStatistics, _: ColumnSummary) -> Iterator[Alert]:
    """Texts that usually mark a missing value, in a column of texts, where they are a value like any other."""
    if column.kind not in {Kind.CATEGORICAL, Kind.TEXT} or column.type != "string":
        return
    counts = {value: rows for value, rows in statistics.counts().items() if isinstance(value, str)}
    marks = {value: rows for value, rows in counts.items() if value.strip().lower() in MARKERS}
    if "+" in counts:  # then a minus is its opposite
        marks.pop("-", None)
    if not marks or len(marks) == len(counts):
        return
    shown = ", ".join(f"{value!r} in {rows:,} rows" for value, rows in list(marks.items())[:3])
    read = quoted_name(column.name)
    for value in marks:
        read = f"NULLIF({read}, {quoted_text(value)})"
    action = f"kept as a value of its own; data.derive: {_derive(column, read)} makes it missing"
    yield Alert("missing_marker", column.name, f"{shown}: marks of missing values", action)


def _sentinel(column: Column, statistics: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    """A number such as -999 or 9999 that comes again and again, far from all others."""
    if column.kind is not Kind.NUMERIC or summary.min is None or summary.max is None:
        return
    for value in (summary.min, summary.max):
        rows = dict(summary.frequent_items).get(value, 0)
        if rows < SENTINEL_ROWS or not _is_sentinel(value) or rows == summary.count:
            continue
        low, high = _others(statistics, summary, value, rows)
        gap = value - high if value == summary.max else low - value
        is_negative = value == -1 and low >= 0 and high >= NEGATIVE_BESIDE
        if gap > high - low or is_negative:
            detail = f"{number(value)} in {rows:,} rows, apart from the others, {number(low)} to {number(high)}"
            read = _derive(column, f"NULLIF({quoted_name(column.name)}, {value:g})")
            action = f"kept as a number; if it stands for a missing one, data.derive: {read}"
            yield Alert("sentinel", column.name, detail, action)


def _others(statistics: ColumnStatistics, summary: ColumnSummary, value: float, rows: int) -> tuple[float, float]:
    """Least and largest number beside the least or largest, which stands in so many rows."""
    if statistics.counts_exact:
        others = [float(each) for each in statistics.counts() if each != value and math.isfinite(each)]
        return min(others), max(others)
    error = 0.0 if statistics.numbers is None else statistics.numbers.rank_error
    share = min(rows / summary.count + max(2 / summary.count, error), 1.0)
    ends = (0.0, 1 - share) if value == summary.max else (share, 1.0)
    low, high = statistics.quantiles(list(ends))
    return float(low), float(high)


def _is_sentinel(value: float) -> bool:
    """Tell numbers that people write for a missing one: -1, and 9, 99, 999 … with a sign or more than one digit."""
    digits = f"{abs(value):.0f}"
    return value == -1 or (abs(value) == int(abs(value)) and set(digits) == {"9"} and (value < 0 or len(digits) > 1))


def _derive(column: Column, expression: str) -> str:
    return json.dumps({column.name: expression}, ensure_ascii=False)


def _dates(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    """Dates that are texts, in a format that is no standard or leaves open which number is the month."""
    values = [value for value, _ in summary.frequent_items if value]
    if column.kind not in {Kind.CATEGORICAL, Kind.TEXT} or len(values) < LEAST_DATES:
        return
    forms = [form for form in FORMATS if all(_is_date(value, form) for value in values)]
    if forms:
        read = " or ".join(f"STRPTIME({quoted_name(column.name)}, '{form}')" for form in forms)
        detail = f"texts that are dates, such as {values[0]!r}"
        action = f"kept as text; a column under features.derive reads it: {read}"
        yield Alert("date_as_text", column.name, detail, action)


def _is_date(value: object, form: str) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.strptime(value, form))  # noqa: DTZ007 - asked is the form alone
    except ValueError:
        return False


def _counts_rows(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    """A counter: whole numbers that are nearly all different and nearly without holes."""
    if column.kind is not Kind.NUMERIC or not summary.integral or summary.count < 100:
        return
    span = (summary.max or 0) - (summary.min or 0) + 1
    distinct = summary.distinct_count or 0
    if distinct >= 0.95 * summary.count and summary.count >= 0.5 * span:
        ends = f"{number(summary.min)} to {number(summary.max)}"
        detail = f"{distinct:,} different whole numbers in {summary.count:,} rows, from {ends}"
        action = "kept as a number; a row number does not predict new rows: put it under data.ignore"
        yield Alert("id_like", column.name, detail, action)


def _not_finite(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    for kind, rows, word in (("infinite", summary.num_inf, "infinite"), ("nan", summary.num_nan, "not a number (NaN)")):
        if rows:
            detail = f"{word} in {rows:,} of {summary.num_rows:,} rows"
            yield Alert(kind, column.name, detail, "counted apart and treated as missing")


def _out_of_range(column: Column, statistics: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    """Numbers and times beyond the range that models take."""
    if column.kind is Kind.NUMERIC:
        largest = max(abs(summary.min or 0), abs(summary.max or 0))
        if largest > FLOAT32_MAX:
            detail = f"numbers as large as {number(largest)}; models take them up to {number(FLOAT32_MAX)}"
            action = "larger ones are treated as missing; a column under features.derive can divide them"
            yield Alert("too_large", column.name, detail, action)
        elif 0 < largest < FLOAT32_TINY:
            detail = f"numbers no larger than {number(largest)}; models take them from {number(FLOAT32_TINY)} on"
            action = "0 to trees; a column under features.derive can multiply them"
            yield Alert("too_small", column.name, detail, action)
    elif column.kind is Kind.DATETIME and (summary.max or 0) >= LAST_YEAR_END_US:
        about = "" if statistics.counts_exact else "about "
        later = 1 - float(statistics.cdf([math.nextafter(LAST_YEAR_END_US, 0)])[0])
        detail = f"{about}{percent(later)} of the times are after {LAST_YEAR}, such as those that stand for never"
        yield Alert("never", column.name, detail, "treated as missing")


def _dominant(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    """A value that is nearly everywhere; counts of a sketch are too low, never too high."""
    if column.kind not in {Kind.NUMERIC, Kind.CATEGORICAL, Kind.BOOLEAN} or not summary.frequent_items:
        return
    value, rows = summary.frequent_items[0]
    if summary.distinct_count != 1 and rows >= DOMINANT * summary.count:
        detail = f"{value!r} in {percent(rows / summary.count)} of the values"
        yield Alert("nearly_constant", column.name, detail, "kept; data.ignore leaves it out if the others are errors")


def _skewed(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    if column.kind is not Kind.NUMERIC or summary.distinct_count == 2:  # a rare one of two values is no tail
        return
    if summary.skewness is not None and abs(summary.skewness) > SKEWED:
        detail = f"skewness {number(summary.skewness)}, median {number(summary.median)}, mean {number(summary.mean)}"
        action = "kept; trees are not affected, linear models take its logarithm where that halves the skewness"
        yield Alert("skewed", column.name, detail, action)


def _outlying(column: Column, statistics: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    """Values far outside, where the column is not skewed as a whole: a long tail is reported once."""
    if column.kind is not Kind.NUMERIC or statistics.numbers is None or abs(summary.skewness or 0) > SKEWED:
        return
    low, high = statistics.quantiles([0.25, 0.75])
    reach = FENCES * (high - low)
    if reach <= 0:
        return
    outside = statistics.cdf([low - reach, high + reach])
    share = float(outside[0] + 1 - outside[1])
    rows = round(share * statistics.numbers.moments.n)
    bound = statistics.numbers.rank_error * (not statistics.counts_exact)
    if share > max(OUTLYING, bound) and rows >= 3:
        detail = f"{rows:,} values ({percent(share)}) outside {number(low - reach)} to {number(high + reach)}"
        yield Alert("outliers", column.name, detail, "kept; check whether they are errors of measurement")


def _repeated(column: Column, _: ColumnStatistics, summary: ColumnSummary) -> Iterator[Alert]:
    if column.kind is not Kind.TEXT or not summary.count:
        return
    share = max(0.0, 1 - (summary.distinct_count or 0) / summary.count)
    if share > REPEATED:
        about = "about " if "distinct_count" in summary.notes else ""
        detail = f"{about}{percent(share)} of the texts stand in an earlier row too"
        yield Alert("repeated", column.name, detail, "kept; keep copies in one part with split.by: group")


CHECKS: tuple[Callable[[Column, ColumnStatistics, ColumnSummary], Iterator[Alert]], ...] = (
    _mostly_null,
    _single_value,
    _identifies_rows,
    _missing_markers,
    _dates,
    _sentinel,
    _counts_rows,
    _not_finite,
    _out_of_range,
    _dominant,
    _skewed,
    _outlying,
    _repeated,
)


def find(
    statistics: TableStatistics,
    schema: Schema,
    task: Task,
    *,
    num_duplicates: int = 0,
    pairwise: PairwiseStatistics | None = None,
) -> list[Alert]:
    """Find the alerts about the table, then about each feature in the order of the schema, then about pairs.

    Parameters
    ----------
    num_duplicates
        Training rows that repeat an earlier one on all features and the target.
    pairwise
        Statistics of pairs of columns, where they were counted.
    """
    alerts: list[Alert] = []
    num_rows = statistics.num_rows
    if num_rows and num_duplicates / num_rows > DUPLICATED:
        share = percent(num_duplicates / num_rows)
        detail = f"{num_duplicates:,} of {num_rows:,} training rows repeat an earlier one ({share})"
        action = "kept; chance puts equal rows into one part and fold, and the leakage scan looks for others"
        alerts.append(Alert("duplicates", None, detail, action))
    alerts += _target(statistics, task)
    for column in schema.features:
        if column.name in statistics.features:
            alerts += column_alerts(column, statistics.columns[column.name])
    return alerts if pairwise is None else [*alerts, *_redundant(pairwise, task)]


def _target(statistics: TableStatistics, task: Task) -> Iterator[Alert]:
    if not task.is_classification:
        summary = statistics.target.result()
        if summary.skewness is not None and abs(summary.skewness) > SKEWED:
            detail = f"skewness {number(summary.skewness)}: a few rows decide the squared error"
            action = "kept as it is; the median absolute error is reported beside the RMSE"
            yield Alert("skewed", task.target, detail, action)
        return
    if task.labels:  # sets of labels are no classes to learn
        return
    counts = statistics.class_counts()
    total = sum(counts.values())
    for value, rows in counts.items():
        if rows < min(2 * len(counts), RARE_ROWS) and total > 10 * len(counts):
            detail = f"class {value!r} has {rows:,} of {total:,} training rows"
            yield Alert("rare_class", task.target, detail, "kept; too few rows to learn or evaluate it reliably")
    bound = IMBALANCED * (1 if task.kind is TaskKind.BINARY else 2 / len(counts))
    rarest = min(counts, key=lambda value: counts[value])
    if total and counts[rarest] / total < bound:
        detail = f"class {rarest!r} is {percent(counts[rarest] / total)} of the training rows"
        action = (
            "rows are neither dropped nor repeated; models are ranked by a metric that does not depend on the shares"
        )
        action += ", and the threshold is chosen on validation" if task.kind is TaskKind.BINARY else ""
        yield Alert("imbalanced", task.target, detail, action)


def codes(columns: Mapping[str, Explained]) -> Iterator[Alert]:
    """Alerts about whole numbers that are codes, with the line that makes them categories."""
    for name, each in columns.items():
        action = "kept as a number, which selection compares with target means by value;"
        action += f" data.kinds: {{{name}: categorical}} makes it a category"
        yield Alert("codes", name, each.detail, action)


def _redundant(pairwise: PairwiseStatistics, task: Task) -> Iterator[Alert]:
    """Columns that an earlier one all but determines, each with the one of the strongest association."""
    names, strengths = pairwise.associations()
    size = len(pairwise.layout.numbers)
    for later in range(len(names)):
        earlier = [at for at in range(later) if abs(strengths[later, at]) >= REDUNDANT and names[at] != task.target]
        if names[later] == task.target or not earlier:
            continue
        best = max(earlier, key=lambda at: abs(strengths[later, at]))
        measure = "r" if later < size else "η" if best < size else "V"
        detail = f"nearly determined by '{names[best]}': {measure} = {strengths[later, best]:.3f}"
        action = "both kept; trees use either, for a linear model put one under data.ignore"
        yield Alert("redundant", names[later], detail, action)
