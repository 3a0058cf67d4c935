"""The response of a model to each of its columns: the mean prediction for each of the column's values.

The partial dependence of Friedman (2001), Greedy function approximation, Ann. Stat. 29:1189, section 8.2: for a column
and a value, the mean over rows of the prediction with that value in place of the row's own. The monitor weighs drift
by it: where the mean prediction is the same for all values, a column may move as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys.bundle import Bundle
from mlsys.dataset import Split
from mlsys.predict import Predictor
from mlsys.schema import Column, Kind, TaskKind
from mlsys.statistics import ColumnStatistics
from mlsys.statistics.arrays import Floats

MAX_ROWS, MAX_COSTLY_ROWS, MIN_ROWS = 200, 50, 20
"""Rows over which the mean is taken, fewer where texts, lists or pictures make them dear."""

MAX_PREDICTIONS = 150_000
"""Predictions that all responses together may cost: of very many columns each gets fewer rows."""

MAX_VALUES = 2_000_000
"""Values of all columns that are predicted from at once, beside those of one response, which are never divided."""

MAX_FILES = 16
"""Files of the test part from which the rows are taken."""

LEVELS = (0.0, 0.01, *(k / 20 for k in range(1, 20, 2)), 0.99, 1.0)
"""Quantiles of a number at which the response is taken: the middle of each decile, and both ends twice."""

MAX_CATEGORIES = 20
"""Categories, the most frequent ones, whose response is taken."""

OTHER = "\x00other"
"""A category that no row has."""

NUMBERS = (Kind.NUMERIC,)
CATEGORIES = (Kind.CATEGORICAL, Kind.BOOLEAN)
COSTLY = (Kind.TEXT, Kind.IMAGE, Kind.LIST, Kind.BYTES)


def responses(bundle: Bundle, split: Split, timezone: str) -> dict[str, Any]:
    """Mean predictions by column and value, over test rows.

    Returns
    -------
    dict
        ``num_rows``; ``spread``, the standard deviation of each output over the rows; and ``columns``: for each
        numeric or categorical column its ``values`` and the mean ``output`` at each, lists of one number for each
        output. The outputs are the probability of the positive class, of each of several classes, or the value. A
        column that the model does not read has none; of other kinds there is no response.
    """
    predictor = Predictor(bundle, timezone)
    needed = set(bundle.program.inputs)
    columns = [column for column in bundle.schema.features if column.kind in NUMBERS + CATEGORIES]
    read = [column for column in columns if column.name in needed]
    is_costly = any(column.kind in COSTLY for column in bundle.schema.features if column.name in needed)
    affordable = MAX_PREDICTIONS // ((len(LEVELS) + 1) * max(len(read), 1))
    rows = _rows(bundle, split, int(np.clip(affordable, MIN_ROWS, MAX_COSTLY_ROWS if is_costly else MAX_ROWS)))
    conformed = predictor.conform(rows)
    if not isinstance(conformed, pa.Table) or not conformed.num_rows:
        return {"num_rows": 0, "spread": [], "columns": {}}
    unread: dict[str, Any] = {
        column.name: {"values": [], "output": []} for column in columns if column.name not in needed
    }
    statistics = bundle.reference.inputs.columns
    known = {
        column.name: _values(column, statistics[column.name], conformed.schema.field(column.name).type)
        for column in read
        if column.name in statistics and column.name in conformed.column_names
    }
    answered: dict[str, Any] = {}
    for together in _batches(known, MAX_VALUES // (conformed.num_rows * conformed.num_columns)):
        answered |= _responses(predictor, conformed, together)
    spread = output_of(predictor, conformed).std(axis=0)
    return {"num_rows": conformed.num_rows, "spread": spread.tolist(), "columns": {**unread, **answered}}


def by_span(names: Iterable[str], responses: Mapping[str, Any]) -> list[str]:
    """Order columns: first those without a response, then those to whose values the mean prediction responds most.

    >>> answered = {"columns": {"a": {"output": [[0.1], [0.2]]}, "b": {"output": [[0.1], [0.9]]}}}
    >>> by_span(["a", "b", "text"], answered)
    ['text', 'b', 'a']
    """
    known = responses.get("columns", {})

    def span(name: str) -> float:
        output = np.asarray(known.get(name, {}).get("output") or [], np.float64)
        return float(np.ptp(output, axis=0).max()) if output.size else np.inf

    return sorted(names, key=lambda name: -span(name))


def _rows(bundle: Bundle, split: Split, count: int) -> pa.Table:
    """Rows of the test part, evenly spaced in it."""
    paths = split.paths("test")
    chosen = [paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, min(len(paths), MAX_FILES)).astype(int))]
    names = [name for name in bundle.schema.names if name in split.schema]
    parts = []
    for path in chosen:
        table = pq.read_table(path, columns=names)
        each = min(-(-count // len(chosen)), table.num_rows)
        parts.append(table.take(pa.array(np.linspace(0, max(table.num_rows - 1, 0), each).astype(np.int64))))
    return pa.concat_tables(parts)


def _batches(values: dict[str, list[Any]], most: int) -> Iterator[dict[str, list[Any]]]:
    """Columns with their values, in groups of at most `most` values, or of one column."""
    group: dict[str, list[Any]] = {}
    count = 0
    for name, own in values.items():
        if group and count + len(own) > most:
            yield group
            group, count = {}, 0
        group[name] = own
        count += len(own)
    if group:
        yield group


def _responses(predictor: Predictor, rows: pa.Table, values: dict[str, list[Any]]) -> dict[str, Any]:
    """Mean outputs with each value of each column in place of the rows' own, all predicted at once.

    A block of the rows stands for each value; of many columns a prediction costs more by the call than by the row.
    """
    num_rows, num_values = rows.num_rows, sum(map(len, values.values()))
    table = rows.take(pa.array(np.tile(np.arange(num_rows), num_values))).combine_chunks()
    first = 0
    for name, own in values.items():
        kind, place, end = rows.schema.field(name).type, rows.column_names.index(name), first + len(own)
        replaced = [pa.repeat(pa.scalar(value, kind), num_rows) for value in own]
        before, after = table[name][: first * num_rows], table[name][end * num_rows :]
        column = pa.chunked_array([*before.chunks, *replaced, *after.chunks], kind)
        table = table.set_column(place, table.schema.field(name), column.combine_chunks())
        first = end
    output = output_of(predictor, table)
    means = output.reshape(num_values, num_rows, -1).mean(axis=1)
    ends = np.cumsum([len(own) for own in values.values()])[:-1]
    parts = np.split(means, ends)
    return {
        name: {"values": own, "output": part.tolist()} for (name, own), part in zip(values.items(), parts, strict=True)
    }


def _values(column: Column, statistics: ColumnStatistics, kind: pa.DataType) -> list[Any]:
    """Values of a column at which the response is taken; the last one is null, and for texts one that is new."""
    if column.kind in NUMBERS:
        numbers = statistics.quantiles(np.array(LEVELS))
        known = numbers[np.isfinite(numbers)]  # none, where training rows have no value
        values: list[Any] = np.unique(known).tolist()
        if pa.types.is_integer(kind):
            bounds = np.iinfo(kind.to_pandas_dtype())  # a double may round beyond the largest integer
            values = sorted({min(max(round(value), int(bounds.min)), int(bounds.max)) for value in values})
    else:
        keys = statistics.frequencies.keys.take(pa.array(statistics.frequencies.order()[:MAX_CATEGORIES]))
        values = keys.cast(kind).to_pylist() + ([OTHER] if pa.types.is_string(kind) else [])
    return [*values, None]


def output_of(predictor: Predictor, rows: pa.Table) -> Floats:
    """The model's outputs for conformed rows, (n, outputs): one for two classes or a value, else one for each class."""
    predictions = predictor.conformed_table(rows)
    if predictions.probabilities is None:
        return np.asarray(predictions.score, np.float64)[:, None]
    outputs = np.asarray(predictions.probabilities, np.float64)
    return outputs[:, 1:] if predictor.task.kind is TaskKind.BINARY else outputs
