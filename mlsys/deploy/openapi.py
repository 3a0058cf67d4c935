"""The contract of an endpoint: an OpenAPI 3.1 document for programs, and a page for people."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from mlsys import images
from mlsys.deploy import deadlines
from mlsys.deploy.requests import SWITCHES
from mlsys.deploy.service import EXPLAINED_ROWS, LoadedModel
from mlsys.predict.explanations import MAX_COLUMNS
from mlsys.reports import page as report
from mlsys.reports.page import tag
from mlsys.schema import Column, Kind, Task, arrow_type

STATUSES = {
    "400": "the body is not JSON in UTF-8, not in one of the forms, or not packed as its header says",
    "401": "there is no valid API key (mlsys keys add)",
    "403": "the API key may not do this",
    "408": "the body did not come in time (deploy.limits.body_seconds)",
    "413": "the body is too long, or has too many rows, columns or pixels (deploy.limits)",
    "415": "the content type is not JSON in UTF-8, nor an Arrow stream, or the content encoding not gzip or deflate",
    "422": "rows do not fit the model; violations list row, field, got and expected",
    "429": "the API key has asked more often than it may",
    "503": "no model is loaded yet, the endpoint is overloaded, or the online store of features does not answer",
    "504": "the time that X-Request-Timeout-Ms gives was over before the prediction began",
}
"""HTTP status of a failure → its meaning."""

OF_JOBS = {
    "404": "there is no such batch job, or no such version of the model",
    "409": "the batch job ended before; its output stays",
}
"""HTTP statuses that batch jobs have beside them."""


def document(model: LoadedModel, prefix: str) -> dict[str, Any]:
    """The OpenAPI document of a model whose paths begin with `prefix`."""
    from mlsys.deploy.batch_endpoint import BatchOrder  # of the cluster's side, which a gateway does not need

    name = model.entry.name
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": str(model.entry.version),
            "description": f"Predicts {model.predictor.task.target} ({model.predictor.task.kind.value}).",
        },
        "paths": {
            f"{prefix}/invocations": {"post": _invocations(model)},
            f"{prefix}/v2": {"get": _get("name, version and extensions of the server", "InferenceError")},
            f"{prefix}/v2/health/live": {"get": _get("liveness of this process")},
            f"{prefix}/v2/health/ready": {"get": _get("readiness of the model", "InferenceError", "503")},
            f"{prefix}/v2/models/{name}": {"get": _get("inputs and outputs of the model", "InferenceError", "503")},
            f"{prefix}/v2/models/{name}/ready": {"get": _get("readiness of the model", "InferenceError", "503")},
            f"{prefix}/v2/models/{name}/infer": {"post": _infer(name)},
            f"{prefix}/labels": {"post": _labels()},
            f"{prefix}/batch": {"post": _submit(), "get": _get("the newest batch jobs", *_BATCH, answer=_JOBS)},
            f"{prefix}/batch/{{job}}": {
                "parameters": [_JOB_ID],
                "get": _get("state, progress and result of a batch job", *_BATCH, "404", answer=_JOB),
                "delete": _cancel(),
            },
            f"{prefix}/health": {"get": _get("liveness of this process")},
            f"{prefix}/ready": {"get": _get("name, version and digest of the loaded model", "Error", "503")},
            f"{prefix}/stats": {"get": _get("requests, errors, latencies and the prediction log", "Error")},
        },
        "components": {
            "schemas": {
                "Record": record_schema(model),
                "BatchOrder": BatchOrder.model_json_schema(),
                "BatchJob": _BATCH_JOB,
                "Error": _ERROR,
                "InferenceError": _INFERENCE_ERROR,
            }
        },
    }


def record_schema(model: LoadedModel) -> dict[str, Any]:
    """JSON schema of one row; nullable columns may also be left out, unless they are the key of a look-up."""
    contract = model.predictor.contract
    columns = list(contract.schema)
    read = model.required & contract.needed  # no keys of look-ups: rows may carry joined columns in their place
    return {
        "type": "object",
        "properties": {column.name: _property(column, _looked_up(model, column.name)) for column in columns},
        "required": [column.name for column in columns if column.name in read and not column.nullable],
        "additionalProperties": False,
        "example": model.example(),
    }


def page(model: LoadedModel, prefix: str) -> str:
    """The same as an HTML page: an example request, the columns, the errors and links."""
    schema, entry = model.predictor.contract.schema, model.entry
    example = json.dumps({"dataframe_records": [model.example()]}, indent=2, ensure_ascii=False)
    columns = [[report.code(column.name), column.type, _presence(model, column), column.unit] for column in schema]
    statuses = [[int(status), meaning] for status, meaning in STATUSES.items()]
    ends = ("openapi.json", "health", "ready", "stats", "batch", f"v2/models/{entry.name}")
    paths = [f"{prefix}/{end}" for end in ends]
    return (
        report.Page(entry.name, f"version {entry.version}, bundle {entry.digest[:12]}")
        .section("Request", f"POST {prefix}/invocations, Content-Type: application/json", tag("pre", example))
        .section("Columns", report.table(columns, ["column", "type", "sent", "unit"]))
        .section("Errors", report.table(statuses, ["status", "meaning"]))
        .section("More", report.bullets([tag("a", path, href=path) for path in paths]))
        .html()
    )


def curl(url: str, example: dict[str, Any]) -> str:
    """A curl command that sends one row, quoted for a shell."""
    body = json.dumps({"dataframe_records": [example]}, ensure_ascii=False).replace("'", "'\\''")
    return f"curl -s {url}/invocations -H 'Content-Type: application/json' -d '{body}'"


def _invocations(model: LoadedModel) -> dict[str, Any]:
    rows = {"type": "array", "items": {"$ref": "#/components/schemas/Record"}}
    switches = {name: {"type": "boolean", "default": default} for name, default in SWITCHES.items()}
    explain = {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_COLUMNS,
        "default": 0,
        "description": f"columns of an explanation of each row, of which there may be {EXPLAINED_ROWS}; "
        "the base, these contributions and the rest add up to the margin",
    }
    params = {"type": "object", "properties": {**switches, "explain": explain}}
    table = {"type": "object", "required": ["columns", "data"], "properties": {"columns": {}, "data": {}}}
    forms = {
        "dataframe_records": rows,
        "dataframe_split": table,
        "instances": {"anyOf": [rows, {"type": "array", "items": {"type": "array"}}]},
        "inputs": {"anyOf": [rows, {"type": "object", "additionalProperties": {"type": "array"}}]},
    }
    bodies = [
        {"type": "object", "required": [form], "properties": {form: schema, "params": params}}
        for form, schema in forms.items()
    ]
    body = {"oneOf": bodies, "example": {"dataframe_records": [model.example()]}}
    return _post("Predict rows", body, "predictions in the order of the rows", "Error", _answer(model.predictor.task))


def _infer(name: str) -> dict[str, Any]:
    tensor = {"type": "object", "required": ["name", "shape", "datatype", "data"]}
    inputs = {"id": {"type": "string"}, "inputs": {"type": "array", "items": tensor}}
    body = {"type": "object", "required": ["inputs"], "properties": inputs}
    summary = f"Predict with {name} (Open Inference Protocol)"
    tensors = {"type": "object"}
    return _post(summary, body, "tensors prediction, probabilities and prediction_id", "InferenceError", tensors)


def _labels() -> dict[str, Any]:
    label = {"type": "object", "required": ["label"], "example": {"prediction_id": "a-1", "label": None}}
    body = {"type": "object", "required": ["labels"], "properties": {"labels": {"type": "array", "items": label}}}
    received = {"type": "object", "required": ["received"], "properties": {"received": {"type": "integer"}}}
    return _post("Send true values by the ids of predictions", body, "the labels are on disk", "Error", received)


def _answer(task: Task) -> dict[str, Any]:
    """JSON schema of predictions; of several labels, with their names and a decision and a probability for each."""
    if not task.labels:
        return {"type": "object"}

    def rows(of: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "array", "items": of}}

    names = {"type": "string", "enum": list(task.labels)}
    each: dict[str, Any] = {"minItems": len(task.labels), "maxItems": len(task.labels)}
    decisions, numbers = rows({"type": "boolean"}), rows({"type": "number", "minimum": 0, "maximum": 1})
    decisions["items"] |= each
    numbers["items"] |= each
    return {
        "type": "object",
        "required": ["predictions", "labels", "decisions"],
        "properties": {
            "predictions": rows(names) | {"description": "of each row, the labels that it is said to have"},
            "labels": {"type": "array", "const": list(task.labels)},
            "decisions": decisions | {"description": "of each row, a decision for each of the labels"},
            "probabilities": numbers | {"description": "of each row, the probability of each of the labels"},
        },
    }


def _submit() -> dict[str, Any]:
    order = {"$ref": "#/components/schemas/BatchOrder"}
    post = _post(
        "Put a batch job into the queue", order, "the job that waits, or that the same key made", "Error", _JOB
    )
    responses = post["responses"]
    headers = {"Location": {"description": "where the job is followed", "schema": _TEXT}}
    return {
        **post,
        "parameters": [_TIMEOUT, _IDEMPOTENCY_KEY],
        "responses": {"202": responses.pop("200") | {"headers": headers}, **responses, **_failures("Error", "404")},
    }


def _cancel() -> dict[str, Any]:
    stated = _get("give a batch job up", *_BATCH, "404", "409", answer=_JOB)
    canceled = stated["responses"]["200"]
    return {**stated, "responses": {**stated["responses"], "202": canceled | {"description": "its worker ends it"}}}


def _post(summary: str, body: dict[str, Any], answer: str, error: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [_TIMEOUT],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": answer, "content": {"application/json": {"schema": schema}}},
            **_failures(error, *STATUSES),
        },
    }


def _get(
    summary: str, error: str | None = None, *statuses: str, answer: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A path that is read; with an `error`, one that may need an API key."""
    stated = {"description": "OK"} if answer is None else {"description": "OK", "content": _content(answer)}
    failures = {} if error is None else _failures(error, "401", "403", "429", *statuses)
    return {"summary": summary, "responses": {"200": stated, **failures}}


