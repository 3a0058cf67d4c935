"""Bodies of answers: predictions in MLflow's form or as tensors, and errors with their status."""

from __future__ import annotations

import json
import logging
import re
import uuid
from http import HTTPStatus
from typing import Any

import pyarrow as pa
from starlette.exceptions import HTTPException

from mlsys import errors
from mlsys.deploy import fast_json
from mlsys.deploy.service import Answer, LoadedModel
from mlsys.features.online.lookup import PointFeatures
from mlsys.predict.coercion import to_json
from mlsys.predict.validation import MAX_VIOLATIONS
from mlsys.schema import Task, arrow_type

PAYLOAD_STATUS = {"malformed": 400, "too_slow": 408, "too_large": 413, "content_type": 415, "too_late": 504}
"""Reason of a `PayloadError` → HTTP status."""

STATUS: dict[type[Exception], HTTPStatus] = {
    errors.RequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RegistryError: HTTPStatus.NOT_FOUND,
    errors.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Type of an error → HTTP status; any other error is a fault of the server, 500."""


def mlflow(answer: Answer) -> dict[str, Any]:
    """Body in MLflow's form, whose clients read ``predictions``; all other keys are additions.

    Of several labels a prediction is the list of those that the row is said to have; ``decisions`` and
    ``probabilities`` have a value for each of ``labels``.
    """
    predictions, request = answer.predictions, answer.request
    body: dict[str, Any] = {"predictions": predictions.prediction.tolist()}
    if predictions.decisions is not None:
        body = {"predictions": [json.loads(text) for text in predictions.prediction]}
        body |= {"labels": list(predictions.task.labels), "decisions": predictions.decisions.tolist()}
        if request.probabilities and predictions.probabilities is not None:
            body["probabilities"] = predictions.probabilities.tolist()
    elif predictions.probabilities is not None and request.probabilities:
        body |= {"classes": list(predictions.task.classes), "probabilities": predictions.probabilities.tolist()}
    body |= {"prediction_ids": answer.ids, "model": answer.model.identity}
    if predictions.unseen or request.counts:
        body["unseen"] = predictions.unseen
    if request.features and answer.looked is not None and answer.looked.features is not None:
        names = [view.name for view in answer.looked.views]
        body["features"] = [{name: _features(row.get(name)) for name in names} for row in answer.looked.features]
    if request.counts:
        body["rare"] = predictions.rare
    if answer.explanations is not None:
        explained = answer.explanations
        body["explanations"] = {"scale": explained.scale, "rows": explained.largest(request.explain)}
    return body


def open_inference(answer: Answer) -> dict[str, Any]:
    """Body of an inference response: tensors ``prediction``, ``probabilities`` and ``prediction_id``.

    Of several labels, whose prediction is the JSON text of a list, also ``decisions``.
    """
    predictions, count = answer.predictions, len(answer.ids)
    probabilities = predictions.probabilities
    outputs = [_tensor("prediction", _datatype_of_task(predictions.task), [count], predictions.prediction.tolist())]
    if probabilities is not None:
        outputs.append(_tensor("probabilities", "FP64", list(probabilities.shape), probabilities.ravel().tolist()))
    if predictions.decisions is not None:
        decisions = predictions.decisions
        outputs.append(_tensor("decisions", "BOOL", list(decisions.shape), decisions.ravel().tolist()))
    outputs.append(_tensor("prediction_id", "BYTES", [count], answer.ids))
    asked = answer.request.outputs
    outputs = outputs if asked is None else [each for each in outputs if each["name"] in asked]
    entry = answer.model.entry
    body: dict[str, Any] = {"model_name": entry.name, "model_version": str(entry.version), "outputs": outputs}
    body["parameters"] = {"digest": entry.digest}
    if answer.request.counts:  # totals, because parameters are scalars in the protocol
        totals = {"unseen": sum(predictions.unseen.values()), "rare": sum(predictions.rare.values())}
        body["parameters"] |= totals
    return body if answer.request.id is None else {**body, "id": answer.request.id}


def output_names(task: Task) -> list[str]:
    """Names of the tensors of an answer."""
    return [output["name"] for output in _outputs(task)]


def _outputs(task: Task) -> list[dict[str, Any]]:
    """Tensors of an answer as metadata; a size of -1 is any number of rows."""
    outputs = [{"name": "prediction", "datatype": _datatype_of_task(task), "shape": [-1]}]
    if task.is_classification:
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(task.output_names)]})
    if task.labels:
        outputs.append({"name": "decisions", "datatype": "BOOL", "shape": [-1, len(task.labels)]})
    return [*outputs, {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]}]


def metadata(model: LoadedModel) -> dict[str, Any]:
    """Model metadata of the Open Inference Protocol; a size of -1 is any number of rows."""
    schema, required = model.predictor.bundle.schema, model.required
    return {
        "name": model.entry.name,
        "versions": [str(model.entry.version)],
        "platform": f"mlsys-{model.predictor.bundle.family}",
        "inputs": [
            {
                "name": column.name,
                "datatype": datatype(arrow_type(column.type)),
                "shape": [-1],
                "parameters": {"required": column.name in required, "nullable": column.nullable},
            }
            for column in schema
        ],
        "outputs": _outputs(model.predictor.task),
    }


def datatype(kind: pa.DataType) -> str:
    """Tensor datatype of an Arrow type; times and text are BYTES.

    >>> datatype(pa.int32()), datatype(pa.float64()), datatype(pa.string())
    ('INT32', 'FP64', 'BYTES')
    """
    if pa.types.is_boolean(kind):
        return "BOOL"
    if pa.types.is_integer(kind):
        return str(kind).upper()
    return f"FP{kind.bit_width}" if pa.types.is_floating(kind) else "BYTES"


def status_of(error: Exception) -> int:
    """HTTP status that answers an error."""
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, errors.PayloadError):
        return PAYLOAD_STATUS[error.reason]
    statuses = [status for kind, status in STATUS.items() if isinstance(error, kind)]
    return statuses[0] if statuses else HTTPStatus.INTERNAL_SERVER_ERROR


def headers_of(error: Exception) -> dict[str, str]:
    """HTTP headers that go with an error: when to come back, or that the connection ends with an unread body."""
    if isinstance(error, HTTPException):
        return dict(error.headers or {})
    if isinstance(error, errors.PayloadError) and error.reason in {"too_large", "too_slow"}:
        return {"Connection": "close"}
    return {"Retry-After": "1"} if status_of(error) == HTTPStatus.SERVICE_UNAVAILABLE else {}


def error_body(error: Exception, *, as_text: bool, most: int = MAX_VIOLATIONS) -> bytes:
    """JSON of an error, as text in ``error`` (Open Inference) or an object; unforeseen errors show no details."""
    status = status_of(error)
    message = str(error.detail if isinstance(error, HTTPException) else error)
    if isinstance(error, errors.StoreError):
        message = without_paths(message)
        logging.getLogger("ray.serve").error("mlsys: %s", error)
    elif status == HTTPStatus.INTERNAL_SERVER_ERROR:
        incident = uuid.uuid4().hex
        logging.getLogger("ray.serve").error("mlsys: unforeseen error %s", incident, exc_info=error)
        message = f"internal error {incident}; the server's log has the details"
    violations = {"violations": error.violations[:most]} if isinstance(error, errors.RequestError) else {}
    code = HTTPStatus(status).name.lower()
    body = {"error": message, **violations} if as_text else {"error": {"code": code, "message": message, **violations}}
    return to_bytes(body)


_PATH = re.compile(r"""(?<=['"])/[^'"\n]+(?=['"])|(?<![\w:/.])/[^\s'",;()]+""")


def without_paths(message: str) -> str:
    """A message of the server without paths of its files, which say nothing to a client.

    >>> without_paths("store: 'a.json': check /srv/store/objects; redis://127.0.0.1:6379/0 does not answer")
    "store: 'a.json': check (a path of the server); redis://127.0.0.1:6379/0 does not answer"
    """
    return _PATH.sub("(a path of the server)", message)


def to_bytes(value: Any) -> bytes:
    """JSON with every float in the shortest form that reads back as the same bits.

    What JSON or UTF-8 cannot say is put differently: a number that is none as null, half a surrogate pair escaped.
    """
    encoded = fast_json.encode(value)
    return json.dumps(_sayable(value), separators=(",", ":")).encode() if encoded is None else encoded


def _sayable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sayable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_sayable(item) for item in value]
    return to_json(value)


def _features(features: PointFeatures | None) -> dict[str, Any]:
    """JSON of what a look-up gave for a row; None where the row carried the columns itself."""
    if features is None:
        return {"status": "given"}
    age = {} if features.age_us is None else {"age_s": features.age_us / 1e6}
    values = {name: to_json(value) for name, value in features.values.items()}
    return {"status": features.status, **age, "values": values}


def _datatype_of_task(task: Task) -> str:
    if not task.is_classification:
        return "FP64"
    return {bool: "BOOL", int: "INT64"}.get(type(task.classes[0]), "BYTES")


def _tensor(name: str, kind: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": shape, "data": data}
