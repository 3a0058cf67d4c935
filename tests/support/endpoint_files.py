"""Endpoints that outlive the process that changed them, as Serve's do: a file for each name.

Processes that deploy on them kill themselves at a given point.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlsys import errors, registry
from mlsys.deploy import rollout
from mlsys.deploy.serving import Configured, Endpoint
from mlsys.registry import ledger
from mlsys.store import Store

POINTS = ("before the intent", "after the intent", "in the endpoint", "after the endpoint", "before the move")
"""Points at which a deployment is killed, in the order in which it passes them."""


def model(letter, **params):
    """What the registry reads of a bundle."""
    return SimpleNamespace(digest=letter * 64, family="linear", params=params)


def registered(folder, letters, **more):
    """A new store in which `late` has a version a letter; MLflow is not told."""
    store = Store.open(folder)
    for letter in letters:
        registry.register(store, "late", model(letter), **more)
    return store


@contextlib.contextmanager
def own_tracking():
    """During the block the store's own database is the tracking server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


class EndpointFiles:
    """Endpoints in a folder; `broken` are digests that none answers with."""

    cluster = session = "files"

    def __init__(self, folder, broken=()):
        self.folder, self.broken = Path(folder), broken
        self.folder.mkdir(parents=True, exist_ok=True)

    def configured(self, name):
        file = self.folder / f"{name}.json"
        return Configured(**json.loads(file.read_text())) if file.is_file() else None

    def serve(self, entry, settings):
        url = f"http://127.0.0.1:1/{entry.name}"
        chosen = {"alias": settings.alias, "digest": entry.digest, "version": entry.version, "url": url}
        (self.folder / f"{entry.name}.json").write_text(json.dumps(chosen))
        if entry.digest in self.broken:
            raise errors.ClusterError.build("deploy: endpoint", got="503", expected="an answer")
        return Endpoint(url, "curl", "a file", was_served=False)

    def endpoint(self, name):
        running = self.configured(name)
        return None if running is None else Endpoint(running.url, "curl", "a file", was_served=True)

    def route(self, name, canary):
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "canary": canary}))

    def stop(self, name):
        there = self.configured(name) is not None
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        return there


def deploy_in_a_fork(store, name, version, point="nowhere"):
    """Start a process that deploys a version and kills itself at a point; returns its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which the child does not use
        child = os.fork()
    if child == 0:
        try:
            _deploy(store, name, version, point)
        except BaseException:  # noqa: BLE001  (the process ends here, whatever it is)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ending_of(child):
    """The exit code of a process, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _deploy(store, name, version, point):
    there = EndpointFiles(store.root / "endpoints")
    append, serve = ledger.append, there.serve

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def killed_append(store, move):
        if (point, move.kind) in {("before the intent", "deploying"), ("before the move", "move")}:
            die()
        append(store, move)
        if (point, move.kind) == ("after the intent", "deploying"):
            die()

    def killed_serve(entry, settings):
        if point == "in the endpoint":
            die()
        endpoint = serve(entry, settings)
        if point == "after the endpoint":
            die()
        return endpoint

    ledger.append, there.serve, rollout.rehearse = killed_append, killed_serve, lambda *_: None
    rollout.put(store, registry.resolve(store, name, version), "champion", there, reason="to be killed")