def _failures(error: str, *statuses: str) -> dict[str, Any]:
    """Responses of some statuses, with the schema of their body."""
    content = _content({"$ref": f"#/components/schemas/{error}"})
    meanings = STATUSES | OF_JOBS
    return {status: {"description": meanings[status], "content": content} for status in statuses}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _looked_up(model: LoadedModel, name: str) -> str | None:
    """Describe a column's part in look-ups; None if it has none."""
    lookup = model.predictor.lookup
    for view in lookup.views if lookup else ():
        if name in view.names:
            return f"looked up in {view.name} unless sent"
        if name in {key.column for key in view.keys}:
            return f"key of {view.name}"
    return None


def _property(column: Column, looked_up: str | None) -> dict[str, Any]:
    kind = _json_type(arrow_type(column.type))
    schema: dict[str, Any] = dict(kind)
    if column.nullable:
        schema["type"] = [kind["type"], "null"]
    notes = [f"in {column.unit}"] if column.unit else []
    notes += [f"a PNG or JPEG of at most {images.MAX_PIXELS:,} pixels"] if column.kind is Kind.IMAGE else []
    notes += [looked_up] if looked_up else []
    if notes:
        schema["description"] = "; ".join(notes)
    bounds = {"minimum": column.minimum, "maximum": column.maximum}
    return schema | {word: bound for word, bound in bounds.items() if bound is not None}


