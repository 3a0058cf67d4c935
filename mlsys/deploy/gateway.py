"""Gateway of the cluster, for clients that know only the host: the Open Inference Protocol and MLflow's deployments.

It is one application at the route prefix ``/``, which holds no model and passes each request
on to the model's own application, within that model's limits. ``mlflow.deployments`` finds the
models at ``/api/2.0/endpoints`` and asks them at ``/endpoints/NAME/invocations``. A browser is led to the console, at
``/console``; Prometheus finds what the store says of its models at ``/metrics`` (`mlsys.workflow.exposition`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application, Deployment
from ray.serve.config import BackpressureConfig
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mlsys import errors
from mlsys.deploy import api_keys, asgi, binary_tensors, bodies, console_mount
from mlsys.deploy.api_keys import KeyRing
from mlsys.deploy.asgi import RequestForm
from mlsys.deploy.bodies import Body
from mlsys.deploy.console_mount import LateConsole
from mlsys.deploy.guard import CONSOLE, Guard
from mlsys.predict.validation import cut
from mlsys.recipe import LimitsSection, names
from mlsys.store import Store

NAME = names.GATEWAY
"""Name of the application, which no model may have."""


class GatewayArgs(BaseModel):
    """Arguments of the gateway: its models, each the name of a model and of its application, with limits or without.

    `stores` has the store of a model, whose API keys open it; by default ``$MLSYS_STORE`` of the replica.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] | dict[str, LimitsSection] = ()
    stores: dict[str, str] = {}

    @property
    def limits(self) -> dict[str, LimitsSection]:
        """The limits of each model; those of a recipe without any where none are named."""
        return self.models if isinstance(self.models, dict) else dict.fromkeys(self.models, LimitsSection())


