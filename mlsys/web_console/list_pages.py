"""Pages that list: models, runs and batch jobs. They are drawn from the values of the JSON API alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import formats
from mlsys.reports import page as html
from mlsys.reports.page import Html
from mlsys.web_console import page_frame
from mlsys.web_console.page_frame import Links

Json = Mapping[str, Any]

FIRST = "no models yet; `mlsys deploy RECIPE` or `mlsys run RECIPE` registers one"


def models(listed: Sequence[Json], store: str, links: Links) -> str:
    """The page of all models, one line each."""
    page = page_frame.page(links, "Models", f"of the store {store}")
    served = sum(each["url"] is not None for each in listed)
    words = [(each["decision"] or {}).get("decision") for each in listed]
    page.section(
        "Overview",
        html.facts([
            ("Models", len(listed)),
            ("With an endpoint", served),
            ("To watch", words.count("watch"), "the monitor's last decision"),
            ("To retrain", words.count("retrain"), "the monitor's last decision"),
            ("Alerts that last", sum(each["num_alerts"] for each in listed)),
        ]),
    )  # fmt: skip
    if not listed:
        return page.section("All models", FIRST).html()
    columns = ["model", "serves", "family", "on the test rows", "versions", "endpoint", "monitor", "alerts", "last run"]
    table = html.table([_model(each, links) for each in listed], columns, sortable=True, anchor="models")
    return page.section("All models", html.search("Find", "#models tbody tr"), table).html()


def _model(each: Json, links: Links) -> list[object]:
    aliases = ", ".join(f"{alias} {version}" for alias, version in each["aliases"].items())
    decided, run = each["decision"] or {}, each["run"]
    address = links.run(run["name"], run["key"]) if run else ""
    ran = (
        html.join(page_frame.state(run["status"]), " ", page_frame.link(address, page_frame.when(run["began"])))
        if run
        else None
    )
    return [
        page_frame.link(links.model(each["name"]), each["name"]),
        aliases or None,
        each["family"],
        page_frame.metric(each["metrics"], each["metric"]),
        each["num_versions"],
        each["url"],
        page_frame.decision(decided.get("decision")),
        each["num_alerts"] or None,
        html.Cell(ran, run["began"]) if run else None,
    ]


def runs(listed: Json, name: str | None, links: Links) -> str:
    """A page of runs, newest first."""
    whose = f"of {name}" if name else "of all models"
    total = formats.count(listed["total"], "run")
    page = page_frame.page(links, "Runs", f"{total} {whose}, newest first; times in UTC")
    if not listed["runs"]:
        return page.section("Runs", "no runs; `mlsys run RECIPE` makes one").html()
    older = listed["next"]
    more = page_frame.link(links.to("runs", name=name, before=older), "Older runs") if older else ""
    return page.section("Runs", runs_table(listed["runs"], links), html.paragraph(more) if more else "").html()


def runs_table(listed: Sequence[Json], links: Links) -> Html:
    """A table of runs, with a link to each."""
    rows = [
        [
            page_frame.link(links.run(run["name"], run["key"]), page_frame.when(run["began"])),
            page_frame.link(links.model(run["name"]), run["name"]),
            page_frame.state(run["status"]),
            _steps(run),
            page_frame.seconds(run["seconds"]),
            run["family"],
            page_frame.metric(run["metrics"], None),
            run["version"],
            page_frame.decision(run["decision"]),
        ]
        for run in listed
    ]
    columns = ["began", "model", "status", "steps", "took", "family", "on the test rows", "version", "monitor"]
    return html.table(rows, columns, align="lllwrllrl")


def _steps(run: Json) -> str:
    """The last step of a run, or the step that it failed in."""
    if not run["steps"]:
        return "none"
    at = run["steps"][-1]
    return (
        f"{len(run['steps'])}, the last {at['name']}"
        if at["status"] == "finished"
        else f"{at['status']} in {at['name']}"
    )


def jobs(listed: Sequence[Json], links: Links) -> str:
    """The page of batch jobs, newest first."""
    page = page_frame.page(links, "Batch jobs", f"{formats.count(len(listed), 'job')}, newest first; times in UTC")
    if not listed:
        return page.section("Jobs", "no batch jobs; POST /NAME/batch or `mlsys batch` submits one").html()
    return page.section("Jobs", jobs_table(listed, links)).html()


def jobs_table(listed: Sequence[Json], links: Links) -> Html:
    """A table of batch jobs with their progress and their errors."""
    rows = [
        [
            page_frame.time(job["created"]),
            page_frame.link(links.model(job["name"]), f"{job['name']}@{job['version']}"),
            page_frame.state(job["state"]),
            _progress(job),
            job["num_rows"],
            page_frame.seconds((job["ended"] or job["started"]) - job["started"] if job["started"] else None),
            html.code(job["input"]),
            html.code(job["output"]),
            job["error"] or "",
        ]
        for job in listed
    ]
    columns = ["submitted", "model", "state", "parts", "rows", "took", "input", "output", "error"]
    return html.table(rows, columns, align="llllrrllw")


def _progress(job: Json) -> str | None:
    return None if job["total"] is None else f"{job['done']:,} of {job['total']:,}"