def _json_type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return {"type": "number"}
    if pa.types.is_list(kind):
        return {"type": "array", "items": _json_type(kind.value_type)}
    text = {"type": "string"}
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return text | {"format": "date-time" if pa.types.is_timestamp(kind) else "date"}
    return text | {"contentEncoding": "base64"} if pa.types.is_binary(kind) else text


def _presence(model: LoadedModel, column: Column) -> str:
    looked_up = _looked_up(model, column.name)
    if looked_up is None and column.name not in model.required:
        return "optional"
    presence = "null if unknown" if column.nullable else "always"
    if looked_up is None:
        return presence
    return looked_up if looked_up.startswith("looked up") else f"{looked_up}; {presence}"


_TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "milliseconds for which the client waits: a prediction that has not begun by then is not made",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**deadlines.MAX_DIGITS - 1},
}
_TEXT = {"type": "string"}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "a request that is sent again with it gets the job that the first one made",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_JOB_ID = {"name": "job", "in": "path", "required": True, "schema": _TEXT}
_BATCH_JOB: dict[str, Any] = {
    "type": "object",
    "required": ["id", "state", "model", "input", "output", "progress", "result", "error", "location"],
    "properties": {
        "id": _TEXT,
        "state": {"enum": ["queued", "running", "canceling", "succeeded", "failed", "canceled"]},
        "location": _TEXT,
        "progress": {"type": "object", "description": "fragments that are done, of how many, and their rows"},
        "result": {"type": ["object", "null"]},
        "error": {"type": ["string", "null"]},
    },
}
_JOB = {"$ref": "#/components/schemas/BatchJob"}
_JOBS = {"type": "object", "required": ["jobs"], "properties": {"jobs": {"type": "array", "items": _JOB}}}
_BATCH = ("Error", "503")
_VIOLATION = {"row": {"type": ["integer", "string"]}, "field": _TEXT, "got": _TEXT, "expected": _TEXT}
_VIOLATIONS = {"type": "array", "items": {"type": "object", "properties": _VIOLATION}}
_FAILURE = {"code": _TEXT, "message": _TEXT, "violations": _VIOLATIONS}
_INFERENCE_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": _TEXT, "violations": _VIOLATIONS},
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"error": {"type": "object", "required": ["code", "message"], "properties": _FAILURE}},
}
