"""HTTP endpoints of a `Service`, as an ASGI app that Ray Serve or any other ASGI server can run.

==================================  ====================================================
``POST /invocations``               predictions for rows in MLflow's forms
``POST /v2/models/<name>/infer``    the same in the Open Inference Protocol
``GET /v2/models/<name>``           inputs and outputs of the model
``GET /v2``, ``/v2/health/…``       this server, in the same protocol
``GET /health``                     liveness of this process
``GET /ready``, ``/ping``           the model that is loaded
``GET /stats``                      requests, errors, latencies and the prediction log
``GET /openapi.json``, ``/docs``    the contract, for programs and for people
``/batch``                          batch jobs (`mlsys.deploy.batch_endpoint`)
==================================  ====================================================

The event loop does what takes a millisecond; a request that takes more is answered in one of a few threads, so that it
does not hold up small ones, and ``/health`` answers meanwhile. Requests for predictions do not pass the framework
(`mlsys.deploy.dispatch`), which has the other addresses and every error of an address or a method.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from polars.exceptions import PanicException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive

import mlsys
from mlsys import errors
from mlsys.deploy import arrow_bodies, binary_tensors, bodies, deadlines, openapi, requests, responses, tensors
from mlsys.deploy.bodies import JSON, Body
from mlsys.deploy.direct_posts import DirectPost
from mlsys.deploy.dispatch import Dispatch, JSONBytes, RawHeaders
from mlsys.deploy.fast_json import LONG_BODY
from mlsys.deploy.service import LoadedModel, Responder, Service, check_pixels
from mlsys.recipe import LimitsSection

SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size are parsed in the event loop, in a millisecond or two."""

SMALL_VALUES = 2_000
"""Values of a request up to which it is checked and predicted in the event loop: of 20 columns, 100 rows."""

THREADS = 2
"""Threads for larger requests: Python computes in one at a time, and decoding and models let go of it now and then."""


PATIENT_BODIES, HURRIED_S = 24, 1.0
"""Bodies that may take their time at once; while so many are awaited, further ones have this many seconds, so that
clients which stall cannot hold all places of a replica."""


@dataclass(frozen=True)
class RequestForm:
    """A protocol: the way from bytes to a request and from an answer to its body."""

    parse: Callable[[LoadedModel, bytes, Body, requests.Bounds], requests.Request]
    render: Callable[[Any], dict[str, Any]]
    is_open_inference: bool


def _parse_mlflow(model: LoadedModel, sent: bytes, body: Body, bounds: requests.Bounds) -> requests.Request:
    predictor = model.predictor
    if body.is_arrow:
        own = predictor.bundle.schema.names
        return arrow_bodies.parse(sent, bounds, bounds.body_bytes, own, as_lists=model.takes_pictures)
    split = model.split_reader.read(sent, bounds) if len(sent) >= LONG_BODY else None
    return requests.mlflow(sent, predictor.contract.order, bounds) if split is None else split


def _parse_open_inference(model: LoadedModel, sent: bytes, body: Body, bounds: requests.Bounds) -> requests.Request:
    predictor = model.predictor
    names = responses.output_names(predictor.bundle.task)
    return tensors.open_inference(sent, bounds, model.binary, predictor.contract.order, names, body.json_bytes)


MLFLOW = RequestForm(_parse_mlflow, responses.mlflow, is_open_inference=False)
OPEN_INFERENCE = RequestForm(_parse_open_inference, responses.open_inference, is_open_inference=True)


V2_SERVER = ("/v2", "/v2/")
"""Paths of a server in the Open Inference Protocol, whose OpenAPI document writes the second."""

Answered = tuple[int, bytes, str | None]
"""Status and body of an answer, and the length of its JSON where tensors follow it."""

V2_MODEL = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
"""Paths of a model and of a version of it in the Open Inference Protocol."""


