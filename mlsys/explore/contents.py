"""Cards of columns that are read or looked at: texts with their words, pictures with their forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsys.reports import formats
from mlsys.reports import page as html
from mlsys.reports.markup import Html, join, tag

__all__ = ["pictures", "texts"]

Json = Mapping[str, Any]


def texts(column: Json, profile: Json) -> Html:
    """Repeats, the words that tell the classes apart, and some texts with their target."""
    found, summary = column["texts"], column["summary"]
    blocks = [html.facts(_text_facts(summary))]
    words = [[item["class"], item["rows"], _words(item)] for item in found["words"] if item["words"]]
    if words:
        read = formats.count(found["num_read"], "text")
        note = f"Texts with the word in this class : in the others, of the {read} read."
        heads = ["class", "texts", "words that tell it from the others"]
        blocks.append(html.table(words, heads, align="lrw", caption=note))
    repeated = [[formats.label(text)[:200], rows] for text, rows in summary["frequent_items"][:5] if rows > 1]
    if repeated:
        blocks.append(html.details("Texts that repeat", html.table(repeated, ["text", "rows"], align="wr")))
    shown = [[item["text"], formats.value(item["target"])] for item in found["examples"]]
    blocks.append(html.table(shown, ["some texts", profile["target"]["name"]], align="wl"))
    return join(*blocks)


def _text_facts(summary: Json) -> list[tuple[str, object, object]]:
    distinct, count = summary["distinct_count"] or 0, summary["count"] or 1
    sign = "about " if "distinct_count" in summary["notes"] else ""
    repeats = max(0, count - distinct)
    ends = f"{formats.number(summary['min_length'])} to {formats.number(summary['max_length'])}"
    return [
        ("characters", formats.number(summary["mean_length"], 3), f"on average; {ends}"),
        ("repeats", f"{sign}{repeats:,}", f"texts that an earlier row has too ({formats.percent(repeats / count)})"),
        ("missing", f"{summary['num_nulls']:,}", formats.percent(summary["num_nulls"] / (summary["num_rows"] or 1))),
    ]


def _words(item: Json) -> Html:
    parts = [
        join(html.code(word), Html("&nbsp;"), tag("small", f"{here:,}:{there:,}"))
        for word, here, there in item["words"]
    ]
    return join(*(join(" · " if at else "", part) for at, part in enumerate(parts)))


def pictures(column: Json) -> Html:
    """Forms, sizes, broken and repeated ones, and some pictures."""
    found = column["summary"]["images"]
    blocks = [html.facts(_picture_facts(found))]
    if found["broken"]:
        rows = [[reason, count] for reason, count in found["broken"].items()]
        blocks.append(html.table(rows, ["why a picture does not decode", "rows"], align="wr"))
    images = [
        Html(f'<img src="data:image/png;base64,{html.escape(png)}" alt="picture {place}">')
        for place, png in enumerate(column["thumbnails"] or (), 1)
    ]
    return join(*blocks, tag("div", *images, class_="pictures") if images else "")


def _picture_facts(found: Json) -> list[tuple[str, object, object]]:
    if not found["count"]:
        return [("pictures", 0, "none decodes"), ("broken", found["num_broken"], "")]
    kinds = ", ".join(f"{name} {count:,}" for name, count in found["formats"].items())
    sizes = f"{_span(found['width'])} × {_span(found['height'])}"
    how = "" if found["repeats_exact"] else " (of those with the smallest hashes)"
    return [
        ("pictures", found["count"], kinds),
        ("broken", found["num_broken"], "do not decode: treated as missing"),
        ("pixels", sizes, f"width × height; {found['num_grey']:,} grey"),
        ("repeats", formats.percent(found["same_fraction"]), f"byte for byte{how}"),
        ("look alike", formats.percent(found["alike_fraction"]), "repeats that may differ in size or compression"),
        ("brightness", formats.number(found["brightness"]["mean"], 3), "mean, from 0 (black) to 1 (white)"),
    ]


def _span(ends: list[float]) -> str:
    low, _, high = ends
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
