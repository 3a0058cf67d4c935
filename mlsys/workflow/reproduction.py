"""Reproduction of a registered version: the bundle is made again from its receipt, and what differs is listed.

First the receipt is held against what is here now: the code behind the bundle, the versions of libraries, the values
of the recipe as this version reads them, and the objects that the run left in the store. Then the comparison, the
trials and the final fit are made again as in a replay (`mlsys.workflow.replays`), on the rows that are stored. Where
that gives another bundle, both predict the test rows, which is recorded as any opening of them. No version is made and
no alias moves.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mlsys import bundle, errors, registry
from mlsys.bundle import Bundle
from mlsys.console import Console
from mlsys.dataset import Split
from mlsys.evaluate import access_log
from mlsys.predict import Predictor
from mlsys.recipe import Recipe, parse
from mlsys.registry import LedgerEntry
from mlsys.reports.formats import count
from mlsys.store import Store
from mlsys.workflow import receipts, replays
from mlsys.workflow.differences import DIGEST, Rows, changed, leaves
from mlsys.workflow.receipts import Receipt
from mlsys.workflow.replays import FormerRun, Replay

DIFFERS = 5
"""Exit code for another bundle, or for one that cannot be made again; 1 and 2 are for failures and wrong use."""

MAX_SHOWN = 12
"""Differences of a kind that are listed."""


@dataclass(frozen=True)
class Difference:
    """A difference between the time of the receipt and now.

    `kind` is ``code``, ``library``, ``recipe``, ``object`` (no longer in the store) or ``result`` (a value that the two
    bundles state of themselves), and `where` the module, distribution, key or kind of object.
    """

    kind: str
    where: str
    then: str
    now: str


@dataclass(frozen=True)
class Origin:
    """A version with its receipt, and what is no longer as it was; `recipe` is None where it can no longer be read."""

    entry: LedgerEntry
    opened: Bundle
    receipt: Receipt
    recipe: Recipe | None
    differences: tuple[Difference, ...]
    is_possible: bool

    @classmethod
    def resolve(cls, store: Store, target: str) -> Origin:
        """Find the origin of ``NAME@WHICH``, and what differs from it now.

        Raises
        ------
        RegistryError, BundleError, StoreError
            There is no such version, its bundle is not whole, or has no receipt.
        """
        name, _, which = target.partition("@")
        entry = registry.resolve(store, name, which or "champion")
        opened = bundle.open(store, entry.digest)
        receipt = receipts.read(opened)
        recipe, rows = _recipe(receipt)
        gone = list(_gone(store, receipt))
        code, libraries = receipts.current_code(store)
        differences = [
            *_limited("code", changed(receipt.code, code)),
            *_limited("library", changed(receipt.libraries, _installed(receipt.libraries) | libraries)),
            *_limited("recipe", rows),
            *gone,
        ]
        needed = [each for each in gone if (each.where, each.then) != ("snapshot", _rows(receipt))]
        return cls(entry, opened, receipt, recipe, tuple(differences), recipe is not None and not needed)


@dataclass(frozen=True)
class Reproduction:
    """The outcome of a reproduction.

    Attributes
    ----------
    digest, reproduced
        Digest of the bundle, and of the one that was made now; the latter None where none could be made.
    unequal_files
        Files of the bundle whose bytes differ, or that only one of the two has.
    num_test_rows, largest_difference
        Test rows that both predicted, and the largest absolute difference of a probability, or of a predicted number;
        None where the bundles are the same, or cannot be compared.
    replay
        The comparison and the trials, fit by fit; None where nothing was fitted.
    """

    name: str
    version: int
    digest: str
    reproduced: str | None
    differences: tuple[Difference, ...]
    unequal_files: tuple[str, ...] = ()
    num_test_rows: int = 0
    largest_difference: float | None = None
    replay: Replay | None = None

    @property
    def is_equal(self) -> bool:
        """True if the same bundle was made again."""
        return self.digest == self.reproduced

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0, or `DIFFERS`."""
        return 0 if self.is_equal else DIFFERS

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "reproduced": self.reproduced,
            "equal": self.is_equal,
            "differences": [asdict(each) for each in self.differences],
            "unequal_files": list(self.unequal_files),
            "test_rows": self.num_test_rows,
            "largest_difference": self.largest_difference,
            "replay": None if self.replay is None else self.replay.to_json(),
        }

    @property
    def summary(self) -> str:
        """The verdict, a table of what differs, and what that does to files and predictions."""
        lines = [f"{self.name} version {self.version}, bundle {self.digest[:12]}: {self._verdict()}"]
        rows = [(each.kind, each.where, _short(each.then), _short(each.now)) for each in self.differences]
        if rows:
            table = [("differs", "", "then", "now"), *rows]
            widths = [max(len(row[column]) for row in table) for column in range(3)]
            lines += [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d}".rstrip() for a, b, c, d in table]
        if self.unequal_files:
            lines.append(f"  files that differ: {', '.join(self.unequal_files)}")
        if self.largest_difference is not None:
            rows_text = count(self.num_test_rows, "test row")
            lines.append(f"  predictions of {rows_text} differ by {self.largest_difference:.3g} at most")
        return "\n".join(lines)

    def _verdict(self) -> str:
        if self.reproduced is None:
            return "cannot be made again: what is missing stands below"
        if not self.is_equal:
            return f"made again from its receipt, it is another one, {self.reproduced[:12]}"
        without = "; what differs has no effect on it" if self.differences else ""
        return f"made again from its receipt, it is the same{without}"


