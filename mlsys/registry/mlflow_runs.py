"""Copy records of workflow runs to MLflow: a run for each, its steps as nested runs, families and trials below them.

A record is found again by its id, so copying twice changes nothing, and a copy that was cut off is made anew.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys.store import digest_of_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID, COPIED, PARENT = "mlsys.run", "mlsys.copied", "mlflow.parentRunId"
"""Tags: the record's id; that the copy is whole; and MLflow's own, which nests a run."""

STATUSES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "killed": "KILLED"}
"""MLflow's word for how a run or step ended."""

COMPARED = ("tune", "train", "evaluate")
"""Steps whose parameters and metrics a list of runs shows, too."""

MAX_TEXT = 5000
"""Characters of a parameter's or tag's value that every MLflow server takes."""


def copy(client: MlflowClient, experiment: str, record: Mapping[str, Any]) -> str:
    """Copy a record that has ended to an experiment; returns the id of its run in MLflow.

    Parameters
    ----------
    experiment
        MLflow's id of the experiment.
    record
        As `mlsys.workflow.run_record` writes it.
    """
    # 1. Find the run, and clear away what a copy that was cut off left below it.
    run_id = find_or_create(client, experiment, record["id"], record["began"])
    if client.get_run(run_id).data.tags.get(COPIED) == "yes":
        return run_id
    for child in list(_descendants(client, experiment, run_id)):
        client.delete_run(child)

    # 2. Write the run itself, its steps, and last that it is whole.
    client.log_text(run_id, record["recipe"], "resolved.yaml")
    client.update_run(run_id, name=f"{record['name']} {record['began'][:19]}")
    log(client, run_id, record, {"mlsys.by": record["by"], "mlsys.until": record["until"]})
    for step in record["steps"]:
        _copy_step(client, experiment, run_id, step)
        if step["name"] in COMPARED:
            log(client, run_id, {key: step[key] for key in ("params", "metrics") if key in step}, {})
    _end(client, run_id, record)
    client.set_tag(run_id, COPIED, "yes")
    return run_id


def find_or_create(client: MlflowClient, experiment: str, record_id: str, began: str) -> str:
    """The MLflow run of a record, which is created if there is none; `began` is an ISO time."""
    runs = client.search_runs([experiment], filter_string=f"tags.`{ID}` = '{record_id}'", max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    return str(client.create_run(experiment, start_time=_milliseconds(began), tags={ID: record_id}).info.run_id)


def _descendants(client: MlflowClient, experiment: str, run_id: str) -> Iterator[str]:
    for child in client.search_runs([experiment], filter_string=f"tags.`{PARENT}` = '{run_id}'"):
        yield from _descendants(client, experiment, child.info.run_id)
        yield child.info.run_id


def _copy_step(client: MlflowClient, experiment: str, parent: str, step: Mapping[str, Any]) -> None:
    """Copy a step below its run; of one that was recalled, what it tried stands with the run that did the work."""
    run_id = _nested(client, experiment, parent, f"{step['number']} {step['name']}", step["began"])
    tags = {"mlsys.step": step["name"], "mlsys.unchanged": "yes" if step.get("unchanged") else "no"}
    log(client, run_id, step, tags)
    for page, digest in step.get("reports", {}).items():
        file = Path(page)
        if file.is_file() and digest_of_file(file) == digest:  # else a later run has written its own page there
            client.log_artifact(run_id, page)
    for trial in () if step.get("unchanged") else step.get("tries", ()):
        child = _nested(client, experiment, run_id, trial["name"], step["began"])
        log(client, child, trial, {})
        _end(client, child, {"status": "finished", "ended": step.get("ended", step["began"])})
    _end(client, run_id, step)


def _nested(client: MlflowClient, experiment: str, parent: str, name: str, began: str) -> str:
    run = client.create_run(experiment, start_time=_milliseconds(began), tags={PARENT: parent}, run_name=name)
    return str(run.info.run_id)


def log(client: MlflowClient, run_id: str, entry: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Log parameters, metrics, the sentence that says what came out, and what was wrong."""
    from mlflow.entities import Param, RunTag

    texts = {"mlflow.note.content": entry.get("message") or entry.get("summary"), "mlsys.problem": entry.get("problem")}
    named = {**tags, **{name: text for name, text in texts.items() if text}}
    params = [Param(_key(name), _text(value)) for name, value in entry.get("params", {}).items()]
    client.log_batch(run_id, params=params, tags=[RunTag(name, text[:MAX_TEXT]) for name, text in named.items()])
    _log_metrics(client, run_id, entry.get("metrics", {}))


def _log_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, Any]) -> None:
    """Log numbers; of a list each value as a step of its own, such as one fold."""
    from mlflow.entities import Metric

    now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    series = {_key(name): value if isinstance(value, list) else [value] for name, value in metrics.items()}
    values = [Metric(name, float(value), now, at) for name, every in series.items() for at, value in enumerate(every)]
    client.log_batch(run_id, metrics=values)


def _end(client: MlflowClient, run_id: str, entry: Mapping[str, Any]) -> None:
    is_failed = entry["status"] == "finished" and "problem" in entry
    status = "FAILED" if is_failed else STATUSES[entry["status"]]
    client.set_terminated(run_id, status, end_time=_milliseconds(entry.get("ended", entry.get("began"))))


def _key(name: str) -> str:
    """A name as MLflow allows it: letters, digits, ``_-. /``."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:250]


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:MAX_TEXT]


def _milliseconds(moment: str | None) -> int:
    return int(dt.datetime.fromisoformat(str(moment)).timestamp() * 1000)
