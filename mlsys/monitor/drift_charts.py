"""Drawings of drift: a heat map of columns by windows, and a distribution beside that of the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import formats, svg
from mlsys.reports import page as html
from mlsys.reports.page import Html

Json = Mapping[str, Any]

MAX_BARS = 14
"""Bars of a distribution, those of the largest fractions."""


def largest_shift(column: Json, windows: Sequence[Json], shifts: Sequence[Mapping[str, Json]]) -> Html | None:
    """Draw a column's distribution in the window in which it moved most, if that is an alarm."""
    name = column["column"]
    moved = [(each[name]["excess"], i) for i, each in enumerate(shifts) if name in each and each[name]["alarmed"]]
    if not moved:
        return None
    number = max(moved)[1]
    labels, reference, window = column["labels"], column["reference"], column["windows"][number]
    bars = [i for i in range(len(labels)) if reference[i] or window[i]]
    if len(bars) > MAX_BARS:
        bars = sorted(sorted(bars, key=lambda i: -max(reference[i], window[i]))[:MAX_BARS])
    drawn = [(labels[i], window[i], reference[i]) for i in bars]
    chart = _distribution(drawn, title=name, window=windows[number]["label"])
    return html.figure(chart, shifts[number][name]["detail"])


def heat_map(names: Sequence[str], times: Sequence[str], shifts: Sequence[Mapping[str, Json]], floor: float) -> Html:
    """Draw columns down and windows across; the darker, the farther from the reference. Alarms carry a dot.

    `floor` is the excess that an alarm needs; five times as much has the full colour.
    """
    width = max(26.0, min(60.0, 720 / max(len(times), 1)))
    left, top, height = 150, 62, 22
    total = left + width * len(times) + 16
    every = max(1, round(52 / width))
    title = "Distance from the reference, less noise"
    parts = [svg.text(left + width * (j + 0.5), top - 8, times[j], "m ink") for j in range(0, len(times), every)]
    for i, name in enumerate(names):
        y = top + height * i
        parts.append(svg.text(left - 8, y + 15, svg.shorten(name, 22), "e ink"))
        for j, time in enumerate(times):
            x = left + width * j
            parts.append(svg.rect(x, y, width, height, "empty cell"))
            shift = shifts[j].get(name)
            if shift is None:
                parts.append(svg.text(x + width / 2, y + 15, formats.MISSING, "m"))
                continue
            excess = shift["excess"]
            hint = f"{name}, {time}: {formats.number(excess)}"
            depth = min(excess / (5 * floor), 1.0) if floor else excess
            parts.append(svg.rect(x, y, width, height, "f1 cell", hint, depth))
            if shift["alarmed"]:
                parts.append(svg.circle(x + width / 2, y + height / 2, 4, "alarm", f"alarm: {hint}"))
    num_alarms = sum(name in each and each[name]["alarmed"] for each in shifts for name in names)
    description = f"{len(names)} columns in {len(times)} windows, {num_alarms} alarms"
    kind = "wide" if total > 560 else "normal"
    size = max(total, 400), top + height * len(names) + 8
    return svg.picture(*size, *parts, name=title, description=description, kind=kind)


def _distribution(bars: Sequence[tuple[str, float, float]], *, title: str, window: str) -> Html:
    """Draw fractions of a window, each above that of the reference; `bars` holds label, window and reference."""
    left, height, width = 150, 30, 400
    full_width = width - left - 50
    largest = max([fraction for _, *fractions in bars for fraction in fractions] + [1e-9])
    parts = [svg.legend([window, "reference"], 12, 32, width)]
    for i, (label, *fractions) in enumerate(bars):
        y = 46 + height * i
        parts.append(svg.text(left - 8, y + 14, svg.shorten(label, 22), "e ink"))
        for k, (side, fraction) in enumerate(zip((window, "reference"), fractions, strict=True)):
            length, percent = fraction / largest * full_width, formats.percent(fraction)
            hint = f"{label}, {side}: {percent}"
            parts.append(svg.rect(left, y + 11 * k, max(length, 0.8), 10, f"f{k + 1}", hint))
            parts.append(svg.text(left + length + 4, y + 11 * k + 9, percent))
    words = [f"{label}: {formats.percent(w)}, {formats.percent(r)} in the reference" for label, w, r in bars]
    description = "; ".join(words)
    return svg.picture(width, 50 + height * len(bars), *parts, name=title, description=description)
