"""Many models behind one address: replicas that hold them themselves, in place of an application for each.

``import_path: mlsys.deploy.together:app`` takes the arguments of `TogetherArgs`, for the route prefix ``/``. A request
passes no other process, as through a gateway, and a model that nobody asks for takes no memory
(`mlsys.deploy.model_shelf`); in return models share a replica's processor, and its fate.

======================================  =================================================================
``POST /NAME/invocations``, ``…/…``     all that a model's own application has (`mlsys.deploy.asgi`)
``/v2/models/NAME/…``                   the same in the Open Inference Protocol
``GET /``                               the models, and what those in memory take
``/console``, ``GET /metrics``          the console of the store, and its gauges for Prometheus
``GET /v2``, ``/v2/health/…``           this server
======================================  =================================================================
"""

from __future__ import annotations

import sys
from typing import Any, Self

from pydantic import Field, model_validator
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import BackpressureConfig
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mlsys import errors, registry
from mlsys.deploy import api_keys, asgi, batch_endpoint, batch_jobs, console_mount, front, label_intake, telemetry
from mlsys.deploy.api_keys import KeyRing
from mlsys.deploy.console_mount import LateConsole
from mlsys.deploy.dispatch import route_of
from mlsys.deploy.front import App, Scope
from mlsys.deploy.guard import CONSOLE, Bucket, Guard
from mlsys.deploy.log_writer import PredictionLog
from mlsys.deploy.model_shelf import ModelShelf, ModelSource
from mlsys.deploy.online import SWITCH_S, ReplicaArgs
from mlsys.deploy.prediction_log import folder_of
from mlsys.deploy.service import LoadedModel, Service, load
from mlsys.predict.validation import cut
from mlsys.recipe import names
from mlsys.registry import LedgerEntry
from mlsys.store import Store

V2_MODELS = "/v2/models/"
"""Paths of models in the Open Inference Protocol; all others begin with the name of one."""


class TogetherArgs(ReplicaArgs):
    """Arguments of the application.

    `models` are names, or ``NAME@ALIAS``; they take `most_bytes` of memory together, in each replica. The others hold
    for all models alike.
    """

    models: tuple[str, ...] = Field(min_length=1)
    most_bytes: int = Field(4 << 30, ge=1)

    @model_validator(mode="after")
    def _names_are_those_of_models(self) -> Self:
        for name in self.aliases:
            names.model_name(name)
        if len(self.aliases) < len(self.models):
            raise ValueError("each model once")
        return self

    @property
    def aliases(self) -> dict[str, str]:
        """Name → alias."""
        pairs = (text.partition("@") for text in self.models)
        return {name: alias or "champion" for name, _, alias in pairs}


