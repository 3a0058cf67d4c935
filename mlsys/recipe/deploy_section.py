"""The section of step 8: the endpoint, its limits, its batch jobs, and how a new version takes over."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mlsys.recipe import names
from mlsys.recipe.columns import LongSpan, Span
from mlsys.recipe.reading import Section


class LimitsSection(Section):
    """Bounds on what one client can ask of an endpoint; what exceeds one is refused with the status that it names."""

    body_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        description="bytes of a request's body at most, packed or unpacked; a larger one is refused with status 413",
    )
    rows: int = Field(20_000, ge=1, description="rows of a request at most; more are refused with status 413")
    columns: int = Field(
        10_000, ge=1, description="columns of a request at most, or as many as the model has; more are refused with 413"
    )
    pixels: int = Field(
        100_000_000, ge=1, description="pixels of all pictures of a request at most; more are refused with status 413"
    )
    faults: int = Field(100, ge=1, le=100, description="faults of a request that its answer names; all are counted")
    body_seconds: float = Field(
        10.0,
        gt=0,
        description="seconds within which the body of a request must have come; a slower one gets status 408",
    )
    seconds: float = Field(
        30.0,
        gt=0,
        description="seconds that a request waits for its prediction at most; then it gets status 503 with Retry-After",
    )
    queue: int = Field(
        64,
        ge=1,
        description="requests that wait for a replica beside those in progress; others get status 503 with Retry-After",
    )


class BatchSection(Section):
    """Batch jobs that clients submit to the endpoint: which places they may name, and how much they may take."""

    roots: tuple[str, ...] = Field(
        (),
        description="folders and URIs below which batch jobs read and write; by default the folder batch of the store",
    )
    max_running: int = Field(1, ge=1, description="batch jobs that run at a time; others wait")
    queue: int = Field(100, ge=1, description="batch jobs that wait at most; one more gets status 503 with Retry-After")
    cpu_share: float = Field(
        0.5, gt=0, le=1, description="fraction of the cluster's CPUs that a batch job takes at most, one CPU at least"
    )


class RolloutSection(Section):
    """A new version as a canary: it gets a share of the requests, more of them if tests allow it, or is taken back."""

    steps: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (5, 25, 50, 100), description="percent of the requests, a share a step; with the last, 100, it is promoted"
    )
    every: LongSpan = Field("10m", description="time that a step lasts at least")
    min_requests: int = Field(100, ge=1, description="requests of the canary that a step needs before it is over")
    alpha: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="probability at most that a version as good as the one in service is taken back, in all steps",
    )
    slowdown: float = Field(1.5, ge=1, description="factor of the latency, beside a millisecond, that is tolerated")
    shift: float = Field(
        0.2, gt=0, lt=1, description="difference of the distribution functions of the scores that is tolerated"
    )
    key: str | None = Field(
        None, description="column whose value decides who answers; by default the id of the row or the request"
    )
    shadow: bool = Field(False, description="first a step in which the canary computes requests and answers none")
    isolation: Literal["replica", "process"] = Field(
        "replica",
        description="where the canary runs: replica, beside the version in service; process, in one of its own, so "
        "that one which ends its process or swells hurts no other request; its own ones take a little longer",
    )

    @model_validator(mode="after")
    def _steps_rise_to_all(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)) or len(self.steps) < 2 or self.steps[-1] != 100:
            raise ValueError("steps that rise to 100, e.g. [5, 25, 50, 100]")
        return self


class DeploySection(Section):
    """Step 8, deploy: the registered version, its alias and its endpoint."""

    alias: Annotated[str, AfterValidator(names.alias)] = Field(
        "champion",
        description="alias that a model gets which passed its gate and, for champion, beats the one that has it",
    )
    margin: float = Field(
        0,
        ge=0,
        description="loss against the champion, in the chosen metric, with which a new model is promoted; for an "
        "error in the unit of the target, a fraction of the champion's; 0 promotes what is better beyond chance",
    )
    host: str = Field("127.0.0.1", description="address on which the endpoint listens")
    port: int = Field(8000, ge=0, le=65535, description="port on which the endpoint listens; 0 takes a free one")
    min_replicas: int = Field(1, ge=0, description="replicas that are always up; 0 lets an idle endpoint sleep")
    idle: LongSpan = Field(
        "10m",
        description="time without requests after which an endpoint with min_replicas 0 sleeps, at least 11s; the next "
        "request starts a replica and waits for it",
    )
    max_replicas: int = Field(2, ge=1, description="replicas under load")
    target_ongoing_requests: float = Field(
        16, gt=0, description="requests in progress a replica above which more replicas are started"
    )
    max_ongoing_requests: int = Field(64, ge=1, description="requests that a replica takes at a time; others wait")
    limits: LimitsSection = LimitsSection()
    batch: BatchSection = BatchSection()
    rollout: RolloutSection | None = Field(
        None, description="how a new version takes over from the one that is served; by default at once"
    )
    num_cpus: float = Field(0, ge=0, description="CPUs reserved for a replica; with 0 it shares them with the steps")
    log: bool = Field(True, description="log every prediction for the monitor")
    lookup: str = Field(
        "sqlite",
        pattern=r"^(sqlite|none|(redis|rediss|unix)://.+)$",
        description="store in which the endpoint looks up columns of feature tables that a request does not carry: "
        "sqlite (a file, for one machine), redis://host:port/db, or none",
    )
    history: Span = Field(
        "1d",
        description="the look-up answers requests whose time is at most this far before a feature table's newest value",
    )
    replay: bool = Field(True, description="send the production part to the endpoint, as traffic for the monitor")

    @model_validator(mode="before")
    @classmethod
    def _from_before_there_were_limits(cls, values: Any) -> Any:
        """Read ``max_body_bytes`` of earlier recipes, which runs of before have resolved, as a limit."""
        if not isinstance(values, dict) or "max_body_bytes" not in values:
            return values
        rest = {key: value for key, value in values.items() if key != "max_body_bytes"}
        limits = rest.get("limits", {})
        return (
            rest | {"limits": {"body_bytes": values["max_body_bytes"], **limits}} if isinstance(limits, dict) else rest
        )
