"""The last lines of a run: what a person wants to know and do next."""

from __future__ import annotations

from typing import Any

from mlsys.workflow.run import Run

__all__ = ["text"]


def text(run: Run) -> str:
    """Leaderboard, test metrics, gate verdict, reports, endpoint and a request that works when pasted."""
    records = run.records
    blocks = [
        _leaderboard(records["selection"]["leaderboard"]),
        _metrics(records["evaluate"]),
        _gate(records["evaluate"]),
        _reports(records),
        _endpoint(records["deploy"]["endpoint"]),
    ]
    return "\n" + "\n\n".join("\n".join(lines) for lines in blocks)


def _leaderboard(ranking: dict[str, Any]) -> list[str]:
    lines = [f"leaderboard ({ranking['metric']}, mean over the folds ± standard error)"]
    for entry in ranking["entries"]:
        spread = "" if entry["std_error"] is None else f"± {entry['std_error']:.4f}"
        notes = ["tied with the best"] if entry["tie"] else []
        if entry["family"] == ranking["best"]:
            notes = ["best"]
        if entry["family"] == ranking["preferred"]:
            notes.append("preferred")
        if len(entry["scores"]) < len(ranking["rounds"]):
            notes.append(f"left after {len(entry['scores'])} folds")
        cost = f"{entry['fit_s']:6.1f} s a fit {entry['predict_us_per_row']:8.1f} µs a row"
        lines.append(f"  {entry['family']:<9} {entry['mean']:8.4f} {spread:<10} {cost}   {', '.join(notes)}".rstrip())
    return lines


def _metrics(evaluated: dict[str, Any]) -> list[str]:
    lines = ["test rows (value, interval)"]
    for found in evaluated["metrics"].values():
        if found["value"] is None:
            continue
        ends = "" if found["low"] is None else f"[{found['low']:.4f}, {found['high']:.4f}]"
        lines.append(f"  {found['title']:<24} {found['value']:10.4f}  {ends}".rstrip())
    return lines


def _gate(evaluated: dict[str, Any]) -> list[str]:
    verdict = "passed" if evaluated["passed"] else "FAILED"
    return [f"gate {verdict}", *(f"  {check['reason']}" for check in evaluated["checks"])]


def _reports(records: dict[str, Any]) -> list[str]:
    return ["reports", *(f"  {name:<9} {record['report']}" for name, record in records.items() if "report" in record)]


def _endpoint(endpoint: dict[str, Any]) -> list[str]:
    return [
        "endpoint",
        f"  {endpoint['url']}   ({endpoint['proxy']})",
        f"  {endpoint['curl']}",
        "",
        "mlsys down   stops the cluster and the endpoint",
    ]
