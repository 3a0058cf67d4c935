"""HTTP endpoints of batch jobs: submit one, follow it, cancel it, list them.

==========================  =====================================================================
``POST /batch``             puts a job into the queue: 202 with its id, and where it is followed
``GET /batch``              the newest jobs of the model, newest first
``GET /batch/<id>``         state, progress and result of a job
``DELETE /batch/<id>``      gives a job up: 202 while its worker does so, 409 if it ended before
==========================  =====================================================================

With the header ``Idempotency-Key`` a request that is sent again gets the job that the first one made
(draft-ietf-httpapi-idempotency-key-header); the key with another order is refused with 422. Nothing is read or written
here: that is done by a worker on the cluster (`mlsys.deploy.batch_jobs`), below the roots alone.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mlsys import errors, registry
from mlsys.deploy import batch_jobs, bodies
from mlsys.deploy.batch_queue import JobQueue, JobSpec, QueuedJob
from mlsys.deploy.batch_roots import Roots, refusal
from mlsys.deploy.requests import json_object
from mlsys.deploy.responses import error_body, headers_of, status_of, to_bytes, without_paths
from mlsys.predict.explanations import MAX_COLUMNS
from mlsys.predict.validation import cut
from mlsys.recipe import BatchSection, ReadOptions, override, secrets, set_values
from mlsys.store import Store

BODY_BYTES, BODY_S = 1 << 16, 10.0
"""Bytes of an order at most, and seconds within which it must have come."""

MAX_KEY = 255
"""Characters of an ``Idempotency-Key`` at most."""

FOLDER = "batch"
"""The folder of the store below which jobs read and write where the recipe names no roots."""

OWN_SETTINGS = ("reading.query",)
"""Settings that are for whoever runs the server: SQL may read what a client may not."""


class BatchOrder(BaseModel):
    """The body of ``POST /batch``.

    Attributes
    ----------
    input, output
        Paths or URIs below a root, as the source and the output of ``mlsys predict``.
    format
        Format of the input where the names of its files do not tell it.
    model
        Alias, version or digest; by default what the endpoint serves.
    mode
        ``replace`` an earlier output, or ``append`` to those of other runs.
    run_id
        The id of the run in the output; by default one that the same model and files always have.
    explain
        Columns whose contributions to each prediction are written; 0 for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    input: str = Field(min_length=1, max_length=4096)
    output: str = Field(min_length=1, max_length=4096)
    keys: list[str] = Field([], max_length=1000)
    settings: dict[str, Any] = {}
    format: str | None = Field(None, max_length=64)
    model: str | None = Field(None, max_length=128)
    mode: str = Field("replace", pattern="^(replace|append)$")
    run_id: str | None = Field(None, pattern=r"^[A-Za-z][\w.-]{0,63}$")
    max_rejected_fraction: float = Field(0.01, ge=0, le=1)
    explain: int = Field(0, ge=0, le=MAX_COLUMNS)


def roots_of(store: Store, settings: BatchSection) -> Roots:
    """The places of a recipe, or the folder of the store."""
    return Roots(settings.roots or (str(store.root / FOLDER),))


def routes(store: Store, name: str, settings: BatchSection, served: Callable[[], str]) -> list[Route]:
    """Routes of the batch jobs of one model; `served` says which version or alias the endpoint serves."""
    endpoint = BatchEndpoint(store, name, settings, served)
    return [
        Route("/batch", _answered(endpoint.jobs)),
        Route("/batch", _answered(endpoint.submit), methods=["POST"]),
        Route("/batch/{job}", _answered(endpoint.job)),
        Route("/batch/{job}", _answered(endpoint.cancel), methods=["DELETE"]),
    ]


