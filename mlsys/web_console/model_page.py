"""The page of a model: what serves, its versions beside one another, its windows, its ledger, runs and batch jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlsys.reports import formats
from mlsys.reports import page as html
from mlsys.reports.page import Html, Level
from mlsys.web_console import change_forms, list_pages, page_frame
from mlsys.web_console.page_frame import Links

Json = Mapping[str, Any]

VERDICTS: dict[str, Level] = {"ok": "good", "drift": "warn", "degraded": "bad", "too_few": "info"}

MAX_BESIDE, MAX_METRICS = 8, 12
"""Versions that stand beside one another, and metrics of each; the others are in the table of all versions."""

MAX_ALERTS = 30
"""Alerts of the table, the newest."""

MAX_WINDOWS = 26
"""Windows of the table, the newest; the monitor's report has all."""


def model_page(model: Json, links: Links, at: str | None = None, then: Sequence[Json] = ()) -> str:
    """Draw the page of a model; with a time `at`, also what each alias meant `then`."""
    versions = model["versions"]
    page = page_frame.page(links, model["name"], f"{formats.count(len(versions), 'version')}; times in UTC")
    page.section("Now", _now(model))
    newest = f"{model['name']}@{versions[0]['version']}"
    traced = page_frame.link(links.to("lineage", of=newest), "Lineage of the newest")
    beside = _beside(versions[:MAX_BESIDE])
    page.section("Versions beside one another", beside, _versions(versions, links), html.paragraph(traced))
    page.section("Change what serves", *change_forms.changes(model, links))
    page.section("Windows and alarms", *_windows(model, links))
    page.section("Alerts", *_alerts(model, links))
    page.section("What served when", *_ledger(model, links, at, then))
    page.section("Runs and reports", *_runs(model, links))
    page.section("Batch jobs", list_pages.jobs_table(model["jobs"], links) if model["jobs"] else "none")
    return page.html()


def _now(model: Json) -> Html:
    aliases = ", ".join(f"{alias} is version {version}" for alias, version in model["aliases"].items())
    decided = model["decision"] or {}
    tiles: list[tuple[str, object, object]] = [
        ("Aliases", aliases or "none", None),
        ("Endpoint", *_endpoint(model["endpoint"])),
        *_traffic((model["endpoint"] or {}).get("stats") or {}),
        ("Monitor", page_frame.decision(decided.get("decision")) or "no run yet", decided.get("headline")),
        ("Not yet judged", model["backlog_rows"], "rows of the prediction log since the monitor's last run"),
    ]
    labels = model["labels"]
    if labels and labels.get("delay_s"):
        median, p95 = (formats.seconds(labels["delay_s"][name]) for name in ("median", "p95"))
        tiles.append(("Labels come after", median, f"95% within {p95}"))
    if model["canary"]:
        tiles.append(("Canary", *_canary(model["canary"])))
    return html.facts(tiles)


def _endpoint(served: Json | None) -> tuple[object, object]:
    if served is None:
        return "none", "served nowhere"
    if not served["answers"]:
        return html.badge("bad", "does not answer"), served["url"]
    return f"version {served['version']}", f"answers at {served['url']}"


def _traffic(stats: Json) -> list[tuple[str, object, object]]:
    """Requests, latencies, errors and backlog of the replica that was asked."""
    if "requests" not in stats:
        return []
    latency, log, failed = stats["latency_ms"], stats["log"] or {}, stats["errors"]
    quantiles = ", ".join(f"{name} {formats.number(value)}" for name, value in latency.items())
    words = ", ".join(f"{count:,} with {status}" for status, count in failed.items())
    return [
        ("Requests", stats["requests"], f"{stats['rows']:,} rows, of the replica that was asked"),
        ("Latency", f"{latency['p50']:g} ms" if "p50" in latency else None, f"{quantiles} ms" if latency else None),
        ("Errors", sum(failed.values()), words or "none"),
        ("Log backlog", log.get("pending"), f"{log.get('dropped', 0):,} rows lost" if log else "no prediction log"),
    ]


def _canary(trial: Json) -> tuple[object, object]:
    if trial["ended"] is None:
        share = f"step {trial['step']} of {trial['steps']}, {trial['percent']:g}% of the traffic"
        return f"version {trial['version']}", share
    level: Level = "good" if trial["ended"] == "promoted" else "bad"
    word = str(trial["ended"]).replace("_", " ")
    return html.badge(level, f"version {trial['version']} {word}"), trial["reason"]


def _beside(versions: Sequence[Json]) -> Html:
    """A column a version: family, metrics and parameters; where they differ can be read across."""
    metrics = list(dict.fromkeys(name for each in versions for name in each["metrics"]))
    params = list(dict.fromkeys(name for each in versions for name in each["params"]))
    varying = [name for name in params if len({str(each["params"].get(name)) for each in versions}) > 1]
    rows: list[list[object]] = [["family", *(each["family"] for each in versions)]]
    rows += [["registered", *(page_frame.when(each["at"]) for each in versions)]]
    rows += [[name, *(each["metrics"].get(name) for each in versions)] for name in metrics[:MAX_METRICS]]
    rows += [[f"parameter {name}", *(each["params"].get(name) for each in versions)] for name in varying]
    head = ["", *(f"version {each['version']}" for each in versions)]
    return html.table(rows, head, align="l" + "r" * len(versions), caption="The newest versions on the test rows")


