"""Bring the alerts of a model up to date, and send what is due: once while it lasts, and again what could not be sent.

One process at a time sends the alerts of a model. Each try is noted as soon as it ended, so that a process which is
killed leaves at most one message that is sent a second time, under its id of before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from mlsys import errors, locks
from mlsys.alerts import alert_book, alert_transports
from mlsys.alerts.alert_book import Condition, Delivery, RaisedAlert
from mlsys.alerts.alert_messages import AlertMessage
from mlsys.recipe.alert_section import AlertKind, AlertSection
from mlsys.store import Store


def tell(
    store: Store,
    name: str,
    places: Sequence[AlertSection],
    conditions: Sequence[Condition] = (),
    scope: Sequence[tuple[str, AlertKind]] = (),
    now: dt.datetime | None = None,
) -> list[str]:
    """Note which conditions of a model last and which are over, and send what is due; it raises no error of ours.

    Parameters
    ----------
    scope
        Pairs of alias and kind about which `conditions` say all: other alerts go on as they are.

    Returns
    -------
    Sentences: what was sent where, and what could not be sent.
    """
    time = now or dt.datetime.now(dt.UTC)
    try:
        if not places and not conditions and not alert_book.read(store, name).open():
            return []
        with alert_book.changing(store, name) as book:
            book.update(conditions, scope, time)
        with locks.hold_if_free(alert_book.sending_lock(store, name), f"sending alerts of '{name}'") as is_held:
            return _send_due(store, name, places, time) if is_held else []
    except errors.MlsysError as error:
        return [f"alerts are not kept: {' '.join(str(error).split())}"]


def _send_due(store: Store, name: str, places: Sequence[AlertSection], now: dt.datetime) -> list[str]:
    lines = []
    for alert, place, event in list(alert_book.read(store, name).due(places, now)):
        known = alert.deliveries.get(alert_book.place_id(place), Delivery(place.place))
        message = AlertMessage.of(name, alert, event, known.num_sent)
        error = alert_transports.send(store, place, message)
        with alert_book.changing(store, name) as book:
            alert_book.note_sent(book.get(alert.id), place, event, error, now)
        lines.append(_line(alert, place, event, error))
    return lines


def _line(alert: RaisedAlert, place: AlertSection, event: str, error: str | None) -> str:
    about = f"alert {alert.id} ('{alert.kind}', {event})"
    if error is None:
        return f"{about}: sent, {place.place}"
    return f"{about}: not sent, {place.place}: {error}; it is tried again next time"


def attempt(store: Store, name: str, places: Sequence[AlertSection]) -> list[tuple[AlertSection, str | None]]:
    """Send a message that tries each place; pairs of the place and None, or why it did not take it."""
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    summary = "This message tries whether alerts arrive; nothing is wrong."
    alert = RaisedAlert.of(Condition("watch", "warning", summary), at)
    return [(place, alert_transports.send(store, place, AlertMessage.of(name, alert, "test"))) for place in places]
