"""Acts of the console: verbs of the command line, run for whoever shows an API key that may.

An act is a process of its own, exactly as if the verb had been typed on the machine of the console: the same locks,
ledger lines and messages, and whatever happens to it, the console goes on.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from mlsys import registry
from mlsys.deploy.api_keys import ApiKey, KeyRing
from mlsys.store import Store

LIMIT_S = 180.0
"""Longest time of an act, which may start replicas and wait for their answers."""

MAX_REASON = 500
"""Characters of a reason."""

COMMAND = (sys.executable, "-c", "from mlsys.cli import main; main()")
NEEDED = "an API key with the scope admin is needed: `mlsys keys add --scope admin` makes one"


@dataclass(frozen=True)
class Done:
    """The end of an act: the change as the verb's ``--json`` says it, or the message of its error."""

    change: dict[str, Any] | None
    message: str

    @property
    def is_done(self) -> bool:
        return self.change is not None


def allowed(ring: KeyRing, text: str | None, name: str) -> ApiKey:
    """The key of a request, if it may change the model.

    Raises
    ------
    HTTPException
        401 without a valid key, 403 if the store has no keys or this one may not do it.
    """
    if ring.is_open():
        raise HTTPException(403, NEEDED)
    key = ring.find(text) if text else None
    if key is None:
        raise HTTPException(401, NEEDED, headers={"WWW-Authenticate": 'Bearer realm="mlsys"'})
    if not key.may("admin", name):
        raise HTTPException(403, f"this API key may not change '{name}': it has no scope admin of it")
    return key


async def promote(store: Store, name: str, values: Mapping[str, Any], key: ApiKey) -> Done:
    """Let an alias mean a version: `version`, `alias` and `reason` of `values`.

    Raises
    ------
    HTTPException
        400 where a value is missing or is none.
    RegistryError
        There is no such model or version.
    """
    version = registry.resolve(store, name, _text(values, "version")).version
    options = [f"--alias={_text(values, 'alias', 'champion')}", f"--reason={_reason(values, key)}"]
    return await _run(store, ["promote", f"{name}@{version}", *options])


async def rollback(store: Store, name: str, values: Mapping[str, Any], key: ApiKey) -> Done:
    """Give an alias back to the version before: `alias` and `reason` of `values`.

    Raises
    ------
    HTTPException
        400 where a value is missing or is none.
    RegistryError
        There is no such model.
    """
    registry.existing(store, name)
    options = [f"--alias={_text(values, 'alias', 'champion')}", f"--reason={_reason(values, key)}"]
    return await _run(store, ["rollback", name, *options])


async def acknowledge(store: Store, name: str, values: Mapping[str, Any], _: ApiKey) -> Done:
    """Say that somebody knows of an alert: `alert` of `values`.

    Raises
    ------
    HTTPException
        400 where a value is missing or is none.
    RegistryError
        There is no such model.
    """
    registry.existing(store, name)
    return await _run(store, ["alerts", name, f"--ack={_text(values, 'alert')}"])


def _text(values: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = values.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_REASON or not value.isprintable():
        raise HTTPException(400, f"'{name}' is missing or is none: expected a text of at most {MAX_REASON} characters")
    return value.strip()


def _reason(values: Mapping[str, Any], key: ApiKey) -> str:
    return f"{_text(values, 'reason')} (console, key {key.id})"


async def _run(store: Store, arguments: Sequence[str]) -> Done:
    command = [*COMMAND, *arguments, "--json", "--store", str(store.root)]
    try:
        done = await asyncio.to_thread(_called, command)
    except subprocess.TimeoutExpired:
        return Done(None, f"it did not end within {LIMIT_S:g} s; `mlsys status` says what became of it")
    if done.returncode:
        return Done(None, done.stderr.strip().removeprefix("error: ") or f"exit code {done.returncode}")
    change: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return Done(change, str(change.get("warning") or ""))


def _called(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
