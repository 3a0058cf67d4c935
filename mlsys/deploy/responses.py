"""What a client gets: predictions in MLflow's form and as tensors, and errors with their status."""

from __future__ import annotations

import json
import logging
import uuid
from http import HTTPStatus
from typing import Any

import pyarrow as pa
from starlette.exceptions import HTTPException

from mlsys import errors
from mlsys.deploy.service import Answer, Loaded
from mlsys.features.online.lookup import PointFeatures
from mlsys.predict.coercion import to_json
from mlsys.schema import Task, arrow_type

__all__ = ["error_body", "metadata", "mlflow", "open_inference", "status_of"]

PAYLOAD_STATUS = {"malformed": 400, "too_large": 413, "content_type": 415}

STATUS: dict[type[Exception], HTTPStatus] = {
    errors.RequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RegistryError: HTTPStatus.NOT_FOUND,
    errors.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Status of an error; what is not here is our own fault: 500."""


def mlflow(answer: Answer) -> dict[str, Any]:
    """MLflow's clients read ``predictions``; the rest is ours."""
    said = answer.predictions
    body: dict[str, Any] = {"predictions": said.prediction.tolist()}
    if said.probabilities is not None and answer.request.probabilities:
        body |= {"classes": list(said.task.classes), "probabilities": said.probabilities.tolist()}
    body |= {"prediction_ids": answer.ids, "model": answer.model.identity}
    if said.unseen or answer.request.counts:
        body["unseen"] = said.unseen
    if answer.request.features and answer.looked is not None and answer.looked.found is not None:
        names = [view.name for view in answer.looked.views]
        body["features"] = [{name: _found(row.get(name)) for name in names} for row in answer.looked.found]
    if answer.request.counts:
        body["rare"] = said.rare
    return body


def open_inference(answer: Answer) -> dict[str, Any]:
    """An inference response: tensors ``prediction``, ``probabilities`` and ``prediction_id``."""
    said, count = answer.predictions, len(answer.ids)
    outputs = [_tensor("prediction", _datatype_of_task(said.task), [count], said.prediction.tolist())]
    if said.probabilities is not None and answer.request.probabilities:
        outputs.append(
            _tensor("probabilities", "FP64", list(said.probabilities.shape), said.probabilities.ravel().tolist())
        )
    outputs.append(_tensor("prediction_id", "BYTES", [count], answer.ids))
    entry = answer.model.entry
    body: dict[str, Any] = {"model_name": entry.name, "model_version": str(entry.version), "outputs": outputs}
    body["parameters"] = {"digest": entry.digest}
    if answer.request.counts:  # parameters are scalars in the protocol
        body["parameters"] |= {"unseen": sum(said.unseen.values()), "rare": sum(said.rare.values())}
    return body if answer.request.id is None else {**body, "id": answer.request.id}


def metadata(model: Loaded) -> dict[str, Any]:
    """Model metadata of the Open Inference Protocol; -1 is any number of rows."""
    schema, needed = model.predictor.bundle.schema, model.required
    task = model.predictor.task
    outputs = [{"name": "prediction", "datatype": _datatype_of_task(task), "shape": [-1]}]
    if task.is_classification:
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(task.classes)]})
    outputs.append({"name": "prediction_id", "datatype": "BYTES", "shape": [-1]})
    return {
        "name": model.entry.name,
        "versions": [str(model.entry.version)],
        "platform": f"mlsys-{model.predictor.bundle.family}",
        "inputs": [
            {
                "name": column.name,
                "datatype": datatype(arrow_type(column.type)),
                "shape": [-1],
                "parameters": {"required": column.name in needed, "nullable": column.nullable},
            }
            for column in schema
        ],
        "outputs": outputs,
    }


def datatype(kind: pa.DataType) -> str:
    """Tensor datatype of an Arrow type; times and text travel as BYTES.

    >>> datatype(pa.int32()), datatype(pa.float64()), datatype(pa.string())
    ('INT32', 'FP64', 'BYTES')
    """
    if pa.types.is_boolean(kind):
        return "BOOL"
    if pa.types.is_integer(kind):
        return str(kind).upper()
    return f"FP{kind.bit_width}" if pa.types.is_floating(kind) else "BYTES"


def status_of(error: Exception) -> int:
    """HTTP status of an error."""
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, errors.PayloadError):
        return PAYLOAD_STATUS[error.reason]
    found = [status for kind, status in STATUS.items() if isinstance(error, kind)]
    return found[0] if found else HTTPStatus.INTERNAL_SERVER_ERROR


def error_body(error: Exception, *, as_text: bool = False) -> bytes:
    """What the client is told; an error that we did not foresee is logged here and named by an id.

    With `as_text` the message itself stands under ``error``, as the Open Inference Protocol
    asks; else an object with ``code``, ``message`` and, for wrong rows, ``violations``.
    """
    status = status_of(error)
    message = str(error)
    if isinstance(error, HTTPException):
        message = error.detail
    elif status == HTTPStatus.INTERNAL_SERVER_ERROR:
        incident = uuid.uuid4().hex
        logging.getLogger("ray.serve").error("mlsys: unforeseen error %s", incident, exc_info=error)
        message = f"internal error {incident}; the server's log has the details"
    violations = error.violations if isinstance(error, errors.RequestError) else None
    facts = {} if violations is None else {"violations": violations}
    code = HTTPStatus(status).name.lower()
    body = {"error": message, **facts} if as_text else {"error": {"code": code, "message": message, **facts}}
    return json.dumps(body, ensure_ascii=False).encode()


def _found(found: PointFeatures | None) -> dict[str, Any]:
    """What was looked up of a join for a row; None: the row carried it."""
    if found is None:
        return {"status": "given"}
    age = {} if found.age_us is None else {"age_s": found.age_us / 1e6}
    return {"status": found.status, **age, "values": {name: to_json(value) for name, value in found.values.items()}}


def _datatype_of_task(task: Task) -> str:
    if not task.is_classification:
        return "FP64"
    return {bool: "BOOL", int: "INT64"}.get(type(task.classes[0]), "BYTES")


def _tensor(name: str, kind: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": shape, "data": data}
