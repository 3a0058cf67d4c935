"""The frame of every page of the console: its title, the way to the other pages, and links below a base path."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from mlsys.reports import formats
from mlsys.reports import page as html
from mlsys.reports.page import Html, Level

PLACES = {"": "models", "runs": "runs", "batch": "batch jobs", "lineage": "lineage", "api": "JSON"}
"""Paths of the console, and what the way to them is called."""

DECISIONS: dict[str, Level] = {"keep": "good", "watch": "warn", "retrain": "bad"}
STATES: dict[str, Level] = {
    "finished": "good", "succeeded": "good", "running": "info", "queued": "info", "interrupted": "warn",
    "canceled": "warn", "failed": "bad", "killed": "bad",
}  # fmt: skip


@dataclass(frozen=True)
class Links:
    """Links of pages below a base path, ``/console`` or nothing.

    >>> links = Links("/console")
    >>> links.model("late flights"), links.to("runs", name="late", before=None)
    ('/console/models/late%20flights', '/console/runs?name=late')
    """

    base: str = ""

    def to(self, path: str, **query: object) -> str:
        """The address of a path of the console; parameters that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return f"{self.base}/{path}" + (f"?{urlencode(given)}" if given else "")

    def model(self, name: str) -> str:
        return self.to(f"models/{quote(name, safe='')}")

    def run(self, name: str, key: str) -> str:
        return self.to(f"runs/{quote(name, safe='')}/{quote(key, safe='')}")

    def report(self, path: str) -> str:
        return self.to(f"reports/{quote(path)}")


def page(links: Links, title: str, subtitle: str, mark: Html | None = None) -> html.Page:
    """Begin a page with the way to the others above its subtitle."""
    ways = html.tag("nav", *(link(links.to(path), name) for path, name in PLACES.items()), aria_label="Console")
    return html.Page(title, html.join(subtitle, ways), mark=mark, footer="Served by the console of mlsys.")


def link(address: str, text: object) -> Html:
    """Write a link."""
    return html.tag("a", text, href=address)


def when(at: str | float) -> str:
    """Write a time in UTC to the minute, from ISO 8601 or seconds of the Unix epoch.

    >>> when("2026-12-01T09:30:59+02:00"), when(0)
    ('2026-12-01 07:30', '1970-01-01 00:00')
    """
    return f"{_time(at):%Y-%m-%d %H:%M}"


def time(at: str | float | None) -> html.Cell | None:
    """Write a time as `when`, by which a table can be sorted."""
    return None if at is None else html.Cell(when(at), _time(at).timestamp())


def _time(at: str | float) -> dt.datetime:
    given = dt.datetime.fromtimestamp(at, dt.UTC) if isinstance(at, int | float) else dt.datetime.fromisoformat(at)
    return given.astimezone(dt.UTC)


def state(word: str | None) -> Html | None:
    """Write the state of a run, a step or a job as a badge."""
    return None if word is None else html.badge(STATES.get(word, "info"), word)


def decision(word: str | None) -> Html | None:
    """Write a decision of the monitor as a badge."""
    return None if word is None else html.badge(DECISIONS.get(word, "info"), word)


def metric(values: Mapping[str, Any], chosen: str | None) -> html.Cell | None:
    """Write the chosen metric, or the first of several, with its name; tables sort by its value."""
    name = chosen if chosen in values else next(iter(values), None)
    if name is None:
        return None
    return html.Cell(f"{name} {formats.number(values[name])}", values[name])


def seconds(value: float | None) -> html.Cell:
    """Write a length of time; tables sort by it."""
    return html.Cell(formats.seconds(value), value)
