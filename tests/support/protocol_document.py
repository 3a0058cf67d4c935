"""The REST interface of the Open Inference Protocol as an OpenAPI document, written for the tests.

It states the paths, members and types of ``specification/protocol/open_inference_rest.yaml`` in
``kserve/open-inference-protocol`` (which names paths with a version alone, and the server with a slash), and what
``inference_rest.md`` adds: paths without a version, and that a failure has a status and an ``error`` of text.
"""

TEXT, INTEGERS = {"type": "string"}, {"type": "array", "items": {"type": "integer"}}


def record(required, **properties):
    return {"type": "object", "required": required.split(), "properties": properties}


def listed(name):
    return {"type": "array", "items": refers(name)}


def refers(name):
    return {"$ref": f"#/components/schemas/{name}"}


VALUES = [{"type": "number"}, {"type": "string"}, {"type": "boolean"}]
TENSOR = {"name": TEXT, "shape": INTEGERS, "datatype": TEXT}
VALUED = {**TENSOR, "parameters": {"type": "object"}, "data": refers("Values")}
SCHEMAS = {
    "Values": {"type": "array", "items": {"anyOf": [refers("Values"), *VALUES]}},
    "Described": record("name datatype shape", **TENSOR),
    "Input": record("name shape datatype data", **VALUED),
    "Output": record("name shape datatype data", **VALUED),
    "Asked": record("name", name=TEXT, parameters={"type": "object"}),
    "Server": record("name version extensions", name=TEXT, version=TEXT, extensions={"type": "array", "items": TEXT}),
    "Model": record(
        "name platform inputs outputs",
        name=TEXT, versions={"type": "array", "items": TEXT}, platform=TEXT,
        inputs=listed("Described"), outputs=listed("Described"),
    ),
    "Live": record("live", live={"type": "boolean"}),
    "Ready": record("name ready", name=TEXT, ready={"type": "boolean"}),
    "Request": record(
        "inputs", id=TEXT, parameters={"type": "object"}, inputs=listed("Input"), outputs=listed("Asked")
    ),
    "Response": record(
        "model_name outputs",
        model_name=TEXT, model_version=TEXT, id=TEXT, parameters={"type": "object"}, outputs=listed("Output"),
    ),
    "Failure": record("error", error=TEXT),
}  # fmt: skip


def document():
    """The document, in OpenAPI 3.0 as the protocol's own."""
    paths = {
        "/v2/": {"get": operation("Server")},
        "/v2/health/live": {"get": operation("Live")},
        "/v2/health/ready": {"get": operation(None)},
    }
    for model in ("/v2/models/{MODEL_NAME}", "/v2/models/{MODEL_NAME}/versions/{MODEL_VERSION}"):
        names = [name for name in ("MODEL_NAME", "MODEL_VERSION") if name in model]
        shared = {"parameters": [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]}
        paths[model] = {**shared, "get": operation("Model")}
        paths[f"{model}/ready"] = {**shared, "get": operation("Ready")}
        paths[f"{model}/infer"] = {**shared, "post": operation("Response", "Request")}
    info = {"title": "Open Inference Protocol", "version": "2.0"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": SCHEMAS}}


def operation(answer, request=None):
    found = {"description": "OK"} if answer is None else {"description": "OK", "content": content(answer)}
    stated = {"responses": {"200": found, "4XX": {"description": "a failure", "content": content("Failure")}}}
    return stated if request is None else {**stated, "requestBody": {"content": content(request)}}


def content(name):
    return {"application/json": {"schema": refers(name)}}
