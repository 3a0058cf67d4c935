"""The schema of a table: columns with a type, a kind and a role.

The *kind* says how a value is treated (a number, a category, …), the *role* what the
column is for (a feature, the target, known only after the event, …). A schema is
inferred once by ``collect``, written out for review, and enforced from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from mlsys.notation import Notation

ROW = "__row"
"""Number of the row in its snapshot, counted from 0 over all files in order (int64)."""

FOLD = "__fold"
"""Fold of a training row, 0 … folds - 1; -1 outside the training part (int8)."""


class Kind(StrEnum):
    """The kind of a column's values, which decides how they are treated."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    TEXT = "text"
    IMAGE = "image"
    BYTES = "bytes"
    LIST = "list"


class Role(StrEnum):
    """The purpose of a column; only features reach a model."""

    FEATURE = "feature"
    TARGET = "target"
    ID = "id"
    TIME = "time"
    GROUP = "group"
    SPLIT = "split"
    WEIGHT = "weight"
    EXPOSURE = "exposure"
    AFTER = "known_after"
    IGNORE = "ignore"


class TaskKind(StrEnum):
    """The kind of prediction."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"
    RANKING = "ranking"


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


USUAL_POWER = 1.5
"""Power of the Tweedie variance where a recipe says none: half-way between counts (1) and positive amounts (2)."""


class TargetLoss(_FrozenModel):
    """A loss of numbers that a recipe names; `parameter` is the quantile of quantile, and the power of tweedie."""

    name: Literal["quantile", "poisson", "tweedie", "gamma"]
    parameter: float | None = None

    @classmethod
    def of(cls, value: str | Mapping[Any, float]) -> Self | None:
        """The loss that the value of a recipe's `loss` names; None for ``auto``.

        >>> TargetLoss.of({"quantile": 0.9}), TargetLoss.of("tweedie"), TargetLoss.of("auto")
        (TargetLoss(name='quantile', parameter=0.9), TargetLoss(name='tweedie', parameter=1.5), None)
        """
        if value == "auto":
            return None
        named = {value: USUAL_POWER if value == "tweedie" else None} if isinstance(value, str) else value
        return next(cls.model_validate({"name": name, "parameter": number}) for name, number in named.items())

    @property
    def power(self) -> float | None:
        """The power of the mean that the variance goes with: 1 for Poisson, 2 for gamma; None for a quantile."""
        return {"poisson": 1.0, "tweedie": self.parameter, "gamma": 2.0, "quantile": None}[self.name]

    @property
    def level(self) -> float:
        """The level of the quantile that is asked for; that of the median for another loss."""
        return self.parameter if self.name == "quantile" and self.parameter is not None else 0.5

    @property
    def has_log_link(self) -> bool:
        """True if models are sums on the scale of the logarithm, so that predictions are above 0."""
        return self.name != "quantile"

    def __str__(self) -> str:
        return self.name if self.parameter is None else f"{{{self.name}: {self.parameter:g}}}"


class Forecast(_FrozenModel):
    """The facts of a task whose target is forecast for the series and the time of a row.

    Attributes
    ----------
    time, series
        Columns of the time that is forecast, and of the names of a series; none where all rows are one.
    horizon, step, season
        How far ahead, from a row to the next, and after what a series repeats itself, as `mlsys.periods` reads them.
    known
        Columns that hold earlier values of the target; the first that has one is the seasonal-naive forecast.
    naive
        The derived feature that is that forecast.
    """

    time: str
    series: tuple[str, ...] = ()
    horizon: str
    step: str
    season: str | None = None
    known: tuple[str, ...]
    naive: str


class Task(_FrozenModel):
    """The prediction task: its kind and target, and for classification the classes in a fixed order.

    `classes` are the values of the target as JSON scalars, sorted; probabilities come in
    this order everywhere. For a binary task `classes[1]` is the positive class. `loss` is that of a number
    where the recipe names one; otherwise it follows the metric.

    `weight` is the column of how much a row counts, in fits and in metrics. `exposure` is that of what the expected
    value goes with, such as years: a model learns the rate, and a prediction is for the exposure of its row. `group`
    is that of the groups within which a ranking orders the rows, such as queries; its target are grades.
    `forecast` are the facts of a forecast; None where rows have no past.

    `labels` are those of a multi-label task, any number of which a row has; probabilities come in their order. Its
    `classes` are the most frequent sets of labels, as `mlsys.label_sets` writes them, and one for all others: they
    describe the rows, in statistics and reports, and no model is of them.
    """

    kind: TaskKind
    target: str
    classes: tuple[bool | int | str, ...] = ()
    labels: tuple[str, ...] = ()
    loss: TargetLoss | None = None
    weight: str | None = None
    exposure: str | None = None
    forecast: Forecast | None = None
    group: str | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not said: digests of tasks that say no more than kind and classes stay as they were."""
        facts: dict[str, Any] = handler(self)
        return {key: value for key, value in facts.items() if value is not None and (value or key != "labels")}

    @property
    def is_classification(self) -> bool:
        return self.kind in (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL)

    @property
    def is_ranking(self) -> bool:
        return self.kind is TaskKind.RANKING

    @property
    def fitted(self) -> Task:
        """The task that a single model is fitted to: that of one label, of several; else this one.

        >>> Task(kind="multilabel", target="a, b", labels=("a", "b")).fitted.kind
        <TaskKind.BINARY: 'binary'>
        """
        if self.kind is not TaskKind.MULTILABEL:
            return self
        return self.model_copy(update={"kind": TaskKind.BINARY, "classes": (False, True), "labels": ()})

    @property
    def beside(self) -> list[str]:
        """Columns that a row is fitted and judged with beside its features and its target."""
        return [name for name in (self.weight, self.exposure, self.group) if name is not None]

    @property
    def class_names(self) -> list[str]:
        """Classes as column names hold them: true and false as in JSON.

        >>> Task(kind="binary", target="late", classes=(False, True)).class_names
        ['false', 'true']
        """
        return [str(value).lower() if isinstance(value, bool) else str(value) for value in self.classes]

    @property
    def output_names(self) -> list[str]:
        """Names of the probabilities of a row: of its classes, or of its labels."""
        return list(self.labels) or self.class_names


