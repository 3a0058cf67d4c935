"""Two drawings that only the monitor needs: a heat map of drift, and a distribution beside its reference."""

from __future__ import annotations

from collections.abc import Sequence

from mlsys.reports import formats, svg
from mlsys.reports.markup import Html

__all__ = ["beside", "heat"]


def heat(
    columns: Sequence[str],
    windows: Sequence[str],
    values: Sequence[Sequence[float | None]],
    alarms: Sequence[Sequence[bool]],
    *,
    title: str,
    floor: float,
) -> Html:
    """Columns down, windows across; the darker, the farther from the reference. Alarms carry a dot.

    Parameters
    ----------
    values
        ``values[i][j]`` of column i in window j, 0 to 1; None where not judged.
    floor
        The value that an alarm needs; five times as much has the full colour.
    """
    width = max(26.0, min(60.0, 720 / max(len(windows), 1)))
    left, top, row = 150, 62, 22
    total = left + width * len(windows) + 16
    parts = [svg.title(title)]
    every = max(1, round(52 / width))
    parts += [
        svg.text(left + width * (j + 0.5), top - 8, name, "m ink") for j, name in enumerate(windows) if j % every == 0
    ]
    for i, name in enumerate(columns):
        y = top + row * i
        parts.append(svg.text(left - 8, y + 15, svg.shorten(name, 22), "e ink"))
        for j, value in enumerate(values[i]):
            x = left + width * j
            parts.append(svg.rect(x, y, width, row, "empty cell"))
            if value is None:
                parts.append(svg.text(x + width / 2, y + 15, formats.MISSING, "m"))
                continue
            hint = f"{name}, {windows[j]}: {formats.number(value)}"
            parts.append(svg.rect(x, y, width, row, "f1 cell", hint, min(value / (5 * floor), 1.0) if floor else value))
            if alarms[i][j]:
                parts.append(svg.circle(x + width / 2, y + row / 2, 4, "alarm", f"alarm: {hint}"))
    told = f"{len(columns)} columns in {len(windows)} windows, {sum(sum(row) for row in alarms)} alarms"
    kind = "wide" if total > 560 else "normal"
    return svg.picture(max(total, 400), top + row * len(columns) + 8, *parts, name=title, description=told, kind=kind)


def beside(
    labels: Sequence[str], reference: Sequence[float], window: Sequence[float], *, title: str, name: str
) -> Html:
    """Fractions of a window in the reference's bins, each above that of the reference."""
    left, row, width = 150, 30, 400
    most = max([*reference, *window, 1e-9])
    reach = width - left - 50
    parts = [svg.title(title), svg.legend([name, "reference"], 12, 32, width)]
    for i, label in enumerate(labels):
        y = 46 + row * i
        parts.append(svg.text(left - 8, y + 14, svg.shorten(label, 22), "e ink"))
        for k, share in enumerate((window[i], reference[i])):
            who = name if k == 0 else "reference"
            length = share / most * reach
            parts.append(
                svg.rect(
                    left, y + 11 * k, max(length, 0.8), 10, f"f{k + 1}", f"{label}, {who}: {formats.percent(share)}"
                )
            )
            parts.append(svg.text(left + length + 4, y + 11 * k + 9, formats.percent(share)))
    told = "; ".join(
        f"{label}: {formats.percent(w)} after {formats.percent(r)}"
        for label, r, w in zip(labels, reference, window, strict=True)
    )
    return svg.picture(width, 50 + row * len(labels), *parts, name=title, description=told)
