"""Tables of metrics of the last run, whose rows are taken again for windows that no row has come into since.

Each table lies beside the state of the log, with a stamp for every window: the name of the file that holds the window,
which is another one as soon as a row comes into it. So a table that is older than the state, or was made by other code,
gives the rows of those windows alone that are still the same.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys.monitor.windows import Window, WindowKey
from mlsys.store import write_atomic

PROFILE, DRIFT = "profile.parquet", "drift.parquet"
FILES = frozenset({PROFILE, DRIFT})
"""Names of the tables, in the folder of a state as in that of a judgement."""

STAMPS = b"mlsys.stamps"
"""Key of a table's metadata: JSON of the code and of the stamps by start of a window."""


@dataclass
class EarlierRows:
    """Rows of an earlier table, by window, with the starts of the windows that have not changed."""

    table: pa.Table | None = None
    unchanged: frozenset[str] = frozenset()
    places: dict[WindowKey, tuple[int, int]] = field(default_factory=dict)

    def of(self, window: Window, previous: Window | None = None) -> pa.Table | None:
        """The rows of a window, if they are known and it is the same as then, and so is the one before it."""
        starts = {each.start.isoformat() for each in (window, previous) if each is not None}
        if self.table is None or window.key not in self.places or not starts <= self.unchanged:
            return None
        first, end = self.places[window.key]
        return self.table.slice(first, end - first)


@dataclass(frozen=True)
class StoredTables:
    """The tables of a state: `stamps` are those of its windows now, `code` is the digest of what makes the rows."""

    folder: Path | None
    stamps: Mapping[str, str]
    code: str

    def of_no_state(self) -> StoredTables:
        """Tables that are neither known nor kept."""
        return replace(self, folder=None)

    def earlier(self, name: str) -> EarlierRows:
        """The rows that the table of this name has of windows that did not change; none where it cannot be read."""
        if self.folder is None:
            return EarlierRows()
        try:
            table = pq.read_table(self.folder / name)
            value = json.loads((table.schema.metadata or {})[STAMPS])
            unchanged = {start for start, stamp in value["stamps"].items() if self.stamps.get(start) == stamp}
            is_same = value["code"] == self.code
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return EarlierRows()
        return EarlierRows(table, frozenset(unchanged), _places(table)) if is_same else EarlierRows()

    def save(self, name: str, table: pa.Table, earlier: EarlierRows) -> None:
        """Keep a table for the next run, unless the `earlier` one has all of its windows."""
        if self.folder is None or (earlier.table is not None and earlier.unchanged == set(self.stamps)):
            return
        stamps, sink = json.dumps({"code": self.code, "stamps": dict(self.stamps)}).encode(), io.BytesIO()
        pq.write_table(table.replace_schema_metadata({STAMPS: stamps}), sink)
        write_atomic(self.folder / name, sink.getvalue())


def _places(table: pa.Table) -> dict[WindowKey, tuple[int, int]]:
    """First row and end of each window or slice, whose rows stand together."""
    starts = pc.struct_field(table["window"], "start").to_pylist()
    slices = (table[name].to_pylist() for name in ("slice_key", "slice_value"))
    places: dict[WindowKey, tuple[int, int]] = {}
    for number, key in enumerate(zip(starts, *slices, strict=True)):
        places[key] = (places[key][0] if key in places else number, number + 1)
    return places
