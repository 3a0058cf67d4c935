"""One model on Ray Serve: the deployment, and the builder that `serve deploy` names.

``import_path: mlsys.deploy.online:app`` takes the arguments of `Args`. Which model answers
is the deployment's ``user_config``, so another version goes into service in the running
replicas: each loads it beside the old one and exchanges them between two requests.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application, Deployment
from starlette.applications import Starlette

from mlsys import registry
from mlsys.deploy import asgi, responses
from mlsys.deploy.prediction_log import PredictionLog
from mlsys.deploy.service import Service, load
from mlsys.registry import LedgerEntry
from mlsys.store import Store

__all__ = ["LogArgs", "LookupChoice", "Model", "ModelArgs", "app"]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogArgs(_Checked):
    """How predictions are logged."""

    enabled: bool = True
    flush_rows: int = Field(5_000, ge=1)
    flush_s: float = Field(1.0, gt=0)
    max_pending_rows: int = Field(100_000, ge=1)


class LookupChoice(_Checked):
    """Which model: an alias or a version to look up, or a digest with its version, which needs no look-up."""

    alias: str = "champion"
    digest: str | None = None
    version: int | None = None

    def entry(self, store: Store, name: str) -> LedgerEntry:
        """What is meant, by the registry as it is now."""
        if self.digest is not None and self.version is not None:
            return LedgerEntry(name, self.version, self.digest)
        return registry.resolve(store, name, self.digest or self.version or self.alias)


class ModelArgs(_Checked):
    """Arguments of an application.

    Attributes
    ----------
    store
        Absolute path of the store; ``$MLSYS_STORE`` of the replica if not given. A relative
        path would mean another folder in each process.
    lookup
        Where columns of feature tables are looked up, as ``deploy.lookup`` of a recipe.
    """

    name: str
    store: str | None = None
    choice: LookupChoice = LookupChoice()
    log: LogArgs = LogArgs()
    lookup: str = "sqlite"
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024)


@serve.deployment(name="Model", ray_actor_options={"num_cpus": 0})
@serve.ingress()
class Model:
    """A replica.

    It reserves no CPU unless the application's config says so: on one machine it shares the
    cores with the steps, which would otherwise wait for it for ever.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = ModelArgs.model_validate(args)
        self._store = Store.open(self._args.store)
        wanted = self._args.log
        log = None
        if wanted.enabled:
            log = PredictionLog(
                self._store.root / "predictions" / self._args.name,
                flush_rows=wanted.flush_rows,
                flush_s=wanted.flush_s,
                max_pending_rows=wanted.max_pending_rows,
            )
        self._service = Service(self._args.name, log)

    def __serve_build_asgi_app__(self) -> Starlette:
        return asgi.app(self._service, self._args.max_body_bytes)

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Put the chosen model into service; requests in flight keep the one they started with."""
        entry = LookupChoice.model_validate(config).entry(self._store, self._args.name)
        if self._service.model is None or self._service.model.entry != entry:
            loop, where = asyncio.get_running_loop(), self._args.lookup
            self._service.model = await loop.run_in_executor(None, load, self._store, entry, where)

    async def infer(self, body: bytes) -> tuple[int, bytes]:
        """Open Inference by handle, for the gateway: status and JSON."""
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
    """The application of one model; give it the route prefix ``/<name>``."""
    args = ModelArgs.model_validate(args)  # Serve reads annotations as they are written: a string here
    config = args.choice.model_dump(exclude_none=True)
    model: Deployment = Model  # type: ignore[assignment]  # the decorator's annotations keep the class
    return model.options(user_config=config).bind(args.model_dump(mode="json"))
