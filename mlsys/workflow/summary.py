"""The last lines of a run: what a person wants to know and do next."""

from __future__ import annotations

from typing import Any

from mlsys.workflow.run import Run

__all__ = ["text"]


def text(run: Run) -> str:
    """Leaderboard, test metrics, gate verdict, reports, endpoint and a request that works when pasted."""
    records = run.records
    blocks = [
        _leaderboard(records["selection"]),
        _metrics(records["evaluate"]),
        _reports(records),
        _endpoint(records["deploy"]["endpoint"]),
    ]
    return "\n" + "\n\n".join(blocks)


def _leaderboard(record: dict[str, Any]) -> str:
    return ""


def _metrics(record: dict[str, Any]) -> str:
    return ""


def _reports(records: dict[str, Any]) -> str:
    lines = [f"  {name:<9} {record['report']}" for name, record in records.items() if "report" in record]
    return "reports\n" + "\n".join(lines)


def _endpoint(endpoint: dict[str, Any]) -> str:
    return f"endpoint\n  {endpoint['url']}   ({endpoint['proxy']})\n  {endpoint['curl']}\n\nmlsys down   stops the cluster and the endpoint"
