"""A report as one HTML file: sections of paragraphs, facts, tables, figures and alerts.

The file holds its style and drawings and asks the network for nothing; a content security policy in its head makes
the browser enforce that. Light and dark follow the reader's system. Every text is escaped unless it is `Html`.

>>> page = Page("Penguins", "344 rows").section("Columns", table([["mass", 4201.75]], ["column", "mean"]))
>>> page.html().startswith("<!doctype html>")
True
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal, Self

from mlsys.reports import formats


class Html(str):
    """Finished HTML or SVG; every other string is escaped before it reaches a page."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Escape a value as HTML text; finished HTML passes unchanged.

    >>> escape("a < b & 'c'")
    'a &lt; b &amp; &#x27;c&#x27;'
    >>> escape(Html("<b>1</b>"))
    '<b>1</b>'
    """
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(*parts: object) -> Html:
    """Join parts, each escaped unless it is HTML."""
    return Html("".join(escape(part) for part in parts))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """Write one element. Attributes with None are left out; ``class_`` is written ``class``, ``data_v`` ``data-v``.

    >>> tag("td", "x & y", class_="number", data_v=3, title=None)
    '<td class="number" data-v="3">x &amp; y</td>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


Level = Literal["info", "good", "warn", "bad"]

_FOOTER = "Written by mlsys. This file needs no network."

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is sorted by another value than the one shown; None goes last."""

    shown: object
    value: float | str | None


def paragraph(*parts: object) -> Html:
    """Write a paragraph; parts that are `Html` keep their markup."""
    return tag("p", *parts)


def heading(text: str) -> Html:
    """Write a heading below that of the section."""
    return tag("h3", text)


def code(text: str) -> Html:
    """Write text in the font of code: a column name, a path, a command."""
    return tag("code", text)


def bullets(items: Iterable[object]) -> Html:
    """Write a list, one item a line."""
    return tag("ul", *(tag("li", item) for item in items))


def badge(level: Level, text: object) -> Html:
    """Write a short word on a coloured ground: passed, failed, tie."""
    return tag("span", text, class_=f"badge {level}")


def alert(level: Level, text: object, title: object | None = None) -> Html:
    """Write a message that must not be overlooked; the title is bold on its own line."""
    return tag("div", tag("b", title) if title is not None else "", text, class_=f"alert {level}", role="note")


def facts(items: Mapping[str, object] | Iterable[tuple[str, object] | tuple[str, object, object]]) -> Html:
    """Write tiles of a name and a value; an optional third entry is a remark below the value."""
    rows: Iterable[tuple[object, ...]] = items.items() if isinstance(items, Mapping) else items
    tiles = []
    for name, value, *remark in rows:
        shown = value if isinstance(value, Html) else formats.label(value)
        tiles.append(
            tag("div", tag("dt", name), tag("dd", shown, *(tag("small", text) for text in remark if text is not None)))
        )
    return tag("dl", *tiles, class_="facts")


def grid(*blocks: object) -> Html:
    """Put blocks side by side where the window is wide enough, below each other where not."""
    return tag("div", *(tag("div", block) for block in blocks), class_="grid")


def details(summary: object, *blocks: object, is_open: bool = False, anchor: str | None = None) -> Html:
    """Fold blocks that the reader opens with a click, or by following a link to `anchor`."""
    place = f' id="{escape(anchor)}"' if anchor else ""
    return Html(f"<details{place}{' open' if is_open else ''}>{tag('summary', summary)}{_body(blocks)}</details>")


def search(label: str, what: str) -> Html:
    """Write a search field that hides the elements of the CSS selector `what` without the words typed.

    Rows of a table are judged by all their text and counted, folded blocks by their summary.
    """
    field = Html(f'<input type="search" data-what="{escape(what)}" autocomplete="off" spellcheck="false">')
    return tag("p", tag("label", label, " ", field), tag("output"), class_="search")


def figure(svg: Html, caption: object = "") -> Html:
    """Put a drawing above its caption; a wide one scrolls sideways on a narrow window."""
    inner = tag("div", svg, class_="scroll", tabindex="0") if 'class="wide"' in svg else svg
    return tag("figure", inner, tag("figcaption", caption) if caption else "")


def table(
    rows: Iterable[Sequence[object]],
    columns: Sequence[str],
    *,
    align: str | None = None,
    caption: object | None = None,
    sortable: bool = False,
    anchor: str | None = None,
) -> Html:
    """Write a table: rows of cells below named columns.

    Parameters
    ----------
    rows
        One sequence of cells a row, as long as `columns`. Numbers, dates and booleans are
        formatted, None and NaN become a dash, text is escaped, `Html` is kept.
    align
        One letter a column: ``l``, ``r``, ``c``, or ``w`` (left, for sentences: never narrower
        than they can be read). By default a column is ``r`` if all its cells are numbers.
    sortable
        The headings become buttons that sort the rows; not those of columns without a value to sort by.
    anchor
        Name of the table for links and for `search`.
    """
    # 1. Alignment of each column, and whether it can be sorted
    cells = [[_plain(cell) for cell in row] for row in rows]
    by_column = list(zip(*cells, strict=True)) or [()] * len(columns)
    mute = [bool(column) and all(isinstance(c, Cell) and c.value is None for c in column) for column in by_column]
    letters = align or "".join(_alignment(column) for column in by_column)
    classes = [None if letter == "l" else letter for letter in letters]
    # 2. Head, body, and the scrolling box around them
    head = (
        tag("th", tag("button", name, type="button") if sortable and not is_mute else name, scope="col", class_=kind)
        for name, kind, is_mute in zip(columns, classes, mute, strict=True)
    )
    body = (tag("tr", *(_cell(cell, kind) for cell, kind in zip(row, classes, strict=True))) for row in cells)
    title = tag("caption", caption) if caption is not None else ""
    whole = tag("table", title, tag("thead", tag("tr", *head)), tag("tbody", *body), id=anchor)
    name = re.sub(r"<[^>]*>", "", str(caption or "table"))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=name)


def _plain(cell: object) -> object:
    """Convert a NumPy scalar to the Python one."""
    item = getattr(cell, "item", None)
    return item() if callable(item) else cell


def _alignment(cells: Sequence[object]) -> str:
    numbers = [isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells if cell is not None]
    return "r" if numbers and all(numbers) else "l"


def _cell(cell: object, kind: str | None) -> Html:
    if isinstance(cell, Cell):
        value = "" if formats.is_missing(cell.value) else cell.value
        return tag("td", cell.shown, class_=kind, data_v=value)
    if isinstance(cell, Html):
        return tag("td", cell, class_=kind)
    is_number = isinstance(cell, int | float) and not isinstance(cell, bool)
    value = "" if formats.is_missing(cell) else repr(cell) if is_number else None
    return tag("td", formats.label(cell), class_=kind, data_v=value)


class Page:
    """A report under construction; sections appear in the order they were added."""

    def __init__(self, title: str, subtitle: object = "", *, mark: Html | None = None, footer: str = _FOOTER) -> None:
        self.title = title
        self.subtitle = subtitle
        self.mark = mark
        self.footer = footer
        self._sections: list[tuple[str, str, Html]] = []

    def section(self, title: str, *blocks: object, note: object = "") -> Self:
        """Add a section; a block that is plain text becomes a paragraph, a false one is left out."""
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        taken = [known for known, _, _ in self._sections]
        anchor = name if name not in taken else f"{name}-{len(taken) + 1}"
        self._sections.append((anchor, title, join(tag("p", note, class_="note") if note else "", _body(blocks))))
        return self

    def html(self) -> str:
        """Write the whole document."""
        sections = (tag("section", tag("h2", title), inner, id=name) for name, title, inner in self._sections)
        body = join(self._head(), tag("main", *sections))
        script = f"<script>{_resource('page.js')}</script>" if re.search(r"<(button|details|input)\b", body) else ""
        head = join(
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><link rel="icon" href="data:,">'),
            tag("title", self.title),
            Html(f"<style>{_resource('page.css')}</style>"),
        )
        footer = tag("footer", self.footer)
        return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}{footer}{script}</body></html>\n'

    def _head(self) -> Html:
        links = [tag("a", title, href=f"#{name}") for name, title, _ in self._sections]
        contents = tag("nav", *links, aria_label="Contents") if len(links) >= 3 else ""
        subtitle = tag("p", self.subtitle, class_="subtitle") if self.subtitle else ""
        return tag("header", tag("h1", self.title, self.mark or ""), subtitle, contents)


@functools.cache
def _resource(name: str) -> str:
    return resources.files("mlsys.reports").joinpath(name).read_text(encoding="utf-8")


def _body(blocks: Iterable[object]) -> Html:
    return join(*(block if isinstance(block, Html) else paragraph(block) for block in blocks if block))
