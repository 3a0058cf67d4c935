"""The JSON API of the console: what each path gives, in one table from which the OpenAPI document is made, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlsys import cluster, errors, operate, registry
from mlsys.store import Store
from mlsys.web_console import facts_models, facts_runs
from mlsys.workflow import inventory

MAX_LIMIT = 1_000
"""Runs of one answer at most."""

Values = Mapping[str, str]
"""Parameters of a request by name, those of its path among them."""


@dataclass(frozen=True)
class ReadPath:
    """A path that reads.

    Attributes
    ----------
    path
        Below ``/api``, with parameters in braces.
    query
        Name of an optional parameter → its meaning.
    read
        Function of the store and the parameters that gives JSON values.
    """

    path: str
    summary: str
    read: Callable[[Store, Values], Any]
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the path's parameters."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


def _models(store: Store, _: Values) -> Any:
    return facts_models.listed(store)


def _model(store: Store, values: Values) -> Any:
    return facts_models.whole(store, values["name"])


def _history(store: Store, values: Values) -> Any:
    if "at" in values:
        return inventory.served_then(store, values["name"], values["at"])
    return inventory.history(store, values["name"])


def _runs(store: Store, values: Values) -> Any:
    limit = values.get("limit", str(facts_runs.PAGE_RUNS))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= MAX_LIMIT):
        expected = f"a number from 1 to {MAX_LIMIT:,}"
        raise errors.RequestError.of([{"row": 0, "field": "limit", "got": limit[:64], "expected": expected}])
    return facts_runs.listed(store, values.get("name"), values.get("before"), int(limit))


def _run(store: Store, values: Values) -> Any:
    return facts_runs.whole(store, values["name"], values["run"])


def _jobs(store: Store, values: Values) -> Any:
    return facts_models.jobs(store, values.get("name"))


def _why(store: Store, values: Values) -> Any:
    return operate.why(values["run"], store=store.root).to_json()


def _lineage(store: Store, values: Values) -> Any:
    return traced(store, values.get("of", ""))


def traced(store: Store, target: str) -> dict[str, Any]:
    """Trace a prediction, a version, a URI or a digest; files of this machine are not opened for whoever asks.

    Raises
    ------
    RequestError
        It is nothing, or the path of a file.
    RegistryError
        There is no such thing.
    """
    is_path = "/" in target and "://" not in target
    if not target or is_path or Path(target).exists():
        got = f"a path, '{target[:64]}'" if target else "nothing"
        expected = (
            "the id of a prediction, NAME@VERSION, a URI, or the SHA-256 of a file (`mlsys lineage PATH` reads one)"
        )
        raise errors.RequestError.of([{"row": 0, "field": "of", "got": got, "expected": expected}])
    return operate.lineage(target, store=store.root).to_json()


def _status(store: Store, _: Values) -> Any:
    at = cluster.status(store)
    return {"store": str(store.root), "cluster": at, "models": len(registry.model_names(store))}


_LISTED_RUNS = {
    "name": "of one model",
    "before": "`next` of the page before",
    "limit": f"at most, up to {MAX_LIMIT:,}; {facts_runs.PAGE_RUNS} by default",
}
_TRACED = {"of": "the id of a prediction, NAME@VERSION, a URI or a SHA-256"}
_MODEL_SUMMARY = "a model: versions, endpoint, windows, ledger, runs, batch jobs"

READINGS = (
    ReadPath("models", "list models without asking their endpoints", _models),
    ReadPath("models/{name}", _MODEL_SUMMARY, _model),
    ReadPath(
        "models/{name}/history", "the ledger of a model, oldest first", _history, {"at": "what aliases meant then"}
    ),
    ReadPath("runs", "list runs, newest first", _runs, _LISTED_RUNS),
    ReadPath("runs/{name}/{run}", "a run: its steps with what they came to and tried", _run),
    ReadPath("batch", "list batch jobs, newest first", _jobs, {"name": "of one model"}),
    ReadPath("why/{run}", "an explanation of a run, by its id or by a name", _why),
    ReadPath(
        "lineage",
        "lineage of a prediction, a version or a source",
        _lineage,
        {"of": "id, NAME@VERSION, URI or SHA-256"},
    ),
    ReadPath("status", "the store, its cluster, and the number of its models", _status),
)

ACTS = {
    "promote": ("let an alias mean a version; its endpoint follows", {"version": True, "alias": False, "reason": True}),
    "rollback": ("give an alias back to the version before", {"alias": False, "reason": True}),
    "acknowledge": ("say that somebody knows of an alert: it is not sent again", {"alert": True}),
}
"""Act on a model → its summary, and its values with whether they are needed."""


def openapi(base: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of the console below a base path."""
    paths: dict[str, Any] = {f"{base}/api/{each.path}": {"get": _operation(each)} for each in READINGS}
    for act, (summary, values) in ACTS.items():
        paths[f"{base}/api/models/{{name}}/{act}"] = {"post": _act(summary, values)}
    schemes = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    error = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlsys console", "version": version, "description": "What a store of mlsys holds."},
        "paths": paths,
        "components": {"schemas": {"Error": error}, "securitySchemes": schemes},
    }


def _operation(reading: ReadPath) -> dict[str, Any]:
    text = {"type": "string"}
    parameters = [{"name": name, "in": "path", "required": True, "schema": text} for name in reading.names]
    parameters += [
        {"name": name, "in": "query", "required": False, "description": meaning, "schema": text}
        for name, meaning in reading.query.items()
    ]
    responses = {"200": _answer("JSON values"), "404": _failure("there is no such thing")}
    if reading.query:
        responses["422"] = _failure("a parameter is none")
    return {"summary": reading.summary, "parameters": parameters, "responses": responses}


def _act(summary: str, values: Mapping[str, bool]) -> dict[str, Any]:
    properties = {name: {"type": ["string", "integer"] if name == "version" else "string"} for name in values}
    needed = [name for name, is_needed in values.items() if is_needed]
    body = {"type": "object", "properties": properties, "required": needed}
    statuses = {
        "400": "a value is missing", "401": "no valid API key", "403": "the key may not", "404": "no such version",
        "409": "the change was refused; nothing has changed",
    }  # fmt: skip
    return {
        "summary": summary,
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "security": [{"key": []}],
        "responses": {"200": _answer("the change"), **{code: _failure(words) for code, words in statuses.items()}},
    }


def _answer(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {}}}}


def _failure(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
