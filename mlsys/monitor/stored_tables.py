"""Tables of metrics of the last run, whose rows are taken again for windows that no row has come into since.

Each table lies beside the state of the log, with two stamps for every window: the name of the file that holds the
window, which is another one as soon as a row comes into it, and a digest of what is known of its labels. So a table
that is older than the state, or was made by other code, gives the rows of those windows alone that are still the same;
where only labels have come, those that labels have no part in.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlsys.monitor.windows import Window, WindowKey
from mlsys.store import digest_json, write_atomic

PROFILE, DRIFT = "profile.parquet", "drift.parquet"
FILES = frozenset({PROFILE, DRIFT})
"""Names of the tables, in the folder of a state as in that of a judgement."""

STAMPS = b"mlsys.stamps"
"""Key of a table's metadata: JSON of the code and of the stamps by start of a window."""


@dataclass
class EarlierRows:
    """Rows of an earlier table, by window, with the starts of the windows whose rows, and labels, have not changed."""

    table: pa.Table | None = None
    unchanged: frozenset[str] = frozenset()
    labelled_as_before: frozenset[str] = frozenset()
    places: dict[WindowKey, tuple[int, int]] = field(default_factory=dict)

    def of(self, window: Window, previous: Window | None = None) -> pa.Table | None:
        """The rows of a window, if they are known and it is the same as then, and so is the one before it."""
        place = self.place(window, self.unchanged, previous)
        return None if place is None or self.table is None else self.table.slice(place[0], place[1] - place[0])

    def whole(self, window: Window, previous: Window | None = None) -> tuple[int, int] | None:
        """First row and end of a window's rows, if it is the same as then with its labels, and so is the one before."""
        return self.place(window, self.unchanged & self.labelled_as_before, previous)

    def place(self, window: Window, same: Collection[str], previous: Window | None) -> tuple[int, int] | None:
        """First row and end of a window's rows, if they are known and it is among the `same`, as is the one before."""
        is_same = all(each.start.isoformat() in same for each in (window, previous) if each is not None)
        return self.places.get(window.key) if is_same else None


class TableParts:
    """Parts of a new table in their order: rows that are made, and places of an earlier table."""

    def __init__(self, earlier: EarlierRows | None) -> None:
        self._earlier = pa.table({}) if earlier is None or earlier.table is None else earlier.table
        self._parts: list[pa.Table | tuple[int, int]] = []

    def add(self, *parts: pa.Table | tuple[int, int]) -> None:
        """Add tables, or places of the earlier table, of which those that follow one another become one."""
        for part in parts:
            last = self._parts[-1] if self._parts else None
            if isinstance(part, tuple) and isinstance(last, tuple) and last[1] == part[0]:
                self._parts[-1] = (last[0], part[1])
            else:
                self._parts.append(part)

    def table(self) -> pa.Table:
        """Put all parts together."""
        return pa.concat_tables(map(self._rows, self._parts)).combine_chunks()

    def _rows(self, part: pa.Table | tuple[int, int]) -> pa.Table:
        return self._earlier.slice(part[0], part[1] - part[0]) if isinstance(part, tuple) else part


@dataclass(frozen=True)
class StoredTables:
    """The tables of a state: `stamps` are those of its windows now, `code` is the digest of what makes the rows.

    `labels` are digests of what is known of the labels of windows, for those that have any.
    """

    folder: Path | None
    stamps: Mapping[str, str]
    code: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def with_labels(self, windows: Sequence[Window]) -> StoredTables:
        """The tables with the stamps of the labels of windows and of their slices."""
        stamps: dict[str, list[str]] = {}
        for window in windows if self.folder is not None else ():
            if window.labels_stamp:
                stamps.setdefault(window.start.isoformat(), []).append(window.labels_stamp)
        return replace(self, labels={start: digest_json(some) for start, some in stamps.items()})

    def of_no_state(self) -> StoredTables:
        """Tables that are neither known nor kept."""
        return replace(self, folder=None)

    def earlier(self, name: str, schema: pa.Schema | None = None) -> EarlierRows:
        """The rows that the table of this name has of windows that did not change; none where it cannot be read.

        Its pages have check sums, and a table of another `schema` is none.
        """
        if self.folder is None:
            return EarlierRows()
        try:
            table = pq.read_table(self.folder / name, page_checksum_verification=True)
            value = json.loads((table.schema.metadata or {})[STAMPS])
            stamps, labels, is_same = value["stamps"], value["labels"], value["code"] == self.code
            places = _places(table)
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return EarlierRows()
        if not is_same or (schema is not None and not table.schema.equals(schema)):
            return EarlierRows()
        unchanged = frozenset(start for start, stamp in stamps.items() if self.stamps.get(start) == stamp)
        as_before = frozenset(start for start in unchanged if self.labels.get(start) == labels.get(start))
        return EarlierRows(table.replace_schema_metadata(None), unchanged, as_before, places)

    def save(self, name: str, table: pa.Table, earlier: EarlierRows) -> None:
        """Keep a table for the next run, unless the `earlier` one has all of its windows."""
        if self.folder is None or (earlier.table is not None and earlier.labelled_as_before == set(self.stamps)):
            return
        stamps = {"code": self.code, "stamps": dict(self.stamps), "labels": dict(self.labels)}
        sink = io.BytesIO()
        stamped = table.replace_schema_metadata({STAMPS: json.dumps(stamps).encode()})
        pq.write_table(stamped, sink, write_page_checksum=True)
        write_atomic(self.folder / name, sink.getvalue())


def _places(table: pa.Table) -> dict[WindowKey, tuple[int, int]]:
    """First row and end of each window or slice, whose rows stand together."""
    keys = [pc.struct_field(table["window"], "start"), table["slice_key"], table["slice_value"]]
    rows = pl.DataFrame({str(number): pl.from_arrow(key) for number, key in enumerate(keys)}).with_row_index("row")
    spans = rows.group_by("0", "1", "2").agg(pl.col("row").min().alias("first"), pl.col("row").max().alias("last"))
    return {(start, key, value): (first, last + 1) for start, key, value, first, last in spans.iter_rows()}
