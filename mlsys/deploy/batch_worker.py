"""One piece of a batch: read, check, predict, write, count; the same in a task and in an actor.

The rows of a piece in bounded batches, of Parquet, CSV, JSON lines, pictures and texts.

Values of Parquet have types and must fit the model as those of a request; for CSV and JSON see
`mlsys.deploy.lines`. A PNG or JPEG is a row: its name as ``file``, and its bytes in the model's
column of images. So is a ``.txt`` file, with what it says in the column of texts.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import bundle, errors
from mlsys.deploy import lines
from mlsys.deploy.pieces import Batch, Piece, check_names
from mlsys.features.online.lookup import TableSource
from mlsys.predict import Predictor
from mlsys.predict.feature_lookup import NOTHING, LookupPlan
from mlsys.predict.validation import RequestValidator, Violation
from mlsys.recipe import Reading
from mlsys.registry import LedgerEntry
from mlsys.schema import Kind, Role, Schema
from mlsys.store import Store

__all__ = ["REJECTED", "BatchJob", "Count", "Scorer", "read_batches"]

BATCH_ROWS = 1 << 16
"""Rows in memory at a time."""

PICTURES = 256
"""Pictures or texts in memory at a time."""


def read_batches(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
    """The rows of a piece; `schema` names the columns that the model reads.

    Raises
    ------
    SourceError
        The file is damaged or in another encoding.
    """
    read = {"parquet": _parquet, "csv": lines.csv, "jsonl": lines.json_lines, "image": _pictures, "text": _documents}[
        piece.format
    ]
    try:
        yield from read(piece, schema, reading)
    except errors.MlsysError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise errors.SourceError.build(
            f"predict: file '{piece.name}'",
            got=str(error).split("\n", maxsplit=1)[0],
            expected=f"a {piece.format} file",
            hint="encoding and delimiter of text files can be given",
        ) from error


def _parquet(piece: Piece, schema: Schema, _: Reading) -> Iterator[Batch]:
    first = piece.first_row
    file = pq.ParquetFile(piece.path)
    check_names(piece, file.schema_arrow.names)
    if not file.metadata.num_rows:
        yield Batch(file.schema_arrow.empty_table(), {}, [])
    there = frozenset(file.schema_arrow.names)
    names = [name for name in schema.names if name in there]
    for batch in file.iter_batches(BATCH_ROWS, row_groups=list(piece.row_groups)):
        table = pa.Table.from_batches([batch])
        values = {name: table[name] for name in names}
        yield Batch(table, values, range(first, first + table.num_rows))
        first += table.num_rows


def _pictures(piece: Piece, schema: Schema, _: Reading) -> Iterator[Batch]:
    column = _only_column(piece, schema, Kind.IMAGE)
    for first in range(0, len(piece.files), PICTURES):
        files = piece.files[first : first + PICTURES]
        data = [Path(path).read_bytes() for _, path in files]
        names = pa.table({"file": [name for name, _ in files]})
        yield Batch(names, {column: pa.array(data, pa.binary())}, range(first, first + len(files)))


def _documents(piece: Piece, schema: Schema, reading: Reading) -> Iterator[Batch]:
    column = _only_column(piece, schema, Kind.TEXT)
    for first in range(0, len(piece.files), PICTURES):
        rows, names, texts, broken = [], [], [], []
        for row, (name, path) in enumerate(piece.files[first : first + PICTURES], first):
            data = Path(path).read_bytes()
            try:
                texts.append(data.decode(reading.encoding).removeprefix("\ufeff"))
            except UnicodeDecodeError as error:
                broken.append((row, f"{name}: not {reading.encoding} at byte {error.start}", data.decode("latin-1")))
            else:
                rows.append(row)
                names.append(name)
        yield Batch(
            pa.table({"file": pa.array(names, pa.string())}), {column: pa.array(texts, pa.string())}, rows, broken
        )


def _only_column(piece: Piece, schema: Schema, kind: Kind) -> str:
    """The column of the model that files of one kind fill."""
    columns = [column.name for column in schema if column.kind is kind]
    if len(columns) != 1:
        raise errors.SourceError.build(
            f"predict: files from '{piece.name}' on",
            got=f"a model that reads {len(columns) or 'no'} columns of {kind}s",
            expected="one column for them",
            hint="put them into a Parquet file or JSON lines, a column each",
        )
    return columns[0]


Looked = dict[str, dict[str, int]]
"""Join → status → rows."""

REASONS = 5
"""Reasons that are written for one rejected row; the first few say what is wrong with it."""

REJECTED = pa.schema([("file", pa.string()), ("row", pa.int64()), ("reasons", pa.string()), ("content", pa.string())])
"""Columns of the rejected rows: where they stood, why, and the row as JSON or as its text."""


@dataclass(frozen=True)
class BatchJob:
    """What every task needs to know."""

    root: Path
    folder: Path
    entry: LedgerEntry
    keys: tuple[str, ...]
    reading: Reading
    timezone: str | None


@dataclass
class Count:
    """What came of some rows.

    Attributes
    ----------
    first_reasons
        Why the first rejected row was rejected.
    unseen, rare
        Values that training never saw, or too seldom to keep them apart, by column.
    lookup
        Join → status → rows: matched, missing, too_old, or given by the file.
    """

    num_rows: int = 0
    num_rejected: int = 0
    first_reasons: str = ""
    unseen: dict[str, int] = field(default_factory=dict)
    rare: dict[str, int] = field(default_factory=dict)
    lookup: Looked = field(default_factory=dict)

    @classmethod
    def total(cls, counts: Iterable[Count]) -> Count:
        """Counts of all rows together."""
        whole = cls()
        for count in counts:
            whole.add(count)
        return whole

    def add(self, other: Count) -> None:
        """Count what came of other rows too."""
        self.num_rows += other.num_rows
        self.num_rejected += other.num_rejected
        self.first_reasons = self.first_reasons or other.first_reasons
        self.unseen = dict(Counter(self.unseen) + Counter(other.unseen))
        self.rare = dict(Counter(self.rare) + Counter(other.rare))
        names = {**self.lookup, **other.lookup}
        self.lookup = {
            name: dict(Counter(self.lookup.get(name, {})) + Counter(other.lookup.get(name, {}))) for name in names
        }


class Scorer:
    """The model, and what is done with a piece."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job
        store = Store.open(job.root)
        opened = bundle.open(store, job.entry.digest)
        self._predictor = Predictor(opened, source=TableSource.latest(store, opened.schema))
        self._lookup = self._predictor.lookup
        context = self._lookup.context if self._lookup else set()
        needed = opened.schema.select(self._predictor.contract.needed | context)
        self._contract = RequestValidator(needed, tuple(self._predictor.contract.needed), job.timezone)
        of_row = [opened.schema.one(role) for role in (Role.ID, Role.TIME)]
        self._default_keys = [name for name in of_row if name is not None]

    def piece(self, number: int, piece: Piece) -> Count:
        """Read, check, predict and write one piece.

        Raises
        ------
        RequestError
            A column that the model needs is missing.
        SourceError
            The file is damaged, or a key column is missing.
        """
        count = Count()
        name = f"part-{number:05d}.parquet"
        with _Part(self._job.folder / name) as kept, _Part(self._job.folder / "_rejected" / name) as apart:
            for batch in read_batches(piece, self._contract.schema, self._job.reading):
                predicted, rejected, counted = self._batch(piece, batch)
                kept.add(predicted)
                if rejected.num_rows:
                    apart.add(rejected)
                count.add(counted)
        return count

    def _batch(self, piece: Piece, batch: Batch) -> tuple[pa.Table, pa.Table, Count]:
        """Predicted rows and rejected rows of a batch, and what is counted of it."""
        table, faults, plan = self._checked(batch)
        missing = [fault for fault in faults if fault["row"] == "all"]
        if missing and batch.rows:
            raise errors.RequestError.of([{**fault, "row": f"all of {piece.name}"} for fault in missing])
        reasons: dict[int, list[Violation]] = {}
        for fault in faults:
            if isinstance(fault["row"], int):
                reasons.setdefault(fault["row"], []).append(fault)
        good = pa.array([row not in reasons for row in range(len(batch.rows))], pa.bool_())
        table, looked = table.filter(good), {}
        if self._lookup is not None:
            table, found = self._lookup.fill(table, plan)
            looked = {name: dict(counts) for name, counts in found.counts.items()}
        said = self._predictor.conformed_table(table)
        keys = {name: values.filter(good) for name, values in self._keys(piece, batch.source).items()}
        predicted = said.arrow(str(self._job.entry.version))
        _check_keys(keys, predicted.column_names)
        together = pa.table(keys | dict(zip(predicted.column_names, predicted.columns, strict=True)))
        rejected = _rejected(piece, batch, reasons)
        first = str(rejected["reasons"][0]) if rejected.num_rows else ""
        num_rows = together.num_rows + rejected.num_rows
        return together, rejected, Count(num_rows, rejected.num_rows, first, said.unseen, said.rare, looked)

    def _checked(self, batch: Batch) -> tuple[pa.Table, list[Violation], LookupPlan]:
        """Conformed columns with every fault, and the joined tables whose columns are to be looked up."""
        if self._lookup is None:
            return *self._contract.check(batch.values, len(batch.rows)), NOTHING
        faults: list[Violation] = []
        plan = self._lookup.plan(batch.values, "all", faults)
        table, others = self._contract.check(self._lookup.timed(batch.values, plan), len(batch.rows))
        return table, faults + others, plan

    def _keys(self, piece: Piece, source: pa.Table) -> dict[str, pa.ChunkedArray]:
        """Columns to carry over; one of nulls alone counts as text."""
        wanted = self._job.keys or tuple(name for name in self._default_keys if name in source.column_names)
        for name in wanted:
            if name not in source.column_names:
                raise errors.SourceError.build(
                    f"predict: key '{name}'",
                    got=f"no such column in '{piece.name}'",
                    expected="a column of the source",
                    hint=errors.did_you_mean(name, source.column_names),
                    field=name,
                )
        return {name: _typed(source[name]) for name in wanted}


