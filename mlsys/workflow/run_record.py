"""The history of a recipe's runs: one JSON file a run, written as its steps end.

``runs/<name>/history/<time>-<id>.json`` says when a run began and ended, how, with which recipe, and of each step what
it produced: parameters, metrics, the parts that it tried (families by fold, trials) and reports by SHA-256. It is the
store's own record, complete after a kill up to the step that was killed; `mlsys.registry.mlflow_runs` copies it to
MLflow.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlsys import errors, locks
from mlsys.store import Store, digest_of_file, read_json, write_json
from mlsys.workflow.results import (
    CollectResult,
    DeployResult,
    EvaluateResult,
    ExploreResult,
    FeaturesResult,
    MonitorResult,
    SelectionResult,
    StepResult,
    TrainResult,
    TuneResult,
)

Status = Literal["running", "finished", "failed", "interrupted", "killed"]


@dataclass(frozen=True)
class RunRecord:
    """The record of one run, written anew whenever a step ends.

    Attributes
    ----------
    file
        Where it lies; its stem is the time of the start and the run's id.
    value
        The record as JSON.
    """

    file: Path
    value: dict[str, Any]

    @classmethod
    def begin(cls, folder: Path, recipe: str, until: str) -> RunRecord:
        """Begin the record of a run; a former run of this folder that never ended was killed, and is said to be.

        Parameters
        ----------
        folder
            ``runs/<name>`` of the store, which one run has for itself.
        recipe
            The resolved recipe as YAML.
        """
        for file in sorted((folder / "history").glob("*.json")):
            former = cls(file, read_json(file))
            if former.value["status"] == "running":
                former._end("killed", "the process ended without a word")
        began, run_id = dt.datetime.now(dt.UTC), uuid.uuid4().hex
        file = folder / "history" / f"{began:%Y-%m-%dT%H-%M-%S.%f}-{run_id[:8]}.json"
        facts = {"id": run_id, "name": folder.name, "by": locks.who(), "until": until, "recipe": recipe}
        opened = cls(file, {**facts, "began": began.isoformat(), "status": "running", "steps": []})
        opened._write()
        return opened

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record how the block ends: the run is finished, failed or interrupted."""
        try:
            yield
        except KeyboardInterrupt as error:
            self._end("interrupted", str(error) or "Ctrl-C")
            raise
        except BaseException as error:
            self._end("failed", _message(error))
            raise
        self._end("finished", None)

    @contextmanager
    def step(self, name: str, number: int) -> Iterator[dict[str, Any]]:
        """Record a step; the block puts what it produced into the mapping that it is given."""
        entry: dict[str, Any] = {"name": name, "number": number, "began": _now(), "status": "running"}
        self.value["steps"].append(entry)
        self._write()
        try:
            yield entry
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            entry |= {"status": status, "ended": _now(), "message": _message(error)}
            self._write()
            raise
        entry |= {"status": "finished", "ended": _now()}
        self._write()

    def _end(self, status: Status, message: str | None) -> None:
        for entry in self.value["steps"]:
            if entry["status"] == "running":
                entry["status"] = status
        self.value.update(status=status, ended=_now(), message=message)
        self._write()

    def _write(self) -> None:
        write_json(self.file, self.value)


def records(store: Store, name: str) -> list[dict[str, Any]]:
    """The records of a name's runs, oldest first."""
    return [read_json(file) for file in sorted((store.root / "runs" / name / "history").glob("*.json"))]


def recipe_of(store: Store, name: str, bundle: str) -> str | None:
    """The recipe of the newest run of a name that came to a bundle, as YAML with every default; None without one."""
    for record in reversed(records(store, name)):
        steps = {step["name"]: step for step in record["steps"]}
        if steps.get("train", {}).get("params", {}).get("bundle") == bundle:
            return str(record["recipe"])
    return None


def step_facts(store: Store, result: StepResult, pages: Iterable[str] = ()) -> dict[str, Any]:
    """Describe what a step produced in the terms of a tracking server.

    ``params`` and ``metrics`` by name, ``tries`` (name, params and metrics, a list where there is one value a fold),
    ``problem`` where a check failed, and ``reports`` with the SHA-256 of each page, its own and those drawn after it.
    Beside these, for `mlsys why` and `mlsys lineage`, what a server has no terms for: ``notes``, ``quarantine`` by
    rule, ``checks`` of the gate that failed, ``search``, ``advice``, and the ``objects`` that the step left.
    """
    facts, drawn = _result_facts(store, result) | _details(store, result), _pages(*pages)
    return facts | {"reports": facts.get("reports", {}) | drawn["reports"]} if drawn["reports"] else facts


