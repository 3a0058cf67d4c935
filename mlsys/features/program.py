"""A fitted plan: operations with their constants, and the two ways to run them.

`FeatureProgram.transform` computes a table at once with Polars, `FeatureProgram.row`
gives a function for one row that takes microseconds. Both give the same bits, null for
null and refusal for refusal. A program is plain JSON; nothing is pickled.

Many rows: a program as Polars expressions over blocks of a table.

The blocks are computed with all threads and written into the matrix in their places, so
that memory beside table and matrix is that of a few blocks, whatever the number of rows.

One row: a program as closures over its constants, a few microseconds a call.

Each operation gives a function that reads one value and writes its features into the row.
Only a program with derived features is slower (a fraction of a millisecond): their SQL is
evaluated by Polars on a table of one row, so that it means the same as in a column.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys import errors, expressions
from mlsys.features import derive
from mlsys.features.domains import domain_of, in_utc
from mlsys.features.fit import operation_of
from mlsys.features.operations import operation_registry
from mlsys.features.operations.categorical import Categorical
from mlsys.features.operations.numeric import Matrix, Operation
from mlsys.features.operations.target import Target
from mlsys.features.plan import FeaturePlan
from mlsys.schema import FOLD, arrow_type
from mlsys.statistics import TableStatistics
from mlsys.store import digest_json

__all__ = [
    "BLOCK_ROWS",
    "FORMAT",
    "FeatureProgram",
    "compile_checks",
    "compile_columns",
    "compile_row",
    "fit",
    "missing",
    "transform_files",
    "with_derived",
]

BLOCK_ROWS = 131_072
"""Rows of a block: 1 MB a number column. Each expression costs some 50 µs a block, a tenth of its work at this size."""

BLOCK_CELLS = 1 << 24
"""Features of a block at most, 64 MB: with very many of them it has fewer rows."""

STRIP_ROWS = 8_192
"""Rows that are written at once: so many rows of the matrix stay in the cache from one feature to the next."""

MAX_THREADS = 4
"""Blocks at work at once: while one is computed, which uses all threads, others are read and written."""


def compile_columns(program: FeatureProgram) -> Callable[..., Matrix]:
    """The function of :meth:`FeatureProgram.transform`."""
    expressions: list[pl.Expr] = []
    steps, width = [], 0
    for operation in program.operations:
        raw, outputs = operation.raw(), len(operation.outputs)
        columns = slice(len(expressions), len(expressions) + len(raw))
        steps.append((operation.fill, columns, slice(width, width + outputs)))
        expressions += (expr.alias(str(at)) for at, expr in enumerate(raw, len(expressions)))
        width += outputs

    def block(table: pa.Table, out: Matrix) -> None:
        frame = program.read(table)
        computed = (frame.select(expressions) if expressions else frame).get_columns()
        for start in range(0, len(out), STRIP_ROWS):
            strip = out[start : start + STRIP_ROWS]
            series = [column.slice(start, len(strip)) for column in computed]
            for fill, columns, features in steps:
                fill(series[columns], strip[:, features])

    def transform(table: pa.Table, out: Matrix | None = None) -> Matrix:
        made = np.empty((table.num_rows, width), np.float32) if out is None else out
        step = _rows_of_block(width)
        parts = [(table.slice(at, step), made[at : at + step]) for at in range(0, table.num_rows, step)]
        _each(block, parts or [(table, made)])
        return made

    return transform


def transform_files(
    paths: Sequence[Path], columns: Sequence[str], transform: Callable[[pa.Table, Matrix], Matrix], width: int
) -> Matrix:
    """``(rows, width)``: what `transform` writes of these columns of all rows of some Parquet files.

    The files say how many rows there are, so the matrix is made once, and of the columns no
    more than a few row groups are in memory. Polars reads them: texts become views of what
    the file holds once, in a tenth of the time that it takes to write each out.
    """
    work: list[tuple[Path, int, int, int]] = []
    at = 0
    for path in paths:
        first, step = 0, _rows_of_block(max(width, len(columns)))
        for rows in _rows_of_groups(path):
            starts = range(0, rows, step)
            work += [(path, first + start, at + start, min(step, rows - start)) for start in starts]
            first, at = first + rows, at + rows
    out = np.empty((at, width), np.float32)

    def place(path: Path, first: int, at: int, rows: int) -> None:
        frame = pl.scan_parquet(path).slice(first, rows).select(columns).collect()
        transform(frame.to_arrow(compat_level=pl.CompatLevel.newest()), out[at : at + rows])

    _each(place, work)
    return out


def _rows_of_block(width: int) -> int:
    """`BLOCK_ROWS`, or what `BLOCK_CELLS` allow of very wide rows, down to a strip."""
    return min(BLOCK_ROWS, max(STRIP_ROWS, BLOCK_CELLS // max(1, width)))


def _rows_of_groups(path: Path) -> list[int]:
    facts = pq.read_metadata(path)
    return [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]


def _each(function: Callable[..., None], work: Sequence[tuple[Any, ...]]) -> None:
    """Call the function with each tuple, some at the same time."""
    threads = min(MAX_THREADS, pl.thread_pool_size(), len(work))
    if threads < 2:
        for arguments in work:
            function(*arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(function, *zip(*work, strict=True)):
            pass


Record = Mapping[str, Any]


def compile_row(program: FeatureProgram) -> Callable[[Record], npt.NDArray[np.float32]]:
    """The function of :meth:`FeatureProgram.row`."""
    single, joint, start = [], [], 0
    for operation in program.operations:
        if len(operation.reads) == 1:
            single.append((operation.column, operation.writer(start)))
        else:
            joint.append((operation.reads, operation.writer(start)))
        start += len(operation.outputs)
    width, complete = start, completer(program)

    def row(record: Record) -> npt.NDArray[np.float32]:
        record = complete(record)
        out = np.empty(width, np.float32)
        for column, write in single:
            try:
                value = record[column]
            except KeyError:
                raise missing(column) from None
            write(value, out)
        for columns, write in joint:
            write(tuple(value_of(record, column) for column in columns), out)
        return out

    return row


def value_of(record: Record, column: str) -> Any:
    if column not in record:
        raise missing(column)
    return record[column]


def compile_checks(
    program: FeatureProgram, checks: Mapping[str, Callable[[Any], bool]]
) -> Callable[[Record], list[str]]:
    """Function of one record that gives the columns whose check holds."""
    if not checks:
        return lambda _record: []
    complete = completer(program)

    def found(record: Record) -> list[str]:
        record = complete(record)
        return [column for column, holds in checks.items() if holds(record[column])]

    return found


def completer(program: FeatureProgram) -> Callable[[Record], Record]:
    """Function that adds the derived features to a record; without any, it gives the record itself."""
    if not program.derive:
        return lambda record: record
    kinds = {name: arrow_type(program.columns[name]) for name in derive.inputs(program.derive)}
    readers = {name: domain.reader(name) for name, kind in kinds.items() if (domain := domain_of(kind))}
    compute = expressions.row_function(pa.schema(list(kinds.items())), program.derive, derive.WHERE)

    def complete(record: Record) -> Record:
        values = {}
        for name, kind in kinds.items():
            if name not in record:
                raise missing(name)
            if name in readers:
                readers[name](record[name])
            values[name] = one(record[name], name, kind)
        try:
            return {**record, **compute(values)}
        except errors.ContractError as error:
            raise failed(error) from None

    return complete


def one(value: Any, name: str, kind: pa.DataType) -> pa.Array:
    """A column of one value."""
    try:
        return pa.array([value], kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        raise errors.RequestError.of([{"row": 0, "field": name, "got": repr(value), "expected": str(kind)}]) from None


def with_derived(table: pa.Table, program: FeatureProgram) -> pa.Table:
    """The table with the derived features.

    What they read is cast to the types of training first, and refused where that would
    lose something: the same expression means other things of other types.
    """
    for name in derive.inputs(program.derive):
        kind, at = arrow_type(program.columns[name]), table.schema.get_field_index(name)
        try:
            table = table.set_column(at, pa.field(name, kind), table[name].cast(kind))
        except pa.ArrowException:
            got = str(table.schema.field(name).type)
            raise errors.RequestError.of([{"row": 0, "field": name, "got": got, "expected": str(kind)}]) from None
    try:
        return derive.add(table, program.derive)
    except errors.ContractError as error:
        raise failed(error) from None


def failed(error: errors.ContractError) -> errors.RequestError:
    """A value that an expression cannot take is the request's fault."""
    got, expected = f"values on which it fails: {error}", "values that the expression can take"
    return errors.RequestError.of([{"row": 0, "field": error.field, "got": got, "expected": expected}])


