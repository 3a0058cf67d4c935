"""What earlier collections left that still holds: the scan and the stored rows of a piece, by content.

A *scan* is keyed by the digest of the piece's bytes and how they are read, *stored rows* by
these, the piece's name and the layout, both by the code of `pipeline` and all that it imports. So a new
file in a source means that this file is read and the others are not; a killed collection
goes on behind the last finished piece; and what is made of the parts is the same, bit for
bit, as if all had been read at once. Pieces without a digest (databases, built-in sets) are
read each time.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys.code_graph import code_digest
from mlsys.collect.quarantine import QUARANTINE
from mlsys.collect.storage_schema import ColumnScan, StorageSchema, Written
from mlsys.collect.type_inference import WordCounts
from mlsys.readers.base import BadRecord, Fragment, TypeCounts
from mlsys.recipe import Reading
from mlsys.schema import ROW
from mlsys.store import Store, digest_json

__all__ = ["PART", "REJECTED", "Cache", "Stored", "link"]

PART, REJECTED = "rows.parquet", "quarantine.parquet"
"""Files of a stored piece."""


@dataclass(frozen=True)
class Stored:
    """The rows of a piece at rest: the files `PART` and `REJECTED` in `folder`, and their counts."""

    folder: Path
    written: Written
    is_reused: bool = False


@dataclass(frozen=True)
class Cache:
    """Scans and stored rows in a store."""

    store: Store
    code: str

    @classmethod
    def of(cls, store: Store) -> Cache:
        return cls(store, code_digest(store, "mlsys.collect.pipeline"))

    def scan(self, piece: Fragment, sha256: str, *how: Any) -> ColumnScan | None:
        """The scan of these bytes read like this, under the piece's present name."""
        record = self.store.recall("scan", self._key(piece, sha256, *how))
        if record is None:
            return None
        evidence = {name: TypeCounts(**found) for name, found in record["evidence"].items()}
        for found in evidence.values():
            found.typed = dict.fromkeys(found.typed, piece.name)
        return ColumnScan(
            record["num_rows"], evidence, [BadRecord(*one) for one in record["broken"]], sha256, is_reused=True
        )

    def note_scan(self, piece: Fragment, found: ColumnScan, *how: Any) -> None:
        record = {
            "num_rows": found.num_rows,
            "evidence": {name: _seen(one) for name, one in found.evidence.items()},
            "broken": [[one.row, one.reason, one.content] for one in found.broken],
        }
        self.store.remember("scan", self._key(piece, str(found.sha256), *how), record)

    def part(
        self, piece: Fragment, sha256: str, reading: Reading, layout: StorageSchema, first_row: int
    ) -> Stored | None:
        """The stored rows of the piece under this layout, counted from `first_row`."""
        record = self.store.recall("part", self._part_key(piece, sha256, reading, layout))
        if record is None or not self.store.has("part", record["object"]):
            return None
        if record["first_row"] != first_row:
            record = self._moved(piece, sha256, reading, layout, first_row, record)
        return self._open(record["object"], is_reused=True)

    def note_part(
        self, piece: Fragment, sha256: str, reading: Reading, layout: StorageSchema, first_row: int, made: Stored
    ) -> Stored:
        """Move stored rows to where later collections find them."""
        digest = self.store.commit("part", made.folder, _to_json(made.written))
        record = {"object": digest, "first_row": first_row}
        self.store.remember("part", self._part_key(piece, sha256, reading, layout), record)
        return self._open(digest, is_reused=False)

    def _open(self, digest: str, *, is_reused: bool) -> Stored:
        return Stored(self.store.path("part", digest), _of_json(self.store.facts("part", digest)), is_reused)

    def _moved(
        self,
        piece: Fragment,
        sha256: str,
        reading: Reading,
        layout: StorageSchema,
        first_row: int,
        record: dict[str, Any],
    ) -> dict[str, Any]:
        """The same rows with other numbers, for a file has come or gone before them."""
        old = self._open(record["object"], is_reused=True)
        with self.store.staging() as folder:
            by = first_row - record["first_row"]
            _shifted(old.folder / PART, folder / PART, ROW, by)
            _shifted(old.folder / REJECTED, folder / REJECTED, "row", by)
            self.note_part(piece, sha256, reading, layout, first_row, replace(old, folder=folder))
        moved = self.store.recall("part", self._part_key(piece, sha256, reading, layout))
        return moved or record

    def _part_key(self, piece: Fragment, sha256: str, reading: Reading, layout: StorageSchema) -> str:
        return self._key(piece, sha256, reading.model_dump(mode="json"), piece.name, layout.to_json())

    def _key(self, piece: Fragment, sha256: str, *how: Any) -> str:
        packed = Path(piece.location).suffix.lower()  # tells how the bytes are unpacked and parted
        return digest_json([sha256, piece.format, packed, list(how), self.code])


def link(file: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _shifted(file: Path, target: Path, name: str, by: int) -> None:
    """A copy in which one column of row numbers is moved; row groups stay as they were."""
    source = pq.ParquetFile(file)
    schema = QUARANTINE if name == "row" else source.schema_arrow
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for number in range(source.num_row_groups):
            group = source.read_row_group(number)
            moved = pc.add(group[name], pa.scalar(by, pa.int64()))
            writer.write_table(group.set_column(group.schema.get_field_index(name), name, moved).cast(schema))


def _seen(evidence: TypeCounts) -> dict[str, Any]:
    """What was counted at all: a wide table has a record for each of its columns."""
    return {name: value for name, value in vars(evidence).items() if value}


def _to_json(written: Written) -> dict[str, Any]:
    record = dict(vars(written))
    record["wording"] = {name: dict(vars(found)) for name, found in written.wording.items()}
    record["classes"] = [[label, count] for label, count in written.classes.items()]
    return record


def _of_json(record: dict[str, Any]) -> Written:
    counts = {
        "rules": Counter(record["rules"]),
        "nulls": Counter(record["nulls"]),
        "wording": {name: WordCounts(**found) for name, found in record["wording"].items()},
        "classes": dict(record["classes"]),
    }
    return Written(**(record | counts))