class Column(_FrozenModel):
    """One column of a table.

    `type` is the name of an Arrow type as ``pyarrow.type_for_alias`` reads it, or one of
    the forms ``timestamp[us, tz=UTC]`` and ``list<item: float>`` that :func:`arrow_type`
    understands. `minimum` and `maximum` are inclusive, in the column's own unit. `null_values` are
    texts that count as missing where the values are no texts, such as ``?`` among numbers. `notation` is that of
    texts from which the values were read, where it is not that of programming languages and ISO 8601.
    """

    name: str
    type: str
    kind: Kind
    role: Role = Role.FEATURE
    nullable: bool = True
    unique: bool = False
    unit: str | None = None
    allowed: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    null_values: tuple[str, ...] = ()
    notation: Notation | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave unset facts out: digests of schemas that have none stay as they were before there were any."""
        facts: dict[str, Any] = handler(self)
        return {key: value for key, value in facts.items() if value or key not in {"null_values", "notation"}}


class Schema(_FrozenModel):
    """The columns of a table, in order."""

    columns: tuple[Column, ...] = Field(default=())

    def __iter__(self) -> Iterator[Column]:  # type: ignore[override]
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Column:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @cached_property
    def _by_role(self) -> dict[Role, list[Column]]:
        return {role: [column for column in self.columns if column.role is role] for role in Role}

    def with_role(self, role: Role) -> list[Column]:
        return [*self._by_role[role]]

    @property
    def features(self) -> list[Column]:
        return self.with_role(Role.FEATURE)

    def name_of(self, role: Role) -> str | None:
        """The name of the only column with this role, or None."""
        columns = self.with_role(role)
        return columns[0].name if columns else None

    @property
    def target(self) -> str | None:
        return self.name_of(Role.TARGET)

    def select(self, names: Iterable[str]) -> Self:
        """The named columns, in the order of the schema."""
        selected = set(names)
        return type(self)(columns=tuple(c for c in self.columns if c.name in selected))

    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, arrow_type(c.type), c.nullable) for c in self.columns])


def arrow_type(name: str) -> pa.DataType:
    """Find an Arrow type by its printed name; the inverse of ``str(type)`` for the types we store.

    >>> arrow_type("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])
    >>> arrow_type("list<item: float>")
    ListType(list<item: float>)
    """
    if name.startswith("timestamp["):
        unit, _, zone = name[len("timestamp[") : -1].partition(", tz=")
        return pa.timestamp(unit, zone or None)
    if name.startswith("list<item: "):
        return pa.list_(arrow_type(name[len("list<item: ") : -1]))
    if name.startswith("decimal128("):
        precision, scale = name[len("decimal128(") : -1].split(",")
        return pa.decimal128(int(precision), int(scale))
    if name == "double":
        return pa.float64()
    return pa.type_for_alias(name)
