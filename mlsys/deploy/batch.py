"""Batch prediction: a source in, files out, whatever is killed on the way.

::

    <output>/part-00000.parquet …   keys, prediction, probability_<class> …, model_version, predicted_at, run_id
    <output>/_rejected/…            rows that do not fit: file, row, reasons, the row as JSON
    <output>/_result.json           model, digest, counts, files, how it ran
    <output>/run=<run_id>/…         the same for each run, where runs are appended

A source is all that ``data.source`` of a recipe may be, and it is read as the model's training rows were.
Small inputs run in one task, large ones in many workers, each of which loads the model once; both write the
same files. Readers of Parquet folders skip names that start with an underscore.

A call that is killed goes on where it was when it is run again: fragments that were finished are not read again, and
the rows have the id and the time of the first attempt. A run that is complete is not done again: whoever repeats a
call, or appends the same files twice, gets the rows once. Each run leaves a record in the store
(`mlsys.deploy.batch_records`), by which lineage finds it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mlsys import bundle, cluster, errors, locks, models, registry
from mlsys.deploy import batch_runs
from mlsys.deploy.batch_job import BatchCounts, BatchJob, FinishedFragment, NumberedFragment, Share
from mlsys.deploy.batch_output import OutputFolder
from mlsys.deploy.batch_records import Recorder
from mlsys.deploy.batch_roots import Roots
from mlsys.deploy.batch_staging import REJECTED, RESULT, final_name
from mlsys.deploy.batch_worker import predict_fragments
from mlsys.predict.explanations import MAX_COLUMNS
from mlsys.readers import conversion
from mlsys.readers import registry as readers
from mlsys.readers.base import Fragment
from mlsys.recipe import ReadOptions, override, secrets
from mlsys.store import Store, digest_json

WORDS = (
    (r"^collect:", "predict:"),
    (r"^recipe: 'data\.", "predict: '--set "),
    (r"\bdata\.(reading\.\w+|timezone): ", r"--set \1="),
    (r"\bdata\.(?=reading\b|timezone\b)", ""),
)
"""What readers say of a recipe's source, in the words of this command."""


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch prediction; ``_result.json`` holds the same.

    Attributes
    ----------
    unseen, rare
        Values that training never saw, or too seldom to keep them apart, counted by column.
    lookup
        Join → status → rows.
    plan
        How it ran, with the reason.
    num_fragments, num_reused
        Parts of the source that a task reads, and those that an earlier attempt had finished.
    files
        The Parquet files of the output.
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
    run_id: str = ""
    run_key: str = ""
    predicted_at: str = ""
    num_fragments: int = 0
    num_reused: int = 0
    files: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One line for people."""
        rejected = f", {self.num_rejected:,} rejected (see {self.output}/{REJECTED})" if self.num_rejected else ""
        who = f"{self.model} version {self.version}"
        reused = ""
        if self.num_reused:
            part = "all" if self.num_reused == self.num_fragments else f"{self.num_reused:,} of {self.num_fragments:,}"
            reused = f"; {part} parts of the source were finished before"
        return f"{self.num_rows - self.num_rejected:,} rows predicted by {who} → {self.output}{rejected}{reused}"

    @classmethod
    def stored(cls, record: dict[str, Any]) -> BatchResult:
        """The result that an earlier call left in its output."""
        known = {each.name for each in fields(cls)}
        result = cls(**{name: value for name, value in record.items() if name in known})
        return replace(result, num_reused=result.num_fragments, files=tuple(result.files))


def predict(
    store: Store,
    model: str,
    source: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    keys: Sequence[str] = (),
    settings: Iterable[str] = (),
    max_rejected_fraction: float = 0.01,
    plan: str = "auto",
    append: bool = False,
    run_id: str | None = None,
    roots: Roots | None = None,
    share: Share | None = None,
    explain: int = 0,
) -> BatchResult:
    """Predict every row of a source.

    Parameters
    ----------
    model
        ``name``, ``name@alias``, ``name@version`` or ``name@digest``.
    source
        Paths, folders, globs, URIs, ``package://…``, tables of a lake or a database, as in ``data.source`` of a
        recipe; files on a storage that every node sees.
    output
        Folder to make, or the URI of one; one that an earlier call made is replaced.
    keys
        Columns to carry over as they are in the source; by default the id and time columns.
    settings
        Values in place of those that training read its source with: ``reading.delimiter=;``,
        ``reading.query=SELECT …``, ``timezone=UTC``.
    max_rejected_fraction
        More rejected rows than this stop the call, and no output is made.
    plan
        ``task``, ``cluster`` or ``auto``, which decides by size.
    append
        Add the rows to those of other runs, in a folder of their own in the output.
    run_id
        The id of the run; by default one that the same model, files and settings always have.
    roots
        Bound the files that are read, for a source that a client names.
    share
        Bound the workers, which then leave the CPU to others, and follow what happens.
    explain
        Add a column with the contributions of so many columns to each prediction.

    Raises
    ------
    RegistryError, BundleError, SourceError
        The model or the source is not there or damaged.
    RecipeError
        A setting is not known or has no effect on the source.
    RequestError
        A column that the model needs is missing from a file, a file lies outside of the roots, or the model's
        predictions cannot be explained.
    ContractError
        Too many rows do not fit.
    StoreError
        The output cannot be written, or the folder holds something else.
    ClusterError
        Workers died more often than they are started again; another call goes on.
    """
    name, _, which = model.partition("@")
    entry = registry.resolve(store, name, which or "champion")
    with _words_of_this_command():
        # 1. what is to be done, and what the same run did before
        opened = bundle.open(store, entry.digest)
        check_explain(explain, opened.family)
        options, fragments = _fragments(opened.read_options, source, list(settings))
        if roots is not None:
            roots.check(file.location for each in fragments for file in (each.files or (each,)))
        run = batch_runs.of(store, opened, entry, keys, options, fragments, run_id, explain=explain)
        target = OutputFolder(output, f"run={run.id}" if append else None)
        recorder = Recorder(store, entry, source, target.location, share is not None)
        with _alone(store, target), recorder.recording(run, fragments) as counts:
            finished = target.result()
            if finished is not None and finished.get("run_key") == run.key and target.holds(finished["files"]):
                return counts.of(BatchResult.stored(finished))
            # 2. predict what is left of it, and publish all
            with target.staging(run.mark) as staged:
                run = run.begun(staged.begin(run.plan))
                if staged.is_committed():
                    return counts.of(BatchResult.stored(staged.read_json(RESULT)))
                job = BatchJob(store.root, staged, entry, tuple(keys), options, run, roots, explain)
                shown = secrets.shown(target.location if append else str(output))
                how = _plan(fragments, plan)
                return counts.of(_predicted(job, fragments, how, share, max_rejected_fraction, shown))


def check_explain(explain: int, family: str) -> None:
    """Refuse a number of columns that no explanation has, and a family without explanations.

    Raises
    ------
    RequestError
        It is one.
    """
    if not 0 <= explain <= MAX_COLUMNS:
        expected = f"a number of columns from 1 to {MAX_COLUMNS:,}"
        raise errors.RequestError.unexplained("number of columns", str(explain), expected)
    if explain:
        models.check_explained(family)


def _predicted(
    job: BatchJob,
    fragments: Sequence[Fragment],
    how: cluster.ExecutionPlan,
    share: Share | None,
    max_rejected_fraction: float,
    output: str,
) -> BatchResult:
    """Predict the fragments that no earlier attempt finished, and commit the files of all."""
    # 1. what is left
    notes = job.output.notes(job.run.fragments)
    finished = [FinishedFragment.noted(number, record) for number, record in notes.items()]
    numbered = map(NumberedFragment, range(len(fragments)), fragments, job.run.fragments)
    rest = [each for each in numbered if each.number not in notes]
    if share is not None:
        share.on_begin(len(fragments))
        for each in finished:
            share.on_finished(each)
    with _deaths_as_errors():
        finished += how.run(predict_fragments, job, rest, share) if rest else []
    finished.sort(key=lambda each: each.number)
    # 2. all of it
    count = BatchCounts.total(each.counts for each in finished)
    _check_rejected(count, max_rejected_fraction)
    names = [name for each in finished for name in each.files]
    result = BatchResult(
        output, *job.entry, count.num_rows, count.num_rejected, dict(sorted(count.unseen.items())),
        dict(sorted(count.rare.items())), count.lookup, f"{how.kind}: {how.reason}", job.run.id, job.run.key,
        job.run.predicted_at.isoformat(), len(fragments), len(notes), tuple(map(final_name, names)),
    )  # fmt: skip
    job.output.write_json(RESULT, asdict(result))
    job.output.commit([*names, RESULT])
    return result


@contextlib.contextmanager
def _deaths_as_errors() -> Iterator[None]:
    """The death of a worker, a machine or a connection as an error of the cluster; what a function raised as it is."""
    try:
        yield
    except Exception as error:
        from ray.exceptions import RayError, RayTaskError

        if not isinstance(error, RayError) or isinstance(error, RayTaskError):
            raise
        raise errors.ClusterError.build(
            "predict: a worker of the cluster", got=f"{type(error).__name__}: its process died again and again",
            expected="a process that ends its fragment",
            hint="run it again, which goes on after what is finished; `mlsys logs` says why processes died",
        ) from error  # fmt: skip


def _check_rejected(count: BatchCounts, max_fraction: float) -> None:
    if count.num_rejected > max_fraction * count.num_rows:
        raise errors.ContractError.build(
            "predict: rows that do not fit the model",
            got=f"{count.num_rejected:,} of {count.num_rows:,}; the first: {count.first_reasons}",
            expected=f"at most {max_fraction:.1%}",
            hint="correct the files; --set says how they are read, if not as in training",
        )


def _alone(store: Store, target: OutputFolder) -> contextlib.AbstractContextManager[None]:
    """Exclude other calls with the same output: the second finds the work of the first."""
    name = f"batch-{digest_json(target.location)[:16]}"
    return locks.hold(store.root / "locks" / name, "predict")


def _fragments(
    trained: ReadOptions, source: str | Path | Sequence[str | Path], settings: list[str]
) -> tuple[ReadOptions, list[Fragment]]:
    """Options to read the source with, and its fragments; training's format counts only where names tell none."""
    undecided = trained.model_copy(update={"reading": trained.reading.model_copy(update={"format": "auto"})})
    options = override(undecided, settings)
    conversion.check_zone(options.timezone)
    fragments = readers.find(source, options.reading, default_format=trained.reading.format)
    filled = [fragment for fragment in fragments if not fragment.is_empty()] or fragments[:1]
    return options, [part for fragment in filled for part in readers.split(fragment)]


@contextlib.contextmanager
def _words_of_this_command() -> Iterator[None]:
    try:
        yield
    except (errors.SourceError, errors.RecipeError) as error:
        raise error.reworded(*WORDS) from None


def _plan(fragments: Sequence[Fragment], plan: str) -> cluster.ExecutionPlan:
    """By the bytes of the files: how many rows text files hold is known only after they were read."""
    num_bytes = sum(fragment.num_bytes for fragment in fragments)
    how = cluster.plan(0, num_bytes, plan)
    num_files = len({fragment.location for fragment in fragments})
    reason = how.reason[how.reason.index(":") :]
    return cluster.ExecutionPlan(how.kind, f"{num_files} files, {num_bytes / 1e6:,.1f} MB{reason}")
