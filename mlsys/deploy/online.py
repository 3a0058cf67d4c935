"""One model on Ray Serve: its deployment, and the application builder that ``serve deploy`` imports.

``import_path: mlsys.deploy.online:app`` takes the arguments of `ModelArgs`. The deployment's
``user_config`` is a `ModelChoice`, so running replicas take another version: each loads it
beside the old one and switches between two requests.

An alias is resolved once, where the application is built, and every replica gets the digest: replicas that start at
different times would otherwise answer with different versions once the alias has moved. A version that cannot be loaded
leaves the one that answers where it is, and `Service.refused` says so.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve import Application, Deployment

from mlsys import registry
from mlsys.deploy import api_keys, asgi, batch_endpoint, batch_jobs, front, label_intake, responses, telemetry
from mlsys.deploy.api_keys import KeyRing
from mlsys.deploy.bodies import Body
from mlsys.deploy.guard import Guard
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.prediction_log import folder_of
from mlsys.deploy.service import Service, load
from mlsys.deploy.telemetry import Exporter
from mlsys.recipe import BatchSection, LimitsSection, names
from mlsys.registry import LedgerEntry
from mlsys.store import Store

_logger = logging.getLogger("ray.serve")

SWITCH_S = 0.0005
"""Seconds for which a thread may compute while the event loop waits for its turn. With Python's 5 ms an answer waits so
long, and again, while another thread writes the log or answers a large request."""


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogArgs(_Checked):
    """Settings of the prediction log."""

    enabled: bool = True
    flush_rows: int = Field(5_000, ge=1)
    flush_s: float = Field(1.0, gt=0, le=1.0)
    max_pending_rows: int = Field(100_000, ge=1)


class ModelChoice(_Checked):
    """Version of a model: an alias, version or digest for the registry, or a digest with its version."""

    alias: str = "champion"
    digest: str | None = None
    version: int | None = None

    def entry(self, store: Store, name: str) -> LedgerEntry:
        """Resolve the choice with the registry as it is now; digest and version together need no registry."""
        if self.digest is not None and self.version is not None:
            return LedgerEntry(name, self.version, self.digest)
        return registry.resolve(store, name, self.digest or self.version or self.alias)


class ModelArgs(_Checked):
    """Arguments of a model's application.

    `store` is an absolute path, by default ``$MLSYS_STORE`` of the replica: a relative one would be another
    folder in each process. `lookup`, `limits` and `batch` are as in the ``deploy`` section of a recipe. Without a
    `choice` the deployment's ``user_config`` names a version.
    """

    name: Annotated[str, AfterValidator(names.model_name)]
    store: str | None = None
    choice: ModelChoice | None = ModelChoice()
    log: LogArgs = LogArgs()
    lookup: str = "sqlite"
    limits: LimitsSection = LimitsSection()
    batch: BatchSection = BatchSection()

    @model_validator(mode="after")
    def _log_holds_a_request(self) -> Self:
        if self.log.enabled and self.limits.rows > self.log.max_pending_rows:
            message = f"log.max_pending_rows of at least limits.rows ({self.limits.rows}): a request is logged whole"
            raise ValueError(message)
        return self


@serve.deployment(name="Model", ray_actor_options={"num_cpus": 0})
@serve.ingress()
class Model:
    """Replica that answers requests for one model.

    It reserves no CPU unless the application's configuration says so: on one machine it shares
    the cores with the steps, which would otherwise wait for it forever.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        sys.setswitchinterval(SWITCH_S)
        front.limit_bodies(ModelArgs.model_validate(args).limits.body_bytes)
        self._args = ModelArgs.model_validate({**args, "choice": None})
        self._chosen = ModelChoice.model_validate(args.get("choice") or {})
        self._store = Store.open(self._args.store)
        log = None
        if self._args.log.enabled:
            limits = self._args.log.model_dump(exclude={"enabled"})
            log = PredictionLog(folder_of(self._store, self._args.name), **limits)
        self._service = Service(self._args.name, log)
        self._handler = asgi.RequestHandler(self._service, self._args.limits)
        self._metrics = Exporter(self._service.metric_values, telemetry.of_ray)
        self._metrics.start()
        batch_jobs.resume(self._store)

    def __serve_build_asgi_app__(self) -> Guard:
        routes = [
            label_intake.route(self._store, self._service, self._args.limits),
            *batch_endpoint.routes(self._store, self._args.name, self._args.batch, self._served),
        ]
        ring = KeyRing(api_keys.file_of(self._store))
        return Guard(asgi.app(self._handler, routes), lambda _: (ring,), self._args.name)

    def _served(self) -> str:
        """The version that answers now, or the alias that is to."""
        model = self._service.model
        return self._chosen.alias if model is None else str(model.entry.version)

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load the chosen version and switch to it; requests in flight keep the model they started with.

        If it does not load, the model before goes on answering, and ``/ready`` says so; without one the replica fails.
        """
        entry = self._entry(ModelChoice.model_validate(config))
        service = self._service
        service.refused = None
        if service.model is not None and service.model.entry == entry:
            return
        try:
            service.model = await asyncio.to_thread(load, self._store, entry, self._args.lookup)
        except Exception as error:
            if service.model is None:
                raise
            _logger.exception("version %s does not load", entry.version)
            service.refused = {"digest": entry.digest, "error": type(error).__name__}

    def _entry(self, choice: ModelChoice) -> LedgerEntry:
        """Entry of a choice; an alias is the one that was resolved where the application was built."""
        is_alias = choice.digest is None and choice.version is None
        if is_alias and choice.alias == self._chosen.alias and self._chosen.digest is not None:
            choice = self._chosen
        return choice.entry(self._store, self._args.name)

    async def infer(self, body: Body, version: str | None = None) -> tuple[int, bytes]:
        """Answer an Open Inference request of the gateway with status and JSON."""
        return await self._handler.infer(body, version)

    async def describe(self) -> dict[str, Any]:
        """Model metadata of the Open Inference Protocol."""
        if self._service.model is None:
            raise RuntimeError("no model is loaded yet")
        return responses.metadata(self._service.model)

    def __del__(self) -> None:
        if hasattr(self, "_metrics"):
            self._metrics.stop()
        if hasattr(self, "_service"):
            self._service.close()


def app(args: ModelArgs | dict[str, Any]) -> Application:
    """Build the application of one model, for the route prefix ``/<name>``."""
    args = ModelArgs.model_validate(args)  # Serve does not evaluate string annotations: it passes a dict
    if args.choice is not None:
        entry = args.choice.entry(Store.open(args.store), args.name)
        resolved = args.choice.model_copy(update={"digest": entry.digest, "version": entry.version})
        args = args.model_copy(update={"choice": resolved})
    config = {} if args.choice is None else args.choice.model_dump(exclude_none=True)
    model: Deployment = Model  # type: ignore[assignment]  # the decorator's annotations keep the class
    return model.options(user_config=config).bind(args.model_dump(mode="json"))
