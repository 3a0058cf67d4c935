"""Predict the fragments of a source: read, convert, check, predict, write and count, in a task of the cluster or here.

Cells are read by `mlsys.readers` and converted by `mlsys.readers.conversion`, as training rows were. A file that is a
row (a picture, a text) fills the model's column of the reader's name, or its only column of that kind.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlsys import bundle, cluster, errors
from mlsys.deploy import sizes
from mlsys.deploy.batch_job import BatchCounts, BatchJob, FinishedFragment, NumberedFragment, Share
from mlsys.deploy.batch_roots import Roots
from mlsys.deploy.batch_staging import REJECTED, StagedFolder, attempt_name
from mlsys.features.online.lookup import TableSource
from mlsys.predict import Predictor, explanations
from mlsys.predict.coercion import Misfit
from mlsys.predict.feature_lookup import NO_LOOKUP, LookupPlan
from mlsys.predict.validation import Faults, RequestValidator, Violation
from mlsys.readers import conversion, folders
from mlsys.readers import registry as readers
from mlsys.readers.base import BadRecord, Batch, Fragment, TypeCounts, as_python
from mlsys.schema import Column, Kind, Role, Schema, arrow_type
from mlsys.store import Store

BATCH_BYTES = 1 << 26
"""Bytes of values that are converted and predicted at a time; of one row there may be more."""

PICTURE_BYTES = 1 << 18
"""Bytes that a picture is taken to have at least: of one that is given by its path they are known once it is read."""

REASONS = 5
"""Reasons that are written for one rejected row; the first few say what is wrong with it."""

EXPLAINED = [f"{explanations.NAME}.{path}" for path in ("of", "scale", "contributions.list.element.column")]
"""Columns of a Parquet file in explanations whose values repeat."""

REJECTED_ROWS = pa.schema(
    [("file", pa.string()), ("row", pa.int64()), ("reasons", pa.string()), ("content", pa.string())]
)
"""Columns of the rejected rows: where they stood, why, and the row as JSON or as its text."""


def predict_fragments(
    job: BatchJob, fragments: Sequence[NumberedFragment], share: Share | None = None
) -> list[FinishedFragment]:
    """Predict fragments; a worker loads the model once, and one that is repeated writes other files with the rows."""
    share = share or Share()
    return cluster.map(
        BatchPredictor.predict_fragment,
        fragments,
        state=functools.partial(BatchPredictor, job),
        on_result=lambda finished, *_: share.on_finished(finished),
        at_most=share.workers,
        while_waiting=share.while_waiting,
        in_threads=True,
    )


class BatchPredictor:
    """A loaded model, and the way of a fragment through it."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job
        store = Store.open(job.root)
        opened = bundle.open(store, job.entry.digest)
        self._predictor = Predictor(opened, job.options.timezone, source=TableSource.latest(store, opened.schema))
        self._lookup = self._predictor.lookup
        context = self._lookup.context if self._lookup else set()
        schema = opened.schema.select(self._predictor.contract.needed | context)
        self._contract = RequestValidator(schema, tuple(self._predictor.contract.needed), job.options.timezone)
        of_row = [opened.schema.name_of(role) for role in (Role.ID, Role.TIME)]
        self._default_keys = [name for name in of_row if name is not None]

    def predict_fragment(self, numbered: NumberedFragment) -> FinishedFragment:
        """Read, check, predict and write one fragment, and note that it is finished.

        Raises
        ------
        RequestError
            A column that the model needs is missing.
        SourceError
            The file is damaged, or a key column is missing.
        """
        fragment, name = numbered.fragment, attempt_name(numbered.number)
        counts, output = [], self._job.output
        changed = fragment.changed()
        with _Part(output, name) as predicted_rows, _Part(output, f"{REJECTED}/{name}") as rejected_rows:
            for batch, bad_records in self._batches(fragment):
                predicted, reasons, counted = self._batch(fragment, batch)
                rejected = _rejected(fragment, batch, reasons, bad_records)
                predicted_rows.add(predicted)
                if rejected.num_rows:
                    rejected_rows.add(rejected)
                counted.num_rows += rejected.num_rows
                counted.num_rejected = rejected.num_rows
                counted.first_reasons = str(rejected["reasons"][0]) if rejected.num_rows else ""
                counts.append(counted)
        fragment.check_unchanged(changed)
        written = tuple(part.name for part in (predicted_rows, rejected_rows) if part.num_rows is not None)
        finished = FinishedFragment(numbered.number, written, BatchCounts.total(counts))
        record = {"key": numbered.key, "files": list(written), "counts": asdict(finished.counts)}
        output.note(numbered.number, record)
        return finished

    def _batches(self, fragment: Fragment) -> Iterator[tuple[Batch, list[BadRecord]]]:
        """Batches with the bad records since the last one; at least one, so that an output without rows has columns."""
        bad_records: list[BadRecord] = []
        passed = num_batches = 0
        for batch in readers.batches(fragment, self._job.options.reading, bad_records):
            for part in self._bounded(fragment, batch):
                yield part, bad_records[passed:]
                passed, num_batches = len(bad_records), num_batches + 1
        if not num_batches or passed < len(bad_records):
            yield Batch(pa.table({}), np.arange(0)), bad_records[passed:]

    def _bounded(self, fragment: Fragment, batch: Batch) -> Iterator[Batch]:
        """Divide a batch by the bytes of its values; a picture that is given by its path weighs what one may."""
        table = batch.table
        weights, names = sizes.row_bytes(table), _column_names(fragment, self._contract.schema, table.column_names)
        for column in self._contract.schema:
            if column.kind is Kind.IMAGE and column.name in names:
                weights = np.maximum(weights, PICTURE_BYTES)
        parts = list(sizes.spans((weights, BATCH_BYTES)))
        if len(parts) < 2:
            yield batch
            return
        for start, stop in parts:
            part = table.slice(start, stop - start)
            json = {name: _of_part(counts, table[name], part[name]) for name, counts in batch.json.items()}
            yield Batch(part, batch.rows[start:stop], json)

    def _batch(self, fragment: Fragment, batch: Batch) -> tuple[pa.Table, dict[int, list[Violation]], BatchCounts]:
        """Predicted rows, the violations of the others by their place in the batch, and counts."""
        # 1. convert and check; a column that is missing is missing in all rows
        values = self._values(fragment, batch)
        table, violations, plan = self._checked(values, len(batch.rows))
        missing = [each for each in violations if each["row"] == "all"]
        if missing and len(batch.rows):
            raise errors.RequestError.of([{**each, "row": f"all of {fragment.name}"} for each in missing])
        reasons: dict[int, list[Violation]] = {}
        for each in violations:
            if isinstance(each["row"], int):
                reasons.setdefault(each["row"], []).append(each)
        # 2. look up and predict the rows that fit
        is_good = np.ones(len(batch.rows), bool)
        is_good[list(reasons)] = False
        mask = pa.array(is_good) if reasons else None
        table, lookup = table if mask is None else table.filter(mask), {}
        if self._lookup is not None:
            table, looked = self._lookup.fill(table, plan)
            lookup = {name: dict(counts) for name, counts in looked.counts.items()}
        predictions = self._predictor.conformed_table(table)
        made = predictions.arrow(str(self._job.entry.version))
        if self._job.explain:
            explained = self._predictor.explain(table, predictions).arrow(self._job.explain)
            made = made.append_column(explanations.NAME, explained)
        predicted = self._with_run(made)
        # 3. put the keys beside the predictions
        keys = self._keys(fragment, batch)
        if mask is not None:
            keys = {name: column.filter(mask) for name, column in keys.items()}
        for name in keys.keys() & {*predicted.column_names}:
            got = "the name of a column of the predictions"
            hint = "rename the column in the source"
            raise errors.SourceError.build(f"predict: key '{name}'", got=got, expected="another name", hint=hint)
        together = pa.table(keys | dict(zip(predicted.column_names, predicted.columns, strict=True)))
        counts = BatchCounts(together.num_rows, unseen=predictions.unseen, rare=predictions.rare, lookup=lookup)
        return together, reasons, counts

    def _with_run(self, predicted: pa.Table) -> pa.Table:
        """Predictions with the time and the id of the run, by which rows that are appended are told apart."""
        run, num_rows = self._job.run, predicted.num_rows
        at = pa.scalar(run.predicted_at, pa.timestamp("us", "UTC"))
        table = predicted.append_column("predicted_at", pa.repeat(at, num_rows))
        return table.append_column("run_id", pa.repeat(run.id, num_rows))

    def _values(self, fragment: Fragment, batch: Batch) -> dict[str, Any]:
        """The columns that the model knows, in their types; a value that does not fit is a `Misfit`."""
        names = _column_names(fragment, self._contract.schema, batch.table.column_names)
        numbers = readers.numbers(fragment, self._job.options.reading)
        zone = self._job.options.timezone
        values: dict[str, Any] = {}
        for column in self._contract.schema:
            if column.name in names:
                written = batch.table[names[column.name]].combine_chunks()
                if column.kind is Kind.IMAGE:
                    values[column.name] = _pictures(written, fragment.location, self._job.roots)
                else:
                    notation = self._notation(column.name, written, batch.json.get(names[column.name]))
                    values[column.name] = _typed(written, column, zone, numbers, notation)
        return values

    def _notation(self, name: str, written: pa.Array, json_types: TypeCounts | None) -> str | None:
        """The notation of a column's texts; numbers of JSON and databases have none."""
        counts = replace(json_types, count=len(written) - written.null_count) if json_types else TypeCounts()
        return self._job.options.reading.notations.get(name) if counts.are_texts else None

    def _checked(self, values: Mapping[str, Any], num_rows: int) -> tuple[pa.Table, list[Violation], LookupPlan]:
        """Conformed columns with every violation, and the joined tables whose columns are to be looked up."""
        if self._lookup is None:
            return *self._contract.check(values, num_rows), NO_LOOKUP
        violations = Faults(limit=None)
        plan = self._lookup.plan(values, "all", violations)
        table, others = self._contract.check(self._lookup.timed(values, plan), num_rows)
        return table, violations + others, plan

    def _keys(self, fragment: Fragment, batch: Batch) -> dict[str, pa.ChunkedArray]:
        """Columns to carry over as they are; one of nulls alone counts as text."""
        table = batch.table
        names = self._job.keys or tuple(name for name in self._default_keys if name in table.column_names)
        for name in names:
            if name not in table.column_names:
                where = f"predict: key '{name}'"
                got = f"no such column in '{fragment.name}'"
                hint = errors.did_you_mean(name, table.column_names)
                raise errors.SourceError.build(where, got=got, expected="a column of the source", hint=hint)
        return {name: _as_written(table[name], batch.json.get(name)) for name in names}


