"""Statements about a run, composed of what its record says: which step ended it, what it had read, what to change."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlsys import errors, locks, workflow
from mlsys.reports import formats
from mlsys.reports.formats import count
from mlsys.store import Store
from mlsys.workflow.differences import changed, leaves

MAX_NOTES = 5
"""Notes of one step that are repeated; a table may have hundreds."""

MAX_CHANGES = 10
"""Values of the recipe that are named."""

GATE = "did not pass its gate"
"""Words of the error for a model that failed its gate (`mlsys.workflow.refusal`)."""

GOES_ON = "the same command goes on from there; finished steps are kept"

FAULT_S = 60.0
"""Seconds after the end of a run within which its process writes the traceback of a fault."""


@dataclass(frozen=True)
class Statement:
    """One stored fact in words.

    Attributes
    ----------
    about
        A step; or ``run``, ``gate``, ``quarantine``, ``recipe``; or of a name ``monitor``, ``canary``, ``alias``,
        ``batch``, ``maintain``, ``alerts``, ``log``.
    more
        The command that shows more.
    is_cause
        It ended the run, or keeps a model out of service, or asks for work.
    read
        What the step had read, a line each.
    change
        What would change it, a line each.
    """

    about: str
    words: str
    more: str
    is_cause: bool = False
    read: tuple[str, ...] = ()
    change: tuple[str, ...] = ()


def of_run(store: Store, record: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[Statement]:
    """State what a run's record says, causes first.

    Parameters
    ----------
    record
        As `mlsys.workflow.run_record` writes it.
    before
        The record of the last run of the name before it that finished; None without one.
    """
    statements = [statement for step in record["steps"] for statement in _of_step(store, record, step)]
    statements += [*_of_end(store, record), *_of_killed(store, record)]
    if any(statement.is_cause for statement in statements):
        statements += _of_recipe(store, record, before)
    return sorted(statements, key=lambda statement: not statement.is_cause)


def ending(store: Store, record: Mapping[str, Any]) -> str:
    """The ending of a run, as its record says; one without an end whose lock nobody holds was killed."""
    if record["status"] != "running":
        return str(record["status"])
    return "running" if locks.holder(store.root / "locks" / record["name"]) else "killed"


def stopped_in(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The step in which a run ended that did not finish; None where none had begun or all had ended."""
    return next((step for step in record["steps"] if step["status"] != "finished"), None)


def _of_step(store: Store, record: Mapping[str, Any], step: Mapping[str, Any]) -> Iterator[Statement]:
    status = step["status"]
    if status == "failed":
        yield _failed(store, record, step)
    elif status == "interrupted":
        words = f"interrupted: {step.get('message') or record.get('message') or 'Ctrl-C'}"
        change = (GOES_ON,)
        yield Statement(step["name"], words, _page(record), is_cause=True, change=change)
    elif status == "finished":
        yield from _of_finished(store, record, step)


def _failed(store: Store, record: Mapping[str, Any], step: Mapping[str, Any]) -> Statement:
    """A step that raised: its error in words, what it had read, and the hint of the error."""
    message = str(step.get("message") or record.get("message"))  # a check that fails after a step is the run's
    if message.startswith("SystemExit"):
        words = f"the process was told to end while the step was at work ({message})"
        read = tuple(_read(record, step))
        return Statement(step["name"], words, "mlsys logs", is_cause=True, read=read, change=(GOES_ON,))
    parts = errors.parts(message)
    trace = None if len(parts) > 1 else _fault(store, record)
    change = _lines(parts["hint"]) if "hint" in parts else ()
    if trace is not None:
        change = ("it is a fault of mlsys itself: its traceback says where",)
    more = f"mlsys open {record['name']}" if GATE in message else _page(record) if trace is None else f"cat {trace}"
    return Statement(step["name"], _words(parts), more, is_cause=True, read=tuple(_read(record, step)), change=change)


