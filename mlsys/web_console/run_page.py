"""The page of a run: its steps with their seconds, what they came to and tried, their reports, and its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import charts, formats
from mlsys.reports import page as html
from mlsys.reports.page import Html
from mlsys.web_console import page_frame
from mlsys.web_console.page_frame import Links

Json = Mapping[str, Any]

MAX_TRIES, MAX_DIGITS = 60, 12
"""Tries of a step that are shown, and characters of a digest."""


def run_page(run: Json, reports: Mapping[str, str], why: str, links: Links) -> str:
    """Draw the page of a run; `reports` are its pages by name, as paths below the store, `why` explains it in words."""
    mark = page_frame.state(run["status"])
    page = page_frame.page(links, f"Run of {run['name']}", f"{page_frame.when(run['began'])} UTC, by {run['by']}", mark)
    page.section("What became of it", *_outcome(run, links), _reports(reports, links))
    page.section("In words", html.tag("pre", why))
    page.section("Steps", _times(run["steps"]), _steps(run["steps"]))
    for step in run["steps"]:
        if step.get("tries"):
            page.section(f"Tries of {step['name']}", *_tries(step["tries"]))
    return page.section("Recipe", html.details("With every default", html.tag("pre", run["recipe"]))).html()


def _outcome(run: Json, links: Links) -> list[object]:
    problem = run["message"]
    level: html.Level = "warn" if run["status"] == "interrupted" else "bad"
    tiles: list[tuple[str, object, object]] = [
        ("Model", page_frame.link(links.model(run["name"]), run["name"]), None),
        ("Took", formats.seconds(run["seconds"]), None),
        ("Asked for", f"up to {run['until']}" if run["until"] else None, None),
        ("Family", run["family"], None),
        ("Version", run["version"], run["alias"] and f"as {run['alias']}"),
        ("Bundle", html.code(str(run["bundle"])[:MAX_DIGITS]) if run["bundle"] else None, None),
        ("Monitor", page_frame.decision(run["decision"]), None),
    ]
    metrics = {name: value for name, value in run["metrics"].items() if not name.endswith(("_low", "_high"))}
    rows = [
        [name, value, formats.interval(run["metrics"].get(f"{name}_low"), run["metrics"].get(f"{name}_high"))]
        for name, value in metrics.items()
    ]
    table = html.table(rows, ["metric", "on the test rows", "interval"], align="lrr") if rows else ""
    return [html.alert(level, problem, "It did not finish") if problem else "", html.facts(tiles), table]


def _reports(reports: Mapping[str, str], links: Links) -> Html | str:
    if not reports:
        return ""
    pages = (html.join(page_frame.link(links.report(path), name), " ") for name, path in reports.items())
    return html.paragraph("Reports, as the newest run of this model left them: ", *pages)


def _times(steps: Sequence[Json]) -> Html | str:
    timed = [step for step in steps if step["seconds"] is not None]
    if not timed:
        return ""
    names, seconds = zip(*((step["name"], step["seconds"]) for step in timed), strict=True)
    return html.figure(charts.bars(names, seconds, title="Seconds of each step", value_label="seconds"))


def _steps(steps: Sequence[Json]) -> Html:
    rows = [
        [
            step["number"],
            step["name"],
            page_frame.state(step["status"]),
            page_frame.time(step["began"]),
            page_frame.seconds(step["seconds"]),
            _made(step),
            step.get("message") or step.get("problem") or "",
        ]
        for step in steps
    ]
    return html.table(rows, ["", "step", "status", "began", "took", "came to", "problem"], align="rlllrww")


def _made(step: Json) -> str:
    values = [f"{name} {_short(value)}" for name, value in (step.get("params") or {}).items()]
    return ", ".join(values)


def _short(value: object) -> str:
    text = formats.label(value)
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:MAX_DIGITS] if is_digest else text


def _tries(tries: Sequence[Json]) -> list[object]:
    """A row a try, the parameters that vary and the metrics as columns."""
    shown = tries[:MAX_TRIES]
    params = list(dict.fromkeys(name for each in shown for name in each.get("params", {})))
    metrics = list(dict.fromkeys(name for each in shown for name in each["metrics"]))
    rows = [
        [
            each["name"],
            *(_number(each["metrics"].get(name)) for name in metrics),
            *(each.get("params", {}).get(name) for name in params),
        ]
        for each in shown
    ]
    more = len(tries) - len(shown)
    table = html.table(rows, ["try", *metrics, *params], sortable=True)
    return [table, f"{formats.count(more, 'further try')} in the JSON of this run" if more > 0 else ""]


def _number(value: object) -> object:
    """A value, or the mean of a list of one a fold."""
    if isinstance(value, list):
        numbers = [number for number in value if number is not None]
        return sum(numbers) / len(numbers) if numbers else None
    return value
