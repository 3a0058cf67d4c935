"""An explanation of a run, or of a name and its last run, in words that are composed of stored facts.

Nothing is guessed: each statement is of a record, a journal, the ledger, the queue of batch jobs or the monitor's last
decision, and names the command that shows more. What the records cannot tell is said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlsys import errors
from mlsys.deploy import batch_records
from mlsys.store import Store, read_json
from mlsys.workflow import run_record, service_statements, statements
from mlsys.workflow.statements import Statement

ID_DIGITS = 8
"""Digits of a run's id that stand in the name of its record, and are enough to name it."""


@dataclass(frozen=True)
class RunExplanation:
    """The explanation of a run, or of a name.

    Attributes
    ----------
    run
        Id of the run; None for a name of which no run is recorded.
    status
        How it ended: ``finished``, ``failed``, ``interrupted``, ``killed``, or ``running``; a batch prediction
        ``succeeded`` or ``failed``.
    step
        The step in which it ended, if it did not finish.
    statements
        Causes first.
    """

    name: str
    run: str | None
    status: str | None
    step: str | None
    until: str | None
    began: str | None
    ended: str | None
    statements: tuple[Statement, ...]

    @property
    def summary(self) -> str:
        """A line about the run, and a paragraph for each statement."""
        return "\n".join([self._head(), *statements.first_lines(self.statements)])

    def _head(self) -> str:
        if self.run is None:
            return f"{self.name}: no run of it is recorded in this store"
        if self.until is None:
            return f"{self.name}: batch prediction {self.run} of {str(self.began)[:16]}Z {self.status}"
        where = f" in step {self.step}" if self.step else ""
        took = statements.duration({"began": self.began, "ended": self.ended})
        words = f"{self.name}: run {self.run[:ID_DIGITS]} of {str(self.began)[:16]}Z until {self.until}"
        line = f"{words} {'is at work' if self.status == 'running' else self.status}{where}"
        line += f" after {took}" if took else ""
        return line if self.statements else f"{line}; nothing that is recorded is odd"

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        return values | {"statements": [asdict(each) for each in self.statements]}


def explain(store: Store, target: str) -> RunExplanation:
    """Explain a run or a batch prediction by its id, or a name: its last run, and what the store has noted since.

    Raises
    ------
    RegistryError
        There is no such run and no such name.
    """
    files = sorted((store.root / "runs" / target / "history").glob("*.json")) if _is_name(target) else []
    if files:
        record, of_name = read_json(files[-1]), service_statements.of_name(store, target)
        return _explained(store, record, of_name)
    if service_statements.is_known(store, target):
        own = tuple(service_statements.of_name(store, target))
        return RunExplanation(target, None, None, None, None, None, None, own)
    batches = batch_records.of_run(store, target)
    if batches:
        last = batches[0]
        odd = tuple(service_statements.of_batch(last))
        return RunExplanation(last.name, last.run_id, last.status, None, None, last.began_at, last.ended_at, odd)
    return _explained(store, _record(store, target), [])


def _is_name(target: str) -> bool:
    """True unless the text would lead out of the folder of runs."""
    return Path(target).name == target and target not in (".", "..")


def _record(store: Store, run: str) -> dict[str, Any]:
    """The record of a run by its id, or enough of its first digits."""
    every = sorted((store.root / "runs").glob("*/history/*.json"))
    if len(run) >= ID_DIGITS:
        for file in every:
            if file.stem.endswith(f"-{run[:ID_DIGITS]}") and str(read_json(file)["id"]).startswith(run):
                return dict(read_json(file))
    names = {file.parents[1].name for file in every}
    raise errors.RegistryError.build(
        f"why: '{run}'",
        got="no run and no name",
        expected="the name of a recipe or model, or the id of a run, or its first 8 digits",
        hint=errors.did_you_mean(run, names) if names else "no run is recorded in this store: --store names another",
        field=run,
    )


def _explained(store: Store, record: Mapping[str, Any], of_name: list[Statement]) -> RunExplanation:
    finished = [
        each
        for each in run_record.records(store, record["name"])
        if each["status"] == "finished" and each["began"] < record["began"]
    ]
    of_run = statements.of_run(store, record, finished[-1] if finished else None)
    stopped = statements.stopped_in(record)
    return RunExplanation(
        name=record["name"],
        run=record["id"],
        status=statements.ending(store, record),
        step=None if stopped is None else stopped["name"],
        until=record["until"],
        began=record["began"],
        ended=record.get("ended"),
        statements=(*of_run, *of_name),
    )