def missing(column: str) -> errors.RequestError:
    """A field is not there at all."""
    return errors.RequestError.of([{"row": 0, "field": column, "got": "no such field", "expected": "a value or null"}])


FORMAT = 5
"""Version of the JSON form; raised when an older reader would misread it."""

FORBIDDEN = str.maketrans({"[": "(", "]": ")", "<": "{"})
"""Characters that XGBoost refuses in the name of a feature."""


@dataclass(frozen=True)
class FeatureProgram:
    """What turns request columns into the matrix that a model sees.

    Attributes
    ----------
    columns
        Request columns that it reads → name of their Arrow type, in order.
    operations
        One or more a column or derived feature.
    derive
        Derived features: name → SQL.
    """

    columns: dict[str, str]
    operations: tuple[Operation, ...]
    derive: dict[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> list[str]:
        """Request columns that it reads."""
        return list(self.columns)

    @cached_property
    def names(self) -> list[str]:
        """Names of the features, each once."""
        return distinct([name.translate(FORBIDDEN) for operation in self.operations for name in operation.outputs])

    @cached_property
    def types(self) -> list[str]:
        """Type of each feature, as in `models.matrix.Matrix`."""
        return [kind for operation in self.operations for kind in operation.types]

    @property
    def width(self) -> int:
        return len(self.types)

    @cached_property
    def digest(self) -> str:
        return digest_json(self.to_json())

    def transform(self, table: pa.Table, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Features of all rows.

        Parameters
        ----------
        out
            Where to write them; made here if it is not given.

        Returns
        -------
        ``(rows, width)``, float32, C order, owned by the caller.

        Raises
        ------
        RequestError
            A column is missing or of another type than in training.
        FeatureError
            These are training rows, and an encoding holds their own labels.
        """
        self._refuse_training_rows(table)
        return self._transform(table, out)

    def row(self) -> Callable[[Mapping[str, Any]], npt.NDArray[np.float32]]:
        """Function of one record, column → Python value, that gives ``(width,)`` float32.

        Make it once and keep it; it is as safe to share between threads as its result.
        """
        return compile_row(self)

    def unseen(self, table: pa.Table) -> dict[str, int]:
        """Column → rows with a category that training never saw; columns without any are left out."""
        return self._counted(table, {op.column: op.num_unseen() for op in self._categorical})

    def rare(self, table: pa.Table) -> dict[str, int]:
        """Column → rows with a category that training saw too seldom to keep apart; those without any are left out."""
        return self._counted(table, {op.column: op.num_rare() for op in self._categorical if op.has_rare})

    @property
    def _categorical(self) -> list[Categorical]:
        return [operation for operation in self.operations if isinstance(operation, Categorical)]

    def _counted(self, table: pa.Table, counts: Mapping[str, pl.Expr]) -> dict[str, int]:
        if not counts:
            return {}
        row = self.read(table).select(count.alias(column) for column, count in counts.items()).row(0, named=True)
        return {column: int(count) for column, count in row.items() if count}

    def unseen_row(self) -> Callable[[Mapping[str, Any]], list[str]]:
        """Function of one record that gives the columns with a category that training never saw."""
        return compile_checks(self, {op.column: op.is_unseen() for op in self._categorical})

    def rare_row(self) -> Callable[[Mapping[str, Any]], list[str]]:
        """Function of one record that gives the columns with a category that training saw too seldom."""
        return compile_checks(self, {op.column: op.is_rare() for op in self._categorical if op.has_rare})

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "columns": self.columns,
            "derive": self.derive,
            "operations": [operation.to_json() for operation in self.operations],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The program that `to_json` wrote.

        Raises
        ------
        BundleError
            It is of another format, or holds an operation that is not known.
        """
        if value.get("format") != FORMAT:
            got, hint = f"format {value.get('format')!r}", "use the version of mlsys that wrote it, or train again"
            raise errors.BundleError.build("features: program", got=got, expected=f"format {FORMAT}", hint=hint)
        return cls(
            dict(value["columns"]), tuple(map(operation_registry.operation, value["operations"])), dict(value["derive"])
        )

    @cached_property
    def _transform(self) -> Callable[..., npt.NDArray[np.float32]]:
        return compile_columns(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_json, (self.to_json(),))

    def _refuse_training_rows(self, table: pa.Table) -> None:
        encoded = [operation.column for operation in self.operations if isinstance(operation, Target)]
        if encoded and FOLD in table.column_names and pc.any(pc.greater_equal(table[FOLD], 0)).as_py():
            raise errors.FeatureError.build(
                "features: training rows",
                got=f"means of the target that hold the rows' own labels: {', '.join(encoded)}",
                expected="means of the other folds",
                hint="mlsys.features.training.fit(plan, statistics).transform(table)",
                field=encoded[0],
            )

    def read(self, table: pa.Table) -> pl.DataFrame:
        """The columns that operations read, derived ones among them.

        Raises
        ------
        RequestError
            As `transform`.
        """
        there = dict(zip(table.schema.names, table.schema.types, strict=True))  # once: a look-up in a table is a search
        for name, kind in self.columns.items():
            domain = domain_of(arrow_type(kind))
            if name not in there:
                raise missing(name)
            got = there[name]
            if domain is not None and not domain.accepts(got):
                raise domain.refuse(name, str(got))
        read = in_utc(table.select(self.inputs))
        if self.derive:
            read = with_derived(read, self)
        return pl.DataFrame(pl.from_arrow(read))


def fit(plan: FeaturePlan, statistics: TableStatistics) -> FeatureProgram:
    """The program of a plan, its constants from the statistics of the rows that a model may learn from.

    No data is read.

    Raises
    ------
    FeatureError
        The plan uses no column.
    """
    if not plan.used:
        reasons = "; ".join(f"{choice.column}: {choice.reason}" for choice in plan.dropped)
        raise errors.FeatureError.build(
            "features: nothing to learn from",
            got=reasons or "no feature columns",
            expected="at least one useful column",
            hint="features.columns: {column: operation} overrides the automatic choice",
        )
    dense = plan.encoding == "dense"
    operations = (operation_of(choice, plan.domains, statistics, dense=dense) for choice in plan.used)
    return FeatureProgram(dict(plan.columns), tuple(operations), dict(plan.derive))


def distinct(names: Iterable[str]) -> list[str]:
    """The names, each once: one that was there before gets the first number that makes it new.

    >>> distinct(["x", "x #2", "x", "x"])
    ['x', 'x #2', 'x #3', 'x #4']
    """
    wanted = list(names)
    taken, given = set(wanted), dict[str, None]()
    for name in wanted:
        new = name
        if name in given:
            new = next(f"{name} #{k}" for k in itertools.count(2) if f"{name} #{k}" not in taken)
        taken.add(new)
        given[new] = None
    return list(given)
