"""An alert in words, and as the body that each place takes; each carries the id by which a receiver knows it again.

Sources
-------
Slack, "Sending messages using incoming webhooks": ``text`` and ``blocks``. Microsoft, "Create incoming webhooks with
Workflows": a message with an Adaptive Card. PagerDuty, "Events API v2": ``routing_key``, ``event_action``,
``dedup_key`` and a ``payload``, whose summary has at most 1,024 characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from mlsys.alerts.alert_book import Event, RaisedAlert

MOST_SUMMARY = 1024
"""Characters of PagerDuty's summary."""

WORDS = {"raised": "begins", "repeated": "lasts", "recovered": "is over", "test": "is tried"}
"""The event in the title of a message."""


@dataclass(frozen=True)
class AlertMessage:
    """A message about an alert.

    Attributes
    ----------
    id
        The same each time that this message is sent, and of no other.
    """

    id: str
    model: str
    event: Event
    alert: RaisedAlert

    @classmethod
    def of(cls, model: str, alert: RaisedAlert, event: Event, num_sent: int = 0) -> AlertMessage:
        """The message of an event; `num_sent` messages went to this place before."""
        number = f"-{num_sent}" if event == "repeated" else ""
        return cls(f"{alert.id}-{event}{number}", model, event, alert)

    @property
    def title(self) -> str:
        """A line that says the model, what and whether it begins or is over."""
        model = self.model if self.alert.alias == "champion" else f"{self.model}@{self.alert.alias}"
        return f"mlsys: {model}: '{self.alert.kind}' {WORDS[self.event]}"

    @property
    def lines(self) -> list[str]:
        """The summary, its reasons, and since when until when."""
        times = f"since {self.alert.began_at}"
        if self.alert.ended_at is not None:
            times += f", until {self.alert.ended_at}"
        return [self.alert.summary, *self.alert.reasons, times]

    def to_json(self) -> dict[str, Any]:
        """The body for programs: id, alert, event, model, alias, kind, severity, summary, reasons, times and facts."""
        alert = self.alert
        return {
            "id": self.id,
            "alert": alert.id,
            "event": self.event,
            "model": self.model,
            "alias": alert.alias,
            "kind": alert.kind,
            "severity": alert.severity,
            "title": self.title,
            "summary": alert.summary,
            "reasons": alert.reasons,
            "began_at": alert.began_at,
            "ended_at": alert.ended_at,
            "facts": alert.facts,
        }


def slack(message: AlertMessage) -> dict[str, Any]:
    """The body of an incoming webhook of Slack."""
    text = _escaped("\n".join([f"*{message.title}*", *message.lines]))
    blocks = [
        {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000]}},
        {"type": "context", "elements": [{"type": "plain_text", "text": f"alert {message.id}"}]},
    ]
    return {"text": _escaped(message.title), "blocks": blocks}


def teams(message: AlertMessage) -> dict[str, Any]:
    """The body of a webhook of Teams: a message with an Adaptive Card."""
    lines = [{"type": "TextBlock", "text": text, "wrap": True} for text in [*message.lines, f"alert {message.id}"]]
    title = {"type": "TextBlock", "text": message.title, "weight": "Bolder", "size": "Medium", "wrap": True}
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, *lines],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def pagerduty(message: AlertMessage, routing_key: str) -> dict[str, Any]:
    """The body of an event of PagerDuty: an incident an alert, resolved when it is over."""
    is_over = message.event == "recovered"
    payload = {
        "summary": f"{message.title}: {message.alert.summary}"[:MOST_SUMMARY],
        "source": message.model,
        "severity": "info" if message.event == "test" else message.alert.severity,
        "timestamp": message.alert.began_at,
        "component": "mlsys",
        "class": message.alert.kind,
        "custom_details": message.to_json(),
    }
    action = {"routing_key": routing_key, "event_action": "resolve" if is_over else "trigger"}
    return {**action, "dedup_key": message.alert.id, "payload": payload}


def email(message: AlertMessage, sender: str, addresses: list[str]) -> EmailMessage:
    """The alert as e-mail; its Message-ID is that of the message, by which mailboxes know a second one again."""
    mail = EmailMessage()
    mail["Subject"] = " ".join(message.title.split())
    mail["From"], mail["To"] = sender, ", ".join(addresses)
    domain = sender.rpartition("@")[2].rstrip("> ") or "localhost"
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join([message.title, "", *message.lines, "", f"alert {message.id}", ""]))
    return mail


def _escaped(text: str) -> str:
    """A text in Slack's notation, in which three characters mean something."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
