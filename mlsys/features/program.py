"""The feature program: fitted operations that turn request columns into the matrix of a model.

`FeatureProgram.transform` computes a table, `FeatureProgram.row` gives a function for one row that takes microseconds.
Both give the same bits, null for null and refusal for refusal. A program is plain JSON; nothing is pickled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlsys import errors
from mlsys.features import executors, row_program, small_tables
from mlsys.features.operations.categorical import Categorical
from mlsys.features.operations.operation import Operation
from mlsys.features.operations.operation_registry import fit_operation, read_operation
from mlsys.features.operations.target import Target
from mlsys.features.plan import FeaturePlan
from mlsys.features.row_program import RowProgram
from mlsys.features.small_tables import SmallFeatures, SmallTables
from mlsys.features.unusual import Counts, UnusualCategories
from mlsys.schema import FOLD, Role
from mlsys.statistics import TableStatistics
from mlsys.store import digest_json

FORMAT = 5
"""Version of the JSON form; raised when an older reader would misread it."""

UNTOLD, MAX_SHOWN = (Role.FEATURE, Role.TARGET), 10
"""Roles of columns that a message about missing features leaves out, and columns that it names."""
FORBIDDEN = str.maketrans({"[": "(", "]": ")", "<": "{"})
"""Characters that XGBoost refuses in the name of a feature."""


@dataclass(frozen=True)
class FeatureProgram:
    """Turn request columns into the matrix that a model sees.

    Attributes
    ----------
    columns
        Request columns that it reads → name of their Arrow type, in order.
    derive
        Derived features: name → SQL.
    """

    columns: dict[str, str]
    operations: tuple[Operation, ...]
    derive: dict[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> list[str]:
        return list(self.columns)

    @cached_property
    def names(self) -> list[str]:
        """Names of the features, each once."""
        return distinct([name.translate(FORBIDDEN) for operation in self.operations for name in operation.outputs])

    @cached_property
    def types(self) -> list[str]:
        """Type of each feature, as in `mlsys.models.matrix.Matrix`."""
        return [kind for operation in self.operations for kind in operation.types]

    @property
    def width(self) -> int:
        return len(self.types)

    @cached_property
    def digest(self) -> str:
        return digest_json(self.to_json())

    def transform(self, table: pa.Table, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Compute the features of all rows.

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

    def transform_counted(self, table: pa.Table) -> tuple[npt.NDArray[np.float32], Counts]:
        """Compute the features of all rows as `transform`, and count what `unseen` and `rare` do, in one reading."""
        self._refuse_training_rows(table)
        categories, blocks = self._unusual, list[Counts]()
        X = self._transform(table, None, lambda frame, raw: blocks.append(categories.count(frame, raw)))
        return X, categories.total(blocks)

    def transform_small(self, table: pa.Table) -> SmallFeatures | None:
        """Compute the features of few rows and count their unusual categories, with the bits of `transform_counted`.

        None where only that can: for more than `small_tables.SMALL_ROWS` rows, columns of other types, and before
        `prepare_small`.
        """
        small: SmallTables | None = self.__dict__.get("_small")
        if small is None or not 0 < table.num_rows <= small_tables.SMALL_ROWS:
            return None
        self._refuse_training_rows(table)
        return small(table)

    def prepare_small(self) -> bool:
        """Make the executor of small tables, which takes some tenths of a second; false if there is none for this."""
        return self._small is not None

    def row(self) -> Callable[[Mapping[str, Any]], npt.NDArray[np.float32]]:
        """Function of one record, column → Python value, that gives ``(width,)`` float32.

        Make it once and keep it; it is as safe to share between threads as its result.
        """
        return self.row_program().features

    def row_program(self) -> RowProgram:
        """Functions of one record that share its derived features; make it once and keep it, as that of `row`."""
        return row_program.compile_rows(self.operations, self.columns, self.derive)

    def unseen(self, table: pa.Table) -> dict[str, int]:
        """Column → rows with a category that training never saw; columns without any are left out."""
        return self._counted(table, {name: op.num_unseen() for name, op in self._unseen.items()})

    def rare(self, table: pa.Table) -> dict[str, int]:
        """Column → rows with a category that training saw too seldom to keep apart; those without any are left out."""
        return self._counted(table, {name: op.num_rare() for name, op in self._rare.items()})

    def unseen_by_row(self, table: pa.Table) -> list[int]:
        """Number of categories in each row that training never saw."""
        return self._by_row(table, [op.unseen_values() for op in self._unseen.values()])

    def rare_by_row(self, table: pa.Table) -> list[int]:
        """Number of categories in each row that training saw too seldom to keep apart."""
        return self._by_row(table, [op.rare_values() for op in self._rare.values()])

    @cached_property
    def _unusual(self) -> UnusualCategories:
        return UnusualCategories(self.operations)

    @cached_property
    def _unseen(self) -> dict[str, Categorical]:
        return row_program.unseen_operations(self.operations)

    @cached_property
    def _rare(self) -> dict[str, Categorical]:
        return row_program.rare_operations(self.operations)

    def _counted(self, table: pa.Table, counts: Mapping[str, pl.Expr]) -> dict[str, int]:
        if not counts:
            return {}
        row = self.read(table).select(count.alias(column) for column, count in counts.items()).row(0, named=True)
        return {column: int(count) for column, count in row.items() if count}

    def _by_row(self, table: pa.Table, flags: Sequence[pl.Expr]) -> list[int]:
        if not flags:
            return [0] * table.num_rows
        counts = pl.sum_horizontal(flag.fill_null(False).cast(pl.Int32) for flag in flags)
        counted: list[int] = self.read(table).select(counts).to_series().to_list()
        return counted

    def unseen_row(self) -> Callable[[Mapping[str, Any]], list[str]]:
        """Function of one record that gives the columns with a category that training never saw."""
        return self.row_program().unseen

    def rare_row(self) -> Callable[[Mapping[str, Any]], list[str]]:
        """Function of one record that gives the columns with a category that training saw too seldom."""
        return self.row_program().rare

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "columns": self.columns,
            "derive": self.derive,
            "operations": [operation.to_json() for operation in self.operations],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The program that `to_json` wrote; `BundleError` for another format or an operation that is not known."""
        if value.get("format") != FORMAT:
            got, hint = f"format {value.get('format')!r}", "use the version of mlsys that wrote it, or train again"
            raise errors.BundleError.build("features: program", got=got, expected=f"format {FORMAT}", hint=hint)
        operations = tuple(map(read_operation, value["operations"]))
        return cls(dict(value["columns"]), operations, dict(value["derive"]))

    @cached_property
    def _small(self) -> SmallTables | None:
        return small_tables.compile_small(self.operations, self.columns, self.derive)

    @cached_property
    def _transform(self) -> Callable[..., npt.NDArray[np.float32]]:
        return executors.compile_columns(self.operations, self.read)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_json, (self.to_json(),))

    def _refuse_training_rows(self, table: pa.Table) -> None:
        encoded = [operation.column for operation in self.operations if isinstance(operation, Target)]
        if encoded and FOLD in table.column_names and pc.any(pc.greater_equal(table[FOLD], 0)).as_py():
            got = f"means of the target that hold the rows' own labels: {', '.join(encoded)}"
            hint = "mlsys.features.training.fit(plan, statistics).transform(table)"
            raise errors.FeatureError.build(
                "features: training rows", got=got, expected="means of the other folds", hint=hint, field=encoded[0]
            )

    def read(self, table: pa.Table) -> pl.DataFrame:
        """Read the columns of operations from a table, derived ones among them; `RequestError` as for `transform`."""
        return executors.read_table(table, self.columns, self.derive)


