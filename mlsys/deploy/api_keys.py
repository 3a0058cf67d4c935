"""API keys of the endpoints: shown once when they are made, kept as digests, and read by every replica.

A key reads ``mls_<id>_<secret>``. ``access/keys.json`` of the store, which its owner alone may read, holds the id, the
SHA-256 of the secret, and what the key may do. A secret has 256 random bits, so that a slow hash would protect nothing
more (NIST SP 800-63B, 5.1.1.2, asks for one where people choose secrets). Several keys are valid at once: a client
moves to the new one of a rotation before the old one ends.

While a store has never had a key its endpoints ask for none, and listen on this machine alone. From the first key on
they ask for one, also after the last was revoked.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlsys import errors, locks
from mlsys.periods import Period
from mlsys.store import Store, read_json, write_atomic

SCOPES = ("predict", "batch", "labels", "admin")
"""What a key may do: ask for predictions, start batch jobs, send labels, or all of it and read statistics."""

PREFIX = "mls"
ID_BYTES, SECRET_BYTES = 5, 32

OWNER = "owner"
"""Id of the key with which the commands of the store's owner ask the endpoints; it is no key of a client."""

CHECK_S = 1.0
"""Seconds after which a replica looks whether the file of keys has changed."""


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept: its digest, and its rights.

    Attributes
    ----------
    sha256
        Hexadecimal digest of the secret.
    scopes
        Some of `SCOPES`.
    models
        Names of the models that it may ask; empty for all.
    requests_per_second
        Requests that a replica takes of it in a second; None for any number.
    expires_at
        ISO 8601 time in UTC from which it is not valid; None for never.
    """

    id: str
    sha256: str
    scopes: tuple[str, ...]
    models: tuple[str, ...] = ()
    requests_per_second: float | None = None
    note: str = ""
    created_at: str = ""
    expires_at: str | None = None

    def is_valid(self, now: dt.datetime) -> bool:
        return self.expires_at is None or now < dt.datetime.fromisoformat(self.expires_at)

    def may(self, scope: str | None, model: str | None) -> bool:
        """Tell whether it opens a scope of a model; None stands for any."""
        is_within = scope is None or scope in self.scopes or "admin" in self.scopes
        return is_within and (model is None or not self.models or model in self.models)

    def to_json(self) -> dict[str, Any]:
        """All but the digest."""
        return {name: value for name, value in asdict(self).items() if name != "sha256"}


@dataclass(frozen=True)
class NewKey:
    """A key that was made, and its text, which is not kept."""

    key: ApiKey
    text: str


def file_of(store: Store) -> Path:
    """The file of a store's keys."""
    return store.root / "access" / "keys.json"


def exist(store: Store) -> bool:
    """Tell whether a store's endpoints ask for a key."""
    return file_of(store).is_file()


def listed(store: Store) -> list[ApiKey]:
    """The keys of clients in the order in which they were made.

    Raises
    ------
    StoreError
        The file is damaged.
    """
    return [key for key in _read(file_of(store)) if key.id != OWNER] if exist(store) else []


def add(
    store: Store,
    scopes: Sequence[str],
    *,
    models: Sequence[str] = (),
    requests_per_second: float | None = None,
    expires: str | None = None,
    note: str = "",
) -> NewKey:
    """Make a key; `expires` is a span, such as ``90d``.

    Raises
    ------
    RecipeError
        A scope is not known, or a number is not above zero.
    StoreError
        The file cannot be read or written.
    """
    for scope in scopes:
        if scope not in SCOPES:
            raise _refused("scope", scope, ", ".join(SCOPES), hint=errors.did_you_mean(scope, SCOPES))
    if not scopes:
        raise _refused("scope", "none", f"at least one of {', '.join(SCOPES)}")
    if requests_per_second is not None and not 0 < requests_per_second < float("inf"):
        raise _refused("rate", f"{requests_per_second:g}", "requests a second, above 0")
    now = dt.datetime.now(dt.UTC)
    new = _made(
        ApiKey(
            secrets.token_hex(ID_BYTES),
            "",
            tuple(dict.fromkeys(scopes)),
            tuple(dict.fromkeys(models)),
            requests_per_second,
            note,
            now.isoformat(timespec="seconds"),
            None if expires is None else _after(now, expires),
        )
    )
    with _changing(store) as keys:
        keys.append(new.key)
    return new


def revoke(store: Store, key_id: str) -> ApiKey:
    """Remove a key; replicas refuse it within `CHECK_S`.

    Raises
    ------
    RegistryError
        There is no such key.
    """
    with _changing(store) as keys:
        key = _with_id(keys, key_id)
        keys.remove(key)
    return key


def rotate(store: Store, key_id: str, grace: str = "1d") -> NewKey:
    """Make a key that may do the same, and let the old one end after a span of grace.

    Raises
    ------
    RegistryError
        There is no such key.
    RecipeError
        The span is none.
    """
    now = dt.datetime.now(dt.UTC)
    ends = _after(now, grace)
    with _changing(store) as keys:
        old = _with_id(keys, key_id)
        made_at = now.isoformat(timespec="seconds")
        new = _made(replace(old, id=secrets.token_hex(ID_BYTES), created_at=made_at, expires_at=None))
        until = ends if old.expires_at is None else min(ends, old.expires_at)
        keys[keys.index(old)] = replace(old, expires_at=until)
        keys.append(new.key)
    return new


