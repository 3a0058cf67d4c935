"""Earlier windows of a monitor's page, folded by month, so that a page of years is as quick as one of weeks.

The last `MAX_SHOWN` windows are shown one by one. Of a month before them the page has what is worst in it: the largest
distance of each column, and how many windows had which verdict.
"""

from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import formats
from mlsys.reports import page as html
from mlsys.reports.page import Html

Json = Mapping[str, Any]

MAX_SHOWN = 62
"""Windows that are shown one by one, the last ones: two months of days."""


def months(windows: Sequence[Json], timezone: str) -> list[tuple[str, list[int]]]:
    """Name each month before the last `MAX_SHOWN` windows, with the places of its windows."""
    zone, number = zoneinfo.ZoneInfo(timezone), max(len(windows) - MAX_SHOWN, 0)

    def month(place: int) -> str:
        return dt.datetime.fromisoformat(windows[place]["start"]).astimezone(zone).strftime("%b %Y")

    return [(name, list(places)) for name, places in itertools.groupby(range(number), key=month)]


def note(number: int) -> str:
    """A sentence, after others, on how so many windows are shown; empty where each is shown by itself."""
    if number <= MAX_SHOWN:
        return ""
    return f" The last {MAX_SHOWN} of {number:,} windows are shown one by one, those before by month: its worst."


def folded(
    windows: Sequence[Json], times: Sequence[str], shifts: Sequence[Mapping[str, Json]], timezone: str
) -> tuple[list[str], list[Mapping[str, Json]]]:
    """Names and shifts of months and then of windows: of a month the largest excess, an alarm if one of them is one."""
    earlier = months(windows, timezone)
    names = [name for name, _ in earlier]
    worst = [_worst([shifts[place] for place in places]) for _, places in earlier]
    return [*names, *times[-MAX_SHOWN:]], [*worst, *shifts[-MAX_SHOWN:]]


def _worst(shifts: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """The largest shift of each column, an alarm before others."""
    worst: dict[str, Json] = {}
    for name, shift in (pair for each in shifts for pair in each.items()):
        if name not in worst or (shift["alarmed"], shift["excess"]) > (worst[name]["alarmed"], worst[name]["excess"]):
            worst[name] = shift
    return worst


_VERDICTS = ("ok", "drift", "degraded", "too_few")


def table(windows: Sequence[Json], timezone: str) -> Html:
    """Count rows, verdicts and alarms of each month that is folded; nothing where none is."""
    rows = [[name, *_counts([windows[place] for place in places])] for name, places in months(windows, timezone)]
    if not rows:
        return Html("")
    verdicts = [verdict.replace("_", " ") for verdict in _VERDICTS]
    head = ["month", "windows", "rows", *verdicts, "drift alarms", "columns with most of them"]
    number = sum(len(places) for _, places in months(windows, timezone))
    return html.details(f"{formats.count(number, 'earlier window')} by month", html.table(rows, head), is_open=True)


def _counts(windows: Sequence[Json]) -> list[object]:
    verdicts = Counter(window["verdict"] for window in windows)
    alarms = Counter(name for window in windows for alarm in window["alarms"] for name in alarm["columns"])
    most = ", ".join(name for name, _ in alarms.most_common(3))
    num_rows = sum(window["num_rows"] for window in windows)
    num_alarms = sum(len(window["alarms"]) for window in windows)
    return [len(windows), num_rows, *(verdicts[verdict] for verdict in _VERDICTS), num_alarms, most or None]
