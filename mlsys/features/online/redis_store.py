"""An online store in Redis, for replicas on several machines.

A view is one hash, ``mlsys:<view>``: key → value, and under the empty key its facts. A sorted set beside it,
``mlsys:<view>:newest``, finds the keys that expire. A request reads the hashes of all its views in one transaction,
which is one round trip; an update is one transaction, which Redis applies whole once all of it has arrived. Redis:
"Transactions", https://redis.io/docs/latest/develop/using-commands/transactions/.

Each update also writes ``mlsys:version``, a name of the state that never was before: a counter would begin anew in a
server that has lost its data. A reader that gets the name that it knows, in the same round trip, need not be sent what
it remembers.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlsys import errors
from mlsys.features.online.online_store import Change, StoreState, shown

READ_S = 1.0
"""Longest wait for an answer while a client waits for ours, and for a connection."""

WRITE_S = 60.0

CHUNK = 1_000
"""Keys in one command of a transaction."""

VERSION = "mlsys:version"
"""The key of the name of the state."""

FACTS = ""
"""The field that holds the facts; no key is empty."""


class RedisStore:
    """An `OnlineStore` in Redis. Connections are shared between threads.

    Parameters
    ----------
    address
        ``redis://user@host:port/db``, ``rediss://…`` with TLS, or ``unix://path``. A password that does not stand in
        it is that of ``$MLSYS_REDIS_PASSWORD``, of the writing process and of the replicas.
    """

    def __init__(self, address: str) -> None:
        try:
            import redis
        except ImportError:
            hint = 'pip install "mlsys[redis]"'
            raise errors.StoreError.build(
                f"online store {shown(address)}", got="no Redis client", expected="the extra 'redis'", hint=hint
            ) from None
        self._address = address
        self._errors = redis.RedisError
        self._conflict = redis.WatchError
        self._readers = self._client(READ_S)
        self._writers = self._client(WRITE_S)

    def read(self, asked: Mapping[str, Collection[str]]) -> dict[str, StoreState]:
        return self.read_versioned(asked)[1]

    def read_versioned(self, asked: Mapping[str, Collection[str]]) -> tuple[bytes | None, dict[str, StoreState]]:
        """Read the name and the state in one transaction."""
        with self._failures(), self._readers.pipeline(transaction=True) as pipe:
            if not asked:
                return self._readers.get(VERSION), {}
            pipe.get(VERSION)
            for view, keys in asked.items():
                pipe.hmget(_name(view), [FACTS, *keys])
            version, *hashes = pipe.execute()
        states = zip(asked.items(), hashes, strict=True)
        return version, {view: _state(list(keys), values) for (view, keys), values in states}

    def update(self, view: str, keys: Collection[str], change: Callable[[StoreState], Change | None]) -> None:
        done = False
        with self._failures(), self._writers.pipeline(transaction=True) as pipe:
            while not done:
                try:
                    done = _update(pipe, view, list(keys), change)
                except self._conflict:  # another writer came first
                    pipe.reset()

    def views(self) -> list[str]:
        with self._failures():
            names = [name.decode() for name in self._writers.scan_iter("mlsys:*", count=CHUNK, _type="hash")]
        return sorted(name.removeprefix("mlsys:") for name in names)

    def drop(self, view: str) -> None:
        with self._failures(), self._writers.pipeline(transaction=True) as pipe:
            pipe.unlink(_name(view), _ages(view))
            _rename_state(pipe)
            pipe.execute()

    def _client(self, timeout_s: float) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis.from_url(
            self._address,
            password=os.environ.get("MLSYS_REDIS_PASSWORD"),  # one in the address goes before it
            socket_timeout=timeout_s,
            socket_connect_timeout=READ_S,
            retry=Retry(NoBackoff(), 1),  # a connection that the server closed meanwhile is opened anew, once
        )

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (self._errors, OSError) as error:
            if isinstance(error, errors.MlsysError):
                raise
            got = f"{type(error).__name__}: {error}"
            hint = "start it, or deploy with another deploy.lookup"
            where = f"online store {shown(self._address)}"
            raise errors.StoreError.build(where, got=got, expected="a Redis server that answers", hint=hint) from error


def _name(view: str) -> str:
    return f"mlsys:{view}"


def _ages(view: str) -> str:
    return f"mlsys:{view}:newest"


def _state(keys: list[str], values: list[bytes | None]) -> StoreState:
    facts, *rest = values
    present = {key: value for key, value in zip(keys, rest, strict=True) if value is not None}
    return StoreState() if facts is None else StoreState(json.loads(facts), present)


def _update(pipe: Any, view: str, keys: list[str], change: Callable[[StoreState], Change | None]) -> bool:
    name, ages = _name(view), _ages(view)
    pipe.watch(name)
    values: list[bytes | None] = pipe.hmget(name, [FACTS])
    for start in range(0, len(keys), CHUNK):
        values += pipe.hmget(name, keys[start : start + CHUNK])
    made = change(_state(keys, values))
    if made is None:
        return True
    expired: list[bytes] = []
    if made.expire_before is not None:
        expired = pipe.zrange(ages, "-inf", f"({made.expire_before}", byscore=True)
    pipe.multi()
    if made.whole:
        pipe.unlink(name, ages)
    elif expired:
        pipe.hdel(name, *expired)
        pipe.zrem(ages, *expired)
    put = list(made.put.items())
    for start in range(0, len(put), CHUNK):
        chunk = put[start : start + CHUNK]
        pipe.hset(name, mapping={key: value for key, (_, value) in chunk})
        pipe.zadd(ages, {key: newest for key, (newest, _) in chunk})
    pipe.hset(name, FACTS, json.dumps(made.facts))
    _rename_state(pipe)
    pipe.execute()
    return True


def _rename_state(pipe: Any) -> None:
    pipe.set(VERSION, uuid.uuid4().hex)
