"""One model on Ray Serve: its deployment, and the application builder that ``serve deploy`` imports.

``import_path: mlsys.deploy.online:app`` takes the arguments of `ModelArgs`. The deployment's
``user_config`` is a `ModelChoice`, so running replicas take another version: each loads it
beside the old one and switches between two requests. It may name a canary besides, which gets a part of the requests.

An alias is resolved where the application is built, and every replica gets the digest. A replica that is to `follow`
its alias takes each later move from the ledger (`mlsys.deploy.alias_follower`), and ends the application of a name that
is undeployed. A version that cannot be loaded leaves the one that answers where it is, and `Service.refused` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve import Application, Deployment

from mlsys import errors, registry
from mlsys.deploy import (
    alias_follower,
    api_keys,
    asgi,
    batch_endpoint,
    batch_jobs,
    canary_judge,
    front,
    label_intake,
    ledger_swap,
    responses,
    serving,
    telemetry,
)
from mlsys.deploy.alias_follower import AliasFollower
from mlsys.deploy.api_keys import KeyRing
from mlsys.deploy.asgi import Answered
from mlsys.deploy.bodies import Body
from mlsys.deploy.canary_router import BASIS_POINTS, CanarySlot, TrafficSplit
from mlsys.deploy.direct_posts import DirectPosts
from mlsys.deploy.guard import Guard
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.prediction_log import folder_of
from mlsys.deploy.serve_books import ServeBooks
from mlsys.deploy.service import LoadedModel, Service, load
from mlsys.deploy.telemetry import Exporter
from mlsys.recipe import BatchSection, LimitsSection, names
from mlsys.registry import LedgerEntry
from mlsys.store import Store

_logger = logging.getLogger("ray.serve")

SWITCH_S = 0.0001
"""Seconds for which a thread may compute while the event loop waits for its turn. With Python's 5 ms an answer waits so
long, and again with each system call, while another thread writes the log, loads a version or answers a large request.
"""

RARELY = (700, 10, 100)
"""Python's thresholds of its search for garbage, with the third ten times the usual: answers that wait for the log live
through the first two searches, and the third would look at all of them, 10 ms, each second or two."""


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogArgs(_Checked):
    """Settings of the prediction log."""

    enabled: bool = True
    flush_rows: int = Field(5_000, ge=1)
    flush_s: float = Field(1.0, gt=0, le=1.0)
    max_pending_rows: int = Field(100_000, ge=1)


class CanaryChoice(_Checked):
    """A second version that gets a part of the requests; fields are those of `TrafficSplit`."""

    digest: str
    version: int
    trial: str
    step: int = 0
    weight: int = Field(ge=0, le=BASIS_POINTS)
    key: str | None = None
    shadow: bool = False
    isolation: Literal["replica", "process"] = "replica"

    @property
    def split(self) -> TrafficSplit:
        is_isolated = self.isolation == "process"
        return TrafficSplit(self.trial, self.step, self.weight, self.key, self.shadow, is_isolated)


class ModelChoice(_Checked):
    """Version of a model: an alias, version or digest for the registry, or a digest with its version; its canary.

    With `follow`, a later move of the alias counts for more than digest and version.
    """

    alias: str = "champion"
    digest: str | None = None
    version: int | None = None
    canary: CanaryChoice | None = None
    follow: bool = False

    def entry(self, store: Store, name: str) -> LedgerEntry:
        """Resolve the choice with the registry as it is now; digest and version together need no registry."""
        if self.digest is not None and self.version is not None:
            return LedgerEntry(name, self.version, self.digest)
        return registry.resolve(store, name, self.digest or self.version or self.alias)


class ReplicaArgs(_Checked):
    """Arguments of every application whose replicas hold models.

    `store` is an absolute path, by default ``$MLSYS_STORE`` of the replica: a relative one would be another
    folder in each process. `lookup`, `limits` and `batch` are as in the ``deploy`` section of a recipe.
    """

    store: str | None = None
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


class ModelArgs(ReplicaArgs):
    """Arguments of a model's application; without a `choice` the deployment's ``user_config`` names a version."""

    name: Annotated[str, AfterValidator(names.model_name)]
    choice: ModelChoice | None = ModelChoice()


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
        log, limits = None, None
        if self._args.log.enabled:
            limits = self._args.log.model_dump(exclude={"enabled"})
            log = PredictionLog(folder_of(self._store, self._args.name), **limits)
        self._service = Service(self._args.name, log)
        self._handler = asgi.RequestHandler(self._service, self._args.limits)
        self._canary = CanarySlot(self._store, self._service, self._args.lookup, limits)
        self._metrics = Exporter(self._service.metric_values, telemetry.of_ray)
        self._metrics.start()
        self._follower = AliasFollower(self._store, self._args.name, ledger_swap.session())
        self._switching, self._adopting = asyncio.Lock(), asyncio.Lock()
        self._adoptions: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None
        batch_jobs.resume(self._store)
        canary_judge.resume(self._store, self._args.name)

    def __serve_build_asgi_app__(self) -> Guard:
        routes = [
            label_intake.route(self._store, self._service, self._args.limits),
            *batch_endpoint.routes(self._store, self._args.name, self._args.batch, self._served),
        ]
        ring = KeyRing(api_keys.file_of(self._store))
        guard = Guard(asgi.app(self._handler, routes), lambda _: (ring,), self._args.name)
        prefix = f"/{self._args.name}"
        front.answer_directly(
            DirectPosts(
                asgi.direct_posts(self._handler, prefix),
                lambda path, headers: guard.opens(path.removeprefix(prefix), headers),
                front.is_refused,
                ServeBooks.of,
            )
        )
        return guard

    def _served(self) -> str:
        """The version that answers now, or the alias that is to."""
        model = self._service.model
        return self._chosen.alias if model is None else str(model.entry.version)

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load the chosen version and switch to it; requests in flight keep the model they started with.

        A replica that answers already returns at once and loads afterwards: while Serve waits for this, it takes the
        replica for one that is not there, and has its requests go through a proxy that is ten times as slow. If the
        version does not load, the model before goes on answering, and ``/ready`` says so; without one the replica
        fails. A canary that does not load gets no requests, and the tallies say so.
        """
        choice = ModelChoice.model_validate(config)
        self._unfollow()
        configured = self._entry(choice)
        self._service.refused = None
        adopting = self._adopt(choice, configured)
        if self._service.model is None:
            await adopting
        else:
            self._adoptions.append(asyncio.create_task(adopting))
            self._adoptions = [task for task in self._adoptions if not task.done()]

    async def adopted(self) -> None:
        """Wait until what was configured so far is loaded, or refused."""
        await asyncio.gather(*self._adoptions)

    async def _adopt(self, choice: ModelChoice, configured: LedgerEntry) -> None:
        """Take a configuration, after those before it."""
        async with self._adopting:
            await self._switch(await self._meant(choice, configured), choice)
            if choice.follow:
                self._unfollow()
                self._following = asyncio.create_task(self._follow(choice, configured))
            canary = choice.canary
            if canary is None:
                self._canary.clear()
            else:
                entry = LedgerEntry(self._args.name, canary.version, canary.digest)
                await asyncio.to_thread(self._canary.fill, entry, canary.split)

    def _unfollow(self) -> None:
        if self._following is not None:
            self._following.cancel()
            self._following = None

    async def _follow(self, choice: ModelChoice, configured: LedgerEntry) -> None:
        """Take each move of the alias, until the next configuration."""
        while True:
            await asyncio.sleep(alias_follower.POLL_S)
            try:
                if not await asyncio.to_thread(self._follower.has_changed):
                    continue
                if await asyncio.to_thread(self._follower.is_ended):
                    await asyncio.to_thread(serving.withdraw, self._store, self._args.name)
                else:
                    meant = await asyncio.to_thread(self._follower.meaning, choice.alias, configured)
                    await self._switch(meant, choice)
            except Exception:
                _logger.exception("the alias %s cannot be followed", choice.alias)
                self._follower.forget()
                await asyncio.sleep(alias_follower.RETRY_S)

    async def _meant(self, choice: ModelChoice, configured: LedgerEntry) -> LedgerEntry:
        """The version that a choice means now; if the ledger cannot be read, the one that answers or is configured."""
        if not choice.follow:
            return configured
        try:
            return await asyncio.to_thread(self._follower.meaning, choice.alias, configured)
        except errors.MlsysError:
            _logger.exception("the ledger cannot be read")
            return configured if self._service.model is None else self._service.model.entry

    async def _switch(self, entry: LedgerEntry, choice: ModelChoice) -> None:
        """Answer with a version; a canary that becomes it is loaded already."""
        service = self._service
        async with self._switching:
            is_first = service.model is None
            service.refused = None
            if service.model is not None and service.model.entry == entry:
                return
            try:
                known = self._canary.model(entry)
                service.model = known or await asyncio.to_thread(load, self._store, entry, self._args.lookup)
            except Exception as error:
                if service.model is None:
                    service.model = await asyncio.to_thread(self._last_good, choice, entry)
                if service.model is None:
                    raise
                _logger.exception("version %s does not load", entry.version)
                service.refused = {"digest": entry.digest, "error": type(error).__name__}
            if is_first:
                await asyncio.to_thread(_spare_collections)

    def _last_good(self, choice: ModelChoice, failed: LedgerEntry) -> LoadedModel | None:
        """The last version of the alias that loads, for a replica that follows it."""
        for entry in self._follower.others(choice.alias, failed) if choice.follow else ():
            with contextlib.suppress(Exception):
                return load(self._store, entry, self._args.lookup)
        return None

    def _entry(self, choice: ModelChoice) -> LedgerEntry:
        """Entry of a choice; an alias is the one that was resolved where the application was built."""
        is_alias = choice.digest is None and choice.version is None
        if is_alias and choice.alias == self._chosen.alias and self._chosen.digest is not None:
            choice = self._chosen
        return choice.entry(self._store, self._args.name)

    async def infer(self, body: Body, version: str | None = None) -> Answered:
        """Answer an Open Inference request of the gateway."""
        return await self._handler.infer(body, version)

    async def invocations(self, body: Body) -> Answered:
        """Answer a request of the gateway in one of MLflow's forms."""
        return await self._handler.infer(body, form=asgi.MLFLOW)

    async def describe(self) -> dict[str, Any]:
        """Model metadata of the Open Inference Protocol."""
        if self._service.model is None:
            raise RuntimeError("no model is loaded yet")
        return responses.metadata(self._service.model)

    def __del__(self) -> None:
        following: asyncio.Task[None] | None = getattr(self, "_following", None)
        if following is not None and not following.done():
            following.cancel()
        if hasattr(self, "_metrics"):
            self._metrics.stop()
        if hasattr(self, "_canary"):
            self._canary.clear()
        if hasattr(self, "_service"):
            self._service.close()


def _spare_collections() -> None:
    """Take what a replica has loaded out of Python's search for garbage (`gc.freeze`), which stops every request.

    Ray, the libraries and the model are some 250,000 objects, looked through for a tenth of a second every few thousand
    requests; none of them is garbage before the replica ends.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)


def app(args: ModelArgs | dict[str, Any]) -> Application:
    """Build the application of one model, for the route prefix ``/<name>``."""
    args = ModelArgs.model_validate(args)  # Serve does not evaluate string annotations: it passes a dict
    if args.choice is not None:
        entry = args.choice.entry(Store.open(args.store), args.name)
        is_alias = args.choice.digest is None and args.choice.version is None
        update = {"digest": entry.digest, "version": entry.version, "follow": args.choice.follow or is_alias}
        resolved = args.choice.model_copy(update=update)
        args = args.model_copy(update={"choice": resolved})
    config = {} if args.choice is None else args.choice.model_dump(exclude_none=True)
    model: Deployment = Model  # type: ignore[assignment]  # the decorator's annotations keep the class
    return model.options(user_config=config).bind(args.model_dump(mode="json"))
