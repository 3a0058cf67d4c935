"""Forms of the console: what changes something asks for an API key, what only asks does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import page as html
from mlsys.reports.page import Html
from mlsys.web_console.page_frame import Links

Json = Mapping[str, Any]


def changes(model: Json, links: Links) -> list[object]:
    """Draw the forms that promote a version and take the champion back."""
    base = links.model(model["name"])
    numbers = [str(each["version"]) for each in model["versions"]]
    aliases = [*model["aliases"]] or ["champion"]
    note = html.paragraph(
        "Both need an API key with the scope ", html.code("admin"), ": ", html.code("mlsys keys add --scope admin"),
        ". They do what ", html.code("mlsys promote"), " and ", html.code("mlsys rollback"), " do.",
    )  # fmt: skip
    promote = _form(f"{base}/promote", "Promote", _choice("version", numbers), _choice("alias", aliases), *_why())
    rollback = _form(f"{base}/rollback", "Roll back", _choice("alias", aliases), *_why())
    return [
        note,
        html.grid(html.join(html.heading("Promote"), promote), html.join(html.heading("Roll back"), rollback)),
    ]


def moment(address: str, at: str | None) -> Html:
    """Draw the form that asks what served at a time."""
    value = f' value="{html.escape(at)}"' if at else ""
    field = Html(f'<input type="datetime-local" name="at" required{value}>')
    return html.tag(
        "form", _labelled("What served at, in UTC", field), _button("Look up"), action=address, method="get"
    )


def traced(address: str, target: str | None) -> Html:
    """Draw the form that asks for a lineage."""
    value = f' value="{html.escape(target)}"' if target else ""
    field = Html(f'<input type="text" name="of" required size="60"{value}>')
    asked = _labelled("Id of a prediction, NAME@VERSION, a URI, or a file's SHA-256", field)
    return html.tag("form", asked, _button("Trace"), action=address, method="get")


def acknowledge(address: str, ids: Sequence[str]) -> Html:
    """Draw the form that acknowledges an alert."""
    return _form(f"{address}/acknowledge", "Acknowledge", _choice("alert", ids), _key())


def _form(address: str, verb: str, *fields: Html) -> Html:
    return html.tag("form", *fields, _button(verb), action=address, method="post", class_="act")


def _why() -> tuple[Html, Html]:
    reason = Html('<input type="text" name="reason" required maxlength="500">')
    return _labelled("Why, for the ledger", reason), _key()


def _key() -> Html:
    return _labelled("API key", Html('<input type="password" name="key" required autocomplete="off">'))


def _choice(name: str, values: Sequence[str]) -> Html:
    options = (html.tag("option", value, value=value) for value in values)
    return _labelled(name.capitalize(), html.tag("select", *options, name_=name))


def _labelled(words: str, field: Html) -> Html:
    return html.tag("p", html.tag("label", words, " ", field))


def _button(words: str) -> Html:
    return html.tag("p", html.tag("button", words, type="submit"))
