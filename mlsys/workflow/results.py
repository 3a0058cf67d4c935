"""Results of the steps, which later steps take: small frozen values, recorded as JSON.

A result names objects of the store by their digests and holds the numbers that people are told. Its own
`digest` is what later steps depend on: a step that ran again and came to the same digest makes no other run.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from pydantic import TypeAdapter

from mlsys.schema import Task
from mlsys.store import digest_json

Objects: TypeAlias = "list[tuple[str, str]]"


@dataclass(frozen=True)
class StepResult:
    """The result of a step."""

    @property
    def digest(self) -> str:
        """Digest of all that later steps depend on."""
        raise NotImplementedError

    @property
    def objects(self) -> Objects:
        """Kind and digest of what it left in the store; it counts only while all of them are there."""
        return []

    def to_json(self) -> dict[str, Any]:
        """JSON values by field; without those that are None."""
        adapter: TypeAdapter[Any] = self._adapter()
        values = adapter.dump_python(self, mode="json")
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """The result of a record; other keys of the record are passed over."""
        return cls._adapter().validate_python({name: record.get(name) for name in cls.__dataclass_fields__})

    @classmethod
    @functools.cache
    def _adapter(cls) -> TypeAdapter[Self]:
        return TypeAdapter(cls)


@dataclass(frozen=True)
class CollectResult(StepResult):
    """Checked and joined rows, their division into parts, and the task.

    Attributes
    ----------
    num_rows
        Rows of each part.
    taken
        Report of the collection of the rows.
    messages
        Lines that a person should read.
    joined
        Report of the joins; empty without any.
    tables
        Snapshot of each feature table.
    """

    snapshot: str
    split: str
    task: Task
    num_rows: dict[str, int]
    num_columns: int
    taken: dict[str, Any]
    messages: tuple[str, ...]
    joined: dict[str, Any]
    tables: dict[str, str]

    @property
    def digest(self) -> str:
        return digest_json([self.split, self.task.model_dump(mode="json")])

    @property
    def objects(self) -> Objects:
        tables = [("snapshot", digest) for digest in self.tables.values()]
        return [("snapshot", self.snapshot), ("split", self.split), *tables]


@dataclass(frozen=True)
class ExploreResult(StepResult):
    """Statistics of the training rows by fold, and the report."""

    statistics: str
    report: str
    num_rows: int
    num_columns: int
    num_alerts: int
    num_findings: int

    @property
    def digest(self) -> str:
        return self.statistics

    @property
    def objects(self) -> Objects:
        return [("profile", self.statistics)]


@dataclass(frozen=True)
class FeaturesResult(StepResult):
    """The plan of features for each encoding.

    Attributes
    ----------
    used, dropped
        Columns that trees take, and the reason for each that they do not.
    num_features
        Features by encoding: ``codes`` for trees, ``dense`` for linear models.
    """

    plan: str
    report: str
    used: tuple[str, ...]
    dropped: dict[str, str]
    num_features: dict[str, int]
    num_rows: int

    @property
    def digest(self) -> str:
        return self.plan

    @property
    def objects(self) -> Objects:
        return [("plan", self.plan)]


@dataclass(frozen=True)
class SelectionResult(StepResult):
    """The leaderboard, and the family to go on with: the recipe's, or the one that is preferred."""

    ranking: str
    preferred: str
    family: str
    leaderboard: dict[str, Any]
    summary: str

    @property
    def digest(self) -> str:
        return self.family

    @property
    def objects(self) -> Objects:
        return [("ranking", self.ranking)]


@dataclass(frozen=True)
class TuneResult(StepResult):
    """Parameters of the family; `stored` is the record of the search."""

    params: dict[str, Any]
    stored: str
    summary: str

    @property
    def digest(self) -> str:
        return digest_json(self.params)

    @property
    def objects(self) -> Objects:
        return [("params", self.stored)]


@dataclass(frozen=True)
class TrainResult(StepResult):
    """The bundle; `plan` says whether one task or the cluster fitted it."""

    bundle: str
    family: str
    plan: str
    num_features: int

    @property
    def digest(self) -> str:
        return self.bundle

    @property
    def objects(self) -> Objects:
        return [("bundle", self.bundle)]


@dataclass(frozen=True)
class EvaluateResult(StepResult):
    """Metrics of the test rows and the verdict of the gate; `failed` has the reasons where it failed."""

    evaluation: str
    metric: str
    metrics: dict[str, Any]
    passed: bool
    failed: tuple[str, ...]
    checks: list[dict[str, Any]]
    report: str
    summary: str

    @property
    def digest(self) -> str:
        return self.evaluation

    @property
    def objects(self) -> Objects:
        return [("evaluation", self.evaluation)]


@dataclass(frozen=True)
class ServedAt:
    """Address of an endpoint, a command that sends it a row, and the proxy in front of it."""

    url: str
    curl: str
    proxy: str


@dataclass(frozen=True)
class DeployResult(StepResult):
    """A registered version that an alias means and an endpoint serves.

    Attributes
    ----------
    views
        Feature tables whose columns the endpoint looks up.
    replayed
        Rows, requests and seconds of production rows that were sent now; None if none were.
    is_new
        The step changed something: a version, the alias, a table, the endpoint, or what it was sent.
    """

    name: str
    version: int
    alias: str
    bundle: str
    endpoint: ServedAt
    views: tuple[str, ...]
    replayed: dict[str, Any] | None
    is_new: bool

    @property
    def digest(self) -> str:
        return digest_json([self.name, self.version])

    @property
    def objects(self) -> Objects:
        return [("bundle", self.bundle)]


@dataclass(frozen=True)
class MonitorResult(StepResult):
    """The decision about the model, and the exit code that says it; the rest is None without predictions."""

    decision: str
    exit_code: int
    windows: list[dict[str, Any]]
    summary: str
    judgement: str | None = None
    report: str | None = None

    @property
    def digest(self) -> str:
        return digest_json([self.decision, self.judgement])

    @property
    def objects(self) -> Objects:
        return [] if self.judgement is None else [("monitor", self.judgement)]