def _words(parts: Mapping[str, str]) -> str:
    """The parts of a message in one sentence."""
    words = " ".join(parts["where"].split())
    if "got" in parts:
        words += f": got {' '.join(parts['got'].split())}"
    if "expected" in parts:
        words += f"; expected {' '.join(parts['expected'].split())}"
    return words


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _read(record: Mapping[str, Any], step: Mapping[str, Any]) -> Iterator[str]:
    """The sources of a collection, or the results of the steps before; and the recipe values that the step reads."""
    if step["name"] == "collect":
        recipe = leaves(yaml.safe_load(record["recipe"]) or {})
        for key, source in recipe.items():
            if key == "data.source" or (key.startswith("features.joins.") and key.endswith(".source")):
                yield f"{key}: {source}"
    for earlier in record["steps"]:
        if earlier is step:
            break
        yield f"{earlier['name']}: {earlier.get('summary', '')}"
    declared = workflow.STEPS[step["name"]].reads
    yield f"recipe: {', '.join(declared)}"


def _page(record: Mapping[str, Any]) -> str:
    """The command that prints the whole record of the run."""
    return f"mlsys why {record['id'][:8]} --json"


def _fault(store: Store, record: Mapping[str, Any]) -> Path | None:
    """The traceback that the run's process left; its name has the time and the number of the process."""
    process, ended = str(record["by"]).rpartition(" ")[2], record.get("ended") or record["began"]
    began, latest = (dt.datetime.fromisoformat(moment).replace(microsecond=0) for moment in (record["began"], ended))
    for file in sorted((store.root / "faults").glob(f"*-{process}.txt")):
        try:
            at = dt.datetime.strptime(file.name[:19], "%Y-%m-%dT%H-%M-%S").replace(tzinfo=dt.UTC)
        except ValueError:
            continue
        if began <= at <= latest + dt.timedelta(seconds=FAULT_S):
            return file
    return None


def _of_finished(store: Store, record: Mapping[str, Any], step: Mapping[str, Any]) -> Iterator[Statement]:
    """Oddities of a step that ended well: rows in quarantine, a failed gate, a search cut short, notes."""
    name, pages = step["name"], f"mlsys open {record['name']}"
    for rule, broken in step.get("quarantine", {}).items():
        words = f"{count(broken['rows'], 'row')} broke the rule: {rule} (e.g. {'; '.join(broken['samples'][:2])})"
        yield Statement("quarantine", words, _quarantine(store, record))
    yield from _of_gate(record, step, pages)
    yield from _of_search(store, record, step, pages)
    notes = [note for note in step.get("notes", ()) if note]
    for note in notes[:MAX_NOTES]:
        refuses = name == "deploy" and bool(step.get("advice"))
        yield Statement(name, note, pages, is_cause=refuses, change=tuple(step.get("advice", ())))
    if len(notes) > MAX_NOTES:
        yield Statement(name, f"and {len(notes) - MAX_NOTES:,} more notes of this step", _page(record))


def _quarantine(store: Store, record: Mapping[str, Any]) -> str:
    file = store.root / "runs" / record["name"] / "quarantine.parquet"
    return f"python -c \"import polars; print(polars.read_parquet('{file}'))\""


def _of_gate(record: Mapping[str, Any], step: Mapping[str, Any], pages: str) -> Iterator[Statement]:
    """The checks that failed; where a later step refused the model for them, its error says the same."""
    if "problem" not in step or any(GATE in str(other.get("message")) for other in record["steps"]):
        return
    checks = step.get("checks", ())
    words = "; ".join(check["reason"] for check in checks) or step["problem"]
    change = tuple(f"{check['name']}: {check['advice']}" for check in checks if check.get("advice"))
    yield Statement("gate", f"the model {GATE}: {words}", pages, is_cause=True, change=change)


def _of_search(store: Store, record: Mapping[str, Any], step: Mapping[str, Any], pages: str) -> Iterator[Statement]:
    """A search that its time ended, and trials that failed during the run."""
    search = step.get("search")
    if search and search["is_cut_short"]:
        words = f"the search ended {search['ended']}, after {count(search['num_trials'], 'trial')}"
        if search["num_late"]:
            words += f", {search['num_late']:,} of them ended by their time"
        if search["num_untried"]:
            words += f"; {count(search['num_untried'], 'point')} of the portfolios not tried"
        yield Statement(
            "tune", words, pages, change=("a longer budget: --set budget=10m, or --set tune.trials=NUMBER",)
        )
    failures = [] if step["name"] != "tune" or step.get("unchanged") else _failures(store, record, step)
    if failures:
        file, lines = failures[-1]
        last = str(lines[-1].get("traceback", "")).strip().splitlines() or ["no traceback"]
        words = f"{count(sum(len(each) for _, each in failures), 'trial')} failed; the last: {last[-1]}"
        yield Statement("tune", words, f"cat {file}")