def fit(plan: FeaturePlan, statistics: TableStatistics) -> FeatureProgram:
    """Fit a plan to statistics of the rows to learn from, reading no data; `FeatureError` if it uses no column."""
    if not plan.used:
        reasons = [f"{choice.column}: {choice.reason}" for choice in plan.dropped]
        others = [f"{column.name}: {column.role}" for column in statistics.schema if column.role not in UNTOLD]
        shown, more = (reasons or others)[:MAX_SHOWN], len(reasons or others) - MAX_SHOWN
        got = f"no column in use ({'; '.join([*shown, *([f'{more:,} more'] if more > 0 else [])])})"
        hint = "bring columns that differ from row to row; features.columns: {column: operation} keeps one all the same"
        expected = "at least one column that can tell rows apart"
        raise errors.FeatureError.build("features: nothing to learn from", got=got, expected=expected, hint=hint)
    dense = plan.encoding != "codes"
    operations = (fit_operation(choice, plan.domains, statistics, dense=dense) for choice in plan.used)
    return FeatureProgram(dict(plan.columns), tuple(operations), dict(plan.derive))


def distinct(names: Iterable[str]) -> list[str]:
    """Make names unique: a repeated one gets the first number that makes it new.

    >>> distinct(["x", "x #2", "x", "x"])
    ['x', 'x #2', 'x #3', 'x #4']
    """
    listed = list(names)
    taken, unique = set(listed), dict[str, None]()
    for name in listed:
        new = name
        if name in unique:
            new = next(f"{name} #{k}" for k in itertools.count(2) if f"{name} #{k}" not in taken)
        taken.add(new)
        unique[new] = None
    return list(unique)
