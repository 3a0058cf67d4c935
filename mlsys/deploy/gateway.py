"""Gateway of the cluster: the Open Inference Protocol at ``/v2`` for clients that know only the host.

It is one application at the route prefix ``/``, which holds no model and passes each request
on to the model's own application.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import mlsys
from mlsys import errors
from mlsys.deploy import asgi
from mlsys.recipe import names

NAME = names.GATEWAY
"""Name of the application, which no model may have."""


class GatewayArgs(BaseModel):
    """Arguments of the gateway: its models, each the name of a model and of its application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = ()
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024)


@serve.deployment(name="Gateway", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=256)
@serve.ingress()
class Gateway:
    """Replica that answers the Open Inference Protocol for all models of the cluster."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._models: tuple[str, ...] = ()
        self._handles: dict[str, DeploymentHandle[Any]] = {}

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take the current list of models."""
        self._models = tuple(config["models"])
        self._handles = {name: handle for name, handle in self._handles.items() if name in self._models}

    def __serve_build_asgi_app__(self) -> Starlette:
        routes = [
            Route("/", self._index),
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._all_ready),
            Route("/v2/models/{model}", self._model),
            Route("/v2/models/{model}/ready", self._ready),
            Route("/v2/models/{model}/infer", self._infer, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: asgi.failed, Exception: asgi.failed})

    async def _index(self, _: Request) -> Response:
        models = {name: {"docs": f"/{name}/docs", "invocations": f"/{name}/invocations"} for name in self._models}
        return JSONResponse({"models": models, "open_inference": "/v2"})

    async def _server(self, _: Request) -> Response:
        return JSONResponse({"name": "mlsys", "version": mlsys.__version__, "extensions": []})

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def _all_ready(self, _: Request) -> Response:
        for name in self._models:
            await self._describe(name)
        return JSONResponse({"ready": True})

    async def _model(self, request: Request) -> Response:
        return JSONResponse(await self._describe(request.path_params["model"]))

    async def _ready(self, request: Request) -> Response:
        name = request.path_params["model"]
        await self._describe(name)
        return JSONResponse({"name": name, "ready": True})

    async def _infer(self, request: Request) -> Response:
        handle = await self._handle(request.path_params["model"])
        try:
            body = await asgi.json_body(request, self._max_body_bytes)
        except errors.PayloadError as error:
            return await asgi.failed(request, error)
        status, answer = await handle.infer.remote(body)
        return Response(answer, status, media_type=asgi.JSON)

    async def _describe(self, name: str) -> dict[str, Any]:
        handle = await self._handle(name)
        try:
            metadata: dict[str, Any] = await handle.describe.remote()
        except Exception as error:
            raise HTTPException(503, f"model '{name}' is not ready") from error
        return metadata

    async def _handle(self, name: str) -> DeploymentHandle[Any]:
        """Handle of a model's application, looked up once, in a thread, because that asks Serve's controller."""
        if name not in self._models:
            raise HTTPException(404, f"no model '{name}'; {errors.did_you_mean(name, self._models)}")
        if name not in self._handles:
            try:
                self._handles[name] = await asyncio.to_thread(serve.get_app_handle, name)
            except RayServeException as error:
                raise HTTPException(503, f"model '{name}' is not deployed") from error
        return self._handles[name]


def app(args: GatewayArgs | dict[str, Any]) -> Application:
    """Build the gateway's application, for the route prefix ``/``."""
    args = GatewayArgs.model_validate(args)  # Serve does not evaluate string annotations: it passes a dict
    gateway: Deployment = Gateway  # type: ignore[assignment]  # the decorator's annotations keep the class
    return gateway.options(user_config={"models": list(args.models)}).bind(args.max_body_bytes)
