"""The alerts of a model: what lasts, since when, what was sent where, who knows of it, and what is muted.

It is one file, ``<store>/alerts/<name>/book.json``, replaced as a whole under a lock: a process that is killed leaves
what was there before. Nothing is noted as sent before it was, so that an alert which was sent just before the process
ended is sent again, under the same id.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mlsys import errors, locks
from mlsys.recipe.alert_section import AlertKind, AlertSection
from mlsys.recipe.columns import span_us
from mlsys.store import Store, digest_json, read_json, write_json

Event = Literal["raised", "repeated", "recovered", "test"]

Severity = Literal["warning", "critical"]

MOST_ENDED = 100
"""Alerts that are over and still listed."""

EVERYTHING = "all"
"""Mutes every alert of a model."""


@dataclass(frozen=True)
class Condition:
    """Something about a model that somebody should know as long as it lasts.

    Attributes
    ----------
    kind, alias
        What it is, of which alias; there is at most one alert of both at a time.
    facts
        JSON values for programs: the version, the digest of the judgement, the path of its report.
    """

    kind: AlertKind
    severity: Severity
    summary: str
    alias: str = "champion"
    reasons: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Delivery:
    """The state of an alert at one place; `error` says in words why the last try failed."""

    place: str
    sent_at: str | None = None
    num_sent: int = 0
    recovered_at: str | None = None
    num_failed: int = 0
    error: str | None = None


@dataclass
class RaisedAlert:
    """An alert, from the moment in which its condition began; times are ISO 8601 in UTC."""

    id: str
    kind: AlertKind
    alias: str
    severity: Severity
    summary: str
    reasons: list[str]
    facts: dict[str, Any]
    began_at: str
    seen_at: str
    ended_at: str | None = None
    acknowledged_at: str | None = None
    acknowledged_by: str | None = None
    deliveries: dict[str, Delivery] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """True while the condition lasts."""
        return self.ended_at is None

    @classmethod
    def of(cls, condition: Condition, at: str) -> RaisedAlert:
        """A new alert about a condition that begins."""
        return cls(
            id=uuid.uuid4().hex[:12],
            kind=condition.kind,
            alias=condition.alias,
            severity=condition.severity,
            summary=condition.summary,
            reasons=list(condition.reasons),
            facts=dict(condition.facts),
            began_at=at,
            seen_at=at,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RaisedAlert:
        deliveries = {place: Delivery(**each) for place, each in value["deliveries"].items()}
        return cls(**{**value, "deliveries": deliveries})


@dataclass
class AlertBook:
    """All alerts of a model, oldest first, and until when what is muted: an id, a kind or `EVERYTHING`."""

    name: str
    alerts: list[RaisedAlert] = field(default_factory=list)
    mutes: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Keys: name, alerts and mutes."""
        return asdict(self)

    def update(self, conditions: Sequence[Condition], scope: Sequence[tuple[str, AlertKind]], now: dt.datetime) -> None:
        """Take over what lasts now: new conditions begin, lasting ones go on, and those of the scope that are gone end.

        Parameters
        ----------
        scope
            Pairs of alias and kind about which `conditions` say all.
        """
        at = _text(now)
        lasting = {(each.alias, each.kind): each for each in conditions}
        for alert in self.open():
            condition = lasting.pop((alert.alias, alert.kind), None)
            if condition is not None:
                alert.severity, alert.summary, alert.seen_at = condition.severity, condition.summary, at
                alert.reasons, alert.facts = list(condition.reasons), dict(condition.facts)
            elif (alert.alias, alert.kind) in scope:
                alert.ended_at = at
        for condition in lasting.values():
            self.alerts.append(RaisedAlert.of(condition, at))
        ended = [alert.id for alert in self.alerts if not alert.is_open]
        gone = set(ended[: max(0, len(ended) - MOST_ENDED)])
        self.alerts = [alert for alert in self.alerts if alert.id not in gone]
        self.mutes = {what: until for what, until in self.mutes.items() if until > at}

    def open(self) -> list[RaisedAlert]:
        """Alerts that last."""
        return [alert for alert in self.alerts if alert.is_open]

    def due(
        self, places: Sequence[AlertSection], now: dt.datetime
    ) -> Iterator[tuple[RaisedAlert, AlertSection, Event]]:
        """Messages that have to be sent, with their places, oldest first."""
        for alert in self.alerts:
            for place in places:
                event = None if self.is_muted(alert, now) else _event(alert, place, now)
                if event is not None:
                    yield alert, place, event

    def is_muted(self, alert: RaisedAlert, now: dt.datetime) -> bool:
        """True if nothing of an alert is sent now."""
        return any(self.mutes.get(what, "") > _text(now) for what in (alert.id, alert.kind, EVERYTHING))

    def acknowledge(self, alert_id: str, now: dt.datetime) -> RaisedAlert:
        """Note that somebody knows of an alert: it is not sent again, nor where it could not be sent yet.

        Raises
        ------
        RegistryError
            There is no such alert.
        """
        alert = self.get(alert_id)
        if alert.acknowledged_at is None:
            alert.acknowledged_at, alert.acknowledged_by = _text(now), locks.who()
        return alert

    def mute(self, what: str, until: dt.datetime) -> None:
        """Send nothing of an alert, of a kind of alerts or of all until a time; a time that is past ends it.

        Raises
        ------
        RegistryError
            There is no such alert, and no kind of this name.
        """
        if what not in (EVERYTHING, *get_args(AlertKind)):
            what = self.get(what).id
        self.mutes[what] = _text(until)

    def get(self, alert_id: str) -> RaisedAlert:
        """The alert of an id, or of its first digits.

        Raises
        ------
        RegistryError
            There is none, or there are several.
        """
        matches = [alert for alert in self.alerts if alert_id and alert.id.startswith(alert_id)]
        if len(matches) != 1:
            open_ids = [alert.id for alert in self.open()]
            hint = f"those that last: {', '.join(open_ids)}" if open_ids else "none lasts"
            got = "several of this beginning" if matches else "none of this id"
            where = f"alerts: '{alert_id}' of model '{self.name}'"
            raise errors.RegistryError.build(where, got=got, expected="the id of an alert", hint=hint)
        return matches[0]


