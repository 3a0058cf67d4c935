"""The state of a model's maintenance: a retraining that was begun and has not ended, those before, and the last result.

It is one file, ``<store>/maintenance/<name>/state.json``, replaced as a whole. A retraining that is noted there and has
not ended goes on with the next maintenance, whatever ended the process that began it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mlsys import errors
from mlsys.recipe import MaintainSection
from mlsys.recipe.columns import span_us
from mlsys.store import Store, read_json, write_json

Outcome = Literal["kept", "waits", "refused", "promoted", "canary", "unchanged", "left", "failed", "dry run"]

EXIT_CODES: dict[Outcome, int] = {"left": 1, "refused": 2, "failed": 2}
"""Exit codes of the outcomes that ask for somebody; others are 0."""

MAX_ENTRIES = 200
"""Retrainings that are remembered."""


@dataclass(frozen=True)
class Retraining:
    """A retraining that was begun.

    Attributes
    ----------
    champion
        Version and digest of what the alias meant then; None if nothing.
    until
        The dates of ``split.until`` as of the beginning; empty where the recipe has none.
    num_failures
        Errors that ended it so far.
    """

    id: str
    begun_at: str
    decision: str
    headline: str
    champion: tuple[int, str] | None
    until: dict[str, str]
    num_failures: int = 0

    def failed(self) -> Retraining:
        """The same after one more error."""
        return replace(self, num_failures=self.num_failures + 1)


@dataclass(frozen=True)
class MaintenanceResult:
    """The end of a maintenance, and why, in words.

    Attributes
    ----------
    decision
        That of the monitor.
    version
        The version that the alias means afterwards; None if nothing.
    made
        The version that was made; None if none was.
    feed
        What the rows were like (`mlsys.workflow.maintenance_feed.FeedReport`), if they were looked at.
    messages
        Further sentences: labels, alerts.
    """

    name: str
    outcome: Outcome
    reason: str
    decision: str
    version: int | None = None
    made: int | None = None
    feed: dict[str, Any] | None = None
    at: str = ""
    messages: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.outcome, 0)

    @property
    def summary(self) -> str:
        """One line for people."""
        made = f", version {self.made}" if self.made is not None else ""
        return f"{self.name}: monitor says {self.decision}; {self.outcome}{made}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Keys: name, outcome, exit_code, reason, decision, version, made, feed, at and messages."""
        return {**asdict(self), "exit_code": self.exit_code}


@dataclass
class MaintenanceState:
    """The state of the maintenance of a model; `begun_at` are the times at which retrainings began."""

    retraining: Retraining | None = None
    begun_at: list[str] = field(default_factory=list)
    last: dict[str, Any] | None = None

    @classmethod
    def read(cls, store: Store, name: str) -> MaintenanceState:
        """The state as it was written last; empty where it never was.

        Raises
        ------
        StoreError
            The file is damaged.
        """
        file = folder(store, name) / "state.json"
        if not file.is_file():
            return cls()
        value = read_json(file)
        try:
            return cls(_retraining(value["retraining"]), list(value["begun_at"]), value["last"])
        except (KeyError, TypeError) as error:
            where, hint = f"maintain: file '{file.name}' of '{name}'", f"delete {file}: the maintenance begins anew"
            raise errors.StoreError.build(where, got=str(error), expected="a state", hint=hint) from None

    def write(self, store: Store, name: str) -> None:
        """Replace the state of a model."""
        self.begun_at = self.begun_at[-MAX_ENTRIES:]
        write_json(folder(store, name) / "state.json", asdict(self))

    def waits(self, section: MaintainSection, now: dt.datetime) -> str | None:
        """Why no retraining may begin now: the last one is too near, or there were too many; None if one may."""
        times = [dt.datetime.fromisoformat(text) for text in self.begun_at]
        if times and now - times[-1] < _span(section.cooldown):
            ready = times[-1] + _span(section.cooldown)
            began = f"the last retraining began at {times[-1]:%Y-%m-%d %H:%M}"
            return f"{began}; maintain.cooldown ends {ready:%Y-%m-%d %H:%M}"
        recent = [time for time in times if now - time < _span(section.per)]
        if len(recent) >= section.budget:
            return f"{len(recent)} retrainings began within {section.per}; maintain.budget is {section.budget}"
        return None


def _retraining(value: Mapping[str, Any] | None) -> Retraining | None:
    if value is None:
        return None
    champion = value["champion"]
    return Retraining(**{**value, "champion": None if champion is None else (champion[0], champion[1])})


def _span(text: str) -> dt.timedelta:
    return dt.timedelta(microseconds=span_us(text))


def folder(store: Store, name: str) -> Path:
    """Folder of the state, the lock and the schedule of a model."""
    return store.root / "maintenance" / name