class ModelRouter:
    """ASGI app that passes a request to the model that its path names, which is loaded if need be."""

    def __init__(self, args: TogetherArgs, store: Store) -> None:
        self._args, self._store, self._aliases = args, store, args.aliases
        self._ring = KeyRing(api_keys.file_of(store))
        self._buckets: dict[str, Bucket] = {}
        self.shelf = ModelShelf(ModelSource(self._resolved, self._load, self._app), args.most_bytes)
        self._console = LateConsole()
        self._console.of(str(store.root))
        self._own = self._guarded(self._framework(), None)
        self._models = {name: self._guarded(self._passed_to(name), name) for name in self._aliases}
        self._v2 = {name: self._guarded(self._passed_to(name), None) for name in self._aliases}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._own(scope, receive, send)
            return
        path = route_of(scope)
        if path.startswith(V2_MODELS):
            name = path.removeprefix(V2_MODELS).partition("/")[0]
            await self._v2.get(name, self._own)(scope, receive, send)
            return
        name = path[1:].partition("/")[0]
        if name in self._models:
            scope = {**scope, "root_path": f"{scope.get('root_path', '')}/{name}"}
        await self._models.get(name, self._own)(scope, receive, send)

    def _guarded(self, app: App, model: str | None) -> Guard:
        """An app behind the keys of the store, whose rates count over all models."""
        return Guard(app, lambda _: (self._ring,), model, self._buckets)

    def _passed_to(self, name: str) -> App:
        async def passed(scope: Scope, receive: Any, send: Any) -> None:
            try:
                model = await self.shelf.take(name)
            except Exception as error:  # noqa: BLE001 - the last place before the client
                await front.answer(_failure(name, error), send, as_text="/v2/" in route_of(scope))
                return
            try:
                await model.app(scope, receive, send)
            finally:
                self.shelf.put_back(model)

        return passed

    def _framework(self) -> Starlette:
        routes = [
            Route("/", self._index),
            *self._console.routes(),
            *(Route(path, self._server) for path in asgi.V2_SERVER),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/health", self._live),
            Route(f"{V2_MODELS}{{model}}", self._unknown, methods=["GET", "POST"]),
            Route(f"{V2_MODELS}{{model}}/{{rest:path}}", self._unknown, methods=["GET", "POST"]),
            Route("/{model}/{rest:path}", self._unknown, methods=["GET", "POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: asgi.failed, Exception: asgi.failed})

    async def _index(self, request: Request) -> Response:
        if console_mount.is_browser(request):
            return RedirectResponse(f"{CONSOLE}/")
        held = self.shelf.num_bytes
        models = {name: {"invocations": f"/{name}/invocations", "bytes": held.get(name)} for name in self._aliases}
        return JSONResponse({"models": models, "most_bytes": self._args.most_bytes, "open_inference": "/v2"})

    async def _server(self, _: Request) -> Response:
        return JSONResponse(asgi.server_metadata())

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, _: Request) -> Response:
        return JSONResponse({"ready": True})

    async def _unknown(self, request: Request) -> Response:
        name = cut(request.path_params["model"])
        raise HTTPException(404, f"no model '{name}' here; {errors.did_you_mean(name, self._aliases)}")

    def _resolved(self, name: str) -> LedgerEntry:
        return registry.resolve(self._store, name, self._aliases[name])

    def _load(self, entry: LedgerEntry) -> LoadedModel:
        return load(self._store, entry, self._args.lookup)

    def _app(self, name: str, model: LoadedModel) -> tuple[Service, App]:
        """The app that a model's own application would have, with a log of its own."""
        log = None
        if self._args.log.enabled:
            log = PredictionLog(folder_of(self._store, name), **self._args.log.model_dump(exclude={"enabled"}))
        service = Service(name, log)
        service.model = model
        routes = [
            label_intake.route(self._store, service, self._args.limits),
            *batch_endpoint.routes(
                self._store, name, self._args.batch, lambda: str(asgi.loaded(service).entry.version)
            ),
        ]
        return service, asgi.app(asgi.RequestHandler(service, self._args.limits), routes)


def _failure(name: str, error: Exception) -> Exception:
    """The answer for a model that does not load: 404 where the registry has none, else 503."""
    if isinstance(error, errors.RegistryError):
        return error
    return asgi.overloaded(f"model '{name}' does not load now: {type(error).__name__}")


@serve.deployment(
    name="Together",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=64,
    max_queued_requests=64,
    backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
)
@serve.ingress()
class Together:
    """Replica that holds many models."""

    def __init__(self, args: dict[str, Any]) -> None:
        sys.setswitchinterval(SWITCH_S)
        own = TogetherArgs.model_validate(args)
        front.limit_bodies(own.limits.body_bytes)
        store = Store.open(own.store)
        self._router = ModelRouter(own, store)
        self._metrics = telemetry.of_models(lambda: self._router.shelf.metric_values(own.aliases))
        self._metrics.start()
        batch_jobs.resume(store)

    def __serve_build_asgi_app__(self) -> ModelRouter:
        return self._router

    def __del__(self) -> None:
        if hasattr(self, "_metrics"):
            self._metrics.stop()
        if hasattr(self, "_router"):
            self._router.shelf.close()


def app(args: TogetherArgs | dict[str, Any]) -> Application:
    """Build the application of many models, for the route prefix ``/``."""
    args = TogetherArgs.model_validate(args)  # Serve does not evaluate string annotations: it passes a dict
    together: Deployment = Together  # type: ignore[assignment]  # the decorator's annotations keep the class
    return together.bind(args.model_dump(mode="json"))
