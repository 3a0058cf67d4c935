"""Records of batch predictions: which version predicted which files into which output, a small file each.

::

    <store>/registry/batch/<name>/<mark>-<output>.json    one of each run and output; the last attempt replaces it

They lie beside the queue of batch jobs and have what that does not: runs that nobody queued, such as those of
`mlsys predict`, and the files that were read, by SHA-256. A file is digested once, before it is read; what is on
another storage, and more bytes than a disk gives in a moment, are known by name, size and time alone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from mlsys import errors, locks
from mlsys.deploy.batch_runs import BatchRun
from mlsys.readers import files
from mlsys.readers.base import Fragment
from mlsys.readers.files import File
from mlsys.recipe import secrets
from mlsys.registry import LedgerEntry
from mlsys.store import Store, digest_json, digest_of_file, read_json, write_json

MAX_FILES = 1_000
"""Files of a run that its record names; their number has all."""

MAX_DIGESTED = 4 << 30
"""Bytes of a run's files that are digested at most."""

MAX_RECORDS = 1_000
"""Records of a name; older ones are forgotten, as the queue forgets jobs."""


@dataclass(frozen=True)
class BatchRecord:
    """A batch prediction.

    Attributes
    ----------
    source, output
        As they were named, local ones as absolute paths, passwords masked.
    files
        ``name``, ``bytes`` and ``sha256`` of the files that were read, the last None where it is not known.
    is_job
        The queue has it, too.
    began_at, ended_at
        Of the attempt that ended it.
    """

    run_id: str
    run_key: str
    name: str
    version: int
    digest: str
    source: str
    output: str
    files: tuple[dict[str, Any], ...]
    num_files: int
    is_job: bool
    who: str
    began_at: str
    status: Literal["succeeded", "failed"] = "failed"
    ended_at: str = ""
    num_rows: int = 0
    num_rejected: int = 0
    error: str | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> BatchRecord:
        """Read what was written, by a later version of mlsys, too."""
        known = {each.name for each in fields(cls)}
        return cls(**{**{key: item for key, item in value.items() if key in known}, "files": tuple(value["files"])})


class CountedRows(Protocol):
    """A result that counts its rows."""

    @property
    def num_rows(self) -> int: ...

    @property
    def num_rejected(self) -> int: ...


Result = TypeVar("Result", bound=CountedRows)


@dataclass
class RecordedRows:
    """Rows of a run that is recorded."""

    num_rows: int = 0
    num_rejected: int = 0

    def of(self, result: Result) -> Result:
        """Count the rows of a result, and give it back."""
        self.num_rows, self.num_rejected = result.num_rows, result.num_rejected
        return result


@dataclass(frozen=True)
class Recorder:
    """Notes how the runs of a version end in a store; `output` is the place in which the run appears."""

    store: Store
    entry: LedgerEntry
    source: str | Path | Sequence[str | Path]
    output: str
    is_job: bool = False

    @contextlib.contextmanager
    def recording(self, run: BatchRun, fragments: Sequence[Fragment]) -> Iterator[RecordedRows]:
        """Record the run that is made inside, whether it ends well or with an error of ours.

        A run that is complete and has its record is not recorded again.
        """
        file = _folder(self.store, self.entry.name) / f"{run.mark}-{digest_json(self.output)[:8]}.json"
        counts = RecordedRows()
        if _is_complete(file, run.key):
            yield counts
            return
        record = self._begun(run, fragments)
        try:
            yield counts
        except errors.MlsysError as error:
            _write(file, replace(record, ended_at=_now(), error=str(error)))
            raise
        _write(file, replace(record, status="succeeded", ended_at=_now(), **vars(counts)))

    def _begun(self, run: BatchRun, fragments: Sequence[Fragment]) -> BatchRecord:
        sources = [self.source] if isinstance(self.source, str | Path) else self.source
        named = {(each.name, each.location): each for part in fragments for each in (part.files or (_file(part),))}
        return BatchRecord(
            run.id, run.key, *self.entry,
            ", ".join(_shown(each) for each in sources), _shown(self.output), tuple(_digested([*named.values()])),
            len(named), self.is_job, locks.who(), run.predicted_at.isoformat(),
        )  # fmt: skip


def records(store: Store, name: str | None = None) -> list[BatchRecord]:
    """The records of a name, or of all, newest first; a damaged one is left out."""
    readable = []
    for file in (store.root / "registry" / "batch").glob(f"{name or '*'}/*.json"):
        with contextlib.suppress(errors.StoreError, KeyError, TypeError):
            readable.append(BatchRecord.from_json(read_json(file)))
    return sorted(readable, key=lambda record: (record.ended_at, record.run_id), reverse=True)


def of_run(store: Store, run_id: str) -> list[BatchRecord]:
    """The records of a run by its id, newest first."""
    return [record for record in records(store) if record.run_id == run_id]


def is_replaced(record: BatchRecord, later: Sequence[BatchRecord]) -> bool:
    """Tell whether a later run has put other rows into the output of a record."""
    after = (each for each in later if each.status == "succeeded" and each.ended_at > record.ended_at)
    return any((each.output, each.run_key != record.run_key) == (record.output, True) for each in after)


def _is_complete(file: Path, run_key: str) -> bool:
    """Tell whether a file is the record of this run, which ended well."""
    if not file.is_file():
        return False
    with contextlib.suppress(errors.StoreError, KeyError, TypeError):
        record = BatchRecord.from_json(read_json(file))
        return (record.run_key, record.status) == (run_key, "succeeded")
    return False


def _write(file: Path, record: BatchRecord) -> None:
    """Replace the record of a run, and forget the oldest; predictions do not fail for want of their record."""
    with contextlib.suppress(errors.StoreError, OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(record))
        every = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for old in every[: max(0, len(every) - MAX_RECORDS)]:
            old.unlink(missing_ok=True)


def _digested(every: Sequence[File]) -> Iterator[dict[str, Any]]:
    """Name, size and SHA-256 of the first files."""
    left = MAX_DIGESTED
    for file in every[:MAX_FILES]:
        sha256, path = None, Path(file.location)
        if not files.scheme(file.location) and path.is_file() and file.num_bytes <= left:
            left -= file.num_bytes
            with contextlib.suppress(OSError):
                sha256 = digest_of_file(path)
        yield {"name": file.name, "bytes": file.num_bytes, "sha256": sha256}


def _file(fragment: Fragment) -> File:
    return File(secrets.shown(fragment.name), fragment.location, fragment.num_bytes)


def _shown(place: str | Path) -> str:
    """A place as records have it: absolute if it is a path that is there."""
    text = str(place)
    is_local = not files.scheme(text) and Path(text).expanduser().exists()
    return str(Path(text).expanduser().absolute()) if is_local else secrets.shown(text)


def _folder(store: Store, name: str) -> Path:
    return store.root / "registry" / "batch" / name


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
