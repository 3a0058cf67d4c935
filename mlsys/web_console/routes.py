"""The console as an ASGI app: pages, the JSON API, and acts; who may ask for what.

==============================  ============================================================================
request                         asked for
==============================  ============================================================================
anything that reads             nothing, from this machine to an address of this machine; else an API key with
                                the scope ``admin``, which a browser asks for as the password of any user
promote, rollback, acknowledge  an API key with the scope ``admin`` of the model, sent with the change itself
==============================  ============================================================================

Behind a proxy every request comes from this machine; there a store with keys has all readers show one.

A page of somebody else's, whose name was made to mean 127.0.0.1, reaches a server on loopback with its own name in
the header ``Host`` (DNS rebinding); so the name has to be one of this machine where no key is shown. Nobody else's page
can make a change: what a browser sends by itself, such as a password that it remembers, opens none.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from mlsys import errors, operate
from mlsys.deploy import api_keys, bodies, guard, responses
from mlsys.deploy.api_keys import KeyRing
from mlsys.reports import page as html
from mlsys.store import Store
from mlsys.web_console import acts, facts_models, facts_runs, json_api, list_pages, page_frame
from mlsys.web_console.lineage_page import lineage_page
from mlsys.web_console.model_page import model_page
from mlsys.web_console.page_frame import Links
from mlsys.web_console.run_page import run_page
from mlsys.workflow import exposition, inventory

MAX_BODY = 64 * 1024
"""Bytes of a form or of the JSON of an act."""

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
           "Referrer-Policy": "same-origin"}  # fmt: skip
"""Headers of every answer: it says what is now, and no other page shows it within itself."""

Handler = Callable[[Request], Awaitable[Response]]


def served(root: str | None) -> Starlette:
    """Build the console of the store with this folder for a place behind a proxy."""
    return app(Store.open(root), is_direct=False)


def app(store: Store, *, is_direct: bool = True) -> Starlette:
    """Build the console of a store; `is_direct` if the address of a client is that of the client."""
    console = _Console(store, is_direct=is_direct)
    routes = [
        Route("/", console.models),
        Route("/models/{name}", console.model),
        Route("/models/{name}/{act}", console.act, methods=["POST"]),
        Route("/runs", console.runs),
        Route("/runs/{name}/{run}", console.run),
        Route("/batch", console.jobs),
        Route("/lineage", console.lineage),
        Route("/reports/{path:path}", console.report),
        Route("/metrics", console.metrics),
        Route("/api", console.paths),
        Route("/api/openapi.json", console.document),
        *(Route(f"/api/{each.path}", functools.partial(console.read, each)) for each in json_api.READINGS),
        Route("/api/models/{name}/{act}", console.act, methods=["POST"]),
    ]
    guarded = [Route(each.path, console.guarded(each.endpoint), methods=each.methods) for each in routes]
    failures: dict[Any, Any] = dict.fromkeys((HTTPException, errors.MlsysError, Exception), _failed)
    return Starlette(routes=guarded, exception_handlers=failures)


class _Console:
    def __init__(self, store: Store, *, is_direct: bool) -> None:
        self._store, self._is_direct = store, is_direct
        self._ring = KeyRing(api_keys.file_of(store))

    def guarded(self, handler: Handler) -> Handler:
        """The handler for those who may ask; its answers are not kept by caches."""

        async def answer(request: Request) -> Response:
            if request.method in ("GET", "HEAD"):
                self._check_reader(request)
            response = await handler(request)
            response.headers.update(HEADERS)
            return response

        return answer

    def _check_reader(self, request: Request) -> None:
        has_keys = not self._ring.is_open()
        if _is_local(request) and (self._is_direct or not has_keys):
            return
        text = guard.presented(request.scope["headers"]) or _password(request)
        key = self._ring.find(text) if has_keys and text else None
        if key is None:
            asked = {"WWW-Authenticate": 'Basic realm="mlsys: any user, an API key as password"'} if has_keys else None
            raise HTTPException(401 if has_keys else 403, f"not from this machine alone: {acts.NEEDED}", headers=asked)
        if not key.may("admin", None):
            raise HTTPException(403, acts.NEEDED)

    async def models(self, request: Request) -> Response:
        listed = await run_in_threadpool(facts_models.listed, self._store)
        return HTMLResponse(list_pages.models(listed, str(self._store.root), _links(request)))

    async def model(self, request: Request) -> Response:
        name, at = request.path_params["name"], request.query_params.get("at")
        facts = await run_in_threadpool(facts_models.whole, self._store, name)
        then = await run_in_threadpool(inventory.served_then, self._store, name, at) if at else []
        return HTMLResponse(model_page(facts, _links(request), at or None, then))

    async def runs(self, request: Request) -> Response:
        name, before = (request.query_params.get(key) for key in ("name", "before"))
        listed = await run_in_threadpool(facts_runs.listed, self._store, name, before)
        return HTMLResponse(list_pages.runs(listed, name, _links(request)))

    async def run(self, request: Request) -> Response:
        name, key = (request.path_params[part] for part in ("name", "run"))
        record = await run_in_threadpool(facts_runs.whole, self._store, name, key)
        pages = facts_runs.report_pages(self._store, record)
        why = await run_in_threadpool(operate.why, record["id"], store=self._store.root)
        return HTMLResponse(run_page(record, pages, why.summary, _links(request)))

    async def lineage(self, request: Request) -> Response:
        target = request.query_params.get("of")
        if not target:
            return HTMLResponse(lineage_page(_links(request)))
        traced = await run_in_threadpool(json_api.traced, self._store, target)
        return HTMLResponse(lineage_page(_links(request), target, traced))

    async def jobs(self, request: Request) -> Response:
        listed = await run_in_threadpool(facts_models.jobs, self._store)
        return HTMLResponse(list_pages.jobs(listed, _links(request)))

    async def report(self, request: Request) -> Response:
        return FileResponse(facts_models.page_file(self._store, request.path_params["path"]))

    async def metrics(self, _: Request) -> Response:
        """The state of all models as gauges for Prometheus."""
        text = await run_in_threadpool(exposition.text, self._store)
        return Response(text, media_type=exposition.CONTENT_TYPE)

    async def paths(self, request: Request) -> Response:
        return HTMLResponse(_paths_page(_links(request)))

    async def document(self, request: Request) -> Response:
        return _json(json_api.openapi(_links(request).base, version("mlsys")))

    async def read(self, reading: json_api.ReadPath, request: Request) -> Response:
        values = {**request.query_params, **request.path_params}
        unknown = {*values} - {*reading.query, *reading.names}
        if unknown:
            hint = errors.did_you_mean(min(unknown), reading.query) if reading.query else "this path takes none"
            raise HTTPException(422, f"no parameter '{min(unknown)[:64]}'; {hint}")
        return _json(await run_in_threadpool(reading.read, self._store, values))

    async def act(self, request: Request) -> Response:
        """Do it, and answer with JSON where JSON was sent, else with a page."""
        name, act = request.path_params["name"], request.path_params["act"]
        if act not in json_api.ACTS:
            raise HTTPException(404)
        values = await _values(request)
        shown = values.pop("key", None) or guard.presented(request.scope["headers"])
        key = acts.allowed(self._ring, shown, name)
        done = await getattr(acts, act)(self._store, name, values, key)
        if _wants_page(request):
            return _done_page(done, act, name, _links(request))
        if done.is_done:
            return _json(done.change)
        return _json({"error": {"code": "conflict", "message": done.message}}, HTTPStatus.CONFLICT)


def _links(request: Request) -> Links:
    return Links(request.scope.get("root_path", "").rstrip("/"))


def _password(request: Request) -> str | None:
    """The password of HTTP's Basic authentication (RFC 7617), for which a browser asks its user."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        return None


