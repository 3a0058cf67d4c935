"""Runs of recipes, newest first: their heads for a list, and one as a whole.

A run is a file of `mlsys.workflow.run_record`, whose name begins with the time of its start. A list therefore sorts
names and reads the few records that it shows, however many there are; a record that was read is kept in memory
until its file changes.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlsys import errors
from mlsys.store import Store, read_json

Row = dict[str, Any]

PAGE_RUNS = 100
"""Runs of a page."""

MAX_CACHED = 2_000
"""Heads of runs that are kept in memory; one takes some kilobytes."""

_heads: OrderedDict[tuple[str, int, int], Row] = OrderedDict()
_guard = threading.Lock()


def listed(store: Store, name: str | None = None, before: str | None = None, limit: int = PAGE_RUNS) -> Row:
    """List runs of one name or of all, newest first.

    Parameters
    ----------
    before
        The key of a run; those that began before it are listed.

    Returns
    -------
    ``runs``, each as `head`; ``total``, the number of runs of the name or of all; and ``next``, the value of `before`
    for those that follow, None at the end.
    """
    files = _files(store, name)
    later = [file for file in files if before is None or file.stem < before]
    shown = later[:limit]
    following = shown[-1].stem if len(later) > limit else None
    return {"runs": [head(file) for file in shown], "total": len(files), "next": following}


def newest(store: Store, name: str) -> Row | None:
    """The head of the newest run of a name, or None."""
    files = _files(store, name)
    return head(files[0]) if files else None


def head(file: Path) -> Row:
    """The values of a run that a list shows.

    Keys: key, id, name, by, began, ended, seconds, status, until, message, steps (name, status, seconds), family,
    bundle, version, alias, metrics and decision; what the run did not come to is None.
    """
    facts = file.stat()
    place = (str(file), facts.st_mtime_ns, facts.st_size)
    with _guard:
        known = _heads.get(place)
        if known is not None:
            _heads.move_to_end(place)
    if known is None:
        known = _head(file.stem, read_json(file))
        with _guard:
            _heads[place] = known
            while len(_heads) > MAX_CACHED:
                _heads.popitem(last=False)
    return dict(known)


def whole(store: Store, name: str, key: str) -> Row:
    """A run as its record has it, with `head`'s values; `key` is its file's name, its id, or the first digits of that.

    Raises
    ------
    RegistryError
        There is no such run.
    """
    for file in _files(store, name):
        if key and (file.stem == key or file.stem.rpartition("-")[2].startswith(key[:8])):
            record = read_json(file)
            return {**_head(file.stem, record), "recipe": record["recipe"], "steps": list(_steps(record))}
    raise errors.RegistryError.build(
        f"console: run '{key}' of '{name}'", got="no such run", expected="the key of a run in the list of runs"
    )


def _files(store: Store, name: str | None) -> list[Path]:
    """Files of records, the newest first."""
    folder = store.root / "runs"
    names = [folder / name] if name is not None else _folders(folder)
    files = [file for each in names for file in (each / "history").glob("*.json")]
    return sorted(files, key=lambda file: file.stem, reverse=True)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _head(key: str, record: Row) -> Row:
    steps = list(_steps(record))
    by_name = {step["name"]: step for step in steps}

    def of(step: str, group: str) -> Row:
        return dict(by_name.get(step, {}).get(group) or {})

    train, deployed = of("train", "params"), of("deploy", "params")
    return {
        "key": key,
        **{name: record.get(name) for name in ("id", "name", "by", "began", "ended", "status", "until", "message")},
        "seconds": _seconds(record),
        "steps": [{part: step[part] for part in ("name", "status", "seconds")} for step in steps],
        "family": train.get("family"),
        "bundle": train.get("bundle"),
        "version": deployed.get("version"),
        "alias": deployed.get("alias"),
        "metrics": of("evaluate", "metrics"),
        "decision": of("monitor", "params").get("decision"),
    }


def _steps(record: Row) -> Iterator[Row]:
    for step in record.get("steps", ()):
        yield {**step, "seconds": _seconds(step)}


def _seconds(entry: Row) -> float | None:
    if not entry.get("began") or not entry.get("ended"):
        return None
    began, ended = (dt.datetime.fromisoformat(entry[name]) for name in ("began", "ended"))
    return round((ended - began).total_seconds(), 3)


def report_pages(store: Store, record: Row) -> dict[str, str]:
    """Pages of a run's steps that are there: name → path below the store. A later run of the name has written others.

    A store that was moved has them below its new place.
    """
    folder = Path("runs") / record["name"] / "reports"
    names = dict.fromkeys(Path(path).name for step in record["steps"] for path in step.get("reports", {}))
    return {Path(name).stem: (folder / name).as_posix() for name in names if (store.root / folder / name).is_file()}