class _Part:
    """A Parquet file of the output, made with its first table; `num_rows` is None until then."""

    def __init__(self, output: StagedFolder, name: str) -> None:
        self.name, self.num_rows = name, cast("int | None", None)
        self._output = output
        self._opened = contextlib.ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.__exit__(*error)  # type: ignore[arg-type]

    def add(self, table: pa.Table) -> None:
        if self._writer is None:
            file = self._opened.enter_context(self._output.create(self.name))
            repeated = [field.name for field in table.schema if not pa.types.is_floating(field.type)] + EXPLAINED
            writer = pq.ParquetWriter(file, table.schema, use_dictionary=repeated)
            self._writer = self._opened.enter_context(writer)
        self.num_rows = (self.num_rows or 0) + table.num_rows
        try:
            self._writer.write_table(table.cast(self._writer.schema))
        except pa.ArrowInvalid as error:
            raise errors.SourceError.build(
                "predict: key columns", got=str(error), expected="one type in all rows of a file"
            ) from error


def _of_part(counts: TypeCounts, whole: pa.ChunkedArray, part: pa.ChunkedArray) -> TypeCounts:
    """Counts for some rows of a column of JSON: whether they are texts is said by all of its rows."""
    if replace(counts, count=len(whole) - whole.null_count).are_texts:
        return replace(counts, quoted=len(part) - part.null_count)
    return replace(counts, quoted=-1) if counts.quoted else counts  # -1 is the number of no values