def reproduce(store: Store, origin: Origin, console: Console | None = None) -> Reproduction:
    """Make the bundle of a version again, and say what differs; trials need a cluster.

    Raises
    ------
    StoreError
        The records of the run are those of a version that recorded less.
    """
    entry, receipt = origin.entry, origin.receipt
    before = (entry.name, entry.version, entry.digest)
    if origin.recipe is None or not origin.is_possible:
        return Reproduction(*before, None, origin.differences)
    done = replays.replay(store, FormerRun(receipt.steps, origin.recipe), console)
    now = done.digests["bundle"][1]
    if now == entry.digest:
        return Reproduction(*before, now, origin.differences, replay=done)
    other = bundle.open(store, now)
    rows, largest = _largest_difference(store, receipt, origin.opened, other)
    return Reproduction(
        *before,
        now,
        (*origin.differences, *_limited("result", _stated(origin.opened, other))),
        done.unequal_files,
        rows,
        largest,
        done,
    )


def _limited(kind: str, rows: Iterable[tuple[str, str, str]]) -> list[Difference]:
    """The first differences of a kind, and the number of the others."""
    every = list(rows)
    shown = [Difference(kind, *row) for row in every[:MAX_SHOWN]]
    more = len(every) - len(shown)
    return [*shown, *([Difference(kind, f"and {more:,} more", "", "")] if more else [])]


def _short(text: str) -> str:
    """A text of the table, a digest by its first digits."""
    return text[:12] if DIGEST.fullmatch(text) else text


def _installed(names: Mapping[str, str]) -> dict[str, str]:
    """Versions of some distributions in this installation, without those that it does not have."""
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = versions.get(name) or importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _recipe(receipt: Receipt) -> tuple[Recipe | None, list[tuple[str, str, str]]]:
    """The recipe as this version reads it, and the keys of which that makes another value."""
    try:
        recipe = parse(receipt.recipe)
    except errors.RecipeError as error:
        where, *facts = str(error).splitlines()
        return None, [(where.removeprefix("recipe: "), "as in the receipt", " ".join(" ".join(facts).split()))]
    then, now = yaml.safe_load(receipt.recipe), recipe.model_dump(mode="json")
    return recipe, list(changed(leaves(then), leaves(now)))


def _rows(receipt: Receipt) -> str:
    return str(receipt.steps["collect"]["snapshot"])


def _gone(store: Store, receipt: Receipt) -> Iterator[Difference]:
    """Objects of the run that the store no longer has."""
    for kind, digest in receipt.objects():
        if not store.has(kind, digest):
            yield Difference("object", kind, digest, "not in the store")


def _stated(before: Bundle, now: Bundle) -> Rows:
    """Values that two bundles state of themselves and that differ, beside versions, which the receipt has."""
    then, later = (leaves(each.manifest) for each in (before, now))
    yield from (row for row in changed(then, later) if not row[0].startswith("provenance.versions."))


def _largest_difference(store: Store, receipt: Receipt, before: Bundle, now: Bundle) -> tuple[int, float | None]:
    """Test rows that were predicted by both, and the largest difference; the opening of the rows is recorded."""
    split = Split.open(store, str(receipt.steps["collect"]["split"])).only("test")
    rows = access_log.digest_of_rows(split)
    reason = f"a reproduction of bundle {before.digest[:12]}"
    access_log.record(store, rows, name=receipt.name, split=split.digest, bundle=now.digest, reason=reason)
    table = split.table("test")
    outputs = [_outputs(Predictor(each), table) for each in (before, now)]
    if outputs[0].shape != outputs[1].shape or not outputs[0].size:
        return table.num_rows, None
    return table.num_rows, float(np.max(np.abs(outputs[0] - outputs[1])))


def _outputs(predictor: Predictor, table: Any) -> NDArray[np.float64]:
    predicted = predictor.table(table)
    values = predicted.prediction if predicted.probabilities is None else predicted.probabilities
    return np.asarray(values, dtype=np.float64)
