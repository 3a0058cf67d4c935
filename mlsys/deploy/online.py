"""One model on Ray Serve: its deployment, and the application builder that ``serve deploy`` imports.

``import_path: mlsys.deploy.online:app`` takes the arguments of `ModelArgs`. The deployment's
``user_config`` is a `ModelChoice`, so running replicas take another version: each loads it
beside the old one and switches between two requests.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application, Deployment
from starlette.applications import Starlette

from mlsys import registry
from mlsys.deploy import asgi, responses
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.service import Service, load
from mlsys.registry import LedgerEntry
from mlsys.store import Store

_logger = logging.getLogger("ray.serve")


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogArgs(_Checked):
    """Settings of the prediction log."""

    enabled: bool = True
    flush_rows: int = Field(5_000, ge=1)
    flush_s: float = Field(1.0, gt=0)
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
    folder in each process. `lookup` is as ``deploy.lookup`` of a recipe.
    """

    name: str
    store: str | None = None
    choice: ModelChoice = ModelChoice()
    log: LogArgs = LogArgs()
    lookup: str = "sqlite"
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024)


@serve.deployment(name="Model", ray_actor_options={"num_cpus": 0})
@serve.ingress()
class Model:
    """Replica that answers requests for one model.

    It reserves no CPU unless the application's configuration says so: on one machine it shares
    the cores with the steps, which would otherwise wait for it forever.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = ModelArgs.model_validate(args)
        self._store = Store.open(self._args.store)
        log = None
        if self._args.log.enabled:
            limits = self._args.log.model_dump(exclude={"enabled"})
            log = PredictionLog(self._store.root / "predictions" / self._args.name, **limits)
        self._service = Service(self._args.name, log)

    def __serve_build_asgi_app__(self) -> Starlette:
        return asgi.app(self._service, self._args.max_body_bytes)

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load the chosen version and switch to it; requests in flight keep the model they started with.

        If it does not load, the model before goes on answering, and ``/ready`` says so; without one the replica fails.
        """
        entry = ModelChoice.model_validate(config).entry(self._store, self._args.name)
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

    async def infer(self, body: bytes) -> tuple[int, bytes]:
        """Answer an Open Inference request of the gateway with status and JSON."""
        return await asgi.infer(self._service, body)

    async def describe(self) -> dict[str, Any]:
        """Model metadata of the Open Inference Protocol."""
        if self._service.model is None:
            raise RuntimeError("no model is loaded yet")
        return responses.metadata(self._service.model)

    def __del__(self) -> None:
        if hasattr(self, "_service"):
            self._service.close()


def app(args: ModelArgs | dict[str, Any]) -> Application:
    """Build the application of one model, for the route prefix ``/<name>``."""
    args = ModelArgs.model_validate(args)  # Serve does not evaluate string annotations: it passes a dict
    config = args.choice.model_dump(exclude_none=True)
    model: Deployment = Model  # type: ignore[assignment]  # the decorator's annotations keep the class
    return model.options(user_config=config).bind(args.model_dump(mode="json"))
