"""Everything that was made of a source: snapshots with its files, runs on them, versions, and their predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlsys import registry
from mlsys.collect import history
from mlsys.deploy import batch_records
from mlsys.recipe import secrets
from mlsys.registry import LedgerEntry
from mlsys.store import Store, digest_of_file
from mlsys.workflow import lineage, run_record
from mlsys.workflow.differences import DIGEST
from mlsys.workflow.lineage import BatchUse, Lineage, RunUse, SnapshotUse, VersionLineage

MAX_FILES = 10_000
"""Files of a folder whose bytes are digested to be looked for."""


@dataclass(frozen=True)
class SourceQuery:
    """A source that is asked for: digests of its bytes where they can be read, its names, and its text as in a recipe.

    A file with the same bytes is the same whatever it is called; one of the same name is named as such.
    """

    texts: frozenset[str]
    sha256: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, text: str) -> SourceQuery:
        """Read a path, a URI, or the SHA-256 of a file."""
        if DIGEST.fullmatch(text):
            return cls(frozenset(), frozenset([text]), frozenset())
        path = Path(text).expanduser()
        files = [path] if path.is_file() else sorted(path.rglob("*"))[:MAX_FILES] if path.is_dir() else []
        digests = frozenset(digest_of_file(file) for file in files if file.is_file())
        shown = secrets.shown(text)
        texts = {shown} | ({str(path.absolute())} if "://" not in text else set())
        return cls(frozenset(texts), digests, frozenset({shown, PurePosixPath(shown).name}))

    def match(self, files: Sequence[Mapping[str, Any]], source: str = "") -> tuple[str, tuple[str, ...]]:
        """Say how some files of a source are meant, by ``bytes``, ``source`` or ``name``, and which; empty if not."""
        same = tuple(str(file["name"]) for file in files if file.get("sha256") in self.sha256)
        if same:
            return "bytes", same
        if source and source in self.texts:
            return "source", tuple(str(file["name"]) for file in files)
        named = tuple(str(file["name"]) for file in files if file["name"] in self.names)
        return ("name", named) if named else ("", ())

    def is_below(self, place: str) -> bool:
        """Tell whether the source is this place, a folder or a URI, or lies in it."""
        return any(text == place or text.startswith(f"{place.rstrip('/')}/") for text in self.texts)


def is_source(text: str) -> bool:
    """True for a path that is there, a URI, and a digest."""
    return bool(DIGEST.fullmatch(text)) or "://" in text or Path(text).expanduser().exists()


def of_source(store: Store, text: str) -> Lineage:
    """The lineage of a source: what was collected from it, and what came of that."""
    query = SourceQuery.of(text)
    snapshots = tuple(_snapshots(store, query, text))
    digests = {snapshot.digest for snapshot in snapshots}
    versions = tuple(_versions(store, query, digests))
    runs = tuple(_runs(store, digests | {version.snapshot for version in versions if version.snapshot}))
    batches = tuple(_batches(store, query))
    gone = []
    if not snapshots and all(batch.by != "output" for batch in batches):
        gone.append("no snapshot in the store has rows of it")
    if not (snapshots or versions or batches):
        gone.append("what was made of it before and deleted since left no trace that names it")
    return Lineage("source", text, snapshots=snapshots, runs=runs, batches=batches, versions=versions, gone=tuple(gone))


def _snapshots(store: Store, query: SourceQuery, text: str) -> Iterator[SnapshotUse]:
    """Snapshots with files of the source, or the one whose own digest was asked for."""
    names = _names(store)
    for folder in sorted((store.root / "objects" / "snapshot").glob("*")):
        if not store.has("snapshot", folder.name):
            continue
        files = store.facts("snapshot", folder.name).get("sources", [])
        by, matched = query.match(files)
        if folder.name == text:
            by, matched = "digest", tuple(str(file["name"]) for file in files)
        if by:
            yield SnapshotUse(folder.name, by, matched, tuple(names.get(folder.name, ())))


def _batches(store: Store, query: SourceQuery) -> Iterator[BatchUse]:
    """Batch predictions that read files of the source, or whose output it is, or a file in it."""
    for record in batch_records.records(store):
        by = "output" if query.is_below(record.output) else query.match(record.files, record.source)[0]
        if by:
            yield from lineage.batch_uses(store, [record], by)


def _names(store: Store) -> dict[str, list[str]]:
    """Names for which each snapshot was collected: of recipes, and of a recipe's feature tables."""
    names: dict[str, list[str]] = {}
    for file in sorted((store.root / "runs").rglob(history.FILE)):
        name = file.parent.relative_to(store.root / "runs").as_posix()
        for entry in history.load(file.parent)["entries"]:
            if name not in names.setdefault(entry["snapshot"], []):
                names[entry["snapshot"]].append(name)
    return names


def _versions(store: Store, query: SourceQuery, digests: set[str]) -> Iterator[VersionLineage]:
    """Versions whose receipt names files of the source, or whose rows are one of the snapshots."""
    for name in registry.model_names(store):
        matches = [(entry, _match(store, entry, query, digests)) for entry in registry.versions(store, name)]
        rows = lineage.logged(store, name) if any(by for _, by in matches) else {}
        yield from (lineage.described(store, entry, rows, by=by) for entry, by in matches if by)


def _match(store: Store, entry: LedgerEntry, query: SourceQuery, digests: set[str]) -> str:
    """The way from a source to a version: its files or its text, or else a snapshot; empty if there is none."""
    receipt, made = lineage.made_of(store, entry)
    sources = receipt.sources if receipt is not None else []
    by = next(filter(None, (query.match(each.files, each.source)[0] for each in sources)), "")
    return by or ("snapshot" if made.get("snapshot") in digests else "")


def _runs(store: Store, digests: set[str]) -> Iterator[RunUse]:
    """Runs whose step collect came to one of the snapshots, or used one as a feature table."""
    for folder in sorted((store.root / "runs").glob("*/history")):
        for record in run_record.records(store, folder.parent.name):
            collected: Mapping[str, Any] = next((s for s in record["steps"] if s["name"] == "collect"), {})
            used = {digest for _, digest in collected.get("objects", ())}
            used.add(collected.get("params", {}).get("snapshot"))
            if used & digests:
                yield RunUse(record["name"], record["id"], record["began"], record["status"])