def _column_names(fragment: Fragment, schema: Schema, names: Sequence[str]) -> dict[str, str]:
    """Column of the model → column of the source, of the same name, or of the kind that a folder's files have."""
    pairs = {name: name for name in names if name in schema}
    for name, kind in readers.kinds([fragment]).items():
        columns = [column.name for column in schema if column.kind is kind]
        if name in pairs:
            continue
        if len(columns) != 1:
            where = f"predict: files from '{fragment.name}' on"
            got = f"a model that reads {len(columns) or 'no'} columns of {kind}s"
            hint = "put them into a Parquet file or JSON lines, a column each"
            raise errors.SourceError.build(where, got=got, expected="one column for them", hint=hint)
        pairs[columns[0]] = name
    return pairs


def _typed(written: pa.Array, column: Column, zone: str, numbers: conversion.NumberFormat, notation: str | None) -> Any:
    """Values in the type of a snapshot; a list of Python values where some do not fit.

    Values that training counted as missing are missing.
    """
    kind = conversion.stored_type(arrow_type(column.type), column.name, "the model")
    values = conversion.as_type(written, kind, zone, numbers, notation)
    misfits = conversion.misfits(written, values)
    if not misfits.true_count:
        return values
    listed = values.to_pylist()
    for row in np.flatnonzero(misfits.to_numpy(zero_copy_only=False)).tolist():
        value = as_python(pa.table({"": written[row : row + 1]}))[0][""]
        listed[row] = None if str(value).strip() in column.null_values else Misfit(value)
    return listed


