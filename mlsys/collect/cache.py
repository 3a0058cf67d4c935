"""Cache of earlier collections: the scan and the stored rows of a fragment, found by the digest of its bytes.

A *scan* is keyed by the digest of the fragment's bytes and how they are read, *stored rows* by these, the
fragment's name and the storage schema, both by the code of `pipeline` and all that it imports. So only new
files are read, and the snapshot is the same, bit for bit, as if all had been read at once. Fragments
without a digest (databases, built-in sets) are read each time.
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
from mlsys.collect.storage_schema import FragmentScan, RowCounts, StorageSchema
from mlsys.collect.type_inference import WordCounts
from mlsys.readers.base import BadRecord, Fragment, TypeCounts
from mlsys.recipe import Reading
from mlsys.schema import ROW
from mlsys.store import Store, digest_json

PART, REJECTED = "rows.parquet", "quarantine.parquet"
"""Files of a stored fragment."""


@dataclass(frozen=True)
class StoredFragment:
    """The rows of a fragment at rest: the files `PART` and `REJECTED` in `folder`, and their counts."""

    folder: Path
    counts: RowCounts
    is_reused: bool = False


@dataclass(frozen=True)
class Cache:
    """Scans and stored rows in a store."""

    store: Store
    code: str

    @classmethod
    def of(cls, store: Store) -> Cache:
        """The cache of a store, for the code as it is now."""
        return cls(store, code_digest(store, "mlsys.collect.pipeline"))

    def scan(self, fragment: Fragment, sha256: str, *how: Any) -> FragmentScan | None:
        """The scan of these bytes read like this, under the fragment's present name."""
        record = self.store.recall("scan", self._key(fragment, sha256, *how))
        if record is None:
            return None
        type_counts = {name: TypeCounts(**counts) for name, counts in record["type_counts"].items()}
        for counts in type_counts.values():
            counts.typed = dict.fromkeys(counts.typed, fragment.name)
        bad_records = [BadRecord(*values) for values in record["bad_records"]]
        messages = record.get("messages", [])
        return FragmentScan(record["num_rows"], type_counts, bad_records, sha256, is_reused=True, messages=messages)

    def note_scan(self, fragment: Fragment, scan: FragmentScan, *how: Any) -> None:
        """Store the scan of a fragment for later collections."""
        record = {
            "num_rows": scan.num_rows,
            "type_counts": {  # without zeros: a wide table has a record for each of its columns
                name: {key: value for key, value in vars(counts).items() if value}
                for name, counts in scan.type_counts.items()
            },
            "messages": scan.messages,
            "bad_records": [[record.row, record.reason, record.content] for record in scan.bad_records],
        }
        self.store.remember("scan", self._key(fragment, str(scan.sha256), *how), record)

    def part_key(self, fragment: Fragment, sha256: str, reading: Reading, storage: StorageSchema) -> str:
        """The key of the rows of these bytes, read like this and stored under this schema."""
        return self._key(fragment, sha256, reading.model_dump(mode="json"), fragment.name, storage.to_json())

    def part(self, key: str, first_row: int) -> StoredFragment | None:
        """The stored rows of this key, counted from `first_row`."""
        record = self.store.recall("part", key)
        if record is None or not self.store.has("part", record["object"]):
            return None
        part = self._open(record["object"], is_reused=True)
        if record["first_row"] == first_row:
            return part
        with self.store.staging() as folder:  # a file came or went before it: the same rows, numbered anew
            by = first_row - record["first_row"]
            _shift(part.folder / PART, folder / PART, ROW, by)
            _shift(part.folder / REJECTED, folder / REJECTED, "row", by)
            moved = self.note_part(key, first_row, replace(part, folder=folder))
        return replace(moved, is_reused=True)

    def note_part(self, key: str, first_row: int, part: StoredFragment) -> StoredFragment:
        """Move stored rows to where later collections find them."""
        digest = self.store.commit("part", part.folder, _to_json(part.counts))
        self.store.remember("part", key, {"object": digest, "first_row": first_row})
        return self._open(digest, is_reused=False)

    def _open(self, digest: str, *, is_reused: bool) -> StoredFragment:
        return StoredFragment(self.store.path("part", digest), _from_json(self.store.facts("part", digest)), is_reused)

    def _key(self, fragment: Fragment, sha256: str, *how: Any) -> str:
        suffix = Path(fragment.location).suffix.lower()  # tells how the bytes are unpacked and parted
        columns = [[each.name, each.value, each.type] for each in fragment.columns]
        return digest_json([sha256, fragment.format, suffix, list(how), self.code, *columns])


def link(file: Path, target: Path) -> None:
    """Give a file another name; a copy where the file system has no links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _shift(file: Path, target: Path, name: str, by: int) -> None:
    """Copy a file with one column of row numbers moved; row groups stay as they were."""
    source = pq.ParquetFile(file)
    schema = QUARANTINE if name == "row" else source.schema_arrow
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for number in range(source.num_row_groups):
            group = source.read_row_group(number)
            shifted = pc.add(group[name], pa.scalar(by, pa.int64()))
            writer.write_table(group.set_column(group.schema.get_field_index(name), name, shifted).cast(schema))


def _to_json(counts: RowCounts) -> dict[str, Any]:
    record = dict(vars(counts))
    record["words"] = {name: dict(vars(words)) for name, words in counts.words.items()}
    record["classes"] = [[label, count] for label, count in counts.classes.items()]
    return record


def _from_json(record: dict[str, Any]) -> RowCounts:
    counts = {
        "rules": Counter(record["rules"]),
        "nulls": Counter(record["nulls"]),
        "words": {name: WordCounts(**words) for name, words in record["words"].items()},
        "unread": {name: Counter(texts) for name, texts in record["unread"].items()},
        "classes": dict(record["classes"]),
    }
    return RowCounts(**(record | counts))