def _failures(
    store: Store, record: Mapping[str, Any], step: Mapping[str, Any]
) -> list[tuple[Path, list[dict[str, Any]]]]:
    """Files of trials that failed, with their lines, that were written while the step was at work."""
    began = dt.datetime.fromisoformat(step["began"]).timestamp()
    ended = dt.datetime.fromisoformat(step.get("ended") or step["began"]).timestamp()
    files = (store.root / "runs" / record["name"] / "tune").glob("*/failures.jsonl")
    written = [file for file in sorted(files) if began - 1 <= file.stat().st_mtime <= ended + 1]
    failures = [(file, file.read_text(encoding="utf-8").splitlines()) for file in written]
    return [(file, [json.loads(line) for line in lines]) for file, lines in failures if lines]


def _of_end(store: Store, record: Mapping[str, Any]) -> Iterator[Statement]:
    """A run that failed or was interrupted while no step was at work, as where a check of a finished step fails."""
    if record["status"] not in ("failed", "interrupted") or stopped_in(record) is not None:
        return
    if record["steps"]:
        yield _failed(store, record, record["steps"][-1])
    else:
        parts = errors.parts(str(record.get("message")))
        yield Statement("run", _words(parts), _page(record), is_cause=True, change=_lines(parts.get("hint", "")))


def _of_killed(store: Store, record: Mapping[str, Any]) -> Iterator[Statement]:
    """A process that ended without a word: in which step, and after how long."""
    if ending(store, record) != "killed":
        return
    step = next((each for each in record["steps"] if each["status"] in ("running", "killed")), None)
    where = f"during step {step['number']} {step['name']}" if step else "between two steps"
    why = "nobody holds its lock" if record["status"] == "running" else str(record.get("message"))
    words = f"the process ended {where} ({why}): a signal, or too little memory; the record cannot tell which"
    change = (GOES_ON,)
    read = tuple(_read(record, step)) if step else ()
    yield Statement(step["name"] if step else "run", words, "mlsys logs", is_cause=True, read=read, change=change)


def _of_recipe(store: Store, record: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[Statement]:
    """Values of the recipe that the last run which finished did not have."""
    if before is None:
        return
    rows = list(changed(*(leaves(yaml.safe_load(each["recipe"]) or {}) for each in (before, record))))
    if not rows:
        return
    shown = "; ".join(f"{key}: {then} → {now}" for key, then, now in rows[:MAX_CHANGES])
    more = f"; and {len(rows) - MAX_CHANGES:,} more" if len(rows) > MAX_CHANGES else ""
    words = f"changed since the run of {before['began'][:16]}Z, which finished: {shown}{more}"
    yield Statement("recipe", words, f"cat {store.root / 'runs' / record['name'] / 'resolved.yaml'}")


def duration(record: Mapping[str, Any]) -> str:
    """The time that a run or a step took, in words; empty where its end is not known."""
    if not record.get("ended"):
        return ""
    began, ended = (dt.datetime.fromisoformat(record[key]) for key in ("began", "ended"))
    return formats.seconds((ended - began).total_seconds())


def first_lines(statements: Sequence[Statement]) -> Iterator[str]:
    """Lines for people: causes are marked, and what was read, what to change and where more is stand below."""
    width = max((len(statement.about) for statement in statements), default=0)
    for statement in statements:
        yield f"{'!' if statement.is_cause else '-'} {statement.about:<{width}}  {statement.words}"
        rows = [("read", line) for line in statement.read] + [("change", line) for line in statement.change]
        for word, line in [*rows, ("more", statement.more)]:
            yield f"  {'':<{width}}    {word + ':':<8}{line}"
