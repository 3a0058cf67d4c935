"""Text that is already HTML, told apart from text that still has to be escaped."""

from __future__ import annotations

import html

__all__ = ["Html", "escape", "join", "tag"]


class Html(str):
    """Finished HTML or SVG; every other string is escaped before it reaches a page."""

    __slots__ = ()


def escape(value: object) -> Html:
    """`value` as HTML text; finished HTML passes unchanged.

    >>> escape("a < b & 'c'")
    'a &lt; b &amp; &#x27;c&#x27;'
    >>> escape(Html("<b>1</b>"))
    '<b>1</b>'
    """
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(*parts: object) -> Html:
    """The parts one after another, each escaped unless it is HTML."""
    return Html("".join(escape(part) for part in parts))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """One element. Attributes with None are left out; ``class_`` is written ``class``, ``data_v`` ``data-v``.

    >>> tag("td", "x & y", class_="number", data_v=3, title=None)
    '<td class="number" data-v="3">x &amp; y</td>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(*content)}</{name}>")
