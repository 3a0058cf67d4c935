"""The interface of an online store: one consistent state for readers, whole updates from a writer.

It knows nothing of features. It keeps, for each view, one text of facts and one value of
bytes a key; `newest` says how recent a key's value is, so that keys can expire.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

SCHEMES = ("redis://", "rediss://", "unix://")
"""Beginnings of an address that Redis's client understands."""


@dataclass(frozen=True)
class StoreState:
    """The state of a view at one moment.

    Attributes
    ----------
    facts
        None: nothing was ever published.
    values
        Values of the requested keys that are there.
    """

    facts: dict[str, Any] | None = None
    values: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """The change that an update makes to a view, all of it or nothing.

    Attributes
    ----------
    put
        Key → (newest, value).
    whole
        Everything that was there goes first.
    expire_before
        Keys whose `newest` is less go too.
    """

    facts: dict[str, Any]
    put: Mapping[str, tuple[int, bytes]]
    whole: bool = False
    expire_before: int | None = None


class OnlineStore(Protocol):
    """A place to look things up by view and key.

    Any number of processes and threads read while one writes: a reader sees the state before
    an update or after it, for all views of one `read` together. Each method raises `StoreError`
    if the store cannot be reached or written; then nothing has changed.
    """

    def read(self, asked: Mapping[str, Collection[str]]) -> dict[str, StoreState]:
        """Read the state of some keys of some views in one round trip."""

    def read_versioned(self, asked: Mapping[str, Collection[str]]) -> tuple[object | None, dict[str, StoreState]]:
        """Read as `read` does, and name the state that was read; equal names mean that nothing was written between.

        None: the state has no name, and nothing may be concluded. To ask for the name alone costs a round trip at most.
        """

    def update(self, view: str, keys: Collection[str], change: Callable[[StoreState], Change | None]) -> None:
        """Apply what `change` makes of the state of `keys`; None leaves all as it is.

        `change` may be called again with a newer state if another writer came first.
        """

    def views(self) -> list[str]:
        """List the names of all views, sorted."""

    def drop(self, view: str) -> None:
        """Delete a view with its events."""


def is_remote(address: str) -> bool:
    """True if reading from the store waits for a network.

    >>> is_remote("redis://127.0.0.1:6379/0"), is_remote("sqlite")
    (True, False)
    """
    return address.startswith(SCHEMES)


def shown(address: str) -> str:
    """Write an address for messages, without user and password.

    >>> shown("redis://user:secret@cache.example:6379/1")
    'redis://cache.example:6379/1'
    """
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
