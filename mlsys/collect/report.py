"""The report of a collection: counts, samples and warnings; and the limits at which the collection stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlsys import errors
from mlsys.cluster import ExecutionPlan
from mlsys.collect import storage_schema, type_inference
from mlsys.collect.cache import StoredFragment
from mlsys.collect.contract import Contract
from mlsys.collect.duplicates import Duplicates
from mlsys.collect.quarantine import NUM_SAMPLES
from mlsys.collect.storage_schema import FragmentScan, RowCounts, merged, most_frequent
from mlsys.collect.type_inference import WordCounts
from mlsys.limits import FLOAT32_MAX
from mlsys.readers.base import Fragment, TypeCounts
from mlsys.recipe import DataSection
from mlsys.schema import Role, Schema


def total(parts: Sequence[RowCounts]) -> RowCounts:
    """The counts of all fragments together."""
    whole = RowCounts()
    for part in parts:
        whole.num_rows += part.num_rows
        whole.num_bad += part.num_bad
        whole.num_superseded += part.num_superseded
        whole.num_unfit += part.num_unfit
        whole.newest = max((time for time in (whole.newest, part.newest) if time is not None), default=None)
        whole.rules.update(part.rules)
        whole.nulls.update(part.nulls)
        for rule, samples in part.samples.items():
            whole.samples[rule] = (whole.samples.get(rule, []) + samples)[:NUM_SAMPLES]
        for name, words in part.words.items():
            whole.words[name] = whole.words.get(name, WordCounts()).merged(words)
        for name, texts in part.unread.items():
            whole.unread[name] = most_frequent(whole.unread.get(name, Counter()) + texts)
        for label, count in part.classes.items():
            whole.classes[label] = whole.classes.get(label, 0) + count
    return whole


def judge_damage(fragments: Sequence[Fragment], scans: Sequence[FragmentScan], max_fraction: float) -> None:
    """Raise a `SourceError` where more than this fraction of the files or of their bytes cannot be read.

    How many rows a damaged file has is not known, and a file that was cut short is small.
    """
    damaged = [(fragment, scan.damage) for fragment, scan in zip(fragments, scans, strict=True) if scan.damage]
    num_bytes = sum(fragment.num_bytes for fragment, _ in damaged)
    is_little = num_bytes <= max_fraction * sum(fragment.num_bytes for fragment in fragments)
    are_few = len(damaged) <= max_fraction * len(fragments) and len(damaged) < len(fragments)
    if not damaged or (is_little and are_few):
        return
    first = damaged[0][1]
    if len(damaged) == 1:
        raise errors.SourceError(first)
    raise errors.SourceError.several([fragment.name for fragment, _ in damaged], len(fragments), str(first))


def judge(counts: RowCounts, data: DataSection, target: str | None, contract: Contract | None, quarantine: str) -> None:
    """Raise a `ContractError` where too many rows were rejected, a `TargetError` where the target teaches nothing."""
    num_read = counts.num_read
    if counts.num_bad > data.max_bad_fraction * num_read or not counts.num_rows:
        broken = [(rule, rows, counts.samples[rule][0]) for rule, rows in counts.rules.items()]
        raise errors.ContractError.too_many(counts.num_bad, num_read, data.max_bad_fraction, broken, quarantine)
    for rule, fraction in ({} if contract is None else contract.limits).items():
        if counts.rules[rule] > fraction * num_read:
            broken_by, samples = counts.rules[rule], counts.samples[rule]
            raise errors.ContractError.too_many_of(rule, broken_by, num_read, fraction, samples, quarantine)
    if target is None:
        return
    if not counts.classes:
        raise errors.TargetError.all_null(target, counts.num_rows)
    if len(counts.classes) == 1:
        num_labelled = counts.num_rows - counts.nulls[target]
        raise errors.TargetError.single_class(target, next(iter(counts.classes)), num_labelled)


def build(
    plan: ExecutionPlan,
    fragments: Sequence[Fragment],
    scans: Sequence[FragmentScan],
    parts: Sequence[StoredFragment],
    counts: RowCounts,
    schema: Schema,
    duplicates: Duplicates,
) -> dict[str, Any]:
    """Build the report of `snapshot.take`, JSON-able."""
    target, scanned = schema.target, list(zip(fragments, scans, strict=True))
    return {
        "plan": {"kind": plan.kind, "reason": plan.reason},
        "sources": [
            {"name": fragment.name, "bytes": fragment.num_bytes if scan.sha256 else None, "sha256": scan.sha256}
            | ({"version": fragment.version} if fragment.version else {})
            for fragment, scan in scanned
        ],
        "num_pieces": len(fragments),
        "num_reused": sum(part.is_reused for part in parts),
        "is_partial": any(s.is_partial for s in scans) or counts.num_read < sum(s.num_rows for s in scans),
        "num_read": counts.num_read,
        "num_rows": counts.num_rows,
        "num_quarantined": counts.num_bad,
        "num_superseded": counts.num_superseded,
        "damaged": [{"name": fragment.name, "reason": scan.damage} for fragment, scan in scanned if scan.damage],
        "quarantine": {
            rule: {"rows": rows, "samples": counts.samples[rule]} for rule, rows in counts.rules.most_common()
        },
        "num_unlabelled": counts.nulls[target] if target else 0,
        "num_repeated_ids": duplicates.ids.get(schema.name_of(Role.ID) or "", 0),
        "empty_columns": [column.name for column in schema if counts.nulls[column.name] == counts.num_rows],
        "warnings": list(_warnings(scanned, counts, schema, duplicates)),
    }


def _warnings(
    scanned: Sequence[tuple[Fragment, FragmentScan]], counts: RowCounts, schema: Schema, duplicates: Duplicates
) -> Iterator[str]:
    damaged = ((fragment.name, scan.damage.split()) for fragment, scan in scanned if scan.damage)
    yield from (f"'{name}' cannot be read and is left out: {' '.join(words)}" for name, words in damaged)
    yield from _about_files(scanned)
    for name, types in merged(scan for _, scan in scanned).items():
        yield from _about_column(name, types, scanned)
        if name not in schema:
            yield f"column '{name}' is not in the contract: left out"
        yield from _about_values(name, types, counts, schema)
    for column in schema:
        if counts.nulls[column.name] == counts.num_rows:
            yield f"column '{column.name}' has no value in any row: ignored"
        elif storage_schema.is_row_index(column.name) and column.role is Role.IGNORE:
            yield f"column '{column.name}' has no name of its own and is taken for a row index: ignored"
    if counts.num_superseded:
        yield f"{_rows(counts.num_superseded)} superseded by a later row of their key: left out"
    if counts.num_unfit:
        beyond = f"infinite, or beyond {FLOAT32_MAX:.2g} of either sign, in {_rows(counts.num_unfit)}"
        yield f"target '{schema.target}': {beyond}: no label, for no model can be fitted to that"
    for name, rows in duplicates.ids.items():
        if rows:
            yield f"column '{name}': an earlier value again in {_rows(rows)}"


def _about_files(scanned: Sequence[tuple[Fragment, FragmentScan]]) -> Iterator[str]:
    """Say what is unusual in the way the files are written, which columns their folders name, and which are empty."""
    messages: dict[str, list[str]] = {}
    for fragment, scan in scanned:
        empty = [] if scan.num_rows or scan.damage else ["no rows: left out"]
        for message in [*scan.messages, *empty]:
            messages.setdefault(message, []).append(fragment.name)
    for message, names in messages.items():
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        yield f"'{names[0]}'{more}: {message}"
    columns = dict.fromkeys(f"'{each.name}'" for fragment, _ in scanned for each in fragment.columns)
    if columns:
        yield f"column{'s' if len(columns) > 1 else ''} {', '.join(columns)}: from the names of the folders"


def _about_values(name: str, types: TypeCounts, counts: RowCounts, schema: Schema) -> Iterator[str]:
    """Say which values of a column are read as missing, or make it a category, and what in the recipe decides it."""
    unread = counts.unread.get(name, Counter())
    if name not in schema or schema[name].role is Role.IGNORE:
        return
    kind = schema[name].kind
    if unread:
        has_kinds = schema.target is not None and not types.typed  # a feature table has none
        hint = f"; data.kinds: {{{name}: categorical}} keeps such values" if has_kinds else ""
        yield f"column '{name}': {_values(unread)} count as missing, for the column is {kind}{hint}"
    if schema[name].type == "string" and not types.typed and type_inference.are_few_numbers(types):
        hint = f"data.kinds: {{{name}: numeric}} makes it a number and sets the other rows aside"
        yield f"column '{name}': {_values(types.odd)} beside a few numbers are codes: {kind}; {hint}"


def _values(rows: Mapping[str, int]) -> str:
    """The most frequent values with their rows, and the number of the others."""
    ordered = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{text[:40]!r} in {_rows(number)}" for text, number in ordered[:NUM_SAMPLES])
    more = len(rows) - NUM_SAMPLES
    return f"{shown} and {more:,} other values" if more > 0 else shown


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _about_column(name: str, counts: TypeCounts, scanned: Sequence[tuple[Fragment, FragmentScan]]) -> Iterator[str]:
    """Warnings where fragments differ in a column, or a stored column does not show what the source held."""
    without = [fragment.name for fragment, scan in scanned if scan.num_rows and name not in scan.type_counts]
    if without:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        yield f"column '{name}' is not in '{without[0]}'{more}: null there"
    if {"int64", "double"} <= set(counts.typed):
        integers, decimals = counts.typed["int64"], counts.typed["double"]
        yield f"column '{name}': integers in '{integers}', decimals in '{decimals}': decimals in all"
    if counts.objects:
        yield f"column '{name}': {counts.objects} JSON objects, kept as their text"