def _pictures(written: pa.Array, location: str, roots: Roots | None) -> Any:
    """Bytes of pictures, those that are given as paths or base64 text read; whether they decode is checked later."""
    if pa.types.is_binary(written.type):
        return written
    may_read = (lambda _: True) if roots is None else roots.holds
    pictures = ((value, *folders.picture_bytes(value, location, may_read)) for value in written.to_pylist())
    return [data if reason is None else Misfit(value, reason) for value, data, reason in pictures]


def _as_written(values: pa.ChunkedArray, json_types: TypeCounts | None) -> pa.ChunkedArray:
    """A column of the source; JSON numbers and flags, which come as text, as what they were."""
    if pa.types.is_null(values.type):
        return values.cast(pa.string())
    if json_types is None or json_types.quoted or json_types.lists or json_types.objects:
        return values
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        typed = conversion.read_text(values, kind)
        if typed.null_count == values.null_count < len(values):
            return pa.chunked_array([typed])
    return values


def _rejected(
    fragment: Fragment, batch: Batch, reasons: Mapping[int, Sequence[Violation]], bad_records: Sequence[BadRecord]
) -> pa.Table:
    """Records that are no rows and rows that do not fit, with nothing of them lost."""
    records = [(fragment.name, record.row, record.reason, record.content) for record in bad_records]
    places = sorted(reasons)
    contents = readers.kinds([fragment])  # of a folder, the contents of the files, whose names say enough
    shown = [name for name in batch.table.column_names if name not in contents]
    columns = {name: _as_written(batch.table[name], batch.json.get(name)) for name in shown}
    for place, content in zip(places, as_python(pa.table(columns).take(places)) if places else [], strict=True):
        texts = [f"{each['field']}: got {each['got']}, expected {each['expected']}" for each in reasons[place]]
        text = json.dumps(content, default=_json, ensure_ascii=False)
        records.append((fragment.name, int(batch.rows[place]), "; ".join(texts[:REASONS]), text))
    rows = [dict(zip(REJECTED_ROWS.names, record, strict=True)) for record in records]
    return pa.Table.from_pylist(rows, schema=REJECTED_ROWS)


def _json(value: object) -> str:
    """A value that JSON has no form for: bytes as base64, others as their text."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