def _result_facts(store: Store, result: StepResult) -> dict[str, Any]:  # noqa: PLR0911  (a case a step)
    match result:
        case CollectResult():
            facts = {"metrics": {f"rows_{part}": rows for part, rows in result.num_rows.items()}}
            facts["metrics"]["columns"] = result.num_columns
            return {**facts, "params": {"snapshot": result.snapshot, "split": result.split}}
        case FeaturesResult():
            return {"metrics": {f"features_{name}": number for name, number in result.num_features.items()}} | _pages(
                result.report
            )
        case SelectionResult():
            return {"params": {"family": result.family}, "tries": _families(result.leaderboard)}
        case TuneResult():
            return {"params": result.params, "tries": _trials(store.get_json("params", result.stored))}
        case TrainResult():
            return {"params": {"family": result.family, "bundle": result.bundle, "plan": result.plan}}
        case EvaluateResult():
            return _evaluated(result)
        case DeployResult():
            return {"params": {"version": result.version, "alias": result.alias, "bundle": result.bundle}}
        case MonitorResult():
            return {"params": {"decision": result.decision}} | _pages(result.report)
    return _pages(getattr(result, "report", None))


def _details(store: Store, result: StepResult) -> dict[str, Any]:  # noqa: PLR0911  (a case a step)
    """Sentences that people were told, what was left out, and the objects of the store by kind and digest."""
    objects = {"objects": [list(each) for each in result.objects]}
    match result:
        case CollectResult():
            return objects | {"notes": list(result.messages), "quarantine": result.taken.get("quarantine", {})}
        case ExploreResult():
            return objects | {"notes": list(result.warnings)}
        case SelectionResult():
            return objects | {"notes": list(result.leaderboard.get("notes", ()))}
        case TuneResult():
            return objects | _search(store.get_json("params", result.stored))
        case EvaluateResult():
            return objects | {"checks": [check for check in result.checks if not check["passed"]]}
        case DeployResult():
            compared = result.comparison or {"promotes": True}
            advice = [] if compared["promotes"] else list(compared["advice"])
            return objects | {"notes": [result.reason] if result.reason else [], "advice": advice}
        case MonitorResult():
            return objects | {"notes": list(result.messages)}
    return objects


def _search(stored: dict[str, Any]) -> dict[str, Any]:
    """Notes of a search, when it ended, and what it left out; it was cut short where it had a clock and left points."""
    search, trials = stored.get("search") or {}, stored["trials"]
    if "ended" not in search:
        return {"notes": stored["notes"]}
    untried = [row["points"] for row in search.get("untried", ()) if search["ended"] in row["reason"]]
    num_late = sum(not trial["finished"] for trial in trials)
    return {
        "notes": stored["notes"],
        "search": {
            "ended": search["ended"],
            "num_trials": len(trials),
            "num_late": num_late,
            "num_untried": sum(untried),
            "is_cut_short": search.get("seconds") is not None and bool(untried or num_late),
        },
    }


def _evaluated(result: EvaluateResult) -> dict[str, Any]:
    metrics: dict[str, float] = {}
    for name, entry in result.metrics.items():
        ends = {name: entry["value"], f"{name}_low": entry["low"], f"{name}_high": entry["high"]}
        metrics |= {key: number for key, number in ends.items() if number is not None}
    problem = {} if result.passed else {"problem": "gate failed: " + "; ".join(result.failed)}
    return {"metrics": metrics, **problem, **_pages(result.report)}


def _families(leaderboard: dict[str, Any]) -> list[dict[str, Any]]:
    """One try a family: its score on each fold, their mean, seconds a fit."""
    metric = leaderboard["metric"]
    return [
        {
            "name": entry["family"],
            "metrics": {metric: list(entry["scores"]), f"{metric}_mean": entry["mean"], "fit_s": entry["fit_s"]},
        }
        for entry in leaderboard["entries"]
    ]


def _trials(search: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"trial {trial['number']}",
            "params": {"family": trial["family"], **trial["params"]},
            "metrics": {f"validation_{search['metric']}": trial["score"], "fit_s": trial["fit_s"]},
        }
        for trial in search["trials"]
    ]


def _pages(*pages: str | None) -> dict[str, Any]:
    """Reports by path; a later run writes other pages there, which the digest tells apart."""
    return {"reports": {page: digest_of_file(Path(page)) for page in pages if page is not None}}


def _message(error: BaseException) -> str:
    """The message of an error that was raised on purpose; of any other also its type, which says more than `15`."""
    text = str(error)
    is_meant = isinstance(error, errors.MlsysError | KeyboardInterrupt)
    return text if is_meant and text else f"{type(error).__name__}: {text}" if text else type(error).__name__


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