@serve.deployment(
    name="Gateway",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=256,
    max_queued_requests=256,
    backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
)
@serve.ingress()
class Gateway:
    """Replica that answers the Open Inference Protocol for all models of the cluster."""

    def __init__(self) -> None:
        self._models: dict[str, LimitsSection] = {}
        self._handles: dict[str, DeploymentHandle[Any]] = {}
        self._rings: dict[str, KeyRing] = {}
        self._console = LateConsole()

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take the current list of models."""
        args = GatewayArgs.model_validate(config)
        self._models = args.limits
        files = {name: api_keys.file_of(Store.open(args.stores.get(name))) for name in self._models}
        self._rings = {name: KeyRing(file) for name, file in files.items()}
        self._handles = {name: handle for name, handle in self._handles.items() if name in self._models}
        self._console.of(next(iter(args.stores.values()), None))

    def __serve_build_asgi_app__(self) -> Guard:
        routes = [
            Route("/", self._index),
            *self._console.routes(),
            *(Route(path, self._server) for path in asgi.V2_SERVER),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._all_ready),
            *(Route(f"{path}/infer", self._infer, methods=["POST"]) for path in asgi.V2_MODEL),
            *(Route(f"{path}/ready", self._ready) for path in asgi.V2_MODEL),
            *(Route(path, self._model) for path in asgi.V2_MODEL),
            Route("/api/2.0/endpoints/", self._endpoints),
            Route("/api/2.0/endpoints/{model}", self._endpoint),
            Route("/endpoints/{model}/invocations", self._invocations, methods=["POST"]),
            Route("/{model}/{rest:path}", self._early, methods=["GET", "POST", "DELETE"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: asgi.failed, Exception: asgi.failed})
        return Guard(app, self._keys)

    def _keys(self, model: str | None) -> list[KeyRing]:
        """The keys that open a model; those of all models where none is named, or none has the name."""
        return [self._rings[model]] if model in self._rings else list(self._rings.values())

    async def _index(self, request: Request) -> Response:
        if console_mount.is_browser(request):
            return RedirectResponse(f"{CONSOLE}/")
        models = {name: {"docs": f"/{name}/docs", "invocations": f"/{name}/invocations"} for name in self._models}
        return JSONResponse({"models": models, "open_inference": "/v2"})

    async def _server(self, _: Request) -> Response:
        return JSONResponse(asgi.server_metadata())

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def _all_ready(self, _: Request) -> Response:
        for name in self._models:
            await self._describe(name)
        return JSONResponse({"ready": True})

    async def _model(self, request: Request) -> Response:
        return JSONResponse(await self._of_version(request))

    async def _ready(self, request: Request) -> Response:
        await self._of_version(request)
        return JSONResponse({"name": request.path_params["model"], "ready": True})

    async def _of_version(self, request: Request) -> dict[str, Any]:
        """Metadata of the model, and of the version if the path names one."""
        name, version = request.path_params["model"], request.path_params.get("version")
        metadata = await self._describe(name)
        if version is not None and version not in metadata["versions"]:
            raise HTTPException(404, f"no version '{cut(version)}' of '{name}'; {metadata['versions'][0]} is served")
        return metadata

    async def _endpoints(self, _: Request) -> Response:
        return JSONResponse({"endpoints": [_mlflow_endpoint(name) for name in self._models]})

    async def _endpoint(self, request: Request) -> Response:
        name = request.path_params["model"]
        await self._handle(name)
        return JSONResponse(_mlflow_endpoint(name))

    async def _infer(self, request: Request) -> Response:
        version = request.path_params.get("version")
        return await self._passed_on(request, asgi.OPEN_INFERENCE, lambda to, body: to.infer.remote(body, version))

    async def _invocations(self, request: Request) -> Response:
        return await self._passed_on(request, asgi.MLFLOW, lambda to, body: to.invocations.remote(body))

    async def _early(self, request: Request) -> Response:
        """A request for a model whose own application Serve does not route yet, as after a start."""
        name = request.path_params["model"]
        if name in self._models:
            raise asgi.overloaded(f"model '{name}' is not ready yet")
        raise HTTPException(404)

    async def _passed_on(self, request: Request, form: RequestForm, ask: Callable[[Any, Body], Any]) -> Response:
        """Read the body of a request and let a replica of its model answer it."""
        name = request.path_params["model"]
        handle = await self._handle(name)
        limits, tensors = self._models[name], form.is_open_inference
        try:
            body = await bodies.read(
                request.headers,
                request.receive,
                limits.body_bytes,
                limits.body_seconds,
                tensors=tensors,
                tables=not tensors,
            )
            answered = await self._asked(name, ask(handle, body), limits.seconds, body.deadline)
        except errors.PayloadError as error:
            return asgi.failure(error, as_text=tensors)
        except bodies.ClientGoneError:
            return Response(status_code=400)
        return _answer(*answered)

    async def _asked(self, name: str, response: Any, seconds: float, deadline: float | None = None) -> Any:
        """The answer of a model's replica; one that is not there or has no room is 503, one too late 503 or 504."""
        left = seconds if deadline is None else deadline - time.time()
        try:
            async with asyncio.timeout(min(left, seconds)):
                return await response
        except TimeoutError:
            response.cancel()
            if left < seconds:
                raise errors.PayloadError.too_late() from None
            raise asgi.overloaded(f"model '{name}' did not answer within {seconds:g} s") from None
        except (BackPressureError, RayServeException, RayError) as error:
            raise asgi.overloaded(f"model '{name}' is overloaded or not ready") from error

    async def _describe(self, name: str) -> dict[str, Any]:
        handle = await self._handle(name)
        metadata: dict[str, Any] = await self._asked(name, handle.describe.remote(), self._models[name].seconds)
        return metadata

    async def _handle(self, name: str) -> DeploymentHandle[Any]:
        """Handle of a model's application, looked up once, in a thread, because that asks Serve's controller."""
        if name not in self._models:
            raise HTTPException(404, f"no model '{cut(name)}'; {errors.did_you_mean(cut(name), self._models)}")
        if name not in self._handles:
            try:
                self._handles[name] = await asyncio.to_thread(serve.get_app_handle, name)
            except RayServeException as error:
                raise HTTPException(503, f"model '{name}' is not deployed") from error
        return self._handles[name]


def _answer(status: int, body: bytes, json_bytes: str | None) -> Response:
    """The answer of a replica, as it would have given it itself."""
    if json_bytes is not None:
        return Response(body, status, {binary_tensors.HEADER: json_bytes}, bodies.OCTETS)
    headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(body, status, headers, bodies.JSON)


def _mlflow_endpoint(name: str) -> dict[str, Any]:
    """A model as MLflow's deployment client describes an endpoint (``mlflow.deployments.server.config.Endpoint``)."""
    model = {"name": name, "provider": "mlsys"}
    url = f"/endpoints/{name}/invocations"
    return {"name": name, "endpoint_type": "tabular", "model": model, "endpoint_url": url, "limit": None}


def app(args: GatewayArgs | dict[str, Any]) -> Application:
    """Build the gateway's application, for the route prefix ``/``."""
    args = GatewayArgs.model_validate(args)  # Serve does not evaluate string annotations: it passes a dict
    gateway: Deployment = Gateway  # type: ignore[assignment]  # the decorator's annotations keep the class
    return gateway.options(user_config=args.model_dump(mode="json")).bind()