class BatchEndpoint:
    """The queue of a store, as the clients of one model see it."""

    def __init__(self, store: Store, name: str, settings: BatchSection, served: Callable[[], str]) -> None:
        self._store, self._name, self._settings, self._served = store, name, settings, served
        self._queue = JobQueue(store)
        self._roots = roots_of(store, settings)

    async def submit(self, request: Request) -> Response:
        body = await bodies.read(request.headers, request.receive, BODY_BYTES, BODY_S)
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= MAX_KEY:
            raise errors.PayloadError.header("Idempotency-Key", f"{len(key)} characters", f"1 to {MAX_KEY}")
        job = await asyncio.to_thread(self._submitted, bodies.unpacked(body, BODY_BYTES), key)
        headers = {"Location": f"/{self._name}/batch/{job.id}", "Retry-After": "1"}
        return _json(self._shown(job), 202, headers)

    async def jobs(self, _: Request) -> Response:
        jobs = await asyncio.to_thread(self._queue.jobs, self._name)
        return _json({"jobs": [self._shown(job) for job in jobs]})

    async def job(self, request: Request) -> Response:
        job = await asyncio.to_thread(self._queue.get, self._name, request.path_params["job"])
        return _json(self._shown(job), headers={} if job.is_over else {"Retry-After": "1"})

    async def cancel(self, request: Request) -> Response:
        job = await asyncio.to_thread(self._queue.cancel, self._name, request.path_params["job"])
        if job.state in ("succeeded", "failed"):
            raise HTTPException(409, f"job {job.id} {job.state} before; its output stays")
        return _json(self._shown(job), 200 if job.is_over else 202)

    def _submitted(self, body: bytes, key: str | None) -> QueuedJob:
        spec = self._spec(_order(json_object(body)))
        job = self._queue.submit(spec, key=key, most=self._settings.queue)
        batch_jobs.start(self._store)
        return job

    def _spec(self, order: BatchOrder) -> JobSpec:
        """The job of an order: its places below the roots, and the version that its alias means now."""
        for name in order.settings:
            if name in OWN_SETTINGS:
                raise refusal("settings", f"'{name}'", "settings of files", "`mlsys batch submit` on the server has it")
        settings = order.settings | ({} if order.format is None else {"reading.format": order.format})
        override(ReadOptions(), set_values(settings))  # a key that is not known is refused here, and not by the worker
        return JobSpec(
            self._name,
            order.model or "",
            registry.resolve(self._store, self._name, order.model or self._served()).version,
            self._roots.resolve(order.input, "input"),
            self._roots.resolve(order.output, "output"),
            tuple(order.keys),
            tuple(set_values(settings)),
            append=order.mode == "append",
            run_id=order.run_id,
            max_rejected_fraction=order.max_rejected_fraction,
            roots=self._roots.places,
            max_running=self._settings.max_running,
            cpu_share=self._settings.cpu_share,
            explain=order.explain,
        )

    def _shown(self, job: QueuedJob) -> dict[str, Any]:
        shown = described(job)
        places = {name: self._place(shown[name]) for name in ("input", "output")}
        error = None if job.error is None else without_paths(job.error)
        result = None if job.result is None else job.result | {"output": self._place(job.result["output"])}
        return shown | places | {"error": error, "result": result, "location": f"/{self._name}/batch/{job.id}"}

    def _place(self, location: str) -> str:
        """A place as a client may name it: a path below the first root without that root."""
        root = self._roots.places[0]
        return str(Path(location).relative_to(root)) if Path(location).is_relative_to(root) else location


def described(job: QueuedJob) -> dict[str, Any]:
    """A job as JSON."""
    spec = job.spec
    return {
        "id": job.id,
        "state": "canceling" if job.is_canceling else job.state,
        "model": {"name": spec.name, "version": spec.version},
        "input": secrets.shown(spec.input),
        "output": secrets.shown(spec.output),
        "mode": "append" if spec.append else "replace",
        "created_at": _instant(job.created),
        "started_at": _instant(job.started),
        "ended_at": _instant(job.ended),
        "progress": {"fragments": job.done, "of": job.total, "rows": job.num_rows},
        "attempts": job.attempts,
        "result": job.result,
        "error": job.error,
    }


def _order(tree: dict[str, Any]) -> BatchOrder:
    try:
        return BatchOrder.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "body"
        if first["type"] == "extra_forbidden":
            hint = errors.did_you_mean(field, BatchOrder.model_fields)
            raise refusal(field[:64], "a key that means nothing", "a key of an order", hint) from None
        got = "nothing" if first["type"] == "missing" else cut(repr(first["input"]), 100)
        raise refusal(field, got, first["msg"]) from None


def _answered(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler, whose every error becomes an answer; a queue that is full says when to come again."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except bodies.ClientGoneError:
            return Response(status_code=400)
        except errors.ClusterError as error:
            return _failure(HTTPException(503, str(error), headers={"Retry-After": "5"}))
        except errors.RecipeError as error:
            return _failure(refusal("settings", str(error), "settings that fit the input"))
        except Exception as error:  # noqa: BLE001  (the last place before the client)
            return _failure(error)

    return answered


def _failure(error: Exception) -> Response:
    return Response(error_body(error, as_text=False), status_of(error), headers_of(error), media_type=bodies.JSON)


def _json(value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_bytes(value), status, headers, media_type=bodies.JSON)


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")