def owner_headers(store: Store) -> dict[str, str]:
    """Headers with which a command of the store's owner asks an endpoint; none where no key is asked for."""
    file = _owner_file(store)
    return {"X-API-Key": file.read_text().strip()} if exist(store) and file.is_file() else {}


def described(key: ApiKey) -> str:
    """One line on a key, for people.

    >>> described(ApiKey("ab12", "", ("predict",), ("late",), 50.0, "the shop", "2026-11-01T00:00:00+00:00"))
    'ab12  predict  of late  50 requests/s  made 2026-11-01, never ends  the shop'
    """
    models = f"of {', '.join(key.models)}" if key.models else "of all models"
    rate = "any rate" if key.requests_per_second is None else f"{key.requests_per_second:g} requests/s"
    ends = "never ends" if key.expires_at is None else f"ends {key.expires_at[:16]}"
    parts = [key.id, ", ".join(key.scopes), models, rate, f"made {key.created_at[:10]}, {ends}", key.note]
    return "  ".join(part for part in parts if part)


@dataclass
class KeyRing:
    """The keys of a store as a replica knows them, read again where the file changed.

    Where the file cannot be read, or has gone, the keys stay those that were read last: nothing opens by accident.
    """

    file: Path
    _by_id: dict[str, ApiKey] | None = None
    _state: tuple[int, int, int] | None = None
    _next_look: float = field(default=0.0)

    def is_open(self) -> bool:
        """True if no key is asked for."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + CHECK_S
            self._look()
        return self._by_id is None

    def find(self, text: str) -> ApiKey | None:
        """The valid key with this text; the secret is compared in constant time."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = (self._by_id or {}).get(key_id) if prefix == PREFIX else None
        is_equal = hmac.compare_digest(_digest(secret), key.sha256 if key else _digest(""))
        is_valid = key is not None and is_equal and key.is_valid(dt.datetime.now(dt.UTC))
        return key if is_valid else None

    def _look(self) -> None:
        try:
            facts = self.file.stat()
            state = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if state != self._state:
                self._by_id = {key.id: key for key in _read(self.file)}
                self._state = state
        except FileNotFoundError:
            return
        except (OSError, errors.StoreError):
            self._by_id = self._by_id or {}


def _made(key: ApiKey) -> NewKey:
    secret = secrets.token_urlsafe(SECRET_BYTES)
    return NewKey(replace(key, sha256=_digest(secret)), f"{PREFIX}_{key.id}_{secret}")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _after(now: dt.datetime, span: str) -> str:
    try:
        return (now + dt.timedelta(microseconds=Period.parse(span).length_us)).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        raise _refused("span", span, "a length of time, such as 12h or 90d") from None


def _refused(what: str, got: str, expected: str, hint: str | None = None) -> errors.RecipeError:
    return errors.RecipeError.build(f"keys: {what}", got=got, expected=expected, hint=hint)


def _with_id(keys: Sequence[ApiKey], key_id: str) -> ApiKey:
    plain_id = key_id.removeprefix(f"{PREFIX}_").partition("_")[0]
    for key in keys:
        if key.id == plain_id and key.id != OWNER:
            return key
    known = [key.id for key in keys if key.id != OWNER]
    hint = errors.did_you_mean(plain_id, known)
    raise errors.RegistryError.build("keys: no such key", got=plain_id, expected="the id of a key", hint=hint)


@contextmanager
def _changing(store: Store) -> Iterator[list[ApiKey]]:
    """The keys, to be changed in place and written back; the first time the owner's own is made with them."""
    file = file_of(store)
    with locks.hold(file.with_name(".lock"), "changing the API keys"):
        keys = _read(file) if file.is_file() else []
        yield keys
        if not any(key.id == OWNER for key in keys):
            owner = _made(ApiKey(OWNER, "", ("admin",), note="commands of the store's owner"))
            write_atomic(_owner_file(store), f"{owner.text}\n".encode(), mode=0o600)
            keys.append(owner.key)
        write_atomic(file, json.dumps([asdict(key) for key in keys], indent=1).encode(), mode=0o600)


def _owner_file(store: Store) -> Path:
    return file_of(store).with_name("owner.key")


def _read(file: Path) -> list[ApiKey]:
    trees = read_json(file)
    got = type(trees).__name__
    if isinstance(trees, list):
        try:
            return [_of(tree) for tree in trees]
        except (TypeError, KeyError) as error:
            got = str(error)
    expected, hint = "a list of API keys", "restore it from a backup"
    raise errors.StoreError.build(f"store: '{file.name}'", got=got, expected=expected, hint=hint)


def _of(tree: Mapping[str, Any]) -> ApiKey:
    lists = {name: tuple(tree[name]) for name in ("scopes", "models")}
    return ApiKey(**{**tree, **lists})
