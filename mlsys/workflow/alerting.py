"""Alerts about a model: what the monitor says becomes conditions; lists them, and lets a person acknowledge and mute.

The places are those of ``monitor.alerts`` of the recipe, noted with the name when it is deployed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsys import errors, registry
from mlsys.alerts import alert_book, alert_delivery
from mlsys.alerts.alert_book import AlertBook, Condition, RaisedAlert, Severity
from mlsys.recipe import AlertSection, MonitorSection, Recipe
from mlsys.recipe.alert_section import AlertKind
from mlsys.recipe.columns import span_us
from mlsys.store import Store, read_json
from mlsys.workflow.results import MonitorResult

SEVERITIES: dict[AlertKind, Severity] = {"watch": "warning", "retrain": "critical"}
"""Decisions of the monitor that are alerts."""


def tell(store: Store, recipe: Recipe, result: MonitorResult, alias: str) -> tuple[str, ...]:
    """Send what the result of the monitor asks for; returns what was sent where, and what could not be.

    Without predictions nothing was judged: alerts last as they did, and what could not be sent is tried again.
    """
    conditions: list[Condition] = []
    scope: list[tuple[str, AlertKind]] = []
    if result.judgement is not None:
        scope = [(alias, kind) for kind in SEVERITIES]
        conditions = [_condition(store, result, kind, alias) for kind in SEVERITIES if kind == result.decision]
    return tuple(alert_delivery.tell(store, recipe.name, recipe.monitor.alerts, conditions, scope))


def _condition(store: Store, result: MonitorResult, kind: AlertKind, alias: str) -> Condition:
    decision = _decision(store, result)
    return Condition(
        kind,
        SEVERITIES[kind],
        summary=str(decision.get("headline", result.summary)),
        alias=alias,
        reasons=tuple(decision.get("reasons", ())),
        facts={"judgement": result.judgement, "report": result.report, "exit_code": result.exit_code},
    )


def _decision(store: Store, result: MonitorResult) -> dict[str, Any]:
    """The decision of a judgement as it is stored, with its headline and its reasons."""
    try:
        return dict(read_json(store.path("monitor", str(result.judgement)) / "judgement.json")["decision"])
    except (errors.StoreError, KeyError):
        return {}


@dataclass(frozen=True)
class ListedAlerts:
    """The alerts of a model, and how places took a message that tried them, if they were tried."""

    book: AlertBook
    places: Sequence[AlertSection]
    tried: Sequence[tuple[AlertSection, str | None]] = ()

    def to_json(self) -> dict[str, Any]:
        """Keys: name, alerts, mutes, places (in words) and tried (place and error)."""
        tried = [{"place": place.place, "error": error} for place, error in self.tried]
        return {**self.book.to_json(), "places": [place.place for place in self.places], "tried": tried}

    @property
    def summary(self) -> str:
        """The alerts in lines for people."""
        lines = [line for alert in self.book.alerts for line in _lines(alert)]
        lines += [f"muted until {until}: {what}" for what, until in self.book.mutes.items()]
        lines += [f"{place.place}: {'it arrived' if error is None else error}" for place, error in self.tried]
        where = ", ".join(place.place for place in self.places) or "nowhere; monitor.alerts of a recipe says where to"
        return "\n".join([*(lines or [f"no alerts of '{self.book.name}'"]), f"sent to: {where}"])


def _lines(alert: RaisedAlert) -> list[str]:
    state = "lasts" if alert.is_open else f"ended {alert.ended_at}"
    known = f", acknowledged by {alert.acknowledged_by}" if alert.acknowledged_at else ""
    alias = "" if alert.alias == "champion" else f"@{alert.alias}"
    unsent = [f"  not sent, {each.place}: {each.error}" for each in alert.deliveries.values() if each.error]
    return [f"{alert.id}  {alert.kind:<8}{alias} since {alert.began_at}, {state}{known}: {alert.summary}", *unsent]


def alerts(
    name: str,
    *,
    ack: str | None = None,
    mute: str | None = None,
    until: str | None = None,
    test: bool = False,
    store: Path | str | None = None,
) -> ListedAlerts:
    """List the alerts of a model, and acknowledge one or mute some before; with `test`, try all places.

    Parameters
    ----------
    ack
        Id of an alert, or its first digits: it is not sent again while it lasts.
    mute
        Id of an alert, a kind of alerts or ``all``: nothing of it is sent until the time of `until`.
    until
        A time in ISO 8601, in UTC if it names no offset, or a span from now, such as ``8h``; a time that is past ends
        the muting.

    Raises
    ------
    RegistryError, RecipeError
        There is no such model or alert, or `until` is no time.
    """
    home, now = Store.open(store), dt.datetime.now(dt.UTC)
    registry.existing(home, name)
    if (mute is None) != (until is None):
        got = "--until without --mute" if mute is None else "--mute without --until"
        raise errors.RecipeError.build("alerts: --mute", got=got, expected="both", hint="--mute all --until 8h")
    end = None if until is None else _time(until, now)
    if ack is not None or mute is not None:
        with alert_book.changing(home, name) as book:
            if ack is not None:
                book.acknowledge(ack, now)
            if mute is not None and end is not None:
                book.mute(mute, end)
    places = MonitorSection.model_validate(registry.settings(home, name).get("monitor") or {}).alerts
    tried = alert_delivery.attempt(home, name, places) if test else ()
    return ListedAlerts(alert_book.read(home, name), places, tried)


def _time(text: str, now: dt.datetime) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        try:
            return now + dt.timedelta(microseconds=span_us(text))
        except (ValueError, OverflowError):
            expected = "a time in ISO 8601, e.g. 2026-05-01T12:00, or a span, e.g. 8h"
            raise errors.RecipeError.build("alerts: --until", got=repr(text), expected=expected) from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
