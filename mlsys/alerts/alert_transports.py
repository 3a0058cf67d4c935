"""Send a message to a place: HTTP, e-mail, a file or a command; a failure is a sentence without a secret.

Secrets are taken from the environment in the moment in which they are used. A redirection is a failure: followed, it
would turn the message into a question, and carry the secret to another server.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import smtplib
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from mlsys import errors
from mlsys.alerts import alert_messages
from mlsys.alerts.alert_messages import AlertMessage
from mlsys.recipe import secrets
from mlsys.recipe.alert_section import AlertSection
from mlsys.store import Store

TIMEOUT_S = 10.0
"""Seconds that a server may be silent."""

COMMAND_S = 30.0
"""Seconds that a command may take."""

PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"

ENVIRONMENT = "MLSYS_ALERT_COMMANDS"
"""Variable of the environment that lists the programs which alerts may start, joined by commas."""


def send(store: Store, place: AlertSection, message: AlertMessage) -> str | None:
    """Send a message; returns None if the place took it, else why not, in one line."""
    try:
        SENDERS[place.to](store, place, message)
    except Exception as error:  # noqa: BLE001  (whatever it is, the monitor goes on)
        hidden = [os.environ.get(name, "") for name in place.variables]
        hidden += [urllib.parse.quote(value, safe="") for value in hidden]
        text = secrets.shown(_words(error))
        return secrets.masked(text, sorted(filter(None, hidden), key=len, reverse=True))[:500]
    return None


def _words(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"the server answered with status {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"the server cannot be reached: {error.reason}"
    if isinstance(error, errors.MlsysError):
        return "; ".join(line.strip() for line in str(error).splitlines())
    if isinstance(error, ValueError | http.client.InvalidURL):  # these cite the address
        return f"{type(error).__name__}: the address or an answer is none"
    return " ".join(f"{type(error).__name__}: {error}".split())


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        """Follow no redirection, so that its status is the answer."""


def _post(url: str, body: Any, message_id: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address that begins with https://")
    proxies = [urllib.request.ProxyHandler({})] if is_loopback(parts.hostname) else []
    opener = urllib.request.build_opener(_NoRedirection, *proxies)
    headers = {"Content-Type": "application/json", "Idempotency-Key": message_id, "User-Agent": "mlsys"}
    data = json.dumps(body, default=str).encode()
    request = urllib.request.Request(url, data, headers, method="POST")  # noqa: S310 - http or https, as checked
    with opener.open(request, timeout=TIMEOUT_S):
        pass


def is_loopback(host: str) -> bool:
    """True for this machine's own address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("example.com")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _to_webhook(store: Store, place: AlertSection, message: AlertMessage) -> None:  # noqa: ARG001
    body = {"slack": alert_messages.slack, "teams": alert_messages.teams}.get(place.to, AlertMessage.to_json)
    _post(secrets.expand(place.url or ""), body(message), message.id)


def _to_pagerduty(store: Store, place: AlertSection, message: AlertMessage) -> None:  # noqa: ARG001
    body = alert_messages.pagerduty(message, secrets.expand(place.key or ""))
    _post(secrets.expand(place.url or PAGERDUTY), body, message.id)


def _to_email(store: Store, place: AlertSection, message: AlertMessage) -> None:  # noqa: ARG001
    """Hand an e-mail to the server, encrypted where it can be; a password is sent in plain to this machine alone."""
    server = place.server or ""
    is_variable = server.startswith("${")
    parts = urllib.parse.urlsplit(secrets.expand(server) if is_variable else server)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("an address that begins with smtp:// or smtps://")
    ready: Callable[[str], str] = urllib.parse.unquote if is_variable else secrets.expand
    host, user, password = ready(parts.hostname), ready(parts.username or ""), ready(parts.password or "")
    context = ssl.create_default_context()
    if parts.scheme == "smtps":
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=TIMEOUT_S, context=context)
    else:
        client = smtplib.SMTP(host, parts.port or 587, timeout=TIMEOUT_S)
    with client:
        client.ehlo()
        if parts.scheme == "smtp" and client.has_extn("starttls"):
            client.starttls(context=context)
        elif parts.scheme == "smtp" and password and not is_loopback(host):
            raise ConnectionError("the server offers no STARTTLS, and a password is not sent in plain")
        if user:
            client.login(user, password)
        client.send_message(alert_messages.email(message, place.sender or "", list(place.addresses)))


def _to_file(store: Store, place: AlertSection, message: AlertMessage) -> None:
    """Append a line, in one write and synced."""
    path = store.root / (place.path or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(message.to_json(), ensure_ascii=False, default=str).encode(errors="backslashreplace") + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError("the disk took a part of the line")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _to_command(store: Store, place: AlertSection, message: AlertMessage) -> None:  # noqa: ARG001
    """Give a program the message as JSON on its standard input; without a shell."""
    program = place.command[0]
    listed = [name.strip() for name in os.environ.get(ENVIRONMENT, "").split(",") if name.strip()]
    if program not in listed:
        raise errors.RecipeError.build(
            f"alerts: command '{program}'", got=f"not in {ENVIRONMENT}", expected="a program that is listed there",
            hint=f"if you trust it: export {ENVIRONMENT}={','.join([*listed, program])}",
        )  # fmt: skip
    body = json.dumps(message.to_json(), default=str).encode()
    done = subprocess.run(list(place.command), input=body, capture_output=True, timeout=COMMAND_S, check=False)
    if done.returncode:
        raise ChildProcessError(f"'{program}' ended with code {done.returncode}")


SENDERS: dict[str, Callable[[Store, AlertSection, AlertMessage], None]] = {
    "webhook": _to_webhook,
    "slack": _to_webhook,
    "teams": _to_webhook,
    "pagerduty": _to_pagerduty,
    "email": _to_email,
    "file": _to_file,
    "command": _to_command,
}
"""How each kind of place is sent a message; a failure is an exception."""
