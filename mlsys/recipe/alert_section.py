"""A place to which alerts are sent: a webhook, a chat, a pager, a mailbox, a file or a command."""

from __future__ import annotations

import urllib.parse
from typing import Literal, Self

from pydantic import Field, model_validator

from mlsys.recipe import secrets
from mlsys.recipe.columns import LongSpan
from mlsys.recipe.reading import Section, Text

AlertKind = Literal["watch", "retrain", "feed", "gate", "labels", "maintenance"]
"""Kinds of alerts: decisions of the monitor that ask for somebody; of a maintenance, rows that are not sound, a new
model that was not promoted, labels that could not be taken in, and an error."""

NEEDED = {
    "webhook": ("url",),
    "slack": ("url",),
    "teams": ("url",),
    "pagerduty": ("key",),
    "email": ("server", "sender", "addresses"),
    "file": ("path",),
    "command": ("command",),
}
"""Keys that a place cannot do without, by ``to``."""

ALLOWED = {"pagerduty": ("url", "key")}
"""Keys of a place where it takes more than it needs."""

SECRET = {"slack": "url", "teams": "url", "pagerduty": "key"}
"""The key whose value is a secret as a whole: who knows it can write there."""


class AlertSection(Section):
    """A place to which alerts are sent, and which of them go there."""

    to: Literal["webhook", "slack", "teams", "pagerduty", "email", "file", "command"] = Field(
        description="kind of the place: webhook takes the alert as JSON, slack and teams are incoming webhooks of these"
    )
    kinds: tuple[AlertKind, ...] = Field((), description="kinds of alerts that go there; by default all")
    url: Text | None = Field(
        None,
        description="address for webhook, slack and teams, a secret in it as ${NAME}; for pagerduty by default its own",
    )
    key: Text | None = Field(None, description="integration key of pagerduty, as ${NAME}")
    server: Text | None = Field(
        None,
        description="server that takes e-mail, e.g. smtp://user:${SMTP_PASSWORD}@mail.example.com:587, or smtps://…",
    )
    sender: Text | None = Field(None, description="address that e-mail comes from")
    addresses: tuple[Text, ...] = Field((), description="addresses that e-mail goes to")
    path: Text | None = Field(
        None, description="file to which each alert is appended as a line of JSON; below the store where it is relative"
    )
    command: tuple[Text, ...] = Field(
        (), description="program and its arguments, given the alert as JSON; it must be listed in MLSYS_ALERT_COMMANDS"
    )
    recover: bool = Field(True, description="also say when what the alert tells of is over")
    repeat: LongSpan | None = Field(
        None,
        description="send an alert that lasts, and that nobody acknowledged, again after this time; by default never",
    )

    @model_validator(mode="after")
    def _keys_fit_the_place(self) -> Self:
        allowed = ALLOWED.get(self.to, NEEDED[self.to])
        given = {
            name for name in ("url", "key", "server", "sender", "addresses", "path", "command") if getattr(self, name)
        }
        missing = [name for name in NEEDED[self.to] if name not in given]
        if missing:
            raise ValueError(f"{' and '.join(missing)} with to: {self.to}")
        extra = sorted(given - set(allowed))
        if extra:
            raise ValueError(f"no {' and no '.join(extra)}, without effect with to: {self.to}")
        return self

    @model_validator(mode="after")
    def _secrets_are_variables(self) -> Self:
        """Refuse secrets that are written out: settings are noted with the model, and shown."""
        whole = SECRET.get(self.to)
        if whole is not None and secrets.VARIABLE.search(getattr(self, whole) or "") is None:
            raise ValueError(f"{whole} with the secret as ${{NAME}}, a variable of the environment")
        written = [name for name in ("url", "server") if (text := getattr(self, name)) and secrets.shown(text) != text]
        if written:
            raise ValueError(f"{written[0]} with its password or token as ${{NAME}}, a variable of the environment")
        return self

    @property
    def place(self) -> str:
        """The place in words, without what may be a secret.

        >>> AlertSection(to="webhook", url="https://ops.example.com/hooks/1").place
        'webhook at ops.example.com'
        >>> AlertSection(to="email", server="smtp://mail", sender="a@example.com", addresses=["b@example.com"]).place
        'email to b@example.com'
        """
        host = urllib.parse.urlsplit(self.url or "").hostname
        if self.to in ("webhook", "teams", "slack") and host:
            return f"{self.to} at {host}"
        if self.to == "email":
            return f"email to {', '.join(self.addresses)}"
        return f"{self.to} {self.path or self.command[0]}" if self.to in ("file", "command") else self.to

    @property
    def variables(self) -> list[str]:
        """Names of the variables of the environment that hold its secrets."""
        texts = (self.url, self.key, self.server)
        return [name for text in texts for name in secrets.VARIABLE.findall(text or "")]
