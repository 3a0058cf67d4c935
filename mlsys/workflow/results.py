"""Results of the steps, which later steps take: small frozen values, recorded as JSON.

A result names objects of the store by their digests and holds the numbers that people are told. Its own
`digest` is what later steps depend on: a step that ran again and came to the same digest makes no other run.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter

from mlsys.schema import Task
from mlsys.store import digest_json


@dataclass(frozen=True)
class StepResult:
    """The result of a step.

    Attributes
    ----------
    identity
        Fields that later steps depend on.
    objects_of
        Kind of the stored object, and the field that holds its digest or None.
    """

    identity: ClassVar[tuple[str, ...]]
    objects_of: ClassVar[tuple[tuple[str, str], ...]]

    @property
    def digest(self) -> str:
        """Digest of all that later steps depend on."""
        values = self.to_json()
        return digest_json([values.get(name) for name in self.identity])

    @property
    def objects(self) -> list[tuple[str, str]]:
        """Kind and digest of what it left in the store; it counts only while all of them are there."""
        digests = [(kind, getattr(self, name)) for kind, name in self.objects_of]
        return [(kind, digest) for kind, digest in digests if digest is not None]

    def to_json(self) -> dict[str, Any]:
        """JSON values by field; without those that are None."""
        adapter: TypeAdapter[Any] = self._adapter()
        values = adapter.dump_python(self, mode="json")
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """The result of a record; other keys of the record are passed over."""
        return cls._adapter().validate_python({each.name: record.get(each.name) for each in fields(cls)})

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
    screened
        Columns that are personal or known only with the answer, as alerts of explore.
    joined
        Report of the joins; empty without any.
    tables
        Snapshot of each feature table.
    forecast
        What a forecast adds to the recipe (`mlsys.collect.forecasting.ForecastPlan`).
    """

    identity = ("split", "task")
    objects_of = (("snapshot", "snapshot"), ("split", "split"))

    snapshot: str
    split: str
    task: Task
    num_rows: dict[str, int]
    num_columns: int
    taken: dict[str, Any]
    messages: tuple[str, ...]
    screened: tuple[dict[str, str], ...]
    joined: dict[str, Any]
    tables: dict[str, str]
    forecast: dict[str, Any] | None = None

    @property
    def objects(self) -> list[tuple[str, str]]:
        return [*super().objects, *(("snapshot", digest) for digest in self.tables.values())]


@dataclass(frozen=True)
class ExploreResult(StepResult):
    """Statistics of the training rows by fold, and the report.

    Attributes
    ----------
    suspects
        Columns that the leakage scan names.
    warnings
        Sentences about those that may know the answer.
    """

    identity = ("statistics",)
    objects_of = (("profile", "statistics"),)

    statistics: str
    report: str
    num_rows: int
    num_columns: int
    num_alerts: int
    num_findings: int
    suspects: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeaturesResult(StepResult):
    """The plan of features for each encoding.

    Attributes
    ----------
    used, dropped
        Columns that trees take, and the reason for each that they do not.
    num_features
        Features by encoding: ``codes`` for trees, ``dense`` for linear models, ``pixels`` where there are pictures.
    """

    identity = ("plan",)
    objects_of = (("plan", "plan"),)

    plan: str
    report: str
    used: tuple[str, ...]
    dropped: dict[str, str]
    num_features: dict[str, int]
    num_rows: int


@dataclass(frozen=True)
class SelectionResult(StepResult):
    """The leaderboard, and the family to go on with: the recipe's, or the one that is preferred.

    Attributes
    ----------
    contenders
        Families that were near the best, the best first.
    decided
        Recipe values that the comparison decided where the recipe leaves them open, by dotted key.
    seconds
        Time that the comparison took, which the search no longer has.
    """

    identity = ("family", "contenders", "decided")
    objects_of = (("ranking", "ranking"),)

    ranking: str
    preferred: str
    family: str
    contenders: tuple[str, ...]
    leaderboard: dict[str, Any]
    decided: dict[str, Any]
    seconds: float | None
    summary: str


@dataclass(frozen=True)
class TuneResult(StepResult):
    """The family of the model and its parameters.

    `stored` is the record of the search, `judged` are the rows that it judged, with predictions, and `max_rows` are
    those that the final fit has time for, if not all.
    """

    identity = ("family", "params", "judged", "max_rows")
    objects_of = (("params", "stored"), ("judged", "judged"))

    family: str
    params: dict[str, Any]
    stored: str
    judged: str | None
    max_rows: int | None
    summary: str


@dataclass(frozen=True)
class TrainResult(StepResult):
    """The bundle; `plan` says whether one task or the cluster fitted it."""

    identity = ("bundle",)
    objects_of = (("bundle", "bundle"),)

    bundle: str
    family: str
    plan: str
    num_features: int


@dataclass(frozen=True)
class EvaluateResult(StepResult):
    """Metrics of the test rows and the verdict of the gate; `failed` has the reasons where it failed."""

    identity = ("evaluation",)
    objects_of = (("evaluation", "evaluation"),)

    evaluation: str
    metric: str
    metrics: dict[str, Any]
    passed: bool
    failed: tuple[str, ...]
    checks: list[dict[str, Any]]
    report: str
    summary: str


@dataclass(frozen=True)
class ServedAt:
    """Address of an endpoint, a command that sends it a row, and the proxy in front of it."""

    url: str
    curl: str
    proxy: str


@dataclass(frozen=True)
class DeployResult(StepResult):
    """A registered version, and the one that the alias means and the endpoint serves: the same if it was promoted.

    Attributes
    ----------
    served
        Version that the alias means.
    reason
        Why that is another version, or why no endpoint answers with it; empty otherwise.
    endpoint
        None where the endpoint of the name serves another alias.
    comparison, report
        The comparison with the champion, and its page; None where there was none to beat.
    views
        Feature tables whose columns the endpoint looks up.
    replayed
        Rows, requests and seconds of production rows that were sent now; None if none were.
    is_new
        The step changed something: a version, the alias, a table, the endpoint, or what it was sent.
    """

    identity = ("name", "version")
    objects_of = (("bundle", "bundle"),)

    name: str
    version: int
    alias: str
    bundle: str
    endpoint: ServedAt | None
    views: tuple[str, ...]
    replayed: dict[str, Any] | None
    is_new: bool
    served: int | None = None
    reason: str = ""
    comparison: dict[str, Any] | None = None
    report: str | None = None


@dataclass(frozen=True)
class MonitorResult(StepResult):
    """The decision about the model, and the exit code that says it; the rest is None without predictions.

    `messages` say what was left out of the log and of the labels, `alarms` what those of the last window do to the
    predictions and to the performance. `comparison` has two windows beside each other, if that was asked for.
    """

    identity = ("decision", "judgement")
    objects_of = (("monitor", "judgement"),)

    decision: str
    exit_code: int
    windows: list[dict[str, Any]]
    summary: str
    judgement: str | None = None
    report: str | None = None
    messages: tuple[str, ...] = ()
    comparison: dict[str, Any] | None = None
    alarms: tuple[str, ...] = ()
