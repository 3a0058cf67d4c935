"""HTTP endpoints of a `Service`, as an ASGI app that Ray Serve or any other ASGI server can run.

==================================  ====================================================
``POST /invocations``               predictions for rows in MLflow's forms
``POST /v2/models/<name>/infer``    the same in the Open Inference Protocol
``GET /v2/models/<name>``           inputs and outputs of the model
``GET /health``                     liveness of this process
``GET /ready``                      the model that is loaded
``GET /stats``                      requests, errors, latencies and the prediction log
``GET /openapi.json``, ``/docs``    the contract, for programs and for people
==================================  ====================================================
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from mlsys import errors
from mlsys.deploy import openapi, requests, responses
from mlsys.deploy.service import LoadedModel, Service

JSON = "application/json"

SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size are answered in the event loop, in about a millisecond. Larger ones, and models whose
look-ups wait for a network, are answered in a thread, so that they do not hold up small requests."""

Form = Callable[[Service, LoadedModel, bytes], bytes]
"""Answers the body of a request in the form of a protocol."""


def app(service: Service, max_body_bytes: int) -> Starlette:
    """Build the ASGI app of a service."""

    # 1. Predictions, in the forms of two protocols
    async def invocations(request: Request) -> Response:
        return await _post(request, service, _mlflow, max_body_bytes)

    async def v2_infer(request: Request) -> Response:
        _own_model(request, service)
        return await _post(request, service, _open_inference, max_body_bytes)

    async def v2_model(request: Request) -> Response:
        _own_model(request, service)
        return JSONResponse(responses.metadata(_loaded(service)))

    # 2. State of this process, and documentation
    def answer(response: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(_: Request) -> Response:
            return response()

        return endpoint

    prefix = f"/{service.name}"
    routes = [
        Route("/", answer(lambda: RedirectResponse(f"{prefix}/docs"))),
        Route("/invocations", invocations, methods=["POST"]),
        Route("/v2/models/{model}", v2_model),
        Route("/v2/models/{model}/infer", v2_infer, methods=["POST"]),
        Route("/health", answer(lambda: JSONResponse({"status": "ok"}))),
        Route("/ready", answer(lambda: JSONResponse(_ready(service)))),
        Route("/stats", answer(lambda: JSONResponse(service.stats()))),
        Route("/openapi.json", answer(lambda: JSONResponse(openapi.document(_loaded(service), prefix)))),
        Route("/docs", answer(lambda: HTMLResponse(openapi.page(_loaded(service), prefix)))),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: failed, Exception: failed})


async def infer(service: Service, body: bytes) -> tuple[int, bytes]:
    """Answer an Open Inference request that another replica received; return status and body."""
    return await _answered(service, _open_inference, body)


async def failed(request: Request, error: Exception) -> Response:
    """Answer a request with an error as JSON, in the form of the protocol that its path belongs to."""
    as_text = "/v2/" in request.url.path
    headers = error.headers if isinstance(error, HTTPException) else None
    body = responses.error_body(error, as_text=as_text)
    return Response(body, responses.status_of(error), headers=headers, media_type=JSON)


async def json_body(request: Request, max_body_bytes: int) -> bytes:
    """Read the body of a JSON request, and stop where it exceeds the limit.

    Raises
    ------
    PayloadError
        The body is too long, or its content type is not JSON.
    """
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind != JSON:
        raise errors.PayloadError.content_type(kind)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_body_bytes:
            raise errors.PayloadError.too_large(max_body_bytes)
        parts.append(part)
    return b"".join(parts)


async def _post(request: Request, service: Service, form: Form, max_body_bytes: int) -> Response:
    try:
        body = await json_body(request, max_body_bytes)
    except errors.PayloadError as error:
        service.count(responses.status_of(error), 0.0)
        return await failed(request, error)
    status, answer = await _answered(service, form, body)
    return Response(answer, status, media_type=JSON)


async def _answered(service: Service, form: Form, body: bytes) -> tuple[int, bytes]:
    """Answer a body with status and JSON; every error becomes an answer here."""
    start = time.perf_counter()
    try:
        model = _loaded(service)
        if len(body) <= SMALL_BODY_BYTES and not model.waits:
            answer = form(service, model, body)
        else:
            answer = await asyncio.get_running_loop().run_in_executor(None, form, service, model, body)
        status = 200
    except Exception as error:  # noqa: BLE001 - the last place before the client
        status, answer = responses.status_of(error), responses.error_body(error, as_text=form is _open_inference)
    service.count(status, (time.perf_counter() - start) * 1e3)
    return status, answer


def _mlflow(service: Service, model: LoadedModel, body: bytes) -> bytes:
    request = requests.mlflow(body, model.predictor.contract.order)
    return _dumped(responses.mlflow(service.answer(model, request)))


def _open_inference(service: Service, model: LoadedModel, body: bytes) -> bytes:
    return _dumped(responses.open_inference(service.answer(model, requests.open_inference(body))))


def _dumped(value: Any) -> bytes:
    """JSON with every float in the shortest form that reads back as the same bits."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _ready(service: Service) -> dict[str, Any]:
    """The model that answers, and the version that was to take its place and did not load, if there is one."""
    ready = {"status": "ready", "model": _loaded(service).identity}
    return ready if service.refused is None else {**ready, "refused": service.refused}


def _loaded(service: Service) -> LoadedModel:
    if service.model is None:
        raise HTTPException(503, "no model is loaded yet", headers={"Retry-After": "1"})
    return service.model


def _own_model(request: Request, service: Service) -> None:
    name = request.path_params["model"]
    if name != service.name:
        raise HTTPException(404, f"no model '{name}' here; this endpoint serves '{service.name}'")
