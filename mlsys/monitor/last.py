"""The last decision about a model, and how much came since, for `mlsys status`.

``<store>/monitor/<name>/last.json`` is replaced by each run of the monitor.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from mlsys import errors
from mlsys.deploy import prediction_log
from mlsys.deploy.prediction_log import RowSpans
from mlsys.monitor.judge import Judgement
from mlsys.store import Store, read_json, write_json


def _file(store: Store, name: str) -> Path:
    return store.root / "monitor" / name / "last.json"


def note(store: Store, judgement: Judgement, version: int | None, report: Path) -> None:
    """Note the decision about a version, with its report."""
    value = judgement.value
    path = report.relative_to(store.root) if report.is_relative_to(store.root) else report
    values = {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "version": version,
        "bundle": value["bundle"],
        "decision": judgement.decision,
        "exit_code": judgement.exit_code,
        "headline": value["decision"]["headline"],
        "counts": value["counts"],
        "num_rows": value["log"]["num_rows"],
        "judgement": judgement.digest,
        "report": str(path),
        "seen": judgement.seen.to_json(),
    }
    write_json(_file(store, value["name"]), values)


def noted(store: Store, name: str) -> dict[str, Any]:
    """The last decision about a model, without a look at its log; empty where there was none.

    Returns
    -------
    ``at``, ``version``, ``decision``, ``exit_code``, ``headline``, ``counts`` of windows, ``num_rows``, ``judgement``
    and ``report`` of the last run of the monitor.
    """
    return _noted(store, name)[0]


def status(store: Store, name: str) -> dict[str, Any]:
    """The last decision about a model, and the rows that were logged since.

    Returns
    -------
    All that `noted` gives, missing where there was none, and ``backlog_rows``, rows of the log that no run has read.
    """
    values, seen = _noted(store, name)
    files = prediction_log.files(prediction_log.folder_of(store, name))
    spans = (span for log_file in files for span in log_file.spans)
    return {**values, "backlog_rows": sum(part.count for span in spans for part in seen.missing(span))}


def _noted(store: Store, name: str) -> tuple[dict[str, Any], RowSpans]:
    """The last decision as it was noted, and the rows of the log that were read for it."""
    try:
        values: dict[str, Any] = read_json(_file(store, name))
        seen = RowSpans.from_json(values.pop("seen"))
    except (errors.StoreError, KeyError, TypeError, ValueError, AttributeError):
        return {}, RowSpans()
    return values, seen