def _is_local(request: Request) -> bool:
    """Tell whether a request comes from this machine, and for a name of this machine."""
    client = request.client.host if request.client else ""
    host = request.headers.get("host", "").rpartition("@")[2]
    name = host.removeprefix("[").partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return _is_loopback(client) and (name == "localhost" or _is_loopback(name))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


async def _values(request: Request) -> dict[str, Any]:
    """The values of a form or of a JSON object.

    Raises
    ------
    HTTPException
        400, 413 or 415: the body is none of them.
    """
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise HTTPException(413, f"the body is longer than {MAX_BODY:,} bytes")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(data.decode("utf-8", "replace")))
    if kind != bodies.JSON:
        raise HTTPException(415, f"expected {bodies.JSON}")
    try:
        values = json.loads(data)
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(values, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return values


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith(f"{_links(request).base}/api")


def _json(value: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(responses.to_bytes(value), status, media_type=bodies.JSON)


def _done_page(done: acts.Done, act: str, name: str, links: Links) -> Response:
    """Back to the model where it is done; else why it is not, and that nothing has changed."""
    if done.is_done and not done.message:
        return RedirectResponse(links.model(name), HTTPStatus.SEE_OTHER)
    status = HTTPStatus.OK if done.is_done else HTTPStatus.CONFLICT
    level: html.Level = "warn" if done.is_done else "bad"
    title = f"{act.capitalize()}: {'done' if done.is_done else 'refused'}"
    page = page_frame.page(links, title, name)
    page.section("What happened", html.alert(level, html.tag("pre", done.message)))
    return HTMLResponse(page.section("Back", page_frame.link(links.model(name), name)).html(), status)


def _paths_page(links: Links) -> str:
    rows = [
        [html.code(f"GET {links.base}/api/{each.path}"), each.summary, ", ".join(each.query) or None]
        for each in json_api.READINGS
    ]
    rows += [
        [html.code(f"POST {links.base}/api/models/{{name}}/{act}"), summary, ", ".join(values)]
        for act, (summary, values) in json_api.ACTS.items()
    ]
    page = page_frame.page(links, "JSON", "the same as the pages, for programs")
    page.section("Paths", html.table(rows, ["path", "what", "parameters"], align="lwl"))
    return page.section("Contract", page_frame.link(links.to("api/openapi.json"), "OpenAPI document")).html()


async def _failed(request: Request, error: Exception) -> Response:
    """An error as JSON or as a page, with the status that its kind has everywhere in mlsys."""
    status = HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(error, errors.RecipeError) else responses.status_of(error)
    body = responses.error_body(error, as_text=False)
    headers = {**responses.headers_of(error), **HEADERS}
    if not _wants_page(request):
        return Response(body, status, headers, bodies.JSON)
    message = json.loads(body)["error"]["message"]
    page = page_frame.page(_links(request), HTTPStatus(status).phrase, f"{int(status)}")
    return HTMLResponse(page.section("What happened", html.alert("bad", message)).html(), status, headers)
