"""The page of lineage: from a prediction or a version back to its files, and from a file to all that was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import formats
from mlsys.reports import page as html
from mlsys.reports.page import Html
from mlsys.web_console import change_forms, page_frame
from mlsys.web_console.page_frame import Links

Json = Mapping[str, Any]

DIGITS = 12
"""Characters of a digest that are shown."""


def lineage_page(links: Links, target: str | None = None, traced: Json | None = None) -> str:
    """Draw the form that asks, and the lineage that was traced."""
    page = page_frame.page(links, "Lineage", "from a prediction to its files, or from a file to what it made")
    page.section("Ask", change_forms.traced(links.to("lineage"), target))
    if traced is None:
        return page.html()
    if traced["rows"]:
        page.section("The prediction", _rows(traced), f"{traced['searched']}.")
    if traced["kind"] == "source":
        page.section("Snapshots and runs", _snapshots(traced["snapshots"]), _runs(traced["runs"], links))
    if traced["batches"]:
        page.section("Batch predictions", _batches(traced["batches"], links))
    for version in traced["versions"]:
        page.section(f"{version['name']} version {version['version']}", *_version(version, links))
    if traced["gone"]:
        page.section("No longer there", html.bullets(traced["gone"]))
    return page.html()


def _rows(traced: Json) -> Html:
    rows = [
        [
            html.code(row["file"]),
            row["row"],
            row["values"].get("prediction"),
            row["values"].get("model_version"),
            str(row["values"].get("logged_at") or ""),
        ]
        for row in traced["rows"]
    ]
    columns = ["file of the log", "row", "prediction", "version", "answered"]
    return html.table(rows, columns, align="lrrrl")


def _snapshots(snapshots: Sequence[Json]) -> Html | str:
    if not snapshots:
        return "no snapshot has rows of it"
    rows = [
        [html.code(each["digest"][:DIGITS]), ", ".join(each["names"]) or None, ", ".join(each["files"]), each["by"]]
        for each in snapshots
    ]
    return html.table(rows, ["snapshot", "collected for", "files", "found by"], align="llwl")


def _runs(runs: Sequence[Json], links: Links) -> Html | str:
    if not runs:
        return ""
    rows = [
        [
            page_frame.link(links.run(each["name"], each["run"]), page_frame.when(each["began"])),
            page_frame.link(links.model(each["name"]), each["name"]),
            page_frame.state(each["status"]),
        ]
        for each in runs
    ]
    return html.table(rows, ["run", "model", "status"])


def _batches(batches: Sequence[Json], links: Links) -> Html:
    rows = []
    for batch in batches:
        record = batch["record"]
        rows.append([
            html.code(record["run_id"]),
            page_frame.link(links.model(record["name"]), f"{record['name']}@{record['version']}"),
            page_frame.state(record["status"]),
            record["num_rows"],
            record["source"],
            record["output"] + (" (replaced since)" if batch["is_replaced"] else ""),
            page_frame.when(record["ended_at"]),
        ])  # fmt: skip
    return html.table(rows, ["run", "model", "state", "rows", "source", "output", "ended"], align="lllrlll")


def _version(version: Json, links: Links) -> list[object]:
    run = version["run"]
    tiles: list[tuple[str, object, object]] = [
        (
            "Model",
            page_frame.link(links.model(version["name"]), version["name"]),
            ", ".join(version["aliases"]) or None,
        ),
        ("Registered", page_frame.when(version["registered_at"]), f"by {version['who']}"),
        ("Run", page_frame.link(links.run(version["name"], run), run[:8]) if run else None, None),
        ("Bundle", html.code(version["digest"][:DIGITS]), None),
        ("Snapshot", _digest(version["snapshot"]), None),
        ("Split", _digest(version["split"]), None),
        ("Code", _digest(version["code"]), None),
        ("Predictions", sum(version["predictions"].values()), _days(version["predictions"])),
    ]
    files = [
        [source["part"], source["source"], file["name"], file.get("bytes"), _digest(file.get("sha256"))]
        for source in version["sources"]
        for file in source["files"]
    ]
    columns = ["part", "source", "file", "bytes", "SHA-256"]
    blocks: list[object] = [html.facts(tiles), html.table(files, columns, align="lllrl") if files else ""]
    if version["recipe"]:
        blocks.append(html.details("The recipe", html.tag("pre", version["recipe"])))
    return [*blocks, html.bullets(version["gone"]) if version["gone"] else ""]


def _digest(digest: str | None) -> Html | None:
    return html.code(str(digest)[:DIGITS]) if digest else None


def _days(predictions: Mapping[str, int]) -> str | None:
    return f"on {formats.count(len(predictions), 'day')}" if predictions else None
