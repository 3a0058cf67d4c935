"""Metrics on slices of the rows: those of one value, or one range of values, of a column.

A slice is compared with the middle one of the other slices of its column, not with all rows: a
column that predicts well makes the ranking within each of its slices harder, which is no fault
of any of them. Slices of a column share no rows, so the difference has the error of two
independent estimates; where they share days, that is rather too large an error than too small a one. Many slices
are looked at, so some look bad by chance: one is marked as worse only if the difference holds at the confidence level
after Bonferroni's correction for the number of slices (Dunn 1961, JASA 56, 52-64), with the standard errors of
`intervals` and the t distribution of as many degrees of freedom as there are groups or blocks, less one. The number of
slices is part of the result.

A ranking is judged on whole groups: its slices are by columns that have one value in each group, such as the device
of a query, and not by what tells the rows of a group apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlsys import errors
from mlsys.dataset import Split
from mlsys.evaluate import intervals
from mlsys.evaluate.metrics import Metric
from mlsys.schema import Column, Kind, Role, Schema, Task
from mlsys.statistics import jackknife
from mlsys.statistics.arrays import Floats
from mlsys.statistics.hashing import hash_exactly

MAX_VALUES = 20
"""A column with more values is not sliced by itself; named in the recipe, its most frequent ones are."""
NUM_RANGES = 4
"""Ranges of a number or a time, of about the same number of rows."""
BUDGET = 40_000_000
"""Rows times resamples over all slices."""

DISCRETE = (Kind.CATEGORICAL, Kind.BOOLEAN, Kind.TEXT)
ORDERED = (Kind.NUMERIC, Kind.DATETIME)


@dataclass(frozen=True)
class Slice:
    """The rows with one value, or one range of values, of a column; `rows` are their numbers."""

    column: str
    value: str
    rows: NDArray[np.intp]


def columns(schema: Schema, named: Sequence[str], where: str = "recipe: evaluate.slices") -> list[Column]:
    """Choose the columns to slice by: those named in the recipe, else the features that can be sliced.

    Raises
    ------
    RecipeError
        A named column is not in the table, or is the target, or is of a kind without slices.
    """
    for name in named:
        if name not in schema:
            raise errors.RecipeError.unknown_column(where, name, schema.names)
        if schema[name].role is Role.TARGET or schema[name].kind not in (*DISCRETE, *ORDERED):
            got = f"'{name}', a {schema[name].kind.value} column ({schema[name].role.value})"
            expected = "a category, boolean, number, time or text beside the target"
            raise errors.RecipeError.build(where, got=got, expected=expected, field=name)
    if named:
        return [schema[name] for name in dict.fromkeys(named)]
    return [column for column in schema.features if column.kind in (Kind.CATEGORICAL, Kind.BOOLEAN, Kind.NUMERIC)]


def of_groups(table: pa.Table, columns: Sequence[Column], task: Task) -> list[Column]:
    """The columns by which the rows can be sliced: of a ranking, those of one value in each group."""
    if task.group is None:
        return list(columns)
    groups = np.unique(hash_exactly(table[task.group]), return_index=True, return_inverse=True)
    return [column for column in columns if _is_of_groups(table[column.name], groups[1], groups[2])]


def _is_of_groups(values: pa.ChunkedArray, first: NDArray[np.intp], group: NDArray[np.intp]) -> bool:
    hashes = hash_exactly(values)
    return bool((hashes == hashes[first][group]).all())


def check_groups(split: Split, task: Task, named: Sequence[str]) -> None:
    """Refuse slices of a ranking that would divide its groups, by the training rows, before any test row is opened.

    Raises
    ------
    RecipeError
        A named column has several values in a group.
    """
    if task.group is None or not named:
        return
    rows = split.table("train", list(dict.fromkeys([task.group, *named])))
    whole = of_groups(rows, [split.schema[name] for name in named], task)
    divided = [name for name in named if name not in {column.name for column in whole}]
    if divided:
        got = f"'{divided[0]}', which has several values in one '{task.group}'"
        expected = "columns of one value in each group: a ranking is judged on whole groups"
        raise errors.RecipeError.build("recipe: evaluate.slices", got=got, expected=expected, field=divided[0])


def find(table: pa.Table, columns: Iterable[Column], *, named: bool) -> tuple[list[Slice], list[str]]:
    """Find the slices of the rows, and the columns left out because they have too many values or one only."""
    slices, left_out = [], []
    for column in columns:
        parts = _parts(table[column.name], column.kind, named=named)
        slices += [Slice(column.name, value, rows) for value, rows in parts]
        left_out += [] if parts else [column.name]
    return slices, left_out


def _parts(values: pa.ChunkedArray, kind: Kind, *, named: bool) -> list[tuple[str, NDArray[np.intp]]]:
    num_values = pc.count_distinct(values, mode="all").as_py()
    if num_values < 2:
        return []
    if kind in ORDERED and num_values > NUM_RANGES + 2:
        return _ranges(values, is_time=kind is Kind.DATETIME)
    if num_values > MAX_VALUES and not named:
        return []
    counted = pc.value_counts(values.combine_chunks()).to_pylist()
    counted.sort(key=lambda entry: (-entry["counts"], str(entry["values"])))
    frequent = [entry["values"] for entry in counted[:MAX_VALUES]]
    codes = pc.index_in(values, pa.array(frequent, values.type)).fill_null(len(frequent)).to_numpy()
    parts = [(_say(value), np.flatnonzero(codes == i)) for i, value in enumerate(frequent)]
    rest = np.flatnonzero(codes == len(frequent))
    return [*parts, (f"{num_values - len(frequent)} other values", rest)] if len(rest) else parts


def _ranges(values: pa.ChunkedArray, *, is_time: bool) -> list[tuple[str, NDArray[np.intp]]]:
    numbers = pc.cast(values, pa.timestamp("us"), safe=False).cast(pa.int64()) if is_time else values
    flat = numbers.cast(pa.float64(), safe=False).to_numpy()  # a range of large integers needs no last digit
    missing = np.isnan(flat)
    cuts = np.unique(np.quantile(flat[~missing], np.arange(1, NUM_RANGES) / NUM_RANGES, method="inverted_cdf"))
    codes = np.where(missing, -1, np.searchsorted(cuts, flat, side="left"))
    parts = []
    for code in np.unique(codes[~missing]):
        rows = np.flatnonzero(codes == code)
        low, high = flat[rows].min(), flat[rows].max()
        parts.append((f"{_end(low, is_time=is_time)} to {_end(high, is_time=is_time)}", rows))
    return parts + ([("missing", np.flatnonzero(missing))] if missing.any() else [])


def _end(value: float, *, is_time: bool) -> str:
    return str(np.datetime64(int(value), "us").astype("datetime64[m]")).replace("T", " ") if is_time else f"{value:.3g}"


def _say(value: Any) -> str:
    if value is None:
        return "missing"
    return str(value).lower() if isinstance(value, bool) else str(value)


def judge(
    slices: Sequence[Slice],
    metric: Metric,
    y: NDArray[Any],
    prediction: NDArray[Any],
    plan: intervals.ResamplingPlan,
    *,
    min_rows: int,
    weight: Floats | None = None,
) -> dict[str, Any]:
    """Compute the metric on each slice with its interval, the worst first, those without a value last.

    `prediction` has the form that the metric needs; slices of fewer than `min_rows` rows are counted and not judged.
    """
    large = [part for part in slices if len(part.rows) >= min_rows]
    overall = metric.function(y, prediction, weight)
    total = sum(len(part.rows) for part in large)
    affordable = plan.at_most(max(50, BUDGET // max(total, 1)))
    z = jackknife.t_quantile(affordable.freedom, 1 - (1 - plan.confidence) / max(len(large), 1))
    rows = [measured(part, metric, y, prediction, affordable, weight) for part in large]
    for row in rows:
        row.update(_against_peers(row, [r for r in rows if r["column"] == row["column"]], metric.sign, z))
    rows.sort(key=lambda row: (np.isnan(row["value"]), metric.sign * row["value"]))
    return {
        "metric": metric.name,
        "overall": overall,
        "num_slices": len(large),
        "num_too_small": len(slices) - len(large),
        "min_rows": min_rows,
        "num_resamples": affordable.num_resamples,
        "confidence": plan.confidence,
        "rows": rows,
    }


def measured(
    part: Slice,
    metric: Metric,
    y: NDArray[Any],
    prediction: NDArray[Any],
    plan: intervals.ResamplingPlan,
    weight: Floats | None,
) -> dict[str, Any]:
    """Compute the metric of one slice, with its interval; as a row of the result."""
    some = part.rows
    statistic = metric.under(y[some], prediction[some], None if weight is None else weight[some])
    estimate = intervals.estimates({"": statistic}, len(some), plan.of(some))[""].within(*metric.bounds)
    return {
        "column": part.column,
        "slice": part.value,
        "num_rows": len(some),
        "fraction": len(some) / len(y),
        "mean_target": float(np.mean(y[some])),
        **asdict(estimate),
    }


def _against_peers(row: dict[str, Any], column: Sequence[dict[str, Any]], sign: int, z: float) -> dict[str, Any]:
    """Compare a slice with the middle one of its column's others: it is worse if by more than `z` standard errors.

    The middle and not the mean: one very good slice must not make all others look bad.
    """
    peers = [other for other in column if other is not row and np.isfinite([other["value"], other["error"]]).all()]
    if not peers:
        return {"peers": float("nan"), "worse": False}
    peers.sort(key=lambda other: float(other["value"]))
    middle = {(len(peers) - 1) // 2, len(peers) // 2}
    value = float(np.mean([peers[i]["value"] for i in middle]))
    error = np.linalg.norm([row["error"], *(peers[i]["error"] / len(middle) for i in middle)])
    return {"peers": value, "worse": bool(sign * (value - row["value"]) > z * error)}
