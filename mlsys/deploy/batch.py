"""Batch prediction: a source in, files out.

::

    <output>/part-00000.parquet …   keys, prediction, probability_<class> …, model_version
    <output>/_rejected/…            rows that do not fit: file, row, reasons, the row as JSON
    <output>/_result.json           model, digest, counts, how it ran

A source is all that ``data.source`` of a recipe may be, and it is read as the model's training rows were.
Small inputs run in one task, large ones in many workers, each of which loads the model once; both write the
same files. Readers of Parquet folders skip names that start with an underscore.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlsys import bundle, cluster, errors, registry
from mlsys.deploy.batch_output import REJECTED, RESULT, OutputFolder
from mlsys.deploy.batch_worker import BatchCounts, BatchJob, predict_fragments
from mlsys.readers import conversion
from mlsys.readers import registry as readers
from mlsys.readers.base import Fragment
from mlsys.recipe import ReadOptions, override, secrets
from mlsys.store import Store

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
        rejected = f", {self.num_rejected:,} rejected (see {self.output}/{REJECTED})" if self.num_rejected else ""
        who = f"{self.model} version {self.version}"
        return f"{self.num_rows - self.num_rejected:,} rows predicted by {who} → {self.output}{rejected}"


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

    Raises
    ------
    RegistryError, BundleError, SourceError
        The model or the source is not there or damaged.
    RecipeError
        A setting is not known or has no effect on the source.
    RequestError
        A column that the model needs is missing from a file.
    ContractError
        Too many rows do not fit.
    StoreError
        The output cannot be written, or the folder holds something else.
    """
    name, _, which = model.partition("@")
    entry = registry.resolve(store, name, which or "champion")
    target = OutputFolder(output)
    with _words_of_this_command():
        options, fragments = _fragments(bundle.open(store, entry.digest).read_options, source, list(settings))
        with target.staging() as staged:
            job = BatchJob(store.root, staged, entry, tuple(keys), options)
            how = _plan(fragments, plan)
            count = BatchCounts.total(how.run(predict_fragments, job, fragments))
            if count.num_rejected > max_rejected_fraction * count.num_rows:
                where = "predict: rows that do not fit the model"
                got = f"{count.num_rejected:,} of {count.num_rows:,}; the first: {count.first_reasons}"
                expected = f"at most {max_rejected_fraction:.1%}"
                hint = "correct the files; --set says how they are read, if not as in training"
                raise errors.ContractError.build(where, got=got, expected=expected, hint=hint)
            unseen, rare = dict(sorted(count.unseen.items())), dict(sorted(count.rare.items()))
            rows = count.num_rows, count.num_rejected
            result = BatchResult(
                secrets.shown(str(output)), *entry, *rows, unseen, rare, count.lookup, f"{how.kind}: {how.reason}"
            )
            staged.write_json(RESULT, asdict(result))
    return result


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
