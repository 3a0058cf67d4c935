"""Batch prediction: files in, files out.

::

    <output>/part-00000.parquet …   keys, prediction, probability_<class> …, model_version
    <output>/_rejected/…            rows that do not fit: file, row, reasons, the row as JSON
    <output>/_result.json           model, digest, counts, how it ran

Small inputs run in one task, large ones in many workers, each of which
holds the model once; both write the same files. The folder appears whole or not at all:
everything is written beside it and moved into place at the end. Readers of Parquet folders
skip names that start with an underscore.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlsys import cluster, errors, registry
from mlsys.deploy import pieces
from mlsys.deploy.batch_worker import BatchJob, Count, Scorer
from mlsys.deploy.pieces import Piece
from mlsys.recipe import Reading
from mlsys.store import Store, storage_error, write_json

__all__ = ["Result", "predict"]

RESULT = "_result.json"


@dataclass(frozen=True)
class Result:
    """What was done; ``_result.json`` holds the same.

    Attributes
    ----------
    unseen, rare
        Values that training never saw, or too seldom to keep them apart, counted by column.
    lookup
        Join → status → rows.
    """

    output: str
    model: str
    version: int
    digest: str
    num_rows: int
    num_rejected: int
    unseen: dict[str, int]
    rare: dict[str, int]
    lookup: dict[str, dict[str, int]]
    plan: str

    @property
    def summary(self) -> str:
        """One line for people."""
        apart = f", {self.num_rejected:,} rejected (see {self.output}/_rejected)" if self.num_rejected else ""
        who = f"{self.model} version {self.version}"
        return f"{self.num_rows - self.num_rejected:,} rows predicted by {who} → {self.output}{apart}"


def predict(
    store: Store,
    model: str,
    source: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    keys: Sequence[str] = (),
    reading_options: Reading | None = None,
    timezone: str | None = None,
    max_rejected_fraction: float = 0.01,
    plan: str = "auto",
) -> Result:
    """Predict every row of some files.

    Parameters
    ----------
    model
        ``name``, ``name@alias``, ``name@version`` or ``name@digest``.
    source
        Parquet, CSV or JSON-lines files, or PNG, JPEG or text files: paths, folders or globs,
        on a storage that every node sees.
    output
        Folder to make; one that an earlier call made is replaced.
    keys
        Columns to carry over as they are in the source; by default the id and time columns.
    reading_options
        Delimiter, encoding and null values of text files.
    timezone
        Zone of times without one; by default such a time is a reason to reject its row.
    max_rejected_fraction
        More rejected rows than this stop the call, and no output is made.
    plan
        ``task``, ``cluster`` or ``auto``, which decides by size.

    Raises
    ------
    RegistryError, BundleError, SourceError
        The model or the source is not there or damaged.
    RequestError
        A column that the model needs is missing from a file.
    ContractError
        Too many rows do not fit.
    StoreError
        The output cannot be written, or the folder holds something else.
    """
    name, _, which = model.partition("@")
    entry = registry.resolve(store, name, which or "champion")
    found = pieces.find(source)
    target = Path(output).absolute()
    _check_target(target)
    with _beside(target) as folder:
        job = BatchJob(store.root, folder, entry, tuple(keys), reading_options or Reading(), timezone)
        how = _plan(found, plan)
        count = Count.total(how.run(_score, job, found))
        _check_rejected(count, max_rejected_fraction)
        unseen, rare = (dict(sorted(found.items())) for found in (count.unseen, count.rare))
        rows = count.num_rows, count.num_rejected
        result = Result(str(output), *entry, *rows, unseen, rare, count.lookup, f"{how.kind}: {how.reason}")
        write_json(folder / RESULT, asdict(result))
        _replace(target, folder)
    return result


def _plan(found: Sequence[Piece], wanted: str) -> cluster.ExecutionPlan:
    """By the bytes of the files: how many rows text files hold is known only after they were read."""
    num_bytes = sum(piece.num_bytes for piece in found)
    how = cluster.plan(0, num_bytes, wanted)
    files = len({piece.path for piece in found})
    return cluster.ExecutionPlan(
        how.kind, f"{files} files, {num_bytes / 1e6:,.1f} MB{how.reason[how.reason.index(':') :]}"
    )


def _score(job: BatchJob, found: Sequence[Piece]) -> list[Count]:
    """Predict all pieces; a worker opens the model once, and one that is repeated writes the same files again."""
    return cluster.map(_score_piece, list(enumerate(found)), state=functools.partial(Scorer, job))


def _score_piece(scorer: Scorer, numbered: tuple[int, Piece]) -> Count:
    return scorer.piece(*numbered)


def _check_rejected(count: Count, limit: float) -> None:
    if count.num_rejected > limit * count.num_rows:
        raise errors.ContractError.build(
            "predict: rows that do not fit the model",
            got=f"{count.num_rejected:,} of {count.num_rows:,}; the first: {count.first_reasons}",
            expected=f"at most {limit:.1%}",
            hint="correct the files, or allow more with max_rejected_fraction",
        )


def _check_target(target: Path) -> None:
    """Only what an earlier call made is replaced."""
    if target.exists() and not (target / RESULT).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise errors.StoreError.build(
            f"predict: output '{target.name}'",
            got="something else is there",
            expected="a new folder, or one of predictions",
            hint="name another folder",
        )


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new folder next to the target, deleted unless it was moved."""
    folder = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        if isinstance(error, errors.MlsysError):
            raise
        raise storage_error(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(target: Path, folder: Path) -> None:
    """Move the finished folder to its name; an old one stays until the new one can take its place."""
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