class RequestHandler:
    """The service behind the HTTP endpoints, with the limits of a request and the threads for large ones."""

    def __init__(self, service: Service, limits: LimitsSection) -> None:
        self.service = service
        self.limits = limits
        self._awaited = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")
        self._waiters = ThreadPoolExecutor(THREADS, thread_name_prefix="canary")

    async def infer(self, body: Body, version: str | None = None, form: RequestForm = OPEN_INFERENCE) -> Answered:
        """Answer a request that another replica received."""
        began = time.monotonic()
        try:
            check_version(self.service, version)
        except HTTPException as error:
            answer = self._failure(form, error, began)
        else:
            answer = await self.answer(form, body, began, of_version=version is not None)
        return answer.status_code, bytes(answer.body), answer.headers.get(bodies.JSON_LENGTH)

    async def post(
        self, form: RequestForm, headers: RawHeaders, receive: Receive, *, of_version: bool = False
    ) -> Response:
        """Read the body of a request and answer it; nothing is raised. One `of_version` is none of a canary."""
        began = time.monotonic()
        limits, seconds = self.limits, self.limits.body_seconds
        if self._awaited >= PATIENT_BODIES:
            seconds = min(seconds, HURRIED_S)
        self._awaited += 1
        try:
            sent, is_v2 = bodies.texts(headers), form.is_open_inference
            body = await bodies.read(sent, receive, limits.body_bytes, seconds, tensors=is_v2, tables=not is_v2)
        except bodies.ClientGoneError:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - no framework is behind that would answer
            return self._failure(form, error, began)
        finally:
            self._awaited -= 1
        return await self.answer(form, body, began, of_version=of_version)

    async def answer(self, form: RequestForm, body: Body, began: float, *, of_version: bool = False) -> Response:
        """Answer a body with status and JSON; every error becomes an answer here."""
        try:
            deadlines.check(body.deadline)
            model = loaded(self.service)
            service = self.service
            respond = service.answer if of_version else service.respond
            if body.encoding is None and len(body.sent) <= SMALL_BODY_BYTES and not model.waits:
                request = self._parsed(form, model, body)
                is_small = request.num_rows * model.num_columns <= SMALL_VALUES and not model.takes_pictures
                is_small, pool = is_small and not request.explain, self._threads
                if service.divide is not None and not of_version:
                    respond, is_far = service.divide(model, request)
                    is_small, pool = is_small and not is_far, self._waiters if is_far else self._threads
                answer = (
                    self._answered(form, model, request, respond)
                    if is_small
                    else await self._in_thread(
                        pool, began, body.deadline, self._answered, form, model, request, respond
                    )
                )
            else:
                answer = await self._in_thread(
                    self._threads, began, body.deadline, self._whole, form, model, body, respond
                )
        except PanicException as panic:  # no `Exception`, whatever Polars' annotations say
            fault = RuntimeError(f"a panic of Polars: {panic}").with_traceback(panic.__traceback__)
            return self._failure(form, fault, began)
        except Exception as error:  # noqa: BLE001 - the last place before the client
            return self._failure(form, error, began)
        self._count(200, began)
        return answer

    def at_once(self, form: RequestForm, sent: bytes) -> bytes | None:
        """JSON of the answer to a small request without fault; None for others, of which nothing is counted."""
        began = time.monotonic()
        service = self.service
        model = service.model
        if model is None or model.waits or model.takes_pictures or service.canary_routes:
            return None
        try:
            request = self._parsed(form, model, Body(sent))
            if request.explain or request.binary or request.num_rows * model.num_columns > SMALL_VALUES:
                return None
            answer = service.compute(model, request)
            body = responses.to_bytes(form.render(answer))
        except (Exception, PanicException):  # noqa: BLE001 - the usual way finds it again, and says it
            return None
        service.finish(answer)
        service.num_at_once += 1
        self._count(200, began)
        return body

    def _parsed(self, form: RequestForm, model: LoadedModel, body: Body) -> requests.Request:
        limits = self.limits
        bounds = _bounds(limits.rows, max(limits.columns, model.num_columns), limits.body_bytes)
        return form.parse(model, bodies.unpacked(body, limits.body_bytes), body, bounds)

    def _answered(
        self, form: RequestForm, model: LoadedModel, request: requests.Request, respond: Responder
    ) -> Response:
        if model.takes_pictures:
            check_pixels(model.predictor, request, self.limits.pixels)
        answer = form.render(respond(model, request))
        return with_tensors(answer, request.binary) if request.binary else JSONBytes(responses.to_bytes(answer))

    def _whole(self, form: RequestForm, model: LoadedModel, body: Body, respond: Responder) -> Response:
        return self._answered(form, model, self._parsed(form, model, body), respond)

    async def _in_thread(
        self,
        pool: ThreadPoolExecutor,
        began: float,
        deadline: float | None,
        function: Callable[..., Response],
        *args: Any,
    ) -> Response:
        """Call a function in a thread; a request whose time is over before one is free is given up."""

        def call() -> Response:
            deadlines.check(deadline)
            if time.monotonic() - began > self.limits.seconds:
                raise overloaded(f"no free thread within {self.limits.seconds:g} s")
            return function(*args)

        return await asyncio.get_running_loop().run_in_executor(pool, call)

    def _failure(self, form: RequestForm, error: Exception, began: float) -> Response:
        if isinstance(error, RecursionError):
            error = errors.PayloadError.not_json("values nested too deeply")
        answer = failure(error, as_text=form.is_open_inference, most=self.limits.faults)
        self._count(answer.status_code, began)
        return answer

    def _count(self, status: int, began: float) -> None:
        self.service.count(status, (time.monotonic() - began) * 1e3)


@functools.cache
def _bounds(rows: int, columns: int, body_bytes: int) -> requests.Bounds:
    return requests.Bounds(rows, columns, body_bytes)


def direct_posts(handler: RequestHandler, prefix: str) -> dict[str, DirectPost]:
    """Functions for small requests to the app of a service below this prefix, by path."""
    return {
        f"{prefix}/invocations": functools.partial(handler.at_once, MLFLOW),
        f"{prefix}/v2/models/{handler.service.name}/infer": functools.partial(handler.at_once, OPEN_INFERENCE),
    }


