"""``POST /<name>/labels``: what really happened, sent by the ids of the predictions once it is known.

::

    {"labels": [{"prediction_id": "a-1", "label": true, "known_at": "2026-03-01T12:00:00Z"}, …]}

A label has the id of an answer (``prediction_id``) or the value of the column ``data.id`` under its name, the true
class or value as ``label`` (null where there will be none), and, if the client says so, ``at``, the time of the row,
and ``known_at``, when it was known. The answer comes once the labels are on disk, so a client that hears nothing sends
them again: a label that comes twice counts once. Labels that come together are written together, in one file.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
from collections.abc import Sequence
from typing import Any

import polars as pl
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mlsys import errors
from mlsys.deploy import asgi, bodies, label_files
from mlsys.deploy.requests import Bounds, is_id, json_kind, json_object
from mlsys.deploy.service import LoadedModel, Service
from mlsys.predict.class_labels import UNKNOWN, class_codes
from mlsys.predict.validation import Faults, cut, refuse
from mlsys.recipe import LimitsSection
from mlsys.schema import Role, Task
from mlsys.store import Store

GATHER_S = 0.1
"""Seconds for which labels of other requests are waited for before a file is written: ten files a second at most."""

TIMES = ("at", "known_at")
PREDICTION_ID = "prediction_id"


def route(store: Store, service: Service, limits: LimitsSection) -> Route:
    """The route of the labels of a service."""
    writer = LabelWriter(store, service.name, limits.rows)

    async def labels(request: Request) -> Response:
        model = asgi.loaded(service)
        body = await bodies.read(request.headers, request.receive, limits.body_bytes, limits.body_seconds)
        frame = await asyncio.to_thread(lambda: parsed(bodies.unpacked(body, limits.body_bytes), model, limits.rows))
        await writer.write(frame)
        return JSONResponse({"received": frame.height, "model": model.identity})

    return Route("/labels", _answering(labels, limits), methods=["POST"])


def _answering(handle: Any, limits: LimitsSection) -> Any:
    """A handler whose every error becomes an answer."""

    async def answered(request: Request) -> Response:
        try:
            response: Response = await handle(request)
        except bodies.ClientGoneError:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - the last place before the client
            return asgi.failure(error, as_text=False, most=limits.faults)
        return response

    return answered


def parsed(body: bytes, model: LoadedModel, most: int) -> pl.DataFrame:
    """Labels of a body as rows of `label_files`.

    Raises
    ------
    PayloadError
        The body is not JSON, or has more labels than a request may carry.
    RequestError
        A label has no id, an unknown key, a time that is none, or is no class of the model.
    """
    tree, faults = json_object(body), Faults()
    rows = tree.get("labels")
    if tree.keys() != {"labels"} or not isinstance(rows, list):
        got = "another key, too" if isinstance(rows, list) else json_kind(rows)
        faults.add("all", "labels", got, "one key, labels, with a list of objects")
        rows = []
    refuse(faults)
    Bounds(most).check(rows=len(rows))
    keys = (PREDICTION_ID, model.predictor.bundle.schema.name_of(Role.ID))
    read = [_row(number, row, keys, faults) for number, row in enumerate(rows)]
    refuse(faults)
    received = dt.datetime.now(dt.UTC)
    frame = pl.DataFrame([{**row, "received_at": received} for row in read if row], schema=label_files.TYPES)
    _check_classes(frame, model.predictor.task, faults)
    refuse(faults)
    return frame


def _row(number: int, row: Any, keys: Sequence[str | None], faults: Faults) -> dict[str, Any] | None:
    """A label as a row of `label_files`; None, and a fault, where it is none."""
    if not isinstance(row, dict):
        faults.add(number, "labels", json_kind(row), "an object with an id and a label")
        return None
    ids = [key for key in keys if key is not None and key in row]
    known = {*(key for key in keys if key is not None), "label", *TIMES}
    for name in [name for name in row if name not in known][:1]:
        faults.add(number, name, "an unknown key", errors.did_you_mean(cut(name), known))
    if len(ids) != 1 or "label" not in row:
        names = " or ".join(sorted(key for key in keys if key is not None))
        faults.add(number, "labels", f"the keys {', '.join(map(cut, row)) or 'none'}", f"{names}, and label")
        return None
    key = str(row[ids[0]]) if type(row[ids[0]]) is int else row[ids[0]]
    if not is_id(key):
        faults.add(number, ids[0], json_kind(row[ids[0]]), "an id as text or a whole number")
        return None
    times = {name: _time(number, name, row.get(name), faults) for name in TIMES}
    return {"key_name": ids[0], "key": key, "label": _text(number, row["label"], faults), **times}


def _text(number: int, label: Any, faults: Faults) -> str | None:
    """A label as the text that is stored; a list of several labels as its JSON."""
    if label is None or (isinstance(label, str) and _is_utf8(label)):
        return label
    if isinstance(label, bool | list):
        return json.dumps(label)
    if isinstance(label, int | float) and abs(label) <= sys.float_info.max:
        return repr(label)
    got = ascii(cut(label, 40)) if isinstance(label, str) else json_kind(label)
    faults.add(number, "label", got, "a class, a number, a list of labels, or null")
    return None


def _is_utf8(text: str) -> bool:
    """False for half a surrogate pair, which JSON can write and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _time(number: int, name: str, value: Any, faults: Faults) -> dt.datetime | None:
    if value is None:
        return None
    try:
        time = dt.datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        got = cut(value, 40) if isinstance(value, str) else json_kind(value)
        faults.add(number, name, got, "a time in ISO 8601, such as 2026-03-01T12:00:00Z")
        return None


def _check_classes(frame: pl.DataFrame, task: Task, faults: Faults) -> None:
    """Add a fault for each label that is no class of the task, or no number where it predicts one."""
    labels = frame["label"]
    if task.is_classification:
        wrong = class_codes(labels, task) == UNKNOWN
        expected = "one of " + ", ".join(map(str, (task.labels or task.classes)[:8]))
        expected = f"a list of {expected}" if task.labels else expected
    else:
        numbers = labels.cast(pl.Float64, strict=False)
        wrong = (labels.is_not_null() & (numbers.is_null() | ~numbers.is_finite().fill_null(value=False))).to_numpy()
        expected = "a number"
    for number in wrong.nonzero()[0].tolist():
        faults.add(number, "label", cut(str(labels[number]), 40), expected)


class LabelWriter:
    """Writes labels of requests that come together as one file, and lets each request wait until it is on disk."""

    def __init__(self, store: Store, name: str, max_rows: int) -> None:
        self._store, self._name = store, name
        self._max_rows = 4 * max_rows
        self._waiting: list[tuple[pl.DataFrame, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def write(self, labels: pl.DataFrame) -> None:
        """Return once the labels are on disk.

        Raises
        ------
        StoreError
            They cannot be written; the same request may be sent again.
        HTTPException
            Too many labels wait for the disk already.
        """
        if sum(each.height for each, _ in self._waiting) + labels.height > self._max_rows:
            raise asgi.overloaded("too many labels wait for the disk")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((labels, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_S)
            batch, self._waiting = self._waiting, []
            failed: Exception | None = None
            try:
                every = pl.concat([labels for labels, _ in batch])
                await asyncio.to_thread(label_files.append, self._store, self._name, every)
            except Exception as error:  # noqa: BLE001 - each of the waiting requests is told
                failed = error
            for _, done in batch:
                if not done.done():
                    done.set_exception(failed) if failed else done.set_result(None)