def _event(alert: RaisedAlert, place: AlertSection, now: dt.datetime) -> Event | None:
    """The message of an alert that a place has not had and should have."""
    if place.kinds and alert.kind not in place.kinds:
        return None
    known = alert.deliveries.get(place_id(place), Delivery(place.place))
    if not alert.is_open:
        was_tried = known.sent_at is not None or known.num_failed > 0
        return "recovered" if place.recover and was_tried and known.recovered_at is None else None
    if alert.acknowledged_at is not None:
        return None
    if known.sent_at is None:
        return "raised"
    if place.repeat is None:
        return None
    is_time = now - dt.datetime.fromisoformat(known.sent_at) >= dt.timedelta(microseconds=span_us(place.repeat))
    return "repeated" if is_time else None


def place_id(place: AlertSection) -> str:
    """The id of a place: the same as long as its section of the recipe is."""
    return digest_json(place.model_dump(mode="json"))[:12]


def note_sent(alert: RaisedAlert, place: AlertSection, event: Event, error: str | None, now: dt.datetime) -> None:
    """Note how a try to send a message ended."""
    delivery = alert.deliveries.setdefault(place_id(place), Delivery(place.place))
    delivery.error = error
    if error is not None:
        delivery.num_failed += 1
    elif event == "recovered":
        delivery.recovered_at = _text(now)
    else:
        delivery.sent_at = _text(now)
        delivery.num_sent += 1


def read(store: Store, name: str) -> AlertBook:
    """The alerts of a model as they are; none where there never were any.

    Raises
    ------
    StoreError
        The file is damaged or cannot be read.
    """
    file = _folder(store, name) / "book.json"
    if not file.is_file():
        return AlertBook(name)
    value = read_json(file)
    try:
        return AlertBook(name, [RaisedAlert.from_json(each) for each in value["alerts"]], dict(value["mutes"]))
    except (KeyError, TypeError, AttributeError) as error:
        where, hint = f"alerts: file '{file.name}' of '{name}'", f"delete {file}: what lasts is sent again"
        raise errors.StoreError.build(where, got=str(error), expected="alerts of this version", hint=hint) from None


@contextlib.contextmanager
def changing(store: Store, name: str) -> Iterator[AlertBook]:
    """The alerts of a model, to be changed in the block by nobody else, and written after it.

    Raises
    ------
    StoreError
        The store cannot be read or written; then the alerts are as they were.
    """
    with locks.hold(_folder(store, name) / "lock", f"alerts of '{name}'"):
        book = read(store, name)
        yield book
        write_json(_folder(store, name) / "book.json", book.to_json())


def sending_lock(store: Store, name: str) -> Path:
    """The lock of whoever sends the alerts of a model."""
    return _folder(store, name) / "sending"


def _folder(store: Store, name: str) -> Path:
    return store.root / "alerts" / name


def _text(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).isoformat(timespec="seconds")