def app(handler: RequestHandler, more: Sequence[Route] = ()) -> Dispatch:
    """Build the ASGI app of a service; `more` are routes beside those of predictions."""
    posts = {
        "/invocations": functools.partial(handler.post, MLFLOW),
        f"/v2/models/{handler.service.name}/infer": functools.partial(handler.post, OPEN_INFERENCE),
    }
    return Dispatch(posts, _framework_app(handler, more))


def _framework_app(handler: RequestHandler, more: Sequence[Route]) -> Starlette:
    service = handler.service

    # 1. Predictions, in the forms of two protocols, where the address is another one for the same path
    async def invocations(request: Request) -> Response:
        return await handler.post(MLFLOW, request.headers.raw, request.receive)

    async def v2_infer(request: Request) -> Response:
        _own_model(request, service)
        of_version = "version" in request.path_params
        return await handler.post(OPEN_INFERENCE, request.headers.raw, request.receive, of_version=of_version)

    async def v2_model(request: Request) -> Response:
        _own_model(request, service)
        return JSONResponse(responses.metadata(loaded(service)))

    async def v2_ready(request: Request) -> Response:
        _own_model(request, service)
        return JSONResponse({"name": loaded(service).entry.name, "ready": True})

    # 2. State of this process, and documentation
    def answer(response: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def state(_: Request) -> Response:
            return response()

        return state

    prefix = f"/{service.name}"
    routes = [
        Route("/", answer(lambda: RedirectResponse(f"{prefix}/docs"))),
        *(Route(path, answer(lambda: JSONResponse(server_metadata()))) for path in V2_SERVER),
        Route("/v2/health/live", answer(lambda: JSONResponse({"live": True}))),
        Route("/v2/health/ready", answer(lambda: _server_ready(service))),
        Route("/invocations", invocations, methods=["POST"]),
        *(Route(f"{path}/infer", v2_infer, methods=["POST"]) for path in V2_MODEL),
        *(Route(f"{path}/ready", v2_ready) for path in V2_MODEL),
        *(Route(path, v2_model) for path in V2_MODEL),
        Route("/health", answer(lambda: JSONResponse({"status": "ok"}))),
        Route("/ping", answer(lambda: _ready(service))),
        Route("/version", answer(lambda: PlainTextResponse(mlsys.__version__))),
        Route("/ready", answer(lambda: _ready(service))),
        Route("/stats", answer(lambda: JSONResponse(service.stats()))),
        Route("/openapi.json", answer(lambda: JSONResponse(openapi.document(loaded(service), prefix)))),
        Route("/docs", answer(lambda: HTMLResponse(openapi.page(loaded(service), prefix)))),
        *more,
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: failed, Exception: failed})


async def failed(request: Request, error: Exception) -> Response:
    """Answer a request with an error as JSON, in the form of the protocol that its path belongs to."""
    return failure(error, as_text="/v2/" in f"{request.url.path}/")


def server_metadata() -> dict[str, Any]:
    """Server metadata of the Open Inference Protocol."""
    return {"name": "mlsys", "version": mlsys.__version__, "extensions": [binary_tensors.EXTENSION]}


def with_tensors(answer: dict[str, Any], names: Collection[str]) -> Response:
    """An answer of Open Inference with the named outputs as bytes behind its JSON."""
    rest, tail = binary_tensors.divided(answer, names)
    head = responses.to_bytes(rest)
    return Response(head + tail, headers={binary_tensors.HEADER: str(len(head))}, media_type=bodies.OCTETS)


def failure(error: Exception, *, as_text: bool, **how: Any) -> Response:
    """Answer with an error as JSON, with its status and headers."""
    body = responses.error_body(error, as_text=as_text, **how)
    return Response(body, responses.status_of(error), headers=responses.headers_of(error), media_type=JSON)


def overloaded(detail: str) -> HTTPException:
    """The answer to a request for which there is no time now."""
    return HTTPException(503, detail, headers={"Retry-After": "1"})


def loaded(service: Service) -> LoadedModel:
    """The model of a service; while there is none, the answer is 503."""
    if service.model is None:
        raise overloaded("no model is loaded yet")
    return service.model


def _ready(service: Service) -> Response:
    """The model that answers, the version that was to take its place and did not load, and the canary, if any."""
    identity = loaded(service).identity
    if not service.check_log():
        raise overloaded("the prediction log was not written; it is now")
    beside = {"refused": service.refused, "canary": service.canary}
    notes = {key: value for key, value in beside.items() if value is not None}
    return JSONResponse({"status": "ready", "model": identity, **notes})


def _server_ready(service: Service) -> Response:
    """Server readiness of the Open Inference Protocol: all models, of which this server has one, can answer."""
    loaded(service)
    return JSONResponse({"ready": True})


def _own_model(request: Request, service: Service) -> None:
    """Refuse a path with another model, or another version of it."""
    name = request.path_params["model"]
    if name != service.name:
        raise HTTPException(404, f"no model '{name[:100]}' here; this endpoint serves '{service.name}'")
    check_version(service, request.path_params.get("version"))


def check_version(service: Service, version: str | None) -> None:
    """Refuse a version that is not the one in service; None is any."""
    served = str(loaded(service).entry.version)
    if version is not None and version != served:
        raise HTTPException(404, f"no version '{version[:100]}' of '{service.name}' here; it serves version {served}")