class _Part:
    """A Parquet file that appears when it is complete; without tables there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._partial, table.schema)
        try:
            self._writer.write_table(table.cast(self._writer.schema))
        except pa.ArrowInvalid as error:
            raise errors.SourceError.build(
                "predict: key columns", got=str(error), expected="one type in all rows of a file"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


def _typed(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(pa.string()) if pa.types.is_null(values.type) else values


def _check_keys(keys: Iterable[str], predicted: Iterable[str]) -> None:
    for name in {*keys} & {*predicted}:
        raise errors.SourceError.build(
            f"predict: key '{name}'",
            got="the name of a column of the predictions",
            expected="another name",
            hint="rename the column in the source",
            field=name,
        )


def _rejected(piece: Piece, batch: Batch, reasons: Mapping[int, Sequence[Violation]]) -> pa.Table:
    """Rows that do not fit and records that are no rows, with nothing of them lost."""
    lines = [(piece.name, number, reason, text) for number, reason, text in batch.broken]
    for row, faults in sorted(reasons.items()):
        told = [f"{fault['field']}: got {fault['got']}, expected {fault['expected']}" for fault in faults[:REASONS]]
        content = json.dumps(_record(batch.source, row), default=_json, ensure_ascii=False)
        lines.append((piece.name, batch.rows[row], "; ".join(told), content))
    return pa.Table.from_pylist([dict(zip(REJECTED.names, line, strict=True)) for line in lines], schema=REJECTED)


def _json(value: object) -> str:
    """A value that JSON has no form for: bytes as base64, others as their text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _record(table: pa.Table, row: int) -> dict[str, Any]:
    return {name: table[name][row].as_py() for name in table.column_names}