def _versions(versions: Sequence[Json], links: Links) -> Html:
    rows = [
        [
            each["version"],
            html.code(each["digest"][:12]),
            page_frame.time(each["at"]),
            ", ".join(each["aliases"]) or None,
            page_frame.metric(each["metrics"], each["metric"]),
            html.code(str(each["provenance"].get("snapshot", ""))[:12]) if each["provenance"].get("snapshot") else None,
            _reports(each["reports"], links),
            each["who"],
            None if each["stored"] else "its bundle is not in the store",
        ]
        for each in versions
    ]
    columns = ["version", "bundle", "registered", "aliases", "on the test rows", "snapshot", "reports", "by", "note"]
    return html.details("All versions", html.table(rows, columns, sortable=True), is_open=len(versions) <= MAX_BESIDE)


def _reports(pages: Mapping[str, str], links: Links) -> Html | None:
    reports = [page_frame.link(links.report(path), name) for name, path in pages.items()]
    return html.join(*(html.join(each, " ") for each in reports)) if reports else None


def _windows(model: Json, links: Links) -> list[object]:
    if not model["windows"]:
        return ["no windows; `mlsys monitor` judges the prediction log"]
    metric = model["metric"].get("metric")
    rows = [_window(each, metric) for each in reversed(model["windows"][-MAX_WINDOWS:])]
    columns = ["window", "rows", "verdict", model["metric"].get("title") or "metric", "with a label", "why"]
    page, whole = model["pages"].get("monitor"), Html("")
    if page is not None:
        whole = html.paragraph(
            page_frame.link(links.report(page), "The monitor's report"), " has every window and column."
        )
    return [html.table(rows, columns, align="lrlrrw", caption="The newest windows first"), whole]


def _window(window: Json, metric: str | None) -> list[object]:
    estimate = window["metrics"].get(metric) or {}
    value = formats.number(estimate.get("value"))
    range_ = formats.interval(estimate.get("low"), estimate.get("high"))
    return [
        window["label"] + (" (partial)" if window["partial"] else ""),
        window["num_rows"],
        html.badge(VERDICTS.get(window["verdict"], "info"), window["verdict"].replace("_", " ")),
        f"{value} ({range_})" if estimate else None,
        formats.percent(window["labels"]["coverage"], 0),
        " ".join(window["reasons"]) or "no drift",
    ]


def _alerts(model: Json, links: Links) -> list[object]:
    if not model["alerts"]:
        return ["none; monitor.alerts of the recipe says where they are sent"]
    rows = [
        [
            page_frame.when(alert["began_at"]),
            html.badge("bad" if alert["severity"] == "critical" else "warn", alert["kind"]),
            _alert_state(alert),
            alert["summary"],
            html.code(alert["id"]),
        ]
        for alert in model["alerts"][:MAX_ALERTS]
    ]
    open_ids = [alert["id"] for alert in model["alerts"] if not alert["ended_at"] and not alert["acknowledged_at"]]
    form = change_forms.acknowledge(links.model(model["name"]), open_ids) if open_ids else ""
    return [html.table(rows, ["began", "kind", "state", "what", "id"], align="lllwl"), form]


def _alert_state(alert: Json) -> str:
    if alert["ended_at"]:
        return f"over since {page_frame.when(alert['ended_at'])}"
    known = f", known to {alert['acknowledged_by']}" if alert["acknowledged_at"] else ""
    return "lasts" + (", muted" if alert["muted"] else "") + known


def _ledger(model: Json, links: Links, at: str | None, then: Sequence[Json]) -> list[object]:
    columns = ["at", "kind", "version", "alias", "who", "why"]
    blocks: list[object] = [change_forms.moment(links.model(model["name"]), at)]
    if at is not None:
        held = [[line["alias"], line["version"], page_frame.when(line["at"]), line["reason"]] for line in then]
        table = html.table(held, ["alias", "version", "since", "why"], caption=f"At {at} UTC")
        blocks.append(table if held else f"no alias was set at {at} UTC")
    rows = [
        [page_frame.when(line["at"]), line["kind"], line["version"], line["alias"], line["who"], line["reason"]]
        for line in model["history"]
    ]
    more = model["num_lines"] - len(rows)
    note = f"{formats.count(more, 'earlier line')} not shown: `mlsys history {model['name']}`" if more else ""
    caption = "The ledger, newest line first"
    return [*blocks, html.details("All lines", html.table(rows, columns, align="llrllw", caption=caption), note)]


def _runs(model: Json, links: Links) -> list[object]:
    listed = model["runs"]
    if not listed["runs"]:
        return ["no runs of this name in the store"]
    every = page_frame.link(links.to("runs", name=model["name"]), f"All {listed['total']:,} runs")
    pages = _reports(model["pages"], links)
    newest = html.paragraph("Reports of the newest: ", pages) if pages else ""
    return [newest, list_pages.runs_table(listed["runs"], links), html.paragraph(every)]
